"""`tskd-jax evaluate`: what it finds, prints and keeps, and one line for what is wrong.

Over 300 lines: all of it looks at one run's folder, with the students in it.
"""

import csv
import errno
import itertools
import json
import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import processes
import pytest

from tskd_jax.cli import main, student_files
from tskd_jax.cli.evaluate import Place, play_all
from tskd_jax.contract import Contract
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import episode_seeds, record
from tskd_jax.errors import ConfigError, PolicyError
from tskd_jax.machine.signals import Interrupted
from tskd_jax.policy import Bounds, Policy, load_policy, save_policy
from tskd_jax.report import episodes
from tskd_jax.report.summary import task_facts
from tskd_jax.run import files


def student(seed: int = 0, state_size: int = 11, action_size: int = 3) -> Policy:
    rng = np.random.default_rng(seed)
    sizes = (state_size, 32, action_size)
    weights = tuple(
        rng.normal(scale=0.3, size=pair).astype(np.float32) for pair in itertools.pairwise(sizes)
    )
    biases = tuple(rng.normal(scale=0.3, size=size).astype(np.float32) for size in sizes[1:])
    return Policy(weights, biases, Bounds.symmetric(1.0, action_size))


@pytest.fixture
def run(tmp_path):
    """The folder of a run with three students, as far as the command looks at it."""
    folder = tmp_path / "run"
    for method in ("bc", "tskd"):
        (folder / "students" / method).mkdir(parents=True)
        for seed in (0, 2, 10):
            save_policy(folder / "students" / method / f"seed_{seed}.npz", student(seed))
    save_policy(folder / "student.npz", student(2))
    (folder / "config.json").write_text("{}")
    notes = {"task": task_facts(get_task("hopper"))}
    files.write_sealed(folder / "manifest.json", {"notes": notes})
    return folder


def evaluate(*words) -> int:
    return main(["tskd-jax", "evaluate", *map(str, words)])


def refused(capsys, *words) -> str:
    """The only line that a command says."""
    assert evaluate(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_what_a_run_calls_a_score(run, tmp_path, capsys):
    # The same episodes as of `record`, to the bit, in two processes too, and D4RL's score of them.
    task, seeds = get_task("hopper"), episode_seeds(3, 4)
    policy = load_policy(run / "student.npz")
    expected = record(lambda observations, *_: policy(observations), task, seeds)
    for workers in (1, 2):
        out = tmp_path / f"{workers}.csv"
        flags = ("--episodes=4", "--seed=3", f"--workers={workers}", f"--out={out}")
        assert evaluate(run, *flags) == 0
        with out.open() as file:
            rows = list(csv.DictReader(file))
        assert [int(row["seed"]) for row in rows] == seeds
        assert [int(row["episode"]) for row in rows] == [0, 1, 2, 3]
        assert [float(row["return"]) for row in rows] == expected.returns().tolist()
        assert [int(row["length"]) for row in rows] == expected.lengths.tolist()
        for row in rows:
            score = 100 * (float(row["return"]) + 20.272305) / (3234.3 + 20.272305)
            assert float(row["score"]) == pytest.approx(score)
            assert row["student"] == str(run / "student.npz")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Hopper-v4: 4 episodes"
    words = {line.split()[0]: line.split() for line in lines[4:7]}
    returns = expected.returns()
    error = returns.std(ddof=1) / 2
    assert words["return"][1:4] == [f"{returns.mean():.1f}", "±", f"{error:.1f}"]
    ends = [f"{returns.min():.1f}", f"{np.median(returns):.1f}", f"{returns.max():.1f}"]
    assert words["return"][-3:] == ends
    assert words["length"][1] == f"{expected.lengths.mean():.1f}"
    assert words["score"][1] == f"{task.normalized_score(returns.mean()):.1f}"


def test_several_students(run, tmp_path, capsys):
    out = tmp_path / "returns.npz"
    assert evaluate(run / "students" / "tskd", "--episodes=3", f"--out={out}") == 0
    with np.load(out) as kept:
        names, seeds, returns = kept["student"], kept["seed"], kept["return"]
        assert kept["length"].shape == kept["score"].shape == (3, 3)
    assert [name.rpartition("/")[2] for name in names] == [
        "seed_0.npz",
        "seed_2.npz",
        "seed_10.npz",
    ]
    assert seeds.tolist() == episode_seeds(0, 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"Hopper-v4: 3 students × 3 episodes, of {run / 'students' / 'tskd'}"
    scores = get_task("hopper").normalized_score(returns)
    for line, name, own in zip(lines[4:7], (0, 2, 10), scores, strict=True):
        error = own.std(ddof=1) / np.sqrt(3)
        assert line.split()[:4] == [f"seed_{name}.npz", f"{own.mean():.1f}", "±", f"{error:.1f}"]
    # All together: over the students.
    means = scores.mean(1)
    error = means.std(ddof=1) / np.sqrt(3)
    (line,) = [line for line in lines if line.startswith("score")][1:]
    assert line.split()[1:4] == [f"{means.mean():.1f}", "±", f"{error:.1f}"]


def test_a_pattern_names_what_fits(run):
    found = student_files.find([f"{run}/students/*/seed_?.npz"])
    assert [str(path.relative_to(run)) for path in found] == [
        f"students/{method}/seed_{seed}.npz" for method in ("bc", "tskd") for seed in (0, 2)
    ]
    with pytest.raises(ConfigError, match="no file or folder fits"):
        student_files.find([f"{run}/*.onnx"])
    with pytest.raises(ConfigError, match=r"seed_0\.npz: given twice"):
        student_files.find([f"{run}/students/bc/seed_0.npz", f"{run}/students/../students/bc"])


def test_an_environment_of_ours_or_of_gymnasium(run, tmp_path, capsys):
    # Where nobody has set the ends of the score there are returns alone.
    assert evaluate(run, "--env=hopper", "--episodes=2") == 0
    assert "\nscore" in capsys.readouterr().out
    assert evaluate(run, "--env", "Hopper-v5", "--episodes", "2") == 0
    said = capsys.readouterr().out
    assert "Hopper-v5: 2 episodes" in said
    assert "\nscore" not in said
    # A Dict, whose parts stand side by side in the order of the space.
    path = tmp_path / "pendulum.npz"
    save_policy(path, student(0, 3, 1))
    assert evaluate(path, "--env=Pendulum-v1", "--episodes=2", "--max_steps=20") == 0
    assert "length" in capsys.readouterr().out


def test_a_dict_of_observations(tmp_path, capsys):
    path = tmp_path / "dict.npz"
    save_policy(path, student(0, 3, 1))
    assert evaluate(path, "--env=envs.odd_environments:odd/Dict-v0", "--episodes=2") == 0
    # Four steps with the reward 1.
    line = next(line for line in capsys.readouterr().out.splitlines() if line[:6] == "return")
    assert line.split()[1:4] == ["4.0", "±", "0.0"]


def test_an_environment_without_an_end_needs_one(tmp_path, capsys):
    path = tmp_path / "odd.npz"
    save_policy(path, student(0, 2, 1))
    name = "envs.odd_environments:odd/Endless-v0"
    line = refused(capsys, path, f"--env={name}")
    assert line == f"tskd-jax: {name}: its episodes have no limit; give one, as --max_steps=1000"
    assert evaluate(path, f"--env={name}", "--max_steps=7", "--episodes=1") == 0
    said = capsys.readouterr().out
    # Of one episode nobody knows how sure that is.
    assert said.splitlines()[4].split() == ["return", *["7.0"] * 5]


def test_no_environment_is_asked_for(run, tmp_path, capsys):
    save_policy(tmp_path / "lonely.npz", student())
    line = refused(capsys, tmp_path / "lonely.npz")
    assert "lonely.npz: says of no environment; name one, as --env=Hopper-v4" in line
    notes = {"task": task_facts(get_task("hopper")) | {"gymnasium_id": ""}}
    files.write_sealed(run / "manifest.json", {"notes": notes})
    assert "student.npz: says of no environment; name one" in refused(capsys, run)


def test_a_contract_says_it_where_no_run_does(tmp_path, capsys):
    bounds = {"action_low": (-1.0,) * 3, "action_high": (1.0,) * 3}
    contract = Contract(11, 3, **bounds, environment="Hopper-v4")
    save_policy(tmp_path / "travelled.npz", student(), contract)
    assert evaluate(tmp_path / "travelled.npz", "--episodes=2") == 0
    said = capsys.readouterr().out
    assert "Hopper-v4: 2 episodes" in said
    assert "\nscore" in said


def test_the_config_says_it_where_an_older_run_does_not(run):
    files.write_sealed(run / "manifest.json", {"notes": {}})
    (run / "config.json").write_text(json.dumps({"environment": {"name": "hopper"}}))
    path = run / "students/bc/seed_0.npz"
    assert student_files.task_of(path, load_policy(path))["gymnasium_id"] == "Hopper-v4"


def test_runs_of_different_environments(run, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    save_policy(other / "student.npz", student(0, 17, 6))
    (other / "config.json").write_text("{}")
    notes = {"task": task_facts(get_task("walker2d"))}
    files.write_sealed(other / "manifest.json", {"notes": notes})
    line = refused(capsys, run, other)
    assert "students of Hopper-v4 and Walker2d-v4; give one of them as --env" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "takes students: FILE.npz, or the folder of a run"),
        (["RUN", "--env=HalfCheetah-v4"], "takes 11 observations and gives 3 actions, but Half"),
        (["RUN", "--env=Hopper-v99"], "Hopper-v99: Gymnasium cannot make it"),
        (["RUN", "--env=nothing:Hopper-v4"], "nothing:Hopper-v4: Gymnasium cannot make it"),
        (["RUN", "--env=CartPole-v1"], "CartPole-v1: its actions are Discrete(2)"),
        (["RUN", "--episodes=0"], "--episodes=0: 0 is not a positive integer"),
        (["RUN", "--episodes=many"], "many"),
        (["RUN", "--seed=-1"], "seed=-1"),
        (["RUN", "--episode=3"], "Unknown command line flag 'episode'. Did you mean: episodes"),
        (["RUN", "--out=returns.txt"], "returns.txt: name it FILE.csv or FILE.npz"),
        (["RUN", "--out=RUN/student.npz"], "student.npz: is there already; remove it"),
        (["RUN", "--out=RUN/student.npz/returns.csv"], "returns.csv: cannot be written ("),
        (["RUN", "--out="], "--out= has no value (an unset variable?); leave it out"),
        (["RUN", "--env="], "--env= has no value (an unset variable?); leave it out"),
        (["RUN/returns.npz"], "returns.npz: not a student file"),
        (["RUN/students"], "holds no student; name one of"),
        (["RUN/damaged.npz"], "damaged.npz: not a student file"),
        (["RUN/missing.npz"], "missing.npz: no such file or folder"),
        (["~nobody-of-this-name/a.npz"], "a.npz: no such file or folder"),
        (["RUN", "--out=~nobody-of-this-name/a.txt"], "a.txt: name it FILE.csv or FILE.npz"),
        (["RUN", "RUN/student.npz"], "student.npz: given twice"),
    ],
)
def test_what_is_wrong_is_one_line(run, words, said, capsys):
    np.savez(run / "returns.npz", tskd=np.zeros((2, 3)))
    (run / "damaged.npz").write_bytes((run / "student.npz").read_bytes()[:700])
    line = refused(capsys, *(word.replace("RUN", str(run)) for word in words))
    assert said in line


def test_the_target_is_tried_without_leaving_anything(run, capsys):
    before = sorted(run.rglob("*"))
    refused(capsys, run, "--env=Hopper-v99", f"--out={run / 'new/folder/returns.csv'}")
    assert sorted(run.rglob("*")) == before


def test_a_full_disk_does_not_take_the_table_away(run, tmp_path, monkeypatch, capsys):
    def full(_played, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(episodes, "write", full)
    assert evaluate(run, "--episodes=2", f"--out={tmp_path / 'returns.csv'}") == 2
    said = capsys.readouterr()
    assert "Hopper-v4: 2 episodes" in said.out
    assert "returns.csv: No space left on device" in said.err


def test_a_run_without_a_student(run, capsys):
    (run / "student.npz").unlink()
    assert "a run without student.npz: it is not finished, or its last" in refused(capsys, run)


def test_an_environment_that_fails_is_one_line(tmp_path, capsys):
    path = tmp_path / "odd.npz"
    save_policy(path, student(0, 2, 1))
    name = "envs.odd_environments:odd/Failing-v0"
    line = refused(capsys, path, f"--env={name}", "--max_steps=9", "--episodes=1")
    assert "the environment itself fails (ZeroDivisionError: no friction)" in line


def test_a_damaged_run_is_one_line(run, capsys):
    for name in ("manifest.json", "manifest.copy.json"):
        (run / name).write_text("{")
    assert refused(capsys, run).endswith("; give --env=ID")
    assert evaluate(run, "--env=Hopper-v4", "--episodes=1") == 0


def test_a_request_to_stop_is_heard_between_two_steps():
    place = Place("Hopper-v4", 1000, (None, None))
    request = SimpleNamespace(signum=signal.SIGTERM)
    with pytest.raises(Interrupted, match="after 1 of at most 1000 steps"):
        play_all([student()], place, [1, 2], 1, request)


def test_interrupted_it_says_so_and_leaves_nothing(run, tmp_path):
    path, out = tmp_path / "odd.npz", tmp_path / "returns.csv"
    save_policy(path, student(0, 2, 1))
    started = tmp_path / "started"
    name = "envs.odd_environments:odd/Slow-v0"
    flags = (f"--env={name}", "--max_steps=1000000", "--workers=2", f"--out={out}")
    command = [sys.executable, "-m", "tskd_jax", "evaluate", str(path), *flags]
    environment = {**os.environ, "PYTHONPATH": "tests", "STARTED": str(started)}
    process = processes.start(command, env=environment)
    processes.wait_until(started.exists, process)
    process.send_signal(signal.SIGINT)
    status, printed, err = processes.finish(process)
    assert (status, printed) == (130, "")
    (line,) = processes.messages(err)
    assert line.startswith("tskd-jax: SIGINT: stopped after ")
    assert line.endswith(" of at most 1000000 steps; nothing is kept")
    assert not out.exists()


def test_help(capsys):
    assert evaluate("--help") == 0
    said = capsys.readouterr().out
    assert "STUDENT" in said
    assert "--episodes" in said


def test_missing_students_are_policy_errors(tmp_path):
    with pytest.raises(PolicyError, match="holds no student"):
        student_files.find([str(tmp_path)])
