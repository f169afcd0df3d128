"""The command `tskd-jax`.

    tskd-jax run --config=hopper[:PRESET,LEVEL] [--config.SECTION.FIELD=VALUE …] [--workdir=DIR]
    tskd-jax sweep --config=hopper --grid=stitching.radius=0.1,0.2    runs over a grid of fields
    tskd-jax replay summary.json      repeats a run and says whether it matches
    tskd-jax report RUN               table, pictures and report.html of a finished run
    tskd-jax compare RUN RUN …        one table and pictures of several runs
    tskd-jax evaluate STUDENT …       returns of a student.npz in any environment of Gymnasium
    tskd-jax record STUDENT           films of its best, median and worst episode
    tskd-jax export STUDENT --format=onnx --out=FILE  a student for other machines and programs
    tskd-jax data FILE|NAME           one page about a dataset; data get NAME fetches one
    tskd-jax compile --for=h100 --config=hopper:paper  what a run takes of a chip that is not here
    tskd-jax bench --config=hopper      how fast its programs are on the devices that are here
    tskd-jax convert IN OUT.hdf5      a dataset in any format, as a file in D4RL's
    tskd-jax fields                   every field of a config, with range, meaning and source
    tskd-jax --version

`python -m tskd_jax …` is the same, and `python -m tskd_jax.main --config=…` is `tskd-jax run …`.
Add --help to a command for its flags.
"""

import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from contextlib import nullcontext

from tskd_jax import __version__
from tskd_jax.cli.outcome import ending_at_once, run_to_exit_status
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request

COMMANDS = (
    *("run", "sweep", "replay", "report", "compare", "evaluate", "record", "export"),
    *("data", "convert", "compile", "bench", "fields"),
)
AT_ONCE = ("report", "compare", "record", "export", "data", "convert", "fields")  # end by a signal
HELP = ("--help", "-h", "-help", "help")


def console() -> None:
    """The `tskd-jax` command."""
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Run a command line (`argv[0]` is the program) and return the exit status."""
    drawn_by = set_up()
    return run_to_exit_status(lambda request: _main(list(argv), request, drawn_by))


def set_up() -> str:
    """Set variables that libraries read on import; returns the backend for MuJoCo's rendering."""
    # Users need not see what dependencies print on import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Figures go to files, and the simulator has no window: display backends that a notebook or a
    # shell profile has set may need packages or devices that are missing.
    drawn_by = os.environ.get("MUJOCO_GL", "egl")
    os.environ |= {"MPLBACKEND": "Agg", "MUJOCO_GL": "disable"}
    # OpenBLAS's threads spin while they wait for the next product, on cores that simulators need:
    # limit that to 2^4 cycles. It does not change a single bit of a result.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    _open_closed_streams()
    # Characters that the terminal cannot show are replaced, and never end a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    return drawn_by


def _open_closed_streams() -> None:
    """Lead output to nowhere where the shell has closed it, as by `2>&-`: Python has None there."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(descriptor)
        except OSError:  # else a file that is opened later would get what C libraries say
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            os.set_inheritable(descriptor, True)
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _main(argv: list[str], request: Request, drawn_by: str) -> int:
    words = argv[1:]
    if not words or words[0] in HELP:
        print(help_text())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"tskd-jax {__version__}")
        return 0
    command = "run"
    if not words[0].startswith("-"):
        command = words.pop(0)
    if command not in COMMANDS:
        raise ConfigError(f"{command!r} is no command; one of {', '.join(COMMANDS)}; see --help")
    if command == "record":
        import mujoco  # noqa: F401  # fails if MUJOCO_GL names a missing backend

        os.environ["MUJOCO_GL"] = drawn_by
    with ending_at_once(request) if command in AT_ONCE else nullcontext():
        module = importlib.import_module(f"{__name__}.{command}")
        return module.main([argv[0], *words], request)


def help_text() -> str:
    """The help text: commands, methods and presets, on one screen."""
    from tskd_jax.methods import METHODS
    from tskd_jax.presets import PRESETS

    indent = "    "
    methods = textwrap.fill(
        ", ".join(METHODS), 100, initial_indent=indent, subsequent_indent=indent
    )
    return (
        f"{(__doc__ or '').strip()}\n\nPresets: {', '.join(PRESETS)}.\n"
        f"Methods (--config.methods=NAME,NAME; tskd-jax fields says what each does):\n{methods}"
    )
