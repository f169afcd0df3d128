"""A run: a sequence of stages whose results are saved in one folder as they finish.

The modules `folder`, `stages` and `unfinished` describe the contents of the folder.
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

RESERVED = (*TABLES, "format", "config", "machines")


class Stopped(Exception):
    """The stage that --stop_after names is done."""


class Run:
    """One run in one working directory.

    Args:
      workdir: created if it does not exist. A directory of another config, or one that another
        process uses, is refused.
      config: everything that determines the result, as plain data for JSON.
      seeds: names of the seeds in the stages' metrics.
      checkpoint_seconds: seconds between two checkpoints of a training.
      stop_after: name of the stage, or of the group of stages, after which to stop.
      out: stream for lines and progress bars.
      request: whether a signal has asked the run to end.
      reuse: folders of other runs; a stage with the same key in one of them is taken from there.
      track: names of `trackers` to send metrics to.
      claims: a folder shared by this run and those in `reuse`, if they may run concurrently: one of
        them computes each stage, and the others wait for it.

    Attributes:
      path: the working directory.
      used: the keys of the requested stages, in order.

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
        """The contents of `manifest.json`."""
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
        """Compute and save the result of a call, or load it if the same call is saved already.

        A saved result whose files are damaged is computed again.

        Args:
          name: for display; dots denote groups (`student.bc`).
          function: (config, *inputs, callbacks=…, and `keys` if it has this parameter) -> (result,
            metrics). The result must be valid for `serialization.flatten`; metrics are a dict, or a
            list with a dict for each seed.
          config: first argument of the function.
          inputs: the data that the result depends on; anything with a fingerprint (such as a
            `Task`).
          keys: (S,) random keys; ignored if the function takes none.
          seeds: names of the seeds in the metrics, if they differ from the run's.

        Returns:
          The result, with read-only NumPy arrays; the same in all processes of a job.

        Raises:
          Interrupted: a signal asked the run to end.
          Stopped: --stop_after names this stage or its group.
          WorkdirError: the result cannot be written.
          TypeError: an argument has no fingerprint, or the result cannot be serialised.
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
        """The key of a stage with these arguments."""
        return self._stages.key(Call("", function, config, inputs, keys, ()))

    def freeze(self, value: Any) -> Any:
        """Return a large input with read-only arrays, which later stages do not hash again."""
        return self._stages.freeze(value)

    def metrics(self, key_or_name: str) -> dict[str, Any]:
        """The metrics of a stage, given its key or its name (the last stage of that name).

        Raises:
          KeyError: there is no such stage.
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
        """Stop if `--stop_after` names this stage or its group.

        Raises:
          Stopped: the run ends here.
        """
        if self._stop_after and f"{name}.".startswith(f"{self._stop_after}."):
            raise Stopped(name)

    def callbacks(self, key: str, name: str) -> TrainingCallbacks:
        """Callbacks for progress, metrics and checkpoints of a training in the stage `key`."""
        return self._unfinished.callbacks(key, name)

    # Files and lines

    def record(self, section: str, name: str, content: Any) -> None:
        """Store a small JSON value in the manifest, as `manifest[section][name]`.

        Raises:
          ValueError: the section is reserved for the run itself.
        """
        if section in RESERVED:
            raise ValueError(f"the manifest's {section} is written by stages only")
        plain = hosts.from_first(lambda: {"content": json.loads(files.to_json(content))})["content"]
        table = self.manifest.setdefault(section, {})
        if name not in table or table[name] != plain:
            table[name] = plain
            self._folder.write_manifest()

    def publish(self, results: Mapping[str, float]) -> None:
        """Send the run's results to the trackers: name -> number."""
        if self._unfinished.metrics:
            self._unfinished.metrics.finish(results)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file atomically."""
        files.write_json(self.path / name, content)

    def replacing(self, name: str) -> AbstractContextManager[Path]:
        """A temporary path that replaces `name` when the block ends without an error."""
        return files.replacing(self.path / name)

    def report(self, line: str) -> None:
        """Print a line."""
        with suppress(OSError):  # that the terminal is gone must not end a run
            tqdm.write(line, file=self.out)

    def close(self) -> None:
        """Flush the metrics and release the lock. A run that saved nothing leaves no files."""
        with suppress(OSError):  # an error in writing metrics must not hide why the run ended
            if self._unfinished.metrics:
                self._unfinished.metrics.close()
        self._folder.close()
