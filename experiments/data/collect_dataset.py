"""Collect an offline dataset, in D4RL's HDF5 format, from a Gymnasium MuJoCo environment.

    python -m experiments.data.collect_dataset --env=Hopper-v4 --protocol=medium-replay
        --out=FILE.hdf5

SAC of sbx-rl (`pip install -e '.[collect]'`) does the learning. The training run is kept in
--workdir, so that further datasets cost no further training; a smaller --steps takes its beginning.

Protocols, all but the last as D4RL defines them:

    random         uniformly random actions
    medium         the policy whose return first reached a third of the best
    medium-replay  all training episodes up to that policy
    expert         the best policy
    medium-expert  half medium, half expert
    replay         half training episodes, half rollouts of the checkpoints, both evenly from the
                   entire run; optionally with few episodes of high return (--high-*)

Actions are always sampled from the policy. A policy's return is the mean over the last 100 training
episodes that ended before its checkpoint.

One file over 300 lines: it runs alone, in an environment of its own (SAC), without this package.
"""

import argparse
import copy
import json
import math
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import h5py
import numpy as np
from tqdm import tqdm

PROTOCOLS = ("random", "medium", "medium-replay", "expert", "medium-expert", "replay")
DTYPES = {
    "observations": np.float32,
    "actions": np.float32,
    "rewards": np.float32,
    "next_observations": np.float32,
    "terminals": np.bool_,
    "timeouts": np.bool_,
}
NUM_ENVS = 8
# Environment steps are cheap and gradient steps are not: two of the former for each of the latter,
# and sixteen updates in each call of the compiled training step. Layer normalization lets the
# critic take the larger learning rate. No schedules: the beginning of a run is a run, too.
HYPERPARAMETERS: dict[str, Any] = {
    "learning_rate": 5e-4,
    "qf_learning_rate": 1e-3,
    "learning_starts": 10_000,
    "batch_size": 128,
    "train_freq": 4,
    "gradient_steps": 16,
    "policy_kwargs": {"layer_norm": True, "net_arch": {"pi": [128, 128], "qf": [256, 256]}},
}

Episode = dict[str, np.ndarray]
"""One whole episode: for each key of `DTYPES` an array with a row per transition."""

Actor = Callable[[np.ndarray], np.ndarray]
"""Samples an action for an observation."""


class Checkpoint(NamedTuple):
    """A policy of the training run, and how it fared in the episodes right before."""

    step: int
    path: Path
    mean_return: float


def episode_return(episode: Episode) -> float:
    """Undiscounted sum of rewards."""
    return float(episode["rewards"].sum(dtype=np.float64))


def num_rows(episodes: Sequence[Episode]) -> int:
    """Number of transitions in all episodes together."""
    return sum(len(episode["rewards"]) for episode in episodes)


def split_episodes(log: Episode) -> tuple[list[Episode], list[int]]:
    """Split arrays of shape (time, environment, ...) into whole episodes, in order of their ends.

    Returns the episodes and the time after which each had ended. Episodes still under way at the
    end of the log are left out.
    """
    episodes, ends = [], []
    starts = [0] * log["terminals"].shape[1]
    for time, env in np.argwhere(log["terminals"] | log["timeouts"]):
        episodes.append({key: log[key][starts[env] : time + 1, env] for key in DTYPES})
        starts[env] = int(time) + 1
        ends.append(starts[env])
    return episodes, ends


def thin(episodes: Sequence[Episode], rows: float) -> list[Episode]:
    """Keep about `rows` transitions, in whole episodes taken evenly over the sequence."""
    share = min(1.0, rows / max(1, num_rows(episodes)))
    chosen, kept, seen = [], 0, 0
    for episode in episodes:
        length = len(episode["rewards"])
        seen += length
        # Error diffusion: keep an episode where that brings the total nearer to its due.
        if kept + length / 2 <= share * seen:
            kept += length
            chosen.append(episode)
    return chosen


def thin_by_return(
    episodes: Sequence[Episode], rows: float, high_return: float, high_share: float
) -> list[Episode]:
    """Keep about `rows` transitions, in whole episodes taken evenly over the sequence, of which
    episodes of at least `high_return` make up at most about `high_share`.
    """
    high = [e for e in episodes if episode_return(e) >= high_return]
    rest = [e for e in episodes if episode_return(e) < high_return]
    chosen = thin(high, rows * high_share)
    chosen += thin(rest, rows - num_rows(chosen))
    kept = {id(episode) for episode in chosen}
    return [episode for episode in episodes if id(episode) in kept]


def statistics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Size of a dataset and the distribution of its episode returns."""
    returns = np.array([episode_return(episode) for episode in episodes])
    quantiles = {f"return_q{q}": np.percentile(returns, q) for q in (10, 25, 50, 75, 90)}
    spread = {"return_min": returns.min(), **quantiles, "return_max": returns.max()}
    return {
        "transitions": num_rows(episodes),
        "episodes": len(episodes),
        "terminals": sum(int(episode["terminals"].sum()) for episode in episodes),
        "mean_length": round(num_rows(episodes) / len(episodes), 2),
        "return_mean": round(float(returns.mean()), 2),
        **{name: round(float(value), 2) for name, value in spread.items()},
    }


def write(path: Path, episodes: Sequence[Episode], metadata: dict[str, Any]) -> None:
    """Write an HDF5 file as D4RL does; equal episodes and metadata give equal bytes."""
    with h5py.File(path, "w") as file:
        for key, dtype in DTYPES.items():
            values = np.concatenate([episode[key] for episode in episodes]).astype(dtype)
            options = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
            file.create_dataset(key, data=values, track_times=False, **options)
        group = file.create_group("metadata")
        for name, value in metadata.items():
            text = value if isinstance(value, str) else json.dumps(value)
            file.attrs[name] = text
            group.create_dataset(name, data=text, track_times=False)


def run_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that decides how a training run goes, except for its length."""
    return {
        "environment": args.env,
        "algorithm": "SAC",
        "hyperparameters": HYPERPARAMETERS,
        "num_envs": NUM_ENVS,
        "checkpoint_interval": args.checkpoint_interval,
        "seed": args.seed,
    }


def train(args: argparse.Namespace) -> None:
    """Train, saving the policy and all new transitions every `args.checkpoint_interval` steps."""
    import sbx  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common import (  # pyright: ignore[reportMissingImports]
        callbacks,
        env_util,
    )

    class Recorder(callbacks.BaseCallback):
        """Saves what `load_run` reads."""

        def _on_training_start(self) -> None:
            self.saved = 0
            self.progress = tqdm(total=args.steps, desc=f"SAC on {args.env}", mininterval=1)

        def _on_step(self) -> bool:
            self.progress.update(NUM_ENVS)
            if self.num_timesteps % args.checkpoint_interval < NUM_ENVS:
                self.save_log()
                self.model.save(args.workdir / f"policy-{self.num_timesteps:08d}.zip")
                returns = [info["r"] for info in self.model.ep_info_buffer]
                self.progress.set_postfix_str(f"return {np.mean(returns):.0f}" if returns else "")
            return True

        def _on_training_end(self) -> None:
            self.save_log()
            self.progress.close()

        def save_log(self) -> None:
            # The replay buffer holds the entire run, so it doubles as the log.
            buffer = self.model.replay_buffer
            new = slice(self.saved, buffer.size())
            self.saved = buffer.size()
            timeouts = buffer.timeouts[new] > 0
            np.savez(
                args.workdir / f"replay-{new.start:08d}-{new.stop:08d}.npz",
                observations=buffer.observations[new].astype(np.float32),
                actions=self.model.policy.unscale_action(buffer.actions[new]).astype(np.float32),
                rewards=buffer.rewards[new],
                next_observations=buffer.next_observations[new].astype(np.float32),
                terminals=(buffer.dones[new] > 0) & ~timeouts,
                timeouts=timeouts,
            )

    env = env_util.make_vec_env(args.env, n_envs=NUM_ENVS, seed=args.seed)
    size = args.steps + NUM_ENVS
    # The library adds to what it is given, and run.json must be what the next command expects.
    own = copy.deepcopy(HYPERPARAMETERS)
    model = sbx.SAC("MlpPolicy", env, buffer_size=size, seed=args.seed, **own)
    args.workdir.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(run_settings(args), indent=2) + "\n"
    (args.workdir / "run.json").write_text(settings, encoding="utf-8")
    model.learn(args.steps, callback=Recorder(), log_interval=None)


def load_run(workdir: Path, steps: int) -> tuple[list[Episode], list[Checkpoint]]:
    """Read the episodes and the checkpoints of the first `steps` steps of a training run."""
    length, recorded, parts = steps // NUM_ENVS, 0, []
    for path in sorted(workdir.glob("replay-*.npz")):
        if recorded < length:
            parts.append(np.load(path))
            recorded = int(path.stem.split("-")[2])
    if recorded < length:
        raise ValueError(
            f"{workdir} holds {recorded * NUM_ENVS} steps and --steps={steps} asks for more: "
            "choose fewer steps or another --workdir"
        )
    log = {key: np.concatenate([part[key] for part in parts])[:length] for key in DTYPES}
    episodes, ends = split_episodes(log)
    returns = np.array([episode_return(episode) for episode in episodes])
    checkpoints = []
    for path in sorted(workdir.glob("policy-*.zip")):
        step = int(path.stem.split("-")[1])
        recent = returns[np.array(ends) <= step // NUM_ENVS][-100:]
        if step <= steps and len(recent):
            checkpoints.append(Checkpoint(step, path, float(recent.mean())))
    if not checkpoints:
        raise ValueError("no episode ended before the first checkpoint: increase --steps")
    return episodes, checkpoints


def load_actor(path: Path) -> Actor:
    """Load the sampling policy of a checkpoint."""
    import sbx  # pyright: ignore[reportMissingImports]

    # Loading makes a replay buffer, too, of which there is no use here: let it be small.
    policy = sbx.SAC.load(path, buffer_size=NUM_ENVS).policy
    return lambda observation: policy.predict(observation, deterministic=False)[0]


def rollout(env_id: str, actor: Actor | None, rows: int, seed: int) -> list[Episode]:
    """Collect whole episodes until there are `rows` transitions; no actor: random actions."""
    env = gym.make(env_id)
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    episodes, steps, collected = [], [], 0
    while collected < rows:
        action = env.action_space.sample() if actor is None else actor(observation)
        successor, reward, terminal, truncated, _ = env.step(action)
        steps.append((observation, action, reward, successor, terminal, truncated and not terminal))
        observation = successor
        if terminal or truncated:
            columns = zip(DTYPES.items(), zip(*steps, strict=True), strict=True)
            episodes.append({key: np.array(values, dtype) for (key, dtype), values in columns})
            collected += len(steps)
            observation, _ = env.reset()
            steps = []
    env.close()
    return episodes


def collect(args: argparse.Namespace) -> list[Episode]:
    """Collect the episodes of `args.protocol`, training first if there is no run yet."""
    if args.protocol == "random":
        return rollout(args.env, None, args.rows, args.seed)
    record = args.workdir / "run.json"
    if not record.exists():
        train(args)
    if json.loads(record.read_text(encoding="utf-8")) != run_settings(args):
        raise ValueError(f"{record} is of a run with other settings: choose another --workdir")
    episodes, checkpoints = load_run(args.workdir, args.steps)
    expert = max(checkpoints, key=lambda checkpoint: checkpoint.mean_return)
    medium = next((c for c in checkpoints if c.mean_return >= expert.mean_return / 3), expert)

    def rollouts(checkpoint: Checkpoint, rows: int) -> list[Episode]:
        return rollout(args.env, load_actor(checkpoint.path), rows, args.seed + checkpoint.step)

    match args.protocol:
        case "medium":
            return rollouts(medium, args.rows)
        case "medium-replay":
            return load_run(args.workdir, medium.step)[0]
        case "expert":
            return rollouts(expert, args.rows)
        case "medium-expert":
            return rollouts(medium, args.rows // 2) + rollouts(expert, args.rows // 2)
        case _:
            rows = args.rows // len(checkpoints)
            progress = tqdm(checkpoints, desc="rollouts", unit="checkpoint")
            sampled = [episode for c in progress for episode in rollouts(c, rows)]
            limits = (args.rows / 2, args.high_return, args.high_share)
            return thin_by_return(episodes, *limits) + thin_by_return(sampled, *limits)


def describe(
    args: argparse.Namespace, argv: Sequence[str], episodes: Sequence[Episode]
) -> dict[str, Any]:
    """Say in metadata where a dataset comes from and what is in it."""
    packages = ["gymnasium", "mujoco", "numpy", "h5py"]
    metadata = {
        "name": args.name,
        "origin": "Collected with tskd_jax; in D4RL's file format, but not D4RL data.",
        "command": shlex.join(["python", "-m", "experiments.data.collect_dataset", *argv]),
        "protocol": args.protocol,
        "environment": args.env,
        "seed": args.seed,
        "statistics": statistics(episodes),
    }
    if args.protocol != "random":
        packages += ["sbx-rl", "jax", "flax"]
        metadata |= run_settings(args) | {"steps": args.steps}
    versions = {package: version(package) for package in packages}
    return metadata | {"versions": {"python": platform.python_version()} | versions}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read and check the command line; mistakes are `ValueError`s or leave with status 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--env", default="Hopper-v4", help="Gymnasium environment")
    add("--protocol", choices=PROTOCOLS, required=True)
    add("--out", type=Path, required=True, help="HDF5 file to write")
    add("--name", help="name in the metadata (default: name of the file)")
    add("--rows", type=int, default=1_000_000, help="transitions (medium-replay: all there are)")
    add("--steps", type=int, default=1_000_000, help="environment steps of the training run")
    add("--checkpoint-interval", type=int, default=20_000, help="steps between checkpoints")
    add("--workdir", type=Path, help="training run (default: runs/collect/ENV-SEED)")
    add("--seed", type=int, default=0)
    add("--high-return", type=float, default=math.inf, help="replay: what a high return is")
    add("--high-share", type=float, default=0.1, help="replay: largest share of --rows in such")
    args = parser.parse_args(argv)
    if min(args.rows, args.steps, args.checkpoint_interval) < 1 or args.seed < 0:
        raise ValueError("--rows, --steps and --checkpoint-interval must be positive, --seed >= 0")
    if args.checkpoint_interval > args.steps:
        raise ValueError("--checkpoint-interval must not be larger than --steps")
    if not 0 <= args.high_share <= 1:
        raise ValueError("--high-share must be between 0 and 1")
    env = gym.make(args.env)
    spaces = (env.observation_space, env.action_space)
    if not all(isinstance(space, gym.spaces.Box) and len(space.shape) == 1 for space in spaces):
        raise ValueError(f"--env={args.env} needs vectors of numbers as observations and actions")
    # Now rather than after hours of training.
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.name = args.name or args.out.stem
    args.workdir = args.workdir or Path("runs/collect", f"{args.env}-{args.seed}")
    return args


def main(argv: Sequence[str]) -> int:
    """Collect a dataset and print its statistics; return the exit status."""
    try:
        args = parse(argv)
        episodes = collect(args)
        write(args.out, episodes, describe(args, argv, episodes))
    except (ImportError, OSError, ValueError, gym.error.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in statistics(episodes).items():
        print(f"{name:12} {value:12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
