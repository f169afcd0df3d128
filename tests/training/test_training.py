"""training.fit: what it minimises, what it averages, how it stops and how it goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tskd_jax.errors import DivergenceError, OutOfMemoryError
from tskd_jax.training import training
from tskd_jax.training.training import Ema, Hooks, adam, fit, uniform_rows

WEIGHTS = np.array([1.5, -2.0, 0.5], np.float32)


def regression_data():
    x = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)
    return x, x @ WEIGHTS + 0.7


def regress(key, steps=40, *, ema=None, hooks=None, optimizer=None):
    """A linear regression on 256 rows, in batches of 16; the initial weights are the key's."""

    def loss(params, _ema, batch, _key):
        x, y = batch
        return jnp.square(x @ params["w"] + params["b"] - y).mean()

    return fit(
        "regression",
        lambda key: {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())},
        loss,
        lambda data, key: uniform_rows(data, key, 16),
        regression_data(),
        optimizer or adam(0.05, "constant", steps),
        steps=steps,
        key=key,
        ema=ema,
        hooks=hooks,
    )


def descend(steps, *, loss=lambda p: p, ema=None, hooks=None, key=None):
    """One number from 0, slope 1, plain gradient steps of 1: after update t it is -t."""
    return fit(
        "line",
        lambda key: jnp.zeros(()),
        lambda p, _ema, _batch, _key: loss(p),
        lambda data, key: data,
        jnp.zeros(1),
        optax.sgd(1.0),
        steps=steps,
        key=jax.random.key(0) if key is None else key,
        ema=ema,
        hooks=hooks,
    )


def leaves_of(state):
    """A state as NumPy arrays; keys become their bits."""

    def plain(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return [plain(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture
def save_each_step(monkeypatch):
    """Chunks of one step, so that `save` sees every state."""
    monkeypatch.setattr(training, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(training, "FEWEST_AT_ONCE", 1)


def test_learns_a_linear_regression():
    state = regress(jax.random.key(0), 400)
    np.testing.assert_allclose(state.params["w"], WEIGHTS, atol=0.02)
    assert float(state.params["b"]) == pytest.approx(0.7, abs=0.02)
    assert int(state.step) == 400


def test_members_are_the_same_trained_together_one_by_one_and_in_other_company():
    keys = jax.random.split(jax.random.key(0), 3)
    together = regress(keys)
    pair = regress(keys[jnp.array([2, 0])])
    for member in range(3):
        alone = regress(keys[member])
        for name in ("w", "b"):
            mine = together.params[name][member]
            np.testing.assert_allclose(mine, alone.params[name], rtol=1e-5, atol=1e-6)
    for place, member in enumerate((2, 0)):
        np.testing.assert_allclose(
            pair.params["w"][place], together.params["w"][member], rtol=1e-5, atol=1e-6
        )
    # Different keys: different weights to start from and different batches.
    assert np.abs(together.params["w"][0] - together.params["w"][1]).max() > 1e-4


@pytest.mark.parametrize("members", [None, 2])
def test_restored_at_any_step_ends_in_the_same_bits(save_each_step, members):
    key = jax.random.key(0)
    key = key if members is None else jax.random.split(key, members)
    saved = {}

    def save(state):
        # A copy: the loop gives the state's buffers away.
        saved[int(state.step)] = jax.tree.map(jnp.copy, state)

    ema = Ema(0.9, 2, 3)
    whole = regress(key, 12, ema=ema, hooks=Hooks(save=save))
    assert sorted(saved) == list(range(1, 13))
    for step in (1, 4, 11, 12):
        done = []
        resumed = regress(
            key,
            12,
            ema=ema,
            hooks=Hooks(
                restore=lambda fresh, step=step: jax.tree.map(jnp.copy, saved[step]),
                on_progress=lambda now, steps, metrics, done=done: done.append(now),
            ),
        )
        assert done == list(range(step + 1, 13))
        for left, right in zip(leaves_of(resumed), leaves_of(whole), strict=True):
            np.testing.assert_array_equal(left, right)


def test_length_of_the_chunks_does_not_matter(monkeypatch):
    monkeypatch.setattr(training, "CHUNK_SECONDS", 1e9)  # 1, 2, 4, 8, …
    long = regress(jax.random.key(0), 12)
    monkeypatch.setattr(training, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(training, "FEWEST_AT_ONCE", 1)
    short = regress(jax.random.key(0), 12)
    for left, right in zip(leaves_of(long), leaves_of(short), strict=True):
        np.testing.assert_array_equal(left, right)


def test_restore_sees_the_fresh_state():
    fresh = []

    def restore(state):
        fresh.append(jax.tree.map(jnp.copy, state))
        return state

    regress(jax.random.key(3), 2, hooks=Hooks(restore=restore))
    (state,) = fresh
    assert int(state.step) == 0
    np.testing.assert_array_equal(state.params["w"], state.ema["w"])


@pytest.mark.parametrize(
    ("ema", "expected"),
    [
        # The parameter is -1, -2, … -6 after updates 1 … 6.
        (Ema(), [-1, -2, -3, -4, -5, -6]),
        # 0.5 old + 0.5 new: -0.5, -0.25 - 1 = -1.25, -0.625 - 1.5 = -2.125, then -3.0625,
        # -4.03125, -5.015625.
        (Ema(decay=0.5), [-0.5, -1.25, -2.125, -3.0625, -4.03125, -5.015625]),
        # Moves at 2, 4 and 6 only: 0, (0 - 2)/2, …, (-1 - 4)/2, …, (-2.5 - 6)/2.
        (Ema(decay=0.5, every=2), [0, -1, -1, -2.5, -2.5, -4.25]),
        # A copy up to update 3; then 4: (-3 - 4)/2, 6: (-3.5 - 6)/2.
        (Ema(decay=0.5, every=2, start=3), [-1, -2, -3, -3.5, -3.5, -4.75]),
    ],
)
def test_moving_average_by_hand(save_each_step, ema, expected):
    averages = []
    descend(6, ema=ema, hooks=Hooks(save=lambda state: averages.append(float(state.ema))))
    assert averages == expected


def test_loss_sees_the_average():
    # The loss is p · ema with ema = 1 + … a plain copy: its slope in p alone is ema, so from 1
    # each step of 0.5 takes half of p away: 0.5, 0.25, 0.125.
    state = fit(
        "copy",
        lambda key: jnp.ones(()),
        lambda p, ema, _batch, _key: p * ema,
        lambda data, key: data,
        jnp.zeros(1),
        optax.sgd(0.5),
        steps=3,
        key=jax.random.key(0),
    )
    assert float(state.params) == 0.125


def not_finite_below(bound):
    return lambda p: jnp.where(p < bound, jnp.nan, p)


def test_divergence_names_model_and_step():
    # Update 7 is the first that sees -6, below -5.5.
    saved, done = [], []
    with pytest.raises(DivergenceError, match=r"line.* at step 7 of 20\b"):
        descend(
            20,
            loss=not_finite_below(-5.5),
            hooks=Hooks(
                save=lambda state: saved.append(int(state.step)),
                on_progress=lambda now, steps, metrics: done.append(now),
            ),
        )
    # Nothing of what follows the failure is reported or saved.
    assert max(done, default=0) < 7
    assert max(saved, default=0) < 7


def test_divergence_of_one_member_is_divergence():
    keys = jax.random.split(jax.random.key(0), 3)

    def init(key):
        return jnp.where((jax.random.key_data(key) == wanted).all(), -4.0, 100.0)

    # fit folds 0 into a member's key for its parameters.
    wanted = jax.random.key_data(jax.random.fold_in(keys[1], 0))
    with pytest.raises(DivergenceError, match="step 3"):
        fit(
            "three",
            init,
            lambda p, _ema, _batch, _key: not_finite_below(-5.5)(p),
            lambda data, key: data,
            jnp.zeros(1),
            optax.sgd(1.0),
            steps=10,
            key=keys,
        )


def test_infinite_gradient_is_divergence():
    # √p is 0 at 0 and finite, its slope is not.
    with pytest.raises(DivergenceError, match="step 1 of 5"):
        descend(5, loss=lambda p: jnp.sqrt(jnp.abs(p)))


def test_progress_counts_up_and_averages_the_chunk():
    seen = []
    descend(50, hooks=Hooks(on_progress=lambda *report: seen.append(report)))
    done = [report[0] for report in seen]
    assert done == sorted(set(done))
    assert done[-1] == 50
    assert {report[1] for report in seen} == {50}
    before = 0
    for now, _, metrics in seen:
        rates = {"steps_per_second", "matmul_flops_per_second"}
        assert metrics.keys() - rates == {"loss", "gradient_norm", "update_norm", "parameter_norm"}
        # Losses of updates before+1 … now are -before … -(now - 1); norms are the last update's.
        assert metrics["loss"] == pytest.approx(-(before + now - 1) / 2)
        assert metrics["parameter_norm"] == pytest.approx(now)
        assert metrics["gradient_norm"] == metrics["update_norm"] == pytest.approx(1)
        before = now


def updates_of(optimizer, count):
    """What an optimizer does to a number of slope 1 (Adam then moves by its rate)."""
    state, moves = optimizer.init(jnp.zeros(())), []
    for _ in range(count):
        move, state = optimizer.update(jnp.ones(()), state)
        moves.append(-float(move))
    return np.array(moves)


def test_cosine_schedule_warms_up_and_ends_at_zero():
    rates = updates_of(adam(0.1, "cosine", 100), 101)
    # 2% of 100: 0, 0.05, then 0.1 at 2, half of it in the middle of 2 … 100, nothing at 100.
    np.testing.assert_allclose(rates[[0, 1, 2, 51]], [0, 0.05, 0.1, 0.05], atol=1e-5)
    assert rates[100] == pytest.approx(0, abs=1e-7)
    assert rates[99] < 1e-4
    assert (np.diff(rates[2:]) <= 1e-8).all()


def test_constant_schedule_is_constant():
    np.testing.assert_allclose(updates_of(adam(0.1, "constant", 10), 12), 0.1, rtol=1e-4)


def test_uniform_rows_keeps_the_leaves_together():
    rows = uniform_rows((jnp.arange(10), 2 * jnp.arange(10)), jax.random.key(0), 5000)
    np.testing.assert_array_equal(rows[1], 2 * rows[0])
    # 500 of each, give or take √(5000 · 0.1 · 0.9) = 21.
    assert (np.abs(np.bincount(rows[0], minlength=10) - 500) < 106).all()


def test_accumulated_gradients_are_those_of_one_batch_of_all():
    # The batch is drawn from the key: two batches of one row each, and the mean of their slopes.
    def train(accumulate):
        return fit(
            "line",
            lambda key: jnp.zeros(()),
            lambda p, _ema, batch, _key: p * batch,
            lambda data, key: jax.random.uniform(key),
            jnp.zeros(1),
            optax.sgd(1.0),
            steps=1,
            key=jax.random.key(0),
            accumulate=accumulate,
        )

    of_step = jax.random.fold_in(jax.random.key(0), 1)
    draws = [
        float(jax.random.uniform(jax.random.split(key)[0])) for key in jax.random.split(of_step, 3)
    ]
    assert len(set(draws)) == 3
    np.testing.assert_allclose(train(3).params, -np.mean(draws), rtol=1e-6)


def test_rates_are_given_once_all_is_compiled():
    seen = []
    regress(
        jax.random.key(0),
        40,
        hooks=Hooks(on_progress=lambda done, steps, m: seen.append((done, m))),
    )
    rates = [("steps_per_second" in metrics) for _, metrics in seen]
    assert rates == [False] + [True] * (len(seen) - 1)
    assert len(seen) > 1
    for _, metrics in seen[1:]:
        assert metrics["steps_per_second"] > 0
        # Forward: a product of 16 rows and 3 weights, 2 · 48 operations; backward the same again.
        flops = metrics["matmul_flops_per_second"] / metrics["steps_per_second"]
        assert flops == pytest.approx(2 * 96)


def test_an_exploding_loss_is_divergence():
    # The slope 1 - p makes p → 2p - 1 of each update: update t sees p = 1 - u with u = 2^(t-1), and
    # a loss of (1 - u²)/2. It passes -10⁶ with u = 2048, in update 12: (1 - 2²²)/2 = -2.097e6.
    with pytest.raises(DivergenceError, match=r"loss explodes to -2\.097e\+06 at step 12 of 60"):
        fit(
            "doubling",
            lambda key: jnp.zeros(()),
            lambda p, _ema, _batch, _key: p - 0.5 * jnp.square(p),
            lambda data, key: data,
            jnp.zeros(1),
            optax.sgd(1.0),
            steps=60,
            key=jax.random.key(0),
        )


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("members", [0, 2])
def test_divergence_names_member_norm_and_rows_of_the_batch(accumulate, members):
    # One row in 16 is poison; the update that first draws it is the one that is named.
    x = np.arange(16.0, dtype=np.float32)[:, None]
    x[5] = np.nan
    rows = 100 + np.arange(16)
    key = jax.random.key(3)
    with pytest.raises(DivergenceError) as caught:
        fit(
            "rows",
            lambda key: jnp.zeros(1),
            lambda p, _ema, batch, _key: jnp.square(batch @ p).mean(),
            lambda data, key: uniform_rows(data, key, 2),
            x,
            optax.sgd(1e-6),
            steps=200,
            key=jax.random.split(key, members) if members else key,
            accumulate=accumulate,
            rows=rows,
        )
    message = str(caught.value)
    assert "the loss is nan" in message
    assert "gradient norm nan" in message
    assert ("member " in message) == bool(members)
    named = message.partition("rows of the batch: ")[2].partition(")")[0].split(", ")
    assert "105" in named
    assert len(named) <= 2 * accumulate


def test_what_a_training_takes_is_told_before_the_first_update():
    order = []
    descend(
        3,
        hooks=Hooks(
            on_progress=lambda *report: order.append("update"),
            on_compiled=lambda size: order.append(size),
        ),
    )
    assert order[0] > 0
    assert order[1] == "update"
    assert order.count("update") == len(order) - 1


def test_more_than_the_machine_has_is_refused_before_the_first_update(monkeypatch):
    monkeypatch.setattr(training.memory, "of_device", lambda: (10, 10))
    done = []
    with pytest.raises(OutOfMemoryError, match="line: needs about"):
        descend(3, hooks=Hooks(on_progress=lambda *report: done.append(report)))
    assert not done
