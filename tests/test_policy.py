"""Tests of the policy file: what is saved comes back, without JAX, and nothing else gets in.

Over 300 lines: every way a file of weights can be wrong, and each is its own small file.
"""

import itertools
import os
import subprocess
import sys
import textwrap
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tskd_jax
from tskd_jax import policy as module
from tskd_jax.errors import PolicyError
from tskd_jax.policy import Bounds, Policy, load_policy, save_policy


def make_policy(sizes=(11, 256, 256, 3), bound: float = 1.0, seed: int = 0) -> Policy:
    """A policy whose actions lie within ±bound, the first between 0 and bound."""
    rng = np.random.default_rng(seed)
    return Policy(
        tuple(
            (rng.normal(size=(a, b)) / np.sqrt(a)).astype(np.float32)
            for a, b in itertools.pairwise(sizes)
        ),
        tuple(rng.normal(size=b).astype(np.float32) for b in sizes[1:]),
        Bounds((0.0, *(-bound,) * (sizes[-1] - 1)), (bound,) * sizes[-1]),
    )


def arrays_of(policy: Policy) -> dict[str, np.ndarray]:
    low, high = policy.bounds.low, policy.bounds.high
    arrays = {"action_low": np.float32(low), "action_high": np.float32(high)}
    for i, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
        arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
    return arrays


def check_refused(path, *words: str) -> None:
    """Loading fails in one line that has the file's name and those words."""
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


@pytest.mark.parametrize(
    ("states", "actions", "count"), [(11, 3, 69_635), (17, 6, 71_942)], ids=["hopper", "others"]
)
def test_size_of_the_paper(states, actions, count):
    # 11·256 + 256 + 256·256 + 256 + 256·3 + 3 = 3,072 + 65,792 + 771.
    assert make_policy((states, 256, 256, actions)).parameters == count


def test_actions_by_hand():
    # relu(1·2 - 1) = 1 and relu(1·(-2) + 1) = 0; 0.5 · tanh(3·1 + 9·0 - 2) = 0.5 · tanh(1).
    policy = Policy(
        (np.array([[2, -2]], np.float32), np.array([[3], [9]], np.float32)),
        (np.array([-1, 1], np.float32), np.array([-2], np.float32)),
        Bounds((-0.5,), (0.5,)),
    )
    np.testing.assert_allclose(policy(np.array([1.0])), [0.5 * np.tanh(1)], rtol=1e-6)


@pytest.mark.parametrize("bound", [1.0, 0.4])
def test_round_trip(tmp_path, bound):
    policy = make_policy(bound=bound)
    save_policy(tmp_path / "student.npz", policy)
    loaded = load_policy(tmp_path / "student.npz")
    for left, right in zip(
        (*loaded.weights, *loaded.biases), (*policy.weights, *policy.biases), strict=True
    ):
        assert left.dtype == np.float32
        np.testing.assert_array_equal(left, right)
    np.testing.assert_allclose(
        (loaded.bounds.low, loaded.bounds.high), ((0, -bound, -bound), (bound,) * 3)
    )
    states = np.random.default_rng(1).normal(size=(50, 11))
    np.testing.assert_allclose(loaded(states), policy(states), rtol=1e-6)


def test_a_file_with_one_bound_for_all_dimensions(tmp_path):
    """As earlier versions wrote them."""
    arrays = arrays_of(make_policy()) | {"action_bound": np.float32(0.5)}
    del arrays["action_low"], arrays["action_high"]
    np.savez(tmp_path / "a.npz", **arrays)
    assert load_policy(tmp_path / "a.npz").bounds == Bounds.symmetric(0.5, 3)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Bounds.symmetric(1.0, 3), "±1"),
        (Bounds((0.0, 0.0), (2.0, 2.0)), "[0, 2]"),
        (Bounds((0.0, -3.0), (2.0, 1.0)), "[-3 … 2], by dimension"),
    ],
)
def test_bounds_in_words(bounds, words):
    assert str(bounds) == words


def test_bounds_stretch_each_dimension_by_itself():
    x = np.array([[-1, -1], [0, 0], [1, 1], [0.5, -0.5]], np.float32)
    expected = [[0, -3], [1, -1], [2, 1], [1.5, -2]]
    bounds = Bounds((0.0, -3.0), (2.0, 1.0))
    np.testing.assert_allclose(bounds.stretch(x), expected)
    np.testing.assert_allclose(bounds.shrink(np.array(expected, np.float32)), x)
    # What lies outside is at the border.
    outside = np.array([9.0, -9.0], np.float32)
    assert bounds.shrink(outside).tolist() == [1, -1]


def test_the_name_of_the_file_is_kept(tmp_path):
    # np.savez would add .npz to a name without it.
    save_policy(tmp_path / "student", make_policy())
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    assert load_policy(str(tmp_path / "student")).parameters == 69_635


@pytest.mark.parametrize("shape", [(11,), (1, 11), (5, 11), (0, 11), (2, 3, 11)])
def test_observations_of_any_leading_shape(shape):
    policy = make_policy(bound=0.7)
    states = 10 * np.random.default_rng(0).normal(size=shape)
    actions = policy(states)
    assert actions.shape == (*shape[:-1], 3)
    assert actions.dtype == np.float32
    assert (np.abs(actions) <= 0.7).all()
    assert (actions[..., 0] >= 0).all()
    flat = np.array([policy(state) for state in states.reshape(-1, 11)]).reshape(actions.shape)
    np.testing.assert_allclose(actions, flat, atol=1e-5)


@pytest.mark.parametrize("kind", [list, np.float64, np.int64])
def test_observations_of_any_type(kind):
    states = [[1] * 11] if kind is list else np.ones((1, 11), kind)
    np.testing.assert_allclose(
        make_policy()(states), make_policy()(np.ones((1, 11), np.float32)), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(), (10,), (11, 1), (5, 12)])
def test_observations_of_a_wrong_size(shape):
    with pytest.raises(PolicyError, match="takes"):
        make_policy()(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_observations_that_are_no_numbers(value):
    one = np.zeros(11)
    one[[3, 7]] = value
    for states in (one, np.stack([np.zeros(11), one]), np.stack([[one, one]])):
        with pytest.raises(PolicyError, match="not finite, in dimension 3, 7"):
            make_policy()(states)


# Their sums overflow in single precision; 1e300 is infinite there.
HUGE = [np.array([3e38, -3e38] * 5 + [3e38]), np.full(11, 1e300)]


@pytest.mark.parametrize(
    ("huge", "said"), [(HUGE[0], "of up to 3e[+]38, so large"), (HUGE[1], "not finite")]
)
def test_observations_too_large_for_an_action(huge, said):
    for states in (huge, np.stack([np.zeros(11), huge])):
        with pytest.raises(PolicyError, match=said):
            make_policy()(states)


@pytest.mark.parametrize("bad", [np.full(11, np.nan), *HUGE])
def test_where_there_is_no_action_the_last_one_is_repeated(tmp_path, bad):
    save_policy(tmp_path / "a.npz", make_policy())
    policy = load_policy(tmp_path / "a.npz", on_invalid="repeat")
    with pytest.raises(PolicyError):
        policy(bad)
    good = np.random.default_rng(0).normal(size=(2, 11))
    first = policy(good)
    np.testing.assert_array_equal(first, make_policy()(good))
    for _ in range(2):
        mixed = policy(np.stack([bad, good[0]]))
        np.testing.assert_array_equal(mixed[0], first[0])
        np.testing.assert_allclose(mixed[1], first[0], rtol=1e-6)
    with pytest.raises(PolicyError):  # the last call had two rows
        policy(bad)


@pytest.mark.parametrize(("low", "high"), [(-2.0, -1.6), (-0.3, 0.7), (0.1, 0.9), (-1.2, 0.4)])
def test_saturated_actions_stay_within_the_bounds(low, high):
    """One rounding would lead past them: -1.8 + 0.2 · 1 is -1.5999999 in single precision."""
    low, high = np.float32(low), np.float32(high)
    bounds = Bounds((float(low),), (float(high),))
    policy = Policy((np.full((1, 1), 50, np.float32),), (np.zeros(1, np.float32),), bounds)
    actions = policy(np.array([[-1], [1]]))
    assert (low <= actions).all()
    assert (actions <= high).all()
    np.testing.assert_allclose(actions[:, 0], [low, high], rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ((np.zeros(11, np.float32), {}), "tuple"),  # what env.reset() gives
        ({"observation": np.zeros(11)}, "dict"),
        ("hopper", "str"),
    ],
)
def test_what_is_no_observation(given, kind):
    with pytest.raises(PolicyError, match=f"that are a {kind}; this policy takes an array") as e:
        make_policy()(given)
    assert "(…, 11)" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_path_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_policy("~/student.npz", make_policy())
    assert (tmp_path / "student.npz").exists()
    assert load_policy("~/student.npz").parameters == make_policy().parameters


def test_a_fresh_interpreter_without_jax(tmp_path):
    policy = make_policy()
    save_policy(tmp_path / "student.npz", policy)
    states = np.random.default_rng(0).normal(size=(4, 11)).astype(np.float32)
    np.save(tmp_path / "states.npy", states)
    script = """
        import sys
        for name in ("jax", "jaxlib", "flax", "optax", "jaxtyping", "h5py", "scipy", "gymnasium"):
            sys.modules[name] = None
        import numpy as np
        import tskd_jax
        policy = tskd_jax.load_policy("student.npz")
        np.save("actions.npy", policy(np.load("states.npy")))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    path = os.pathsep.join([str(Path(tskd_jax.__file__).parents[1]), *sys.path])
    subprocess.run(
        command, check=True, timeout=60, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}
    )
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), policy(states), rtol=1e-6)


def test_missing_file(tmp_path):
    check_refused(tmp_path / "no.npz", "not a student")


def test_folder(tmp_path):
    check_refused(tmp_path, "not a student")


@pytest.mark.parametrize("content", [b"", b"not a zip archive", b"PK\x03\x04"])
def test_not_an_archive(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    check_refused(tmp_path / "a.npz", "not a student")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated_file(tmp_path, kept):
    path = tmp_path / "a.npz"
    save_policy(path, make_policy())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    check_refused(path, "not a student")


def test_damaged_content(tmp_path):
    path = tmp_path / "a.npz"
    save_policy(path, make_policy())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF  # the archive's checksum notices
    path.write_bytes(content)
    check_refused(path, "not a student")


class Explosive:
    """Unpickling it would call this."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("key", ["weight_1", "bias_0", "action_low"])
def test_a_pickle_is_not_loaded(tmp_path, key):
    content = np.empty(1, object)
    content[0] = Explosive()
    np.savez(tmp_path / "a.npz", **arrays_of(make_policy()) | {key: content})
    check_refused(tmp_path / "a.npz", "not a student")


@pytest.mark.parametrize("key", ["weight_1", "bias_2", "action_high"])
def test_missing_array(tmp_path, key):
    arrays = arrays_of(make_policy())
    del arrays[key]
    np.savez(tmp_path / "a.npz", **arrays)
    check_refused(tmp_path / "a.npz")


def test_no_layer(tmp_path):
    np.savez(tmp_path / "a.npz", action_low=-np.ones(0), action_high=np.ones(0))
    check_refused(tmp_path / "a.npz", "layers")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight_0", np.zeros((11, 255), np.float32)),
        ("weight_1", np.zeros((255, 256), np.float32)),
        ("weight_1", np.zeros(256, np.float32)),
        ("weight_1", np.zeros((256, 256, 1), np.float32)),
        ("bias_1", np.zeros(255, np.float32)),
        ("bias_1", np.zeros((256, 1), np.float32)),
        ("bias_1", np.zeros((), np.float32)),
        ("weight_2", np.zeros((256, 3), np.float64)),
        ("bias_2", np.zeros(3, np.int32)),
        ("weight_0", np.full((11, 256), np.nan, np.float32)),
        ("bias_0", np.full(256, np.inf, np.float32)),
        ("bias_2", np.full(3, -np.inf, np.float32)),
        ("action_low", np.full(3, np.nan, np.float32)),
        ("action_high", np.full(3, np.inf, np.float32)),
        ("action_low", np.full(3, -1e39)),  # infinite in the single precision of actions
        ("action_high", np.full(3, 1e300)),
        ("action_bound", np.float64(1e39)),
        ("action_high", np.ones(2, np.float32)),
        ("action_high", np.float32(1)),
        ("action_bound", np.float32(np.nan)),
        ("action_bound", np.float32(np.inf)),
        ("action_bound", np.ones(2, np.float32)),
    ],
)
def test_wrong_shape_type_or_number(tmp_path, key, value):
    np.savez(tmp_path / "a.npz", **arrays_of(make_policy()) | {key: value})
    check_refused(tmp_path / "a.npz")


def test_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_FILE", 1000)
    save_policy(tmp_path / "a.npz", make_policy())
    check_refused(tmp_path / "a.npz", "larger")


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path):
    # Zeros pack a thousandfold; the file is refused by what the archive says of itself.
    path = tmp_path / "a.npz"
    zeros = bytes(2**20)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("weight_0.npy", "w") as member,
    ):
        for _ in range(module.LARGEST_FILE // len(zeros) + 1):
            member.write(zeros)
    assert path.stat().st_size < module.LARGEST_FILE / 100
    check_refused(path, "larger")


def rewrite(path, name: str, change) -> None:
    """Change the bytes of one member of an archive that stays whole."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    changed = change(members[name])
    assert changed != members[name]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (members | {name: changed}).items():
            archive.writestr(member, content)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"(256, 256), }", b"(9999999, 9)}"),
        (b"(256, 256), }", b"(256, 999), }"),
        (b"(256, 256), }", b"(256, 255), }"),
        (b"(256, 256), }", b"(-1, -65536)}"),
        (b"'<f4'", b"'|O' "),
        (b"{'descr'", b"print('x'"),
        (b"NUMPY\x01", b"NUMPY\x02"),
    ],
)
def test_a_header_that_lies(tmp_path, before, after):
    path = tmp_path / "a.npz"
    save_policy(path, make_policy())
    rewrite(path, "weight_1.npy", lambda content: content.replace(before, after, 1))
    check_refused(path, "not a student")


def test_a_claim_of_many_numbers_takes_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    save_policy(path, make_policy())
    # Ten terabytes, in a header of the same length.
    few, many = b"(256, 256), }" + 10 * b" ", b"(9999999999, 256), }   "
    rewrite(path, "weight_1.npy", lambda content: content.replace(few, many, 1))
    tracemalloc.start()
    check_refused(path, "claims shape (9999999999, 256)")
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_bytes_behind_an_array(tmp_path):
    path = tmp_path / "a.npz"
    save_policy(path, make_policy())
    rewrite(path, "bias_0.npy", lambda content: content + b"more")
    check_refused(path, "holds less or more")


def test_more_arrays_than_any_student_has(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_ARRAYS", 6)
    save_policy(tmp_path / "a.npz", make_policy())
    check_refused(tmp_path / "a.npz", "larger")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("action_low", np.array([0, 2, -1], np.float32)),
        ("action_high", np.array([0, 1, 1], np.float32)),
        ("action_bound", np.float32(0)),
        ("action_bound", np.float32(-1)),
        # 10⁶ · 11 · 4e31 passes 3.4e38 in the first layer.
        ("weight_0", np.full((11, 256), 4e31, np.float32)),
        ("weight_1", np.full((256, 256), -3e38, np.float32)),
    ],
)
def test_numbers_that_overflow(tmp_path, key, value):
    np.savez(tmp_path / "a.npz", **arrays_of(make_policy()) | {key: value})
    check_refused(tmp_path / "a.npz", "would not be finite")


def test_large_numbers_that_do_not_overflow(tmp_path):
    policy = make_policy()
    np.savez(tmp_path / "a.npz", **arrays_of(policy) | {"bias_2": np.full(3, 1e38, np.float32)})
    loaded = load_policy(tmp_path / "a.npz")
    hidden = np.full((2, 11), 1e6, np.float32)
    for weight, bias in zip(loaded.weights, loaded.biases, strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0)
        assert np.isfinite(hidden).all()
    np.testing.assert_array_equal(loaded(np.full((2, 11), 1e6)), np.ones((2, 3)))
