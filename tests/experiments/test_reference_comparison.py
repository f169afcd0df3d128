"""Our scores against d3rlpy's: what counts as agreement, and one comparison from a CSV."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from tiny import ROOT, import_script, run_script

from tskd_jax.errors import ConfigError

comparison = import_script("studies.reference_comparison")
EPISODES = "--set=evaluation.episodes="
HEAD = "dataset,method,seed,updates,batch_size,seconds,returns\n"


def test_agreement_by_hand():
    """Of 1, 2, 3 and of 11, 12, 13 the half-widths are 4.3027 / √3 = 2.484 each."""
    ones = np.array([1.0, 2.0, 3.0])
    near, far = (comparison.compare(ones, ones + by) for by in (4.9, 5.0))
    np.testing.assert_allclose(near["ours_half"], 2.4841, rtol=1e-4)
    assert (near["difference"], near["inside"]) == (pytest.approx(-4.9), True)
    assert not far["inside"]


def test_rows_of_several_lengths_are_refused(tmp_path):
    path = tmp_path / "found.csv"
    path.write_text(HEAD + "x,bc,0,20,64,2.0,1 2\nx,bc,1,30,64,2.0,1 2\n")
    with pytest.raises(ConfigError, match="bc on x with several numbers of updates"):
        comparison.read_reference(str(path))


def test_a_comparison(dataset, tmp_path):
    label = dataset.stem
    rows = "".join(f"{label},bc,{seed},20,64,2.0,{100 + seed} 120\n" for seed in (0, 1))
    (tmp_path / "found.csv").write_text(HEAD + rows)
    argv = [f"--reference={tmp_path}/found.csv", f"--datasets=hopper:{dataset}", "--scale=paper"]
    argv += [EPISODES + "2", f"--workdir={tmp_path}/runs", f"--results={tmp_path}"]
    run_script("studies.reference_comparison", *argv)
    with (tmp_path / "d3rlpy.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["data"], row["method"], row["seeds"]) == (label, "bc", "2")
    assert (row["updates"], row["batch_size"]) == ("20", "64")
    theirs = 100 * (np.mean([100, 101, 120, 120]) + 20.272305) / (3234.3 + 20.272305)
    np.testing.assert_allclose(float(row["theirs"]), theirs, rtol=1e-5)
    np.testing.assert_allclose(float(row["their_updates_per_second"]), 10.0)
    for change, said in (("--seeds=1,0", "has the seeds 0, 1"), (EPISODES + "3", "2 episodes")):
        command = [sys.executable, "-m", "experiments.studies.reference_comparison", *argv, change]
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert other.returncode == 2
        assert said in other.stderr
    difference = float(row["ours"]) - float(row["theirs"])
    np.testing.assert_allclose(float(row["difference"]), difference, atol=1e-3)
