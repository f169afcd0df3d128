"""Students of many forms, and how the tests of the formats compare them with NumPy."""

import itertools

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.export import proof
from tskd_jax.policy import Bounds, Policy

SHAPES = {
    "paper": (11, 256, 256, 3),
    "one-number": (1, 8, 1),
    "one-layer": (3, 2),
    "deep-narrow": (5, *(4,) * 12, 2),
    "wide": (2, 1000, 7),
}


def make_policy(sizes: tuple[int, ...] = (4, 16, 3), seed: int = 0) -> Policy:
    """A policy whose bounds differ by dimension, and do not lie about zero."""
    rng = np.random.default_rng(seed)
    low = rng.normal(size=sizes[-1])
    return Policy(
        tuple(
            (rng.normal(size=pair) * np.sqrt(2 / pair[0])).astype(np.float32)
            for pair in itertools.pairwise(sizes)
        ),
        tuple(rng.normal(size=size).astype(np.float32) for size in sizes[1:]),
        Bounds(tuple(low.tolist()), tuple((low + rng.uniform(0.1, 3, sizes[-1])).tolist())),
    )


def make_saturated() -> Policy:
    """A policy whose actions for ±1 are a bound, which one rounding would lead past."""
    low, high = ((-2.0, -0.3, 0.1, -1.2), (-1.6, 0.7, 0.9, 0.4))
    bounds = Bounds(*(tuple(np.float32(end).tolist()) for end in (low, high)))
    return Policy((np.full((1, 4), 50, np.float32),), (np.zeros(4, np.float32),), bounds)


def contract_of(policy: Policy, **more: object) -> Contract:
    return Contract(
        len(policy.weights[0]),
        len(policy.biases[-1]),
        policy.bounds.low,
        policy.bounds.high,
        **more,
    )


def check_acts_alike(policy: Policy, act, name: str) -> None:
    """As many rows, and as one; each within 1e-5 where single precision fixes an action."""
    observations = proof.some_observations(policy, None)
    found = proof.prove(policy, act, observations, name)
    assert found.largest <= 1e-5
    for rows in (1, 2, 7):
        actions = np.asarray(act(observations[:rows]))
        assert actions.shape == (rows, len(policy.biases[-1]))
        assert actions.dtype == np.float32
        half = np.subtract(policy.bounds.high, policy.bounds.low) / 2
        assert (np.abs(actions - policy(observations[:rows])) <= 1e-5 * half + 1e-6).all()


def check_within_bounds(policy: Policy, act) -> None:
    """Of `make_saturated`."""
    found = np.asarray(act(np.array([[-1], [1]], np.float32)))
    low, high = policy.bounds.ends
    assert (found >= low).all()
    assert (found <= high).all()
    np.testing.assert_allclose(found, [low, high], rtol=1e-6)
