"""The sampling benchmark, at a tiny scale, as a process."""

import csv
import json

import pytest
from tiny import run_script

pytestmark = pytest.mark.slow


def test_it_measures_batches_samplers_and_dtypes(tmp_path):
    run_script(
        "benchmarks.sampling",
        "--networks=quick",
        *("--batches=1,2", "--samplers=ancestral:100,dpm++:2", "--at_batch=2", "--repeats=1"),
        *("--horizon=8", "--strides=1,4", "--budget=0.001", f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The network's own sampler at two batches, two others, bfloat16, and a warm start (0.3 of the
    # levels instead of 0.94); each at two strides.
    cases = [(row["sampler"], row["steps"], row["dtype"], row["batch"]) for row in rows[::2]]
    assert cases == [
        ("ddim", "10", "float32", "1"),
        ("ddim", "10", "float32", "2"),
        ("ancestral", "100", "float32", "2"),
        ("dpm++", "2", "float32", "2"),
        ("ddim", "10", "bfloat16", "2"),
        ("ddim", "3", "float32", "2"),
    ]
    for one, four in zip(rows[::2], rows[1::2], strict=True):
        assert (one["stride"], four["stride"]) == ("1", "4")
        per_step = [float(row["milliseconds_per_environment_step"]) for row in (one, four)]
        assert abs(per_step[0] / per_step[1] - 4) < 1e-3
        assert 0 < float(one["share_of_matmul_peak"]) < 2
    assert [row["warm_start"] for row in rows[::2]] == ["0"] * 5 + ["0.3"]
    content = json.loads((tmp_path / "tiny.json").read_text())
    assert len(content["rows"]) == len(rows)
    assert content["matmul_peak_gflops"].keys() == {"float32", "bfloat16"}
    assert (tmp_path / "tiny.png").stat().st_size > 0
