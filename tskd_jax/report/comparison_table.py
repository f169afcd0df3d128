"""The table of a comparison of runs, as rows, text and Markdown."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from tskd_jax.evaluation import statistics
from tskd_jax.evaluation.scores import difference, standard_error, summarize
from tskd_jax.report.comparison import Comparison, Entry

ALL = "all datasets"
COLUMNS = (
    *("dataset", "method", "title", "run", "seeds", "episodes", "mean", "stderr"),
    *("interquartile_mean", "low", "high", "gain", "gain_low", "gain_high"),
    *("improvement", "improvement_low", "improvement_high", "world", "world_stderr"),
    *("optimality_gap", "optimality_gap_low", "optimality_gap_high"),
)
HEAD = ("method", "run", "seeds", "score", "middle half (95%)", "gain (95%)", "P (95%)")


def rows(found: Comparison) -> list[dict[str, Any]]:
    """Make a row for each method on each dataset, and, for several datasets, one over all of them.

    Returns:
      Rows with dataset, method (its key), title, run, seeds, episodes; mean, stderr over seeds;
      interquartile_mean, low, high; gain, gain_low, gain_high: the subject's mean minus this
      method's, with Welch's interval; improvement, improvement_low, improvement_high: the
      probability that a seed of the subject scores above a seed of this method; world,
      world_stderr: score in the learned world. Missing numbers are "". Rows over all datasets have
      the mean of the means and its error, statistics of the seeds' means, `optimality_gap` (below a
      score of 100), and no gain.
    """
    table = [
        _row(dataset, entry, entries[found.subject])
        for dataset, entries in found.entries.items()
        for entry in entries.values()
    ]
    if len(found.entries) > 1:
        table += [_row_over_all(found, key) for key in found.common]
    return [dict.fromkeys(COLUMNS, "") | row for row in table]


def _row(dataset: str, entry: Entry, subject: Entry) -> dict[str, Any]:
    scores = entry.scores
    about = summarize(scores)
    row: dict[str, Any] = {
        **{"dataset": dataset, "method": entry.key, "title": entry.title},
        **{"run": str(entry.run.folder), "seeds": len(scores), "episodes": scores.shape[1]},
        **{"mean": about["mean"], "stderr": about["stderr"]},
        "interquartile_mean": about["interquartile_mean"],
        **dict(zip(("low", "high"), about["interval"], strict=True)),
    }
    if entry is not subject and entry.has_the_students_of(subject):
        row |= {"gain": 0.0, **_improvement([subject], [entry])}
    elif entry is not subject:
        gain = difference(subject.scores, scores)
        row |= {"gain": gain["mean"], **_ends("gain", gain["interval"])}
        row |= _improvement([subject], [entry])
    if entry.method in entry.run.judged:
        judged = entry.run.judged[entry.method].mean(1)
        row |= {"world": float(judged.mean()), "world_stderr": standard_error(judged)}
    return row


def _row_over_all(found: Comparison, key: str) -> dict[str, Any]:
    own, subjects = (
        [entries[name] for entries in found.entries.values()] for name in (key, found.subject)
    )
    row: dict[str, Any] = {"dataset": ALL, "method": key, "title": own[0].name}
    row["seeds"] = sum(len(entry.scores) for entry in own)
    if found.normalised:
        means = [entry.scores.mean(1) for entry in own]
        middle, every = statistics.interquartile_mean, np.concatenate(means)
        errors = [standard_error(one) for one in means]
        known = min(map(len, means)) > 1
        row |= {
            "mean": float(np.mean([one.mean() for one in means])),
            "stderr": float(np.sqrt(np.sum(np.square(errors))) / len(errors)) if known else "",
            "interquartile_mean": float(middle(every)),
            **_ends("", statistics.stratified_interval(means, middle)),
            "optimality_gap": float(statistics.optimality_gap(every)),
            **_ends(
                "optimality_gap",
                statistics.stratified_interval(means, statistics.optimality_gap),
            ),
        }
    return row if key == found.subject else row | _improvement(subjects, own)


def _improvement(subjects: Sequence[Entry], own: Sequence[Entry]) -> dict[str, Any]:
    """The subject's probability of improvement, with interval, over one dataset or several.

    Where both have the same students it is ½, which no resampling changes: as of equal scores.
    """
    ones, others = ([entry.scores.mean(1) for entry in entries] for entries in (subjects, own))
    same = [one.has_the_students_of(other) for one, other in zip(own, subjects, strict=True)]
    for place in np.flatnonzero(same):
        ones[place] = others[place] = np.zeros(2)
    interval = None if all(same) else statistics.improvement_interval(ones, others)
    return {
        "improvement": statistics.probability_of_improvement(ones, others),
        **_ends("improvement", interval),
    }


def _ends(name: str, interval: Sequence[float] | None) -> dict[str, float]:
    names = ("low", "high") if not name else (f"{name}_low", f"{name}_high")
    return dict(zip(names, interval, strict=True)) if interval else {}


def blocks(found: Comparison, table: Sequence[dict[str, Any]]) -> list[tuple[str, list[list[str]]]]:
    """(heading, lines of cells, the first being the header) per dataset, and over all of them."""
    result = []
    for dataset in dict.fromkeys(row["dataset"] for row in table):
        own = [row for row in table if row["dataset"] == dataset]
        if dataset != ALL:
            heading = f"{dataset}: {found.unit(dataset)}, mean ± standard error over seeds"
        elif found.normalised:
            heading = f"{ALL}: normalised score; each seed of each dataset counts the same"
        else:
            heading = f"{ALL}: not all scores are normalised, and none is averaged"
        head = list(HEAD)
        judged = any(row["world"] != "" for row in own)
        gap = dataset == ALL and found.normalised
        head += ["learned world"] if judged else []
        head += ["gap to 100 (95%)"] if gap else []
        lines = [_cells(row, judged, gap, _gain(found, row)) for row in own]
        if dataset == ALL:  # belongs to no run, and has no gain
            head, *lines = ([*cells[:1], *cells[2:5], *cells[6:]] for cells in (head, *lines))
        result.append((heading, [head, *lines]))
    return result


def _cells(row: dict[str, Any], judged: bool, gap: bool, gain: str) -> list[str]:
    def number(name: str, form: str = ".1f") -> str:
        return "" if row[name] == "" else format(row[name], form)

    def error(name: str, of: str) -> str:
        several = row["seeds"] > 1 and number(of)
        return f"{number(name)} ± {number(of)}" if several else number(name)

    def interval(name: str, low: str, high: str, form: str = ".1f") -> str:
        ends = f" ({number(low, form)} … {number(high, form)})" if number(low) else ""
        return number(name, form) + ends

    count = f"{row['seeds']} × {row['episodes']}" if row["episodes"] else str(row["seeds"])
    return [
        row["title"],
        row["run"].rstrip("/").rpartition("/")[2],
        count,
        error("mean", "stderr"),
        interval("interquartile_mean", "low", "high"),
        gain or interval("gain", "gain_low", "gain_high", "+.1f"),
        interval("improvement", "improvement_low", "improvement_high", ".2f"),
        *([error("world", "world_stderr")] if judged else []),
        *([interval("optimality_gap", "optimality_gap_low", "optimality_gap_high")] if gap else []),
    ]


def _gain(found: Comparison, row: dict[str, Any]) -> str:
    """The text of a gain over a method that has the subject's students; "" for any other."""
    entries = found.entries.get(row["dataset"], {})
    if row["method"] not in entries or row["method"] == found.subject:
        return ""
    same = entries[row["method"]].has_the_students_of(entries[found.subject])
    return "0 (same students)" if same else ""


def _legend(found: Comparison) -> str:
    """Explain the columns."""
    subject = next(iter(found.entries.values()))[found.subject].name
    return (
        f"gain: how far the mean of {subject} is above that of the method; P: how likely a seed of "
        "it is above a seed of the method"
    )


def text(found: Comparison, table: Sequence[dict[str, Any]]) -> str:
    """Format the table for a terminal."""
    parts = ["", textwrap.fill(_legend(found), 100)]
    for heading, lines in blocks(found, table):
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        parts += ["", heading, ""]
        parts += [
            "   ".join(
                cell.ljust(width) if place < 2 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in lines
        ]
    return "\n".join(parts)


def markdown(found: Comparison, table: Sequence[dict[str, Any]]) -> str:
    """Format the table in Markdown."""
    parts = [f"{heading}\n\n{grid(lines)}" for heading, lines in blocks(found, table)]
    return "\n".join([f"{_legend(found)}\n", *parts])


def grid(lines: Sequence[Sequence[str]]) -> str:
    """Format lines of cells as a Markdown table; the first line is the header."""
    head, *rest = ([cell.replace("|", r"\|") for cell in cells] for cells in lines)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *rest])
