"""A run in a test's folder, trainings that are killed in it, and damage."""

import io
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tskd_jax.run.run import Run
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Ema, Training

CONFIG = {"seed": 0, "student": {"steps": 10, "hidden": (8, 8)}}
KEY = "0123456789abcdef" * 4  # of the stage that the trainings of these tests belong to
LINE = "line-0123456789ab"  # the folder of such a training
EVERY_CHUNK = 1e-9  # seconds between checkpoints


class Killed(Exception):
    pass


def begin(path, config=CONFIG, checkpoint_seconds=EVERY_CHUNK, out=None, **options):
    """A run, as a process begins it."""
    out = out or io.StringIO()
    return Run(path, config, checkpoint_seconds=checkpoint_seconds, out=out, **options)


def train(callbacks, steps=600, members=2):
    """A training of one seed; gives its last state, on the host."""
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    training = Training(
        name="line",
        init=lambda key: {"w": jax.random.normal(key, (3,))},
        loss=lambda params, _ema, batch, _key: jnp.square(batch[0] @ params["w"] - batch[1]).mean(),
        draw=lambda data, key: uniform_rows(data, key, 8),
        data=(x, x @ np.array([1.0, -2.0, 0.5], np.float32)),
        optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, steps)),
        steps=steps,
        keys=jax.random.split(jax.random.key(0), (1, members)),
        ema=Ema(0.9, 3, 10),
    )
    states = []

    def save(state):
        # A copy: the loop's next chunk takes over the state's memory.
        plain = state.replace(key=jax.random.key_data(state.key))
        states[:] = [jax.tree.map(lambda leaf: np.array(leaf), plain)]
        callbacks.save(state)

    fitted = fit(training, replace(callbacks, save=save))
    chex.assert_trees_all_equal((fitted.params, fitted.ema), (states[0].params, states[0].ema))
    return states[0]


def killed_training(path, after=200, **options):
    """A training that is killed after a checkpoint; the steps of those it leaves."""
    callbacks = begin(path, **options).callbacks(KEY, "line")

    def die(state):
        callbacks.save(state)
        if int(state.step) >= after:
            raise Killed

    with pytest.raises(Killed):
        train(replace(callbacks, save=die))
    return sorted(int(p.name) for p in (path / "training").glob(f"{LINE}/*"))


def go_on(path, **options):
    """(the state at the end, the step at which it went on, what was printed)."""
    out, seen = io.StringIO(), []
    callbacks = begin(path, out=out, **options).callbacks(KEY, "line")

    def restore(state):
        state = callbacks.restore(state)
        seen.append(int(state.step))
        return state

    state = train(replace(callbacks, restore=restore))
    return state, seen[0], out.getvalue()


class Chain:
    """Three stages, each the sum of those before it and a number of its own."""

    def __init__(self, own=(1.0, 2.0, 3.0)):
        self.own, self.computed = own, []

    def run(self, path, **options):
        """(the sum of all, what was printed)."""
        out = io.StringIO()
        run = begin(path, out=out, **options)

        def add(name, total, callbacks):
            self.computed.append(name)
            number = np.float32(self.own["abc".index(name)])
            return {"x": total + number}, {"first": float(total[0])}

        total = np.zeros(3, np.float32)
        for name in "abc":
            total = total + run.stage(name, add, name, total)["x"]
        run.close()
        return total, out.getvalue()


def place(path, name):
    """The folder of the only stage of that name."""
    (found,) = (path / "stages").glob(f"{name}-*")
    return found


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unlink(path):
    path.unlink()


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
