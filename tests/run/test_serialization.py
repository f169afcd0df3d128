"""Values as JSON and arrays: what is flattened comes back, what is foreign is refused.

Over 300 lines: a case for each kind of value, both ways.
"""

import functools
import gc
import json
import sys
import types
from dataclasses import dataclass, field
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.policy import Bounds, Policy
from tskd_jax.run.serialization import FrozenArrays, array_digest, fingerprint, flatten, restore


def round_trip(value):
    spec, arrays = flatten(value)
    assert all(type(array) is np.ndarray for array in arrays.values())
    return restore(json.loads(json.dumps(spec)), arrays)


@dataclass(frozen=True)
class Foreign:
    x: int = 1


class ForeignPair(NamedTuple):
    x: int
    y: int


@pytest.fixture
def planted(monkeypatch):
    """A module of the package with classes of every kind."""
    module = types.ModuleType("tskd_jax.planted")

    class Pair(NamedTuple):
        left: object
        right: object

    @dataclass(frozen=True)
    class Later:
        x: int
        doubled: int = field(init=False)

        def __post_init__(self):
            object.__setattr__(self, "doubled", 2 * self.x)

    @dataclass
    class Loose:
        x: int = 1

    class Plain:
        pass

    for cls in (Pair, Later, Loose, Plain):
        cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


POLICY = Policy(
    (np.ones((3, 4), np.float32), np.full((4, 2), 2.0, np.float32)),
    (np.zeros(4, np.float32), np.arange(2, dtype=np.float32)),
    Bounds((-0.4, 0.0), (0.4, 1.0)),
)


def test_a_policy():
    again = round_trip(POLICY)
    assert type(again) is Policy
    assert type(again.weights) is tuple
    chex.assert_trees_all_equal(
        (again.weights, again.biases, again.bounds),
        (POLICY.weights, POLICY.biases, POLICY.bounds),
    )


def test_trajectories(tiny_trajectories):
    again = round_trip([tiny_trajectories, tiny_trajectories.select(np.arange(0))])
    assert type(again[0]) is Trajectories
    chex.assert_trees_all_equal(again, [tiny_trajectories, tiny_trajectories.select(np.arange(0))])
    dtypes = [jax.tree.map(lambda x: x.dtype, tree) for tree in (again[0], tiny_trajectories)]
    assert dtypes[0] == dtypes[1]


def test_static_fields_stay_what_they_were():
    normalizer = fit_normalizer("gaussian", np.random.default_rng(0).normal(size=(9, 2)))
    again = round_trip(normalizer)
    assert type(again) is Normalizer
    assert again.kind == "gaussian"
    chex.assert_trees_all_equal(again, jax.tree.map(np.asarray, normalizer))


def test_nested():
    value = {
        "none": None,
        "plain": [True, 0, -7, 2**40, 1.5, -0.0, float("inf"), "γ", ""],
        "tuples": ((), (1, (2.0, [3])), {}),
        7: {"x": jnp.arange(3), (1, "a"): [POLICY]},
        "scalars": (np.float32(0.1), np.int8(-3), np.bool_(True)),
        "last": np.zeros((0, 2), np.int8),
    }
    again = round_trip(value)
    assert list(again) == list(value)
    for name in ("none", "plain", "tuples", "scalars"):
        assert again[name] == value[name]
        assert str(again[name]) == str(value[name])  # -0.0 and True are equal to others
    assert [type(x) for x in again["scalars"]] == [np.float32, np.int8, np.bool_]
    np.testing.assert_array_equal(again[7]["x"], [0, 1, 2])
    np.testing.assert_array_equal(again[7][1, "a"][0].biases[1], [0, 1])
    assert again["last"].shape == (0, 2)
    assert again["last"].dtype == np.int8
    assert np.isnan(round_trip([float("nan")])[0])


def test_arrays_of_jax_and_types_that_numpy_lacks():
    value = jnp.arange(4).astype(jnp.bfloat16), np.float64(3).reshape(()), np.array(2 + 1j)
    again = round_trip(value)
    assert [x.dtype for x in again] == [x.dtype for x in value]
    assert [x.shape for x in again] == [(4,), (), ()]
    np.testing.assert_array_equal(again[0].astype(np.float32), [0, 1, 2, 3])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_keys(impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 2)
    again = round_trip({"keys": keys})["keys"]
    assert again.dtype == keys.dtype
    draws = [jax.vmap(lambda key: jax.random.normal(key, (3,)))(k) for k in (keys, again)]
    np.testing.assert_array_equal(*draws)


def test_an_array_is_stored_once():
    x = np.arange(3.0)
    spec, arrays = flatten([x, {"again": x}, x.copy()])
    assert len(arrays) == 2
    again = restore(spec, arrays)
    assert again[0] is again[1]["again"]


def test_classes_of_the_package(planted):
    pair = round_trip(planted.Pair(np.arange(2), planted.Later(3)))
    assert type(pair) is planted.Pair
    assert pair.right == planted.Later(3)
    assert pair.right.doubled == 6


def local_class():
    @dataclass(frozen=True)
    class Local:
        x: int = 1

    return Local()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (Foreign(), "no class of tskd_jax"),
        (ForeignPair(1, 2), "no class of tskd_jax"),
        (local_class(), "no class of tskd_jax"),
        (lambda: 0, "cannot be stored"),
        (np.sum, "cannot be stored"),
        ({1, 2}, "cannot be stored"),
        (object(), "cannot be stored"),
        (types.SimpleNamespace(x=1), "cannot be stored"),
        (b"bytes", "cannot be stored"),
        (np.array(["text"]), "holds no numbers"),
        (np.array([None]), "holds no numbers"),
        (np.zeros(2, [("x", "f4")]), "holds no numbers"),
        (np.array(["2024-01-01"], "M8[D]"), "holds no numbers"),
        (np.random.default_rng(0), "cannot be stored"),
    ],
)
def test_what_is_foreign_is_refused(value, problem):
    for wrapped in (value, [value], {"x": (value,)}):
        with pytest.raises(TypeError, match=problem):
            flatten(wrapped)


def test_classes_that_hold_no_data_are_refused(planted, monkeypatch):
    with pytest.raises(TypeError, match="not frozen"):
        flatten(planted.Loose())
    with pytest.raises(TypeError, match="cannot be stored"):
        flatten(planted.Plain())
    later = planted.Later(1)
    monkeypatch.setattr(planted, "Later", planted.Pair)
    with pytest.raises(TypeError, match="another class"):
        flatten(later)
    monkeypatch.delattr(planted, "Later")
    with pytest.raises(TypeError, match="has no class Later"):
        flatten(later)


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "tskd_jax_evil:Policy",
        "tskd_jax.policy:load_policy",
        "tskd_jax.policy:np.ndarray",
        "tskd_jax.policy:Missing",
        "tskd_jax.planted_nowhere:Policy",
        "tskd_jax.__main__:Policy",
        "tskd_jax:Policy",
        "Policy",
    ],
)
def test_a_description_makes_nothing_else(name):
    with pytest.raises((TypeError, ImportError)):
        restore({"class": name, "fields": {}}, {})


@pytest.mark.parametrize(
    "spec",
    [
        {"class": "tskd_jax.policy:Policy", "fields": {"weights": 1}},
        {"array": "1"},
        {"unknown": 1},
        [1],
        {},
    ],
)
def test_a_description_that_is_none(spec):
    with pytest.raises((TypeError, KeyError)):
        restore(spec, {})


# Fingerprints


def test_equal_content_has_an_equal_fingerprint(tiny_trajectories):
    on_device = jax.tree.map(jnp.asarray, tiny_trajectories)
    on_host = jax.tree.map(lambda leaf: np.array(leaf), on_device)
    assert fingerprint(on_device) == fingerprint(on_host)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    alike = (x, jnp.asarray(x), np.asfortranarray(x), x.astype(">f4"), x[::-1][::-1])
    assert len({fingerprint(one) for one in alike}) == 1
    assert fingerprint({"a": 1, "b": (x,)}) == fingerprint({"b": (x.copy(),), "a": 1})
    assert fingerprint(round_trip([POLICY, {"b": 1, "a": x}])) == fingerprint(
        [POLICY, {"b": 1, "a": x}]
    )
    assert fingerprint(jax.random.key(3)) == fingerprint(
        jax.random.wrap_key_data(jnp.array([0, 3], jnp.uint32))
    )


def test_a_fingerprint_is_of_names_types_shapes_and_numbers():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    zero = x.copy()
    zero[0, 0] = -0.0
    others = [
        *(x, x.T, x.reshape(3, 2), x.astype(np.float64), x.astype(np.int32), x + 1, -x, zero),
        *(x.view(np.int32), x.astype(jnp.bfloat16), x.astype(np.float16), x.tolist()),
        *([x], (x,), {"x": x}, {"y": x}, [x, x], None, 0, 0.0, False, "", "0", [], (), {}),
        *(np.float32(0), np.float64(0), np.zeros(()), np.zeros(0), np.zeros((0, 2))),
        *(jax.random.key(0), jax.random.key(1), jax.random.split(jax.random.key(0), 1)),
    ]
    assert len({fingerprint(other) for other in others}) == len(others)


def test_every_field_counts(tiny_task):
    normalizer = fit_normalizer("gaussian", np.random.default_rng(0).normal(size=(9, 2)))
    others = [
        normalizer,
        normalizer.replace(kind="limits"),
        normalizer.replace(low=normalizer.high),
    ]
    others += [POLICY, Policy(POLICY.weights, POLICY.biases, Bounds.symmetric(0.5, 2))]
    others += [Policy(POLICY.weights, (POLICY.biases[0], POLICY.biases[1] + 1), POLICY.bounds)]
    bounds = Bounds.symmetric(2.0, 2)
    changed = {"name": "other", "episode_limit": 11, "alive": jnp.isfinite, "bounds": bounds}
    others += [tiny_task] + [_replaced(tiny_task, {k: v}) for k, v in changed.items()]
    assert len({fingerprint(other) for other in others}) == len(others)
    assert fingerprint(_replaced(tiny_task, {})) == fingerprint(tiny_task)


def _replaced(value, fields):
    return type(value)(**{k: getattr(value, k) for k in value.__dataclass_fields__} | fields)


class Bound:
    def method(self):
        pass


def test_functions_count_by_name():
    def local():
        pass

    other = Policy(POLICY.weights, POLICY.biases, Bounds.symmetric(0.5, 2))
    functions = [
        *(local, lambda: 0, round_trip, np.sum, jnp.sum, jax.jit(round_trip), Policy),
        *(functools.partial(local, 1), functools.partial(local, 2), functools.partial(local, x=1)),
        *(POLICY.__call__, other.__call__),
    ]
    prints = [fingerprint(function) for function in functions]
    assert prints[2] == prints[5]  # compiled, it is the same function
    assert len(set(prints)) == len(prints) - 1
    assert prints == [fingerprint(function) for function in functions]


@pytest.mark.parametrize("value", [object(), {1}, Bound().method, np.random.default_rng(0)])
def test_what_has_no_content_has_no_fingerprint(value):
    with pytest.raises(TypeError, match="has no fingerprint"):
        fingerprint([value])


def test_a_mapping_is_as_a_dict():
    table = {"x": (np.arange(2), 1.0)}
    assert fingerprint(types.MappingProxyType(table)) == fingerprint(table)


def test_foreign_classes_have_a_fingerprint():
    prints = {fingerprint(value) for value in (Foreign(), Foreign(2), ForeignPair(1, 2), (1, 2))}
    assert len(prints) == 4


def test_a_field_may_have_any_name(monkeypatch):
    for name in ("dict", "list", "array", "fields"):
        cls = types.new_class(
            "Odd", (), {}, lambda ns, name=name: ns.update(__annotations__={name: int})
        )
        odd = dataclass(frozen=True)(cls)
        cls.__module__, cls.__qualname__ = "tskd_jax.odd", "Odd"
        module = types.ModuleType("tskd_jax.odd")
        module.Odd = odd
        monkeypatch.setitem(sys.modules, "tskd_jax.odd", module)
        assert round_trip(odd(3)) == odd(3)
        assert fingerprint(odd(3)) != fingerprint(odd(4))


def test_frozen_arrays_are_hashed_once(monkeypatch):
    hashed = []

    def counted(array):
        hashed.append(1)
        return array_digest(array)

    monkeypatch.setattr("tskd_jax.run.serialization.array_digest", counted)
    arrays = FrozenArrays()
    x, on_device = np.arange(3.0), jnp.arange(3)
    frozen = arrays.freeze(x)
    assert not frozen.flags.writeable
    assert x.flags.writeable
    for array, times in ((frozen, 1), (on_device, 1), (x, 3)):
        hashed.clear()
        assert {arrays.digest(array) for _ in range(3)} == {array_digest(array)}
        assert len(hashed) == times
    del frozen, on_device
    gc.collect()
    assert not arrays._digests
