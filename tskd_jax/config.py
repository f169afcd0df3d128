"""Every field of a config: default, unit, range and source. The defaults are the paper's.

`default_config()` is scale `paper`; `scaled()` makes `small` and `quick` of it. `python -m
tskd_jax.config` prints the fields as a table (docs/config.md).
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, cast

from ml_collections import ConfigDict, FrozenConfigDict

from tskd_jax.data import normalizer
from tskd_jax.diffusion import prediction, sampler
from tskd_jax.envs.tasks import TASKS
from tskd_jax.errors import ConfigError
from tskd_jax.machine.hosts import FORM, is_form
from tskd_jax.machine.types import Config
from tskd_jax.presets import SCALES
from tskd_jax.stitching import neighbours


@dataclass(frozen=True)
class Field:
    """One field: its default, what it may be, and what it means (with unit and source)."""

    default: Any
    allowed: "Allowed"
    meaning: str


@dataclass(frozen=True)
class Allowed:
    """A range of values in words, and its check."""

    words: str
    check: Callable[[Any], bool]


def _one_of(options: Iterable[str]) -> Allowed:
    options = tuple(options)
    return Allowed(" | ".join(options), lambda value: value in options)


def _at_least(low: float) -> Allowed:
    return Allowed(f"≥ {low}", lambda value: value >= low)


def _between(low: float, high: float) -> Allowed:
    return Allowed(f"{low} … {high}", lambda value: low <= value <= high)


def _integers(low: int, words: str) -> Allowed:
    return Allowed(
        words,
        lambda values: len(values) > 0 and all(type(v) is int and v >= low for v in values),
    )


LARGEST = 2**31 - 1  # of whole numbers: what counts on an accelerator

ANY = Allowed("any", lambda value: True)
POSITIVE = Allowed("> 0", lambda value: value > 0)
COUNT = _at_least(1)
NOT_NEGATIVE = _at_least(0)
POSITIVE_SHARE = Allowed("0 < x ≤ 1", lambda value: 0 < value <= 1)
PROBABILITY = _between(0, 1)
WIDTHS = _integers(1, "whole numbers ≥ 1")
SCHEDULES = _one_of(["constant", "cosine"])
_ODD = Allowed("odd", lambda value: value > 0 and value % 2 == 1)
EIGHTS = Allowed("a multiple of 8", lambda value: value > 0 and value % 8 == 0)


def _training(steps: int, batch_size: int, learning_rate: float, source: str) -> dict[str, Field]:
    return {
        "steps": Field(steps, COUNT, f"updates; times steps_multiplier ({source})"),
        "batch_size": Field(batch_size, COUNT, f"rows a batch ({source})"),
        "learning_rate": Field(learning_rate, POSITIVE, f"of Adam ({source})"),
        "schedule": Field("constant", SCHEDULES, "of the learning rate; cosine falls to 0"),
    }


def _diffuser(horizon: int, about_horizon: str) -> dict[str, Field]:
    return _training(1_000_000, 32, 2e-4, "Appendix B") | {
        "features": Field(128, EIGHTS, "F, channels of the U-Net's first level (Appendix B)"),
        "multipliers": Field((1, 4, 8), WIDTHS, "channels of each level / F (Appendix B)"),
        "members": Field(
            1, COUNT, "networks from other starts, whose answers are averaged (1: the paper)"
        ),
        "dtype": Field("float32", _one_of(["float32", "bfloat16"]), "of the computation"),
        "accumulate": Field(1, COUNT, "batches whose gradients make one update (DD: 2)"),
        "kernel_size": Field(5, _ODD, "of the residual blocks' convolutions (Decision Diffuser)"),
        "relative": Field(
            False, ANY, "states as differences from the present one (False: the paper)"
        ),
        "horizon": Field(horizon, COUNT, about_horizon),
        "prediction": Field(
            "noise",
            _one_of(prediction.KINDS),
            "what the network answers: the noise (paper), or the velocity (Salimans & Ho 2022)",
        ),
        "diffusion_steps": Field(200, _at_least(2), "K (Appendix B)"),
        "drop_condition": Field(0.25, PROBABILITY, "p of training without y (Appendix B)"),
        "ema_decay": Field(0.995, _between(0, 1), "of the averaged weights (Decision Diffuser)"),
        "ema_every": Field(10, COUNT, "updates between two averagings (Decision Diffuser)"),
        "ema_start": Field(2000, NOT_NEGATIVE, "before it a plain copy; at most half the steps"),
        "normalizer": Field(
            "limits",
            _one_of(normalizer.KINDS),
            "of states; of rewards too, gaussian excepted",
        ),
        "discount": Field(0.99, PROBABILITY, "γ of the condition R_t"),
        "return_scale": Field(0.0, NOT_NEGATIVE, "y = R_t / this; 0: the dataset's largest R_t"),
        "termination_penalty": Field(
            0.0, NOT_NEGATIVE, "taken off R_t at terminals, in the condition only (DD: 100)"
        ),
        "answer_weight": Field(
            1.0, POSITIVE, "weight in the loss of what is read off: next state and reward"
        ),
        "target_references": Field(10_000, COUNT, "states kept for targets by quantile"),
    }


def _history() -> dict[str, Field]:
    return {
        "context": Field(1, COUNT, "C, states of history given (Appendix B: 1 or 20)"),
        "vary_history": Field(
            False, ANY, "train with histories of random length 1 … C, not only at episode starts"
        ),
        "history_noise": Field(
            0.0, NOT_NEGATIVE, "given states are blurred in training, deviation ~ U(0, this)"
        ),
        "noise_level_input": Field(
            False, ANY, "tell the network how much the given states are blurred (one more channel)"
        ),
    }


def _sampling(guidance: float) -> dict[str, Field]:
    return {
        "sampler": Field("ancestral", _one_of(sampler.KINDS), "ancestral is the paper's"),
        "steps": Field(200, COUNT, "network evaluations a plan; at most K"),
        "start": Field(1.0, POSITIVE_SHARE, "share of the K steps at which sampling begins"),
        "eta": Field(0.0, PROBABILITY, "of ddim; 1 has the ancestral sampler's noise"),
        "guidance": Field(guidance, NOT_NEGATIVE, "w (Appendix B: 1.2 … 1.8 by task)"),
        "temperature": Field(0.5, NOT_NEGATIVE, "α of low-temperature sampling (Appendix B)"),
        "temperature_on": Field(
            "std",
            _one_of(["std", "variance"]),
            "α multiplies this; DD's code: std, paper: variance",
        ),
        "target": Field(0.9, ANY, "y asked for (Decision Diffuser; the paper does not say)"),
        "target_quantile": Field(
            0.0, PROBABILITY, "> 0: ask for this quantile of what the nearest states reach"
        ),
        "target_neighbours": Field(50, COUNT, "how many nearest states, for target_quantile"),
    }


FIELDS: dict[str, dict[str, Field] | Field] = {
    "label": Field("custom", ANY, "names the default working directory, runs/LABEL"),
    "seed": Field(0, NOT_NEGATIVE, "of everything but the students, where seed_axis is student"),
    "seeds": Field(
        (0, 1, 2, 3, 4),
        _integers(0, "distinct whole numbers ≥ 0"),
        "of the students, or of the whole pipeline",
    ),
    "seed_axis": Field(
        "student",
        _one_of(["student", "pipeline"]),
        "what is made once for each of `seeds`: the students, from one stitched dataset; or "
        "everything, for an error bar over the whole method",
    ),
    "steps_multiplier": Field(1.0, POSITIVE, "scales every training length, for smoke runs"),
    "checkpoint_seconds": Field(120.0, POSITIVE, "between two checkpoints inside a training"),
    "distributed": Field(
        "off",
        Allowed(FORM, is_form),
        "the processes of one job (docs/scaling.md); no part of what a result is",
    ),
    "environment": {"name": Field("hopper", _one_of(TASKS), "the task")},
    "dataset": {
        "name": Field("hopper-sac-replay", ANY, "bundled name, D4RL name or Minari id"),
        "path": Field("", ANY, "HDF5 file in D4RL's format; goes before the name"),
        "drop_invalid": Field(False, ANY, "drop episodes with numbers that are not finite"),
    },
    "inverse_dynamics": _training(1_000_000, 32, 2e-4, "Appendix B")
    | {"hidden": Field((512, 512), WIDTHS, "hidden layers (Appendix B)")},
    "dynamics": _training(200_000, 256, 3e-4, "Appendix B; steps are our choice")
    | {
        "hidden": Field((300, 300, 300), WIDTHS, "hidden layers (Appendix B)"),
        "members": Field(7, COUNT, "Gaussians trained (Appendix B)"),
        "elites": Field(3, COUNT, "Gaussians kept, by held-out likelihood (Appendix B)"),
        "resolution": Field(
            0.01,
            NOT_NEGATIVE,
            "deviation added to the ensemble's when imagination.consistency judges, in standard "
            "deviations of the state: what a diffuser cannot resolve it is not blamed for",
        ),
        "held_out": Field(0.1, _between(0.001, 0.9), "share of transitions held out"),
    },
    "value": _training(1_000_000, 256, 3e-4, "Appendix B; steps as MBTS")
    | {
        "hidden": Field((256, 256), WIDTHS, "hidden layers (Appendix B)"),
        "discount": Field(0.99, PROBABILITY, "γ"),
        "target_average": Field(0.005, PROBABILITY, "share of the new weights in the target net"),
    },
    "expectation": _training(20_000, 512, 1e-3, "not in the paper")
    | {"hidden": Field((512, 512), WIDTHS, "hidden layers")},
    "trajectory_generator": _diffuser(101, "H, tokens; H - C = 100 (Appendix B)")
    | _history()
    | {
        "surprise": Field(
            False,
            ANY,
            "the next state as its difference from the one expected of the present state",
        ),
        "condition": Field(
            "return",
            _one_of(["return", "advantage"]),
            "y: R_t (paper), or the rank in -1 … 1 of what R_t is above the expected return",
        ),
        "advantage_trace": Field(0.9, PROBABILITY, "λ of the advantage (Schulman et al. 2016)"),
        "focus": Field(
            0.0,
            _between(0, 0.95),
            "share of the windows that is drawn from the trajectories that config.filter keeps of "
            "the recorded ones alone; the others are drawn from all",
        ),
    },
    "reward_generator": _diffuser(101, "tokens; only the first is asked about (paper: as DDR-I)"),
    "sampling": _sampling(1.2)
    | {
        "stride": Field(1, COUNT, "imagined next states kept of a plan (1: the paper)"),
        "warm_start": Field(
            0.0,
            PROBABILITY,
            "> 0: begin with the plan before, noised to this share of the K steps, and take only "
            "the steps below it; 0: begin with noise (the paper)",
        ),
        "history_noise": Field(
            0.0, NOT_NEGATIVE, "how blurred the history is said to be, with noise_level_input"
        ),
    },
    "reward_sampling": _sampling(1.2),
    "imagination": {
        "enabled": Field(True, ANY, "off: nothing is imagined (stitching alone)"),
        "mode": Field(
            "imagine",
            _one_of(["imagine", "environment"]),
            "imagine: the next state is the imagined one (offline); environment: Algorithm 1 to "
            "the letter, every action is executed in the simulator",
        ),
        "trajectories": Field(300, COUNT, "n, imagined trajectories an epoch (Appendix B)"),
        "starts": Field(
            "episodes",
            _one_of(["episodes", "kept", "states"]),
            "recorded states to start from: those of episodes (paper), or any, none twice: of the "
            "trajectories that config.filter keeps (kept) or of all (states). What begins anywhere "
            "is added to the student's data as it is: neither stitched nor filtered",
        ),
        "length": Field(0, NOT_NEGATIVE, "most steps of an imagined trajectory; 0: to its end"),
        "replace": Field(
            False,
            ANY,
            "an imagined transition takes the place of the recorded ones from the same state in "
            "the student's data, instead of standing beside them; with starts=kept or states",
        ),
        "consistency": Field(
            0.0,
            PROBABILITY,
            "an imagined trajectory ends where the ensemble finds a transition less likely than "
            "this quantile of held-out recorded ones; 0: off",
        ),
        "chunk": Field(512, COUNT, "trajectories at a time, for bounded memory"),
    },
    "stitching": {
        "enabled": Field(True, ANY, "off: imagined trajectories are added, not stitched (DDR+BC)"),
        "epochs": Field(2, COUNT, "K (Appendix B: 1 … 4, mostly 2)"),
        "radius": Field(0.1, NOT_NEGATIVE, "ρ of Equation 11 (Appendix B: 0.1, 1 or 3 by task)"),
        "radius_unit": Field(
            "raw", _one_of(["raw", "deviation"]), "of ρ: raw units, or standard deviations"
        ),
        "rule": Field(
            "value_first",
            _one_of(["value_first", "density_first"]),
            "test the best state (paper), or take the best of the states that pass (MBTS)",
        ),
        "tolerance": Field(0.0, NOT_NEGATIVE, "δ, nats forgiven by the density test (paper: 0)"),
        "acceptance": Field(0.1, NOT_NEGATIVE, "p, gain that a stitched trajectory must have"),
        "allow_cycles": Field(
            True,
            ANY,
            "whether a stitched path may enter a transition twice (Algorithm 4 has no word against "
            "it): a circle that pays is then walked to the episode limit, and takes the filter in",
        ),
        "backend": Field(
            "auto", _one_of(neighbours.BACKENDS), "of the search; auto takes the faster one"
        ),
    },
    "filter": {
        "rule": Field(
            "margin",
            _one_of(["margin", "share", "none"]),
            "margin: Σr > max Σr - ξ (paper); share: Σr at least that of the best `share` of the "
            "recorded transitions; none: everything",
        ),
        "margin": Field(500.0, NOT_NEGATIVE, "ξ, return (Appendix B: 500 … 1000 by task)"),
        "share": Field(0.1, _between(0.001, 1), "of the recorded transitions; filtered BC's too"),
    },
    "student": _training(100_000, 256, 1e-3, "as MBTS; the paper does not say")
    | {
        "hidden": Field((256, 256), WIDTHS, "hidden layers (Appendix B)"),
        "normalize": Field(True, ANY, "standardise states; folded into the first layer on export"),
    },
    "evaluation": {
        "episodes": Field(10, COUNT, "episodes a seed (section 6)"),
        "teacher_episodes": Field(0, NOT_NEGATIVE, "episodes planned by DDR-I itself"),
        "ablations": Field(
            True, ANY, "also TSKD without stitching, without imagination, and the filter alone"
        ),
        "simulator_check": Field(2000, NOT_NEGATIVE, "imagined transitions tried in the simulator"),
    },
}

TRAININGS = (
    "inverse_dynamics",
    "dynamics",
    "value",
    "expectation",
    "trajectory_generator",
    "reward_generator",
    "student",
)


# Where a run is made. What it is does not depend on it: it may go on elsewhere.
PLACES = ("distributed",)


def default_config() -> Config:
    """A config with every field at the paper's value."""
    return ConfigDict(
        {
            name: entry.default
            if isinstance(entry, Field)
            else {field: inner.default for field, inner in entry.items()}
            for name, entry in FIELDS.items()
        }
    )


def make_config(
    argument: str,
    *,
    environment: str,
    levels: dict[str, str],
    default: str,
    overrides: dict[str, Any],
) -> Config:
    """The config of an environment, for `configs/*.py`.

    Args:
      argument: what stands behind the colon of `--config=FILE:ARG`: a scale and a dataset level,
        comma-separated, in any order, each optional.
      environment: the task.
      levels: dataset level -> dataset name.
      default: the level where the argument names none.
      overrides: section -> field -> value, at every scale.

    Raises:
      ConfigError: the argument names neither a scale nor a level.
    """
    scale, level = "quick", default
    for word in filter(None, (part.strip() for part in argument.split(","))):
        if word in SCALES:
            scale = word
        elif word in levels:
            level = word
        else:
            raise ConfigError(
                f"{word!r} is neither a scale ({', '.join(SCALES)}) nor a dataset level of "
                f"{environment} ({', '.join(levels)})"
            )
    config = default_config()
    config.label = f"{environment}-{level}-{scale}"
    config.environment.name = environment
    config.dataset.name = levels[level]
    for layer in (SCALES[scale], overrides):
        for section, fields in layer.items():
            config[section].update(fields)
    config.lock()
    return config


def field_names() -> list[str]:
    """All fields, as `section.field`."""
    return [
        name if isinstance(entry, Field) else f"{name}.{field}"
        for name, entry in FIELDS.items()
        for field in ([""] if isinstance(entry, Field) else entry)
    ]


def check_name(name: str) -> None:
    """Refuse a name that is no field.

    Raises:
      ConfigError: names the nearest field.
    """
    names = field_names()
    if name in names:
        return
    sections = [n for n in names if n.startswith(name + ".")]
    if sections:
        raise ConfigError(
            f"config.{name} is a section; set one of its fields: {', '.join(sections)}"
        )
    near = difflib.get_close_matches(name, names, 1, 0.0)
    same_field = [n for n in names if n.rpartition(".")[2] == name.rpartition(".")[2]]
    raise ConfigError(
        f"config.{name} does not exist; did you mean config.{(same_field or near)[0]}?"
    )


def _field(name: str) -> Field:
    section, _, field = name.rpartition(".")
    entry = FIELDS[section] if section else FIELDS
    return entry[field]  # pyright: ignore[reportReturnType, reportIndexIssue]


def finalize(config: Config) -> Config:
    """Check every field, scale the training lengths, and freeze.

    Raises:
      ConfigError: a value is out of range, or two contradict each other.
    """
    config = cast(Config, config.copy_and_resolve_references())
    config.unlock()
    for name in field_names():
        section, _, field = name.rpartition(".")
        try:
            value = (config[section] if section else config)[field]
        except (KeyError, AttributeError):
            raise ConfigError(f"config.{name} is missing") from None
        default, allowed = _field(name).default, _field(name).allowed
        kind = _kind(default)
        if not kind.check(value):
            raise ConfigError(f"config.{name}={value!r} is not {kind.words}")
        if not allowed.check(value):
            raise ConfigError(f"config.{name}={value!r} is out of range; allowed: {allowed.words}")
    _check_together(config)
    for section in TRAININGS:
        steps = config[section].steps * config.steps_multiplier
        if steps > LARGEST:
            raise ConfigError(
                f"config.{section}.steps={config[section].steps} times config.steps_multiplier="
                f"{config.steps_multiplier} is out of range; allowed: at most {LARGEST} updates"
            )
        config[section].steps = max(1, round(steps))
    return FrozenConfigDict(config)


def _kind(default: Any) -> Allowed:
    """The type of a field, by its default."""
    if isinstance(default, bool):
        return Allowed("True or False", lambda value: isinstance(value, bool))
    if isinstance(default, int):
        return Allowed(
            f"a whole number within ±{LARGEST}", lambda value: _is_number(value, Integral)
        )
    if isinstance(default, float):
        return Allowed("a finite number", lambda value: _is_number(value, Real))
    if isinstance(default, tuple):
        return Allowed(
            "whole numbers, as (1,2)",
            lambda value: (
                isinstance(value, tuple | list) and all(_is_number(v, Integral) for v in value)
            ),
        )
    return Allowed("text", lambda value: isinstance(value, str))


def _is_number(value: Any, kind: type) -> bool:
    # What is beyond single precision is as good as infinite.
    most = LARGEST if kind is Integral else 3e38
    return isinstance(value, kind) and not isinstance(value, bool) and abs(value) <= most


def identity(config: Config) -> dict[str, Any]:
    """A final config as a plain dict, without the fields that say where it is run."""
    return {name: value for name, value in config.to_dict().items() if name not in PLACES}


def from_final(plain: dict[str, Any]) -> Config:
    """A final config from what `identity` gave, after a round trip through JSON.

    Raises:
      ConfigError: a field is unknown, missing, or out of range.
    """
    config = cast(Config, default_config())
    if not isinstance(plain, dict):
        raise ConfigError("it is no config")
    plain = {name: config[name] for name in PLACES} | plain
    unknown = differences(_shape(plain), _shape(config.to_dict()))
    if unknown:
        raise ConfigError(f"fields that are unknown or missing: {', '.join(unknown)}")
    for name in field_names():
        section, _, field = name.rpartition(".")
        value = (plain[section] if section else plain)[field]
        with config.unlocked(), config.ignore_type():
            (config[section] if section else config)[field] = (
                tuple(value) if isinstance(value, list) else value
            )
    # Its training lengths are scaled already.
    multiplier, config.steps_multiplier = config.steps_multiplier, 1.0
    final = finalize(config).to_dict() | {"steps_multiplier": multiplier}
    return FrozenConfigDict(final)


def _shape(config: Any) -> Any:
    return {k: _shape(v) for k, v in config.items()} if isinstance(config, dict) else "field"


def _check_together(config: Config) -> None:
    def refuse(problem: str) -> None:
        raise ConfigError(problem)

    generator, sampling = config.trajectory_generator, config.sampling
    if generator.context + sampling.stride > generator.horizon:
        refuse(
            f"config.trajectory_generator.horizon={generator.horizon} is too short for "
            f"context={generator.context} and config.sampling.stride={sampling.stride}; it must be "
            f"at least {generator.context + sampling.stride}"
        )
    told = generator.history_noise if generator.noise_level_input else 0.0
    if sampling.history_noise > told:
        refuse(
            f"config.sampling.history_noise={sampling.history_noise} is more than DDR-I knows: "
            f"{told}, by config.trajectory_generator.history_noise and noise_level_input"
        )
    if sampling.warm_start > sampling.start:
        refuse(
            f"config.sampling.warm_start={sampling.warm_start} is above "
            f"config.sampling.start={sampling.start}; a warm start must begin lower"
        )
    for model, sampler_name in (
        ("trajectory_generator", "sampling"),
        ("reward_generator", "reward_sampling"),
    ):
        most = config[model].diffusion_steps
        if config[sampler_name].steps > most:
            refuse(
                f"config.{sampler_name}.steps={config[sampler_name].steps} is more than "
                f"config.{model}.diffusion_steps={most}"
            )
        levels = round(config[sampler_name].start * (most - 1)) + 1
        if config[sampler_name].steps > levels:
            refuse(
                f"config.{sampler_name}.steps={config[sampler_name].steps} is more than the "
                f"{levels} noise levels that start={config[sampler_name].start} leaves"
            )
        if config[sampler_name].sampler == "ancestral" and config[sampler_name].steps < most // 4:
            refuse(
                f"config.{sampler_name}.sampler='ancestral' with {config[sampler_name].steps} of "
                f"{most} steps is far off; use ddim or dpm++ for few steps"
            )
    if generator.condition == "advantage" and generator.discount == 1:
        refuse(
            "config.trajectory_generator.discount=1 with condition='advantage': the return of what "
            "was only cut short has no bound; choose less than 1"
        )
    if config.imagination.mode == "environment" and (
        config.imagination.starts != "episodes" or config.imagination.length
    ):
        refuse(
            "config.imagination.mode='environment' starts where the simulator does and goes to the "
            "end; with it choose imagination.starts='episodes' and length=0"
        )
    if config.imagination.replace and config.imagination.starts == "episodes":
        refuse(
            "config.imagination.replace=True has no recorded transitions to replace where whole "
            "trajectories are imagined; choose imagination.starts='kept' or 'states'"
        )
    if config.dynamics.elites > config.dynamics.members:
        refuse(
            f"config.dynamics.elites={config.dynamics.elites} is more than "
            f"config.dynamics.members={config.dynamics.members}"
        )
    if len(set(config.seeds)) < len(config.seeds):
        refuse(f"config.seeds={tuple(config.seeds)} names a seed twice")


def differences(left: dict[str, Any], right: dict[str, Any], prefix: str = "") -> Sequence[str]:
    """Names of the fields in which two configs (as plain dicts) differ."""
    found = []
    for key in sorted(left.keys() | right.keys()):
        a, b = left.get(key), right.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found


def _table() -> str:
    lines = ["| field | paper | small | quick | allowed | meaning |", "|---|---|---|---|---|---|"]
    for name in field_names():
        section, _, key = name.rpartition(".")
        field = _field(name)
        values = [
            layer.get(section, {}).get(key, field.default) if section else field.default
            for layer in (SCALES["paper"], SCALES["small"], SCALES["quick"])
        ]
        shown = [
            f"`{value}`" if value == values[0] or i == 0 else f"**`{value}`**"
            for i, value in enumerate(values)
        ]
        allowed = field.allowed.words.replace("|", "\\|")
        lines.append(f"| `{name}` | {' | '.join(shown)} | {allowed} | {field.meaning} |")
    return "\n".join(lines)


def document() -> str:
    """docs/config.md."""
    return (
        "# Every field of a config\n\nWritten by `python -m tskd_jax.config > docs/config.md`. "
        "Set a field with `--config.FIELD=VALUE`.\nBold: differs from the paper's setting. The "
        f"configs of the environments set a few more (`configs/`).\n\n{_table()}\n"
    )


if __name__ == "__main__":
    print(document(), end="")
