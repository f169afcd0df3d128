"""The table of what can be stitched, at a tiny scale, as a process."""

import csv
import itertools

from tiny import TINY_FLAGS, run_script


def test_it_searches_every_size_with_every_combination(dataset, tmp_path):
    run_script(
        "studies.stitching_share",
        *("--config=configs/hopper.py:quick", *TINY_FLAGS),
        *(f"--config.dataset.path={dataset}", f"--workdir={tmp_path / 'run'}"),
        *("--grid=stitching.rule=value_first,density_first", "--grid=stitching.radius=0.05,5.0"),
        *("--sizes=0,300", f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    combinations = itertools.product(("value_first", "density_first"), ("0.05", "5"))
    asked = [(row["stitching.rule"], row["stitching.radius"]) for row in rows]
    assert asked == 2 * list(combinations)
    whole, part = {row["transitions"] for row in rows[:4]}, {row["transitions"] for row in rows[4:]}
    assert len(whole) == len(part) == 1
    assert 300 <= int(*part) < int(*whole)
    shares = ("better_share", "stitched_share", "paths_share", "steps_share")
    shares_of = [{name: float(row[name]) for name in shares} for row in rows]
    # A state that passes has a better neighbour, and density first finds it wherever the best does.
    assert all(row["stitched_share"] <= row["better_share"] for row in shares_of)
    for near, far, first_near, first_far in (shares_of[:4], shares_of[4:]):
        assert near["better_share"] <= far["better_share"] > 0
        assert first_near["stitched_share"] >= near["stitched_share"]
        assert first_far["stitched_share"] >= far["stitched_share"]
    # A path takes a stitch if and only if some step does.
    assert all((row["paths_share"] > 0) == (row["steps_share"] > 0) for row in shares_of)
