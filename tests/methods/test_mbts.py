"""MBTS+BC: what it is made of, the chain world that no recorded path crosses, and whole runs."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from methods.traced import trace
from stitching.chain_world import (
    TASK,
    A,
    clone,
    make_ensemble,
    make_recorded,
    make_value,
    reaches_goal,
)
from tiny import TINY_FLAGS

from tskd_jax.config import finalize, make_config
from tskd_jax.data.load import load_dataset
from tskd_jax.data.trajectories import STITCHED
from tskd_jax.main import main
from tskd_jax.methods.parts.pricing import GenerativePricing
from tskd_jax.methods.parts.stitching import stitching
from tskd_jax.models import cvae, wgan
from tskd_jax.policy import load_policy
from tskd_jax.stitching.successors import Config
from tskd_jax.training.callbacks import TrainingCallbacks

pytestmark = pytest.mark.slow

EPOCHS = [f"{part}.mbts.{epoch}" for epoch in range(5) for part in ("value", "stitching")]
MODELS = ["dynamics", "cvae", "wgan"]


def paper():
    return finalize(make_config("hopper", "paper,embedded"))[0]


def test_its_stages_and_its_own_rules_of_stitching(tiny_trajectories):
    run, outcome = trace("mbts", paper(), tiny_trajectories)
    assert list(run.keys) == [*MODELS, *EPOCHS, "student.mbts"]
    rules = run.configs["stitching.mbts.4"]
    assert (rules.candidates, rules.rule) == ("both", "density_first")
    # What TSKD does otherwise is as the paper's at its own place.
    assert (paper().stitching.candidates, paper().stitching.rule) == ("next", "value_first")
    assert (run.configs["dynamics"].elites, paper().dynamics.elites) == (5, 3)
    assert outcome.imagined is None
    assert not outcome.teachers
    # Nothing is filtered: all T trajectories are imitated, good or bad.
    assert len(outcome.data[0].lengths) == len(tiny_trajectories.lengths)


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"wgan.steps": 7}, {"wgan", *EPOCHS[1:], "student.mbts"}),
        ({"cvae.kl_weight": 0.5}, {"cvae", *EPOCHS[1:], "student.mbts"}),
        ({"stitching.radius": 0.3}, {*EPOCHS[1:], "student.mbts"}),
        ({"mbts.elites": 3}, {"dynamics", *EPOCHS[1:], "student.mbts"}),
        # TSKD's alone.
        ({"stitching.rule": "density_first", "stitching.epochs": 4, "dynamics.elites": 2}, set()),
        ({"filter.margin": 3.0, "inverse_dynamics.steps": 7, "imagination.enabled": False}, set()),
    ],
)
def test_what_a_field_changes(tiny_trajectories, changes, stages):
    before, _ = trace("mbts", paper(), tiny_trajectories)
    after, _ = trace("mbts", paper(), tiny_trajectories, changes)
    assert {name for name in before.keys if before.keys[name] != after.keys[name]} == stages


def test_with_its_elites_it_shares_the_ensemble_of_tskd(tiny_trajectories):
    same = {"dynamics.elites": 5}
    runs = [trace(name, paper(), tiny_trajectories, same)[0] for name in ("mbts", "tskd")]
    assert runs[0].keys["dynamics"] == runs[1].keys["dynamics"]


def test_it_reaches_a_goal_that_cloning_does_not():
    """Actions and rewards of the stitches are those of models trained on the recorded paths."""
    recorded, keys = make_recorded(), jax.random.key(1)[None]
    fast = {"batch_size": 64, "learning_rate": 3e-3, "schedule": "cosine"}
    of_actions = cvae.Config(**fast, steps=1500, hidden_small=(64, 64), kl_weight=0.01)
    of_rewards = wgan.Config(**fast, steps=1000, hidden=(32, 32))
    _, (held_out,) = cvae.training(of_actions, recorded, TASK, keys)
    # One of the nine copies of A, so that nothing is unknown.
    np.testing.assert_array_equal(recorded.observations[held_out], A[:-1])
    models = make_ensemble(), make_value()
    ensembles, values = jax.tree.map(lambda leaf: np.asarray(leaf)[None], models)
    pricing = GenerativePricing(
        ensembles,
        cvae.train(of_actions, recorded, TASK, keys=keys)[0],
        wgan.train(of_rewards, recorded, TASK, keys=keys)[0],
    )
    (stitched,), (metrics,) = stitching(
        *(Config(rule="density_first", candidates="both", radius=0.1), [recorded]),
        *(values, pricing, TASK, recorded),
        keys=keys,
        callbacks=TrainingCallbacks(),
    )
    assert metrics["trajectories_replaced"] == 10
    assert len(stitched.lengths) == 11
    # From bend to bend: 1.05 to the right, by half of it.
    generated = stitched.source == STITCHED
    np.testing.assert_allclose(
        stitched.actions[generated], np.tile([[0.525, 0]], (generated.sum(), 1)), atol=0.1
    )
    assert [reaches_goal(policy) for policy in clone(recorded)] == [False, False]
    assert [reaches_goal(policy) for policy in clone(stitched)] == [True, True]


def command(workdir: Path, dataset: Path, *more: str) -> list[str]:
    return [
        *("tskd-jax", "--config=hopper:quick", f"--config.dataset.path={dataset}"),
        *(f"--workdir={workdir}", *TINY_FLAGS, "--config.methods=bc,mbts"),
        *("--config.ablations=False", "--config.evaluation.simulator_check=0"),
        *("--config.cvae.hidden_small=(32,)", "--config.wgan.hidden=(32,)", *more),
    ]


def same_bytes(left: Path, right: Path) -> bool:
    with np.load(left) as a, np.load(right) as b:
        return all(a[name].tobytes() == b[name].tobytes() for name in a.files)


def test_a_run_stops_and_goes_on_to_the_same_students(dataset, tmp_path, capfd):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert main(command(whole, dataset)) == 0
    summary = json.loads((whole / "summary.json").read_text())
    assert list(summary["scores"]) == ["bc", "mbts"]
    assert "MBTS+BC" in capfd.readouterr().out
    assert {*MODELS, "value.mbts.0", "stitching.mbts.0"} <= set(summary["stages"])
    assert summary["stages"]["cvae"]["held_out_mse"] > 0
    assert load_policy(whole / "student.npz").parameters == 69_635
    assert len(load_dataset(whole / "stitched.hdf5").lengths) == 30
    for stage in ("wgan", "stitching"):
        assert main(command(pieces, dataset, f"--stop_after={stage}")) == 0
        assert f"stopped after {stage}" in capfd.readouterr().err
    assert main(command(pieces, dataset)) == 0
    for seed in (0, 1):
        student = f"students/mbts/seed_{seed}.npz"
        assert same_bytes(whole / student, pieces / student)
