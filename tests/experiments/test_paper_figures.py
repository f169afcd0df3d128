"""The paper's figures of scores: which runs they ask for, and that the same rows draw the same."""

import pytest
from tiny import import_script


@pytest.fixture
def asked(monkeypatch):
    """What is asked of the runs, each of which scores ten points more than the one before."""
    found = []

    def score(dataset, wanted, _request):
        found.append((dataset.label, wanted.method, dict(wanted.changes)))
        name = wanted.name or wanted.method
        return {"dataset": dataset.label, "name": name, "mean": 10.0 * len(found), "stderr": 1.0}

    monkeypatch.setattr(import_script("paper.runs"), "score", score)
    return found


def test_figure_3(asked, tmp_path):
    figure3 = import_script("paper.figure3")
    rows = figure3.collect(["hopper", "walker2d"], None)
    assert asked[:3] == [
        ("hopper-embedded", "tskd", {"stitching.enabled": False}),
        ("hopper-embedded", "mbts", {}),
        ("hopper-embedded", "tskd", {}),
    ]
    assert [row["mean"] for row in rows] == [10, 20, 30, 40, 50, 60]
    check_drawing(figure3, rows, tmp_path)


def test_figure_4(asked, tmp_path):
    figure4 = import_script("paper.figure4")
    rows = figure4.collect(["hopper"], [0, 60, 120], None)
    assert [changes for *_, changes in asked] == [
        {"imagination.enabled": False},
        {"imagination.trajectories": 60},
        {"imagination.trajectories": 120},
    ]
    assert len({row["name"] for row in rows}) == 3
    check_drawing(figure4, rows, tmp_path)


def check_drawing(module, rows, folder):
    """The same rows draw the same, others something else."""
    module.draw(rows, folder / "drawn")
    first = [(folder / f"drawn.{kind}").read_bytes() for kind in ("svg", "png")]
    module.draw(rows, folder / "drawn")
    assert [(folder / f"drawn.{kind}").read_bytes() for kind in ("svg", "png")] == first
    module.draw([row | {"mean": 5.0} for row in rows], folder / "drawn")
    assert (folder / "drawn.svg").read_bytes() != first[0]
