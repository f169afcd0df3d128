"""What rliable says of random scores, for the tests of `tskd_jax.evaluation.statistics`.

rliable 1.2.0 does not work beside pandas 3, so this file runs in an environment of its own, and
imports nothing of ours:

    python -m venv reference
    reference/bin/pip install rliable==1.2.0 "pandas<3"
    reference/bin/python experiments/studies/rliable_reference.py

Each case is a method X of (seeds, datasets) scores and a method Y, drawn by NumPy's default
generator with that seed; `rounded` to whole numbers, so that many are equal, or not. Of each:
the interquartile mean and the optimality gap (γ = 100) of X, the probability that X improves on Y,
X's performance profile at `thresholds`, and the 95% intervals of all of them by rliable's
stratified bootstrap. Scores are in the file, too: reading it needs no generator. Writes
rliable_reference.json in --results.
"""

import argparse
import importlib.metadata
import json
from pathlib import Path

import numpy as np
from rliable import library, metrics  # pyright: ignore[reportMissingImports]

# (seed, seeds of X, seeds of Y, datasets, rounded)
CASES = (
    (0, 5, 5, 1, False),
    (1, 5, 3, 4, False),
    (2, 10, 10, 9, False),
    (3, 8, 5, 6, True),
)
THRESHOLDS = (0.0, 20.0, 45.0, 50.0, 55.0, 80.0, 110.0)
DESIRED = 100.0


def scores(seed: int, ones: int, others: int, datasets: int, rounded: bool):
    """(ones, datasets) and (others, datasets) scores, as of robots of unlike difficulty."""
    rng = np.random.default_rng(seed)
    level, spread = rng.uniform(20, 90, datasets), rng.uniform(3, 25, datasets)
    x = level + spread * rng.normal(size=(ones, datasets)) + 5
    y = level + spread * rng.normal(size=(others, datasets))
    return (x.round(), y.round()) if rounded else (x, y)


def intervals(data, function, resamples: int):
    """(low, high) of each number that the function gives."""
    np.random.seed(0)  # noqa: NPY002  rliable draws from NumPy's global generator
    _, found = library.get_interval_estimates({"x": data}, function, reps=resamples)
    return found["x"].tolist()


def case(seed: int, ones: int, others: int, datasets: int, rounded: bool, resamples: int) -> dict:
    """What rliable says of one case."""
    x, y = scores(seed, ones, others, datasets, rounded)

    def aggregates(one):
        return np.array(
            [metrics.aggregate_iqm(one), metrics.aggregate_optimality_gap(one, DESIRED)]
        )

    def improvement(one, other):
        return np.array([metrics.probability_of_improvement(one, other)])

    def profile(one):
        return library.score_distributions(one, np.array(THRESHOLDS))

    ends = intervals(x, aggregates, resamples)
    return {
        "seed": seed,
        "x": x.tolist(),
        "y": y.tolist(),
        "interquartile_mean": float(aggregates(x)[0]),
        "interquartile_mean_interval": [end[0] for end in ends],
        "optimality_gap": float(aggregates(x)[1]),
        "optimality_gap_interval": [end[1] for end in ends],
        "improvement": float(improvement(x, y)[0]),
        # A tenth as many: rliable takes minutes for them.
        "improvement_interval": [end[0] for end in intervals([x, y], improvement, resamples // 10)],
        "profile": profile(x).tolist(),
        "profile_interval": intervals(x, profile, resamples),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resamples", type=int, default=50_000)  # rliable's own default
    parser.add_argument("--results", default="experiments/results")
    args = parser.parse_args()
    found = {
        "versions": {name: importlib.metadata.version(name) for name in ("rliable", "numpy")},
        "resamples": args.resamples,
        "desired": DESIRED,
        "thresholds": THRESHOLDS,
        "cases": [case(*one, resamples=args.resamples) for one in CASES],
    }
    path = Path(args.results) / "rliable_reference.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
