"""Episodes in lockstep: the same bits in any number of processes, and one line for what fails."""

import gymnasium
import numpy as np
import pytest

from tskd_jax.envs import fleet as fleet_module
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.fleet import Fleet
from tskd_jax.envs.simulator import record
from tskd_jax.errors import ConfigError

ODD = "envs.odd_environments:odd/{}-v0"


def hopper(observations, time, rewards):
    """Something that keeps hopping for a while, and depends on everything it is told."""
    mixed = observations @ np.random.default_rng(0).normal(size=(11, 3))
    return np.tanh(mixed + np.sin(time / 7) + 0.1 * rewards[:, None]).astype(np.float32)


def zeros(observations, *_):
    return np.zeros((len(observations), 1))


def steps(name: str, seeds, workers: int = 1, limit=None, act=zeros) -> list:
    with Fleet(name, workers) as fleet:
        return list(fleet.play(act, seeds, limit))


def rewards_by_episode(found: list, episodes: int) -> list[list[float]]:
    numbers, rewards = (np.concatenate([one[i] for one in found]) for i in (0, 3))
    return [rewards[numbers == episode].tolist() for episode in range(episodes)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_processes_changes_no_bit(workers):
    seeds = [3, 1, 4, 1, 5]
    expected = record(hopper, get_task("hopper"), seeds)
    found = steps("Hopper-v4", seeds, workers, act=hopper)
    running, *columns = map(np.concatenate, zip(*found, strict=True))
    order = np.argsort(running, kind="stable")
    assert len(set(expected.lengths.tolist())) > 2  # they end at different times
    np.testing.assert_array_equal(np.bincount(running), expected.lengths)
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    for name, column in zip(names, columns, strict=True):
        kept = getattr(expected, name)
        np.testing.assert_array_equal(column[order].astype(kept.dtype), kept, err_msg=name)


def test_more_processes_than_episodes():
    assert [len(one.running) for one in steps(ODD.format("Odd"), [1, 2], 3)] == [2, 2, 2, 2]


def test_what_an_environment_gives_is_copied():
    # It gives one array, and changes it.
    found = steps(ODD.format("Odd"), [0], act=lambda o, time, _: np.full((1, 1), time / 8))
    before = [one.observations[0].tolist() for one in found]
    after = [one.next_observations[0].tolist() for one in found]
    assert before == [[0, 0], [1, 0], [2, 0.125], [3, 0.25]]
    assert after == [*before[1:], [4, 0.375]]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_episode_has_a_global_generator_of_its_own(workers):
    np.random.normal()  # noqa: NPY002  half of a pair: the caller's, too
    before = str(np.random.get_state())  # noqa: NPY002
    together = rewards_by_episode(steps(ODD.format("Careless"), [7, 8, 7], workers), 3)
    alone = [rewards_by_episode(steps(ODD.format("Careless"), [seed]), 1)[0] for seed in (7, 8)]
    assert together == [alone[0], alone[1], alone[0]]
    assert alone[0] != alone[1]
    assert len(set(alone[0])) == 4
    assert alone[0][0] == np.random.RandomState(7).normal()
    assert str(np.random.get_state()) == before  # noqa: NPY002


def test_episodes_are_cut_at_the_limit():
    assert [len(one.running) for one in steps(ODD.format("Endless"), [0, 1], limit=6)] == [2] * 6
    # The environment's own end comes first.
    assert len(steps(ODD.format("Odd"), [0], limit=6)) == 4


@pytest.mark.parametrize("seeds", [[1, 2, 3], [3, 1, 2]], ids=["in another process", "in this"])
def test_an_environment_that_fails_is_one_line(seeds):
    with pytest.raises(ConfigError) as caught:
        steps(ODD.format("Failing"), seeds, workers=2)
    assert str(caught.value) == (
        f"{ODD.format('Failing')}: the environment itself fails (ZeroDivisionError: no friction)"
    )


def test_an_environment_that_another_process_cannot_make_is_one_line():
    gymnasium.register("odd/Here-v0", entry_point="envs.odd_environments:Odd")
    try:
        with pytest.raises(ConfigError, match=r"odd/Here-v0: Gymnasium cannot make it"):
            steps("odd/Here-v0", [1, 2], workers=2)
    finally:
        gymnasium.registry.pop("odd/Here-v0")


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_left_of_an_episode_that_has_ended(workers):
    seen = []

    def act(observations, _time, rewards):
        seen.append((observations[:, 0].tolist(), rewards.tolist()))
        return zeros(observations)

    found = steps(ODD.format("Exploding"), [2, 3], workers, act=act)
    assert seen == [([0, 0], [0, 0]), ([1, 1], [1, 1]), ([0, 2], [0, 1])]
    assert found[1].next_observations.tolist() == [[np.inf, -np.inf], [2, 0]]


def test_rewards_may_be_arrays_of_one_number():
    assert rewards_by_episode(steps(ODD.format("Arrays"), [9]), 1) == [[1, 1, 1, 1]]
    with pytest.raises(ConfigError, match=r"the environment itself fails \(ValueError: can only"):
        steps(ODD.format("Arrays"), [3])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["Integers", "Tuples"])
def test_a_first_observation_truncates_no_later_one(kind, workers):
    expected, found = (
        steps(ODD.format(name), [0, 1], workers, act=lambda o, time, _: np.full((2, 1), time / 8))
        for name in ("Odd", kind)
    )
    for one, other in zip(expected, found, strict=True):
        for before, after in zip(one, other, strict=True):
            np.testing.assert_array_equal(before, after)
            assert before.dtype == after.dtype
    assert found[-1].observations.tolist() == [[3, 0.25]] * 2


@pytest.mark.parametrize(
    ("kind", "action", "taken"),
    [
        ("Strict", np.float32(0.05), np.float32(0.05)),
        ("Strict", 0.3, np.float32(0.1)),
        ("Strict64", np.float32(0.1), 0.1),
        ("Strict64", 0.05, 0.05),
        ("StrictIntegers", 1.7, 2),
        ("StrictIntegers", -9.0, -3),
        ("Odd", 5.0, 1.0),  # out of bounds: as it would be if it insisted
        ("Odd", np.float32(0.3), np.float32(0.3)),
    ],
)
def test_an_environment_gets_actions_that_its_space_contains(kind, action, taken):
    found = steps(ODD.format(kind), [0], act=lambda *_: np.full((1, 1), action))
    assert [one.next_observations[0, 1] for one in found] == [taken] * 4


def test_gymnasiums_own_environments_get_actions_as_they_are(monkeypatch):
    """In double precision, in which their rewards were always computed: bit for bit the same."""
    together = steps("Hopper-v4", [3, 1], act=hopper)
    monkeypatch.setattr(fleet_module, "steps_together", lambda _: False)
    alone = steps("Hopper-v4", [3, 1], act=hopper)
    assert len(alone) == len(together) > 5
    for one, other in zip(alone, together, strict=True):
        for before, after in zip(one, other, strict=True):
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("kind", "seeds", "words"),
    [
        ("Worthless", [9, 3], "step 3 of the episode with seed 3 gives the reward nan; a score"),
        ("Priceless", [2, 9], "step 2 of the episode with seed 2 gives the reward 1e+39; a score"),
        ("Reshaped", [1, 2], "its step 3 gives an observation of shape (2, 1), its observation_sp"),
        ("Old", [1, 2], "its reset returns a ndarray, not (observation, info); was it written for"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_an_environment_must_not_give_is_one_line(kind, seeds, words, workers):
    with pytest.raises(ConfigError) as caught:
        steps(ODD.format(kind), seeds, workers)
    line = str(caught.value)
    assert words in line
    assert f"odd/{kind}-v0: " in line
    assert "\n" not in line


def test_an_action_that_is_not_finite_is_told_from_a_reward_that_is_not():
    with pytest.raises(ConfigError, match="gives the reward nan, for an action that is not finite"):
        steps("Hopper-v4", [0], act=lambda *_: np.full((1, 3), np.nan))


def test_a_process_that_has_ended_is_one_line():
    with Fleet(ODD.format("Endless"), 2) as fleet:
        playing = fleet.play(zeros, [1, 2], 5)
        next(playing)
        ((process, _),) = fleet._children
        process.kill()
        process.join()
        for again in (playing, fleet.play(zeros, [1, 2], 5)):  # in a step, and at the start
            with pytest.raises(ConfigError, match="a process that steps it has ended, perhaps"):
                next(again)


def test_a_process_that_ends_is_one_line():
    with pytest.raises(ConfigError, match="a process that steps it has ended, perhaps for want of"):
        steps(ODD.format("Deadly"), [1, 2], workers=2)


def test_a_fleet_plays_again_where_it_was_left():
    with Fleet(ODD.format("Odd"), 2) as fleet:
        next(fleet.play(zeros, [1, 2, 3]))
        assert len(list(fleet.play(zeros, [1, 2, 3, 4, 5]))) == 4
        assert len(list(fleet.play(zeros, [1]))) == 4
