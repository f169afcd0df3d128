"""What d3rlpy makes of a dataset, to be compared with our methods by `reference_comparison`.

d3rlpy pins an older Gymnasium, so this file runs in an environment of its own, and imports nothing
of ours:

    python -m venv reference
    reference/bin/pip install d3rlpy==2.8.1 torch==2.13.0 gymnasium==1.0.0 imageio mujoco h5py
    reference/bin/python experiments/studies/d3rlpy_reference.py --dataset=FILE.hdf5 \
        --environment=Hopper-v4 --algorithms=bc,iql,td3_bc --updates=20000 --out=found.csv

Sizes, rates and the number of updates are those of our `paper` preset; states are standardised.
Every row is one seed: its episodes begin where our students' do. Rows that stand in the file are
not made again.
"""

import argparse
import csv
import os
import time

import d3rlpy  # pyright: ignore[reportMissingImports]
import gymnasium
import h5py
import numpy as np
from d3rlpy import algos  # pyright: ignore[reportMissingImports]

# What a Decision Transformer is asked for (Chen et al. 2021), by the environment's first word.
TARGETS = {"Hopper": 3600.0, "HalfCheetah": 6000.0, "Walker2d": 5000.0}
FIELDS = ("dataset", "method", "seed", "updates", "batch_size", "seconds", "returns")


def read_dataset(path: str):
    """d3rlpy's view of a D4RL file, with truncations apart from terminals."""
    with h5py.File(path) as file:
        names = ("observations", "actions", "rewards", "terminals", "timeouts")
        columns = {name: np.asarray(file[name]) for name in names}  # pyright: ignore[reportArgumentType]
    return d3rlpy.dataset.MDPDataset(
        observations=columns["observations"].astype(np.float32),
        actions=columns["actions"].astype(np.float32),
        rewards=columns["rewards"].astype(np.float32).reshape(-1),
        terminals=columns["terminals"].astype(np.float32).reshape(-1),
        timeouts=columns["timeouts"].astype(np.float32).reshape(-1),
    )


def make(name: str, batch_size: int, updates: int):
    """An algorithm with its published settings; a Decision Transformer's rate rises as ours."""
    common = {
        "batch_size": batch_size,
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler(),
    }
    kinds = {
        "bc": lambda: algos.BCConfig(learning_rate=1e-3, **common),
        "iql": lambda: algos.IQLConfig(**common),
        "td3_bc": lambda: algos.TD3PlusBCConfig(**common),
        "cql": lambda: algos.CQLConfig(**common),
        "decision_transformer": lambda: algos.DecisionTransformerConfig(
            reward_scaler=d3rlpy.preprocessing.MultiplyRewardScaler(1e-3),
            # Its defaults are tokens 256 wide, and Adam without decay or clipping.
            encoder_factory=d3rlpy.models.VectorEncoderFactory([128], exclude_last_activation=True),
            optim_factory=d3rlpy.optimizers.GPTAdamWFactory(
                weight_decay=1e-4,
                clip_grad_norm=0.25,
                lr_scheduler_factory=d3rlpy.optimizers.WarmupSchedulerFactory(
                    warmup_steps=max(1, updates // 10)
                ),
            ),
            **common,
        ),
    }
    return kinds[name]().create(device=False)


def play(algorithm, environment_id: str, seeds: list[int], target: float | None) -> list[float]:
    """The undiscounted return of one episode for each seed."""
    environment = gymnasium.make(environment_id)
    returns = []
    for seed in seeds:
        observation, _ = environment.reset(seed=seed)
        remembers = hasattr(algorithm, "as_stateful_wrapper")
        player = algorithm.as_stateful_wrapper(target_return=target) if remembers else None
        total, reward, ended = 0.0, 0.0, False
        while not ended:
            state = np.asarray(observation, np.float32)
            action = player.predict(state, reward) if player else algorithm.predict(state[None])[0]
            observation, reward, terminated, truncated, _ = environment.step(action)
            total += float(reward)
            ended = terminated or truncated
        returns.append(total)
    environment.close()
    return returns


def main() -> None:
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("--dataset", required=True)
    flags.add_argument("--environment", required=True)
    flags.add_argument("--algorithms", default="bc,iql,td3_bc,cql,decision_transformer")
    flags.add_argument("--seeds", default="0,1,2")
    flags.add_argument("--updates", type=int, required=True)
    flags.add_argument("--batch_size", type=int, default=256)
    flags.add_argument("--episodes", type=int, default=10)
    flags.add_argument("--target", type=float, help="of a Decision Transformer")
    flags.add_argument("--out", required=True)
    args = flags.parse_args()
    target = args.target or TARGETS.get(args.environment.partition("-")[0])
    if target is None and "decision_transformer" in args.algorithms.split(","):
        flags.error(f"--target is needed for a Decision Transformer on {args.environment}")
    name = os.path.splitext(os.path.basename(args.dataset))[0]
    done = set()
    if os.path.exists(args.out):
        with open(args.out, newline="") as file:
            done = {(row["dataset"], row["method"], row["seed"]) for row in csv.DictReader(file)}
    else:
        with open(args.out, "w", newline="") as file:
            csv.writer(file).writerow(FIELDS)
    dataset = read_dataset(args.dataset)
    for method in args.algorithms.split(","):
        for seed in map(int, args.seeds.split(",")):
            if (name, method, str(seed)) in done:
                continue
            d3rlpy.seed(seed)
            algorithm = make(method, args.batch_size, args.updates)
            begun = time.perf_counter()
            algorithm.fit(
                dataset,
                n_steps=args.updates,
                n_steps_per_epoch=args.updates,
                show_progress=False,
                logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
            )
            seconds = time.perf_counter() - begun
            # As `tskd_jax.envs.simulator.episode_seeds`.
            starts = [1_000_003 * (seed + 1) + episode for episode in range(args.episodes)]
            returns = play(algorithm, args.environment, starts, target)
            found = " ".join(f"{one:.3f}" for one in returns)
            row = (name, method, seed, args.updates, args.batch_size, f"{seconds:.1f}", found)
            with open(args.out, "a", newline="") as file:
                csv.writer(file).writerow(row)
            print(*row[:-1], f"{np.mean(returns):.1f}", flush=True)


if __name__ == "__main__":
    main()
