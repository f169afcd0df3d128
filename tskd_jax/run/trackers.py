"""Trackers of a run's metrics besides metrics.csv: TensorBoard, Weights & Biases, MLflow.

A curve has the same name in all of them: STAGE/METRIC, over the updates of its training.
"""

import importlib.util
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tskd_jax.errors import ConfigError


class Tracker(Protocol):
    """A receiver of metrics."""

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a training after `step` updates."""
        ...

    def finish(self, results: Mapping[str, float]) -> None:
        """Record the run's results, at its end."""
        ...

    def close(self) -> None:
        """Flush buffered metrics; no further calls follow."""
        ...


class TensorBoard:
    """tensorboard/ in the run's folder."""

    def __init__(self, folder: Path):
        from tensorboardX import SummaryWriter

        place = folder / "tensorboard"
        shutil.rmtree(place, ignore_errors=True)
        self._writer = SummaryWriter(str(place))

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for metric, value in metrics.items():
            self._writer.add_scalar(f"{stage}/{metric}", value, step)

    def finish(self, results: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in results.items():
            self._writer.add_scalar(name, value, 0)

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, configured by its own variables (WANDB_PROJECT, WANDB_MODE, …).

    The same folder always maps to the same run there, so that a killed run resumes it.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]

        place = folder / "wandb_run_id"
        if not place.exists():
            place.write_text(secrets.token_hex(4))
        self._run = wandb.init(
            **{"dir": str(folder), "id": place.read_text().strip(), "resume": "allow"},
            **{"name": folder.name, "config": dict(config)},
        )
        self._curves: set[str] = set()

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        # Every training counts its own updates, and a run of theirs has one count alone.
        if stage not in self._curves:
            self._curves.add(stage)
            self._run.define_metric(f"{stage}/step", hidden=True)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self._run.log({f"{stage}/step": step} | {f"{stage}/{m}": v for m, v in metrics.items()})

    def finish(self, results: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.summary.update(dict(results))

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class MLflow:
    """A run of MLflow, configured by its own variables (MLFLOW_TRACKING_URI, …).

    The same folder always maps to the same run there, so that a killed run resumes it.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        import mlflow  # pyright: ignore[reportMissingImports]

        self._mlflow = mlflow
        place = folder / "mlflow_run_id"
        known = place.read_text().strip() if place.exists() else None
        run = mlflow.start_run(run_id=known, run_name=None if known else folder.name)
        if not known:
            place.write_text(run.info.run_id)
            mlflow.log_dict(dict(config), "config.json")

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        named = {f"{stage}/{metric}": float(value) for metric, value in metrics.items()}
        self._mlflow.log_metrics(named, step=step)

    def finish(self, results: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._mlflow.log_metrics({name: float(value) for name, value in results.items()})

    def close(self) -> None:
        """See `Tracker`."""
        self._mlflow.end_run()


# Value of --track, which is also the name of the required package -> constructor.
OTHERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def check(names: Sequence[str]) -> None:
    """Check the names of trackers.

    Raises:
      ConfigError: a name is not a tracker, or its package is not installed.
    """
    for name in names:
        if name not in OTHERS:
            raise ConfigError(f"--track={name} is no tracker; one of {', '.join(OTHERS)}")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"--track={name} needs the package {name}; install tskd_jax[{name}], or leave it "
                "out: metrics.csv and tensorboard/ are there anyway"
            )


class Guarded:
    """A tracker that cannot fail the run: its first error is reported and it is dropped.

    Args:
      name: name of the tracker.
      make: creates the tracker.
      report: called with a line for the user.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], report: Callable[[str], None]):
        self._name, self._report = name, report
        self._tracker: Tracker | None = self._call(make)

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        if tracker := self._tracker:
            self._call(lambda: tracker.log(stage, step, metrics))

    def finish(self, results: Mapping[str, float]) -> None:
        """See `Tracker`."""
        if tracker := self._tracker:
            self._call(lambda: tracker.finish(results))

    def close(self) -> None:
        """See `Tracker`."""
        if tracker := self._tracker:
            self._call(tracker.close)

    def _call(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            self._tracker = None
            self._report(
                f"warning: --track={self._name} is given up ({type(error).__name__}: {reason}); "
                "the run goes on, with metrics.csv"
            )
            return None
