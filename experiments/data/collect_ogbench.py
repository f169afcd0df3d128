"""Walks through a maze of OGBench, in the layout and the folder of its own datasets.

    python -m experiments.data.collect_ogbench --name=pointmaze-medium-navigate

From the task's start the point walks to one random cell of the maze after the other, each time by
the shortest way, with noise: now and then it comes by the task's goal. Writes `NAME-v0.npz` and
`NAME-v0-val.npz`, so that `ogbench:NAME-singletask-v0` needs no network. Needs the extra `ogbench`.
**This is not OGBench's data**, which is made in the same way, but ten times as much.
"""

from pathlib import Path

import numpy as np
import ogbench  # pyright: ignore[reportMissingImports]
from absl import app, flags

from tskd_jax.envs.environment import start_episode

NAME = flags.DEFINE_string("name", "pointmaze-medium-navigate", "Of one of its datasets of mazes.")
EPISODES = flags.DEFINE_integer("episodes", 100, "To train on; a tenth for the validation.", 1)
STEPS = flags.DEFINE_integer("steps", 1000, "Of an episode.", 1)
SEED = flags.DEFINE_integer("seed", 0, "Of the first episode.")
FOLDER = flags.DEFINE_string("folder", "~/.ogbench/data", "Where OGBench's package looks.")

NOISE = 0.5  # deviation, of actions of length 1


def walk(environment, seed: int, steps: int) -> dict[str, np.ndarray]:
    """One episode, with the state behind the last action as a last row."""
    rng = np.random.default_rng(seed)
    observation = start_episode(environment, seed)
    maze = environment.unwrapped
    cells = np.argwhere(maze.maze_map == 0)
    # From positions and velocities OGBench's package computes the rewards of a task.
    names = ("observations", "actions", "terminals", "qpos", "qvel")
    rows: dict[str, list] = {key: [] for key in names}
    goal = maze.get_xy()
    for step in range(steps + 1):
        if np.linalg.norm(maze.get_xy() - goal) < 0.5:
            goal = np.array(maze.ij_to_xy(rng.choice(cells)))
        near, _ = maze.get_oracle_subgoal(maze.get_xy(), goal)
        way = near - maze.get_xy()
        action = way / max(np.linalg.norm(way), 1e-6) + NOISE * rng.normal(size=2)
        action = np.clip(action, -1, 1)
        physics = maze.data.qpos.copy(), maze.data.qvel.copy()
        row = (observation, action, float(step == steps), *physics)
        for key, value in zip(rows, row, strict=True):
            rows[key].append(value)
        observation, *_ = environment.step(action)
    return {key: np.array(column, np.float32) for key, column in rows.items()}


def main(_argv) -> None:
    folder = Path(FOLDER.value).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    task = f"{NAME.value}-singletask-v0"
    environment = ogbench.make_env_and_datasets(task, env_only=True)
    # Behind the seeds of training are those of validation.
    few = max(1, EPISODES.value // 10)
    for part, first, count in (("", 0, EPISODES.value), ("-val", EPISODES.value, few)):
        seeds = range(SEED.value + first, SEED.value + first + count)
        walks = [walk(environment, seed, STEPS.value) for seed in seeds]
        columns = {key: np.concatenate([one[key] for one in walks]) for key in walks[0]}
        path = folder / f"{NAME.value}-v0{part}.npz"
        np.savez_compressed(path, **columns)
        print(f"{path}: {count} episodes of {STEPS.value} steps")


if __name__ == "__main__":
    app.run(main)
