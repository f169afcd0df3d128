"""metrics.csv and tensorboard/: loss, norms and speed of every training, each step once.

A training is identified by its name and the first digits of its stage's key, as names may repeat.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tskd_jax.fields import LARGEST
from tskd_jax.run.files import replacing
from tskd_jax.run.folder import KEY_DIGITS
from tskd_jax.run.trackers import OTHERS, Guarded, TensorBoard, Tracker

HEADER = ["stage", "key", "step", "metric", "value"]


class Metrics:
    """The metrics of a run. The CSV file is the original; tensorboard/ is rebuilt from it.

    Args:
      folder: the run's folder.
      config: the run's config, for trackers that show it.
      track: names of further trackers, from `trackers.OTHERS`.
      report: called with a line for the user.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        track: Sequence[str] = (),
        report: Callable[[str], None] = lambda line: None,
    ):
        self._path, self._config = folder / "metrics.csv", config or {}
        self._track, self._report = track, report
        self._board: Tracker | None = None
        self._others: list[Tracker] | None = None
        self._keys: dict[str, str] = {}

    def log(self, name: str, key: str, step: int, metrics: dict[str, float]) -> None:
        """Record the metrics of a training after `step` steps."""
        training = [name, key[:KEY_DIGITS], str(step)]
        rows = [[*training, metric, f"{value:.6g}"] for metric, value in metrics.items()]
        board = self._begun()
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows] if new else rows)
        for tracker in (board, *self._told()):
            self._log(tracker, rows)

    def finish(self, results: Mapping[str, float]) -> None:
        """Send the run's results to the trackers."""
        for tracker in (self._begun(), *self._told()):
            tracker.finish(results)

    def forget_after(self, name: str, key: str, step: int) -> None:
        """Drop a training's metrics after a step, from which it resumes.

        Other trackers keep them, and so have these steps twice.
        """
        if not self._path.exists():
            return
        training = [name, key[:KEY_DIGITS]]
        kept = [row for row in read_rows(self._path) if row[:2] != training or int(row[2]) <= step]
        text = io.StringIO(newline="")
        csv.writer(text).writerows([HEADER, *kept])
        if text.getvalue().encode() == self._path.read_bytes():
            return
        self._close_board()
        with replacing(self._path) as path:
            path.write_bytes(text.getvalue().encode())

    def close(self) -> None:
        """Flush buffered metrics and close all trackers."""
        self._close_board()
        for tracker in self._others or ():
            tracker.close()
        self._others = None

    def _close_board(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None

    def _begun(self) -> Tracker:
        """The TensorBoard tracker; when created, it gets all metrics in the CSV file."""
        if self._board is None:
            self._board = TensorBoard(self._path.parent)
            if self._path.exists():
                self._log(self._board, read_rows(self._path))
        return self._board

    def _told(self) -> list[Tracker]:
        if self._others is None:
            folder, config = self._path.parent, self._config
            self._others = [
                Guarded(name, lambda make=OTHERS[name]: make(folder, config), self._report)
                for name in self._track
            ]
        return self._others

    def _log(self, tracker: Tracker, rows: Sequence[Sequence[str]]) -> None:
        together: dict[tuple[str, int], dict[str, float]] = {}
        for name, key, step, metric, value in rows:
            # A second training of the same name needs a separate curve.
            curve = name if self._keys.setdefault(name, key) == key else f"{name}-{key}"
            together.setdefault((curve, int(step)), {})[metric] = float(value)
        for (curve, step), metrics in together.items():
            tracker.log(curve, step, metrics)


def read_rows(path: Path) -> list[list[str]]:
    """Read all rows of a metrics.csv.

    Incomplete or invalid rows are skipped: metrics are only for display, not part of the result.

    Returns:
      Rows (stage, key, step, metric, value), as text.
    """
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    return [row for row in map(_row, filter(_is_whole, lines)) if _is_row(row)]


def _is_whole(line: str) -> bool:
    return line.endswith("\n")


def _row(line: str) -> list[str]:
    """The fields of a line; none if it cannot be parsed.

    Each line is parsed alone: a stray quotation mark would take all lines after it into its field.
    """
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _is_row(row: list[str]) -> bool:
    try:
        _, _, step, _, value = row
        float(value)
        return 0 <= int(step) <= LARGEST
    except ValueError:
        return False
