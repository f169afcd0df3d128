"""Parses the commands' flags: a config, by file or by name, and each command's own flags."""

import difflib
import itertools
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

import tskd_jax
from tskd_jax.errors import ConfigError, TskdError

_PACKAGE = Path(tskd_jax.__file__).parent
SHOWN = 200  # characters of what is wrong in a config's file
CONFIGS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")  # installed, or in the repository


def parse(
    argv: list[str], define: Callable[[flags.FlagValues], None], usage: str = ""
) -> tuple[flags.FlagValues, ConfigDict | None, bool]:
    """Parse a command line.

    Args:
      argv: the program and its flags.
      define: defines the command's own flags.
      usage: text that --help shows above the flags.

    Returns:
      (flag values; the user's config, or None without one; whether help was shown).

    Raises:
      ConfigError: a flag, field or file does not exist, or a value is missing or cannot be parsed.
    """
    values = flags.FlagValues()
    argv = [argv[0], *_with_config_files(argv[1:])]
    config_flags.DEFINE_config_file(
        "config",
        None,
        "A config by name or file, as hopper[:PRESET,LEVEL] or FILE.py[:PRESET,LEVEL].",
        flag_values=values,
        sys_argv=argv,
    )
    define(values)
    if _help_shown(argv, values, usage):
        print("Fields of a config: tskd-jax fields")
        return values, None, True
    for arg in argv[1:]:
        if arg.startswith(("--config.", "-config.")):
            name, equals, value = arg.lstrip("-").partition("=")
            name = name.removeprefix("config.")
            check_name(name)
            if equals and not value:
                raise ConfigError(f"config.{name}= has no value (an unset variable?); leave it out")
    try:
        rest = values(argv)
        chosen = values["config"].value
        # If the file failed to load, its error is raised at the first access.
        config = chosen if chosen and chosen.to_dict() else None
    except TskdError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(_in_config_file(error, argv) or _innermost(error)) from error
    _check_filled(values)
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]!r} is not understood; see --help")
    return values, config, False


def parse_words(
    argv: list[str], define: Callable[[flags.FlagValues], None], usage: str = ""
) -> tuple[flags.FlagValues, list[str], bool]:
    """Parse a command line without a config; flags and words may come in any order.

    Returns:
      (flag values; the words; whether help was shown).

    Raises:
      ConfigError: a flag does not exist, or a value is missing or cannot be parsed.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    define(values)
    if _help_shown(argv, values, usage):
        return values, [], True
    try:
        words = values(argv)[1:]
    except flags.Error as error:
        raise ConfigError(_innermost(error)) from error
    _check_filled(values)
    return values, words, False


def _help_shown(argv: list[str], values: flags.FlagValues, usage: str) -> bool:
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values, short_name="h")
    asked = any(arg in ("--help", "-h", "-help") for arg in argv[1:])
    if asked:
        print(usage.strip(), values.get_help(), sep="\n")
    return asked


def check_name(name: str) -> None:
    """Refuse a name that is not a field of the config.

    Raises:
      ConfigError: the message suggests the nearest field.
    """
    from tskd_jax.config import FIELDS

    if name in FIELDS:
        return
    inside = [field for field in FIELDS if field.startswith(name + ".")]
    if inside:
        raise ConfigError(f"config.{name} is a section; set one of its fields: {', '.join(inside)}")
    near = difflib.get_close_matches(name, FIELDS, 1, 0.0)
    same_field = [n for n in FIELDS if n.rpartition(".")[2] == name.rpartition(".")[2]]
    raise ConfigError(
        f"config.{name} does not exist; did you mean config.{(same_field or near)[0]}?"
    )


def needed(config: ConfigDict | None) -> ConfigDict:
    """The config; raises ConfigError if none was given."""
    if config is None:
        raise ConfigError("--config=NAME is needed, such as --config=hopper")
    return config


def workdir(value: str | None, default: Path) -> Path:
    """The folder of a run; expands `~`, which shells do not do after `=`."""
    return Path(os.path.expanduser(value)) if value else default


def _with_config_files(words: list[str]) -> list[str]:
    """The words, with a config's name replaced by its file."""
    found, follows = [], False
    for word in words:
        if follows:
            word = _config_file(word)
        elif word.startswith(("--config=", "-config=")):
            flag, _, value = word.partition("=")
            word = f"{flag}={_config_file(value)}"
        follows = word in ("--config", "-config")
        found.append(word)
    return found


def _config_file(value: str) -> str:
    """Convert NAME:ARGUMENT to FILE:ARGUMENT.

    Raises:
      ConfigError: there is no such file, and no config of that name.
    """
    name, colon, argument = value.partition(":")
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        stem = path.name.removesuffix(".py")
        known = {p.stem: p for folder in CONFIGS for p in sorted(folder.glob("[!_]*.py"))}
        if stem not in known or path.parent not in (Path("."), Path("configs")):
            raise ConfigError(
                f"--config={value}: no such file, and no config of that name; there are "
                f"{', '.join(sorted(known))}"
            )
        path = known[stem]
    return f"{path}{colon}{argument}"


def _check_filled(values: flags.FlagValues) -> None:
    """Refuse flags that are given without a value, which would otherwise be as if left out.

    Raises:
      ConfigError: a flag has no value.
    """
    for name in values:
        if values[name].present and values[name].value in ("", []):
            raise ConfigError(f"--{name}= has no value (an unset variable?); leave it out")


def _in_config_file(error: BaseException, words: list[str]) -> str:
    """Where the code of a config's file has failed, and how; "" if it has not.

    Args:
      error: what the parse has raised.
      words: the command line, with the config's file.
    """
    named = [word.partition("=")[2] for word in words if word.startswith(("--config=", "-config="))]
    named += [two for one, two in itertools.pairwise(words) if one in ("--config", "-config")]
    files = {word.partition(":")[0] for word in named}
    inner: BaseException | None = error
    while inner is not None:
        places = [(one.filename, one.lineno) for one in traceback.extract_tb(inner.__traceback__)]
        if isinstance(inner, SyntaxError):
            places.append((inner.filename or "", inner.lineno))
        places = [place for place in places if place[0] in files]
        if places:
            file, line = places[-1]
            said = inner.msg if isinstance(inner, SyntaxError) else str(inner)
            said = " ".join(said.split())
            return f"{file}, line {line}: {type(inner).__name__}: {said[:SHOWN]}".rstrip(": ")
        inner = inner.__cause__ or inner.__context__
    return ""


def _innermost(error: BaseException) -> str:
    """The message of the innermost error of a failed parse, which shows the user's mistake."""
    cause: Any = error
    while isinstance(cause.__cause__, Exception):
        if isinstance(cause.__cause__, TskdError):
            return str(cause.__cause__)
        cause = cause.__cause__
    return " ".join(str(cause).split())
