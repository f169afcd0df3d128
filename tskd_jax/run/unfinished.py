"""What a stage saves in the folder before it is done: checkpoints, finished parts, metrics.

    training/NAME-KEY/STEP/  the last two checkpoints of a training; removed once its stage is done
    parts/NAME-KEY/PART/     finished parts of other computations; removed likewise
    metrics.csv              loss, norms and speed of every training; tensorboard/ has the same

The manifest has their checksums under the key of their stage: `checkpoints[key][name][step]` and
`parts[key][name][part]`. `partial_seconds[key][name]` is the computing time up to the last
checkpoint. `begun[key]` is the stage's name, with which these names begin: another run may give
the same stage another name.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization

from tskd_jax.machine import devices, hosts, memory
from tskd_jax.machine.signals import Request
from tskd_jax.machine.throughput import matmul_peak
from tskd_jax.run import checkpoints, files
from tskd_jax.run.checkpoints import Damaged
from tskd_jax.run.folder import Folder, folder_name, read_manifest
from tskd_jax.run.metrics import Metrics
from tskd_jax.run.progress import Bar
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.training import TrainState

KEPT_CHECKPOINTS = 2  # of a training: if the last one is damaged, the one before it is used
TABLES = ("checkpoints", "parts", "partial_seconds")  # by key and name
# Seconds. The speed of a shorter chunk is mostly noise and not worth measuring the peak for.
LEAST_TIMED = 0.25


class Unfinished:
    """The unfinished stages of a run.

    Args:
      folder: the run's folder.
      checkpoint_seconds: seconds between two checkpoints of a training.
      request: whether a signal has asked the run to end.
      out: stream for progress bars.
      report: called with a line for the user.
      config: the run's config, for trackers that show it.
      track: names of `trackers` to send metrics to.
    """

    def __init__(
        self,
        folder: Folder,
        checkpoint_seconds: float,
        request: Request,
        out,
        report: Callable[[str], None],
        config: Mapping[str, Any] | None = None,
        track: Sequence[str] = (),
    ):
        self.folder = folder
        self.checkpoint_seconds = checkpoint_seconds
        self.request = request
        self.out = out
        self.report = report
        self._begun: dict[str, str] = {}
        first = hosts.is_first()
        self.metrics = Metrics(folder.path, config, track, report) if first else None

    def callbacks(self, key: str, name: str) -> TrainingCallbacks:
        """Callbacks for progress, metrics and checkpoints of a training in the stage `key`."""
        self._begun.setdefault(key, name)  # of its parts, the stage comes first
        training = _Training(self, key, name)
        parts = _Parts(self, key, name)
        return TrainingCallbacks(
            on_progress=training.on_progress,
            save=training.save,
            restore=training.restore,
            on_compiled=training.on_compiled,
            cache=parts.cache,
            part=lambda part: self.callbacks(key, f"{name}.{part}"),
            report=self.report,
        )

    def seconds(self, key: str) -> float:
        """Seconds that earlier processes spent on the checkpoints from which a stage resumes."""
        return sum(self.folder.manifest["partial_seconds"].get(key, {}).values())

    def drop(self, key: str) -> list[Path]:
        """Drop a finished stage's entries from the manifest.

        Returns:
          Its folders, to be removed once the manifest is written.
        """
        for table in (*TABLES, "begun"):
            self.folder.manifest[table].pop(key, None)
        return _folders_of(self.folder.path, key)

    def take_over(self, key: str, name: str, others: Sequence[Path]) -> str:
        """Take over checkpoints and parts of a stage that another run left unfinished.

        If several runs have any, those with the most computing time are taken.

        Args:
          key: key of the stage.
          name: its name in this run.
          others: folders of other runs; none of them is currently computing the stage.

        Returns:
          The name of the run; "" if no run has left anything, or this run has its own.
        """
        manifest = self.folder.manifest
        if any(manifest[table].get(key) for table in TABLES):
            return ""
        found = []
        for other in others:
            theirs = read_manifest(other)
            left = {table: theirs.get(table, {}).get(key, {}) for table in TABLES}
            if left["checkpoints"] or left["parts"]:
                began = theirs.get("begun", {}).get(key, name)
                found.append((sum(left["partial_seconds"].values()), other, began, left))
        if not found:
            return ""
        _, other, began, left = max(found, key=lambda one: one[0])
        for source in _folders_of(other, key):
            target = source.with_name(name + source.name.removeprefix(began))
            files.share(source, self.folder.path / target.relative_to(other))
        for table, entries in left.items():
            manifest[table][key] = {
                name + one.removeprefix(began): entry for one, entry in entries.items()
            }
        manifest["begun"][key] = name
        self.folder.write_manifest()
        return other.name

    def known(self, table: str, key: str, name: str) -> dict[str, str]:
        """The manifest's checksums of a training's checkpoints or of parts; adds no table."""
        return self.folder.manifest[table].get(key, {}).get(name, {})

    def table(self, table: str, key: str, name: str) -> dict[str, str]:
        """Like `known`, but adds the table to the manifest if it is missing, for new entries."""
        self.folder.manifest["begun"].setdefault(key, self._begun[key])
        return self.folder.manifest[table].setdefault(key, {}).setdefault(name, {})


class _Training:
    """One training inside a stage: its bar, its metrics, its checkpoints."""

    def __init__(self, unfinished: Unfinished, key: str, name: str):
        self._unfinished, self._key, self._name = unfinished, key, name
        self._place = unfinished.folder.path / "training" / folder_name(name, key)
        self._bar = Bar(unfinished.out, name)
        self._began = self._saved = time.perf_counter()
        self._done = 0

    def on_progress(self, done: int, total: int, metrics: dict[str, float]) -> None:
        self._bar.update(done, total, metrics)
        chunk, self._done = done - self._done, done
        if chunk >= LEAST_TIMED * metrics.get("steps_per_second", np.inf):
            share = metrics["matmul_flops_per_second"] / (matmul_peak() * jax.device_count())
            metrics = metrics | {"share_of_matmul_peak": share}
        if not metrics:  # no training: a training is interrupted by `save`, after a checkpoint
            self._unfinished.request.stop_if_requested(f"in {self._name}, which begins again")
        elif self._unfinished.metrics:
            metrics = metrics | {"seconds": time.perf_counter() - self._began}
            self._unfinished.metrics.log(self._name, self._key, done, metrics)

    def save(self, state: TrainState) -> None:
        request = self._unfinished.request
        if not hosts.from_first(self._is_due) and not request.requested():
            return
        step, tree = int(state.step), _train_state_dict(state)
        checksum = hosts.from_first(lambda: checkpoints.save(self._place / str(step), tree))
        kept = self._unfinished.table("checkpoints", self._key, self._name)
        kept[str(step)] = checksum
        for old in sorted(kept, key=int)[:-KEPT_CHECKPOINTS]:
            del kept[old]
        self._count_seconds()
        self._unfinished.folder.write_manifest()
        for path in self._place.glob("*"):
            if path.name not in kept:
                self._unfinished.folder.remove(path)
        self._saved = time.perf_counter()
        request.stop_if_requested(f"in {self._name}, after update {step}")

    def restore(self, state: TrainState) -> TrainState:
        kept = self._unfinished.known("checkpoints", self._key, self._name)
        for step in sorted(kept, key=int, reverse=True):
            try:
                restored = _load_train_state(self._place / step, kept[step], state)
            except Damaged as problem:
                del kept[step]
                instead = "the checkpoint before it is used" if kept else "begun again"
                self._unfinished.report(f"{self._place / step}: {problem}; {instead}")
                continue
            self._forget_metrics_after(int(step))
            return restored
        self._forget_metrics_after(0)
        return state

    def on_compiled(self, size: int) -> None:
        free, _ = memory.of_device()
        needed, there = memory.readable(size), memory.readable(free)
        self._unfinished.report(f"  {self._name}: takes about {needed} of memory, {there} are free")

    def _is_due(self) -> bool:
        return time.perf_counter() - self._saved >= self._unfinished.checkpoint_seconds

    def _count_seconds(self) -> None:
        seconds = self._unfinished.folder.manifest["partial_seconds"].setdefault(self._key, {})
        seconds[self._name] = seconds.get(self._name, 0.0) + time.perf_counter() - self._saved

    def _forget_metrics_after(self, step: int) -> None:
        if self._unfinished.metrics:
            self._unfinished.metrics.forget_after(self._name, self._key, step)


class _Parts:
    """Finished parts of a computation inside a stage."""

    def __init__(self, unfinished: Unfinished, key: str, name: str):
        self._unfinished, self._key, self._name = unfinished, key, name
        self._place = unfinished.folder.path / "parts" / folder_name(name, key)

    def cache(
        self, part: str, compute: Callable[[], tuple[np.ndarray, ...]]
    ) -> tuple[np.ndarray, ...]:
        place = self._place / part
        kept = self._unfinished.known("parts", self._key, self._name)
        if part in kept:
            try:
                tree = hosts.from_first(lambda: checkpoints.load(place, kept[part]), (Damaged,))
                return tuple(tree[str(index)] for index in range(len(tree)))
            except Damaged as problem:
                self._unfinished.report(f"{place}: {problem}; it is computed again")
        result = tuple(map(np.asarray, compute()))
        tree = {str(index): array for index, array in enumerate(result)}
        checksum = hosts.from_first(lambda: checkpoints.save(place, tree))
        self._unfinished.table("parts", self._key, self._name)[part] = checksum
        self._unfinished.folder.write_manifest()
        self._unfinished.request.stop_if_requested(f"in {self._name}, after part {part}")
        return result


def _folders_of(run: Path, key: str) -> list[Path]:
    """The folders of an unfinished stage in a run's folder."""
    name = folder_name("*", key)
    return [path for place in ("training", "parts") for path in run.glob(f"{place}/{name}")]


def _train_state_dict(state: TrainState) -> Any:
    plain = devices.fetch(state.replace(key=jax.random.key_data(state.key)))
    return serialization.to_state_dict(plain)


def _load_train_state(path: Path, checksum: str, like: TrainState) -> TrainState:
    """Load a state with the structure of `like`; raise Damaged if it is damaged or does not fit."""
    tree = hosts.from_first(lambda: checkpoints.load(path, checksum), (Damaged,))
    fresh = like.replace(key=jax.random.key_data(like.key))
    try:
        plain = serialization.from_state_dict(fresh, tree)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"it has another form ({checkpoints.reason(error)})") from error
    for found, wanted in zip(*map(jax.tree.leaves, (plain, fresh)), strict=True):
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise Damaged(f"it has another form ({found.shape}, not {wanted.shape})")
    plain = jax.tree.map(jax.numpy.asarray, plain)
    return plain.replace(key=jax.random.wrap_key_data(plain.key))
