"""Slow random motion in D4RL's Kitchen: data to run on, not to learn from.

    python -m experiments.data.collect_kitchen --level=mixed --episodes=120 --out=FILE.hdf5

Joint velocities follow targets that change every 40 steps, with noise, so that the arm sweeps
through the kitchen; now and then it does a subtask (in one of 30 episodes, seeds 0 to 29 of
`mixed`). Needs the extra `robotics`. **This is not D4RL's data**: a policy learned from it does
little.
"""

from pathlib import Path

import numpy as np
from absl import app, flags

from tskd_jax.data import save_d4rl
from tskd_jax.data.trajectories import concatenate
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import record

LEVEL = flags.DEFINE_enum("level", "mixed", ["partial", "mixed"], "Which four subtasks.")
EPISODES = flags.DEFINE_integer("episodes", 120, "Of 280 steps, or until all is done.", 1)
TOGETHER = flags.DEFINE_integer("together", 20, "Simulators at a time.", 1)
SEED = flags.DEFINE_integer("seed", 0, "Of the first episode.")
OUT = flags.DEFINE_string("out", None, "HDF5 file in D4RL's format.", required=True)

HELD, FOLLOWS, NOISE = 40, 0.2, 0.1  # steps, share a step, deviation of the noise


def main(_argv) -> None:
    task = get_task(f"kitchen_{LEVEL.value}")
    parts = []
    for first in range(0, EPISODES.value, TOGETHER.value):
        count = min(TOGETHER.value, EPISODES.value - first)
        rng = np.random.default_rng(SEED.value + first)
        shape = (count, task.action_size)
        state = {"velocity": np.zeros(shape), "target": np.zeros(shape)}

        def act(_observations, time, _rewards, state=state, rng=rng, shape=shape):
            if time % HELD == 0:
                state["target"] = rng.uniform(-1, 1, shape)
            drift = (1 - FOLLOWS) * state["velocity"] + FOLLOWS * state["target"]
            state["velocity"] = drift + NOISE * rng.normal(size=shape)
            return np.clip(state["velocity"], -1, 1)

        seeds = range(SEED.value + first, SEED.value + first + count)
        parts.append(record(act, task, list(seeds)))
        returns = parts[-1].returns()
        print(f"episodes {first} to {first + count - 1}: {returns.sum():.0f} subtasks done")
    data = concatenate(parts)
    save_d4rl(Path(OUT.value), data, {"origin": "experiments.data.collect_kitchen"})
    print(f"{OUT.value}: {data.size} transitions, {len(data.lengths)} episodes")


if __name__ == "__main__":
    app.run(main)
