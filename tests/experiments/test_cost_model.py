"""The cost model: numbers by hand, and a run's own beside them."""

import csv
import subprocess
import sys

import jax
import pytest
from tiny import ROOT, import_script, run_script

from tskd_jax.config import default_config, finalize, identity
from tskd_jax.data import load_dataset
from tskd_jax.envs.tasks import get_task
from tskd_jax.models import inverse_dynamics
from tskd_jax.run import files
from tskd_jax.training.training import Hooks


@pytest.fixture
def cost_model():
    return import_script("cost_model")


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
    config, recorded, task = finalize(default_config()), load_dataset("hopper-sac-replay"), "hopper"
    model = inverse_dynamics.create(config.inverse_dynamics, recorded, get_task(task))
    work = cost_model.training(
        lambda: inverse_dynamics.train_seeds(
            model,
            config.inverse_dynamics,
            recorded,
            jax.random.split(jax.random.key(0), 1),
            Hooks(),
        )
    )
    # 22 → 512 → 512 → 3, forward and for two gradients; the input needs none.
    layers = [22 * 512, 512 * 512, 512 * 3]
    assert work.flops == 2 * 32 * (3 * sum(layers) - layers[0])
    assert work.products == 8
    assert work.gradients == 4 * 275_971
    assert (work.times, work.rows, work.members) == (1_000_000, 32, ())


def test_a_run_beside_its_model(dataset, tmp_path):
    config = default_config()
    config.dataset.path = str(dataset)
    for part in (config.trajectory_generator, config.reward_generator):
        part.update({"features": 8, "multipliers": (1, 2), "horizon": 8})
    names = ("inverse_dynamics", "dynamics", "trajectory_generator", "stitching.tskd")
    seconds = dict.fromkeys((*names, "stitching.tskd_no_imagination", "student.bc"), 1.0)
    content = {"results": {"dataset": {}}, "dataset": {}, "config": identity(finalize(config))}
    content |= {"seconds": seconds, "stages": {"imagination": {"imagined_mean_length": 10.0}}}
    summary = tmp_path / "summary.json"
    summary.write_text(files.to_json(content))
    run_script(
        "cost_model.py",
        *(f"--measured={summary}", "--machines=here,v5e-64"),
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert float(rows["stitching"]["measured_seconds"]) == 2
    assert float(rows["all"]["measured_seconds"]) == 6
    for row in rows.values():
        assert float(row["here_seconds"]) > 0
        assert float(row["here_sent_gbyte"]) == 0
    # 600 trajectories of 10 plans each, 512 at a time: 11.7 of a whole chunk.
    assert float(rows["imagination"]["times"]) == 12
    assert float(rows["trajectory_generator"]["v5e-64_sent_gbyte"]) > 0


def test_an_unknown_machine_is_refused_in_a_line():
    command = [sys.executable, ROOT / "experiments/cost_model.py", "--machines=abacus"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "abacus" in done.stderr
