"""Tests, before anything is written, that an exported student acts like the NumPy policy."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.errors import ExportError
from tskd_jax.policy import LARGEST_STATE, Policy

RANDOM = 10_000
SCALES = (1.0, 10.0, 100.0)  # standard deviations of the random observations
TOLERANCE = 1e-5  # in half-widths of the bounds
# Two programs may differ by this many standard deviations of their rounding errors, if that is more
# than the tolerance. Sums in other orders differed by 2.2 at most, in 600,000 actions of six
# students.
DEVIATIONS = 6.0
UNIT = 2.0**-24  # unit roundoff of single precision


@dataclass(frozen=True)
class Proof:
    """How far an exported student is from the NumPy policy, in half-widths of the bounds.

    Attributes:
      observations: number of observations tested.
      largest: largest difference where single precision determines the action to `TOLERANCE`.
      open: number of observations where it does not, for some action: correct programs may differ.
      largest_open: largest difference there.
    """

    observations: int
    largest: float
    open: int
    largest_open: float

    def lines(self, right: str) -> list[str]:
        """The result in words; `right` names the policy that it was compared with."""
        if not self.largest + self.largest_open:
            return [f"the same bits as {right} in {self.observations:,} observations"]
        text = [
            f"at most {self.largest:.1e} from {right}, in half-widths of the bounds, in "
            f"{self.observations:,} observations"
        ]
        if self.open:
            text.append(
                f"{self.largest_open:.1e} in {self.open:,} of them, where single precision fixes "
                f"the action no further"
            )
        return text


def some_observations(policy: Policy, contract: Contract | None) -> np.ndarray:
    """Make (N, m) test observations, float32: random ones, then extreme ones.

    Random: normal with each scale in `SCALES`, and, if the contract has the range of the data, as
    many uniform within it. Extreme: zeros, constants, single large entries, ±`LARGEST_STATE`, and
    subnormal numbers.
    """
    size = len(policy.weights[0])
    rng = np.random.default_rng(0)
    spreads: list[Callable[[int], np.ndarray]] = [
        lambda count, scale=scale: scale * rng.normal(size=(count, size)) for scale in SCALES
    ]
    if contract and contract.observation_low:
        low, high = np.array(contract.observation_low), np.array(contract.observation_high)
        spreads.append(lambda count: low + (high - low) * rng.uniform(size=(count, size)))
    each = -(-RANDOM // len(spreads))
    drawn = np.concatenate([spread(each) for spread in spreads])[:RANDOM]
    constant = [0.0, -0.0, 1.0, -1.0, 1e3, -1e3, LARGEST_STATE, -LARGEST_STATE, 1e-40, -1e-40]
    extremes = [np.full((1, size), value) for value in constant]
    extremes += [value * np.eye(size) for value in (1e3, -1e3, LARGEST_STATE, -LARGEST_STATE)]
    extremes += [LARGEST_STATE * rng.choice([-1.0, 1.0], (20, size))]
    extremes += [np.full((1, size), np.finfo(np.float32).tiny)]
    every = np.concatenate([drawn, *extremes])
    return every.clip(-LARGEST_STATE, LARGEST_STATE).astype(np.float32)


def prove(
    policy: Policy, act: Callable[[np.ndarray], np.ndarray], observations: np.ndarray, name: str
) -> Proof:
    """Compare an exported student with the NumPy policy.

    Its actions may differ by `TOLERANCE`. For some observations, mostly far larger than any in the
    data, the order of summation alone changes the action by more than that; there they may differ
    as far as rounding explains (`rounding`).

    Args:
      policy: the reference.
      act: the exported student, (N, m) float32 -> (N, n).
      observations: (N, m).
      name: the format's name, for the message.

    Raises:
      ExportError: an action differs by more, or the actions have another shape.
    """
    expected = policy(observations).astype(np.float64)
    found = np.asarray(act(observations), np.float64)
    if found.shape != expected.shape:
        raise ExportError(f"{name}: gives actions of shape {found.shape}, not {expected.shape}")
    half = (np.array(policy.bounds.high) - np.array(policy.bounds.low)) / 2
    difference = np.abs(found - expected) / half
    rounded = [rounding(policy, observations[part]) for part in parts(len(observations))]
    allowed = np.maximum(TOLERANCE, np.concatenate(rounded))
    # Not `difference > allowed`: a NaN must not pass.
    bad = ~(difference <= allowed)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ExportError(
            f"{name}: differs from the NumPy policy by {difference[row, column]:.2g} of the "
            f"half-width of action {column}'s bounds at {int(bad.any(-1).sum())} of "
            f"{len(observations)} observations; nothing is written"
        )
    open_ = (allowed > TOLERANCE).any(-1)
    return Proof(
        len(observations),
        float(difference[allowed <= TOLERANCE].max(initial=0.0)),
        int(open_.sum()),
        float(difference[allowed > TOLERANCE].max(initial=0.0)),
    )


def rounding(policy: Policy, observations: np.ndarray) -> np.ndarray:
    """(N, n): how far rounding may separate two correct programs, in half-widths of the bounds.

    `DEVIATIONS` standard deviations of the error of sums in single precision, propagated through
    the layers in double precision as if all roundings were independent.
    """
    x = observations.astype(np.float64)
    variance = np.zeros_like(x)
    layers = list(zip(policy.weights, policy.biases, strict=True))
    for number, (weight, bias) in enumerate(layers, 1):
        weight, bias = weight.astype(np.float64), bias.astype(np.float64)
        squares = np.square(x) @ np.square(weight) + np.square(bias)
        z = x @ weight + bias
        # Each partial sum is rounded, with an error of half of UNIT times its size on average. The
        # square of that size grows from 0 to `squares` + z², and is a third of it on average.
        own = np.square(UNIT) * len(weight) / 12 * (squares + np.square(z))
        variance = variance @ np.square(weight) + own
        if number < len(layers):
            reach = DEVIATIONS * np.sqrt(variance)
            variance = np.where(z > -reach, variance, 0.0)
            x = np.maximum(z, 0.0)
    reach = DEVIATIONS * np.sqrt(2 * variance)  # both programs have errors
    ends = [np.tanh(z + reach) - np.tanh(z), np.tanh(z) - np.tanh(z - reach)]
    low, high = np.array(policy.bounds.low), np.array(policy.bounds.high)
    # The action itself is rounded, which matters if its bounds are far from zero.
    last = 4 * UNIT * (np.abs(low + high) + (high - low)) / (high - low)
    return np.maximum(*ends) + last


def parts(count: int, size: int = 2048) -> list[slice]:
    """Slices of a batch of `count` rows, at most `size` rows each, to limit the memory."""
    return [slice(a, b) for a, b in itertools.pairwise([*range(0, count, size), count])]


def usual(observations: np.ndarray, contract: Contract | None) -> tuple[np.ndarray, str]:
    """(the subset of `some_observations` that is most like the data; its description in words)."""
    known = bool(contract and contract.observation_low)
    each = -(-RANDOM // (len(SCALES) + known))
    if known:
        return observations[len(SCALES) * each : RANDOM], "observations in the range of the data"
    return observations[:each], "normal observations of deviation 1"
