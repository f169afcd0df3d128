"""The baselines' benchmark, shortly, as a process, without d3rlpy."""

import csv

from tiny import run_script


def test_it_measures_a_method(tmp_path):
    run_script(
        "benchmarks.baselines",
        *("--methods=bc", "--seeds=2", "--turns=1", "--chunks=1"),
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["method"], row["seeds"]) == ("bc", "2")
    assert float(row["per_second"]) > 0
    assert float(row["cpu_ms"]) > 0
    # 256 rows: each layer forward, its weights' gradient, and its input's but for the first.
    layers = (11 * 256, 256 * 256, 256 * 3)
    flops = 2 * 256 * (3 * sum(layers) - layers[0])
    assert abs(float(row["matmul_gflop"]) * 1e9 / flops - 1) < 1e-3
