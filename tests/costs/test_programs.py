"""The programs of a run, lowered and compiled for the devices that are here."""

import dataclasses

import jax
import numpy as np
import pytest

from tskd_jax.cli.comparison import comparisons
from tskd_jax.config import finalize, make_config
from tskd_jax.costs import report, stages
from tskd_jax.costs.fresh import stand_in
from tskd_jax.costs.program import Prepared
from tskd_jax.costs.programs import programs_of
from tskd_jax.costs.report import Lowered
from tskd_jax.envs.entries import get_task
from tskd_jax.machine import devices
from tskd_jax.machine.chips import CHIPS
from tskd_jax.methods import METHODS
from tskd_jax.teacher import few_steps

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
        *("student", "inverse_dynamics", "trajectory_generator", "imagination"),
        *("imagination (2)", "dynamics", "reward_generator", "value.tskd_without_imagination.0"),
        *("stitching: search", "stitching: rewards", "evaluation.teacher"),
    ]
    # BC, filtered BC, TSKD and its variants; what stitches and imagines nothing is filtered BC.
    assert found["student"].times == 5 * config.student.steps
    assert found["trajectory_generator"].times == config.trajectory_generator.steps
    # Two epochs of 300 trajectories, 512 at a time; the rest of 88 is padded to 128.
    whole, rest = found["imagination"], found["imagination (2)"]
    assert whole.times == rest.times == TASK.episode_limit
    assert (whole.once, rest.once) == ("plan of 512 in 2 steps", "plan of 128 in 2 steps")
    assert {whole.stage, rest.stage} == {"imagination"}


@pytest.mark.parametrize("method", METHODS)
def test_the_programs_of_each_method_are_known(method, recorded):
    config = dataclasses.replace(small("paper"), methods=(method,), ablations=False)
    found = programs(config, recorded)
    assert found
    for one in found.values():
        if one.once == "update" and "generator" not in one.name:
            traced = one.prepare(jax.devices()[:1], devices.shapes).trace()
            assert traced.out_info[0].step.shape == ()


def test_what_chooses_and_what_judges_is_counted(recorded):
    config = finalize(make_config("hopper", "small"))[0]
    config = dataclasses.replace(config, seeds=tuple(range(10)))
    found = programs(config, recorded)
    # Six shares, five short students of each: in the world once in their own number, and twice in
    # that of the whole ones, for the share that is kept and for what is imagined.
    assert found["choices: short students"].times == 10_000
    short, whole = (found[f"choices: students in the world{end}"] for end in ("", " (2)"))
    assert short.times == 6 * TASK.episode_limit
    assert whole.times % TASK.episode_limit == 0
    assert found["referee: students in the world"].times == len(comparisons(config)) * 1000
    trained = found["choices: short students"].prepare(jax.devices()[:1], devices.shapes)
    assert jax.tree.leaves(trained.trace().out_info[0].params)[0].shape[0] == 30


def test_searches_of_several_ensembles_stand_apart(recorded):
    config = small("paper", stitching={"rule": "density_first"})
    config = dataclasses.replace(config, methods=("tskd", "mbts"), ablations=False)
    found = programs(config, recorded)
    assert {"stitching: search", "stitching: search (2)"} <= found.keys()
    config = dataclasses.replace(config, methods=("tskd",))
    assert "stitching: search (2)" not in programs(config, recorded)


def test_chunks_of_one_size_are_one_program(recorded):
    # With 24 at a time, 88 are 3 × 24 + 16, and 16 is no power of two more.
    found = programs(small("paper", imagination={"chunk": 24, "trajectories": 44}), recorded)
    assert found["imagination"].once == "plan of 32 in 2 steps"
    assert found["imagination"].times == 3 * TASK.episode_limit
    found = programs(small("paper", imagination={"chunk": 30, "trajectories": 44}), recorded)
    assert "imagination (2)" not in found  # 2 × 30 + 28, all padded to 32
    assert found["imagination"].times == 3 * TASK.episode_limit


def test_different_imaginations_stand_apart(recorded):
    config = small("quick", imagination={"chunk": 64, "trajectories": 8})
    config = dataclasses.replace(config, methods=("tskd_one_step", "tskd"), ablations=False)
    found = programs(config, recorded)
    # One step from each of the 1,000 states that the filter keeps, and whole trajectories.
    steps, whole = found["imagination"], found["imagination (2)"]
    assert (steps.once, steps.times) == ("plan of 64 in 2 steps", 16)
    assert (whole.once, whole.times) == ("plan of 8 in 2 steps", TASK.episode_limit)


def test_a_distilled_network_costs_the_plans_that_it_learns_from(recorded):
    config = small("quick", few_steps={"calls": 1, "windows": 2100})
    found = programs(config, recorded)
    assert found["few_steps: plans"].once == "plan of 1024 in 2 steps"
    assert found["few_steps: plans"].times == 3
    assert found["few_steps"].times == config.few_steps.steps
    assert found["imagination"].once.endswith(" in 1 steps")
    # It runs, too, as a table's rows do: 1,024 plans of DDR-I.
    one = found["few_steps: plans"].prepare(jax.devices()[:1], devices.shapes)
    assert one.trace().out_info[0].shape == (1024, 3, 4, TASK.state_size + 1)


@pytest.mark.parametrize(("temperature", "windows"), [(0.0, 2500), (0.5, 6000)])
def test_with_noise_a_state_has_several_plans(recorded, temperature, windows):
    """As `few_steps.train` draws windows, from 2,500 rows."""
    few = {"calls": 1, "windows": 6000}
    config = small("quick", few_steps=few, sampling={"temperature": temperature})
    calls, _ = stages.stages_of(comparisons(config), recorded, TASK)
    (call,) = (one for one in calls if one.function is few_steps.train)
    table = stages.training_of(call).data
    assert {leaf.shape[1] for leaf in jax.tree.leaves(table)} == {windows}


def test_what_students_are_told_where_they_go_costs_plans(recorded):
    without = programs(small("quick"), recorded)
    config = small("quick", aggregation={"rounds": 2, "states": 3000}, imagination={"chunk": 2048})
    found = programs(config, recorded)
    assert found["aggregation: students in the world"].times == 2 * TASK.episode_limit
    plans = [one for one in found.values() if one.once.startswith("plan")]
    assert sum(one.times for one in plans) == 2 * 2 + 1  # of the states that the filter keeps: one
    assert found["student"].times > without["student"].times


def mesh_of_eight(members, rows):
    return jax.sharding.AbstractMesh(devices.shape_of(8, members, rows), devices.AXES)


@pytest.mark.parametrize(
    ("members", "rows", "sharing"), [((), None, 8), ((1, 1), 32, 8), ((1, 1), 4, 4), ((5,), 6, 2)]
)
def test_devices_that_repeat_work_do_not_share_it(members, rows, sharing):
    prepared = Prepared(None, (), mesh_of_eight(members, rows))
    assert prepared.sharing == sharing


def test_a_device_holds_its_share_of_what_is_spread():
    mesh = mesh_of_eight((), None)
    placed = [
        jax.ShapeDtypeStruct((64, 3), np.float32, sharding=jax.NamedSharding(mesh, spec))
        for spec in (devices.BY_ROWS, devices.COPIED)
    ]
    assert [report._shard_bytes(one) for one in placed] == [8 * 3 * 4, 64 * 3 * 4]
    assert report._shard_bytes(TASK) == 0


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


def test_a_compiler_that_fails_ends_nothing(quick, monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: no tile sizes\nmore")

    one = Lowered(quick["choices: students in the world"], HERE, jax.devices()[:1])
    monkeypatch.setattr(type(one._lowered), "compile", fail)
    row = one.compile()
    assert "the compiler fails: INTERNAL: no tile sizes" in report.line(row)
    line = report.total([row | {"times": 10}], 1)
    assert "does not fit" not in line
    assert line.endswith("not counted: choices: students in the world")
    monkeypatch.setattr(type(one._lowered), "compile", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one.compile()


def test_hours_are_those_of_what_is_known():
    known = {"program": "one", "times": 7200, "seconds": 2.0, "fits": True}
    unknown = {"program": "two", "times": 0, "seconds": 1.0, "fits": True}
    line = report.total([known, unknown], 8)
    assert line.startswith(
        "if nothing ends early, a run's programs take 4 hours at least, 32 device-"
    )
    assert line.endswith("; not counted: two")
