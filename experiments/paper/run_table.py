"""One table of several whole runs: what each method scored, what it is above another one, costs.

    python -m experiments.paper.run_table --runs=DIR,DIR,… [--against=filtered_bc] [--known=CSV,…]
        [--name=NAME]

Reads the summary.json of each run's folder, and writes into --results NAME.md, with a row for each
run and the scores of its methods, and NAME.csv, with a row for each method of each run:

- `data`: the dataset's name; `run`: the folder's; `changes`: the values of the fields in which the
  run differs from --preset, but for the dataset and what every task has its own of.
- `mean`, `stderr`: normalised score over the seeds; `scores`: of each of them.
- `gain`, `gain_low`, `gain_high`: what the mean is above that of the method --against, with Welch's
  95% interval; without one where the students are the same. Nothing where the run has no such
  method.
- `imagined`: transitions among the student's, of the first pipeline seed; `imagined_score`: the
  mean return, normalised, of what was imagined for the method, whether or not it joined, and
  `imagined_steps`, its mean length: of whole trajectories the score should foretell the teacher's.
- `stitches`, `replaced`: different stitches on the walked paths, and trajectories that give way to
  stitched ones, over all epochs.
- `error`, `error_recorded`: in the simulator, of the imagined transitions that are accepted and of
  recorded ones, in standard deviations of the state.
- `teacher_seconds`: of all that is trained before imagination; `stitching_seconds`;
  `student_seconds`: of the method's students and their evaluation. Those of stages that a run has
  taken over are of the run that computed them.

Rows of --known, tables of this script, are taken as they are: a table can be made in parts.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from experiments.tables import read, score_text, show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.config import default_config, finalize, make_config, to_plain
from tskd_jax.envs.tasks import normalized_score
from tskd_jax.errors import ConfigError
from tskd_jax.evaluation.scores import difference
from tskd_jax.machine.signals import Request
from tskd_jax.presets import PRESETS
from tskd_jax.report import summary as summaries
from tskd_jax.report.comparison_table import grid

RUNS = flags.DEFINE_list("runs", [], "Folders of finished runs.")
KNOWN = flags.DEFINE_list("known", [], "Tables of this script, of other runs.")
AGAINST = flags.DEFINE_string("against", "filtered_bc", "The method that gains are counted from.")
PRESET = flags.DEFINE_enum("preset", "small", list(PRESETS), "What `changes` are changes to.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/whole_runs", "Folder.")

TEACHER = (
    *("inverse_dynamics", "dynamics", "baseline"),
    *("trajectory_generator", "reward_generator"),
)
# On what a run was made, and what every task has its own of.
_WHERE = ("dataset", "environment")
_TUNED = ("stitching.radius", "filter.margin")


def changes(config: dict[str, Any], preset: str) -> str:
    """FIELD=VALUE, … of what differs from that preset."""
    base = _flat(_as_json(make_config(config["environment"]["name"], preset)))
    # A field that an older run does not know had its default.
    found = sorted((_flat(_as_json(default_config())) | _flat(config)).items())
    return ", ".join(
        f"{field}={value}"
        for field, value in found
        if value != base.get(field) and not field.startswith((*_WHERE, *_TUNED))
    )


def _as_json(config: ConfigDict) -> dict[str, Any]:
    """A user's config as a summary has it: final, with lists for tuples."""
    return json.loads(json.dumps(to_plain(finalize(config)[0])))


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """SECTION.FIELD -> value."""
    flat = {}
    for name, part in config.items():
        fields = part.items() if isinstance(part, dict) else ()
        flat |= {f"{name}.{key}": value for key, value in fields} or {name: part}
    return flat


def rows_of(folder: Path, preset: str, against: str) -> list[dict[str, Any]]:
    """A row for each method of a finished run."""
    summary = summaries.read(folder)
    seconds, scores = summary["seconds"], summary["scores"]
    done = summaries.manifest_of(folder)["stages"]
    rows, changed = [], changes(summary["config"], preset)
    for name, method in summary["methods"].items():
        score = scores[name]
        rows.append(
            {
                "data": Path(summary["dataset"]["name"]).stem,
                "run": folder.name,
                "changes": changed,
                "method": name,
                "title": method["title"],
                "seeds": len(score["per_seed"]),
                "mean": score["mean"],
                "stderr": score["stderr"],
                "scores": " ".join(f"{one:.4g}" for one in score["per_seed"]),
                **_gain(score["per_seed"], scores.get(against, {}).get("per_seed")),
                "imagined": _imagined(method),
                **_imagination(method, done, summary["task"]),
                **_errors(summary["stages"].get("check_in_simulator")),
                "teacher_seconds": sum(seconds.get(stage, 0.0) for stage in TEACHER),
                **_stitching(method, done),
                "student_seconds": method["seconds"],
            }
        )
    return rows


def _of_seeds(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """A stage's metrics of each pipeline seed."""
    return list(metrics.get("of_seed", {"": metrics}).values())


def _errors(check: dict[str, Any] | None) -> dict[str, float | str]:
    """The errors of imagined and recorded transitions, means over pipeline seeds."""
    kinds = {"error": "accepted", "error_recorded": "recorded"}
    if check is None:
        return dict.fromkeys(kinds, "")
    own = _of_seeds(check)
    return {
        column: float(np.mean([one[kind]["error"] for one in own]))
        for column, kind in kinds.items()
    }


def _gain(scores: Sequence[float], others: Sequence[float] | None) -> dict[str, float | str]:
    """What the mean of some seeds' scores is above that of others, and its interval."""
    if others is None:
        return dict.fromkeys(("gain", "gain_low", "gain_high"), "")
    # Of seeds, not of episodes: each seed counts as one.
    found = difference(np.array(scores)[:, None], np.array(others)[:, None])
    low, high = ("", "") if scores == others else found["interval"] or ("", "")
    return {"gain": found["mean"], "gain_low": low, "gain_high": high}


def markdown(table: Sequence[dict[str, Any]]) -> str:
    """A line for each run: its methods' scores, and what those are above the other that differ."""
    methods = {row["method"]: row["title"] for row in table}
    lines = [["data", *methods.values()]]
    for run in dict.fromkeys((row["data"], row["run"]) for row in table):
        own = {row["method"]: row for row in table if (row["data"], row["run"]) == run}
        lines.append([f"`{run[0]}`", *(_cell(own.get(method)) for method in methods)])
    return grid(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    text = score_text(row)
    if row["gain_low"] == "":
        return text
    return f"{text}, {row['gain']:+.1f} ({row['gain_low']:.1f} … {row['gain_high']:.1f})"


def _imagined(method: dict[str, Any]) -> int | str:
    """Imagined transitions among what the students imitate; the teacher itself imitates nothing."""
    return method["data"][0]["imagined_transitions"] if "data" in method else ""


def _imagination(
    method: dict[str, Any], done: dict[str, Any], task: dict[str, Any]
) -> dict[str, float | str]:
    """The score and the length of what was imagined for a method, means over pipeline seeds."""
    found = [stage["metrics"] for stage in _stages(method, done, "imagination")]
    if not found:
        return dict.fromkeys(("imagined_score", "imagined_steps"), "")
    score, steps = (
        float(np.mean([of_seed["imagined"][name] for of_seed in _of_seeds(found[0])]))
        for name in ("return_mean", "mean_length")
    )
    ends = task["random_return"], task["expert_return"]
    return {"imagined_score": float(normalized_score(*ends, score)), "imagined_steps": steps}


def _stitching(method: dict[str, Any], done: dict[str, Any]) -> dict[str, float | str]:
    """How much was stitched for a method, means over pipeline seeds, and the time that it took."""
    found = _stages(method, done, "stitching")
    row: dict[str, float | str] = {"stitching_seconds": sum(stage["seconds"] for stage in found)}
    names = {"stitches": "edges_unique", "replaced": "trajectories_replaced"}
    for column, name in names.items():
        row[column] = sum(stage["metrics"][name] for stage in found) if found else ""
    return row


def _stages(method: dict[str, Any], done: dict[str, Any], group: str) -> list[dict[str, Any]]:
    """The stages of a group that a method uses, as `stitching.NAME.EPOCH` is of `stitching`."""
    stages = [done[key] for key in method.get("stages", ()) if key in done]
    return [stage for stage in stages if stage["name"].split(".")[0] == group]


def main(_request: Request) -> int:
    """Read what there is, and write the tables."""
    table = [row for path in KNOWN.value for row in read(path)]
    for folder in RUNS.value:
        table += rows_of(Path(folder), PRESET.value, AGAINST.value)
    if not table:
        raise ConfigError("nothing to show: name finished runs by --runs, or tables by --known")
    for row in table:
        show(row)
    path = write(table, RESULTS.value, NAME.value)
    path.with_name(f"{path.name}.md").write_text(markdown(table))
    return 0


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
