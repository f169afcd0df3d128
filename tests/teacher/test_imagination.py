"""Imagination: how trajectories end, that they are consistent, and that company does not matter."""

import dataclasses

import jax
import numpy as np
import pytest
from soundness import assert_sound

from tskd_jax.machine import memory
from tskd_jax.models.inverse_dynamics import actions_between
from tskd_jax.teacher.imagination import imagine
from tskd_jax.teacher.lockstep import advance
from tskd_jax.training import seeds


@pytest.fixture(scope="module")
def imagined(run):
    return run()


def assert_same(left, right):
    # Batches of other sizes round differently (1e-7); the first step multiplies that by 1/√ᾱ_K,
    # here 200, and each plan starts from the one before. The states themselves span about 1.5.
    np.testing.assert_array_equal(left.lengths, right.lengths)
    for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), atol=5e-3)


def test_trajectories_are_sound(imagined, starts, task, teacher):
    assert_sound(imagined, starts, task)
    assert len(imagined.lengths) == 20
    # Both ends occur, and early ones too: otherwise these tests would check little.
    ended = imagined.terminals[imagined.ends]
    assert 0 < ended.sum() < 20
    assert imagined.lengths.min() < task.episode_limit - 1
    np.testing.assert_allclose(
        imagined.actions,
        actions_between(
            seeds.of_seed(teacher[1], 0), imagined.observations, imagined.next_observations
        ),
        atol=1e-6,
    )
    assert np.abs(imagined.actions).max() <= 1.0


def test_small_batches_imagine_the_same_as_a_large_one_that_shrinks(run, imagined):
    # 20 start in a batch of 32 (12 of it padding), which halves once 16 or fewer are alive.
    alive_at_end = (~imagined.terminals[imagined.ends]).sum()
    assert alive_at_end <= 16
    assert_same(run(chunk=1), imagined)
    assert_same(run(chunk=16), imagined)


def test_company_does_not_matter(run, imagined, starts):
    others = starts.copy()
    others[1:] = -starts[1:]
    changed = run(starts=others)
    assert changed.lengths[0] == imagined.lengths[0]
    rows = slice(0, imagined.lengths[0])
    np.testing.assert_allclose(
        changed.next_observations[rows], imagined.next_observations[rows], atol=5e-3
    )
    first, second = (run.next_observations[run.starts[1:]] for run in (changed, imagined))
    assert (np.abs(first - second).max(1) > 1e-3).all()


def test_a_second_call_compiles_nothing(run, imagined):
    compiled = advance._cache_size()
    run()  # whatever else is compiled: normalising, the inverse dynamics
    programs = []

    def listen(event, _seconds, **_others):
        if event.endswith("backend_compile_duration"):
            programs.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        again = run()
        assert not programs
        jax.jit(lambda x: x + 1).lower(1.0).compile()
        assert programs  # so the listener does listen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert advance._cache_size() == compiled
    assert_same(again, imagined)


def test_warm_starts_survive_compaction_and_change_what_is_imagined(run, imagined, starts, task):
    warm = run(warm_start=0.4)
    assert_sound(warm, starts, task)
    # The first plan of an episode begins with noise, the second does not.
    first, second = (t.next_observations[t.starts] for t in (warm, imagined))
    np.testing.assert_allclose(first, second, atol=5e-3)
    both = (warm.lengths > 1) & (imagined.lengths > 1)
    assert both.sum() > 5
    third, fourth = (t.next_observations[t.starts[both] + 1] for t in (warm, imagined))
    assert (np.abs(third - fourth).max(1) > 1e-3).all()
    assert_same(run(warm_start=0.4, chunk=1), warm)


@pytest.mark.parametrize("replan_every", [2, 5])
def test_plans_of_steps_that_do_not_divide_the_limit(run, starts, task, replan_every):
    trajectories = run(starts=starts[:8], replan_every=replan_every)
    assert_sound(trajectories, starts[:8], task)


def test_progress_counts_transitions(run, task, starts):
    seen = []
    trajectories = run(chunk=8, on_progress=lambda *report: seen.append(report[:2]))
    done = [report[0] for report in seen]
    assert done == sorted(done)
    assert done[-1] == trajectories.size
    assert {total for _, total in seen} == {20 * task.episode_limit}


def test_finished_chunks_are_reused(run):
    kept = {}

    def keep(part, compute):
        kept[part] = compute()
        return kept[part]

    def reuse(part, _compute):
        return kept[part]

    first = run(chunk=8, cache=keep)
    assert list(kept) == ["0-8", "8-16", "16-24"]
    again = run(chunk=8, cache=reuse)
    for left, right in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(left, right)


def test_fewer_at_a_time_where_memory_is_short(run, monkeypatch):
    reported, parts = [], []

    def keep(part, compute):
        made = compute()
        parts.append(part)
        return made

    whole = run(chunk=32, on_compiled=reported.append)
    assert len(reported) == 1
    monkeypatch.setattr(memory, "of_device", lambda: (reported[0] - 1, 2**40))
    again = run(chunk=32, on_compiled=reported.append, cache=keep)
    assert parts == ["0-16", "16-32"]
    assert reported[1] == reported[0]
    assert_same(whole, again)


def test_a_seed_imagines_as_if_it_were_alone(tiny_config, teacher, task, starts):
    model, inverse = teacher
    # Two seeds that differ in their parameters, of 6 trajectories each, of at most 3 steps.
    other = model.replace(params=jax.tree.map(lambda leaf: 0.9 * leaf, model.params))
    model, inverse = (
        jax.tree.map(lambda *leaves: np.concatenate(leaves), *both)
        for both in ((model, other), (inverse, inverse))
    )
    sampling = dataclasses.replace(tiny_config.sampling, start=0.8)
    keys = jax.random.split(jax.random.key(1), 2)
    starts = np.stack([starts[:6], starts[4:10]])
    together = imagine(model, sampling, task, inverse, starts, keys, max_steps=3)
    assert len(together) == 2
    for index, imagined in enumerate(together):
        one = slice(index, index + 1)
        (alone,) = imagine(
            *(jax.tree.map(lambda leaf, one=one: leaf[one], model), sampling, task),
            *(jax.tree.map(lambda leaf, one=one: leaf[one], inverse), starts[one], keys[one]),
            max_steps=3,
        )
        assert_same(imagined, alone)
        assert_sound(imagined, starts[index], dataclasses.replace(task, episode_limit=3))
    assert not np.allclose(together[0].rewards[:1], together[1].rewards[:1], atol=1e-3)
