"""Settings for runs of the command in tests, and of the scripts of experiments/."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from absl import flags

ROOT = Path(__file__).parents[1]

# Compiled without optimizations, as in tests, the paper's networks are slow to run.
SMALL_NETWORKS = tuple(
    f"--config.{part}.hidden=(32,)" for part in ("dynamics", "value", "baseline", "world")
)
# Flags with which a whole run takes half a minute, nearly all of it tracing and compilation. Whole
# trajectories are imagined, as in the paper: more can go wrong with them than with a single step.
TINY_FLAGS = (
    *SMALL_NETWORKS,
    "--config.trajectory_generator.horizon=8",
    "--config.trajectory_generator.relative=False",
    "--config.trajectory_generator.residual=False",
    "--config.trajectory_generator.condition=return",
    "--config.trajectory_generator.kept_fraction=0.0",
    "--config.trajectory_generator.history_noise=0.15",
    "--config.trajectory_generator.noise_level_input=True",
    "--config.sampling.history_noise=0.05",
    "--config.sampling.target_return=0.75",
    "--config.sampling.guidance=3.0",
    "--config.sampling.temperature=0.5",
    "--config.methods=bc,filtered_bc,tskd",
    "--config.selection.by=none",
    "--config.imagination.world=none",
    "--config.referee.episodes=0",
    "--config.imagination.chunk=512",
    "--config.steps_multiplier=0.002",
    "--config.trajectory_generator.features=8",
    "--config.trajectory_generator.multipliers=(1,)",
    "--config.reward_generator.features=16",
    "--config.reward_generator.multipliers=(1,)",
    "--config.sampling.steps=3",
    "--config.sampling.replan_every=7",
    "--config.reward_sampling.steps=3",
    "--config.imagination.trajectories=3",
    "--config.imagination.min_likelihood_quantile=0.0",
    "--config.stitching.tolerance=50.0",
    "--config.stitching.radius=0.5",
    "--config.evaluation.episodes=2",
    "--config.evaluation.simulator_check=20",
    "--config.seeds=(0,1)",
)


def run_script(name: str, *flags: str) -> str:
    """What `experiments.NAME` prints; it must end well."""
    command = [sys.executable, "-m", f"experiments.{name}", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def import_script(name: str) -> ModuleType:
    """A script of experiments/ as a module, for its functions.

    Scripts define flags of the same names: those of this one are taken back, for the next.
    """
    known = set(flags.FLAGS)
    module = importlib.import_module(f"experiments.{name}")
    for flag in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, flag)
    return module
