"""The cost model: numbers by hand, and a run's own beside them."""

import csv
import math
import subprocess
import sys

import jax
import pytest
from tiny import ROOT, import_script, run_script

from tskd_jax.config import default_config, finalize, make_config, to_plain
from tskd_jax.data import load_dataset
from tskd_jax.envs.entries import get_task
from tskd_jax.models import inverse_dynamics
from tskd_jax.run import files


@pytest.fixture
def cost_model():
    return import_script("benchmarks.cost_model")


def test_the_seconds_of_a_program(cost_model):
    peak, bandwidth = 1e12 / cost_model.SHARE_OF_PEAK, 1e9 / cost_model.SHARE_OF_BANDWIDTH
    machine = cost_model.Machine(8, {"float32": peak}, bandwidth, 1e6, 0.0, 0.5)
    # Two members on four devices each, four ways through the rows: 8e12 / 8 operations take 1 s,
    # 4e9 / 8 + 1e9 / 2 bytes take 1 s, 2 · 3/4 · 1e6 / 2 bytes are sent in 0.75 s, after 0.5 s.
    work = cost_model.Work(10, int(8e12), int(4e9), int(1e9), int(1e6), 1, (2,), 32)
    assert work.seconds(machine) == pytest.approx(10 * (1 + 0.75 + 0.5))
    # Of one row nothing is shared but the members: 4e12 operations, and nothing to be sent.
    alone = cost_model.Work(1, int(8e12), 0, 0, int(1e6), 1, (2,), 1)
    assert alone.seconds(machine) == pytest.approx(4)


def test_the_work_of_a_training(cost_model):
    config, recorded = default_config(), load_dataset("hopper-sac-replay")
    section, keys = finalize(config)[0].inverse_dynamics, jax.random.split(jax.random.key(0), 1)
    plan, _ = inverse_dynamics.training(section, recorded, get_task("hopper"), keys)
    work = cost_model.training(plan)
    # 22 → 512 → 512 → 3, forward and for two gradients; the input needs none.
    layers = [22 * 512, 512 * 512, 512 * 3]
    assert work.flops == 2 * 32 * (3 * sum(layers) - layers[0])
    assert work.products == 8
    assert work.gradients == 4 * 275_971
    assert (work.times, work.rows, work.members) == (1_000_000, 32, (1,))
    # Three seeds are three times the work, at the same number of updates.
    keys = jax.random.split(jax.random.key(0), 3)
    plan, _ = inverse_dynamics.training(section, recorded, get_task("hopper"), keys)
    three = cost_model.training(plan)
    assert (three.flops, three.gradients) == (3 * work.flops, 3 * work.gradients)
    assert (three.times, three.products, three.members) == (1_000_000, 8, (3,))


def small(config):
    for part in (config.trajectory_generator, config.reward_generator):
        part.update({"features": 8, "multipliers": (1,), "horizon": 8})
    return config


def works(cost_model, config, dataset):
    return cost_model.works(config, load_dataset(str(dataset)), get_task("hopper"), {}, 0.01)


def test_the_stages_are_those_of_the_methods(cost_model, dataset):
    config = small(default_config())
    config.filtered_bc.share = 0.5  # of few episodes, more than TSKD's own filter keeps
    made = works(cost_model, finalize(config)[0], dataset)
    # BC and filtered BC, TSKD and what it is without stitching, without imagination, without both.
    assert [work.times for work in made["student"]] == [100_000] * 6
    # Two epochs of those two that stitch; search and rewards of each.
    assert [work.times for work in made["value"]] == [1_000_000] * 4
    assert len(made["stitching"]) == 4 * 2
    # With and without stitching, the same is imagined: 600 whole trajectories, 512 at a time.
    assert [work.times for work in made["imagination"]] == [math.ceil(1000 * 600 / 512)]
    shared = ("inverse_dynamics", "dynamics", "trajectory_generator", "reward_generator")
    assert all(len(made[name]) == 1 for name in shared)
    assert made.keys() == {*shared, "imagination", "value", "stitching", "student"}


def test_a_baseline_is_trained_where_the_generator_needs_one(cost_model, dataset):
    config = make_config("hopper", "quick")
    config.methods = "bc,tskd_one_step"
    config.trajectory_generator.features = config.reward_generator.features = 8
    config.reward_generator.multipliers = (1,)
    config.evaluation.teacher_episodes = 3
    made = works(cost_model, finalize(config)[0], dataset)
    [baseline] = made["baseline"]
    # Both networks, each of another half of the episodes.
    assert (baseline.times, baseline.members) == (2_000, (1, 2))
    # One step from each state, and its three kinds of students: BC's, the filter's, and both's.
    assert [work.times for work in made["imagination"]] == [1]
    assert [work.times for work in made["student"]] == [15_000] * 3
    assert [(work.times, work.members) for work in made["world"]] == [(8_000, (1, 4))]
    # A plan for each step.
    assert [work.times for work in made["evaluation.teacher"]] == [1000]


def test_a_run_beside_its_model(dataset, tmp_path):
    config = small(default_config())
    config.dataset.path = str(dataset)
    names = ("inverse_dynamics", "dynamics", "trajectory_generator", "stitching.tskd.0")
    seconds = dict.fromkeys((*names, "stitching.tskd_without_imagination.0", "student.bc"), 1.0)
    seconds["dynamics-0123abcd"] = 0.5  # a second stage of that name
    content = {"results": {"dataset": {}}, "dataset": {}}
    content |= {"seconds": seconds, "config": to_plain(finalize(config)[0])}
    content["stages"] = {
        "imagination": {"imagined": {"mean_length": 10.0}},
        "stitching.tskd.0": {"of_seed": {"0": {"edges_unique": 0}, "1": {"edges_unique": 2048}}},
    }
    summary = tmp_path / "summary.json"
    summary.write_text(files.to_json(content))
    run_script(
        "benchmarks.cost_model",
        *(f"--measured={summary}", "--machines=here,v5e-64"),
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert float(rows["stitching"]["measured_seconds"]) == 2
    assert float(rows["dynamics"]["measured_seconds"]) == 1.5
    assert float(rows["all"]["measured_seconds"]) == 6.5
    for row in rows.values():
        assert float(row["here_seconds"]) > 0
        assert float(row["here_sent_gbyte"]) == 0
    # 600 trajectories of 10 plans each, 512 at a time: 11.7 of a whole chunk.
    assert float(rows["imagination"]["times"]) == 12
    # Four searches; 1024 measured edges in two batches, and a hundredth of the rows three times.
    size = load_dataset(str(dataset)).size
    assert float(rows["stitching"]["times"]) == 4 + 2 + 3 * math.ceil(size / 100 / 512)
    assert float(rows["trajectory_generator"]["v5e-64_sent_gbyte"]) > 0


def test_an_unknown_machine_is_refused_in_a_line():
    command = [sys.executable, "-m", "experiments.benchmarks.cost_model", "--machines=abacus"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "abacus" in done.stderr
