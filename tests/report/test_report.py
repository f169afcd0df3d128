"""The table and the pictures, from what a finished run has left."""

import json

import numpy as np
import pytest
from report.finished import make_run

from tskd_jax.main import main
from tskd_jax.report.summary import read
from tskd_jax.report.table import by_group, table


def summary(**changes):
    """Two seeds of three methods, of which the last is the subject; by hand."""
    scores = {"bc": (1.0, 3.0), "filtered_bc": (5.0, 5.0), "tskd": (8.0, 10.0)}
    methods = {
        name: {"title": title, "parameters": 69635, "seconds": 61.4, "student": student}
        for name, title, student in (
            ("bc", "BC", "a"),
            ("filtered_bc", "filtered BC (best 10%)", "b"),
            ("tskd", "TSKD", "c"),
        )
    }
    return {
        "dataset": {"name": "few"},
        "subject": "tskd",
        "methods": methods,
        "scores": {
            name: {
                "mean": float(np.mean(seeds)),
                "stderr": abs(seeds[0] - seeds[1]) / 2,
                "per_seed": list(seeds),
            }
            for name, seeds in scores.items()
        },
        "gains": {
            "bc": {"mean": 7.0, "interval": [-1.0, 15.0]},
            "filtered_bc": {"mean": 4.0, "interval": None},
        },
        "seconds": {"student.bc": 30.0, "student.tskd": 31.0, "dynamics": 9.0},
        "config": {"seeds": [0, 1], "evaluation": {"episodes": 10}},
    } | changes


def test_the_table_by_hand():
    lines = table(summary()).splitlines()
    assert lines[1] == "few: normalised score, mean ± standard error, 2 seeds × 10 episodes"
    assert lines[3].split("  ")[0] == "method"
    assert "TSKD gains (95%)" in lines[3]
    words = [line.split() for line in lines[4:7]]
    assert words[0][:8] == ["BC", "2.0", "±", "1.0", "+7.0", "(-1.0", "…", "+15.0)"]
    assert words[1][4:9] == ["5.0", "±", "0.0", "+4.0", "69,635"]
    assert words[2] == ["TSKD", "9.0", "±", "1.0", "69,635", "61"]
    assert lines[-1] == "seconds per stage: student 61, dynamics 9"
    # The columns stand below one another.
    assert len({len(line) for line in lines[3:7]}) == 1


def test_what_the_recorded_episodes_score_stands_below_by_hand():
    facts = {"name": "few", "return_mean": 70.0, "return_quantiles": {"0": 10.0, "100": 110.0}}
    task = {"gymnasium_id": "X-v1", "random_return": 10.0, "expert_return": 210.0}
    lines = table(summary(dataset=facts, task=task)).splitlines()
    assert "recorded episodes: 30.0 on average, the best 50.0" in lines
    # A robot without reference returns is scored by its returns.
    task |= {"random_return": None, "expert_return": None}
    lines = table(summary(dataset=facts, task=task)).splitlines()
    assert "recorded episodes: 70.0 on average, the best 110.0" in lines


def test_scores_in_the_learned_world_stand_beside_those_of_the_simulator():
    judged = {"bc": {"mean": 2.5, "stderr": 0.5, "per_seed": [2.0, 3.0], "left": 0.126}}
    lines = table(summary(referee=judged)).splitlines()
    assert lines[3].split()[-3:] == ["learned", "world", "left"]
    assert lines[4].split()[-4:] == ["2.5", "±", "0.5", "13%"]
    assert len({len(line) for line in lines[3:7]}) == 1


def test_what_is_said_without_a_simulator():
    errors = {"tskd": {"all": [0.5, 1.0], "better_half": [0.25, 0.25]}}
    within = {"bc": 0.995, "tskd": 0.5}
    agreement = {"referee": 0.875, "fitted_q": None}
    lines = table(
        summary(action_errors=errors, within_data=within, agreement=agreement)
    ).splitlines()
    assert lines[3].endswith("action error (better half)   in data")
    assert lines[4].endswith("100%")
    assert lines[6].split()[-3:] == ["0.75", "(0.25)", "50%"]
    assert len({len(line) for line in lines[3:7]}) == 1
    assert "action error of TSKD by dimension: 0.50 1.00" in lines
    assert "rank correlation with the simulator over students: learned world 0.88" in lines


@pytest.mark.parametrize(("chosen", "said"), [(True, 1), (False, 0)])
def test_which_student_is_given(chosen, said):
    lines = table(summary(student={"seed": 1, "chosen": chosen})).splitlines()
    line = "student.npz is that of seed 1, the best in the learned world"
    assert lines.count(line) == said


def test_the_same_students_gain_nothing():
    same = summary()
    same["methods"]["filtered_bc"]["student"] = "c"
    assert "0 (same students)" in table(same).splitlines()[5]


def test_one_seed_has_no_error():
    one = summary()
    one["scores"]["bc"] = {"mean": 2.0, "stderr": 0.0, "per_seed": [2.0]}
    assert "±" not in table(one).splitlines()[4]


def test_groups_are_summed_in_order():
    assert by_group({"a.x": 1.0, "b": 2.0, "a.y": 3.0}) == [("a", 4.0), ("b", 2.0)]


def refused(folder, capsys) -> str:
    """The only line that `report` says."""
    assert main(["tskd-jax", "report", str(folder)]) == 2
    said = capsys.readouterr()
    assert not said.out
    (line,) = said.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("{", "damaged"),
        ("", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "another version"),
        ("{}", "another version of tskd-jax (no 'dataset'); run it again"),
        ('{"dataset": 1}', "another version of tskd-jax ('dataset' is no object)"),
    ],
    ids=range(6),
)
def test_a_damaged_summary_is_one_line(tmp_path, capsys, broken, said):
    (tmp_path / "summary.json").write_text(broken)
    assert said in refused(tmp_path, capsys)


SECTIONS = ("gains", "methods", "scores", "seconds", "stages", "results", "versions", "device")


@pytest.mark.parametrize(
    "missing",
    [
        *SECTIONS,
        *("dataset.return_quantiles", "scores.tskd", "scores.bc.interval", "methods.tskd"),
        *("methods.bc.parameters", "gains.bc", "gains.bc.interval", "config.seeds"),
        *("config.evaluation.episodes", "task.gymnasium_id", "referee.bc.left"),
    ],
)
def test_what_a_summary_lacks_is_one_line(tmp_path, capsys, missing):
    judged = {"bc": {"mean": 1.0, "stderr": 0.0, "per_seed": [1.0], "left": None}}
    folder = make_run(tmp_path / "run", {"bc": [[1.0]], "tskd": [[2.0]]}, referee=judged)
    found = read(folder)
    section, *names = missing.split(".")
    inner = found
    for name in (section, *names)[:-1]:
        inner = inner[name]
    del inner[(section, *names)[-1]]
    (folder / "summary.json").write_text(json.dumps(found))
    line = refused(folder, capsys)
    assert "of another version of tskd-jax (no " in line
    assert (names or [section])[-1] in line
