"""Folders of finished runs, as far as a comparison looks at them."""

import json

import numpy as np

from tskd_jax.evaluation.scores import summarize
from tskd_jax.run import files
from tskd_jax.run.folder import FORMAT

TITLES = {"bc": "BC", "tskd": "TSKD", "iql": "IQL"}
ENDS = {"random_return": 0.0, "expert_return": 200.0}  # a score is half a return


def make_run(folder, scores: dict, dataset="few", students=None, **changes):
    """A finished run whose methods have those (seeds, episodes) scores; the last is the subject.

    `students`: method -> the checksum of its students; without them the run has no manifest.
    """
    folder.mkdir(parents=True)
    if isinstance(dataset, str):
        dataset = {"name": f"data/{dataset}.hdf5", "sha256": f"hash of {dataset}"}
    counts = dict.fromkeys(("transitions", "episodes", "terminal_episodes", "return_mean"), 1)
    dataset = counts | {"return_quantiles": {"50": 1.0}} | dataset
    task = {"name": "hopper", "gymnasium_id": "Hopper-v4", "episode_limit": 9} | ENDS
    returns = {name: 2.0 * np.array(one, float) for name, one in scores.items()}
    np.savez(folder / changes.pop("file", "returns.npz"), **returns)
    summary = {
        "dataset": dataset,
        "task": task,
        "subject": list(scores)[-1],
        "methods": {
            name: {
                "title": TITLES.get(name, name),
                "student": f"key of {name}",
                "parameters": 1,
                "seconds": 1,
            }
            for name in scores
        },
        "scores": {name: summarize(np.array(one, float)) for name, one in scores.items()},
        "gains": {name: {"mean": 0.0, "interval": None} for name in scores},
        "seconds": {},
        "stages": {},
        "results": {"student": str(folder)},
        "versions": {},
        "device": "cpu",
        "config": {
            "seeds": [0, 1],
            "environment": {"name": "hopper"},
            "dataset": {"path": ""},
            "evaluation": {"episodes": 2},
            "referee": {"episodes": 2},
        },
    } | changes
    (folder / "summary.json").write_text(json.dumps(summary))
    if students:
        stages = {f"key of {name}": {"content": one} for name, one in students.items()}
        files.write_sealed(folder / "manifest.json", {"format": FORMAT, "stages": stages})
    return folder
