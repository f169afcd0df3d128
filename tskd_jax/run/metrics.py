"""metrics.csv and tensorboard/: loss, norms and rate of every training, each step once.

A training is named by its stage and the beginning of that stage's key: names may repeat.
"""

import csv
import io
import shutil
from pathlib import Path

from tskd_jax.run.files import replacing
from tskd_jax.run.folder import KEY_DIGITS

HEADER = ["stage", "key", "step", "metric", "value"]


class Metrics:
    """The metrics of a run's folder. The CSV file leads; tensorboard/ is made from it."""

    def __init__(self, folder: Path):
        self._path = folder / "metrics.csv"
        self._board = folder / "tensorboard"
        self._writer = None
        self._keys: dict[str, str] = {}

    def log(self, name: str, key: str, step: int, metrics: dict[str, float]) -> None:
        """Note the metrics of a training after so many steps."""
        training = [name, key[:KEY_DIGITS], str(step)]
        rows = [[*training, metric, f"{value:.6g}"] for metric, value in metrics.items()]
        if self._writer is None:
            self._begin()
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows] if new else rows)
        self._draw(rows)

    def forget_after(self, name: str, key: str, step: int) -> None:
        """Drop what a training noted behind that step: it goes on from there."""
        if not self._path.exists():
            return
        training = [name, key[:KEY_DIGITS]]
        kept = [row for row in self._rows() if row[:2] != training or int(row[2]) <= step]
        text = io.StringIO(newline="")
        csv.writer(text).writerows([HEADER, *kept])
        if text.getvalue().encode() == self._path.read_bytes():
            return
        self.close()
        with replacing(self._path) as path:
            path.write_bytes(text.getvalue().encode())

    def close(self) -> None:
        """Flush what is buffered."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _begin(self) -> None:
        from tensorboardX import SummaryWriter

        shutil.rmtree(self._board, ignore_errors=True)
        self._writer = SummaryWriter(str(self._board))
        if self._path.exists():
            self._draw(self._rows())

    def _draw(self, rows: list[list[str]]) -> None:
        assert self._writer is not None
        for name, key, step, metric, value in rows:
            # A second training of that name needs another curve.
            curve = name if self._keys.setdefault(name, key) == key else f"{name}-{key}"
            self._writer.add_scalar(f"{curve}/{metric}", float(value), int(step))

    def _rows(self) -> list[list[str]]:
        """All rows but torn or altered ones: these numbers are for the eye, and no result."""
        lines = self._path.read_text(errors="replace").splitlines(keepends=True)
        return [row for row in csv.reader(filter(_is_whole, lines)) if _is_row(row)]


def _is_whole(line: str) -> bool:
    return line.endswith("\n")


def _is_row(row: list[str]) -> bool:
    try:
        _, _, step, _, value = row
        int(step), float(value)
    except ValueError:
        return False
    return True
