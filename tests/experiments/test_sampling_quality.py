"""The comparison of fast samplers: its distance exactly, and the script at a tiny scale."""

import csv

import numpy as np
import pytest
from tiny import TINY_FLAGS, import_script, run_script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script():
    return import_script("studies.sampling_quality")


def test_energy_distance_by_hand(script):
    # X = {0, 2}, Y = {1, 5} on a line: 2 · (1 + 5 + 1 + 3)/4 - 2 - 4.
    x, y = np.array([[[0.0], [2.0]]]), np.array([[[1.0], [5.0]]])
    np.testing.assert_allclose(script.energy_distances(x, y), [-1.0])


def test_energy_distance_is_unbiased_between_equals_and_large_between_others(script):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 500, 8, 3))
    same = script.energy_distances(x, y)
    assert abs(same.mean()) < 4 * same.std() / np.sqrt(500)
    moved = script.energy_distances(x, y + 1.0)
    low, high = script.interval(moved)
    assert low < moved.mean() < high
    assert low > 0.5


def test_it_compares_every_way_with_the_reference(dataset, tmp_path):
    run_script(
        "studies.sampling_quality",
        *("--config=configs/hopper.py:quick", *TINY_FLAGS),
        *(f"--config.dataset.path={dataset}", f"--workdir={tmp_path / 'run'}"),
        *("--starts=2", "--samples=3", "--steps=2", "--strides=3,99", "--warm_starts=0.5"),
        *("--trajectories=2", "--episodes=1", f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sampling"] for row in rows] == [
        "reference",
        "config",
        "ancestral, 2 steps",
        "ddim, 2 steps",
        "dpm++, 2 steps",
        "bfloat16",
        "stride 3",  # 99 is longer than a plan
        "warm start 0.5",
    ]
    for row in rows:
        for when in ("first", "last"):
            values = [float(row[f"{name}_{when}"]) for name in ("low", "distance", "high")]
            assert np.isfinite(values).all()
            assert values == sorted(values)
        assert float(row["score_stderr"]) >= 0
        assert 0 < float(row["simulator"]) < 1e6
    # A stride changes nothing of the first step: it is the same plan.
    first = {row["sampling"]: float(row["distance_first"]) for row in rows}
    assert first["stride 3"] == pytest.approx(first["config"], rel=1e-3)
    assert (tmp_path / "tiny.png").stat().st_size > 0
