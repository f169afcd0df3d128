"""Methods, which turn a dataset into policies: one file each; `METHODS` is the registry."""

import importlib

from tskd_jax.methods.base import Experiment, Method, Outcome

__all__ = ["METHODS", "Experiment", "Method", "Outcome"]


def _load(name: str) -> Method:
    return importlib.import_module(f"{__name__}.{name}").METHOD


METHODS: dict[str, Method] = {
    "bc": _load("bc"),
    "best_episode_bc": _load("best_episode_bc"),
    "filtered_bc": _load("filtered_bc"),
    "chosen_bc": _load("chosen_bc"),
    "iql": _load("iql"),
    "td3_bc": _load("td3_bc"),
    "rebrac": _load("rebrac"),
    "cql": _load("cql"),
    "mbts": _load("mbts"),
    "decision_transformer": _load("decision_transformer"),
    "trajectory_transformer": _load("trajectory_transformer"),
    "diffuser": _load("diffuser"),
    "decision_diffuser": _load("decision_diffuser"),
    "tskd": _load("tskd"),
    "tskd_one_step": _load("tskd_one_step"),
}
