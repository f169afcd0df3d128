"""What a training is made of: its optimizer, its moving average, one update."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_trainings import KEY, chunks_of_one_step, descent

from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import (
    Ema,
    Training,
    TrainingConfig,
    adam,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)


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
def test_moving_average_by_hand(monkeypatch, ema, expected):
    chunks_of_one_step(monkeypatch)
    averages = []
    callbacks = TrainingCallbacks(save=lambda state: averages.append(float(state.ema[0])))
    fitted = fit(descent(6, ema=ema), callbacks)
    assert averages == expected
    assert fitted.ema.tolist() == expected[-1:]


def test_loss_sees_the_average():
    # The loss is p · ema with ema = 1 + … a plain copy: its slope in p alone is ema, so from 1
    # each step of 0.5 takes half of p away: 0.5, 0.25, 0.125.
    training = dataclasses.replace(
        descent(3, start=1.0, rate=0.5), loss=lambda p, ema, _batch, _key: p * ema
    )
    assert fit(training).params.tolist() == [0.125]


def moves_of(optimizer, count):
    """What an optimizer does to a number of slope 1 (Adam then moves by its rate)."""
    state, moves = optimizer.init(jnp.zeros(())), []
    for _ in range(count):
        move, state = optimizer.update(jnp.ones(()), state)
        moves.append(-float(move))
    return np.array(moves)


def test_cosine_schedule_warms_up_and_ends_at_zero():
    rates = moves_of(adam(0.1, "cosine", 100), 101)
    # 2% of 100: 0, 0.05, then 0.1 at 2, half of it in the middle of 2 … 100, nothing at 100.
    np.testing.assert_allclose(rates[[0, 1, 2, 51]], [0, 0.05, 0.1, 0.05], atol=1e-5)
    assert rates[100] == pytest.approx(0, abs=1e-7)
    assert rates[99] < 1e-4
    assert (np.diff(rates[2:]) <= 1e-8).all()


def test_constant_schedule_is_constant():
    np.testing.assert_allclose(moves_of(adam(0.1, "constant", 10), 12), 0.1, rtol=1e-4)


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    steps: int = steps_field(100, "a book")
    batch_size: int = batch_size_field(8, "a book")
    learning_rate: float = learning_rate_field(0.1, "a book")
    schedule: str = schedule_field()


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_config_gives_its_optimizer(schedule):
    ours = moves_of(Config(schedule=schedule).optimizer(), 50)
    np.testing.assert_array_equal(ours, moves_of(adam(0.1, schedule, 100), 50))


def test_fields_of_a_training_have_ranges_and_sources():
    fields = {field.name: field.metadata for field in dataclasses.fields(Config)}
    assert list(fields) == ["steps", "batch_size", "learning_rate", "schedule"]
    assert all("a book" in fields[name]["meaning"] for name in list(fields)[:3])
    for name, good, bad in (
        ("steps", 1, 0),
        ("batch_size", 1, 0),
        ("learning_rate", 1e-9, 0.0),
        ("schedule", "cosine", "linear"),
    ):
        allowed = fields[name]["allowed"]
        assert allowed.check(good)
        assert not allowed.check(bad)


def test_accumulated_gradients_are_those_of_one_batch_of_all():
    # The batch is drawn from the key: two batches of one row each, and the mean of their slopes.
    training = Training(
        name="line",
        init=lambda key: jnp.zeros(()),
        loss=lambda p, _ema, batch, _key: p * batch,
        draw=lambda data, key: jax.random.uniform(key),
        data=jnp.zeros(1),
        optimizer=optax.sgd(1.0),
        steps=1,
        keys=KEY,
        accumulate=3,
    )
    of_step = jax.random.fold_in(KEY[0], 1)
    draws = [
        float(jax.random.uniform(jax.random.split(key)[0])) for key in jax.random.split(of_step, 3)
    ]
    assert len(set(draws)) == 3
    np.testing.assert_allclose(fit(training).params, [-np.mean(draws)], rtol=1e-6)
