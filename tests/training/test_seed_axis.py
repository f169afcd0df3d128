"""Seeds as a leading axis: a seed's result is that of a training of its own, in groups or not."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from small_trainings import assert_same_bits, datasets_of_three_sizes, lines

from tskd_jax.machine import memory
from tskd_jax.run.run import Run
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit


@pytest.fixture
def datasets():
    """Three datasets of different numbers of rows."""
    return datasets_of_three_sizes()


def test_one_seed_is_what_is_at_its_place():
    tree = {"a": np.arange(6).reshape(3, 2), "b": (np.array([5, 6, 7]),)}
    one = seeds.of_seed(tree, 1)
    assert one["a"].tolist() == [2, 3]
    assert one["b"][0] == 6
    assert one["a"].base is not None  # a view
    assert_same_bits(seeds.stack_seeds([seeds.of_seed(tree, i) for i in range(3)]), tree)


def test_what_all_seeds_share_is_a_view_for_each():
    shared = np.arange(3.0)
    tree = seeds.for_seeds({"a": shared, "b": np.float32(2)}, 4)
    assert tree["a"].shape == (4, 3)
    assert tree["b"].tolist() == [2] * 4
    assert np.shares_memory(tree["a"], shared)
    np.testing.assert_array_equal(seeds.of_seed(tree, 3)["a"], shared)


def test_rows_are_padded_with_zeros_and_counted():
    (padded,), counts = seeds.pad_rows([(np.ones((1, 2)),), (2 * np.ones((3, 2)),)])
    assert counts.tolist() == [1, 3]
    assert padded[:, :, 0].tolist() == [[1, 0, 0], [2, 2, 2]]


@pytest.mark.parametrize("size", [1, 3])
def test_an_axis_is_mapped_as_vmap_does_whatever_its_size(size):
    first = np.arange(4.0 * size).reshape(size, 4)
    tree = {"shared": np.arange(4.0), "own": np.arange(4.0 * size).reshape(4, size)}
    axes = (0, {"shared": None, "own": 1})

    def function(a, tree):
        return a * tree["shared"] + tree["own"], a.sum()

    ours = seeds.map_axis(function, size, axes, 0)(first, tree)
    theirs = jax.vmap(function, axes, 0)(first, tree)
    for left, right in zip(ours, theirs, strict=True):
        assert left.shape == right.shape
        np.testing.assert_array_equal(left, right)
    inner = seeds.map_axis(lambda a: 2 * a, size, 0, 1)(first)
    np.testing.assert_array_equal(inner, 2 * first.T)


@pytest.mark.parametrize("members", [(), (2,)])
def test_a_seed_is_fitted_as_if_it_were_alone(datasets, members):
    keys = jax.random.split(jax.random.key(0), (3, *members))
    together = fit(lines(keys, seeds.pad_rows(datasets)))
    assert together.params["w"].shape == (3, *members, 3)
    for i, data in enumerate(datasets):
        alone = fit(lines(keys[i : i + 1], seeds.pad_rows([data])))
        np.testing.assert_allclose(together.params["w"][i], alone.params["w"][0], rtol=1e-5)


def test_seeds_that_share_their_data_are_fitted_as_if_it_were_theirs(datasets):
    keys = jax.random.split(jax.random.key(0), 3)
    shared = fit(lines(keys, (datasets[1], np.int32(64)), axes=None))
    own = fit(lines(keys, seeds.pad_rows([datasets[1]] * 3)))
    np.testing.assert_allclose(shared.params["w"], own.params["w"], rtol=1e-5)


@pytest.mark.parametrize("members", [(), (2,)])
def test_seeds_that_memory_does_not_hold_go_in_groups(datasets, members, monkeypatch):
    training = lines(jax.random.split(jax.random.key(0), (3, *members)), seeds.pad_rows(datasets))
    sizes, reported, parts = [], [], []
    whole = fit(training, TrainingCallbacks(on_compiled=sizes.append))

    def part(name):
        parts.append(name)
        return TrainingCallbacks(on_compiled=sizes.append, part=part, report=reported.append)

    needed = sizes.pop()
    monkeypatch.setattr(memory, "of_device", lambda: (needed - 1, 2**40))
    callbacks = TrainingCallbacks(on_compiled=sizes.append, part=part, report=reported.append)
    groups = fit(training, callbacks)
    assert parts == ["seeds_0_to_1", "seeds_2_to_2"]
    (line,) = reported
    assert "3 seeds at once" in line
    assert "2 at a time" in line
    assert len(sizes) == 3
    assert sizes[0] == needed
    for name in ("params", "ema"):
        one, other = getattr(whole, name)["w"], getattr(groups, name)["w"]
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert groups.metrics["loss"] == pytest.approx(whole.metrics["loss"], 1e-5)


def test_a_killed_training_of_seeds_goes_on_to_the_same_bits(datasets, tmp_path):
    training = lines(jax.random.split(jax.random.key(0), (3, 2)), seeds.pad_rows(datasets))

    def begin():
        run = Run(tmp_path, {"seed": 0}, checkpoint_seconds=1e-9, out=io.StringIO())
        return run.callbacks("0123456789abcdef" * 4, "line")

    class Killed(Exception):
        pass

    begun = begin()

    def save(state):
        begun.save(state)
        if int(state.step) > 5:
            raise Killed

    with pytest.raises(Killed):
        fit(training, dataclasses.replace(begun, save=save))
    restored = []
    resumed = begin()

    def restore(state):
        state = resumed.restore(state)
        restored.append(int(state.step))
        return state

    whole = fit(training)
    went_on = fit(training, dataclasses.replace(resumed, restore=restore))
    assert restored[0] > 5
    assert_same_bits((whole.params, whole.ema), (went_on.params, went_on.ema))


def test_metrics_are_means_and_those_of_each_seed():
    assert seeds.metrics_of_seeds((7,), [{"x": 1, "of": [2]}]) == {"x": 1, "of": [2]}
    assert seeds.metrics_of_seeds((7, 9), [{"x": 1, "of": [2]}, {"x": 2, "of": [3]}]) == {
        "x": 1.5,
        "of_seed": {"7": {"x": 1, "of": [2]}, "9": {"x": 2, "of": [3]}},
    }
