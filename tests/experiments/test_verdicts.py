"""How the referee ranks students: folders written by hand, and correlations that are known."""

import csv

import numpy as np
import pytest
from report.finished import ENDS, make_run
from tiny import run_script

from tskd_jax.run import files


def write_run(folder, data, scores, judged):
    """The files of a finished run that are read; (students, episodes) of each method."""
    make_run(folder, scores, dataset={"name": f"{data}.hdf5"})
    task = {"gymnasium_id": "Hopper-v4"} | ENDS
    files.write_sealed(folder / "manifest.json", {"notes": {"task": task}})
    np.savez(folder / "referee.npz", **{name: 2 * one for name, one in judged.items()})
    left = {name: np.array([[True, False], [False, False]]) for name in judged}
    np.savez(folder / "referee_left.npz", **left)


def test_students_and_robots(tmp_path):
    ones = np.ones(2)
    scores = {name: np.outer(two, ones) for name, two in (("bc", (1, 2)), ("tskd", (3, 4)))}
    judged = {name: np.outer(two, ones) for name, two in (("bc", (9, 7)), ("tskd", (8, 6)))}
    scores["planner"] = scores["tskd"]  # which nobody judges
    scores["twin"], judged["twin"] = scores["bc"], judged["bc"]
    write_run(tmp_path / "one", "a", scores, judged)
    agreed = {name: 10 * scores[name] for name in ("bc", "tskd")}
    write_run(tmp_path / "two", "b", scores, agreed)
    write_run(tmp_path / "again", "b", scores, agreed)  # as a run that reuses another's students
    flags = (f"--results={tmp_path}", "--name=first")
    run_script("studies.verdicts", f"--runs={tmp_path}/one", *flags)
    runs = f"--runs={tmp_path}/two,{tmp_path}/again"
    known = f"--known={tmp_path}/first.csv"
    run_script("studies.verdicts", runs, known, f"--results={tmp_path}", "--name=all")
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert [(row["data"], row["method"], row["seed"]) for row in rows] == [
        (data, method, seed) for data in "ab" for method in ("bc", "tskd") for seed in "01"
    ]
    assert [float(row["left"]) for row in rows[:2]] == [0.5, 0.0]
    hopper, everything = csv.DictReader((tmp_path / "all-robots.csv").open())
    assert (hopper["files"], hopper["students"]) == ("2", "8")
    # Ranks 1 2 3 4 against 4 2 3 1: 1 - 6 (9 + 0 + 0 + 9) / 60; and against themselves: 1.
    assert float(hopper["spearman_within"]) == pytest.approx((-0.8 + 1) / 2)
    # In the first file the world likes the worst student best, in the second the best.
    assert float(hopper["missed"]) == pytest.approx((3 + 0) / 2)
    assert everything["spearman"] == hopper["spearman"]
    first, second = csv.DictReader((tmp_path / "all-files.csv").open())
    assert (first["data"], second["data"]) == ("a", "b")
    # The first file's favourite is the worst of its students, of whose episodes half left.
    assert [float(first[name]) for name in ("best", "liked", "liked_judged", "missed")] == [
        pytest.approx(float(value))
        for value in (rows[3]["score"], rows[0]["score"], rows[0]["judged"], 3)
    ]
    assert float(first["liked_left"]) == 0.5
    known, unknown = csv.DictReader((tmp_path / "all-trust.csv").open())
    assert (known["left_from"], known["left_to"], known["students"]) == ("0", "0", "4")
    assert (unknown["left_from"], unknown["left_to"], unknown["students"]) == ("0.15", "1", "4")
    off = [abs(float(row["judged"]) - float(row["score"])) for row in rows if row["left"] == "0.5"]
    assert float(unknown["mean_error"]) == pytest.approx(np.mean(off))
    assert float(unknown["median_error"]) == pytest.approx(np.median(off))
    assert float(unknown["far"]) == np.mean(np.array(off) > 20)
