"""A run's folder: stages are kept, trainings go on from checkpoints, nothing is half-written."""

import csv
import io
import json
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from tskd_jax.config import default_config, finalize
from tskd_jax.errors import WorkdirError
from tskd_jax.machine.signals import Interrupted, Request
from tskd_jax.run.run import Run, Stopped
from tskd_jax.training.training import Ema, fit, uniform_rows


def make_config(**fields):
    config = default_config()
    config.update(fields)
    return finalize(config)


@pytest.fixture
def config():
    return make_config(checkpoint_seconds=1e-9)  # after every chunk


class Killed(Exception):
    pass


def train(hooks, steps=600, members=2):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    return fit(
        "line",
        lambda key: {"w": jax.random.normal(key, (3,))},
        lambda params, _ema, batch, _key: jnp.square(batch[0] @ params["w"] - batch[1]).mean(),
        lambda data, key: uniform_rows(data, key, 8),
        (x, x @ np.array([1.0, -2.0, 0.5], np.float32)),
        optax.adam(optax.cosine_decay_schedule(1e-2, steps)),
        steps=steps,
        key=jax.random.split(jax.random.key(0), members),
        ema=Ema(0.9, 3, 10),
        hooks=hooks,
    )


@pytest.mark.parametrize("after", [1, 100, 500])
def test_a_killed_training_goes_on_to_the_same_bits(config, tmp_path, after):
    whole = train(Run(tmp_path / "whole", config, out=io.StringIO()).hooks("line"))

    kept = killed_training(config, tmp_path / "run", after)
    assert 1 <= len(kept) <= 2  # older ones make room

    resumed, went_on, _ = go_on(config, tmp_path / "run")
    assert went_on >= after
    chex.assert_trees_all_equal(whole.params, resumed.params)
    chex.assert_trees_all_equal(whole.ema, resumed.ema)
    chex.assert_trees_all_equal(whole.opt_state, resumed.opt_state)


def test_a_stage_is_computed_once(config, tmp_path):
    calls = []

    def compute(_hooks):
        calls.append(1)
        result = {"a": np.arange(6.0).reshape(2, 3), "empty": np.zeros((0, 4), np.float32)}
        return result, {"figure": np.float32(2.5), "array": np.arange(2)}

    def like():
        return {"a": None, "empty": None}

    for _ in range(2):
        out = io.StringIO()
        run = Run(tmp_path / "run", config, out=out)
        result = run.stage("part.one", like, compute)
        np.testing.assert_array_equal(result["a"], np.arange(6.0).reshape(2, 3))
        assert result["empty"].shape == (0, 4)
        assert result["empty"].dtype == np.float32
        assert run.figures("part.one")["figure"] == 2.5
    assert len(calls) == 1
    assert out.getvalue() == ""  # what was done before is not announced again
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"]["part.one"]


def test_a_failed_stage_is_not_done(config, tmp_path):
    run = Run(tmp_path / "run", config, out=io.StringIO())

    def fails(_hooks):
        raise Killed

    with pytest.raises(Killed):
        run.stage("part", dict, fails)
    run = Run(tmp_path / "run", config, out=io.StringIO())
    assert run.stage("part", lambda: {"a": 0}, lambda _: ({"a": np.ones(2)}, {}))["a"].sum() == 2


def test_another_config_is_refused_and_named(config, tmp_path):
    Run(tmp_path / "run", config)
    other = ConfigDict(config.to_dict())
    other.seed = 7
    other.student.steps = 11
    with pytest.raises(WorkdirError, match=r"differs in seed, student\.steps"):
        Run(tmp_path / "run", finalize(other))


def test_a_file_in_the_way(config, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(WorkdirError, match="--workdir"):
        Run(tmp_path / "run", config)


def test_stop_after_names_a_group(config, tmp_path):
    run = Run(tmp_path / "run", config, stop_after="student")
    run.end_of("dynamics")
    with pytest.raises(Stopped, match="student"):
        run.end_of("student")


def test_replacing_leaves_the_old_file_on_an_error(config, tmp_path):
    run = Run(tmp_path / "run", config)
    run.write_json("notes.json", {"a": 1})

    def write_half():
        with run.replacing("notes.json") as path:
            path.write_text("half")
            raise Killed

    with pytest.raises(Killed):
        write_half()
    assert json.loads((tmp_path / "run" / "notes.json").read_text()) == {"a": 1}


def test_without_a_terminal_a_line_now_and_then(config, tmp_path, monkeypatch):
    monkeypatch.setattr("tskd_jax.run.progress.LINE_SECONDS", 0.0)
    out = io.StringIO()
    hooks = Run(tmp_path / "run", config, out=out).hooks("line")
    for done in (10, 20, 30):
        hooks.on_progress(done, 30, {"loss": 0.25})
    lines = out.getvalue().splitlines()
    assert len(lines) == 2  # the end has its own line, the stage's
    assert lines[1].startswith("  line: 20/30")
    assert "left" in lines[1]
    assert "loss 0.25" in lines[1]


# What is altered, and how.


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def killed_training(config, path, after=200):
    """A training that is killed after a checkpoint; the steps of those it leaves."""
    hooks = Run(path, config, out=io.StringIO()).hooks("line")

    def die(state):
        hooks.save(state)
        if int(state.step) >= after:
            raise Killed

    with pytest.raises(Killed):
        train(type(hooks)(hooks.on_progress, die, hooks.restore))
    return sorted(int(p.name) for p in (path / "training").glob("line/*"))


def go_on(config, path):
    """(the state at the end, the step at which it went on, what was said)."""
    out, seen = io.StringIO(), []
    hooks = Run(path, config, out=out).hooks("line")

    def restore(state):
        state = hooks.restore(state)
        seen.append(int(state.step))
        return state

    state = train(type(hooks)(hooks.on_progress, hooks.save, restore))
    return state, seen[0], out.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    return train(Run(path, make_config(), out=io.StringIO()).hooks("line"))


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.unlink()])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(
    config, tmp_path, whole, damage
):
    before, last = killed_training(config, tmp_path / "run")
    damage(largest_file(tmp_path / "run" / "training" / "line" / str(last)))
    state, step, said = go_on(config, tmp_path / "run")
    assert step == before
    assert f"{last}: its checksum is wrong; the checkpoint before it is used" in said
    chex.assert_trees_all_equal(whole.params, state.params)
    chex.assert_trees_all_equal(whole.opt_state, state.opt_state)


def test_where_all_checkpoints_are_damaged_the_training_begins_again(config, tmp_path, whole):
    for step in killed_training(config, tmp_path / "run"):
        flip(largest_file(tmp_path / "run" / "training" / "line" / str(step)))
    state, step, said = go_on(config, tmp_path / "run")
    assert step == 0
    assert said.count("its checksum is wrong") == 2
    assert "begun again" in said
    chex.assert_trees_all_equal(whole.params, state.params)


def test_a_checkpoint_that_the_manifest_does_not_know_is_not_believed(config, tmp_path, whole):
    # Killed between the renaming of the folder and the writing of the manifest.
    _, last = killed_training(config, tmp_path / "run")
    folder = tmp_path / "run" / "training" / "line"
    (folder / str(last)).rename(folder / "599")
    state, step, _ = go_on(config, tmp_path / "run")
    assert step < last
    chex.assert_trees_all_equal(whole.params, state.params)


def test_each_metric_of_a_step_is_noted_once(config, tmp_path):
    killed_training(make_config(checkpoint_seconds=1e9), tmp_path / "run", after=1)
    go_on(make_config(checkpoint_seconds=1e9), tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = [tuple(row.values())[:3] for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows))
    assert {int(step) for _, step, _ in rows} >= {1, 600}


class Chain:
    """Three stages, each the sum of those before it and a number of its own."""

    def __init__(self, own=(1.0, 2.0, 3.0)):
        self.own, self.computed = own, []

    def run(self, config, path):
        out = io.StringIO()
        run = Run(path, config, out=out)
        total = np.zeros(3, np.float32)
        for name, number in zip("abc", self.own, strict=True):

            def compute(_hooks, name=name, number=number, total=total):
                self.computed.append(name)
                return {"x": total + np.float32(number)}, {}

            total = total + run.stage(name, lambda: {"x": 0}, compute)["x"]
        run.close()
        return total, out.getvalue()


def test_a_damaged_stage_is_computed_again_and_what_was_made_of_it_kept(config, tmp_path):
    chain = Chain()
    first, _ = chain.run(config, tmp_path)
    flip(largest_file(tmp_path / "stages" / "b"))
    again, said = chain.run(config, tmp_path)
    assert chain.computed == ["a", "b", "c", "b"]  # c was made of the same b
    assert "b: its checksum is wrong; b is computed again" in said
    np.testing.assert_array_equal(first, again)
    chain.run(config, tmp_path)
    assert len(chain.computed) == 4


def test_who_asks_for_some_stages_only_gets_them_as_they_are(config, tmp_path):
    # As the scripts of experiments/ do in the folder of a finished run.
    Chain().run(config, tmp_path)
    run = Run(tmp_path, config, out=io.StringIO())
    kept = run.stage("c", lambda: {"x": 0}, lambda _hooks: pytest.fail("c was computed again"))
    new = run.stage("d", lambda: {"x": 0}, lambda _hooks: ({"x": np.float32(8)}, {}))
    run.close()
    np.testing.assert_array_equal(kept["x"], np.full(3, 7.0))  # a 1, b 1 + 2, c 4 + 3
    again = Chain()
    again.run(config, tmp_path)
    assert again.computed == []
    assert new["x"] == 8


def test_what_was_made_of_another_result_is_stale(config, tmp_path):
    Chain().run(config, tmp_path)
    flip(largest_file(tmp_path / "stages" / "b"))
    chain = Chain((1.0, 2.5, 3.0))  # as if another machine computed b
    total, said = chain.run(config, tmp_path)
    assert chain.computed == ["b", "c"]
    assert "c: it was made of other results than there are now; c is computed again" in said
    # a = 1; b = 1 + 2.5; c = 4.5 + 3; their sum.
    assert total.tolist() == [12.0] * 3


def test_a_stage_without_its_folder_is_computed_again(config, tmp_path):
    chain = Chain()
    chain.run(config, tmp_path)
    (tmp_path / "stages" / "c").rename(tmp_path / "elsewhere")
    _, said = chain.run(config, tmp_path)
    assert chain.computed == ["a", "b", "c", "c"]
    assert "c: it is missing" in said


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.write_text("{}")])
def test_a_damaged_manifest_has_a_copy(config, tmp_path, damage):
    chain = Chain()
    chain.run(config, tmp_path)
    damage(tmp_path / "manifest.json")
    _, said = chain.run(config, tmp_path)
    assert chain.computed == ["a", "b", "c"]
    assert "manifest.json is damaged; its copy" in said


def test_without_a_manifest_that_can_be_believed_all_is_done_again(config, tmp_path):
    chain = Chain()
    chain.run(config, tmp_path)
    for path in tmp_path.glob("manifest*.json"):
        flip(path)
    _, said = chain.run(config, tmp_path)
    assert chain.computed == 2 * ["a", "b", "c"]
    assert "all is done again" in said


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.unlink()])
def test_a_damaged_config_is_known_by_the_manifest(config, tmp_path, damage):
    chain = Chain()
    chain.run(config, tmp_path)
    written = (tmp_path / "config.json").read_text()
    damage(tmp_path / "config.json")
    _, said = chain.run(config, tmp_path)
    assert chain.computed == ["a", "b", "c"]
    assert "config.json: damaged" in said
    assert (tmp_path / "config.json").read_text() == written
    truncate(tmp_path / "config.json")
    with pytest.raises(WorkdirError, match="damaged, and was not this config"):
        Run(tmp_path, make_config(seed=3))


def test_a_request_ends_a_training_with_a_checkpoint(tmp_path, whole):
    request = Request()
    config = make_config(checkpoint_seconds=1e9)
    run = Run(tmp_path / "run", config, out=io.StringIO(), request=request)
    hooks = run.hooks("line")

    def on_progress(done, total, metrics):
        hooks.on_progress(done, total, metrics)
        if done >= 50:
            request.signum = signal.SIGTERM

    with pytest.raises(Interrupted, match="in line, after update") as caught:
        train(type(hooks)(on_progress, hooks.save, hooks.restore))
    assert caught.value.status == 143
    run.close()
    state, step, _ = go_on(config, tmp_path / "run")
    assert step >= 50
    chex.assert_trees_all_equal(whole.params, state.params)


def test_a_request_ends_what_has_no_checkpoints_where_it_stands(config, tmp_path):
    request = Request()
    run = Run(tmp_path / "run", config, out=io.StringIO(), request=request)

    def compute(hooks):
        hooks.on_progress(1, 3, {})
        request.signum = signal.SIGINT
        hooks.on_progress(2, 3, {})
        raise AssertionError("it went on")

    with pytest.raises(Interrupted, match="in part, which begins again") as caught:
        run.stage("part", dict, compute)
    assert caught.value.status == 130
    with pytest.raises(Interrupted, match="before other"):
        run.stage("other", dict, compute)


def test_a_run_that_came_to_nothing_leaves_nothing(config, tmp_path):
    Run(tmp_path / "runs" / "new", config).close()
    assert not (tmp_path / "runs").exists()


def test_a_refused_folder_is_as_before(config, tmp_path):
    Run(tmp_path, config)
    (tmp_path / "lock").unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(WorkdirError, match="another config"):
        Run(tmp_path, make_config(seed=1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_estimate_of_memory_is_said_before_a_training(config, tmp_path):
    out = io.StringIO()
    train(Run(tmp_path, config, out=out).hooks("line"), steps=1)
    assert "line: takes about" in out.getvalue()


def parts_stage(run, computed, until=3):
    """A stage of three parts; killed before part `until`."""

    def compute(hooks):
        def part(index):
            if index == until:
                raise Killed
            computed.append(index)
            return np.full(2, index, np.int64), np.array([index > 0])

        parts = [hooks.keep(f"{index}", lambda index=index: part(index)) for index in range(3)]
        return {"x": np.concatenate([numbers for numbers, _ in parts])}, {}

    return run.stage("whole", lambda: {"x": 0}, compute)["x"]


def test_finished_parts_of_a_stage_are_kept(config, tmp_path):
    computed = []
    with pytest.raises(Killed):
        parts_stage(Run(tmp_path, config, out=io.StringIO()), computed, until=2)
    flip(largest_file(tmp_path / "parts" / "whole" / "1"))
    out = io.StringIO()
    x = parts_stage(Run(tmp_path, config, out=out), computed)
    assert computed == [0, 1, 1, 2]
    assert "1: its checksum is wrong; it is computed again" in out.getvalue()
    assert x.tolist() == [0, 0, 1, 1, 2, 2]
    assert x.dtype == np.int64
    assert not list(tmp_path.glob("parts/*"))  # the stage is done


def test_a_request_is_obeyed_between_parts(config, tmp_path):
    request, computed = Request(), []
    run = Run(tmp_path, config, out=io.StringIO(), request=request)

    def compute(hooks):
        hooks.keep("a", lambda: (np.zeros(1),))
        request.signum = signal.SIGTERM
        hooks.keep("b", lambda: (np.ones(1),))
        raise AssertionError("it went on")

    with pytest.raises(Interrupted, match="in whole, after part b"):
        run.stage("whole", dict, compute)
    x = parts_stage(Run(tmp_path, config, out=io.StringIO()), computed)
    assert computed == [0, 1, 2]
    assert len(x) == 6


def test_what_a_killed_process_left_is_swept_up(config, tmp_path):
    Chain().run(config, tmp_path)
    for name in ("training/a/7", "parts/b/0-8", "stages/.c.partial"):
        (tmp_path / name).mkdir(parents=True)
    chain = Chain()
    chain.run(config, tmp_path)
    assert not chain.computed
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_dir()}
    assert {"training", "parts", "stages", "stages/a", "stages/b", "stages/c"} <= left
    assert not left & {"training/a", "parts/b", "stages/.c.partial"}
