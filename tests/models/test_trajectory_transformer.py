"""Trajectory Transformer: its size, its cache, and a task in which what pays at once is wrong."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.small_trainings import assert_same_bits, chunks_of_one_step

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.entries import TASKS
from tskd_jax.envs.simulator import Actor
from tskd_jax.envs.tasks import Task
from tskd_jax.models import cloning
from tskd_jax.models.discretizer import fit_discretizer
from tskd_jax.models.trajectory_transformer import (
    Config,
    TrajectoryTransformer,
    train,
    training,
)
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.policy import Bounds
from tskd_jax.run.serialization import flatten, restore
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit

TASK = Task("fork", "", 1, Bounds((0.0,), (4.0,)), 2)
SMALL = {
    "layers": 1,
    "heads": 2,
    "head_width": 8,
    "dropout": 0.0,
    "learning_rate": 1e-2,
    "batch_size": 64,
    "sequence": 3,
    "bins": 4,
    "discretizer": "uniform",
    "terminal_penalty": 0.0,
    "horizon": 2,
    "beam_width": 16,
    "context": 2,
    "cut_actions": 0.0,
}


def fork(episodes: int = 400) -> Trajectories:
    """Two steps from state 0. A first action above 2 pays 1 and leads to state -1, where nothing
    pays; one below leads to state 1, where one above 2 pays 3. Actions are anything from 0 to 4.
    """
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 4, (2, episodes))
    state = np.where(first > 2, -1.0, 1.0)
    reward = np.where((state > 0) & (second > 2), 3.0, 0.0)
    zeros = np.zeros(episodes)

    def turns(*parts):
        return np.stack(parts, 1).reshape(-1)

    return from_columns(
        observations=turns(zeros, state)[:, None],
        actions=turns(first, second)[:, None],
        rewards=turns(1.0 * (first > 2), reward),
        next_observations=turns(state, 2 * state)[:, None],
        terminals=turns(zeros, zeros + 1),
        lengths=np.full(episodes, 2),
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [("hopper", 1_225_472), ("halfcheetah", 1_468_544), ("walker2d", 1_468_544)],
)
def test_the_published_size(name, count):
    """Table 3's 1.23 M and 1.47 M."""
    task = TASKS[name]
    data = from_columns(
        observations=np.zeros((2, task.state_size)),
        actions=np.zeros((2, task.action_size)),
        rewards=np.zeros(2),
        next_observations=np.zeros((2, task.state_size)),
        terminals=np.zeros(2, bool),
        lengths=[2],
    )
    config = Config()
    bins = fit_discretizer("uniform", config.joined(data), config.bins)
    plan = training(config, data, bins, task, (0,))
    assert count_parameters(jax.eval_shape(plan.init, jax.random.key(0))) == count


@pytest.fixture(scope="module")
def untrained() -> TrajectoryTransformer:
    """Of four transitions of 2 + 1 + 1 + 1 tokens, whose weights are far from even."""
    config = replace(
        Config(**SMALL), sequence=4, context=3, bins=5, beam_width=1, expand=1, horizon=4, layers=2
    )
    x = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    params = config.network(5).init(jax.random.key(0), jnp.zeros((1, 19), jnp.int32))
    params = jax.tree.map(
        lambda leaf: leaf + 0.5 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params
    )
    return TrajectoryTransformer(
        params=params,
        discretizer=fit_discretizer("quantile", x, 5),
        key=jax.random.key(0),
        config=config,
        bounds=Bounds((-1.0,), (1.0,)),
    )


@jax.jit
def _logits(model, tokens):
    return model.config.network(5).apply(model.params, tokens[None])[0]


def logits_of(model, tokens):
    """Logits behind each token, all at once; what is padded behind them does not count."""
    padded = np.zeros(19, np.int32)
    padded[: len(tokens)] = tokens
    return _logits(model, padded)[: len(tokens)]


def test_tokens_one_by_one_are_the_tokens_at_once(untrained):
    tokens = jax.random.randint(jax.random.key(1), (2, 19), 0, 6)  # 5 is the end's
    network, params = untrained.config.network(5), untrained.params
    whole = network.apply(params, tokens)
    # What stands behind the last token that counts is ignored.
    dirty = tokens.at[:, 8:].set(0)
    logits, cache = network.apply(params, dirty[:, :12], jnp.int32(7), 19, method="begin")
    np.testing.assert_allclose(logits, whole[:, 7], rtol=1e-4, atol=1e-4)
    for place in range(8, 19):
        logits, cache = network.apply(
            params, tokens[:, place], cache, jnp.int32(place), method="extend"
        )
        np.testing.assert_allclose(logits, whole[:, place], rtol=1e-4, atol=1e-4)


def test_no_token_sees_values(untrained):
    tokens = np.random.default_rng(0).integers(0, 5, 19)
    other = tokens.copy()
    other[[4, 9]] = (tokens[[4, 9]] + 1) % 5
    difference = np.abs(logits_of(untrained, tokens) - logits_of(untrained, other)).max(1)
    # But for what a value itself says of the next token.
    assert set(np.flatnonzero(difference > 1e-5)) == {4, 9}


@pytest.mark.parametrize("past", [0, 1, 2])
def test_the_search_says_what_the_network_says(untrained, past):
    """Of one plan without chance: token by token, forgetting transitions as it goes."""
    model = untrained.replace(config=replace(untrained.config, top_k_actions=1))
    config, centres = model.config, model.discretizer.centres
    seen = np.random.default_rng(past).integers(0, 5, (1, 3, 5)).astype(np.int32)
    rows = [seen[0, i].tolist() for i in range(past)]
    row, score, actions = seen[0, past, :2].tolist(), 0.0, []

    def behind():
        tokens = [token for one in (*rows, row) for token in one]
        return logits_of(model, tokens)[-1]

    for time in range(config.horizon):
        row.append(int(behind().argmax()))
        actions.append(row[-1])
        for dimension, power in ((3, time), (4, time + 1)):
            logits = behind()
            expected = float(jax.nn.softmax(logits)[:5] @ centres[:, dimension])
            if dimension == 3:
                score += config.discount**power * expected
            else:
                total = score + config.discount**power * expected
            row.append(int(logits.argmax()))
        rows = [*rows, row][-2:]
        row = []
        for _ in range(2):
            row.append(int(behind().argmax()))
    found = jax.jit(lambda m, s, p, k: m.plan(s, p, k))(
        model, seen, np.int32(past), jax.random.key(0)[None]
    )
    assert found.actions[0, :, 0].tolist() == actions
    assert float(found.score[0]) == pytest.approx(total, rel=1e-3, abs=1e-4)


@pytest.fixture(scope="module")
def fork_actor():
    (actor,), (metrics,) = train(Config(**SMALL, steps=500), fork(), TASK, (0,))
    assert metrics["loss"] > 0
    return actor


def played(actor, episodes: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(E, 2) actions of whole episodes and (E,) their returns."""
    act = actor.start()
    first = act(np.zeros((episodes, 1)), 0, np.zeros(episodes))[:, 0]
    state = np.where(first > 2, -1.0, 1.0)
    second = act(state[:, None], 1, 1.0 * (first > 2))[:, 0]
    gained = (first > 2) + np.where((state > 0) & (second > 2), 3.0, 0.0)
    return np.stack([first, second], 1), gained


@pytest.mark.slow
def test_it_plans_ahead(fork_actor):
    assert isinstance(fork_actor, Actor)
    _, gained = played(fork_actor)
    assert gained.mean() > 2.5
    # With no look ahead, and told nothing of what follows, what pays at once is best.
    blind = fork_actor.replace(config=replace(fork_actor.config, horizon=1, discount=0.0))
    assert played(blind)[1].mean() == pytest.approx(1.0)


def test_imitation_alone_fails():
    config = cloning.Config(steps=800, batch_size=64, hidden=(32,), learning_rate=3e-3)
    ((policy,), _) = cloning.train(config, [fork()], TASK, (0,))
    assert np.abs(policy(np.array([[0.0], [1.0]], np.float32)) - 2.0).max() < 0.5


def test_the_actions_of_a_plan_may_all_be_taken(fork_actor):
    followed = fork_actor.replace(config=replace(fork_actor.config, replan_every=2))
    actions, gained = played(followed)
    assert gained.mean() > 2.5
    # The first are those of the same plans.
    np.testing.assert_array_equal(actions[:, 0], played(fork_actor)[0][:, 0])


def test_what_was_seen_is_remembered(fork_actor):
    """A context of two transitions: states, actions and rewards as tokens, the oldest forgotten."""
    act, bins = fork_actor.start(), fork_actor.discretizer
    taken = []
    for time, (state, reward) in enumerate([(0.0, 0.0), (1.0, 1.0), (-1.0, 3.0)]):
        taken.append(act(np.full((1, 1), state), time, np.array([reward]))[0, 0])
    rows = bins.encode(np.array([[1.0, taken[1], 3.0, 0], [-1.0, taken[2], 0, 0]], np.float32))
    np.testing.assert_array_equal(act._seen[0, 0, :3], rows[0, :3])
    np.testing.assert_array_equal(act._seen[0, 1, :2], rows[1, :2])


def test_episodes_are_played_independently(fork_actor):
    together, _ = played(fork_actor, 5)
    few, _ = played(fork_actor, 3)
    np.testing.assert_array_equal(together[:3], few)


def test_it_survives_being_stored(fork_actor):
    again = restore(*flatten(fork_actor))
    assert again.parameters == fork_actor.parameters
    np.testing.assert_array_equal(played(again)[0], played(fork_actor)[0])


@pytest.mark.slow
def test_seeds_together_are_seeds_alone():
    config = Config(**SMALL | {"dropout": 0.1, "learning_rate": 1e-3}, steps=20)
    together, _ = train(config, fork(30), TASK, (3, 4))
    ((alone,), _) = train(config, fork(30), TASK, (4,))
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4),
        together[1].params,
        alone.params,
    )


def test_restored_it_ends_in_the_same_bits(monkeypatch):
    """Dropout and the rate's rise and fall included."""
    chunks_of_one_step(monkeypatch)
    config, data = Config(**SMALL | {"dropout": 0.1}, steps=6), fork(30)
    bins = fit_discretizer("uniform", config.joined(data), config.bins)
    plan, saved = training(config, data, bins, TASK, (0, 1)), {}
    whole = fit(
        plan,
        TrainingCallbacks(
            save=lambda state: saved.setdefault(int(state.step), jax.tree.map(jnp.copy, state))
        ),
    )
    resumed = fit(plan, TrainingCallbacks(restore=lambda _: jax.tree.map(jnp.copy, saved[3])))
    assert_same_bits(resumed.params, whole.params)
