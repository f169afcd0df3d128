"""D4RL's datasets by name: the file, where it is hosted, and its known properties.

Names and locations are from D4RL's `infos.py`. Numbers of episodes are from the catalogue of
TensorFlow Datasets, which includes the fragment after the last end. D4RL publishes no checksums.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

MIRRORS = (
    "http://rail.eecs.berkeley.edu/datasets/offline_rl/{folder}/{file}",
    "https://huggingface.co/datasets/imone/D4RL/resolve/main/{file}",
)


@dataclass(frozen=True)
class D4rlFile:
    """One dataset.

    Attributes:
      name: D4RL's name, such as hopper-medium-v2.
      folder: folder of the file on D4RL's own host.
      file: name of the file on that host, on mirrors and on this machine.
      episodes: number of episodes, including the fragment after the last end; None if not
        published.
      size: bytes; None if not published.
      sha256: None, because D4RL publishes no checksums.
    """

    name: str
    folder: str
    file: str
    episodes: int | None = None
    size: int | None = None
    sha256: str | None = None

    def urls(self) -> tuple[str, ...]:
        """Addresses of the file, in the order in which they are tried."""
        return tuple(one.format(folder=self.folder, file=self.file) for one in MIRRORS)


def local_folder() -> Path:
    """The folder of D4RL's own package: `$D4RL_DATASET_DIR`, or `~/.d4rl/datasets`."""
    return Path(os.path.expanduser(os.environ.get("D4RL_DATASET_DIR", "~/.d4rl/datasets")))


def local_file(name: str) -> Path:
    """The local path of a dataset; an unknown name follows the naming rule of gym-mujoco."""
    if name in FILES:
        return local_folder() / FILES[name].file
    stem, dash, version = name.rpartition("-v")
    return local_folder() / (stem.replace("-", "_") + dash + version + ".hdf5")


_EPISODES = {
    "hopper-random": 45_240,
    "hopper-medium": 2_187,
    "hopper-medium-replay": 2_041,
    "hopper-medium-expert": 3_214,
    "hopper-full-replay": 3_515,
    "hopper-expert": 1_028,
    "halfcheetah-random": 1_000,
    "halfcheetah-medium": 1_000,
    "halfcheetah-medium-replay": 202,
    "halfcheetah-medium-expert": 2_000,
    "halfcheetah-full-replay": 1_000,
    "halfcheetah-expert": 1_000,
    "walker2d-random": 48_908,
    "walker2d-medium": 1_191,
    "walker2d-medium-replay": 1_093,
    "walker2d-medium-expert": 2_191,
    "walker2d-full-replay": 1_888,
    "walker2d-expert": 1_001,
}
_LEVELS = ("random", "medium", "medium-replay", "medium-expert", "full-replay", "expert")
_MAZES = {
    "umaze": "u-maze_noisy_multistart_False_multigoal_False",
    "umaze-diverse": "u-maze_noisy_multistart_True_multigoal_True",
    "medium-play": "big-maze_noisy_multistart_True_multigoal_False",
    "medium-diverse": "big-maze_noisy_multistart_True_multigoal_True",
    "large-play": "hardest-maze_noisy_multistart_True_multigoal_False",
    "large-diverse": "hardest-maze_noisy_multistart_True_multigoal_True",
}
_KITCHEN = {
    "complete": "mini_kitchen_microwave_kettle_light_slider",
    "partial": "kitchen_microwave_kettle_light_slider",
    "mixed": "kitchen_microwave_kettle_bottomburner_light",
}


def _all() -> list[D4rlFile]:
    found = []
    for robot in ("hopper", "halfcheetah", "walker2d", "ant"):
        for level in _LEVELS:
            name = f"{robot}-{level}"
            file = f"{name.replace('-', '_')}-v2.hdf5"
            found.append(D4rlFile(f"{name}-v2", "gym_mujoco_v2", file, _EPISODES.get(name)))
    for maze, stem in _MAZES.items():
        file = f"Ant_maze_{stem}_sparse_fixed.hdf5"
        found.append(D4rlFile(f"antmaze-{maze}-v2", "ant_maze_v2", file))
    for size in ("umaze", "medium", "large"):
        found += [
            D4rlFile(f"maze2d-{size}-v1", "maze2d", f"maze2d-{size}-sparse-v1.hdf5"),
            D4rlFile(f"maze2d-{size}-dense-v1", "maze2d", f"maze2d-{size}-dense-v1.hdf5"),
        ]
    for level, stem in _KITCHEN.items():
        found.append(D4rlFile(f"kitchen-{level}-v0", "kitchen", f"{stem}-v0.hdf5"))
    for task in ("pen", "hammer", "relocate", "door"):
        for level in ("human", "cloned", "expert"):
            name = f"{task}-{level}-v1"
            found.append(D4rlFile(name, "hand_dapg_v1", f"{name}.hdf5"))
    return found


FILES: Mapping[str, D4rlFile] = MappingProxyType({one.name: one for one in _all()})
