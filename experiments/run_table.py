"""One table of several whole runs: what each method scored, what TSKD gained on it, what it cost.

    python experiments/run_table.py --runs=DIR,DIR,… [--name=NAME]

Reads the summary.json of each run's folder, and writes NAME.csv in --results, with a row for each
method of each run:

- `data`: the dataset's name; `run`: the folder's; `changes`: the values of the fields in which the
  run differs from --scale, but for the dataset, names, and what every task has its own of.
- `mean`, `stderr`: normalised score over the seeds of the students.
- `gain`, `gain_low`, `gain_high`: what TSKD's mean is above the method's, with Welch's 95%
  interval; without one where the students are the same.
- `imagined`: transitions among the student's; `error`, `error_recorded`: in the simulator, of the
  imagined transitions that are believed and of recorded ones, in standard deviations of the state.
- `teacher_seconds`: of all that is trained before imagination; `stitching_seconds`;
  `student_seconds`: of the method's students, without their evaluation. Those of stages that a run
  has taken over are of the run that computed them.
"""

import json
import sys
from pathlib import Path
from typing import Any

from absl import app, flags
from tables import show, write

from tskd_jax.config import default_config, identity, make_config
from tskd_jax.presets import SCALES

RUNS = flags.DEFINE_list("runs", None, "Folders of finished runs.", required=True)
SCALE = flags.DEFINE_enum("scale", "small", list(SCALES), "What `changes` are changes to.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/whole_runs", "Folder.")

TEACHER = (
    *("inverse_dynamics", "dynamics", "expectation"),
    *("trajectory_generator", "reward_generator"),
)
# Where and on what a run was made, not how; and what every task has its own of.
_WHERE = ("dataset", "environment", "label", "checkpoint_seconds", "distributed")
_TUNED = ("stitching.radius", "filter.margin")


def changes(config: dict[str, Any], scale: str) -> str:
    """FIELD=VALUE, … of what differs from that scale."""
    name = config["environment"]["name"]
    plain = make_config(scale, environment=name, levels={"": ""}, default="", overrides={})
    base, usual = (_flat(json.loads(json.dumps(identity(of)))) for of in (plain, default_config()))
    # A field that an older run does not know had its default.
    found = sorted((usual | _flat(config)).items())
    return ", ".join(
        f"{field}={value}"
        for field, value in found
        if value != base.get(field) and not field.startswith((*_WHERE, *_TUNED))
    )


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """SECTION.FIELD -> value, as JSON has it: lists for tuples."""
    sections = {name: part for name, part in config.items() if isinstance(part, dict)}
    fields = {f"{name}.{key}": value for name, of in sections.items() for key, value in of.items()}
    return {name: part for name, part in config.items() if name not in sections} | fields


def rows_of(folder: Path, scale: str) -> list[dict[str, Any]]:
    """A row for each method of a finished run."""
    summary = json.loads((folder / "summary.json").read_text())
    seconds, stages = summary["seconds"], summary["stages"]
    about = stages.get("imagination", {})
    errors = [about.get(f"simulator_{of}", {}).get("error", "") for of in ("believed", "recorded")]
    rows, changed = [], changes(summary["config"], scale)
    for method, score in summary["scores"].items():
        gain = summary["gains"].get(method) or {}
        same = score["per_seed"] == summary["scores"]["tskd"]["per_seed"]
        low, high = ("", "") if same else gain.get("interval") or ("", "")
        rows.append(
            {
                "data": Path(summary["dataset"]["name"]).stem,
                "run": folder.name,
                "changes": changed,
                "method": method,
                "seeds": len(score["per_seed"]),
                "mean": score["mean"],
                "stderr": score["stderr"],
                "gain": gain.get("mean", ""),
                "gain_low": low,
                "gain_high": high,
                "imagined": stages[f"student.{method}"]["imagined"],
                "error": errors[0],
                "error_recorded": errors[1],
                "teacher_seconds": sum(seconds.get(stage, 0.0) for stage in TEACHER),
                "stitching_seconds": seconds.get(f"stitching.{method}", 0.0),
                "student_seconds": seconds[f"student.{method}"],
            }
        )
    return rows


def main(_argv) -> None:
    table = [row for folder in RUNS.value for row in rows_of(Path(folder), SCALE.value)]
    for row in table:
        show(row)
    write(table, RESULTS.value, NAME.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
