"""The programs of a run, lowered and compiled for the devices that are here."""

import dataclasses

import jax
import numpy as np
import pytest

from tskd_jax.cli.comparison import comparisons
from tskd_jax.config import finalize, make_config
from tskd_jax.costs import report
from tskd_jax.costs.fresh import stand_in
from tskd_jax.costs.programs import programs_of
from tskd_jax.costs.report import Lowered
from tskd_jax.envs.entries import get_task
from tskd_jax.machine.chips import CHIPS

TASK = get_task("hopper")
# This machine's CPU in a GPU's place: figures to compute with, and no compiler to install.
HERE = dataclasses.replace(CHIPS["h100"], name="here", platform="cpu", peak={"float32": 1e12})


def small(preset, **sections):
    config = make_config("hopper", preset)
    network = {"features": 8, "multipliers": (1,), "batch_size": 4}
    config.trajectory_generator.update({**network, "horizon": 4})
    config.reward_generator.update({**network, "horizon": 4})
    for name in ("sampling", "reward_sampling"):
        config[name].update({"sampler": "ddim", "steps": 2})
    for name in ("baseline", "world", "dynamics", "value", "inverse_dynamics"):
        config[name].hidden = (8,)
    for name, fields in sections.items():
        config[name].update(fields)
    return finalize(config)[0]


@pytest.fixture(scope="module")
def recorded():
    return stand_in(TASK, 2500)


def programs(config, recorded):
    return {one.name: one for one in programs_of(config, comparisons(config), recorded, TASK)}


def test_noise_has_the_form_of_a_dataset(recorded):
    assert recorded.lengths.tolist() == [1000, 1000, 500]
    assert recorded.observations.shape == (2500, TASK.state_size)
    assert (np.abs(recorded.actions) <= 1).all()


def test_each_program_of_a_run_stands_once(recorded):
    config = small("paper", evaluation={"teacher_episodes": 3})
    found = programs(config, recorded)
    assert list(found) == [
        *("student", "inverse_dynamics", "trajectory_generator", "imagination", "dynamics"),
        *("reward_generator", "value.tskd_without_imagination.0", "stitching: search"),
        *("stitching: rewards", "evaluation.teacher"),
    ]
    # BC, filtered BC, TSKD and its variants; what stitches and imagines nothing is filtered BC.
    assert found["student"].times == 5 * config.student.steps
    assert found["trajectory_generator"].times == config.trajectory_generator.steps
    assert found["imagination"].times == TASK.episode_limit * 2  # 300 × 5 epochs, 512 at a time


@pytest.fixture(scope="module")
def quick(recorded):
    # A step in the learned world behind each plan, and students in it.
    return programs(small("quick", imagination={"chunk": 64}), recorded)


@pytest.mark.parametrize(
    "name", ["trajectory_generator", "imagination", "choices: students in the world"]
)
def test_a_program_is_measured(quick, name):
    one = Lowered(quick[name], HERE, jax.devices()[:1])
    row = one.compile()
    assert row["fits"]
    assert row["peak_bytes"] >= one.arguments > 0
    assert row["flops"] > 0
    assert row["kernels"] >= row["product"] + row["fusion"]
    assert row["bytes_moved"] > 0
    assert row["seconds"] >= row["flops"] / 1e12
    assert 0 < row["share_of_peak"] <= 1
    assert Lowered(quick[name], HERE, jax.devices()[:1]).key == one.key


def test_a_larger_program_has_another_key_and_more_work(recorded, quick):
    larger = programs(small("quick", trajectory_generator={"batch_size": 8}), recorded)
    ones = [Lowered(of["trajectory_generator"], HERE, jax.devices()[:1]) for of in (quick, larger)]
    assert ones[0].key != ones[1].key
    small_row, large_row = (one.compile() for one in ones)
    assert large_row["flops"] > 1.5 * small_row["flops"]


def test_what_is_larger_than_the_chip_does_not_fit(quick):
    tiny = dataclasses.replace(HERE, memory=1000)
    row = Lowered(quick["trajectory_generator"], tiny, jax.devices()[:1]).compile()
    assert not row["fits"]
    assert "does not fit" in report.line(row)
    assert report.total([row | {"times": 10}], 1).startswith("does not fit: trajectory_generator")


def test_hours_are_those_of_what_is_known():
    known = {"program": "one", "times": 7200, "seconds": 2.0, "fits": True}
    unknown = {"program": "two", "times": 0, "seconds": 1.0, "fits": True}
    line = report.total([known, unknown], 8)
    assert line.startswith(
        "a run's programs take 4 hours at least, 32 device-hours; not counted: two"
    )
