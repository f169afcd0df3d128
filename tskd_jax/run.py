"""A run's folder: what is done, checkpoints, metrics. The only place that knows about files.

config.json          the config, and the manifest's counterpart: another config is refused
manifest.json        stages done, with seconds and figures
stages/NAME/         a finished stage's result (orbax)
training/NAME/STEP/  checkpoints inside a stage; removed once it is finished
metrics.csv          loss, norms and rate of every training; tensorboard/ has the same
"""

import csv
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from flax import serialization
from tqdm import tqdm

from tskd_jax.config import differences
from tskd_jax.errors import WorkdirError
from tskd_jax.throughput import matmul_peak
from tskd_jax.training import Hooks, TrainState
from tskd_jax.types import Config

Result = TypeVar("Result")
LINE_SECONDS = 30.0  # between two progress lines where there is no terminal


class Stopped(Exception):
    """The stage named by --stop_after is done."""


class Run:
    """One run in one working directory.

    Args:
      workdir: created where it does not exist. A directory of another config is refused.
      config: final; what determines the result.
      stop_after: name of the stage after which to stop.
      out: where lines and bars go.

    Raises:
      WorkdirError: the directory belongs to another config, or cannot be written.
    """

    def __init__(self, workdir: Path, config: Config, stop_after: str | None = None, out=None):
        self.path = workdir
        self.out = out or sys.stderr
        self._stop_after = stop_after
        self._config = config
        self._save_seconds = config.checkpoint_seconds
        self._writer = None
        self._begun = time.perf_counter()
        quiet_dependencies()
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            self._claim()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise WorkdirError(
                f"{workdir}: cannot be used ({reason}); choose another --workdir"
            ) from error

    def _claim(self) -> None:
        mine = json.loads(_to_json(self._config.to_dict()))
        path = self.path / "config.json"
        if path.exists():
            fields = differences(json.loads(path.read_text()), mine)
            if fields:
                raise WorkdirError(
                    f"{self.path} holds a run with another config; it differs in "
                    f"{', '.join(fields)}; choose another --workdir or remove this one"
                )
        else:
            if any(path.name != ".config.json.partial" for path in self.path.iterdir()):
                raise WorkdirError(
                    f"{self.path} is not empty and holds no run; choose another --workdir"
                )
            self.write_json("config.json", mine)
        manifest = self.path / "manifest.json"
        self.manifest = json.loads(manifest.read_text()) if manifest.exists() else {"stages": {}}

    # Stages

    def stage(
        self,
        name: str,
        like: Callable[[], Result],
        compute: Callable[[Hooks], tuple[Result, dict[str, Any]]],
    ) -> Result:
        """The result of a stage: of an earlier run if it is done, else computed and saved.

        Args:
          name: unique in the run; dots group (`student.bc`).
          like: gives something of the result's structure, into which a saved result is put.
          compute: hooks -> (result, figures for the manifest and the line on the screen).
        """
        place = (self.path / "stages" / name).absolute()
        if name in self.manifest["stages"]:
            return serialization.from_state_dict(like(), _restore(place))
        begin = time.perf_counter()
        partial = self.manifest.setdefault("partial_seconds", {})
        before = sum(spent for part, spent in partial.items() if _within(part, name))
        result, figures = compute(self.hooks(name))
        seconds = time.perf_counter() - begin + before
        result = jax.tree.map(np.asarray, result)
        _save(place, serialization.to_state_dict(result))
        for part in [part for part in partial if _within(part, name)]:
            del partial[part]
        self.manifest["stages"][name] = {"seconds": seconds, **figures}
        self.write_json("manifest.json", self.manifest)
        for folder in (self.path / "training").glob("*"):
            if _within(folder.name, name):
                shutil.rmtree(folder, ignore_errors=True)
        self.say(f"{name:<32} {_duration(seconds):>8}   {_figures(figures)}")
        return result

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
        folder = (self.path / "training" / name).absolute()
        bar = _Bar(self.out, name)
        saved = time.perf_counter()
        begun = time.perf_counter()

        def on_progress(done: int, total: int, metrics: dict[str, float]) -> None:
            bar.update(done, total, metrics)
            if "matmul_flops_per_second" in metrics:
                share = metrics["matmul_flops_per_second"] / matmul_peak()
                metrics = metrics | {"share_of_matmul_peak": share}
            if metrics:
                self._log(name, done, metrics | {"seconds": time.perf_counter() - begun})

        def save(state: TrainState) -> None:
            nonlocal saved
            if time.perf_counter() - saved < self._save_seconds:
                return
            step = int(state.step)
            _save(folder / str(step), _train_state_dict(state))
            partial = self.manifest.setdefault("partial_seconds", {})
            partial[name] = partial.get(name, 0.0) + time.perf_counter() - saved
            self.write_json("manifest.json", self.manifest)
            for old in _checkpoints(folder)[:-2]:
                shutil.rmtree(old, ignore_errors=True)
            saved = time.perf_counter()

        def restore(state: TrainState) -> TrainState:
            found = _checkpoints(folder)
            if not found:
                return state
            plain = serialization.from_state_dict(
                state.replace(key=jax.random.key_data(state.key)), _restore(found[-1])
            )
            plain = jax.tree.map(jax.numpy.asarray, plain)
            return plain.replace(key=jax.random.wrap_key_data(plain.key))

        return Hooks(on_progress, save, restore)

    def _log(self, name: str, step: int, metrics: dict[str, float]) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self.path / "tensorboard"))
        path = self.path / "metrics.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["stage", "step", "metric", "value"])
            for metric, value in metrics.items():
                writer.writerow([name, step, metric, f"{value:.6g}"])
                self._writer.add_scalar(f"{name}/{metric}", value, step)

    # Files

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, whole or not at all."""
        with self.replacing(name) as path:
            path.write_text(_to_json(content) + "\n")

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """A temporary path that takes the place of `name` when the block ends without an error."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        yield temporary
        os.replace(temporary, path)

    def say(self, line: str) -> None:
        """Print a line."""
        tqdm.write(line, file=self.out)

    def close(self) -> None:
        """Flush what is buffered."""
        if self._writer is not None:
            self._writer.close()


def _within(part: str, stage: str) -> bool:
    """Whether a training of that name is (a part of) the stage."""
    return part == stage or part.startswith(f"{stage}.")


class _Bar:
    """A progress bar on a terminal; elsewhere a line now and then."""

    def __init__(self, out, name: str):
        self._out, self._name = out, name
        self._bar = None
        self._spoken = time.perf_counter()
        self._begun: tuple[float, int] | None = None

    def update(self, done: int, total: int, metrics: dict[str, float]) -> None:
        loss = f"loss {metrics['loss']:.4g}" if "loss" in metrics else ""
        if self._out.isatty():
            if self._bar is None:
                self._bar = tqdm(
                    total=total, initial=done, desc=self._name, file=self._out, leave=False
                )
            self._bar.set_postfix_str(loss, refresh=False)
            self._bar.update(done - self._bar.n)
            if done >= total:
                self._bar.close()
                self._bar = None
            return
        now = time.perf_counter()
        if self._begun is None:
            self._begun = (now, done)
        if now - self._spoken >= LINE_SECONDS and done < total:
            since, first = self._begun
            rate = (done - first) / max(now - since, 1e-9)
            left = _duration((total - done) / rate) if rate else "?"
            line = f"  {self._name}: {done}/{total}, {rate:.1f}/s, {left} left"
            print(f"{line}, {loss}" if loss else line, file=self._out, flush=True)
            self._spoken = now


def quiet_dependencies() -> None:
    """Let nothing but this program write to the screen."""
    for name in ("absl", "orbax", "jax", "gymnasium", "etils"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _checkpointer():
    import orbax.checkpoint as ocp

    quiet_dependencies()
    return ocp.PyTreeCheckpointer()


def _save(path: Path, tree: Any) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    _checkpointer().save(path, jax.tree.map(_pack, tree))


def _restore(path: Path) -> Any:
    return _unpack(_checkpointer().restore(path))


def _pack(leaf: Any) -> Any:
    """An array as orbax takes it: one without entries is refused, so its shape is kept instead."""
    leaf = np.asarray(leaf)
    if leaf.size:
        return leaf
    return {_EMPTY: np.asarray(leaf.shape, np.int64), "like": np.zeros(1, leaf.dtype)}


_EMPTY = "shape of an array without entries"


def _unpack(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if _EMPTY in tree:
        return np.zeros(tuple(tree[_EMPTY]), np.asarray(tree["like"]).dtype)
    return {key: _unpack(value) for key, value in tree.items()}


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def _train_state_dict(state: TrainState) -> Any:
    return serialization.to_state_dict(state.replace(key=jax.random.key_data(state.key)))


def _to_json(content: Any) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        raise TypeError(type(value))

    return json.dumps(content, indent=2, default=plain)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{seconds:.1f}s"


def _figures(figures: dict[str, Any]) -> str:
    shown = {k: v for k, v in figures.items() if isinstance(v, int | float)}
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in shown.items()
    )
