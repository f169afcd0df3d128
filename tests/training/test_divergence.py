"""Trainings that cannot go on: what diverges, and what does not fit into memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_trainings import datasets_of_three_sizes, descent, lines

from tskd_jax.errors import DivergenceError, OutOfMemoryError
from tskd_jax.machine import memory
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.seeds import pad_rows
from tskd_jax.training.training import Training


def not_finite_below(bound):
    return lambda p: jnp.where(p < bound, jnp.nan, p)


def test_divergence_names_model_and_step():
    # Update 7 is the first that sees -6, below -5.5.
    saved, done = [], []
    callbacks = TrainingCallbacks(
        save=lambda state: saved.append(int(state.step)),
        on_progress=lambda now, steps, metrics: done.append(now),
    )
    with pytest.raises(DivergenceError, match=r"line.* at step 7 of 20\b"):
        fit(descent(20, loss=not_finite_below(-5.5)), callbacks)
    # Nothing of what follows the failure is reported or saved.
    assert max(done, default=0) < 7
    assert max(saved, default=0) < 7


@pytest.mark.parametrize(("axes", "named"), [((1, 3), "member 1 of 3"), ((3,), "seed 1 of 3")])
def test_divergence_of_one_member_is_divergence(axes, named):
    keys = jax.random.split(jax.random.key(0), axes)

    def init(key):
        return jnp.where((jax.random.key_data(key) == wanted).all(), -4.0, 100.0)

    # fit folds 0 into a member's key for its parameters.
    wanted = jax.random.key_data(jax.random.fold_in(keys.ravel()[1], 0))
    training = Training(
        name="three",
        init=init,
        loss=lambda p, _ema, _batch, _key: not_finite_below(-5.5)(p),
        draw=lambda data, key: data,
        data=jnp.zeros(1),
        optimizer=optax.sgd(1.0),
        steps=10,
        keys=keys,
    )
    with pytest.raises(DivergenceError, match=f"step 3 of 10 .{named}, "):
        fit(training)


def test_infinite_gradient_is_divergence():
    # √p is 0 at 0 and finite, its slope is not.
    with pytest.raises(DivergenceError, match="the gradient is not finite at step 1 of 5"):
        fit(descent(5, loss=lambda p: jnp.sqrt(jnp.abs(p))))


def test_an_exploding_loss_is_divergence():
    # The slope 1 - p makes p → 2p - 1 of each update: update t sees p = 1 - u with u = 2^(t-1), and
    # a loss of (1 - u²)/2. It passes -10⁶ with u = 2048, in update 12: (1 - 2²²)/2 = -2.097e6.
    with pytest.raises(DivergenceError, match=r"loss explodes to -2\.097e\+06 at step 12 of 60"):
        fit(descent(60, loss=lambda p: p - 0.5 * jnp.square(p), name="doubling"))


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("members", [0, 2])
def test_divergence_names_member_norm_and_rows_of_the_batch(accumulate, members):
    # One row in 16 is poison; the update that first draws it is the one that is named.
    x = np.arange(16.0, dtype=np.float32)[:, None]
    x[5] = np.nan
    key = jax.random.key(3)
    training = Training(
        name="rows",
        init=lambda key: jnp.zeros(1),
        loss=lambda p, _ema, batch, _key: jnp.square(batch @ p).mean(),
        draw=lambda data, key: uniform_rows(data, key, 2),
        data=x,
        optimizer=optax.sgd(1e-6),
        steps=200,
        keys=jax.random.split(key, (1, members)) if members else key[None],
        accumulate=accumulate,
        rows=[100 + np.arange(16)],
    )
    with pytest.raises(DivergenceError) as caught:
        fit(training)
    message = str(caught.value)
    assert "the loss is nan" in message
    assert "gradient norm nan" in message
    assert ("member " in message) == bool(members)
    assert "seed " not in message  # there is one
    named = message.partition("rows of the batch: ")[2].partition(")")[0].split(", ")
    assert "105" in named
    assert len(named) <= 2 * accumulate


def test_divergence_names_the_rows_of_the_seed():
    datasets = datasets_of_three_sizes()
    x, y = datasets[1]
    datasets[1] = x, np.full_like(y, np.nan)
    rows = [np.arange(len(x)) + 1000 * seed for seed, (x, _) in enumerate(datasets)]
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(DivergenceError, match=r"seed 1 of 3, .*rows of the batch: 10\d\d"):
        fit(lines(keys, pad_rows(datasets), rows=rows))


def test_more_than_the_machine_has_is_refused_before_the_first_update(monkeypatch):
    monkeypatch.setattr(memory, "of_device", lambda: (10, 10))
    done = []
    callbacks = TrainingCallbacks(on_progress=lambda *report: done.append(report))
    with pytest.raises(OutOfMemoryError, match="line: needs about"):
        fit(descent(3), callbacks)
    assert not done


def test_a_seed_that_does_not_fit_alone_is_refused_before_the_first_update(monkeypatch):
    monkeypatch.setattr(memory, "of_device", lambda: (10, 10))
    done, lines_reported = [], []
    callbacks = TrainingCallbacks(
        on_progress=lambda *report: done.append(report), report=lines_reported.append
    )
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(OutOfMemoryError, match="line: needs about"):
        fit(descent(3, keys=keys), callbacks)
    assert "1 at a time" in lines_reported[0]
    assert not done
