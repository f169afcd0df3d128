"""Tests of the contract: it comes back as it was, and a wrong one is refused in one line."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import tskd_jax
from tskd_jax import contract as module
from tskd_jax.contract import Contract
from tskd_jax.errors import PolicyError
from tskd_jax.policy import Bounds, Policy, load_contract, load_policy, save_policy
from tskd_jax.run.serialization import fingerprint

CONTRACT = Contract(
    observation_size=3,
    action_size=2,
    action_low=(-1.0, 0.1),
    action_high=(1.0, 2.0),
    observation_names=("height", "Winkel φ", 'a "quoted"\nname */'),
    observation_units=("m", "rad", ""),
    action_names=("left", "right"),
    action_units=("200 N m", "N m"),
    observation_low=(0.0, -1.0, -1e30),
    observation_high=(1.0, 1.0, 1e-40),
    control_hz=12.5,
    environment="Hopper-v4",
    dataset="data.csv",
    dataset_sha256="ab" * 32,
    score=88.5,
    score_error=2.25,
    score_episodes=10,
    score_unit="normalised score",
    score_measured_in="simulator",
    method="tskd",
    seed=3,
    versions={"tskd_jax": "0.1.0", "jax": "0.9"},
)
BARE = Contract(3, 2, (-1.0, 0.1), (1.0, 2.0))


def make_policy() -> Policy:
    rng = np.random.default_rng(0)
    return Policy(
        tuple(rng.normal(size=pair).astype(np.float32) for pair in itertools.pairwise((3, 8, 2))),
        tuple(rng.normal(size=size).astype(np.float32) for size in (8, 2)),
        Bounds(CONTRACT.action_low, CONTRACT.action_high),
    )


def write(path: Path, content: bytes) -> Path:
    """A student whose contract has these bytes."""
    save_policy(path, make_policy())
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays, contract=np.frombuffer(content, np.uint8))
    return path


def changed(**values: object) -> bytes:
    return json.dumps(json.loads(CONTRACT.to_json()) | values).encode()


@pytest.mark.parametrize("contract", [CONTRACT, BARE])
def test_round_trip(tmp_path, contract):
    assert Contract.from_json(contract.to_json()) == contract
    save_policy(tmp_path / "a.npz", make_policy(), contract)
    assert load_contract(tmp_path / "a.npz") == contract
    assert load_policy(tmp_path / "a.npz").contract == contract
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["contract"].dtype == np.uint8
        content = json.loads(archive["contract"].tobytes())
    assert content["format"] == 1
    assert content["action_low"] == [-1, 0.1]


def test_a_file_of_an_earlier_version_has_none(tmp_path):
    save_policy(tmp_path / "a.npz", make_policy())
    assert load_contract(tmp_path / "a.npz") is None
    assert load_policy(tmp_path / "a.npz").contract is None


def test_a_contract_is_no_part_of_what_a_stage_is_known_by(tmp_path):
    save_policy(tmp_path / "a.npz", make_policy())
    save_policy(tmp_path / "b.npz", make_policy(), CONTRACT)
    one, other = load_policy(tmp_path / "a.npz"), load_policy(tmp_path / "b.npz")
    assert fingerprint(one) == fingerprint(other)
    assert [field.name for field in dataclasses.fields(Policy)] == ["weights", "biases", "bounds"]


def test_what_a_later_version_adds_is_left_out(tmp_path):
    path = write(tmp_path / "a.npz", changed(format=2, colour="red", nested=[{"a": None}]))
    assert load_contract(path) == CONTRACT


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("observation_size", 3.5, "'observation_size' is not a count: 3.5"),
        ("observation_size", True, "not a count"),
        ("observation_size", -3, "not a count"),
        ("observation_size", 4, "observation_names has 3 entries for 4 dimensions"),
        ("action_size", None, "not a count"),
        ("action_low", [-1, "0"], "not a list of numbers"),
        ("action_low", [-1, 1e999], "no JSON"),  # written as Infinity
        ("action_low", [-1, 10**400], "not a list of numbers"),
        ("action_low", [], "action_low has 0 entries for 2 dimensions"),
        ("action_low", [-1, 0.2], "other bounds"),
        ("action_high", [1, 1e300], "other bounds"),
        ("action_names", "left", "not a list of texts"),
        ("action_names", ["left"], "1 entries for 2 dimensions"),
        ("observation_units", ["m", 1, "rad"], "not a list of texts"),
        ("control_hz", "fast", "'control_hz' is not a number"),
        ("control_hz", float("nan"), "no JSON"),
        ("environment", None, "not a text"),
        ("score", [1], "not a number"),
        ("seed", -1, "not a count"),
        ("seed", 2**80, "not a count"),
        ("versions", {"jax": 9}, "not an object of texts"),
        ("versions", [], "not an object of texts"),
    ],
)
def test_a_wrong_type_is_one_line(tmp_path, key, value, words):
    check_refused(write(tmp_path / "a.npz", changed(**{key: value})), words)


def check_refused(path: Path, words: str) -> None:
    for load in (load_policy, load_contract):
        with pytest.raises(PolicyError) as caught:
            load(path)
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"{path}: its contract is damaged: ")
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "it has no 'observation_size'"),
        (b'{"observation_size": 3, "action_size": 2}', "it has no 'action_low'"),
        (b" " * (2**20 + 1), "at most 1,048,576"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_what_is_no_contract(tmp_path, content, words):
    check_refused(write(tmp_path / "a.npz", content), words)


def test_an_array_that_is_no_bytes(tmp_path):
    path = tmp_path / "a.npz"
    save_policy(path, make_policy())
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays, contract=np.zeros((2, 2)))
    check_refused(path, "float64 of shape (2, 2), not bytes")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observation_names": ("a" * 2**20, "", "")}, "at most"),
        ({"score": float("nan")}, "not finite"),
        ({"action_high": (1.0, 2.5)}, "other bounds"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, change, words):
    with pytest.raises(PolicyError, match=words):
        save_policy(tmp_path / "a.npz", make_policy(), dataclasses.replace(CONTRACT, **change))
    assert not list(tmp_path.iterdir())


def test_of_another_policy(tmp_path):
    with pytest.raises(PolicyError, match=r"sizes \(1, 2\) for a policy of \(3, 2\)"):
        save_policy(tmp_path / "a.npz", make_policy(), Contract(1, 2, (-1, 0.1), (1, 2)))


def test_it_is_not_read_further_than_it_may_be_long(tmp_path, monkeypatch):
    path = write(tmp_path / "a.npz", CONTRACT.to_json().encode())
    monkeypatch.setattr(module, "LARGEST_CONTRACT", 100)
    with pytest.raises(PolicyError, match="at most 100"):
        load_policy(path)


def test_a_wrong_observation_is_told_the_names(tmp_path):
    save_policy(tmp_path / "a.npz", make_policy(), CONTRACT)
    policy = load_policy(tmp_path / "a.npz")
    for wrong in (np.zeros(4), {"a": 1}):
        with pytest.raises(PolicyError, match=r"\(…, 3\) \(height, Winkel φ, a \"quoted\" name"):
            policy(wrong)
    long = dataclasses.replace(
        BARE,
        observation_size=9,
        observation_names=tuple("abcdefghi"),
    )
    wide = Policy((np.ones((9, 2), np.float32),), (np.zeros(2, np.float32),), make_policy().bounds)
    save_policy(tmp_path / "b.npz", wide, long)
    with pytest.raises(PolicyError, match=r"takes \(…, 9\) \(a, b, c, d, …\)$"):
        load_policy(tmp_path / "b.npz")(np.zeros(3))


def test_the_last_action_is_repeated(tmp_path):
    save_policy(tmp_path / "a.npz", make_policy(), CONTRACT)
    plain, policy = load_policy(tmp_path / "a.npz"), load_policy(tmp_path / "a.npz", "repeat")
    bad = np.array([0.0, np.nan, 0.0])
    with pytest.raises(PolicyError, match="not finite, in dimension 1"):
        policy(bad)  # nothing to repeat yet
    good = np.array([0.3, -0.2, 0.1])
    first = policy(good)
    np.testing.assert_array_equal(first, plain(good))
    np.testing.assert_array_equal(policy(bad), first)
    np.testing.assert_array_equal(policy(bad), first)
    np.testing.assert_array_equal(policy(2 * good), plain(2 * good))
    assert policy.contract == CONTRACT
    with pytest.raises(PolicyError, match="takes"):
        policy(np.zeros(4))
    with pytest.raises(PolicyError, match="takes"):
        policy("no")


def test_of_many_rows_only_the_bad_ones_are_repeated(tmp_path):
    save_policy(tmp_path / "a.npz", make_policy())
    plain, policy = load_policy(tmp_path / "a.npz"), load_policy(tmp_path / "a.npz", "repeat")
    states = np.random.default_rng(0).normal(size=(4, 3))
    first = policy(states)
    second = states + 1
    second[2, 0] = np.inf
    np.testing.assert_array_equal(policy(second)[2], first[2])
    kept = [0, 1, 3]
    np.testing.assert_allclose(policy(second)[kept], plain(second[kept]), rtol=1e-5)
    # What the caller does to an action is not repeated.
    policy(states)[:] = 9
    np.testing.assert_array_equal(policy(np.full((4, 3), np.nan)), first)
    with pytest.raises(PolicyError, match="not finite"):
        policy(second[:3])  # other rows than those of the last call


def test_no_other_answer_to_what_is_not_finite(tmp_path):
    save_policy(tmp_path / "a.npz", make_policy())
    with pytest.raises(PolicyError, match="one of 'error' and 'repeat'"):
        load_policy(tmp_path / "a.npz", "zero")


def test_without_jax(tmp_path):
    save_policy(tmp_path / "a.npz", make_policy(), CONTRACT)
    script = """
        import sys
        for name in ("jax", "jaxlib", "flax", "optax", "jaxtyping", "h5py", "scipy", "gymnasium"):
            sys.modules[name] = None
        import tskd_jax
        contract = tskd_jax.load_contract("a.npz")
        assert isinstance(contract, tskd_jax.Contract)
        print(contract.method, tskd_jax.load_policy("a.npz", on_invalid="repeat")([0, 0, 0]).shape)
    """
    path = os.pathsep.join([str(Path(tskd_jax.__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        **{"capture_output": True, "text": True, "timeout": 60, "cwd": tmp_path},
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.stdout.split() == ["tskd", "(2,)"], done.stderr
