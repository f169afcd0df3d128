"""The config: composes the sections of parts and methods, and checks a user's values.

`finalize` turns a user's `ConfigDict` into the typed, frozen `Config` that all code reads, and into
the `Options` of the run, which do not affect any result.
"""

import dataclasses
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from ml_collections import ConfigDict

from tskd_jax.envs.entries import OWN, OWN_TASK, TASKS
from tskd_jax.errors import ConfigError
from tskd_jax.evaluation import rollout
from tskd_jax.evaluation.fitted_q import Config as FittedQConfig
from tskd_jax.fields import ANY, LARGEST, POSITIVE, Allowed, as_number, field
from tskd_jax.machine.hosts import FORM, is_form
from tskd_jax.methods import METHODS
from tskd_jax.methods.base import Config as MethodsConfig
from tskd_jax.methods.checks import contradictions
from tskd_jax.presets import OF_ENVIRONMENT, PRESETS, PUBLISHED
from tskd_jax.training.training import TrainingConfig


def _are_methods(names: Any) -> bool:
    return 0 < len(names) == len(set(names)) and all(name in METHODS for name in names)


# An ml-collections ConfigDict. Type checkers cannot know its attributes.
UserConfig = Any


@dataclasses.dataclass(frozen=True)
class Config(MethodsConfig):
    """Everything that a result depends on.

    Attributes:
      methods: the methods that a run compares; each is compared with the last one.
      ablations: whether to run the variants of these methods, too.
      evaluation, fitted_q: sections of the evaluation in the simulator and without a simulator.
      own: method -> the section that only this method reads.
    """

    methods: tuple[str, ...] = field(
        ("bc", "filtered_bc", "tskd"),
        Allowed(f"of {', '.join(METHODS)}", _are_methods),
        "what a run compares, comma-separated; the last is what the others are compared with",
    )
    ablations: bool = field(True, ANY, "also the methods without some of their parts (variants)")
    evaluation: rollout.Config = dataclasses.field(default_factory=rollout.Config)
    fitted_q: FittedQConfig = dataclasses.field(default_factory=FittedQConfig)
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Options:
    """How and where a run is executed; results do not depend on it."""

    label: str = field("custom", ANY, "names the default working directory, runs/LABEL")
    steps_multiplier: float = field(1.0, POSITIVE, "scales every training length, for smoke runs")
    checkpoint_seconds: float = field(120.0, POSITIVE, "between two checkpoints inside a training")
    distributed: str = field(
        "off", Allowed(FORM, is_form), "the processes of one job (docs/scaling.md)"
    )


# A user's config has top-level fields and sections. Each method has a section of its own.
_OWN = {name: method.fields for name, method in METHODS.items()}


def _is_section(entry: dataclasses.Field) -> bool:
    return dataclasses.is_dataclass(entry.type)


def _sections() -> dict[str, type]:
    """Map each section's name to its class."""
    parts = {e.name: e.type for e in dataclasses.fields(Config) if _is_section(e)}
    return parts | _OWN  # pyright: ignore[reportReturnType]


def _top() -> dict[str, dataclasses.Field]:
    """The top-level fields, which belong to no section."""
    entries = (*dataclasses.fields(Options), *dataclasses.fields(Config))
    return {entry.name: entry for entry in entries if entry.metadata}


def _entries() -> dict[str, dataclasses.Field]:
    """All fields of a user's config, by name: `section.field`, or `field` at the top level."""
    found = dict(_top())
    for section, kind in _sections().items():
        found |= {f"{section}.{entry.name}": entry for entry in dataclasses.fields(kind)}
    return found


FIELDS = _entries()
TRAININGS = tuple(n for n, kind in _sections().items() if issubclass(kind, TrainingConfig))


def to_text(value: Any) -> Any:
    """Convert a value to its form in a ConfigDict: names become one comma-separated text."""
    is_names = isinstance(value, tuple) and value and isinstance(value[0], str)
    return ",".join(value) if is_names else value


def default_config() -> UserConfig:
    """Build a user's config with every field at the paper's value."""
    config: UserConfig = ConfigDict()
    for name, entry in FIELDS.items():
        section, _, key = name.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        (config[section] if section else config)[key] = to_text(entry.default)
    return config


def make_config(environment: str, argument: str = "") -> UserConfig:
    """Build the user's config of an environment; called by `configs/*.py`.

    Args:
      environment: one of `TASKS`, or `own`.
      argument: the part after the colon in `--config=FILE:ARGUMENT`: a preset and a dataset level,
        comma-separated, in any order, each optional.

    Raises:
      ConfigError: a word of the argument is neither a preset nor a level.
    """
    task = OWN_TASK if environment == OWN else TASKS[environment]
    preset, level = "quick", task.default_level
    for word in filter(None, (part.strip() for part in argument.split(","))):
        if word in PRESETS:
            preset = word
        elif word in task.levels:
            level = word
        else:
            raise ConfigError(
                f"{word!r} is neither a preset ({', '.join(PRESETS)}) nor a dataset level of "
                f"{environment} ({', '.join(task.levels)})"
            )
    config = default_config()
    config.label = "-".join(filter(None, (environment, level, preset)))
    config.environment.name = environment
    config.dataset.name = task.levels.get(level, "")
    layers = [PRESETS[preset], task.overrides, OF_ENVIRONMENT.get(environment, {})]
    if preset == "paper":
        names = environment, config.dataset.name
        layers += [task.paper, *(PUBLISHED.get(name, {}) for name in names)]
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, Mapping):
                config[name].update(value)
            else:
                config[name] = to_text(value)
    config.lock()
    return config


def finalize(config: ConfigDict) -> tuple[Config, Options]:
    """Check every field of a user's config and scale the training lengths.

    Raises:
      ConfigError: a field is missing, a value has the wrong type or is out of range, or two values
        contradict each other.
    """
    values, given = {}, config.to_dict()
    for name, entry in FIELDS.items():
        section, _, key = name.rpartition(".")
        try:
            value = (given[section] if section else given)[key]
        except (KeyError, TypeError):
            raise ConfigError(f"config.{name} is missing") from None
        values[name] = _checked(name, value, entry)
    options = _build(Options, values, "")
    for section in TRAININGS:
        name = f"{section}.steps"
        steps = values[name] * options.steps_multiplier
        if steps > LARGEST:
            raise ConfigError(
                f"config.{name}={values[name]} times config.steps_multiplier="
                f"{options.steps_multiplier} is out of range; allowed: at most {LARGEST} updates"
            )
        values[name] = max(1, round(steps))
    return _compose(values), options


def _checked(name: str, value: Any, entry: dataclasses.Field) -> Any:
    """Convert a value to its field's type; raise ConfigError for a wrong type or range."""
    default = entry.default
    is_names = isinstance(default, tuple) and isinstance(to_text(default), str)
    if is_names and isinstance(value, str):
        value = tuple(filter(None, (word.strip() for word in value.split(","))))
    kind, allowed = _kind(default), entry.metadata["allowed"]
    if not kind.check(value):
        raise ConfigError(f"config.{name}={value!r} is not {kind.words}")
    value = tuple(value) if isinstance(value, list) else value
    value = as_number(value, default)
    if not allowed.check(value):
        shown = ",".join(value) if is_names else value
        raise ConfigError(f"config.{name}={shown!r} is out of range; allowed: {allowed.words}")
    return value


def _build(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
    return kind(**{e.name: values[f"{prefix}{e.name}"] for e in dataclasses.fields(kind)})


def _compose(values: Mapping[str, Any]) -> Config:
    sections = {name: _build(kind, values, f"{name}.") for name, kind in _sections().items()}
    own = {name: sections.pop(name) for name in _OWN}
    top = {e.name: values[e.name] for e in dataclasses.fields(Config) if e.metadata}
    config = Config(**top, **sections, own=own)
    for problem in contradictions(config, {name: METHODS[name] for name in config.methods}, own):
        raise ConfigError(problem)
    return config


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a checked copy of the config with some fields changed ("section.field" -> value)."""
    values = _values(config)
    for name, value in changes.items():
        values[name] = _checked(name, value, FIELDS[name])
    return _compose(values)


def _values(config: Config) -> dict[str, Any]:
    """All values of a final config, keyed as in `FIELDS`."""
    plain = to_plain(config)
    options = {entry.name for entry in dataclasses.fields(Options)}
    return {
        name: (plain[section] if section else plain)[key]
        for name in FIELDS
        for section, _, key in [name.rpartition(".")]
        if name not in options
    }


def to_plain(config: Config) -> dict[str, Any]:
    """Convert a config to nested dicts, e.g. for a JSON file; `from_plain` is the inverse."""
    plain = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # pyright: ignore[reportArgumentType]
        for name, value in vars(config).items()
    }
    own = plain.pop("own")
    return plain | {name: dataclasses.asdict(section) for name, section in own.items()}


def from_plain(plain: Any) -> Config:
    """Rebuild a config from the output of `to_plain`, also after a round trip through JSON.

    Raises:
      ConfigError: a field is unknown, missing, or out of range.
    """
    if not isinstance(plain, dict):
        raise ConfigError("it is no config")
    expected = set(_values(Config(own={name: kind() for name, kind in _OWN.items()})))
    found = {
        f"{name}.{key}" if key else name
        for name, value in plain.items()
        for key in (value if isinstance(value, dict) else [""])
    }
    if unknown := sorted(found ^ expected):
        raise ConfigError(f"fields that are unknown or missing: {', '.join(unknown)}")
    values = {}
    for name in expected:
        section, _, key = name.rpartition(".")
        values[name] = _checked(name, (plain[section] if section else plain)[key], FIELDS[name])
    return _compose(values)


def _kind(default: Any) -> Allowed:
    """The type check of a field, derived from its default."""
    if isinstance(default, bool):
        return Allowed("True or False", lambda value: isinstance(value, bool))
    if isinstance(default, int):
        return Allowed(
            f"a whole number within ±{LARGEST}", lambda value: _is_number(value, Integral)
        )
    if isinstance(default, float):
        return Allowed("a finite number", lambda value: _is_number(value, Real))
    if isinstance(default, tuple) and isinstance(default[0], str):
        return Allowed("names, as bc,tskd", lambda value: _all(value, lambda v: type(v) is str))
    if isinstance(default, tuple):
        kind, words = Integral, "whole numbers, as (1,2)"
        if isinstance(default[0], float):
            kind, words = Real, "numbers, as (0.1,1)"
        return Allowed(words, lambda value: _all(value, lambda v: _is_number(v, kind)))
    return Allowed("text", lambda value: isinstance(value, str))


def _all(values: Any, check: Any) -> bool:
    return isinstance(values, tuple | list) and all(map(check, values))


def _is_number(value: Any, kind: type) -> bool:
    # Beyond the range of single precision, a number becomes infinite.
    most = LARGEST if kind is Integral else 3e38
    return isinstance(value, kind) and not isinstance(value, bool) and abs(value) <= most  # pyright: ignore[reportArgumentType]
