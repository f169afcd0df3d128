"""Data and settings at the edge of sense: the whole method runs and is finite everywhere."""

import json

import h5py
import numpy as np
import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.main import main

pytestmark = pytest.mark.slow

STATES, ACTIONS = 11, 3
TSKD = "--config.methods=tskd"
ONCE = (
    "--config.ablations=False",
    "--config.evaluation.episodes=1",
    "--config.evaluation.simulator_check=0",
    "--config.imagination.trajectories=6",
    "--config.trajectory_generator.context=5",
    "--config.sampling.replan_every=3",
)
# Imagination from the states that the filter keeps, as `small` has it.
ONE_STEP = (
    "--config.methods=tskd_one_step",
    "--config.tskd_one_step.states=6",
    "--config.trajectory_generator.residual=True",
    "--config.trajectory_generator.condition=advantage",
    "--config.trajectory_generator.kept_fraction=0.5",
    "--config.sampling.target_return=1.0",
)


def write(path, lengths, constant):
    """Episodes of those lengths, with ends by timeout; or as constant as they can be."""
    rng, rows = np.random.default_rng(0), sum(lengths)
    states = rng.normal(scale=0.1, size=(rows, STATES))
    states[:, 0] += 1.25  # a hopper that stands
    if constant:
        states[:, 3:] = 0.5
    timeouts = np.zeros(rows, bool)
    timeouts[np.cumsum(lengths) - 1] = True
    with h5py.File(path, "w") as file:
        file["observations"] = states
        file["next_observations"] = np.roll(states, -1, 0)
        file["actions"] = np.zeros((rows, ACTIONS)) if constant else rng.uniform(-1, 1, (rows, 3))
        file["rewards"] = np.ones(rows)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = timeouts
    return path


@pytest.mark.parametrize(
    ("lengths", "constant", "flags", "words"),
    [
        # Constant dimensions, one constant reward, all returns equal; a filter that keeps nothing.
        (
            [40] * 5,
            True,
            (
                "--config.filter.rule=margin",
                "--config.filter.margin=0.0",
                *ONE_STEP,
            ),
            ["keeps none of", "is used alone"],
        ),
        # Every trajectory shorter than the horizon (8) and than C (5); a radius that finds nothing.
        ([2] * 100, False, (TSKD, "--config.stitching.radius=0.0"), ["finds nothing"]),
    ],
    ids=["constant", "short"],
)
def test_runs_and_is_finite(tmp_path, capfd, lengths, constant, flags, words):
    workdir = tmp_path / "run"
    path = write(tmp_path / "a.hdf5", lengths, constant)
    argv = ["tskd-jax", f"--config={ROOT / 'configs/hopper.py'}", f"--workdir={workdir}"]
    argv += [f"--config.dataset.path={path}", *TINY_FLAGS, *ONCE, *flags]
    assert main(argv) == 0
    shown = capfd.readouterr().err
    for word in words:
        assert word in shown
    text = (workdir / "summary.json").read_text()
    summary = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in summary.json"))
    if ONE_STEP[0] in flags:
        # The one trajectory that is used alone (its 40 steps), and one imagined step from each of 6
        # of its states.
        (data,) = summary["methods"]["tskd_one_step"]["data"]
        assert (data["transitions"], data["imagined_transitions"]) == (40 + 6, 6)
    for student in workdir.glob("students/*/*.npz"):
        with np.load(student) as arrays:
            assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
    with h5py.File(workdir / "imagined.hdf5") as file:
        assert all(np.isfinite(file[key][()]).all() for key in ("observations", "rewards"))
    with np.load(workdir / "returns.npz") as returns:
        assert all(np.isfinite(returns[name]).all() for name in returns.files)
