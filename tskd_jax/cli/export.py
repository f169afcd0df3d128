"""tskd-jax export STUDENT --format=npz|onnx|c|tflite|stablehlo[,…]|all [--int8] --out=PATH

Exports a student to other programs and machines (docs/export.md). STUDENT is a file, or the folder
of a run (its student.npz). Each exported student is compared with the NumPy policy on 10,000 random
and some extreme observations, and is written only if it acts the same. PATH is a file, or a folder
for several formats.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from tskd_jax.cli.flags import parse_words
from tskd_jax.cli.new_files import new_file
from tskd_jax.cli.student_files import student_file
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request

ALL = "all"
ENDINGS = (".npz", ".onnx", ".h", ".tflite", ".stablehlo")  # each belongs to one format only


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "format", [], f"Of npz, onnx, c, tflite, stablehlo; or {ALL}.", flag_values=values
    )
    flags.DEFINE_string("out", "", "What to write: a file, or a folder.", flag_values=values)
    flags.DEFINE_bool("int8", False, "onnx, c, tflite: weights of 8 bits.", flag_values=values)


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    del request
    values, words, shown = parse_words(argv, _define, __doc__ or "")
    if shown:
        return 0
    if len(words) != 1:
        raise ConfigError("tskd-jax export takes one student: its file, or the folder of a run")
    _export(
        student_file(words[0]), values["format"].value, values["out"].value, values["int8"].value
    )
    return 0


def _export(student: Path, asked: list[str], out: str, int8: bool) -> None:
    """Export and test the student in every format, then write the files.

    Raises:
      ConfigError: the formats or the output are invalid.
      ExportError: a format cannot be made, or acts differently.
      PolicyError: there is no such student.
    """
    from tskd_jax.export import EIGHT_BITS, FORMATS, export, missing
    from tskd_jax.policy import load_policy
    from tskd_jax.run import files

    named = [format_ for word in asked for format_ in (FORMATS if word == ALL else [word])]
    formats = list(dict.fromkeys(named))
    _check(formats, list(FORMATS), out, EIGHT_BITS if int8 else ())
    policy = load_policy(student)
    contents: dict[Path, bytes] = {}
    lines: dict[Path, tuple[str, ...]] = {}
    for format_ in formats:
        if format_ not in asked and (problem := missing(format_)):
            print(f"{format_}: left out: {problem}")
            continue
        form = export(format_, policy, policy.contract, int8=int8 and format_ in EIGHT_BITS)
        first, *beside = form.files
        path = target(out, first, len(formats) > 1)
        lines[path] = form.lines
        contents[path] = form.files[first]
        contents |= {path.with_name(path.name + one): form.files[one] for one in beside}
    for path in contents:
        new_file(str(path))
    for path, content in contents.items():
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
        print(f"{path}: {len(content):,} bytes", *lines.get(path, ()), sep="\n  ")


def _check(formats: list[str], known: list[str], out: str, eight_bits: Sequence[str]) -> None:
    """Raise ConfigError for invalid arguments; one of `eight_bits` is needed, unless empty."""
    names = f"one of {', '.join((*known, ALL))}"
    if not formats:
        raise ConfigError(f"--format=NAME is needed: {names}, or several with commas")
    for format_ in formats:
        if format_ not in known:
            raise ConfigError(f"--format={format_}: there is no such format; {names}")
    if eight_bits and not set(formats) & set(eight_bits):
        raise ConfigError(f"--int8 is of the formats {', '.join(eight_bits)}; name one of them")
    if not out:
        raise ConfigError("--out=PATH is needed: the file to write, or a folder")


def target(out: str, suffix: str, several: bool) -> Path:
    """The file to write: `out`, or student.SUFFIX in the folder `out`.

    Raises:
      ConfigError: `out` has the suffix of another format, or is a file where a folder is needed.
    """
    path = Path(os.path.expanduser(out))
    if several and path.is_file():
        raise ConfigError(f"{path}: is a file; several formats are written into a folder")
    if several or path.is_dir() or out.endswith("/"):
        return path / f"student{suffix}"
    if path.suffix in ENDINGS and path.suffix != suffix:
        raise ConfigError(f"--out={out}: this format ends in {suffix}, as student{suffix}")
    return path
