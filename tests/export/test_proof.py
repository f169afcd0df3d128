"""Tests of the proof: it refuses what acts differently, and only that."""

import numpy as np
import pytest
from exported import SHAPES, contract_of, make_policy

from tskd_jax.errors import ExportError
from tskd_jax.export import export, proof
from tskd_jax.policy import Bounds, Policy


def other_sums(policy: Policy):
    """The policy with every sum from its end, one number after the other."""

    def act(x):
        for place, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
            total = np.tile(bias, (len(x), 1))
            for k in range(len(weight))[::-1]:
                total += x[:, k : k + 1] * weight[k]
            x = np.tanh(total) if place == len(policy.weights) - 1 else np.maximum(total, 0)
        return policy.bounds.stretch(x)

    return act


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_another_order_of_sums_passes(sizes, seed):
    policy = make_policy(sizes, seed)
    found = proof.prove(policy, other_sums(policy), proof.some_observations(policy, None), "other")
    assert found.largest <= 1e-5
    assert found.observations > 10_000


def test_a_difference_is_refused():
    policy = make_policy((11, 64, 64, 3))
    weights = [weight.copy() for weight in policy.weights]
    weights[1][5, 7] *= 1.05
    other = Policy(tuple(weights), policy.biases, policy.bounds)
    with pytest.raises(ExportError, match=r"^other: differs from the NumPy policy by .* nothing"):
        proof.prove(policy, other, proof.some_observations(policy, None), "other")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_refused(wrong):
    policy = make_policy()

    def act(x):
        actions = policy(x)
        actions[-1, 0] = wrong
        return actions

    with pytest.raises(ExportError, match="at 1 of"):
        proof.prove(policy, act, proof.some_observations(policy, None), "other")


def test_a_difference_of_two_hundred_thousandths_is_refused():
    policy = make_policy()
    half = np.subtract(policy.bounds.high, policy.bounds.low) / 2
    observations = np.zeros((5, 4), np.float32)
    with pytest.raises(ExportError, match=r"by 2e-05 of the half-width of action 0"):
        proof.prove(policy, lambda x: policy(x) + 2e-5 * half, observations, "other")
    found = proof.prove(policy, lambda x: policy(x) + 5e-6 * half, observations, "other")
    assert found.largest == pytest.approx(5e-6, rel=0.1)
    assert found.open == 0


def test_another_shape_is_refused():
    policy = make_policy()
    with pytest.raises(ExportError, match=r"of shape \(5,\), not \(5, 3\)"):
        proof.prove(policy, lambda x: policy(x)[:, 0], np.zeros((5, 4), np.float32), "other")


def test_observations_are_many_and_extreme():
    policy = make_policy((11, 8, 3))
    drawn = proof.some_observations(policy, None)
    assert drawn.dtype == np.float32
    assert np.abs(drawn[:10_000]).max() > 300
    extremes = drawn[10_000:]
    assert (extremes == 0).all(1).any()
    assert (np.abs(extremes) == 1e6).all(1).sum() >= 20
    assert ((extremes != 0).sum(1) == 1).sum() >= 4 * 11
    tiny = np.finfo(np.float32).tiny
    assert ((np.abs(extremes) < tiny) & (extremes != 0)).any()
    np.testing.assert_array_equal(drawn, proof.some_observations(policy, None))


def test_observations_in_the_range_of_the_data():
    policy = make_policy((2, 8, 3))
    contract = contract_of(policy, observation_low=(5.0, -1.0), observation_high=(6.0, -1.0))
    usual, words = proof.usual(proof.some_observations(policy, contract), contract)
    assert len(usual) == 2500
    assert usual[:, 0].min() >= 5
    assert usual[:, 0].max() <= 6
    assert (usual[:, 1] == -1).all()
    assert "range of the data" in words
    usual, words = proof.usual(proof.some_observations(policy, None), None)
    assert usual.std() == pytest.approx(1, rel=0.05)


def test_rounding_is_about_what_it_is():
    """Of one sum of 256 products, against double precision."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(256, 1)).astype(np.float32)
    policy = Policy((weight,), (np.zeros(1, np.float32),), Bounds.symmetric(1.0, 1))
    x = (0.02 * rng.normal(size=(5000, 256))).astype(np.float32)
    allowed = proof.rounding(policy, x)[:, 0]
    exact = np.tanh(x.astype(np.float64) @ weight.astype(np.float64))[:, 0]
    off = np.abs(other_sums(policy)(x)[:, 0] - exact)
    assert (off < allowed).all()
    assert allowed.max() < 1e-5
    assert 30 * np.median(off) > np.median(allowed)


def test_bounds_far_from_zero_round_the_action_itself():
    # Single precision has steps of 0.06 at a million: 0.06 of the half-width.
    policy = make_policy((4, 8, 1))
    policy = Policy(policy.weights, policy.biases, Bounds((1e6,), (1e6 + 2,)))
    found = proof.prove(policy, other_sums(policy), proof.some_observations(policy, None), "other")
    assert found.open == found.observations


def test_lines():
    found = proof.Proof(10_075, 1.4e-6, 1539, 2.7e-5)
    assert found.lines("NumPy") == [
        "at most 1.4e-06 from NumPy, in half-widths of the bounds, in 10,075 observations",
        "2.7e-05 in 1,539 of them, where single precision fixes the action no further",
    ]
    assert proof.Proof(9, 0.0, 3, 0.0).lines("NumPy") == [
        "the same bits as NumPy in 9 observations"
    ]


def test_the_same_bits_in_a_file_of_numpy():
    policy = make_policy()
    contract = contract_of(policy, method="tskd")
    made = export("npz", policy, contract)
    assert list(made.files) == [".npz"]
    assert "the same bits as NumPy" in made.lines[1]


@pytest.mark.parametrize("form", ["npz", "stablehlo"])
def test_some_forms_have_no_eight_bits(form):
    with pytest.raises(ExportError, match=f"{form}: has no int8; onnx, c, tflite have"):
        export(form, make_policy(), None, int8=True)
