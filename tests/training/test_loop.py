"""fit: what it minimises, what it reports, and how it goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_trainings import (
    AVERAGED,
    KEY,
    WEIGHTS,
    assert_same_bits,
    chunks_of_one_step,
    descent,
    regression,
)

from tskd_jax.training import loop
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit


def test_learns_a_linear_regression():
    states = []
    callbacks = TrainingCallbacks(save=lambda state: states.append(int(state.step)))
    fitted = fit(regression(steps=400), callbacks)
    np.testing.assert_allclose(fitted.params["w"], WEIGHTS[None], atol=0.02)
    assert fitted.params["b"].tolist() == pytest.approx([0.7], abs=0.02)
    assert states[-1] == 400
    assert all(
        isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((fitted.params, fitted.ema))
    )


def test_members_are_the_same_trained_together_one_by_one_and_in_other_company():
    keys = jax.random.split(jax.random.key(0), (1, 3))
    together = fit(regression(keys))
    pair = fit(regression(keys[:, jnp.array([2, 0])]))
    for member in range(3):
        alone = fit(regression(keys[:, member : member + 1]))
        for name in ("w", "b"):
            ours, expected = together.params[name][:, member], alone.params[name][:, 0]
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    for place, member in enumerate((2, 0)):
        np.testing.assert_allclose(
            pair.params["w"][:, place], together.params["w"][:, member], rtol=1e-5, atol=1e-6
        )
    # Different keys: different weights to start from and different batches.
    assert np.abs(together.params["w"][0, 0] - together.params["w"][0, 1]).max() > 1e-4


@pytest.mark.parametrize("axes", [(1,), (2,), (2, 2)])
def test_restored_at_any_step_ends_in_the_same_bits(monkeypatch, axes):
    chunks_of_one_step(monkeypatch)
    training = regression(jax.random.split(jax.random.key(0), axes), 12, ema=AVERAGED)
    saved = {}

    def save(state):
        # A copy: the loop gives the state's buffers away.
        saved[int(state.step)] = jax.tree.map(jnp.copy, state)

    whole = fit(training, TrainingCallbacks(save=save))
    assert sorted(saved) == list(range(1, 13))
    uninterrupted = saved.copy()
    for step in (1, 4, 11, 12):
        done = []
        resumed = fit(
            training,
            TrainingCallbacks(
                restore=lambda fresh, step=step: jax.tree.map(jnp.copy, uninterrupted[step]),
                on_progress=lambda now, steps, metrics, done=done: done.append(now),
                save=save,
            ),
        )
        assert done == list(range(step + 1, 13))
        assert_same_bits((resumed.params, resumed.ema), (whole.params, whole.ema))
        assert_same_bits(saved[12], uninterrupted[12])  # the optimizer's state and keys too
        assert bool(resumed.metrics) == (step < 12)


def test_length_of_the_chunks_does_not_matter(monkeypatch):
    last = []
    callbacks = TrainingCallbacks(
        save=lambda state: last.append(jax.tree.map(np.asarray, state.replace(key=None)))
    )
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1e9)  # 1, 2, 4, 8, …
    long = fit(regression(steps=12), callbacks)
    chunks, state = len(last), last[-1]
    chunks_of_one_step(monkeypatch)
    short = fit(regression(steps=12), callbacks)
    assert chunks < len(last) - chunks == 12
    assert_same_bits((long.params, long.ema, state), (short.params, short.ema, last[-1]))


def test_restore_sees_the_fresh_state():
    fresh = []

    def restore(state):
        fresh.append(jax.tree.map(jnp.copy, state))
        return state

    fit(regression(jax.random.key(3)[None], 2), TrainingCallbacks(restore=restore))
    (state,) = fresh
    assert int(state.step) == 0
    assert state.params["w"].shape == (1, 3)
    np.testing.assert_array_equal(state.params["w"], state.ema["w"])


def test_progress_counts_up_and_averages_the_chunk():
    seen = []
    fitted = fit(descent(50), TrainingCallbacks(on_progress=lambda *report: seen.append(report)))
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
    assert fitted.metrics == seen[-1][2]


def test_metrics_are_means_over_seeds_and_members():
    seen = []
    keys = jax.random.split(jax.random.key(0), (2, 3))
    training = regression(keys, steps=1)
    fitted = fit(training, TrainingCallbacks(on_progress=lambda *report: seen.append(report[2])))
    alone = [
        fit(regression(keys[i : i + 1, j : j + 1], steps=1)).metrics["loss"]
        for i, j in ((0, 0), (1, 2))
    ]
    assert alone[0] != pytest.approx(alone[1], rel=1e-2)
    each = []
    for i in range(2):
        for j in range(3):
            params = training.init(jax.random.fold_in(keys[i, j], 0))
            batch_key, loss_key = jax.random.split(jax.random.fold_in(keys[i, j], 1))
            batch = training.draw(jax.tree.map(jnp.asarray, training.data), batch_key)
            each.append(float(training.loss(params, params, batch, loss_key)))
    assert [each[0], each[5]] == pytest.approx(alone, rel=1e-5)
    assert fitted.metrics["loss"] == seen[0]["loss"] == pytest.approx(np.mean(each), rel=1e-5)


def test_rates_are_given_once_all_is_compiled():
    seen = []
    fit(
        regression(KEY, 40),
        TrainingCallbacks(on_progress=lambda done, steps, metrics: seen.append((done, metrics))),
    )
    rates = [("steps_per_second" in metrics) for _, metrics in seen]
    assert rates == [False] + [True] * (len(seen) - 1)
    assert len(seen) > 1
    for _, metrics in seen[1:]:
        assert metrics["steps_per_second"] > 0
        # Forward: a product of 16 rows and 3 weights, 2 · 48 operations; backward the same again.
        flops = metrics["matmul_flops_per_second"] / metrics["steps_per_second"]
        assert flops == pytest.approx(2 * 96)


def test_the_memory_of_a_training_is_reported_before_the_first_update():
    order = []
    fit(
        descent(3),
        TrainingCallbacks(
            on_progress=lambda *report: order.append("update"), on_compiled=order.append
        ),
    )
    assert order[0] > 0
    assert order[1] == "update"
    assert order.count("update") == len(order) - 1
