"""The benchmark of a student's forms, shortly, as a process."""

import csv

from tiny import run_script

from tskd_jax.export import c_header, missing


def test_each_form_is_timed_and_plays(tmp_path):
    printed = run_script(
        "benchmarks.policy_forms",
        *("--repeats=3", "--calls=4", "--episodes=2"),
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = ["numpy", "numpy, two rows"]
    expected += [] if missing("stablehlo") else ["jax"]
    expected += [] if missing("onnx") else ["onnx"]
    expected += [] if missing("tflite") else ["tflite"]
    expected += ["c", "c, int8"] if c_header.find_compiler() else []
    assert [row["form"] for row in rows] == expected
    for row in rows:
        assert 0 < float(row["fastest_tenth"]) <= float(row["microseconds"]) < 1e5
        assert 70_000 < int(row["file_bytes"]) < 2_000_000
        assert row["parameters"] == "69635"
        # A random student falls before rounding counts.
        if "int8" not in row["form"]:
            assert float(row["largest_from_numpy"]) < 0.01
            assert float(row["action_on_numpys_path"]) < 1e-5
    assert "microseconds" in printed
