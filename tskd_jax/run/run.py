"""A run's folder: what is done, checkpoints, metrics.

config.json          the config, and the manifest's counterpart: another config is refused
manifest.json        stages done, with seconds and figures; checksums of all that is below
manifest.copy.json   the same, for the case that it is damaged
stages/NAME/         a finished stage's result (orbax)
training/NAME/STEP/  the last two checkpoints inside a stage; removed once it is finished
parts/NAME/PART/     finished parts of a stage that is not a training; removed likewise
metrics.csv          loss, norms and rate of every training; tensorboard/ has the same
lock                 held by the process that works here

Of a job of several processes only the first touches the folder. What it reads, and whether the
others go on from it, it tells them; each keeps the same manifest.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import jax
import numpy as np
from flax import serialization
from tqdm import tqdm

from tskd_jax.errors import WorkdirError
from tskd_jax.machine import devices, hosts, memory
from tskd_jax.machine.signals import Request
from tskd_jax.machine.throughput import matmul_peak
from tskd_jax.machine.types import Config
from tskd_jax.run import checkpoints, files, lock, manifest
from tskd_jax.run.checkpoints import Damaged
from tskd_jax.run.metrics import Metrics
from tskd_jax.run.progress import Bar, duration, in_words, quiet_dependencies
from tskd_jax.training.training import Hooks, TrainState

Result = TypeVar("Result")
KEPT_CHECKPOINTS = 2  # of a training: should the last one be damaged, there is the one before


class Stopped(Exception):
    """The stage named by --stop_after is done."""


class Run:
    """One run in one working directory.

    Args:
      workdir: created where it does not exist. A directory of another config, or in which another
        process works, is refused.
      config: final; what determines the result.
      stop_after: name of the stage after which to stop.
      out: where lines and bars go.
      request: whether a signal has asked the run to end.

    Raises:
      WorkdirError: the directory belongs to another config or process, or cannot be written.
    """

    def __init__(
        self,
        workdir: Path,
        config: Config,
        stop_after: str | None = None,
        out=None,
        request: Request | None = None,
    ):
        self.path = workdir
        self._config = config
        self._first = hosts.is_first()
        self.out = (out or sys.stderr) if self._first else open(os.devnull, "w")  # noqa: SIM115
        self._stop_after = stop_after
        self._save_seconds = config.checkpoint_seconds
        self._request = request or Request()
        self._metrics = Metrics(workdir)
        quiet_dependencies()
        self._lock: IO[str] | None = None
        self._made: list[Path] = []
        self.manifest: dict[str, Any] = hosts.from_first(lambda: self._claim(config))

    def _claim(self, config: Config) -> dict[str, Any]:
        workdir = self.path
        self._made = [path for path in (workdir, *workdir.parents) if not path.exists()]
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            manifest.check_that_it_is_a_run(workdir)
            self._hold_lock()
            new = not (workdir / "config.json").exists()
            claimed = manifest.claim(workdir, config, self.say)
            if new:
                self._made.insert(0, workdir / "config.json")
            self._sweep(claimed)
        except OSError as error:
            self._unmake()
            raise WorkdirError(
                f"{workdir}: cannot be used ({checkpoints.reason(error)}); choose another --workdir"
            ) from error
        except WorkdirError:
            self._unmake()
            raise
        return claimed

    def _hold_lock(self) -> None:
        path = self.path / "lock"
        new = not path.exists()
        self._lock = lock.hold(path)
        if new:
            self._made.insert(0, path)

    def _sweep(self, claimed: dict[str, Any]) -> None:
        """Remove what a killed process left half-written, or had no time to remove."""
        left = [
            folder
            for place, table in (("training", "checkpoints"), ("parts", "parts"))
            for folder in self.path.glob(f"{place}/*")
            if folder.name not in claimed[table]
        ]
        for folder in (*left, *self.path.glob("stages/.*.partial")):
            shutil.rmtree(folder, ignore_errors=True)

    def _write_manifest(self) -> None:
        if self._first:
            manifest.write(self.path, self.manifest)

    # Stages

    def stage(
        self,
        name: str,
        like: Callable[[], Result],
        compute: Callable[[Hooks], tuple[Result, dict[str, Any]]],
    ) -> Result:
        """The result of a stage: of an earlier run if it is done, else computed and saved.

        A result whose files are not as they were written, or that was made of other results than
        those before it are now, is computed again.

        Args:
          name: unique in the run; dots group (`student.bc`).
          like: gives something of the result's structure, into which a saved result is put.
          compute: hooks -> (result, figures for the manifest and the line on the screen).

        Raises:
          Interrupted: a signal asked the run to end.
          WorkdirError: the result cannot be written.
        """
        place = self.path / "stages" / name
        if name in self.manifest["stages"]:
            try:
                return self._known(name, place, like)
            except Damaged as problem:
                self.say(f"{place}: {problem}; {name} is computed again")
        self._request.obey(f"before {name}")
        begin = time.perf_counter()
        partial = self.manifest["partial_seconds"]
        before = sum(spent for part, spent in partial.items() if _within(part, name))
        result, figures = compute(self.hooks(name))
        seconds = time.perf_counter() - begin + before
        result = jax.tree.map(np.asarray, result)
        # The same in all processes to the bit, whatever their machines are.
        tree = hosts.from_first(lambda: serialization.to_state_dict(result))
        result = serialization.from_state_dict(result, tree)
        checksum = hosts.from_first(lambda: checkpoints.save(place, tree))
        for table in (partial, self.manifest["checkpoints"], self.manifest["parts"]):
            for part in [part for part in table if _within(part, name)]:
                del table[part]
        content = checkpoints.digest(tree)
        self.manifest["stages"][name] = {"seconds": seconds, **figures}
        self.manifest["results"][name] = {
            "files": checksum,
            "content": content,
            "after": self._results_before(name),
        }
        self._write_manifest()
        for folder in (*self.path.glob("training/*"), *self.path.glob("parts/*")):
            if _within(folder.name, name):
                self._remove(folder)
        self.say(f"{name:<32} {duration(seconds):>8}   {in_words(figures)}")
        self._request.obey(f"after {name}")
        return result

    def _known(self, name: str, place: Path, like: Callable[[], Result]) -> Result:
        record = self.manifest["results"].get(name, {})
        return _into(like(), self._saved(name, place, record))

    def _results_before(self, name: str) -> str:
        return manifest.results_before(self.manifest, name)

    def adopt(self, other: Path) -> list[str]:
        """Take over the finished stages of another run that were made of what this one's will be.

        Files are shared where the file system can; they are believed as any others, by checksum.

        Args:
          other: the folder of a run. What is damaged there is left.

        Returns:
          The stages taken over. Their figures name the folder that they are from.
        """

        def take() -> dict[str, Any]:
            places = manifest.adopt(self.manifest, self._config, other)
            for name, place in places.items():
                files.share(place, self.path / "stages" / name)
            if places:
                self._write_manifest()
            return {"taken": list(places), "manifest": self.manifest}

        answer = hosts.from_first(take)
        self.manifest = answer["manifest"]
        return answer["taken"]

    def end_of(self, group: str) -> None:
        """Stop here if `--stop_after` names this group of stages.

        Raises:
          Stopped: it does.
        """
        if group == self._stop_after:
            raise Stopped(group)

    def figures(self, name: str) -> dict[str, Any]:
        """What a finished stage noted in the manifest."""
        return self.manifest["stages"][name]

    # Inside a stage

    def hooks(self, name: str) -> Hooks:
        """Progress, metrics and checkpoints for a training of that name."""
        folder = self.path / "training" / name
        bar = Bar(self.out, name)
        saved = time.perf_counter()
        begun = time.perf_counter()

        def on_progress(done: int, total: int, metrics: dict[str, float]) -> None:
            bar.update(done, total, metrics)
            if "matmul_flops_per_second" in metrics:
                share = metrics["matmul_flops_per_second"] / (matmul_peak() * jax.device_count())
                metrics = metrics | {"share_of_matmul_peak": share}
            if metrics:  # of a training, which `save` ends when it has saved
                self._log(name, done, metrics | {"seconds": time.perf_counter() - begun})
            else:
                self._request.obey(f"in {name}, which begins again")

        def save(state: TrainState) -> None:
            nonlocal saved
            due = hosts.from_first(lambda: time.perf_counter() - saved >= self._save_seconds)
            if not due and not self._request.asked():
                return
            step, tree = int(state.step), _train_state_dict(state)
            checksum = hosts.from_first(lambda: checkpoints.save(folder / str(step), tree))
            kept = self.manifest["checkpoints"].setdefault(name, {})
            kept[str(step)] = {"files": checksum, "after": self._results_before(name)}
            for old in sorted(kept, key=int)[:-KEPT_CHECKPOINTS]:
                del kept[old]
            partial = self.manifest["partial_seconds"]
            partial[name] = partial.get(name, 0.0) + time.perf_counter() - saved
            self._write_manifest()
            for path in folder.glob("*"):
                if path.name not in kept:
                    self._remove(path)
            saved = time.perf_counter()
            self._request.obey(f"in {name}, after update {step}")

        def restore(state: TrainState) -> TrainState:
            kept = self.manifest["checkpoints"].get(name, {})
            for step in sorted(kept, key=int, reverse=True):
                try:
                    restored = self._checkpoint(name, folder / step, kept[step], state)
                except Damaged as problem:
                    del kept[step]
                    instead = "the checkpoint before it is used" if kept else "begun again"
                    self.say(f"{folder / step}: {problem}; {instead}")
                    continue
                self._forget_after(name, int(step))
                return restored
            self._forget_after(name, 0)
            return state

        def on_compiled(size: int) -> None:
            free, _ = memory.of_device()
            needed, there = memory.readable(size), memory.readable(free)
            self.say(f"  {name}: takes about {needed} of memory, {there} are free")

        def keep(part: str, compute: Callable[[], tuple[np.ndarray, ...]]):
            return self._part(name, part, compute)

        def within(part: str) -> Hooks:
            return self.hooks(f"{name}.{part}")

        return Hooks(on_progress, save, restore, on_compiled, keep, within, self.say)

    def _part(self, name: str, part: str, compute: Callable[[], tuple[np.ndarray, ...]]):
        place = self.path / "parts" / name / part
        kept = self.manifest["parts"].setdefault(name, {})
        if part in kept:
            try:
                tree = self._saved(name, place, kept[part])
                return tuple(tree[str(index)] for index in range(len(tree)))
            except Damaged as problem:
                self.say(f"{place}: {problem}; it is computed again")
        result = tuple(map(np.asarray, compute()))
        tree = serialization.to_state_dict(result)
        checksum = hosts.from_first(lambda: checkpoints.save(place, tree))
        kept[part] = {"files": checksum, "after": self._results_before(name)}
        self._write_manifest()
        self._request.obey(f"in {name}, after part {part}")
        return result

    def _saved(self, name: str, place: Path, record: dict[str, str]) -> Any:
        """A tree that was saved, if it is as it was and was made of the results of now."""
        if record.get("after") != self._results_before(name):
            raise Damaged("it was made of other results than there are now")
        return hosts.from_first(lambda: checkpoints.load(place, record["files"]), (Damaged,))

    def _checkpoint(
        self, name: str, path: Path, record: dict[str, str], like: TrainState
    ) -> TrainState:
        plain = like.replace(key=jax.random.key_data(like.key))
        plain = _into(plain, self._saved(name, path, record))
        plain = jax.tree.map(jax.numpy.asarray, plain)
        return plain.replace(key=jax.random.wrap_key_data(plain.key))

    # Files: of the first process

    def _remove(self, folder: Path) -> None:
        if self._first:
            shutil.rmtree(folder, ignore_errors=True)

    def _log(self, name: str, step: int, metrics: dict[str, float]) -> None:
        if self._first:
            self._metrics.log(name, step, metrics)

    def _forget_after(self, name: str, step: int) -> None:
        if self._first:
            self._metrics.forget_after(name, step)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, whole or not at all."""
        files.write_json(self.path / name, content)

    def replacing(self, name: str):
        """A temporary path that takes the place of `name` when the block ends without an error."""
        return files.replacing(self.path / name)

    def say(self, line: str) -> None:
        """Print a line."""
        tqdm.write(line, file=self.out)

    def close(self) -> None:
        """Flush what is buffered and free the lock. A run that came to nothing leaves nothing."""
        with suppress(OSError):  # figures for the eye must not hide what ended the run
            self._metrics.close()
        if not self.manifest["stages"] and not self.manifest["checkpoints"]:
            self._unmake()
        elif self._lock is not None:
            self._lock.close()

    def _unmake(self) -> None:
        """Remove what this process made, as far as nothing of others is in it; free the lock."""
        for path in self._made:
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        if self._lock is not None:
            self._lock.close()


def _into(like: Any, tree: Any) -> Any:
    """A saved tree in the structure of `like`; Damaged where it does not fit."""
    try:
        return serialization.from_state_dict(like, tree)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"it has another form ({checkpoints.reason(error)})") from error


def _within(part: str, stage: str) -> bool:
    """Whether a training of that name is (a part of) the stage."""
    return part == stage or part.startswith(f"{stage}.")


def _train_state_dict(state: TrainState) -> Any:
    plain = devices.fetch(state.replace(key=jax.random.key_data(state.key)))
    return serialization.to_state_dict(plain)
