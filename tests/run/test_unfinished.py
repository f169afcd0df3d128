"""Inside a stage: trainings go on from checkpoints, parts are kept, requests are obeyed."""

import csv
import io
import signal
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_helpers import (
    KEY,
    LINE,
    Killed,
    begin,
    flip,
    go_on,
    killed_training,
    largest_file,
    train,
    truncate,
    unlink,
)

from tskd_jax.machine.signals import Interrupted, Request


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    return train(begin(path, checkpoint_seconds=120.0).callbacks(KEY, "line"))


@pytest.mark.parametrize("after", [1, 100, 500])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, whole, after):
    kept = killed_training(tmp_path / "run", after)
    assert 1 <= len(kept) <= 2  # older ones make room

    resumed, went_on, _ = go_on(tmp_path / "run")
    assert went_on >= after
    chex.assert_trees_all_equal(whole, resumed)


@pytest.mark.parametrize("damage", [flip, truncate, unlink])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(tmp_path, whole, damage):
    before, last = killed_training(tmp_path / "run")
    damage(largest_file(tmp_path / "run" / "training" / LINE / str(last)))
    state, step, printed = go_on(tmp_path / "run")
    assert step == before
    assert f"{last}: its checksum is wrong; the checkpoint before it is used" in printed
    chex.assert_trees_all_equal(whole, state)


def test_where_all_checkpoints_are_damaged_the_training_begins_again(tmp_path, whole):
    for step in killed_training(tmp_path / "run"):
        flip(largest_file(tmp_path / "run" / "training" / LINE / str(step)))
    state, step, printed = go_on(tmp_path / "run")
    assert step == 0
    assert printed.count("its checksum is wrong") == 2
    assert "begun again" in printed
    chex.assert_trees_all_equal(whole, state)


def test_a_checkpoint_that_the_manifest_does_not_know_is_not_believed(tmp_path, whole):
    # Killed between the renaming of the folder and the writing of the manifest.
    _, last = killed_training(tmp_path / "run")
    folder = tmp_path / "run" / "training" / LINE
    (folder / str(last)).rename(folder / "599")
    state, step, _ = go_on(tmp_path / "run")
    assert step < last
    chex.assert_trees_all_equal(whole, state)


def test_a_checkpoint_of_another_stage_is_not_believed(tmp_path):
    # The same name, but made of something else.
    killed_training(tmp_path / "run")
    callbacks = begin(tmp_path / "run").callbacks("f" * 64, "line")
    seen = []

    def restore(state):
        state = callbacks.restore(state)
        seen.append(int(state.step))
        return state

    train(replace(callbacks, restore=restore), steps=1)
    assert seen == [0]


def test_a_checkpoint_of_more_seeds_is_not_believed(tmp_path):
    """Where memory holds another number of seeds, a group of them has another form."""
    killed_training(tmp_path / "run")
    out, seen = io.StringIO(), []
    callbacks = begin(tmp_path / "run", out=out).callbacks(KEY, "line")

    def restore(state):
        def twice(leaf):
            return leaf if leaf is state.step else jnp.concatenate([leaf, leaf])

        fresh = jax.tree.map(twice, state)
        seen.append(callbacks.restore(fresh) is fresh)
        return state

    train(replace(callbacks, restore=restore, save=lambda _state: None), steps=1)
    assert seen == [True]
    assert "it has another form" in out.getvalue()


def test_each_metric_of_a_step_is_noted_once(tmp_path):
    killed_training(tmp_path / "run", after=1, checkpoint_seconds=1e9)
    go_on(tmp_path / "run", checkpoint_seconds=1e9)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = [tuple(row.values())[:4] for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows))
    assert {int(step) for _, _, step, _ in rows} >= {1, 600}


def test_the_share_of_the_peak_is_that_of_chunks_that_take_long_enough(tmp_path, monkeypatch):
    monkeypatch.setattr("tskd_jax.run.unfinished.matmul_peak", lambda: 1e9)
    callbacks = begin(tmp_path / "run").callbacks(KEY, "line")
    # 20 updates in a fifth of a second, and 30 in three tenths.
    for done in (20, 50):
        rates = {"steps_per_second": 100.0, "matmul_flops_per_second": 5e8}
        callbacks.on_progress(done, 50, rates)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "share_of_matmul_peak"]
    assert [(row["step"], float(row["value"])) for row in rows] == [("50", 0.5)]


def test_without_a_terminal_a_line_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr("tskd_jax.run.progress.LINE_SECONDS", 0.0)
    out = io.StringIO()
    callbacks = begin(tmp_path / "run", out=out).callbacks(KEY, "line")
    for done in (10, 20, 30):
        callbacks.on_progress(done, 30, {"loss": 0.25})
    lines = out.getvalue().splitlines()
    assert len(lines) == 2  # the end has its own line, the stage's
    assert lines[1].startswith("  line: 20/30")
    assert "left" in lines[1]
    assert "loss 0.25" in lines[1]


def test_an_estimate_of_memory_is_printed_before_a_training(tmp_path):
    out = io.StringIO()
    train(begin(tmp_path, out=out).callbacks(KEY, "line"), steps=1)
    assert "line: takes about" in out.getvalue()


def test_a_request_ends_a_training_with_a_checkpoint(tmp_path, whole):
    request = Request()
    run = begin(tmp_path / "run", checkpoint_seconds=1e9, request=request)
    callbacks = run.callbacks(KEY, "line")

    def on_progress(done, total, metrics):
        callbacks.on_progress(done, total, metrics)
        if done >= 50:
            request.signum = signal.SIGTERM

    with pytest.raises(Interrupted, match="in line, after update") as caught:
        train(replace(callbacks, on_progress=on_progress))
    assert caught.value.status == 143
    run.close()
    state, step, _ = go_on(tmp_path / "run")
    assert step >= 50
    chex.assert_trees_all_equal(whole, state)


def test_a_request_ends_what_has_no_checkpoints_where_it_stands(tmp_path):
    request = Request()
    run = begin(tmp_path / "run", request=request)

    def compute(_config, callbacks):
        callbacks.on_progress(1, 3, {})
        request.signum = signal.SIGINT
        callbacks.on_progress(2, 3, {})
        raise AssertionError("it went on")

    with pytest.raises(Interrupted, match="in part, which begins again") as caught:
        run.stage("part", compute, None)
    assert caught.value.status == 130
    with pytest.raises(Interrupted, match="before other"):
        run.stage("other", compute, None)


def test_a_stage_goes_on_inside_its_trainings(tmp_path, whole):
    seen = []

    def compute(after, callbacks):
        inner = callbacks.part("inner")

        def save(state):
            inner.save(state)
            if int(state.step) >= kill_at:
                raise Killed

        def restore(state):
            state = inner.restore(state)
            seen.append(int(state.step))
            return state

        state = train(replace(inner, save=save, restore=restore))
        return state.params, {}

    kill_at = 100
    with pytest.raises(Killed):
        begin(tmp_path).stage("outer", compute, None)
    (folder,) = (tmp_path / "training").iterdir()
    assert folder.name.startswith("outer.inner-")
    kill_at = 10**9
    run = begin(tmp_path)
    params = run.stage("outer", compute, None)
    assert seen[0] == 0
    assert seen[1] >= 100
    chex.assert_trees_all_equal(whole.params, params)
    assert not (tmp_path / "training").exists()  # the stage is done
    assert run.manifest["checkpoints"] == run.manifest["partial_seconds"] == {}


def parts_stage(run, computed, until=3):
    """A stage of three parts; killed before part `until`."""

    def compute(_config, callbacks):
        def part(index):
            if index == until:
                raise Killed
            computed.append(index)
            return np.full(2, index, np.int64), np.array([index > 0])

        parts = [callbacks.cache(f"{index}", lambda index=index: part(index)) for index in range(3)]
        return {"x": np.concatenate([numbers for numbers, _ in parts])}, {}

    return run.stage("whole", compute, None)["x"]


def test_finished_parts_of_a_stage_are_kept(tmp_path):
    computed = []
    with pytest.raises(Killed):
        parts_stage(begin(tmp_path), computed, until=2)
    (folder,) = (tmp_path / "parts").iterdir()
    flip(largest_file(folder / "1"))
    out = io.StringIO()
    x = parts_stage(begin(tmp_path, out=out), computed)
    assert computed == [0, 1, 1, 2]
    assert "1: its checksum is wrong; it is computed again" in out.getvalue()
    assert x.tolist() == [0, 0, 1, 1, 2, 2]
    assert x.dtype == np.int64
    assert not list(tmp_path.glob("parts/*"))  # the stage is done


def test_a_request_is_obeyed_between_parts(tmp_path):
    request, computed = Request(), []
    run = begin(tmp_path, request=request)

    def compute(_config, callbacks):
        callbacks.cache("a", lambda: (np.zeros(1),))
        request.signum = signal.SIGTERM
        callbacks.cache("b", lambda: (np.ones(1),))
        raise AssertionError("it went on")

    with pytest.raises(Interrupted, match="in whole, after part b"):
        run.stage("whole", compute, None)
    x = parts_stage(begin(tmp_path), computed)
    assert computed == [0, 1, 2]
    assert len(x) == 6
