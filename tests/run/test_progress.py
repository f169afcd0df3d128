"""Lines and bars of a run, whose terminal may vanish."""

import os
import pty

import pytest
from run.run_helpers import begin

from tskd_jax.run import progress
from tskd_jax.run.progress import Bar


@pytest.fixture
def terminal():
    """(a terminal's end for a program, what closes its window)."""
    window, inside = pty.openpty()
    with os.fdopen(inside, "w") as out:
        yield out, lambda: os.close(window)
        # What is left in it cannot be written.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, inside)
        os.close(nowhere)


def test_a_run_goes_on_without_its_terminal(tmp_path, terminal):
    out, close = terminal
    run = begin(tmp_path / "run", out=out)
    run.report("a line")
    close()
    with pytest.raises(OSError, match="Input/output error"):
        print("nobody reads this", file=out, flush=True)
    run.report("another line")
    run.close()


def test_a_bar_goes_on_without_its_terminal(terminal, monkeypatch):
    out, close = terminal
    bar = Bar(out, "values")
    bar.update(1, 4, {})
    close()
    bar.update(2, 4, {})
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)  # a closed terminal is none any more
    bar.update(3, 4, {})
    bar.update(4, 4, {})
