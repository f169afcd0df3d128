"""What do whole imagined trajectories do to a student? (an honest look at the risk)

    python experiments/imagined_data_trial.py [--config=configs/hopper.py:small] [--workdir=DIR]

Trains the teacher of a config (or takes it from a run's folder), imagines trajectories, keeps
them whole, and compares students of: the best 10% of the recorded transitions, the same with the
imagined trajectories added, and the imagined ones alone. One line each, and a CSV in the folder.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from students import score

from tskd_jax.config import finalize
from tskd_jax.data.trajectories import best_episodes, concatenate
from tskd_jax.evaluation.scores import summarize
from tskd_jax.run import Run
from tskd_jax.stages import (
    load_recorded,
    train_inverse_dynamics,
    train_trajectory_generator,
)
from tskd_jax.tasks import get_task
from tskd_jax.teacher.imagination import imagine

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:small")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the teacher is trained, or already is.")
COUNT = flags.DEFINE_integer("trajectories", 16, "How many are imagined.")
EPISODES = flags.DEFINE_integer("episodes", 20, "Evaluation episodes a seed.")


def main(_argv) -> None:
    config = finalize(CONFIG.value)
    task = get_task(config.environment.name)
    run = Run(Path(WORKDIR.value or Path("runs") / config.label), config)
    recorded = load_recorded(config, task, run)
    inverse_dynamics = train_inverse_dynamics(config, recorded, task, run)[0]
    generator = train_trajectory_generator(config, recorded, run)[0]
    starts = recorded.initial_observations
    chosen = np.random.default_rng(0).integers(len(starts), size=COUNT.value)
    imagined = imagine(
        generator,
        config.sampling,
        task,
        inverse_dynamics,
        starts[chosen],
        jax.random.key(1),
    )
    best, _ = best_episodes(recorded, config.filter.share, task.episode_limit)
    filtered = recorded.select(np.sort(best))
    lines = ["data,transitions,mean,stderr,low,high"]
    for name, data in {
        "filtered": filtered,
        "filtered+imagined": concatenate([filtered, imagined]),
        "imagined": imagined,
    }.items():
        about = summarize(score(config, task, data, EPISODES.value))
        low, high = about["interval"]
        run.say(f"{name:<20} {about['mean']:.1f} ± {about['stderr']:.1f}")
        lines.append(
            f"{name},{data.size},{about['mean']:.2f},{about['stderr']:.2f},{low:.2f},{high:.2f}"
        )
    with run.replacing("imagined_data_trial.csv") as path:
        path.write_text("\n".join(lines) + "\n")
    run.close()


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
