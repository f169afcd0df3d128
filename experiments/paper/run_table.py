"""One table of several whole runs: what each method scored, what the last one gained on it, costs.

    python -m experiments.paper.run_table --runs=DIR,DIR,… [--name=NAME]

Reads the summary.json of each run's folder, and writes NAME.csv in --results, with a row for each
method of each run:

- `data`: the dataset's name; `run`: the folder's; `changes`: the values of the fields in which the
  run differs from --preset, but for the dataset and what every task has its own of.
- `mean`, `stderr`: normalised score over the seeds of the students.
- `gain`, `gain_low`, `gain_high`: what the mean of the run's last method is above this one's, with
  Welch's 95% interval; without one where the students are the same.
- `imagined`: transitions among the student's, of the first pipeline seed; `error`,
  `error_recorded`: in the simulator, of the imagined transitions that are accepted and of recorded
  ones, in standard deviations of the state.
- `teacher_seconds`: of all that is trained before imagination; `stitching_seconds`;
  `student_seconds`: of the method's students and their evaluation. Those of stages that a run has
  taken over are of the run that computed them.
"""

import json
import sys
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict

from experiments.tables import show, write
from tskd_jax.config import default_config, finalize, make_config, to_plain
from tskd_jax.presets import PRESETS
from tskd_jax.report import summary as summaries

RUNS = flags.DEFINE_list("runs", None, "Folders of finished runs.", required=True)
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


def rows_of(folder: Path, preset: str) -> list[dict[str, Any]]:
    """A row for each method of a finished run."""
    summary = summaries.read(folder)
    seconds, scores = summary["seconds"], summary["scores"]
    check = summary["stages"].get("check_in_simulator", {})
    rows, changed = [], changes(summary["config"], preset)
    for name, method in summary["methods"].items():
        score, gain = scores[name], summary["gains"].get(name) or {}
        same = score["per_seed"] == scores[summary["subject"]]["per_seed"]
        low, high = ("", "") if same else gain.get("interval") or ("", "")
        stitching = [stage for stage in seconds if stage.startswith(f"stitching.{name}.")]
        rows.append(
            {
                "data": Path(summary["dataset"]["name"]).stem,
                "run": folder.name,
                "changes": changed,
                "method": name,
                "seeds": len(score["per_seed"]),
                "mean": score["mean"],
                "stderr": score["stderr"],
                "gain": gain.get("mean", ""),
                "gain_low": low,
                "gain_high": high,
                "imagined": _imagined(method),
                "error": check.get("accepted", {}).get("error", ""),
                "error_recorded": check.get("recorded", {}).get("error", ""),
                "teacher_seconds": sum(seconds.get(stage, 0.0) for stage in TEACHER),
                "stitching_seconds": sum(seconds[stage] for stage in stitching),
                "student_seconds": method["seconds"],
            }
        )
    return rows


def _imagined(method: dict[str, Any]) -> int | str:
    """Imagined transitions among what the students imitate; the teacher itself imitates nothing."""
    return method["data"][0]["imagined_transitions"] if "data" in method else ""


def main(_argv) -> None:
    table = [row for folder in RUNS.value for row in rows_of(Path(folder), PRESET.value)]
    for row in table:
        show(row)
    write(table, RESULTS.value, NAME.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
