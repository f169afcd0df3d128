"""From double to single precision, as both searches that verify what they find need it."""

import numpy as np


def single(array: np.ndarray) -> np.ndarray:
    """Convert to single precision; values beyond its range become its largest number."""
    largest = np.finfo(np.float32).max
    return np.clip(array, -largest, largest).astype(np.float32)


def upwards(limit: np.ndarray) -> np.ndarray:
    """Convert to single precision, rounding up; beyond its range to infinity."""
    with np.errstate(over="ignore"):
        return np.nextafter(limit.astype(np.float32), np.float32(np.inf))
