"""DDR-I distilled into few network calls: its table, and what it learns of that."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.small_trainings import assert_same_bits, chunks_of_one_step

from tskd_jax.config import finalize, make_config
from tskd_jax.diffusion import Sampler, cosine_schedule
from tskd_jax.errors import ConfigError
from tskd_jax.teacher import few_steps, planning, trajectory_generator
from tskd_jax.teacher.plan_paths import blurred, draw_histories, make_table, plans
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

# --- Tables of a small DDR-I --------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampling(tiny_config):
    return replace(tiny_config.sampling, start=0.8, guidance=1.5)


@pytest.fixture(scope="module")
def ddr1(tiny_config, tiny_trajectories):
    """DDR-I of two members and two seeds, which has learnt a little."""
    config = replace(
        tiny_config.trajectory_generator,
        prediction="velocity",
        members=2,
        relative=True,
        history_noise=0.1,
        noise_level_input=True,
        steps=100,
    )
    keys = jax.random.split(jax.random.key(0), 2)
    return trajectory_generator.train(config, tiny_trajectories, None, None, keys=keys)[0]


def config_of(**changes):
    fields = {"windows": 300, "steps": 400, "batch_size": 64, "learning_rate": 3e-3}
    return few_steps.Config(**fields | changes)


def histories_of(model, trajectories, count=40):
    rows = np.arange(trajectories.size)
    return draw_histories(model, trajectories, rows, count, jax.random.key(7))


def test_plans_are_those_of_planning(ddr1, sampling, tiny_trajectories):
    one = seeds.of_seed(ddr1, 0)
    histories = histories_of(one, tiny_trajectories)
    assert set(histories.length) == {1, 2, 3}
    found, known = plans(one, sampling, histories)
    for row in range(5):
        key = jax.random.wrap_key_data(histories.keys[row])[None]
        history = jnp.asarray(histories.states[row : row + 1])
        length = jnp.asarray(histories.length[row])
        expected = planning.plan(one, sampling, history, length, key)
        w = planning.unfinished_window(one, sampling, history, length)
        states = w.decode(jnp.asarray(found[row : row + 1, :, :3]))
        np.testing.assert_allclose(states, expected.states, atol=1e-4)
        np.testing.assert_allclose(found[row, :, 3:4], expected.rewards[0], atol=1e-4)
        assert known[row, :, 0].sum() == histories.length[row]


@pytest.mark.parametrize("calls", [1, 3])
def test_a_ddim_step_to_each_signal_of_a_table_ends_at_the_plan(
    ddr1, sampling, tiny_trajectories, calls
):
    one, config = seeds.of_seed(ddr1, 0), config_of(calls=calls)
    histories, few = histories_of(one, tiny_trajectories), config.sampling(sampling)
    table, rows = make_table(
        *(one, sampling, few, histories, jax.random.key(0)), TrainingCallbacks(), "part"
    )
    assert table.x.shape == (40, calls, 8, 5)
    np.testing.assert_array_equal(rows, histories.row)
    sampler = Sampler("ddim", calls, start=0.8)
    a, b = sampler.coefficients(cosine_schedule(10))[:, :2].T
    unknown = ~table.known
    for step in range(calls):
        landed = a[step] * table.x[:, step] + b[step] * table.signal[:, step]
        last = step == calls - 1
        expected = plans(one, sampling, histories)[0] if last else table.x[:, step + 1]
        np.testing.assert_allclose(landed[unknown], expected[unknown], atol=1e-4)


def test_half_of_the_histories_are_blurred_where_a_blur_is_reported(
    ddr1, sampling, tiny_trajectories
):
    one = seeds.of_seed(ddr1, 0)
    sampling = replace(sampling, history_noise=0.05)
    histories = histories_of(one, tiny_trajectories)
    table, rows = make_table(
        *(one, sampling, config_of(calls=1).sampling(sampling), histories, jax.random.key(0)),
        *(TrainingCallbacks(), "part"),
    )
    # The level that tokens hold is that blur over the largest one of the training, 0.1.
    np.testing.assert_allclose(table.x[:20, 0, :, 4], 0)
    np.testing.assert_allclose(table.x[20:, 0, :, 4], 0.5)
    np.testing.assert_array_equal(rows, np.concatenate([histories.row[::2], histories.row[1::2]]))
    # In units of a step, as `relative` has it.
    moved = blurred(one, histories, 0.05, jax.random.key(1)).states - histories.states
    deviation = (moved / one.coordinates.scale[1]).std()
    assert deviation == pytest.approx(0.05, rel=0.1)


# --- Learning -----------------------------------------------------------------------------------


# Of the noise that plans begin with, so small a network learns less than of their histories.
@pytest.mark.slow
@pytest.mark.parametrize(("calls", "temperature", "tolerance"), [(1, 0.0, 0.03), (2, 0.5, 0.06)])
def test_few_calls_come_close_to_what_ddr1_samples(
    ddr1, sampling, tiny_trajectories, calls, temperature, tolerance
):
    sampling = replace(sampling, temperature=temperature)

    def distance(steps):
        """Mean square of its plans against DDR-I's, from states that it was trained in."""
        config = config_of(calls=calls, steps=steps, windows=1000)
        model, metrics = few_steps.train(
            config, sampling, first(ddr1), tiny_trajectories, keys=jax.random.key(1)[None]
        )
        assert model.config.members == 1
        assert np.isfinite(metrics[0]["held_out_mse"])
        one = seeds.of_seed(model, 0)
        teacher = seeds.of_seed(ddr1, 0)
        few = config.sampling(sampling)
        histories = histories_of(teacher, tiny_trajectories, 100)
        return few_steps.difference(teacher, sampling, one, few, histories)["held_out_mse"]

    assert distance(400) < tolerance < distance(1)


def first(tree):
    return jax.tree.map(lambda leaf: leaf[:1], tree)


@pytest.mark.slow
def test_seeds_together_are_each_alone(ddr1, sampling, tiny_trajectories):
    keys = jax.random.split(jax.random.key(4), 2)
    sampling, config = replace(sampling, temperature=0.5), config_of(calls=2, steps=10)
    both, metrics = few_steps.train(config, sampling, ddr1, tiny_trajectories, keys=keys)
    for index in range(2):
        of_seed = slice(index, index + 1)
        own = jax.tree.map(lambda leaf, i=of_seed: leaf[i], ddr1)
        alone, of_alone = few_steps.train(
            config, sampling, own, tiny_trajectories, keys=keys[of_seed]
        )
        for left, right in zip(
            jax.tree.leaves(both.params), jax.tree.leaves(alone.params), strict=True
        ):
            # Adam's first updates have the sign of gradients that are nothing but rounding.
            np.testing.assert_allclose(left[index], right[0], rtol=1e-3, atol=2e-3)
        expected = pytest.approx(of_alone[0]["held_out_mse"], rel=1e-2)
        assert metrics[index]["held_out_mse"] == expected
    assert abs(metrics[0]["held_out_mse"] - metrics[1]["held_out_mse"]) > 1e-6


@pytest.mark.slow
def test_restored_at_any_step_it_ends_in_the_same_bits(
    ddr1, sampling, tiny_trajectories, monkeypatch
):
    chunks_of_one_step(monkeypatch)
    keys, config, saved, parts = jax.random.key(2)[None], config_of(calls=2, steps=4), {}, {}

    def save(state):
        saved[int(state.step)] = jax.tree.map(jnp.copy, state)

    def cache(name, compute):
        if name not in parts:
            parts[name] = compute()
        return parts[name]

    def fitted(**callbacks):
        return few_steps.train(
            *(config, sampling, first(ddr1), tiny_trajectories),
            keys=keys,
            callbacks=TrainingCallbacks(
                part=lambda name: TrainingCallbacks(cache=cache), **callbacks
            ),
        )[0]

    before = jax.tree.map(np.array, ddr1.params)
    whole = fitted(save=save)
    assert list(parts) == ["seed_0.0.0"]
    assert_same_bits(before, ddr1.params)  # what it begins with is nobody's to give away
    for step in (1, 3):
        resumed = fitted(restore=lambda _, step=step: jax.tree.map(jnp.copy, saved[step]))
        assert_same_bits(resumed.params, whole.params)


def test_it_begins_as_the_first_member(ddr1, sampling, tiny_trajectories):
    begun = []

    def restore(state):
        begun.append(jax.tree.map(np.array, state.params))
        return state

    few_steps.train(
        *(config_of(calls=1, steps=1), sampling, first(ddr1), tiny_trajectories),
        keys=jax.random.key(2)[None],
        callbacks=TrainingCallbacks(restore=restore),
    )
    assert_same_bits(begun[0], jax.tree.map(lambda leaf: leaf[:1, :1], ddr1.params))


def test_in_bfloat16_it_is_nearly_the_same(ddr1, sampling, tiny_trajectories):
    def trained(dtype):
        model = first(ddr1).replace(config=replace(ddr1.config, dtype=dtype))
        return few_steps.train(
            *(config_of(calls=1, steps=50), sampling, model, tiny_trajectories),
            keys=jax.random.key(2)[None],
        )[1][0]["held_out_mse"]

    assert trained("bfloat16") == pytest.approx(trained("float32"), rel=0.3)


# --- Fields -------------------------------------------------------------------------------------


def test_off_it_changes_nothing_of_sampling(sampling):
    assert few_steps.Config().sampling(sampling) is sampling
    few = few_steps.Config(calls=2).sampling(replace(sampling, sampler="dpm++", replan_every=3))
    assert (few.sampler, few.steps, few.eta, few.guidance) == ("ddim", 2, 0.0, 1.0)
    assert (few.start, few.temperature, few.replan_every) == (0.8, 0.5, 3)


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("quick", {"few_steps.calls": 11}, "is more than config.sampling.steps=10"),
        ("quick", {"few_steps.calls": 1, "sampling.eta": 0.5}, "with eta=0.5 adds noise"),
        ("quick", {"few_steps.calls": 1, "sampling.warm_start": 0.5}, "must be 0"),
        ("quick", {"few_steps.calls": -1}, "allowed: ≥ 0"),
        ("paper", {"few_steps.calls": 1}, "choose dpm\\+\\+, or ddim with eta=0"),
        (
            "paper",
            {"few_steps.calls": 1, "sampling.sampler": "ddim"},
            "4058 times larger; choose config.trajectory_generator.prediction=velocity or flow",
        ),
    ],
)
def test_what_contradicts_it_is_one_line(preset, changes, message):
    config = make_config("hopper", preset)
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message) as error:
        finalize(config)
    assert "\n" not in str(error.value)


def test_what_is_allowed():
    for sampler in ("ddim", "dpm++"):
        config = make_config("hopper", "small")
        config.update_from_flattened_dict({"few_steps.calls": 4, "sampling.sampler": sampler})
        final, _ = finalize(config)
        assert final.teacher_sampling(0).steps == 4
