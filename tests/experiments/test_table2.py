"""Table 2: everything that decides is timed, and the intervals are the median's."""

import csv

import numpy as np
import pytest
from tiny import import_script, run_script

from tskd_jax.report.published import planning_seconds

pytestmark = pytest.mark.slow

table2 = import_script("paper.table2_planning_time")


def test_all_are_timed_at_one_decision_and_at_ten(tmp_path):
    run_script(
        "paper.table2_planning_time",
        *("--scale=quick", "--decisions=5", "--budget=0.5", "--few=ddim:2"),
        f"--results={tmp_path}",
    )
    with (tmp_path / "quick.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    teacher = rows["DDR-I, 100 ancestral steps"]
    assert int(teacher["steps_timed"]) < int(teacher["network_evaluations"]) == 100
    student = rows["student, NumPy"]
    assert student["parameters"] == "69635"
    assert float(student["share_of_teacher"]) < 0.05
    assert float(rows["DDR-I, 2 ddim steps"]["share_of_teacher"]) < 0.5
    for row in rows.values():
        assert 0 < float(row["low"]) <= float(row["milliseconds"]) <= float(row["high"])
        lockstep = float(row["milliseconds_in_lockstep"])
        assert np.isclose(float(row["seconds_400"]), 0.4 * lockstep)
    text = (tmp_path / "quick.md").read_text()
    assert "236.89" not in text  # the paper's networks are of another size
    assert (tmp_path / "quick.png").stat().st_size > 5000


def test_the_median_is_within_its_interval_as_often_as_promised():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        low, high = table2.median_interval(list(rng.exponential(size=60)))
        hits += low <= np.log(2) <= high
    assert 0.94 < hits / 2000 < 0.98


@pytest.mark.parametrize(
    ("value", "text"),
    [(112628.4, "112,628"), (17.63, "17.6"), (2.0, "2"), (0.0107, "0.0107"), (2.9e-4, "0.00029")],
)
def test_figures_are_written_out(value, text):
    assert table2.figure(value) == text


def test_the_papers_figures_stand_beside_networks_of_its_size():
    row = {"method": "student", "published_as": "tskd", "parameters": 69635, "low": 1, "high": 3}
    row |= {"milliseconds": 2, "share_of_teacher": 0.001}
    row |= {f"seconds_{length}": 1 for length in table2.LENGTHS}
    line = table2.markdown([row], beside_the_papers=True).splitlines()[2]
    assert line.startswith("| student | 69,635 | 2 (1 … 3) | 0.1% | 1 (2.08) | 1 (4.16)")
    assert planning_seconds("decision_diffuser")[1000] == 1185.19
