"""DDR-I: its windows, what is given and what counts in training, what is read off a plan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from tskd_jax.data.normalizer import Normalizer
from tskd_jax.data.trajectories import from_columns
from tskd_jax.data.windows import make_tape, window
from tskd_jax.teacher import trajectory_generator
from tskd_jax.training.training import Hooks

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


def tape_of(lengths):
    trajectories = counted(lengths)
    labels = np.arange(trajectories.size) / 10
    return make_tape(trajectories, identity(2), identity(1), labels), trajectories


def test_windows_of_a_three_step_episode_by_hand():
    # States 0 1 2 3, rewards 0 1 2; H = 5, C = 2. Behind the end the last state is repeated.
    tape, _ = tape_of([3])
    w = window(tape, jnp.arange(3), 5, 2)
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
    tape, trajectories = tape_of(lengths)
    w = window(tape, jnp.arange(trajectories.size), horizon, context)
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
    tape = make_tape(trajectories, identity(2), identity(1), np.zeros(5))
    w = window(tape, jnp.array([1]), 3, 1)
    np.testing.assert_array_equal(w.states[0], [[1, -1], [55, 66], [55, 66]])
    np.testing.assert_array_equal(w.state_exists[0], [True, True, False])


# --- Training -----------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    """Diffusers without parameters, for tests that never run one: an init takes seconds."""
    init = staticmethod(lambda key, dim: {"params": {}})
    monkeypatch.setattr(trajectory_generator.diffuser.Diffuser, "init", init)


def loss_arguments(monkeypatch, config, trajectories, rows):
    """What the training's loss hands to `diffusion_loss` for a batch of those transitions."""
    seen, losses = {}, []

    def stop_here(name, model, loss, tape, *rest):
        losses.append((loss, tape))
        raise StopIteration

    monkeypatch.setattr(trajectory_generator.diffuser, "train_seeds", stop_here)
    monkeypatch.setattr(
        trajectory_generator,
        "diffusion_loss",
        lambda net, params, schedule, x0, y, **kw: seen.update(kw, x0=x0),
    )
    model = trajectory_generator.create(config, trajectories)
    with pytest.raises(StopIteration):
        trajectory_generator.train(model, trajectories, jax.random.key(0), Hooks())
    loss, tape = losses[0]
    loss(None, (jnp.asarray(rows), tape), jax.random.key(1))
    return {name: np.asarray(value) for name, value in seen.items() if name != "key"}


def with_fields(config, **fields):
    config = ConfigDict(config)
    config.update(fields)
    return FrozenConfigDict(config)


@pytest.mark.usefixtures("no_network")
def test_what_is_given_and_what_counts_by_hand(monkeypatch, tiny_config):
    # The three-step episode above with an answer's weight of 10: the present state and those
    # before it are given, rewards never; the answers are the reward at the present's position and
    # the state behind it; nothing behind the end counts.
    config = with_fields(tiny_config.trajectory_generator, horizon=5, context=2, answer_weight=10.0)
    seen = loss_arguments(monkeypatch, config, counted([3]), [0, 1, 2])
    states, rewards = seen["given"][..., 0], seen["given"][..., 2]
    np.testing.assert_array_equal(states, np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])[[0, 1, 1]])
    assert not rewards.any()
    np.testing.assert_array_equal(
        seen["weight"][..., 0], [[1, 10, 1, 1, 0], [1, 1, 10, 1, 0], [1, 1, 10, 0, 0]]
    )
    np.testing.assert_array_equal(
        seen["weight"][..., 2], [[10, 1, 1, 0, 0], [1, 10, 1, 0, 0], [1, 10, 0, 0, 0]]
    )
    np.testing.assert_array_equal(seen["given"][..., 0], seen["given"][..., 1])
    np.testing.assert_array_equal(seen["given_values"], seen["x0"])


@pytest.mark.usefixtures("no_network")
def test_history_is_blurred_only_where_asked(monkeypatch, tiny_config, tiny_trajectories):
    config = with_fields(tiny_config.trajectory_generator, history_noise=0.3)
    rows = np.arange(100)
    seen = loss_arguments(monkeypatch, config, tiny_trajectories, rows)
    blur = seen["given_values"] - seen["x0"]
    deviation = blur.std((1, 2))
    # One deviation a window, from U(0, 0.3): its mean over 100 windows is 0.15 ± 0.009, and each
    # window holds 32 draws, which tell it to an eighth.
    assert 0.1 < deviation.mean() < 0.2
    assert deviation.min() < 0.06
    assert 0.2 < deviation.max() < 0.45
    # The targets are the clean data.
    plain = loss_arguments(monkeypatch, tiny_config.trajectory_generator, tiny_trajectories, rows)
    np.testing.assert_array_equal(seen["x0"], plain["x0"])


def test_loss_decreases(tiny_generator):
    _, metrics, losses = tiny_generator
    # The first chunk is one update of a fresh network; saying nothing costs 1.
    assert losses[0] > 0.8
    assert losses[-1] < 0.7 * losses[0]
    assert metrics["loss"] == losses[-1]


def test_members_are_networks_of_their_own_whose_noise_is_averaged(tiny_config, tiny_trajectories):
    def trained(members):
        changes = {"members": members, "steps": 20}
        config = FrozenConfigDict(tiny_config.trajectory_generator.to_dict() | changes)
        model = trajectory_generator.create(config, tiny_trajectories)
        return trajectory_generator.train(model, tiny_trajectories, jax.random.key(3), Hooks())[0]

    one, three = trained(1), trained(3)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(model.params)) for model in (one, three)]
    assert sizes[1] == 3 * sizes[0]
    x, step, row = jax.random.normal(jax.random.key(4), (2, 8, 4)), jnp.ones(2, int), jnp.ones(2)
    apart = np.stack(
        [
            one.noise(jax.tree.map(lambda leaf, i=i: leaf[i], three.params), x, step, row, row)
            for i in range(3)
        ]
    )
    assert apart.std(0).mean() > 1e-3
    together = three.noise(three.params, x, step, row, row)
    np.testing.assert_allclose(together, apart.mean(0), atol=1e-5)


@pytest.mark.usefixtures("no_network")
def test_every_recorded_state_is_within_the_samplers_range(tiny_config, tiny_trajectories):
    # The states in which episodes end are next states only. Were they outside of the range to
    # which predictions are clipped, no imagined trajectory could ever end by the task's rule.
    model = trajectory_generator.create(tiny_config.trajectory_generator, tiny_trajectories)
    for states in (tiny_trajectories.observations, tiny_trajectories.next_observations):
        z = np.asarray(model.states.normalize(jnp.asarray(states)))
        assert (z >= np.asarray(model.states.low) - 1e-5).all()
        assert (z <= np.asarray(model.states.high) + 1e-5).all()


@pytest.mark.usefixtures("no_network")
def test_termination_penalty_enters_the_label_only(tiny_config, tiny_trajectories):
    plain, fined = (
        trajectory_generator.create(
            with_fields(
                tiny_config.trajectory_generator,
                termination_penalty=penalty,
                return_scale=1.0,
                discount=0.5,
            ),
            tiny_trajectories,
        )
        for penalty in (0.0, 8.0)
    )
    tapes = [
        trajectory_generator.diffuser.tape_of(
            model,
            tiny_trajectories,
            trajectory_generator.conditions(model.config, tiny_trajectories, None),
        )
        for model in (plain, fined)
    ]
    np.testing.assert_array_equal(tapes[0].rewards, tapes[1].rewards)
    # Episode 0 is terminal and has 3 steps: 8 · 0.5², 8 · 0.5, 8 less. Episode 1 is truncated.
    off = np.asarray(tapes[0].labels - tapes[1].labels)
    np.testing.assert_allclose(off[:3], [2, 4, 8], atol=1e-5)
    np.testing.assert_allclose(off[3:13], 0, atol=1e-6)


# --- Planning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (3, 1), (2, 4)])
def test_plan_reads_reward_and_next_states_at_their_positions(
    monkeypatch, tiny_config, tiny_generator, length, stride
):
    model, *_ = tiny_generator
    given = {}

    def numbered(denoise, schedule, sampler, **arguments):
        given.update(arguments)
        # The entry at position p and dimension d is 10 p + d.
        _, horizon, dim = arguments["given"].shape
        table = 10 * jnp.arange(horizon)[:, None] + jnp.arange(dim)[None]
        return jnp.broadcast_to(table, arguments["given"].shape).astype(jnp.float32)

    monkeypatch.setattr(trajectory_generator, "sample", numbered)
    sampling = with_fields(tiny_config.sampling, stride=stride)
    history = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    whole = trajectory_generator.plan(model, sampling, history, jnp.int32(length), keys)
    rewards, states = whole.answer(jnp.int32(length), stride)
    assert rewards.shape == (2, stride, 1)
    assert states.shape == (2, stride, 3)
    # The present is at L - 1: its reward stands there (dimension m = 3), its next state at L.
    now = length - 1
    np.testing.assert_array_equal(rewards[1, :, 0], [10 * (now + i) + 3 for i in range(stride)])
    np.testing.assert_array_equal(states[1, :, 1], [10 * (now + 1 + i) + 1 for i in range(stride)])
    # States 0 … L - 1 are given as they are, and nothing else is.
    expected = np.zeros((2, 8, 4), bool)
    expected[:, :length, :3] = True
    np.testing.assert_array_equal(given["given"], expected)
    np.testing.assert_array_equal(given["given_values"][:, :length, :3], history[:, :length])


def test_plan_ignores_history_behind_its_length_and_other_sequences(tiny_config, tiny_generator):
    model, *_ = tiny_generator
    plan = jax.jit(
        lambda history, length, keys: trajectory_generator.plan(
            model, tiny_config.sampling, history, length, keys
        ).answer(length, 1)
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
    return trajectory_generator.Plan(jnp.asarray(np.tile(position, 3)), jnp.asarray(-position))


@pytest.mark.parametrize(("time", "taken", "moved"), [(1, 1, 0), (3, 1, 1), (4, 2, 2), (3, 3, 1)])
def test_a_warm_start_begins_with_the_plan_before_moved_along(
    monkeypatch, tiny_config, tiny_generator, time, taken, moved
):
    # C = 3: windows of t = 0, 1, 2 begin at the episode's start, that of t = 3 one later.
    model = tiny_generator[0].replace(
        config=with_fields(tiny_generator[0].config, context=3),
    )
    seen = []

    def watch(denoise, schedule, sampler, **arguments):
        seen.append((sampler, arguments["earlier"]))
        return jnp.zeros(arguments["given"].shape)

    monkeypatch.setattr(trajectory_generator, "sample", watch)
    sampling = with_fields(tiny_config.sampling, steps=10, start=1.0, warm_start=0.3)
    horizon = model.config.horizon
    with jax.disable_jit():  # so that only the branch taken is run, with numbers
        trajectory_generator.replan(
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
    model, *_ = tiny_generator
    sampling = with_fields(tiny_config.sampling, warm_start=0.3)
    rng = np.random.default_rng(0)
    horizon, context = model.config.horizon, model.config.context
    history = jnp.asarray(rng.uniform(-0.5, 0.5, (2, context, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    def states(earlier, time, length):
        return trajectory_generator.replan(
            model, sampling, history, length, keys, earlier, time, 1
        ).states

    def at(time, earlier):
        return states(earlier, jnp.int32(time), jnp.int32(min(context, time + 1)))

    nothing = trajectory_generator.no_plan(model, 2)
    other = trajectory_generator.Plan(nothing.states + 0.5, nothing.rewards)
    assert nothing.states.shape == (2, horizon, 3)
    cold = trajectory_generator.plan(
        model, tiny_config.sampling, history, jnp.int32(1), keys
    ).states
    np.testing.assert_allclose(at(0, other), cold, atol=1e-3)
    np.testing.assert_array_equal(at(0, other), at(0, nothing))
    assert np.abs(at(4, other) - at(4, nothing)).max() > 1e-3


def test_target_by_quantile_asks_for_what_neighbours_reach(tiny_config, tiny_generator):
    model, *_ = tiny_generator
    # Around 0 the labels are 0 … 4, around 1 they are 10 … 14: the median of the five nearest.
    model = model.replace(
        reference_states=np.repeat([[0.0], [1.0]], 5, 0).astype(np.float32) * np.ones((1, 3)),
        reference_labels=np.array([0, 1, 2, 3, 4, 10, 11, 12, 13, 14], np.float32),
    )
    states = jnp.array([[0.1, 0, 0], [0.9, 1, 1]])
    target = trajectory_generator.target_condition
    asked = with_fields(tiny_config.sampling, target_quantile=0.5, target_neighbours=5)
    np.testing.assert_allclose(target(model, states, asked), [2, 12], atol=1e-6)
    fixed = with_fields(tiny_config.sampling, target=0.7)
    np.testing.assert_allclose(target(model, states, fixed), [0.7, 0.7], atol=1e-6)
