"""The table at the end of a run."""

from typing import Any

from tskd_jax.envs.tasks import normalized_score
from tskd_jax.report.summary import simulated, unit

COLUMNS = "{:<36} {:>14}   {:>21}   {:>10}   {:>8}"


def table(summary: dict[str, Any]) -> str:
    """Format the scores as text, with the last method's gain over each of the others."""
    config, methods, subject = summary["config"], summary["methods"], summary["subject"]
    played = config["evaluation" if simulated(summary) else "referee"]["episodes"]
    seeds = len(config["seeds"])
    above = f"{methods[subject]['title']} gains (95%)"
    width = max(21, len(above))
    columns = COLUMNS.replace("21", str(width))
    offline = offline_columns(summary)
    lines = [
        "",
        f"{summary['dataset']['name']}: {unit(summary)}, mean ± standard error, "
        f"{seeds} seeds × {played} episodes",
        "",
        columns.format("method", "score", above, "parameters", "seconds")
        + "".join(f"   {title:>{wide}}" for title, wide, _ in offline),
    ]
    for name, score in summary["scores"].items():
        method = methods[name]
        lines.append(
            columns.format(
                method["title"],
                score_text(score),
                gain_text(name, summary),
                f"{method['parameters']:,}",
                f"{method['seconds']:.0f}",
            )
            + "".join(f"   {texts.get(name, ''):>{wide}}" for _, wide, texts in offline)
        )
    if recorded := recorded_line(summary):
        lines += ["", recorded]
    errors = summary.get("action_errors", {}).get(subject)
    if errors:
        found = " ".join(f"{error:.2f}" for error in errors["all"])
        lines += ["", f"action error of {methods[subject]['title']} by dimension: {found}"]
    agreement = [
        f"{title} {summary['agreement'][name]:.2f}"
        for name, title in (("referee", "learned world"), ("fitted_q", "fitted Q"))
        if summary.get("agreement", {}).get(name) is not None
    ]
    if agreement:
        lines += ["", f"rank correlation with the simulator over students: {', '.join(agreement)}"]
    student = summary.get("student") or {"chosen": False}
    if student["chosen"] and seeds > 1:
        line = f"student.npz is that of seed {student['seed']}, the best in the learned world"
        lines += ["", line]
    groups = ", ".join(f"{name} {spent:.0f}" for name, spent in by_group(summary["seconds"]))
    return "\n".join([*lines, "", f"seconds per stage: {groups}"])


def recorded_line(summary: dict[str, Any]) -> str:
    """Format what recorded episodes score: a student hardly gets beyond the best; "" if unknown."""
    facts, task = summary["dataset"], summary.get("task")
    if not task or "return_quantiles" not in facts:
        return ""
    returns = (facts["return_mean"], facts["return_quantiles"]["100"])
    mean, best = (
        normalized_score(task["random_return"], task["expert_return"], one) for one in returns
    )
    return f"recorded episodes: {mean:.1f} on average, the best {best:.1f}"


def score_text(score: dict[str, Any]) -> str:
    """Format a score with its standard error, which a single seed does not have."""
    many = len(score["per_seed"]) > 1
    return f"{score['mean']:.1f} " + (f"± {score['stderr']:<4.1f}" if many else " " * 6)


def offline_columns(summary: dict[str, Any]) -> list[tuple[str, int, dict[str, str]]]:
    """(title, width, text of each method) of the columns that need no simulator."""
    judged, fitted = summary.get("referee", {}), summary.get("fitted_q", {})
    columns = []
    if judged:
        verdicts = {name: score_text(one) for name, one in judged.items()}
        columns.append(("learned world", 14, verdicts))
    # Without a simulator the scores are the learned world's. Older runs do not say who left it.
    judged = judged or summary["scores"]
    left = {n: f"{j['left']:.0%}" for n, j in judged.items() if j.get("left") is not None}
    if left:
        columns.append(("left", 4, left))
    if fitted:
        columns.append(("fitted Q", 14, {name: score_text(one) for name, one in fitted.items()}))
    if errors := summary.get("action_errors", {}):
        texts = {name: _error_text(one) for name, one in errors.items()}
        columns.append(("action error (better half)", 26, texts))
    if within := summary.get("within_data", {}):
        columns.append(("in data", 7, {name: f"{share:.0%}" for name, share in within.items()}))
    return columns


def _error_text(errors: dict[str, list[float]]) -> str:
    """Format the mean errors over all held-out episodes and over the better half of them."""
    means = [sum(found) / len(found) for found in errors.values()]
    return "{:.2f} ({:.2f})".format(*means)


def gain_text(name: str, summary: dict[str, Any]) -> str:
    """Format the subject's gain over a method, with its interval if there is one."""
    subject = summary["subject"]
    if name == subject:
        return ""
    if summary["methods"][name].get("student") == summary["methods"][subject].get("student"):
        return "0 (same students)"
    gain = summary["gains"][name]
    ends = " ({:+.1f} … {:+.1f})".format(*gain["interval"]) if gain["interval"] else ""
    return f"{gain['mean']:+.1f}{ends}"


def by_group(seconds: dict[str, float]) -> list[tuple[str, float]]:
    """Sum up the seconds of stages by group, in order of appearance."""
    groups: dict[str, float] = {}
    for name, spent in seconds.items():
        group = name.partition(".")[0]
        groups[group] = groups.get(group, 0.0) + spent
    return list(groups.items())
