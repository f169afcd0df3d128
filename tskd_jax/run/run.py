"""A run: stages with one folder, in which each is kept once it is done.

What is in the folder: `folder`, `stages`, `unfinished`.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from tskd_jax.machine import hosts
from tskd_jax.machine.signals import Request
from tskd_jax.run import files
from tskd_jax.run.claims import Claims
from tskd_jax.run.folder import TABLES, Folder
from tskd_jax.run.progress import quiet_dependencies
from tskd_jax.run.stages import Call, StageCache
from tskd_jax.run.unfinished import Unfinished
from tskd_jax.training.callbacks import TrainingCallbacks

RESERVED = (*TABLES, "format", "config")


class Stopped(Exception):
    """The stage named by --stop_after is done."""


class Run:
    """One run in one working directory.

    Args:
      workdir: created where it does not exist. A directory of another config, or in which another
        process works, is refused.
      config: what determines the result, for JSON.
      seeds: names of the seeds in the stages' metrics.
      checkpoint_seconds: between two checkpoints of a training.
      stop_after: name of the stage, or of a group of stages, after which to stop.
      out: where lines and bars go.
      request: whether a signal has asked the run to end.
      reuse: folders of other runs; a stage that one of them has made of the same is taken from it.
      track: `trackers` that are told of the metrics.
      claims: a folder of the runs in `reuse` and this one, which may all be under way: each stage
        is made by one of them, and the others wait for it.

    Attributes:
      path: the working directory.
      used: the keys of the stages that were asked for, in that order.

    Raises:
      WorkdirError: the directory belongs to another config, process or version, or cannot be
        written.
    """

    def __init__(
        self,
        workdir: Path,
        config: dict[str, Any],
        *,
        seeds: Sequence[int] = (0,),
        checkpoint_seconds: float = 120.0,
        stop_after: str | None = None,
        out=None,
        request: Request | None = None,
        reuse: Sequence[Path] = (),
        track: Sequence[str] = (),
        claims: Path | None = None,
    ):
        self.path = workdir
        self.out = (out or sys.stderr) if hosts.is_first() else open(os.devnull, "w")  # noqa: SIM115
        self.used: list[str] = []
        self._seeds = seeds
        self._stop_after = stop_after
        self._keys: dict[str, str] = {}
        request = request or Request()
        quiet_dependencies()
        self._folder = Folder(workdir, config, self.report)
        self._unfinished = Unfinished(
            self._folder, checkpoint_seconds, request, self.out, self.report, config, track
        )
        self._stages = StageCache(
            self._folder,
            self._unfinished,
            request,
            self.report,
            reuse,
            Claims(claims, workdir.name, request, self.report) if claims else None,
        )

    @property
    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` holds."""
        return self._folder.manifest

    # Stages

    def stage(
        self,
        name: str,
        function: Callable[..., tuple[Any, Any]],
        config: Any,
        *inputs: Any,
        keys: jax.Array | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Any:
        """The result of a call, made once for equal arguments; saved, or as it was saved.

        A result whose files are not as they were written is computed again.

        Args:
          name: for the eye; dots group (`student.bc`).
          function: (config, *inputs, callbacks=…, and `keys` where it takes them) -> (result,
            metrics). The result is what `serialization.flatten` takes; metrics are a dict, or a
            list with a dict for each seed.
          config: of the function.
          inputs: what the result is made of; data, or what has a fingerprint (a `Task`).
          keys: (S,) randomness; of no account where the function takes none.
          seeds: names of the seeds in the metrics, where they are not the run's.

        Returns:
          The result, with read-only NumPy arrays; the same in all processes of a job.

        Raises:
          Interrupted: a signal asked the run to end.
          Stopped: the run was to stop after this stage.
          WorkdirError: the result cannot be written.
          TypeError: something in the arguments has no fingerprint, or the result is no data.
        """
        call = Call(name, function, config, inputs, keys, seeds or self._seeds)
        key = self._stages.key(call)
        result = self._stages.result(key, call)
        self.used.append(key)
        self._keys[name] = key
        self.stop_if_requested(name)
        return result

    def key(
        self, function: Callable[..., Any], config: Any, *inputs: Any, keys: jax.Array | None = None
    ) -> str:
        """The key that a stage has with these arguments."""
        return self._stages.key(Call("", function, config, inputs, keys, ()))

    def freeze(self, value: Any) -> Any:
        """A large input with read-only arrays, which later stages do not hash again."""
        return self._stages.freeze(value)

    def metrics(self, key_or_name: str) -> dict[str, Any]:
        """The metrics of a stage: by its key, or of the last one of that name.

        Raises:
          KeyError: there is none.
        """
        stages = self.manifest["stages"]
        key = self._keys.get(key_or_name, key_or_name)
        if key not in stages:
            named = [key for key, record in stages.items() if record["name"] == key_or_name]
            if not named:
                raise KeyError(f"{self.path} has no stage {key_or_name}")
            key = named[-1]
        return stages[key]["metrics"]

    def stop_if_requested(self, name: str) -> None:
        """Stop here if `--stop_after` names this stage, or a group that it belongs to.

        Raises:
          Stopped: it does.
        """
        if self._stop_after and f"{name}.".startswith(f"{self._stop_after}."):
            raise Stopped(name)

    def callbacks(self, key: str, name: str) -> TrainingCallbacks:
        """Progress, metrics and checkpoints for a training in the stage of that key."""
        return self._unfinished.callbacks(key, name)

    # Files and lines

    def record(self, section: str, name: str, content: Any) -> None:
        """Note something small in the manifest: `manifest[section][name]`, for JSON.

        Raises:
          ValueError: the section is one that the run itself keeps.
        """
        if section in RESERVED:
            raise ValueError(f"the manifest's {section} is written by stages only")
        plain = hosts.from_first(lambda: {"content": json.loads(files.to_json(content))})["content"]
        table = self.manifest.setdefault(section, {})
        if name not in table or table[name] != plain:
            table[name] = plain
            self._folder.write_manifest()

    def publish(self, results: Mapping[str, float]) -> None:
        """Tell the trackers what the run has found: name -> number."""
        if self._unfinished.metrics:
            self._unfinished.metrics.finish(results)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, whole or not at all."""
        files.write_json(self.path / name, content)

    def replacing(self, name: str) -> AbstractContextManager[Path]:
        """A temporary path that takes the place of `name` when the block ends without an error."""
        return files.replacing(self.path / name)

    def report(self, line: str) -> None:
        """Print a line."""
        tqdm.write(line, file=self.out)

    def close(self) -> None:
        """Flush what is buffered and free the lock. A run that came to nothing leaves nothing."""
        with suppress(OSError):  # metrics for the eye must not hide what ended the run
            if self._unfinished.metrics:
                self._unfinished.metrics.close()
        self._folder.close()
