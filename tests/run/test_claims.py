"""A stage that several runs share: one process makes it, the others wait, or go on when it dies."""

import io
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_helpers import begin, train

from tskd_jax.machine.signals import Interrupted, Request

# Another run: after its first checkpoint at update 200 or later, its training waits for `go`.
MAKER = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
sys.path[:0] = sys.argv[2:]
import test_claims

def stand_still(step):
    if step >= 200:
        print(step, flush=True)
        while not (folder / "go").exists():
            time.sleep(0.02)

test_claims.make(folder, "one", after_save=stand_still)
"""


def line(began: list[int], after_save: Callable[[int], None], callbacks):
    """The weights of a training, and the update that it began at."""

    def restore(state):
        state = callbacks.restore(state)
        began.append(int(state.step))
        return state

    def save(state):
        callbacks.save(state)
        after_save(int(state.step))

    return train(replace(callbacks, save=save, restore=restore)).params["w"]


def make(
    folder: Path,
    name: str,
    after_save: Callable[[int], None] = lambda step: None,
    on_line: Callable[[str], None] = lambda line: None,
    request: Request | None = None,
    called: str = "line",
):
    """A run with one stage that all runs of the folder share, whatever they call it.

    Returns:
      (the weights; the update at which their training began here, none where it did not).
    """
    began: list[int] = []

    def stage(_config, callbacks):
        return {"w": np.asarray(line(began, after_save, callbacks))}, {}

    class Lines(io.StringIO):
        def write(self, text):
            on_line(text)
            return super().write(text)

    others = [folder / other for other in ("one", "two") if other != name]
    options = {"reuse": others, "claims": folder / "claims", "request": request}
    run = begin(folder / name, out=Lines(), **options)
    try:
        return run.stage(called, stage, None)["w"], began
    finally:
        run.close()


@pytest.fixture
def maker(tmp_path):
    """(the process of run `one`, the update of its last checkpoint)."""
    paths = [path for path in sys.path if Path(path).name in ("tests", "run")]
    paths.append(str(Path(__file__).parents[2]))
    process = subprocess.Popen(
        [sys.executable, "-c", MAKER, str(tmp_path), *paths], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process, int(process.stdout.readline())
    process.kill()
    process.wait()


def test_the_second_run_waits_and_takes_what_the_first_has_made(maker, tmp_path):
    (process, _), lines = maker, []

    def on_line(text):
        lines.append(text)
        if "waits for" in text:
            (tmp_path / "go").touch()

    weights, began = make(tmp_path, "two", on_line=on_line)
    assert began == []  # nothing was trained here
    assert any(
        f"waits for process {process.pid} on " in text and "in one" in text for text in lines
    )
    assert any("from one" in text for text in lines)
    assert process.wait() == 0
    np.testing.assert_array_equal(weights, make(tmp_path / "alone", "one")[0])
    assert list((tmp_path / "claims").iterdir()) == []


@pytest.mark.parametrize("called", ["line", "other.line"])
def test_a_dead_process_is_relieved_and_its_checkpoint_used(maker, tmp_path, called):
    (process, update), lines = maker, []

    def on_line(text):
        lines.append(text)
        if "waits for" in text:
            process.kill()

    weights, began = make(tmp_path, "two", on_line=on_line, called=called)
    assert began == [update]
    assert any("has ended without it" in text for text in lines)
    assert any("goes on from what one has left of it" in text for text in lines)
    np.testing.assert_array_equal(weights, make(tmp_path / "alone", "one")[0])
    # The run of the dead process, begun again, takes the stage over.
    assert make(tmp_path, "one")[1] == []
    assert list((tmp_path / "one").glob("training/*")) == []


def test_a_run_that_waits_can_be_ended(maker, tmp_path):
    request = Request()

    def on_line(text):
        if "waits for" in text:
            request.signum = signal.SIGTERM

    with pytest.raises(Interrupted, match="before line"):
        make(tmp_path, "two", on_line=on_line, request=request)
    assert maker[0].poll() is None
