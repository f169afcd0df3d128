"""A run's output: progress bars and lines."""

import logging
import time
from contextlib import suppress
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 30.0  # between two progress lines if the output is not a terminal


class Bar:
    """A progress bar on a terminal; elsewhere an occasional line."""

    def __init__(self, out, name: str):
        self._out, self._name = out, name
        self._bar = None
        self._printed = time.perf_counter()
        self._started: tuple[float, int] | None = None

    def update(self, done: int, total: int, metrics: dict[str, float]) -> None:
        """Show how much is done, and the estimated time for the rest."""
        with suppress(OSError):  # that the terminal is gone must not end a run
            self._show(done, total, metrics)

    def _show(self, done: int, total: int, metrics: dict[str, float]) -> None:
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
        if self._started is None:
            self._started = (now, done)
        if now - self._printed >= LINE_SECONDS and done < total:
            since, first = self._started
            rate = (done - first) / max(now - since, 1e-9)
            left = duration((total - done) / rate) if rate else "?"
            line = f"  {self._name}: {done}/{total}, {rate:.1f}/s, {left} left"
            print(f"{line}, {loss}" if loss else line, file=self._out, flush=True)
            self._printed = now


def quiet_dependencies() -> None:
    """Keep the libraries' own log lines off the screen."""
    for name in ("absl", "orbax", "jax", "gymnasium", "etils"):
        logging.getLogger(name).setLevel(logging.ERROR)


def duration(seconds: float) -> str:
    """A duration in readable form, such as 1h05m, 2m10s or 3.2s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{seconds:.1f}s"


def in_words(metrics: dict[str, Any]) -> str:
    """Format the numbers among a stage's metrics on one line."""
    shown = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in shown.items()
    )
