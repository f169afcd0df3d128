"""A run's folder: stages are kept, trainings go on from checkpoints, nothing is half-written."""

import io
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from tskd_jax.config import default_config, finalize
from tskd_jax.errors import WorkdirError
from tskd_jax.run import Run, Stopped
from tskd_jax.training import Ema, fit, uniform_rows


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

    first = Run(tmp_path / "run", config, out=io.StringIO())
    hooks = first.hooks("line")

    def die(state):
        hooks.save(state)
        if int(state.step) >= after:
            raise Killed

    with pytest.raises(Killed):
        train(type(hooks)(hooks.on_progress, die, hooks.restore))
    kept = [p for p in (tmp_path / "run" / "training" / "line").iterdir() if p.name.isdigit()]
    assert 1 <= len(kept) <= 2  # older ones make room

    seen = []
    hooks = Run(tmp_path / "run", config, out=io.StringIO()).hooks("line")

    def restore(state):
        state = hooks.restore(state)
        seen.append(int(state.step))
        return state

    resumed = train(type(hooks)(hooks.on_progress, hooks.save, restore))
    assert seen[0] >= after
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
    monkeypatch.setattr("tskd_jax.run.LINE_SECONDS", 0.0)
    out = io.StringIO()
    hooks = Run(tmp_path / "run", config, out=out).hooks("line")
    for done in (10, 20, 30):
        hooks.on_progress(done, 30, {"loss": 0.25})
    lines = out.getvalue().splitlines()
    assert len(lines) == 2  # the end has its own line, the stage's
    assert lines[1].startswith("  line: 20/30")
    assert "left" in lines[1]
    assert "loss 0.25" in lines[1]
