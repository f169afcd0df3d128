"""tskd-jax compare RUN RUN … [--out=DIR] [--subject=METHOD] [--labels=A,B,…] [--across_datasets]

Compares finished runs in one table and figures, from their folders alone: each method's score with
its standard error, its interquartile mean with interval, the subject's gain over it, and how likely
a seed of the subject scores above a seed of it. The subject is the last method of the last RUN,
unless --subject names another. If several runs on a dataset have a method, it is called
METHOD@LABEL; labels are the folders' names, unless --labels gives others.

Runs of different datasets are refused. With --across_datasets they are compared per dataset, and
over all datasets by the methods that are on each: runs that belong together need the same label.

Writes comparison.csv, comparison.md and comparison.png into --out, and for several datasets
profile.png: the share of seeds above each score. By default, --out is the folder `comparison`
beside the first RUN.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from tskd_jax.cli.flags import parse_words
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request

FILE = "comparison.csv"


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("out", None, "Folder of the results.", flag_values=values)
    flags.DEFINE_string(
        "subject", None, "The method that the others are compared with.", flag_values=values
    )
    flags.DEFINE_list("labels", [], "What the runs are called, in their order.", flag_values=values)
    flags.DEFINE_bool(
        "across_datasets", False, "Compare runs of several datasets.", flag_values=values
    )


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    del request
    values, words, shown = parse_words(argv, _define, __doc__ or "")
    if shown:
        return 0
    named = [Path(os.path.expanduser(word)) for word in words]
    folders = [path for path in named if not _is_ours(path)]
    if len(folders) < 2:
        raise ConfigError("tskd-jax compare takes two runs or more, by their folders")
    from tskd_jax.report import comparison, comparison_figures, comparison_table
    from tskd_jax.run import files

    found = comparison.compare(
        folders, values["labels"].value, values["subject"].value, values["across_datasets"].value
    )
    rows = comparison_table.rows(found)
    beside = folders[0].absolute().parent / "comparison"
    out = Path(os.path.expanduser(values["out"].value)) if values["out"].value else beside
    _check_that_it_is_free(out, [row["run"] for row in rows if row["run"]])
    files.write_csv(out / FILE, rows)
    with files.replacing(out / "comparison.md") as path:
        path.write_text(comparison_table.markdown(found, rows), encoding="utf-8")
    drawn = comparison_figures.draw(found, rows, out)
    print(comparison_table.text(found, rows))
    print(f"\nwritten: {', '.join(str(out / name) for name in (FILE, 'comparison.md', *drawn))}")
    return 0


def _is_ours(folder: Path) -> bool:
    """Whether a folder is an earlier comparison, which the pattern `runs/*` may match."""
    return (folder / FILE).exists() and not (folder / "summary.json").exists()


def _check_that_it_is_free(out: Path, runs: Sequence[str]) -> None:
    """Refuse to overwrite a comparison of other runs.

    Raises:
      ConfigError: `out` holds one.
    """
    try:
        with (out / FILE).open(newline="", encoding="utf-8") as file:
            known = {Path(row["run"]).resolve() for row in csv.DictReader(file) if row["run"]}
    except FileNotFoundError:
        return
    except (ValueError, KeyError, csv.Error):
        known = set()
    if known != {Path(run).resolve() for run in runs}:  # one folder has several spellings
        raise ConfigError(f"{out}: holds a comparison of other runs; choose another --out")
