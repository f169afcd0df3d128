"""Two seeds of everything in one run of the command: each is a run of its own."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.main import main
from tskd_jax.policy import load_policy
from tskd_jax.report import replay

pytestmark = pytest.mark.slow

# A batched product or convolution may be summed in another order than one alone: the last digits
# differ. Students' weights are up to 20, of which 5e-4 leaves four digits; they are seen to agree
# within 4e-6 on an Intel and within 2e-4 on an AMD processor, and what is imagined over 1000 steps
# within 4e-5.
TOLERANCE = 5e-4
# With one or two numbers a group, as in the tiny runs of other tests, what is before GroupNorm has
# hardly an effect and no gradient but rounding, which Adam makes whole steps of.
MORE_FLAGS = (
    "--config.trajectory_generator.features=32",
    "--config.reward_generator.features=32",
    "--config.methods=tskd",
    "--config.ablations=False",
)


SEEDS = (0, 4)
PIPELINE = ("--config.seed_axis=pipeline", "--config.seeds=(0,4)")


def command(workdir: Path, dataset: Path, *more: str) -> list[str]:
    config = f"--config={ROOT / 'configs/hopper.py'}"
    paths = (f"--config.dataset.path={dataset}", f"--workdir={workdir}")
    # A tuple that is given twice is both.
    tiny = [flag for flag in TINY_FLAGS if not flag.startswith("--config.seeds")]
    return ["tskd-jax", config, *paths, *tiny, *MORE_FLAGS, *more]


@pytest.fixture(scope="module")
def pipeline(dataset, tmp_path_factory) -> Path:
    """A run of two seeds of everything."""
    workdir = tmp_path_factory.mktemp("pipeline") / "two"
    assert main(command(workdir, dataset, *PIPELINE)) == 0
    return workdir


def summary_of(workdir: Path) -> dict:
    return json.loads((workdir / "summary.json").read_text())


def test_a_seed_of_two_is_a_run_of_its_own(pipeline, dataset, tmp_path):
    alone_in = tmp_path / "alone"
    place = 1  # the second: a seed that is mistaken for another would be the first
    seed = SEEDS[place]
    flags = (f"--config.seed={seed}", f"--config.seeds=({seed},)")
    assert main(command(alone_in, dataset, *flags)) == 0
    summary, alone, worst = summary_of(pipeline), summary_of(alone_in), 0.0
    for method, score in alone["scores"].items():
        file = f"students/{method}/seed_{seed}.npz"
        left, right = load_policy(alone_in / file), load_policy(pipeline / file)
        for ours, theirs in zip(
            (*left.weights, *left.biases), (*right.weights, *right.biases), strict=True
        ):
            worst = max(worst, float(np.abs(ours - theirs).max()))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
        assert summary["scores"][method]["per_seed"][place] == pytest.approx(
            score["per_seed"][0], abs=0.1
        )
    of_seed = summary["stages"]["stitching.tskd.0"]["of_seed"][str(seed)]
    stitched = alone["stages"]["stitching.tskd.0"]
    # Discrete choices: the same stitches, of more than none.
    for count in ("edges_unique", "edges_walked", "stitched_share"):
        assert of_seed[count] == stitched[count]
    assert stitched["edges_unique"] > 0
    # And the same data, imagined transitions among them, for the student.
    (data,) = alone["methods"]["tskd"]["data"]
    counted = summary["methods"]["tskd"]["data"][place]
    for count in ("transitions", "imagined_transitions"):
        assert counted[count] == data[count]
    for stage in ("inverse_dynamics", "reward_generator"):
        ours = summary["stages"][stage]["of_seed"][str(seed)]["held_out_mse"]
        assert ours == pytest.approx(alone["stages"][stage]["held_out_mse"], 1e-4)
    print(f"worst difference {worst}")


def test_everything_of_every_seed_is_there(pipeline):
    assert {path.name for path in (pipeline / "stitched").iterdir()} == {
        f"seed_{seed}.hdf5" for seed in SEEDS
    }
    assert (
        summary_of(pipeline)["stages"]["imagination"]["of_seed"]["0"]["imagined"]["episodes"] == 3
    )
    with (pipeline / "metrics.csv").open() as file:
        stages = {row["stage"] for row in csv.DictReader(file)}
    # One program for all seeds.
    assert {"dynamics", "value.tskd.0", "student.tskd"} <= stages
    assert not any("seed" in stage for stage in stages)


def test_a_damaged_pipeline_is_mended_to_the_same_bits(pipeline, dataset):
    before = summary_of(pipeline)
    damaged = next(p for p in pipeline.glob("stages/student.tskd-*/**/*") if p.stat().st_size > 99)
    damaged.write_bytes(damaged.read_bytes()[:-7])
    assert main(command(pipeline, dataset, *PIPELINE)) == 0
    assert replay.differences(before, summary_of(pipeline)) == []
    # And what --replay would run is this config.
    _, config = replay.read(pipeline / "summary.json")
    assert (config.seed_axis, tuple(config.seeds)) == ("pipeline", SEEDS)
