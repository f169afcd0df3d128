"""Stages: calls whose results are saved under the fingerprint of their arguments.

stages/NAME-KEY/     the arrays of a finished stage's result (orbax); KEY is the start of the key

The manifest has a record `stages[key]`: `name`, `seconds`, `metrics`, `files` (the checksum of the
folder), `content` (the fingerprint of the result) and `spec` (its description, see
`serialization`). A key covers the function's name, its config, its inputs, its random keys and the
version of this package. Equal calls are therefore computed once, whatever code makes them, and a
result that was computed from other inputs has another key.
"""

import inspect
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tskd_jax import __version__
from tskd_jax.errors import WorkdirError
from tskd_jax.machine import hosts
from tskd_jax.machine.signals import Request
from tskd_jax.run import checkpoints, files, serialization
from tskd_jax.run.checkpoints import Damaged
from tskd_jax.run.claims import Claims
from tskd_jax.run.folder import Folder, folder_name, read_manifest
from tskd_jax.run.progress import duration, in_words
from tskd_jax.run.serialization import FrozenArrays
from tskd_jax.run.unfinished import Unfinished
from tskd_jax.training.seeds import metrics_of_seeds

# Orbax refuses a tree without arrays.
NO_ARRAYS = {"none": np.zeros(1, np.int8)}


@dataclass(frozen=True)
class Call:
    """A stage's call.

    Attributes:
      name: for display; dots denote groups.
      function: (config, *inputs, callbacks=…, and `keys` if it has this parameter) -> (result,
        metrics: a dict, or a list with a dict for each seed).
      config: first argument of the function.
      inputs: the data that the result depends on.
      keys: (seeds,) random keys, or None.
      seeds: names of the seeds in the metrics.
    """

    name: str
    function: Callable[..., tuple[Any, Any]]
    config: Any
    inputs: tuple[Any, ...]
    keys: jax.Array | None
    seeds: Sequence[int]

    def randomness(self) -> dict[str, Any]:
        """`keys`, if the function has this parameter; otherwise they do not affect the result."""
        takes_keys = "keys" in inspect.signature(self.function).parameters
        return {"keys": self.keys} if takes_keys else {}


class StageCache:
    """The finished stages of a run.

    Args:
      folder: the run's folder.
      unfinished: checkpoints, parts and metrics of stages that are not done.
      request: whether a signal has asked the run to end.
      report: called with a line for the user.
      reuse: folders of other runs, from which stages with the same key are taken.
      claims: given if those runs may run concurrently; a stage that one of them is computing is
        waited for.
    """

    def __init__(
        self,
        folder: Folder,
        unfinished: Unfinished,
        request: Request,
        report: Callable[[str], None],
        reuse: Sequence[Path],
        claims: Claims | None = None,
    ):
        self._folder, self._unfinished = folder, unfinished
        self._request, self._report = request, report
        self._reuse, self._claims = reuse, claims
        self._frozen = FrozenArrays()

    def key(self, call: Call) -> str:
        """The fingerprint of a call; all processes use that of the first."""
        given = (call.function, call.config, call.inputs, call.randomness(), __version__)
        return hosts.from_first(lambda: serialization.fingerprint(given, self._frozen.digest))

    def freeze(self, value: Any) -> Any:
        """The value with read-only arrays, which later keys do not hash again."""
        return self._restore(*serialization.flatten(value))

    def result(self, key: str, call: Call) -> Any:
        """The result of a call: loaded if one with this key is saved, otherwise computed."""
        if kept := self._kept(key, call):
            return kept[0]
        if self._claims is None:
            return self._compute(key, call)
        with self._claims.hold(key, call.name) as maker:
            # Another run may have finished the stage since `_kept` was called above. A stage that
            # is damaged in this run is computed again.
            if key not in self._stages and (kept := self._kept(key, call)):
                return kept[0]
            if maker:
                self._report(f"{call.name:<32} {'':>8}   {maker}, has ended without it")
            if origin := self._unfinished.take_over(key, call.name, self._reuse):
                self._report(f"{call.name:<32} {'':>8}   goes on from what {origin} has left of it")
            return self._compute(key, call)

    def _kept(self, key: str, call: Call) -> tuple[Any] | None:
        """(the result,) saved by this run or another; None if there is none or it is damaged."""
        known = key in self._stages
        if not known and not self._take_over(key, call.name):
            return None
        try:
            result = self._load(key)
        except Damaged as problem:
            self._report(f"{self._place(key)}: {problem}; {call.name} is computed again")
            return None
        if not known:
            self._finish(key)
            origin = self._stages[key]["metrics"]["from"]
            self._report(f"{call.name:<32} {'':>8}   from {origin}")
        return (result,)

    @property
    def _stages(self) -> dict[str, dict[str, Any]]:
        return self._folder.manifest["stages"]

    def _place(self, key: str) -> Path:
        return self._folder.path / "stages" / folder_name(self._stages[key]["name"], key)

    def _load(self, key: str) -> Any:
        record, place = self._stages[key], self._place(key)
        arrays = hosts.from_first(lambda: checkpoints.load(place, record["files"]), (Damaged,))
        try:
            return self._restore(record["spec"], arrays)
        except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
            raise Damaged(f"it has another form ({checkpoints.reason(error)})") from error

    def _restore(self, spec: Any, arrays: dict[str, np.ndarray]) -> Any:
        frozen = {name: self._frozen.freeze(np.asarray(array)) for name, array in arrays.items()}
        return serialization.restore(spec, frozen)

    def _compute(self, key: str, call: Call) -> Any:
        self._request.stop_if_requested(f"before {call.name}")
        before = self._unfinished.seconds(key)
        begin = time.perf_counter()
        result, metrics = call.function(
            call.config,
            *call.inputs,
            callbacks=self._unfinished.callbacks(key, call.name),
            **call.randomness(),
        )
        seconds = before + time.perf_counter() - begin
        # All processes use the first one's result, so that it is the same to the bit.
        made = hosts.from_first(lambda: _as_data(call, result, metrics, seconds))
        arrays = made.pop("arrays")
        result = self._restore(made["spec"], arrays)
        self._save(key, made, arrays, serialization.fingerprint(result, self._frozen.digest))
        shown = in_words(made["metrics"])
        self._report(f"{call.name:<32} {duration(made['seconds']):>8}   {shown}")
        self._request.stop_if_requested(f"after {call.name}")
        return result

    def _save(
        self, key: str, made: dict[str, Any], arrays: dict[str, np.ndarray], content: str
    ) -> None:
        """Save a result and its record in the manifest."""
        old = self._place(key) if key in self._stages else None
        before = self._stages.get(key, {}).get("content", content)
        place = self._folder.path / "stages" / folder_name(made["name"], key)
        checksum = hosts.from_first(lambda: checkpoints.save(place, arrays or NO_ARRAYS))
        self._stages[key] = made | {"files": checksum, "content": content}
        self._finish(key)
        if old and old != place:  # the stage had another name
            self._folder.remove(old)
        if content != before:
            self._report(
                f"{made['name']}: another result than before; what was made of it is computed again"
            )

    def _finish(self, key: str) -> None:
        """Write the manifest with the finished stage, and remove its checkpoints and parts."""
        left = self._unfinished.drop(key)
        self._folder.write_manifest()
        for path in left:
            self._folder.remove(path)

    # Other runs

    def _take_over(self, key: str, name: str) -> bool:
        """Take a finished stage from another run; returns whether one has it."""
        record = hosts.from_first(lambda: self._found_elsewhere(key, name))
        if not record:
            return False
        self._stages[key] = record
        return True

    def _found_elsewhere(self, key: str, name: str) -> dict[str, Any]:
        """The record of another run's stage, whose files are put into this run's folder.

        Files are hard-linked if the file system supports it, and verified by checksum like any
        others. The record is empty if no run has the stage.
        """
        for other in self._reuse:
            record = read_manifest(other).get("stages", {}).get(key)
            source = other / "stages" / folder_name(record["name"], key) if record else None
            if record and source and source.is_dir():
                _share(source, self._folder.path / "stages" / folder_name(name, key))
                metrics = {"from": other.name} | record["metrics"]
                return record | {"name": name, "metrics": metrics}
        return {}


def _share(source: Path, target: Path) -> None:
    try:
        files.share(source, target)
    except OSError as error:
        raise WorkdirError(
            f"{target}: cannot be written ({checkpoints.reason(error)}); make room, or choose "
            "another --workdir"
        ) from error


def _as_data(call: Call, result: Any, metrics: Any, seconds: float) -> dict[str, Any]:
    """A stage's record before it is saved, together with the result's arrays."""
    spec, arrays = serialization.flatten(result)
    metrics = json.loads(files.to_json(metrics))
    if not isinstance(metrics, dict):
        # Wrong names of seeds must not cost the result of hours of computation.
        named = len(call.seeds) == len(metrics)
        metrics = metrics_of_seeds(call.seeds if named else range(len(metrics)), metrics)
    return {
        "name": call.name,
        "seconds": seconds,
        "metrics": metrics,
        "spec": spec,
        "arrays": arrays,
    }
