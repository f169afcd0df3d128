"""tskd-jax data FILE|NAME [--config=NAME[:PRESET]] [--config.SECTION.FIELD=VALUE …]
tskd-jax data get NAME

Prints one page about a dataset, before anything is trained on it: rows, episodes, returns, every
dimension, what stitching, filter and imagination would find, the memory needed, and every warning.
Without --config, the dataset is treated as data of your own robot (--config=own). `get` fetches a
dataset of D4RL or Minari by its name.
"""

import json
from typing import Any

import numpy as np
from absl import flags

from tskd_jax.cli.flags import needed, parse
from tskd_jax.cli.new_files import new_file
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("plot", None, "Draw it, too, into this PNG file.", flag_values=values)
    flags.DEFINE_bool("time", False, "Time DDR-I at each preset: two minutes.", flag_values=values)
    flags.DEFINE_bool("json", False, "Print it as JSON.", flag_values=values)


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    del request
    if argv[1:2] == ["get"] and argv[2:] != ["--help"]:
        if len(argv) != 3 or argv[2].startswith("-"):
            raise ConfigError("tskd-jax data get takes one name, such as hopper-medium-v2")
        from tskd_jax.cli.fetch import get

        print(get(argv[2]))
        return 0
    values, given, shown = parse(_as_flags(argv), _define, __doc__ or "")
    if shown:
        return 0
    from tskd_jax.cli.recorded import read_recorded
    from tskd_jax.config import finalize
    from tskd_jax.report import dataset

    plot = values["plot"].value
    picture = new_file(plot, (".png",), f"--plot={plot}") if plot else None
    config, _ = finalize(needed(given))
    recorded = read_recorded(config)
    found = look(config, recorded, values["time"].value)
    print(json.dumps(found, indent=2) if values["json"].value else dataset.page(found))
    if picture:
        names = [one["name"] for one in found["observations"]]
        dataset.draw(recorded.trajectories, names, picture)
        if not values["json"].value:
            print(f"\ndrawn: {picture}")
    return 0


def look(config: Any, recorded: Any, timed: bool) -> dict[str, Any]:
    """Collect the page's contents as numbers and words; `timed` adds DDR-I's training time."""
    from tskd_jax.data.inspection import inspect, neighbourhoods
    from tskd_jax.data.normalizer import moments
    from tskd_jax.data.selection import select_episodes
    from tskd_jax.machine import memory

    data, task = recorded.trajectories, recorded.task
    _, deviation = moments(data.observations)
    raw = config.stitching.radius_unit == "raw"
    unit = np.ones_like(deviation) if raw else np.where(deviation > 0, deviation, 1.0)
    scales = _scales(config.environment.name)
    chosen = select_episodes(config.filter, data, data, task.episode_limit)
    sampling, horizon = config.sampling, config.trajectory_generator.horizon
    if sampling.target_quantile:
        target = f"the {sampling.target_quantile:.0%} quantile of what near states reach"
    elif config.trajectory_generator.condition == "advantage":
        target = f"advantages of rank {sampling.target_return:g} (1 is the best)"
    else:
        target = f"{sampling.target_return:g} of the largest return-to-go"
    rule = config.filter.rule
    detail = {"share": f" {config.filter.share:g}", "margin": f" {config.filter.margin:g}"}
    return {
        **inspect(data, recorded.names),
        **recorded.facts,
        "task": task.gymnasium_id or f"{task.name}, without a simulator",
        "scores": _scores(task, data, chosen),
        "stitching": neighbourhoods(data, [config.stitching.radius], unit)
        | {"unit": config.stitching.radius_unit},
        "filter": {
            "rule": rule + detail.get(rule, ""),
            "episodes": len(chosen),
            "transitions": int(data.lengths[chosen].sum()),
            "lowest_return": float(data.returns()[chosen].min()),
        },
        "imagination": {
            "horizon": horizon,
            "long_enough": float((data.lengths >= horizon).mean()),
            "target": target,
        },
        "memory": {
            "data": memory.readable(sum(np.asarray(leaf).nbytes for leaf in vars(data).values())),
            "teacher": {name: _bytes(one, task.state_size) for name, one in scales.items()},
        },
    } | ({"seconds": {name: _seconds(one, data) for name, one in scales.items()}} if timed else {})


def _scores(task: Any, data: Any, kept: np.ndarray) -> dict[str, float] | None:
    """Normalised scores of the recorded episodes; None without reference returns."""
    if task.random_return is None or task.expert_return is None:
        return None
    scores = task.normalized_score(data.returns())
    found = {"mean": scores.mean(), "kept": scores[kept].mean(), "best": scores.max()}
    return {name: float(score) for name, score in found.items()}


def _scales(environment: str) -> dict[str, Any]:
    """Preset -> its section of DDR-I."""
    from tskd_jax.config import finalize, make_config
    from tskd_jax.presets import PRESETS

    return {
        name: finalize(make_config(environment, name))[0].trajectory_generator for name in PRESETS
    }


def _bytes(section: Any, state_size: int) -> str:
    """The least memory that training DDR-I needs, as text."""
    from tskd_jax.machine import memory
    from tskd_jax.teacher import diffuser, trajectory_generator

    token = trajectory_generator.token_size(section, state_size)
    return memory.readable(diffuser.training_bytes(section, token))


def _seconds(section: Any, data: Any) -> float:
    """Estimate DDR-I's training time on this machine from a few updates."""
    from dataclasses import replace

    import jax

    from tskd_jax.teacher import trajectory_generator
    from tskd_jax.training.timing import seconds_of_update

    # Other settings take the same time, but need another training first.
    section = replace(section, condition="return", residual=False)
    keys = jax.random.key(0)[None]
    plan, _ = trajectory_generator.training(section, data, None, None, keys)
    return plan.steps * plan.keys.size * seconds_of_update(plan)


def _as_flags(argv: list[str]) -> list[str]:
    """Rewrite the command line: the dataset becomes a flag, and a config is added if missing."""
    words = list(argv[1:])
    named = [index for index, word in enumerate(words) if not word.startswith("-")]
    takes_a_word = ("--config", "-config", "--plot", "-plot")
    named = [i for i in named if not (i and words[i - 1] in takes_a_word)]
    if len(named) > 1:
        raise ConfigError(f"tskd-jax data takes one file or name, not also {words[named[1]]!r}")
    dataset = [f"--config.dataset.path={words.pop(named[0])}"] if named else []
    # Flags of a config's fields must follow --config.
    if not any(word.partition("=")[0] in ("--config", "-config") for word in words):
        words.insert(0, "--config=own")
    return [argv[0], *words, *dataset]
