"""Checks whether a repeated run gave the same results."""

import json
from pathlib import Path
from typing import Any

from tskd_jax import config as configs
from tskd_jax.config import Config
from tskd_jax.data import load
from tskd_jax.errors import ConfigError, ReplayError

MATCHES = "matches: every stage gave the same result, bit for bit"


def read(path: Path) -> tuple[dict[str, Any], Config]:
    """Read the summary of a run, and its config.

    Raises:
      ReplayError: the file is not such a summary, or the dataset has changed since.
      DatasetError: the dataset is not on this machine.
    """
    try:
        summary = json.loads(path.read_text())
        results, dataset = dict(summary["results"]), dict(summary["dataset"])
        config = configs.from_plain(summary["config"])
    except ConfigError as error:
        raise ReplayError(f"{path}: its config is not of this version ({error})") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise ReplayError(
            f"{path}: not the summary.json of a finished run ({' '.join(reason.split())})"
        ) from error
    if not results:
        raise ReplayError(f"{path}: not the summary.json of a finished run (no results)")
    source = config.dataset.path or config.dataset.name
    if "sha256" in dataset:
        found = load.content_hash(load.resolve(source))
        if found != dataset["sha256"]:
            raise ReplayError(
                f"{path}: {source} has changed since (SHA-256 {found}, then {dataset['sha256']}); "
                "restore it"
            )
    return summary, config


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Describe the differences between a run and its repetition; empty if there are none."""
    left, right = before["results"], after["results"]
    names = [name for name in right if left.get(name) != right[name]]
    names += [name for name in left if name not in right]
    if not names:
        return []
    problems = [f"does not match: {len(names)} of {len(right)} stages differ, first {names[0]}"]
    versions = [
        f"{name} {version}, now {after['versions'].get(name)}"
        for name, version in before.get("versions", {}).items()
        if after["versions"].get(name) != version
    ]
    if before.get("device") != after["device"]:
        versions.append(f"{before.get('device')}, now {after['device']}")
    if versions:
        problems.append(f"it was made with {', '.join(versions)}")
    return problems
