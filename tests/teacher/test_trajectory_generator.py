"""DDR-I: its windows, what is known and what counts in training, what is read off a plan.

Over 300 lines: the cases share one small DDR-I.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.normalizer import Normalizer
from tskd_jax.data.trajectories import from_columns
from tskd_jax.data.windows import make_sequence_buffer, window
from tskd_jax.models import baseline
from tskd_jax.teacher import diffuser, planning, trajectory_generator
from tskd_jax.training import seeds

# --- Windows ------------------------------------------------------------------------------------


def identity(size):
    """A normaliser that changes nothing."""
    raw = np.stack([np.zeros(size), np.ones(size)]).astype(np.float32)
    return Normalizer(raw=raw, normal=raw, low=raw[0], high=raw[1], kind="limits")


def counted(lengths):
    """Episodes whose state at time t is (100 e + t, -(100 e + t)), whose reward is 1000 e + t."""
    episode = np.repeat(np.arange(len(lengths)), lengths)
    time = np.concatenate([np.arange(length) for length in lengths])
    value = (100 * episode + time)[:, None] * np.array([1, -1])
    return from_columns(
        observations=value,
        actions=np.zeros((len(time), 1)),
        rewards=1000 * episode + time,
        next_observations=value + np.array([1, -1]),
        terminals=np.zeros(len(time)),
        lengths=lengths,
    )


def buffer_of(lengths):
    trajectories = counted(lengths)
    labels = np.arange(trajectories.size) / 10
    return make_sequence_buffer(trajectories, identity(2), identity(1), labels), trajectories


def test_windows_of_a_three_step_episode_by_hand():
    # States 0 1 2 3, rewards 0 1 2; H = 5, C = 2. Behind the end the last state is repeated.
    buffer, _ = buffer_of([3])
    w = window(buffer, jnp.arange(3), 5, 2)
    np.testing.assert_array_equal(
        w.states[:, :, 0], [[0, 1, 2, 3, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]
    )
    yes, no = True, False
    np.testing.assert_array_equal(
        w.state_exists, [[yes, yes, yes, yes, no], [yes, yes, yes, yes, no], [yes] * 3 + [no] * 2]
    )
    np.testing.assert_array_equal(
        w.reward_exists, [[yes, yes, yes, no, no], [yes, yes, yes, no, no], [yes] * 2 + [no] * 3]
    )
    np.testing.assert_array_equal(w.current, [0, 1, 1])
    np.testing.assert_allclose(w.labels, [0, 0.1, 0.2])
    np.testing.assert_array_equal(w.rewards[0, :3, 0], [0, 1, 2])
    np.testing.assert_array_equal(w.rewards[2, :2, 0], [1, 2])


@pytest.mark.parametrize("context", [1, 3, 20])
@pytest.mark.parametrize("horizon", [2, 6, 21])
def test_windows_are_the_literal_loop_and_stay_in_their_episode(context, horizon):
    lengths = [3, 1, 7, 2]
    buffer, trajectories = buffer_of(lengths)
    w = window(buffer, jnp.arange(trajectories.size), horizon, context)
    transition = 0
    for episode, length in enumerate(lengths):
        for t in range(length):
            start = t - (min(context, t + 1) - 1)  # history is short where the episode is young
            for position in range(horizon):
                u = start + position
                state = 100 * episode + min(u, length)
                assert w.states[transition, position, 0] == state
                assert w.states[transition, position, 1] == -state
                assert w.state_exists[transition, position] == (u <= length)
                assert w.reward_exists[transition, position] == (u < length)
                if u < length:
                    assert w.rewards[transition, position, 0] == 1000 * episode + u
            assert w.current[transition] == t - start
            assert w.labels[transition] == pytest.approx(transition / 10)
            transition += 1


def test_last_transition_has_its_true_next_state():
    trajectories = counted([2, 3])
    jump = trajectories.next_observations.copy()
    jump[1] = [55, 66]  # nowhere else in the data
    trajectories = trajectories.replace(next_observations=jump)
    buffer = make_sequence_buffer(trajectories, identity(2), identity(1), np.zeros(5))
    w = window(buffer, jnp.array([1]), 3, 1)
    np.testing.assert_array_equal(w.states[0], [[1, -1], [55, 66], [55, 66]])
    np.testing.assert_array_equal(w.state_exists[0], [True, True, False])


# --- Training -----------------------------------------------------------------------------------


def of_one_seed(config, trajectories):
    """(DDR-I without parameters, the sequence buffer that it is trained on), without the axis."""
    plan, model = trajectory_generator.training(
        config, trajectories, None, None, jax.random.key(0)[None]
    )
    buffer = plan.data[2]
    return seeds.of_seed(model, 0), buffer.replace(labels=buffer.labels[0])


def loss_arguments(monkeypatch, config, trajectories, rows):
    """The arguments that the training's loss passes to `diffusion_loss` for those transitions."""
    seen = {}
    monkeypatch.setattr(
        trajectory_generator,
        "diffusion_loss",
        lambda net, params, schedule, x0, y, **kw: seen.update(kw, x0=x0),
    )
    plan, _ = trajectory_generator.training(
        config, trajectories, None, None, jax.random.key(0)[None]
    )
    *_, buffer, coordinates = plan.data
    of_one = buffer.replace(labels=buffer.labels[0]), seeds.of_seed(coordinates, 0)
    plan.loss(None, None, (jnp.asarray(rows), *of_one), jax.random.key(1))
    return {name: np.asarray(value) for name, value in seen.items() if name != "key"}


def test_what_is_known_and_what_counts_by_hand(monkeypatch, tiny_config):
    # The three-step episode above with a target's weight of 10: the present state and those
    # before it are known, rewards never; the targets are the reward at the present's position and
    # the state behind it; nothing behind the end counts.
    config = replace(tiny_config.trajectory_generator, horizon=5, context=2, target_weight=10.0)
    seen = loss_arguments(monkeypatch, config, counted([3]), [0, 1, 2])
    states, rewards = seen["known"][..., 0], seen["known"][..., 2]
    np.testing.assert_array_equal(states, np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])[[0, 1, 1]])
    assert not rewards.any()
    np.testing.assert_array_equal(
        seen["weight"][..., 0], [[1, 10, 1, 1, 0], [1, 1, 10, 1, 0], [1, 1, 10, 0, 0]]
    )
    np.testing.assert_array_equal(
        seen["weight"][..., 2], [[10, 1, 1, 0, 0], [1, 10, 1, 0, 0], [1, 10, 0, 0, 0]]
    )
    np.testing.assert_array_equal(seen["known"][..., 0], seen["known"][..., 1])
    np.testing.assert_array_equal(seen["known_values"], seen["x0"])


def test_history_is_blurred_only_where_configured(monkeypatch, tiny_config, tiny_trajectories):
    config = replace(tiny_config.trajectory_generator, history_noise=0.3)
    rows = np.arange(100)
    seen = loss_arguments(monkeypatch, config, tiny_trajectories, rows)
    blur = seen["known_values"] - seen["x0"]
    deviation = blur.std((1, 2))
    # One deviation a window, from U(0, 0.3): its mean over 100 windows is 0.15 ± 0.009, and each
    # window holds 32 draws, which determine it to an eighth.
    assert 0.1 < deviation.mean() < 0.2
    assert deviation.min() < 0.06
    assert 0.2 < deviation.max() < 0.45
    # The targets are the clean data.
    plain = loss_arguments(monkeypatch, tiny_config.trajectory_generator, tiny_trajectories, rows)
    np.testing.assert_array_equal(seen["x0"], plain["x0"])


def test_the_penalty_keeps_rewards_single(tiny_trajectories):
    config = trajectory_generator.Config(termination_penalty=3.0)
    penalized = diffuser.penalized(config, tiny_trajectories)
    assert penalized.rewards.dtype == np.float32
    lost = tiny_trajectories.rewards - penalized.rewards
    np.testing.assert_allclose(lost, 3 * tiny_trajectories.terminals, atol=1e-6)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_the_kept_have_their_share_of_the_windows(tiny_trajectories, share):
    kept = np.array([0, 1, 4, 7])
    rows = trajectory_generator._rows(
        trajectory_generator.Config(kept_fraction=share), tiny_trajectories, kept
    )
    everything, more = np.split(rows, [tiny_trajectories.size])
    np.testing.assert_array_equal(everything, np.arange(tiny_trajectories.size))
    assert len(more) / len(rows) == pytest.approx(share, abs=1 / len(rows))
    favoured = np.flatnonzero(np.isin(tiny_trajectories.episode_of, kept))
    times = np.bincount(more, minlength=tiny_trajectories.size)
    assert times.sum() == times[favoured].sum()
    assert np.ptp(times[favoured]) <= 1


def test_loss_decreases(tiny_generators):
    _, metrics, losses = tiny_generators
    # The first chunk is one update of a fresh network; predicting 0 costs 1.
    assert losses[0] > 0.8
    assert losses[-1] < 0.7 * losses[0]
    assert metrics == [{"loss": losses[-1]}]


def test_members_are_networks_of_their_own_whose_noise_is_averaged(tiny_config, tiny_trajectories):
    def fresh(members):
        config = replace(tiny_config.trajectory_generator, members=members)
        labels = trajectory_generator.conditions(config, tiny_trajectories, None, 1)
        model = trajectory_generator.create(config, tiny_trajectories, None, labels)
        return seeds.of_seed(diffuser.with_fresh_params(model, jax.random.key(3)[None]), 0)

    one, three = fresh(1), fresh(3)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(model.params)) for model in (one, three)]
    assert sizes[1] == 3 * sizes[0]
    row = jnp.ones(2)
    inputs = jax.random.normal(jax.random.key(4), (2, 8, 4)), jnp.ones(2, int), row, row
    noise = jax.jit(one.noise)
    apart = np.stack(
        [
            noise(jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], three.params), *inputs)
            for i in range(3)
        ]
    )
    assert apart.std(0).mean() > 1e-3
    together = jax.jit(three.noise)(three.params, *inputs)
    np.testing.assert_allclose(together, apart.mean(0), atol=1e-5)


@pytest.mark.slow
def test_seeds_have_baselines_labels_and_coordinates_of_their_own(tiny_config, tiny_trajectories):
    config = replace(
        tiny_config.trajectory_generator,
        residual=True,
        condition="advantage",
        relative=True,
        steps=20,
    )
    keys = jax.random.split(jax.random.key(5), 2)
    few = replace(tiny_config.baseline, steps=50, hidden=(8,))
    expected, _ = baseline.train(few, tiny_trajectories, config.discount, keys=keys)
    plan, model = trajectory_generator.training(config, tiny_trajectories, expected, None, keys)
    buffer = plan.data[2]
    assert buffer.states.ndim == 2  # one for all seeds
    assert buffer.labels.shape == (2, tiny_trajectories.size)
    assert np.abs(buffer.labels[0] - buffer.labels[1]).max() > 0.1
    scales = model.coordinates.residual.scale
    assert np.abs(scales[0] - scales[1]).max() > 1e-5

    params = jax.jit(model.init)(jax.random.key(6))

    def losses(plan):
        def of_seed(data, key):
            return plan.loss(params, None, plan.draw(data, key), key)

        mapped = jax.jit(jax.vmap(of_seed, (plan.data_axes, 0)))
        return mapped(plan.data, plan.keys[:, 0])

    both = losses(plan)
    assert np.abs(both[0] - both[1]) > 1e-3
    for index in range(2):
        one = slice(index, index + 1)
        own = jax.tree.map(lambda leaf, one=one: leaf[one], expected)
        alone, _ = trajectory_generator.training(config, tiny_trajectories, own, None, keys[one])
        np.testing.assert_allclose(losses(alone)[0], both[index], rtol=1e-5)


def test_every_recorded_state_is_within_the_samplers_range(tiny_config, tiny_trajectories):
    # The states in which episodes end are next states only. Were they outside of the range to
    # which predictions are clipped, no imagined trajectory could ever end by the task's rule.
    model = of_one_seed(tiny_config.trajectory_generator, tiny_trajectories)[0]
    for states in (tiny_trajectories.observations, tiny_trajectories.next_observations):
        z = np.asarray(model.states.normalize(jnp.asarray(states)))
        assert (z >= np.asarray(model.states.low) - 1e-5).all()
        assert (z <= np.asarray(model.states.high) + 1e-5).all()


def test_termination_penalty_enters_the_label_only(tiny_config, tiny_trajectories):
    plain, fined = (
        of_one_seed(
            replace(
                tiny_config.trajectory_generator,
                termination_penalty=penalty,
                return_scale=1.0,
                discount=0.5,
            ),
            tiny_trajectories,
        )[1]
        for penalty in (0.0, 8.0)
    )
    np.testing.assert_array_equal(plain.rewards, fined.rewards)
    # Episode 0 is terminal and has 3 steps: 8 · 0.5², 8 · 0.5, 8 less. Episode 1 is truncated.
    off = np.asarray(plain.labels - fined.labels)
    np.testing.assert_allclose(off[:3], [2, 4, 8], atol=1e-5)
    np.testing.assert_allclose(off[3:13], 0, atol=1e-6)


# --- Planning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "steps"), [(1, 1), (3, 1), (2, 4)])
def test_plan_reads_reward_and_next_states_at_their_positions(
    monkeypatch, tiny_config, tiny_generator, length, steps
):
    model = tiny_generator
    passed = {}

    def numbered(denoise, schedule, sampler, **arguments):
        passed.update(arguments)
        # The entry at position p and dimension d is 10 p + d.
        _, horizon, dim = arguments["known"].shape
        table = 10 * jnp.arange(horizon)[:, None] + jnp.arange(dim)[None]
        return jnp.broadcast_to(table, arguments["known"].shape).astype(jnp.float32)

    monkeypatch.setattr(planning, "sample", numbered)
    sampling = replace(tiny_config.sampling, replan_every=steps)
    history = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    whole = planning.plan(model, sampling, history, jnp.int32(length), keys)
    rewards, states = whole.next_steps(jnp.int32(length), steps)
    assert rewards.shape == (2, steps, 1)
    assert states.shape == (2, steps, 3)
    # The present is at L - 1: its reward stands there (dimension m = 3), its next state at L.
    now = length - 1
    np.testing.assert_array_equal(rewards[1, :, 0], [10 * (now + i) + 3 for i in range(steps)])
    np.testing.assert_array_equal(states[1, :, 1], [10 * (now + 1 + i) + 1 for i in range(steps)])
    # States 0 … L - 1 are known as they are, and nothing else is.
    expected = np.zeros((2, 8, 4), bool)
    expected[:, :length, :3] = True
    np.testing.assert_array_equal(passed["known"], expected)
    np.testing.assert_array_equal(passed["known_values"][:, :length, :3], history[:, :length])


def test_plan_ignores_history_behind_its_length_and_other_sequences(tiny_config, tiny_generator):
    model = tiny_generator
    plan = jax.jit(
        lambda history, length, keys: planning.plan(
            model, tiny_config.sampling, history, length, keys
        ).next_steps(length, 1)
    )
    rng = np.random.default_rng(0)
    history = jnp.asarray(rng.uniform(-1, 1, (3, 3, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    first = plan(history, jnp.int32(2), keys)
    second = plan(history.at[:, 2].set(9.0).at[0].set(0.3), jnp.int32(2), keys)
    for left, right in zip(first, second, strict=True):
        np.testing.assert_allclose(left[1:], right[1:], atol=1e-5)
        assert np.abs(left[0] - right[0]).max() > 1e-4
        assert np.isfinite(left).all()


def numbered_plan(batch, horizon):
    """A plan whose token at position p has the states (p, p, p) and the reward -p."""
    position = np.broadcast_to(np.arange(horizon, dtype=np.float32)[:, None], (batch, horizon, 1))
    return planning.Plan(jnp.asarray(np.tile(position, 3)), jnp.asarray(-position))


@pytest.mark.parametrize(("time", "taken", "moved"), [(1, 1, 0), (3, 1, 1), (4, 2, 2), (3, 3, 1)])
def test_a_warm_start_begins_with_the_plan_before_moved_along(
    monkeypatch, tiny_config, tiny_generator, time, taken, moved
):
    # C = 3: windows of t = 0, 1, 2 begin at the episode's start, that of t = 3 one later.
    model = tiny_generator.replace(
        config=replace(tiny_generator.config, context=3),
    )
    seen = []

    def watch(denoise, schedule, sampler, **arguments):
        seen.append((sampler, arguments["earlier"]))
        return jnp.zeros(arguments["known"].shape)

    monkeypatch.setattr(planning, "sample", watch)
    sampling = replace(tiny_config.sampling, steps=10, start=1.0, warm_start=0.3)
    horizon = model.config.horizon
    with jax.disable_jit():  # so that only the branch taken is run, with numbers
        planning.replan(
            model,
            sampling,
            jnp.zeros((2, 3, 3)),
            jnp.int32(min(3, time + 1)),
            jax.random.split(jax.random.key(0), 2),
            numbered_plan(2, horizon),
            jnp.int32(time),
            taken,
        )
    ((warm, tokens),) = seen
    assert (warm.steps, warm.start) == (3, 0.3)
    positions = np.minimum(np.arange(horizon) + moved, horizon - 1)
    np.testing.assert_array_equal(tokens[1, :, 2], positions)
    np.testing.assert_array_equal(tokens[1, :, 3], -positions)


def test_warm_start_uses_the_plan_before_except_at_time_0(tiny_config, tiny_generator):
    model = tiny_generator
    sampling = replace(tiny_config.sampling, warm_start=0.3)
    rng = np.random.default_rng(0)
    horizon, context = model.config.horizon, model.config.context
    history = jnp.asarray(rng.uniform(-0.5, 0.5, (2, context, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    def states(earlier, time, length):
        return planning.replan(model, sampling, history, length, keys, earlier, time, 1).states

    def at(time, earlier):
        return states(earlier, jnp.int32(time), jnp.int32(min(context, time + 1)))

    nothing = planning.no_plan(model, 2)
    other = planning.Plan(nothing.states + 0.5, nothing.rewards)
    assert nothing.states.shape == (2, horizon, 3)
    cold = planning.plan(model, tiny_config.sampling, history, jnp.int32(1), keys).states
    np.testing.assert_allclose(at(0, other), cold, atol=1e-3)
    np.testing.assert_array_equal(at(0, other), at(0, nothing))
    assert np.abs(at(4, other) - at(4, nothing)).max() > 1e-3


def test_target_by_quantile_is_what_neighbours_reach(tiny_config, tiny_generator):
    model = tiny_generator
    # Around 0 the labels are 0 … 4, around 1 they are 10 … 14: the median of the five nearest.
    model = model.replace(
        reference_states=np.repeat([[0.0], [1.0]], 5, 0).astype(np.float32) * np.ones((1, 3)),
        reference_labels=np.array([0, 1, 2, 3, 4, 10, 11, 12, 13, 14], np.float32),
    )
    states = jnp.array([[0.1, 0, 0], [0.9, 1, 1]])
    target = diffuser.target_condition
    by_quantile = replace(tiny_config.sampling, target_quantile=0.5, target_neighbours=5)
    np.testing.assert_allclose(target(model, states, by_quantile), [2, 12], atol=1e-6)
    fixed = replace(tiny_config.sampling, target_return=0.7)
    np.testing.assert_allclose(target(model, states, fixed), [0.7], atol=1e-6)
