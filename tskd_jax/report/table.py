"""The table at the end of a run."""

from typing import Any

from tskd_jax.report.summary import simulated, unit

COLUMNS = "{:<36} {:>14}   {:>21}   {:>10}   {:>8}"
JUDGED = "   {:>14} {:>6}"


def table(summary: dict[str, Any]) -> str:
    """The scores as text, and how far the last method is above each of the others."""
    config, methods, subject = summary["config"], summary["methods"], summary["subject"]
    played = config["evaluation" if simulated(summary) else "referee"]["episodes"]
    seeds = len(config["seeds"])
    above = f"{methods[subject]['title']} gains (95%)"
    width = max(21, len(above))
    judged = summary.get("referee", {})
    columns = COLUMNS.replace("21", str(width)) + (JUDGED if judged else "{}{}")
    last = ("learned world", "left") if judged else ("", "")
    lines = [
        "",
        f"{summary['dataset']['name']}: {unit(summary)}, mean ± standard error, "
        f"{seeds} seeds × {played} episodes",
        "",
        columns.format("method", "score", above, "parameters", "seconds", *last),
    ]
    for name, score in summary["scores"].items():
        method = methods[name]
        lines.append(
            columns.format(
                method["title"],
                score_text(score),
                _gain(name, summary),
                f"{method['parameters']:,}",
                f"{method['seconds']:.0f}",
                *_verdict(judged.get(name)),
            )
        )
    groups = ", ".join(f"{name} {spent:.0f}" for name, spent in by_group(summary["seconds"]))
    return "\n".join([*lines, "", f"seconds per stage: {groups}"])


def score_text(score: dict[str, Any]) -> str:
    """A score with its standard error, which one seed does not have."""
    many = len(score["per_seed"]) > 1
    return f"{score['mean']:.1f} " + (f"± {score['stderr']:<4.1f}" if many else " " * 6)


def _verdict(judged: dict[str, Any] | None) -> tuple[str, str]:
    """What the referee says, and the share of episodes in which it did not know any more."""
    if judged is None:
        return "", ""
    # A run of an older version does not know.
    return score_text(judged), "" if judged["left"] is None else f"{judged['left']:.0%}"


def _gain(name: str, summary: dict[str, Any]) -> str:
    subject = summary["subject"]
    if name == subject:
        return ""
    if summary["methods"][name].get("student") == summary["methods"][subject].get("student"):
        return "0 (same students)"
    gain = summary["gains"][name]
    ends = " ({:+.1f} … {:+.1f})".format(*gain["interval"]) if gain["interval"] else ""
    return f"{gain['mean']:+.1f}{ends}"


def by_group(seconds: dict[str, float]) -> list[tuple[str, float]]:
    """Seconds of the stages, those of a group together."""
    groups: dict[str, float] = {}
    for name, spent in seconds.items():
        group = name.partition(".")[0]
        groups[group] = groups.get(group, 0.0) + spent
    return list(groups.items())
