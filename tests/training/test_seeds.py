"""Seeds as a leading axis: a seed's result is that of a run of its own, in groups or not."""

import csv
import dataclasses
import io
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.config import default_config, finalize
from tskd_jax.errors import DivergenceError
from tskd_jax.machine import memory
from tskd_jax.main import main
from tskd_jax.methods import replay
from tskd_jax.policy import load_policy
from tskd_jax.run.run import Run
from tskd_jax.training.seeds import figures_of, fit_seeds, pad_rows
from tskd_jax.training.training import Hooks, uniform_rows

# A batched product or convolution may be summed in another order than one alone: the last digits
# differ. Students' weights are up to 20, of which 1e-4 leaves five digits; they are seen to agree
# within 4e-6, and what is imagined over 1000 steps within 4e-5.
TOLERANCE = 1e-4
# With one or two numbers a group, as in the tiny runs of other tests, what is before GroupNorm has
# hardly an effect and no gradient but rounding, which Adam makes whole steps of.
MORE_FLAGS = (
    "--config.trajectory_generator.features=32",
    "--config.reward_generator.features=32",
    "--config.evaluation.ablations=False",
    "--config.checkpoint_seconds=10.0",
)


def line(key, data, axes, hooks=None, steps=30, rows=None):
    """Fits of a line, one for each seed, and one for each member where the keys have two axes."""

    def draw(data, key):
        columns, count = data
        return uniform_rows(columns, key, 8, count)

    return fit_seeds(
        "line",
        lambda key: {"w": jax.random.normal(key, (3,))},
        lambda params, _ema, batch, _key: jnp.square(batch[0] @ params["w"] - batch[1]).mean(),
        draw,
        data,
        optax.adam(1e-2),
        steps=steps,
        key=key,
        data_axes=axes,
        hooks=hooks,
        rows=rows,
    )


@pytest.fixture
def datasets():
    """Three datasets of different numbers of rows."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(rows, 3)).astype(np.float32) for rows in (20, 64, 33)]
    return [(x, x @ np.array([1.0, -2.0, 0.5], np.float32)) for x in inputs]


def test_rows_are_padded_with_zeros_and_counted():
    (padded,), counts = pad_rows([(np.ones((1, 2)),), (2 * np.ones((3, 2)),)])
    assert counts.tolist() == [1, 3]
    assert padded[:, :, 0].tolist() == [[1, 0, 0], [2, 2, 2]]


def test_a_batch_of_padded_rows_is_the_batch_of_the_rows_alone():
    key, x = jax.random.key(3), jnp.arange(50)
    alone = uniform_rows(x[:37], key, 200)
    np.testing.assert_array_equal(uniform_rows(x, key, 200, jnp.int32(37)), alone)
    chosen = jnp.arange(50)[::-1]
    np.testing.assert_array_equal(uniform_rows(x, key, 200, jnp.int32(37), chosen), 49 - alone)


@pytest.mark.parametrize("members", [(), (2,)])
def test_a_seed_is_fitted_as_if_it_were_alone(datasets, members):
    keys = jax.random.split(jax.random.key(0), (3, *members))
    together = line(keys, pad_rows(datasets), 0)
    for key, (x, y), fitted in zip(keys, datasets, together, strict=True):
        (alone,) = line(key[None], pad_rows([(x, y)]), 0)
        assert fitted.params["w"].shape == (*members, 3)
        np.testing.assert_allclose(fitted.params["w"], alone.params["w"], rtol=1e-5)


def test_seeds_that_memory_does_not_hold_go_in_groups(datasets, monkeypatch):
    keys, data = jax.random.split(jax.random.key(0), 3), pad_rows(datasets)
    whole = line(keys, data, 0)
    sizes, said, parts = [], [], []

    def within(part):
        parts.append(part)
        return Hooks(on_compiled=sizes.append, within=within, say=said.append)

    line(keys, data, 0, Hooks(on_compiled=sizes.append))
    needed = sizes.pop()
    monkeypatch.setattr(memory, "of_device", lambda: (needed - 1, 2**40))
    hooks = Hooks(on_compiled=sizes.append, within=within, say=said.append)
    groups = line(keys, data, 0, hooks)
    assert parts == ["from_seed_0", "from_seed_2"]
    assert "3 seeds at once" in said[0]
    assert "2 at a time" in said[0]
    assert len(sizes) == 3
    assert sizes[0] == needed
    for one, other in zip(whole, groups, strict=True):
        np.testing.assert_allclose(one.params["w"], other.params["w"], rtol=1e-5)


def test_a_killed_training_of_seeds_goes_on_to_the_same_bits(datasets, tmp_path):
    keys, data = jax.random.split(jax.random.key(0), (3, 2)), pad_rows(datasets)
    config = default_config()
    config.checkpoint_seconds = 1e-9

    def hooks():
        return Run(tmp_path, finalize(config), out=io.StringIO()).hooks("line")

    class Killed(Exception):
        pass

    begun = hooks()

    def save(state):
        begun.save(state)
        if int(state.step) > 5:
            raise Killed

    with pytest.raises(Killed):
        line(keys, data, 0, dataclasses.replace(begun, save=save))
    begin = []
    resumed = hooks()

    def restore(state):
        state = resumed.restore(state)
        begin.append(int(state.step))
        return state

    whole = line(keys, data, 0)
    went_on = line(keys, data, 0, dataclasses.replace(resumed, restore=restore))
    assert begin[0] > 5
    for one, other in zip(whole, went_on, strict=True):
        np.testing.assert_array_equal(one.params["w"], other.params["w"])


def test_divergence_names_the_rows_of_the_seed(datasets):
    x, y = datasets[1]
    datasets[1] = x, np.where(np.arange(len(y)) >= 0, np.nan, y)
    rows = [np.arange(len(x)) + 1000 * seed for seed, (x, _) in enumerate(datasets)]
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(DivergenceError, match=r"member 1, .*rows of the batch: 10\d\d"):
        line(keys, pad_rows(datasets), 0, rows=rows)


def test_figures_are_means_and_those_of_each_seed():
    assert figures_of((7,), [{"x": 1, "of": [2]}]) == {"x": 1, "of": [2]}
    assert figures_of((7, 9), [{"x": 1, "of": [2]}, {"x": 2, "of": [3]}]) == {
        "x": 1.5,
        "of_seed": {"7": {"x": 1, "of": [2]}, "9": {"x": 2, "of": [3]}},
    }


SEEDS = (0, 4, 5)
PIPELINE = ("--config.seed_axis=pipeline", "--config.seeds=(0,4,5)")


def command(workdir: Path, dataset: Path, *more: str) -> list[str]:
    config = f"--config={ROOT / 'configs/hopper.py'}"
    paths = (f"--config.dataset.path={dataset}", f"--workdir={workdir}")
    # A tuple that is given twice is both.
    tiny = [flag for flag in TINY_FLAGS if not flag.startswith("--config.seeds")]
    return ["tskd-jax", config, *paths, *tiny, *MORE_FLAGS, *more]


@pytest.fixture(scope="module")
def pipeline(dataset, tmp_path_factory) -> tuple[Path, float]:
    """A run of three seeds of everything, and its seconds."""
    workdir = tmp_path_factory.mktemp("pipeline") / "three"
    begin = time.perf_counter()
    assert main(command(workdir, dataset, *PIPELINE)) == 0
    return workdir, time.perf_counter() - begin


def summary_of(workdir: Path) -> dict:
    return json.loads((workdir / "summary.json").read_text())


def test_three_seeds_are_three_separate_runs(pipeline, dataset, tmp_path):
    together, seconds = pipeline
    summary, separate, worst = summary_of(together), 0.0, 0.0
    for place, seed in enumerate(SEEDS):
        workdir = tmp_path / str(seed)
        flags = (f"--config.seed={seed}", f"--config.seeds=({seed},)")
        begin = time.perf_counter()
        assert main(command(workdir, dataset, *flags)) == 0
        separate += time.perf_counter() - begin
        alone = summary_of(workdir)
        for method, score in alone["scores"].items():
            file = f"students/{method}/seed_{seed}.npz"
            left, right = load_policy(workdir / file), load_policy(together / file)
            for ours, theirs in zip(
                (*left.weights, *left.biases), (*right.weights, *right.biases), strict=True
            ):
                worst = max(worst, float(np.abs(ours - theirs).max()))
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
            assert summary["scores"][method]["per_seed"][place] == pytest.approx(
                score["per_seed"][0], abs=0.1
            )
        of_seed = summary["stages"]["stitching.tskd"]["of_seed"][str(seed)]
        stitched = alone["stages"]["stitching.tskd"]
        # Discrete choices: the same stitches, of more than none.
        for count in ("edges_unique", "edges_walked", "stitched_transitions"):
            assert of_seed[count] == stitched[count]
        assert stitched["edges_unique"] > 0
        assert stitched["imagined_transitions"] > 0
        for stage in ("inverse_dynamics", "reward_generator"):
            ours = summary["stages"][stage]["of_seed"][str(seed)]["held_out_mse"]
            assert ours == pytest.approx(alone["stages"][stage]["held_out_mse"], 1e-4)
    # Separate runs share their compilations here, as separate processes would not.
    print(f"pipeline {seconds:.1f} s, separate {separate:.1f} s; worst {worst}")


def test_everything_of_every_seed_is_there(pipeline):
    workdir, _ = pipeline
    assert {path.name for path in (workdir / "stitched").iterdir()} == {
        f"seed_{seed}.hdf5" for seed in SEEDS
    }
    assert summary_of(workdir)["trajectories"]["imagined"] == 3
    with (workdir / "metrics.csv").open() as file:
        stages = {row["stage"] for row in csv.DictReader(file)}
    # One program for all seeds.
    assert {"dynamics", "stitching.tskd.value.0", "student.tskd"} <= stages
    assert not any("seed" in stage for stage in stages)


def test_a_damaged_pipeline_is_mended_to_the_same_bits(pipeline, dataset):
    workdir, _ = pipeline
    before = summary_of(workdir)
    damaged = next(p for p in (workdir / "stages/student.tskd").rglob("*") if p.stat().st_size > 99)
    damaged.write_bytes(damaged.read_bytes()[:-7])
    assert main(command(workdir, dataset, *PIPELINE)) == 0
    assert replay.differences(before, summary_of(workdir)) == []
    # And what --replay would run is this config.
    _, config = replay.read(workdir / "summary.json")
    assert (config.seed_axis, tuple(config.seeds)) == ("pipeline", SEEDS)
