"""The fuzzing script on a few files of each kind; thousands are for the night."""

from tiny import run_script


def test_right_or_refused():
    output = run_script("hardening.fuzz", "--datasets=30", "--students=60", "--seed=1")
    assert "30 files of kind dataset, seed 1: 0 wrong" in output
    assert "60 files of kind student, seed 1: 0 wrong" in output
    assert "loaded" in output
    assert "refused" in output
