"""Tests of stitching against Algorithm 4 as it is written: one trajectory, one step at a time.

Over 300 lines: the literal Algorithm 4 stands here, and what it is compared with beside it.
"""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from tskd_jax.data.normalizer import fit_normalizer
from tskd_jax.data.trajectories import (
    COLUMNS,
    RECORDED,
    STITCHED,
    Trajectories,
    concatenate,
    from_columns,
)
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.value import Value
from tskd_jax.stitching import paths as paths_module
from tskd_jax.stitching import successors
from tskd_jax.stitching.paths import follow
from tskd_jax.stitching.stitch import stitch, stitching_warnings
from tskd_jax.stitching.successors import Config, find_successors

SEEDS = 40
ROWS = 24
LIMIT = 12


def make_data(seed: int) -> Trajectories:
    """Short episodes in the plane, some terminal, some truncated; of one size, to compile once."""
    rng = np.random.default_rng(seed)
    lengths = np.full(1, ROWS)
    while lengths.max() > LIMIT:
        cuts = np.sort(rng.permutation(np.arange(1, ROWS))[: rng.integers(2, 8)])
        lengths = np.diff([0, *cuts, ROWS])
    parts = []
    for length in lengths:
        path = np.cumsum(rng.normal(scale=0.4, size=(length + 1, 2)), 0).astype(np.float32)
        parts.append((path[:-1], path[1:]))
    states, next_states = (np.concatenate(column) for column in zip(*parts, strict=True))
    terminals = np.zeros(len(states), bool)
    terminals[np.cumsum(lengths) - 1] = rng.random(len(lengths)) < 0.5
    return from_columns(
        observations=states,
        actions=rng.normal(size=(len(states), 2)),
        # Some datasets have negative returns only.
        rewards=rng.normal(size=len(states)) - 3 * (seed % 3 == 0),
        next_observations=next_states,
        terminals=terminals,
        lengths=lengths,
    )


def make_models(data: Trajectories, seed: int) -> tuple[DynamicsEnsemble, Value]:
    """Random networks: V and the densities are arbitrary, so every branch is taken somewhere."""
    change = data.next_observations - data.observations
    ensemble = DynamicsEnsemble(
        params=None,
        states=fit_normalizer("gaussian", data.observations),
        change_mean=change.mean(0),
        change_deviation=change.std(0) + np.float32(0.1),
        resolution=np.zeros(1, np.float32),
        likelihood_quantiles=np.zeros(1001, np.float32),
        hidden=(8,),
    )
    value = Value(params=None, states=ensemble.states, scale=np.float32(5), hidden=(8,))
    keys = jax.random.split(jax.random.key(seed), 5)
    return (
        ensemble.replace(params=jax.vmap(ensemble.init)(keys[:3])),
        value.replace(params=jax.vmap(value.init)(keys[3:])),
    )


# One pair at a time, as the pseudo-code asks. Compiled, since the loop asks thousands of times.
_one_value = jax.jit(lambda model, s: model(s[None])[0])
_one_density = jax.jit(lambda model, s, s_next: model.log_densities(s[None], s_next[None])[0])


def actions_between(s: np.ndarray, s_next: np.ndarray) -> np.ndarray:
    """Any function of the pair whose rounding does not depend on the number of rows."""
    return s * np.float32(0.5) - s_next


def rewards_between(s: np.ndarray, s_next: np.ndarray) -> np.ndarray:
    return s[..., 0] * np.float32(0.25) + s_next[..., 1] * np.float32(2) + np.float32(0.5)


def price(s: np.ndarray, s_next: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return actions_between(s, s_next), rewards_between(s, s_next)


class Literal:
    """Algorithm 4, lines 5 to 19, read aloud: no table, no batch, every choice made anew."""

    def __init__(self, data, ensemble, value, config, seen):
        self.data, self.config, self.seen = data, config, seen
        self.scale = np.ones(2)
        if config.radius_unit == "deviation":
            self.scale = data.observations.std(0)
        # Remembered, but each from its own call.
        self.value = functools.cache(lambda i: float(_one_value(value, data.observations[i])))
        self.next_value = functools.cache(
            lambda i: float(_one_value(value, data.next_observations[i]))
        )
        self.density = functools.cache(
            lambda i, j: np.asarray(
                _one_density(ensemble, data.observations[i], data.observations[j]), np.float64
            )
        )
        self.recorded_density = functools.cache(
            lambda i: np.asarray(
                _one_density(ensemble, data.observations[i], data.next_observations[i]), np.float64
            )
        )

    def is_near(self, state, other):
        difference = (state.astype(np.float64) - other) / self.scale
        return np.sqrt((difference**2).sum()) <= self.config.radius

    def is_candidate(self, i, j):
        states = self.data.observations
        if self.is_near(states[j], self.data.next_observations[i]):
            return True
        if self.config.candidates == "next" or j in self.data.starts:
            return False
        if self.is_near(states[j - 1], states[i]):
            self.seen.add("after a neighbour of s")
            return True
        return False

    def passes_density(self, i, j):
        least = np.log(np.mean(np.exp(self.recorded_density(i)))) - self.config.tolerance
        return self.density(i, j).min() > least

    def successor(self, i):
        """The transition to go on from instead of i's next state, or None."""
        data = self.data
        near = [j for j in range(data.size) if self.is_candidate(i, j)]
        if self.config.rule == "density_first":
            near = [j for j in near if self.passes_density(i, j)]
        if not near:
            return None
        best = max(near, key=self.value)  # the first of equals
        if self.config.rule == "value_first" and not self.passes_density(i, best):
            return None
        # A terminal state is worth nothing.
        following = 0.0 if data.terminals[i] else self.next_value(i)
        return best if self.value(best) > following else None

    def walk(self, episode):
        """(s, a, r, s', terminal, source, origin) of each step of one stitched trajectory."""
        data = self.data
        i, steps = int(data.starts[episode]), []
        visited = set()
        while len(steps) < LIMIT:
            if i in visited:
                self.seen.add("cycle")
                if not self.config.allow_cycles:
                    assert steps[-1][-2] != STITCHED
                    return steps
            visited.add(i)
            j = self.successor(i)
            if j in visited and not self.config.allow_cycles:
                self.seen.add("no way back")
                j = None
            if j is not None:
                self.seen.add("stitch")
                s, s_next = data.observations[i], data.observations[j]
                steps.append(
                    (
                        s,
                        actions_between(s, s_next),
                        rewards_between(s, s_next),
                        s_next,
                        False,
                        STITCHED,
                        data.origin[i],
                    )
                )
                if i in data.ends:
                    self.seen.add("beyond a terminal" if data.terminals[i] else "beyond a cut")
                i = j
                continue
            steps.append(
                (
                    data.observations[i],
                    data.actions[i],
                    data.rewards[i],
                    data.next_observations[i],
                    data.terminals[i],
                    data.source[i],
                    data.origin[i],
                )
            )
            if data.terminals[i]:
                self.seen.add("terminal end")
                return steps
            if i in data.ends:
                self.seen.add("truncated end")
                return steps
            i += 1
        self.seen.add("limit")
        return steps

    def stitched(self, acceptance):
        """All trajectories, each replaced where its stitched one is clearly better."""
        parts = []
        for episode in range(len(self.data.lengths)):
            steps = self.walk(episode)
            s, a, r, s_next, terminal, source, origin = zip(*steps, strict=True)
            new = sum(float(reward) for reward in r)
            old = float(self.data.returns()[episode])
            if new > old + acceptance * abs(old):
                self.seen.add("replaced, negative" if old < 0 else "replaced, positive")
                parts.append(
                    from_columns(
                        observations=np.stack(s),
                        actions=np.stack(a),
                        rewards=np.stack(r),
                        next_observations=np.stack(s_next),
                        terminals=np.stack(terminal),
                        lengths=[len(r)],
                        source=np.stack(source),
                        origin=np.stack(origin),
                    )
                )
            else:
                self.seen.add("kept")
                parts.append(self.data.select(np.array([episode])))
        return concatenate(parts)


def make_config(seed: int, rule: str, **fields) -> Config:
    unit = ("raw", "deviation")[seed % 2]
    return Config(rule=rule, radius=0.6, radius_unit=unit, tolerance=seed % 5 * 0.5, **fields)


def assert_equal(left: Trajectories, right: Trajectories) -> None:
    for name in ("lengths", *COLUMNS):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


@pytest.mark.parametrize("candidates", ["next", "both"])
@pytest.mark.parametrize("allow_cycles", [True, False])
@pytest.mark.parametrize("rule", ["value_first", "density_first"])
def test_stitching_is_algorithm_4(rule, allow_cycles, candidates):
    seen = set()
    for seed in range(SEEDS):
        data = make_data(seed)
        models = make_models(data, seed)
        config = make_config(seed, rule, allow_cycles=allow_cycles, candidates=candidates)
        successors, _ = find_successors(data, *models, config)
        actual, metrics = stitch(
            data,
            successors,
            price,
            episode_limit=LIMIT,
            acceptance=0.1,
            allow_cycles=allow_cycles,
        )
        literal = Literal(data, *models, config, seen)
        expected = literal.stitched(0.1)
        assert_equal(actual, expected)
        for i in range(data.size):
            assert (literal.successor(i) is None) == (successors[i] < 0)
        assert metrics["trajectories_replaced"] <= metrics["trajectories_stitched"]
    # The random datasets have met everything that can happen.
    assert seen == {
        "stitch",
        "cycle",
        "limit",
        "terminal end",
        "truncated end",
        "beyond a terminal",
        "beyond a cut",
        "replaced, negative",
        "replaced, positive",
        "kept",
        *([] if allow_cycles else ["no way back"]),
        *(["after a neighbour of s"] if candidates == "both" else []),
    }


def test_the_rules_differ():
    differences = 0
    for seed in range(10):
        data = make_data(seed)
        models = make_models(data, seed)
        first, second = (
            find_successors(data, *models, make_config(seed, rule))[0]
            for rule in ("value_first", "density_first")
        )
        # What the best state passes, some state passes: density_first accepts at least as often.
        assert (second[first >= 0] == first[first >= 0]).all()
        differences += (first != second).sum()
    assert differences > 0


@pytest.mark.parametrize("rule", ["value_first", "density_first"])
def test_metrics_of_the_search(rule):
    data = make_data(1)
    successors, metrics = find_successors(data, *make_models(data, 1), make_config(1, rule))
    assert metrics["stitched_share"] == (successors >= 0).mean() > 0
    assert metrics["stitched_share"] <= metrics["better_neighbour_share"] < 1


@pytest.mark.parametrize("backend", ["cpu", "accelerator"])
@pytest.mark.parametrize("rule", ["value_first", "density_first"])
def test_backends_find_the_same_successors(rule, backend):
    for seed in range(3):
        data = make_data(seed)
        models, config = make_models(data, seed), make_config(seed, rule, candidates="both")
        expected, _ = find_successors(data, *models, config)
        found, _ = find_successors(data, *models, replace(config, backend=backend))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rule", ["value_first", "density_first"])
def test_transitions_are_decided_in_parts(monkeypatch, rule):
    data = make_data(1)
    models, config = make_models(data, 1), make_config(1, rule)
    expected, metrics = find_successors(data, *models, config)
    told = []
    monkeypatch.setattr(successors, "ROWS_AT_ONCE", 3)
    found, again = find_successors(data, *models, config, told.append)
    np.testing.assert_array_equal(found, expected)
    assert again == metrics
    # What has no better neighbour is decided at once.
    first = round(data.size * (1 - metrics["better_neighbour_share"]))
    assert told == list(range(first, data.size, 3))
    assert len(told) > 1


@pytest.mark.parametrize("rule", ["value_first", "density_first"])
def test_radius_zero_and_no_duplicates_stitch_nothing(rule):
    # The only state at distance 0 of a next state is itself, which is not better than itself.
    for seed in range(10):
        data = make_data(seed)
        config = replace(make_config(seed, rule), radius=0.0, tolerance=100.0)
        successors, metrics = find_successors(data, *make_models(data, seed), config)
        last = np.isin(np.arange(data.size), data.ends)
        assert (successors[~last] == -1).all()
        assert metrics["better_neighbour_share"] == 0


def make_line(episodes: list[list[float]], terminal: list[bool] | None = None) -> Trajectories:
    """Episodes of those rewards; a state is its row number."""
    lengths = [len(rewards) for rewards in episodes]
    rows = np.arange(sum(lengths), dtype=np.float32)[:, None]
    terminals = np.zeros(len(rows), bool)
    terminals[np.cumsum(lengths) - 1] = [True] * len(lengths) if terminal is None else terminal
    return from_columns(
        observations=rows,
        actions=rows + 0.25,
        rewards=np.concatenate(episodes),
        next_observations=rows + 0.5,
        terminals=terminals,
        lengths=lengths,
    )


def make_successors(size: int, jumps: dict[int, int]) -> np.ndarray:
    successors = np.full(size, -1, np.int64)
    for here, there in jumps.items():
        successors[here] = there
    return successors


def stitch_line(data, jumps, reward=0.0, limit=100, acceptance=0.1, allow_cycles=True):
    asked = []

    def price(s, s_next):
        asked.extend(zip(s[:, 0].astype(int), s_next[:, 0].astype(int), strict=True))
        return np.full((len(s), 1), -7, np.float32), np.full(len(s), reward, np.float32)

    new, metrics = stitch(
        data,
        make_successors(data.size, jumps),
        price,
        episode_limit=limit,
        acceptance=acceptance,
        allow_cycles=allow_cycles,
    )
    return new, metrics, asked


def test_follow_by_hand():
    # Rows 0-2, 3-5, 6: from 1 to 4 and from the end 5 to 6.
    data = make_line([[0, 0, 0], [0, 0, 0], [0]])
    paths = follow(data, make_successors(7, {1: 4, 5: 6}), 100, True)
    assert paths.transitions.tolist() == [0, 1, 4, 5, 6, 3, 4, 5, 6, 6]
    assert paths.lengths.tolist() == [5, 4, 1]
    assert paths.jumps.tolist() == 1 * [False] + [True, False, True, False] + 2 * [False] + [
        True,
        False,
        False,
    ]


def test_follow_a_cycle_to_the_limit():
    paths = follow(make_line([[0, 0, 0], [0]]), make_successors(4, {1: 0}), 5, True)
    assert paths.transitions.tolist() == [0, 1, 0, 1, 0, 3]
    assert paths.lengths.tolist() == [5, 1]


def test_follow_a_successor_that_is_itself():
    paths = follow(make_line([[0, 0]]), make_successors(2, {0: 0}), 3, True)
    assert paths.transitions.tolist() == [0, 0, 0]


def test_without_cycles_a_path_takes_the_recorded_step_instead_of_going_back():
    # Rows 0-3, 4-5. From 1 back to 0, which the path has been at: it goes on to 2, from there to
    # 4, and from 5, an end, back to 4: it ends with the recorded step.
    data = make_line([[0, 0, 0, 0], [0, 0]])
    paths = follow(data, make_successors(6, {1: 0, 2: 4, 5: 4}), 100, False)
    assert paths.transitions.tolist() == [0, 1, 2, 4, 5, 4, 5]
    assert paths.jumps.tolist() == [False, False, True, False, False, False, False]
    assert paths.lengths.tolist() == [5, 2]


def test_without_cycles_a_path_ends_before_it_runs_into_its_own_beginning():
    # The second episode jumps from 4 to 1, goes on to 2, and jumps to 3: 4 has been there.
    data = make_line([[0, 0, 0], [0, 0, 0]])
    paths = follow(data, make_successors(6, {2: 3, 4: 1}), 100, False)
    assert paths.transitions.tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 1, 2]
    assert paths.jumps.tolist() == [
        *(False, False, True, False, False, False),
        *(False, True, False, False),
    ]
    new, _, _ = stitch_line(data, {2: 3, 4: 1}, reward=1.0, allow_cycles=False)
    assert new.lengths.tolist() == [6, 4]
    # Row 2 is an end, taken as recorded; row 1 of the first path is a recorded step.
    assert new.terminals.tolist() == [False] * 5 + [True] + [False] * 3 + [True]
    assert new.source.tolist() == [0, 0, STITCHED, 0, 0, 0, 0, STITCHED, 0, 0]


def test_without_cycles_walks_do_not_depend_on_how_many_are_walked_together(monkeypatch):
    data = make_data(0)
    successors = np.random.default_rng(0).integers(-1, data.size, data.size)
    together = follow(data, successors, LIMIT, False)
    for path in np.split(together.transitions, np.cumsum(together.lengths)[:-1]):
        assert len(set(path)) == len(path)
    monkeypatch.setattr(paths_module, "VISITED_BYTES", 1)
    apart = follow(data, successors, LIMIT, False)
    for left, right in zip(together, apart, strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_stitch_by_hand():
    # Episode 0: rewards 1, 1, 1. Episode 1: 0, 10, 10. Stitching 0 → 4 at reward 2 gives
    # 2 + 10 + 10 = 22 > 3 + 0.3; episode 1 stays what it is.
    data = make_line([[1, 1, 1], [0, 10, 10]])
    new, metrics, asked = stitch_line(data, {0: 4}, reward=2.0)
    assert new.lengths.tolist() == [3, 3]
    assert new.observations[:, 0].tolist() == [0, 4, 5, 3, 4, 5]
    assert new.next_observations[:, 0].tolist() == [4, 4.5, 5.5, 3.5, 4.5, 5.5]
    assert new.actions[:, 0].tolist() == [-7, 4.25, 5.25, 3.25, 4.25, 5.25]
    assert new.rewards.tolist() == [2, 10, 10, 0, 10, 10]
    assert new.terminals.tolist() == [False, False, True, False, False, True]
    assert new.source.tolist() == [STITCHED] + 5 * [RECORDED]
    assert new.origin.tolist() == [0, 4, 5, 3, 4, 5]
    assert asked == [(0, 4)]
    # From the worse episode of two to the better one: of two episodes, quarters 1 and 3.
    assert {move for move, count in metrics.pop("moves").items() if count} == {"1 to 3"}
    assert metrics == {
        "edges_walked": 1,
        "edges_unique": 1,
        "trajectories_stitched": 1,
        "trajectories_replaced": 1,
    }


def test_a_terminal_transition_that_is_left_is_not_terminal():
    # The end of episode 0 is stitched away: row 1 leads to row 3 instead of to its death.
    new, _, _ = stitch_line(make_line([[1, 1], [5, 5]], [True, False]), {1: 3})
    assert new.rewards.tolist()[:3] == [1, 0, 5]
    assert new.terminals[:3].tolist() == [False, False, False]


@pytest.mark.parametrize(
    ("old", "gain", "replaced"),
    [
        # p = 0.1. Σr = 10: more than 11 is asked for; at 11 exactly nothing happens.
        (10.0, 1.0, False),
        (10.0, 1.5, True),
        # Σr = -10: more than -9. The paper's (1 + p)Σr = -11 would take what is worse.
        (-10.0, -0.5, False),
        (-10.0, 0.0, False),
        (-10.0, 1.0, False),
        (-10.0, 1.5, True),
        # Σr = 0: anything better.
        (0.0, 0.0, False),
        (0.0, 0.5, True),
    ],
)
def test_the_replacement_rule(old, gain, replaced):
    # Episode 0 has reward `old` and goes, stitched, to a last transition of reward 0.
    data = make_line([[old], [0.0, 0.0]])
    new, metrics, _ = stitch_line(data, {0: 2}, reward=old + gain)
    assert metrics["trajectories_replaced"] == int(replaced)
    assert new.lengths.tolist() == [2 if replaced else 1, 2]
    assert new.returns()[0] == (old + gain if replaced else old)


class Watched:
    """A function of pairs that remembers what it was asked."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, s, s_next):
        self.calls.append((s, s_next))
        return self.function(s, s_next)


def test_every_walked_edge_is_priced_once():
    rng = np.random.default_rng(0)
    for seed in range(20):
        data = make_data(seed)
        successors = np.where(
            rng.random(data.size) < 0.3, rng.integers(data.size, size=data.size), -1
        )
        paths = follow(data, successors, LIMIT, True)
        walked = paths.transitions[paths.jumps]
        watched = Watched(price)
        _, metrics = stitch(
            data,
            successors,
            watched,
            episode_limit=LIMIT,
            acceptance=0.1,
            allow_cycles=True,
        )
        expected = np.unique(walked)
        s, s_next = map(np.concatenate, zip(*watched.calls, strict=True))
        np.testing.assert_array_equal(s, data.observations[expected])
        np.testing.assert_array_equal(s_next, data.observations[successors[expected]])
        assert metrics["edges_walked"] == len(walked)
        assert metrics["edges_unique"] == len(expected)


def test_edges_that_nobody_walks_are_not_priced():
    # Row 0 jumps over row 1, whose own successor no path ever uses.
    _, metrics, asked = stitch_line(make_line([[0, 0, 0], [0, 0]]), {0: 2, 1: 3})
    assert asked == [(0, 2)]
    assert metrics["edges_unique"] == 1


def test_without_successors_nothing_changes_and_nobody_is_asked():
    for seed in range(10):
        data = make_data(seed)
        new, metrics = stitch(
            data,
            np.full(data.size, -1),
            pytest.fail,
            episode_limit=LIMIT,
            acceptance=0.0,
            allow_cycles=True,
        )
        assert_equal(new, data)
        assert set(metrics.pop("moves").values()) == {0}
        assert set(metrics.values()) == {0}


def test_an_episode_longer_than_the_limit_is_not_a_stitch():
    # Without a successor there is nothing better about its first two steps than that they are few.
    data = make_line([[-1, -1, -1, -1], [1]])
    new, metrics, _ = stitch_line(data, {}, limit=2)
    assert metrics["trajectories_replaced"] == 0
    assert_equal(new, data)


def test_a_cycle_ends_at_the_limit_of_the_episode():
    new, _, asked = stitch_line(make_line([[1, 1], [0]]), {1: 0}, reward=1.0, limit=7)
    assert new.lengths.tolist() == [7, 1]
    assert new.rewards.tolist() == 7 * [1] + [0]
    assert asked == [(1, 0)]
    # Cut at the limit, not dead: V goes on beyond it.
    assert not new.terminals[:7].any()


def test_the_input_is_not_changed():
    data = make_line([[1, 1, 1], [0, 10, 10]])
    before = jax.tree.map(np.copy, data)
    stitch_line(data, {0: 4}, reward=2.0)
    assert_equal(data, before)


def warnings_of(**metrics) -> list[str]:
    usual = {"edges_walked": 30, "edges_unique": 20, "better_neighbour_share": 0.5}
    return stitching_warnings(Config(radius=0.25), usual | metrics)


def test_warnings_of_the_radius():
    assert warnings_of() == []
    assert warnings_of(better_neighbour_share=0.99) == []
    (line,) = warnings_of(better_neighbour_share=0.0)
    assert line.startswith("0.00% of the states have a better one within config.stitching.radius=")
    assert "radius=0.25: it finds nothing; distances are in" in line
    (line,) = warnings_of(better_neighbour_share=0.995)
    assert "99.50% of the states" in line
    assert "it finds nearly everything;" in line


def test_a_warning_of_edges_that_are_walked_again_and_again():
    assert warnings_of(edges_walked=400) == []
    (line,) = warnings_of(edges_walked=401)
    assert line.startswith("401 stitched transitions repeat 20 different edges;")
    assert warnings_of(edges_walked=0, edges_unique=0) == []
    assert len(warnings_of(edges_walked=401, better_neighbour_share=1.0)) == 2
