"""metrics.csv and tensorboard/: loss, norms and rate of every training, each step once."""

import csv
import io
import shutil
from pathlib import Path

from tskd_jax.run.files import replacing

HEADER = ["stage", "step", "metric", "value"]


class Metrics:
    """The metrics of a run's folder. The CSV file leads; tensorboard/ is made from it."""

    def __init__(self, folder: Path):
        self._path = folder / "metrics.csv"
        self._board = folder / "tensorboard"
        self._writer = None

    def log(self, name: str, step: int, metrics: dict[str, float]) -> None:
        """Note the metrics of a training after so many steps."""
        rows = [[name, str(step), metric, f"{value:.6g}"] for metric, value in metrics.items()]
        if self._writer is None:
            self._begin()
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows] if new else rows)
        self._draw(rows)

    def forget_after(self, name: str, step: int) -> None:
        """Drop what a training noted behind that step: it goes on from there."""
        if not self._path.exists():
            return
        kept = [row for row in self._rows() if row[0] != name or int(row[1]) <= step]
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
        for name, step, metric, value in rows:
            self._writer.add_scalar(f"{name}/{metric}", float(value), int(step))

    def _rows(self) -> list[list[str]]:
        """All rows but torn or altered ones: these are figures for the eye, and no result."""
        lines = self._path.read_text(errors="replace").splitlines(keepends=True)
        return [row for row in csv.reader(filter(_is_whole, lines)) if _is_row(row)]


def _is_whole(line: str) -> bool:
    return line.endswith("\n")


def _is_row(row: list[str]) -> bool:
    try:
        _, step, _, value = row
        int(step), float(value)
    except ValueError:
        return False
    return True
