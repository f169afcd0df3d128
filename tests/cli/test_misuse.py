"""Every subcommand, wrongly used: exit status 2, and one line that says what is wrong."""

import re

import numpy as np
import pytest

from tskd_jax.cli import COMMANDS, main
from tskd_jax.policy import Bounds, Policy, save_policy

MISTAKES = [
    ("run", "--config=.*is needed"),
    ("run words", "'words' is not understood"),
    ("run --config=none", "no config of that name"),
    ("run --config=hopper --workdir=", "--workdir= has no value"),
    ("run --config=hopper --reuse=", "--reuse= has no value"),
    ("run --config=hopper --stop_after=", "--stop_after= has no value"),
    ("sweep --config=hopper", "--grid=SECTION.FIELD=VALUE"),
    ("export HALF --format=npz --out=", "--out= has no value"),
    ("record HALF --out=", "--out= has no value"),
    ("compare HALF HALF --subject=", "--subject= has no value"),
    ("compile --config=hopper --for=", "--for= has no value"),
    ("bench --config=hopper --workdir=", "--workdir= has no value"),
    ("data FILE --plot=", "--plot= has no value"),
    ("sweep --config=hopper --grid=value.steps=7 --workdir=", "--workdir= has no value"),
    ("replay", "takes one summary.json"),
    ("replay RUN --workdir=", "--workdir= has no value"),
    ("replay RUN", "not the summary.json of a finished run"),
    ("replay HALF/summary.json", "not the summary.json of a finished run"),
    ("replay TORN/summary.json", "not the summary.json of a finished run"),
    ("replay FILE", "not the summary.json of a finished run"),
    ("report", "takes the folder of one run"),
    ("report NONE", "holds no finished run"),
    ("report HALF", "holds no finished run"),
    ("report FILE", "holds no finished run"),
    ("report TORN", "summary.json: damaged"),
    ("compare HALF", "two runs or more"),
    ("compare HALF TORN", "holds no finished run"),
    ("report ~nobody-of-this-name/a", "holds no finished run"),
    ("replay ~nobody-of-this-name/a", "not the summary.json of a finished run"),
    ("compare ~nobody-of-this-name/a HALF", "no folder"),
    ("record ~nobody-of-this-name/a.npz", "not a student file"),
    ("export ~nobody-of-this-name/a.npz --format=npz --out=a.npz", "not a student file"),
    ("run --config=~nobody-of-this-name/a.py", "a.py"),
    ("evaluate", "takes students"),
    ("evaluate NONE", "no such file or folder"),
    ("evaluate FILE", "not a student file"),
    ("evaluate HALF --env=Nope-v1", "Gymnasium cannot make it"),
    ("evaluate HALF --env=Ant-v5", "takes 11 observations"),
    ("record", "takes one student"),
    ("record HALF HALF", "takes one student"),
    ("record NONE", "not a student file"),
    ("record FILE", "not a student file"),
    ("record TORN --env=Hopper-v4", "summary.json: damaged"),
    ("export HALF", "--format=NAME is needed"),
    ("export FILE --format=npz --out=a.npz", "not a student file"),
    ("export NONE --format=npz --out=a.npz", "not a student file"),
    ("data", "no dataset is named"),
    ("data FILE", "not a readable npz file"),
    ("data get", "takes one name"),
    ("convert FILE", "takes two words"),
    ("convert FILE a.npz", "a.npz: name it FILE.hdf5"),
    ("compile --config=hopper", "--for=CHIP is needed"),
    ("compile --for=abacus --config=hopper", "no such chip; one of h100"),
    ("bench", "--config=NAME is needed"),
    ("bench --config=hopper --against=student.batchsize=3", "did you mean"),
    ("fields FILE", "takes no words"),
    ("nonsense", "is no command"),
]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Word -> what it stands for: runs that are half written or damaged, and no student."""
    monkeypatch.chdir(tmp_path)
    weights = (np.zeros((11, 3), np.float32),)
    policy = Policy(weights, (np.zeros(3, np.float32),), Bounds.symmetric(1.0, 3))
    for name in ("HALF", "TORN", "RUN"):
        (tmp_path / name).mkdir()
    for name in ("HALF", "TORN"):
        save_policy(tmp_path / name / "student.npz", policy)
    (tmp_path / "TORN/summary.json").write_text('{"config": {"methods"')
    (tmp_path / "FILE.npz").write_text("text")
    return {"FILE": "FILE.npz"}


def outcome(words: str, places: dict[str, str], capfd) -> str:
    argv = ["tskd-jax", *(places.get(word, word) for word in words.split())]
    assert main(argv) == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("words", "expected"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_line(words, expected, places, tmp_path, capfd):
    before = sorted(tmp_path.rglob("*"))
    line = outcome(words, places, capfd)
    assert re.search(expected, line), line
    assert "Traceback" not in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_flag_that_does_not_exist(command, places, capfd):
    assert "nonsense" in outcome(f"{command} --nonsense", places, capfd)


CODES = [
    ("import nothing_of_this_name", "line 1: ModuleNotFoundError: No module named"),
    ("def get_config(_=''):\n    return 1 / 0", "line 2: ZeroDivisionError: division by zero"),
    ("def get_config(_=''):\n    raise ValueError('a\\nb')", "line 2: ValueError: a b"),
    ("def get_config(_=''):\n    raise KeyError", "line 2: KeyError$"),
    ("import json\njson.loads('{')", "line 2: JSONDecodeError: Expecting"),
    ("def get_config(_='':\n    return 1", "line 1: SyntaxError: "),
    ("def get_config(_=''):\n    open('none')", "line 2: FileNotFoundError: .* 'none'"),
    ("import sys\n\nsys.exit('enough')", "line 3: SystemExit: enough"),
    (
        "from tskd_jax.config import make_config\n\n\ndef get_config(_=''):\n"
        "    config = make_config('hopper')\n    config.colour = 3\n    return config",
        "line 6: AttributeError: .Key .colour. does not exist",
    ),
]


@pytest.mark.parametrize(("code", "expected"), CODES)
@pytest.mark.parametrize("form", ["--config=FILE", "--config FILE", "--config=FILE:small"])
def test_code_of_a_config_that_fails(code, expected, form, places, tmp_path, capfd):
    (tmp_path / "robot.py").write_text(code)
    line = outcome(f"run {form.replace('FILE', 'robot.py')}", places, capfd)
    assert re.search(f"^tskd-jax: robot.py, {expected}", line), line
    assert len(line) < 300
