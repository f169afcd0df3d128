"""The benchmark of loading, at a small scale: every format is read and measured."""

import csv

import pytest
from tiny import run_script

pytestmark = pytest.mark.slow


def test_every_format(tmp_path):
    flags = ("--rows=4000", "--format=hdf5,npz,csv,parquet", f"--results={tmp_path}", "--name=tiny")
    run_script("benchmarks.loading", *flags)
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["format"] for row in rows] == ["hdf5", "npz", "csv", "parquet"]
    for row in rows:
        assert float(row["seconds"]) > 0
        assert float(row["megabytes"]) > 0.5
    # The columns are held at least once while they are read.
    assert all(float(row["peak"]) > 1 for row in rows)
