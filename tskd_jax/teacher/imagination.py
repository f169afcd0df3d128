"""Algorithm 1 as one program: trajectories imagined in lockstep, without a simulator."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from tskd_jax.data.trajectories import IMAGINED, Trajectories, from_columns, ranges
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import ANY, COUNT, NOT_NEGATIVE, PROBABILITY, field, one_of
from tskd_jax.machine import devices, memory
from tskd_jax.models.inverse_dynamics import InverseDynamics, actions_between
from tskd_jax.models.world import World
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.grounding import Grounding
from tskd_jax.teacher.lockstep import imagine_batch
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks


@dataclass(frozen=True)
class Config:
    """`config.imagination`."""

    enabled: bool = field(True, ANY, "off: nothing is imagined (stitching alone)")
    mode: str = field(
        "imagine",
        one_of(["imagine", "environment"]),
        "imagine: the next state is the imagined one (offline); environment: Algorithm 1 to "
        "the letter, every action is executed in the simulator",
    )
    world: str = field(
        "none",
        one_of(["none", "mean", "random_member"]),
        "none: the next state and the reward are the imagined ones; else the action for the "
        "imagined next state is executed in learned forward models, which give both: their mean, "
        "or a random one's of them in every step",
    )
    action_noise: float = field(
        0.0,
        NOT_NEGATIVE,
        "where several steps are imagined in a world: deviation of the noise with which actions "
        "are executed there, as a share of half their range; what is recorded is the action "
        "without it, so that students learn how the teacher recovers",
    )
    trajectories: int = field(300, COUNT, "n, imagined trajectories an epoch (Appendix B)")
    min_likelihood_quantile: float = field(
        0.0,
        PROBABILITY,
        "an imagined trajectory ends where the ensemble finds a transition less likely than "
        "this quantile of held-out recorded ones; 0: off",
    )
    chunk: int = field(512, COUNT, "trajectories at a time, for bounded memory")

    def noise_over(self, steps: int) -> float:
        """`action_noise` where so many steps are imagined in a row: none in a single step."""
        return self.action_noise if steps > 1 else 0.0


def imagine(
    model: Diffuser,
    sampling: SamplingConfig,
    task: Task,
    inverse_dynamics: InverseDynamics,
    starts: np.ndarray,
    keys: jax.Array,
    *,
    max_steps: int | None = None,
    chunk: int = 512,
    world: World | None = None,
    random_member: bool = False,
    action_noise: float = 0.0,
    callbacks: TrainingCallbacks | None = None,
) -> list[Trajectories]:
    """Imagine trajectories from the given start states with the teacher, for each seed.

    The next state is the imagined one or, grounded in a learned world, the state that the action
    for it leads to there. Either way, nothing but the dataset is used. A trajectory ends by the
    environment's known termination rule, where the world does not know a step, at the episode limit
    or after `max_steps`. Once half of a batch has ended, the rest continues in a batch of half the
    size. A trajectory depends only on its start and its own key, so neither `chunk` nor the other
    trajectories change it (up to rounding).

    Args:
      model: DDR-I, with the seeds as leading axis.
      sampling: `config.sampling`.
      task: gives the termination rule and the episode limit.
      inverse_dynamics: predicts the actions; with the seeds as leading axis.
      starts: (S, n, m) start states, raw units.
      keys: (S,).
      max_steps: longest trajectory; None: the episode limit.
      chunk: trajectories of all seeds together at a time, to bound memory; fewer if it runs out.
      world: executes the actions and gives next states and rewards, with the seeds as leading axis;
        None: those that DDR-I imagines are taken.
      random_member: whether a random member of the world answers each step; else their mean.
      action_noise: of the actions that the world executes (`Grounding`).
      callbacks: progress is (transitions done, upper bound of their total); each chunk is cached as
        a part; `on_compiled` is called for the first chunk.
    """
    callbacks = callbacks or TrainingCallbacks()
    max_steps = min(max_steps or task.episode_limit, task.episode_limit)
    seed_count, count = starts.shape[:2]
    trajectory_keys = np.asarray(
        jax.random.key_data(jax.vmap(lambda key: jax.random.split(key, count))(keys))
    )
    model = devices.copied(model)
    grounding = None
    if world is not None:
        grounding = devices.copied(Grounding(inverse_dynamics, world, random_member, action_noise))
    done, reported = 0, False

    def on_compiled(needed):
        nonlocal reported
        if not reported:
            callbacks.on_compiled(needed)
        reported = True
        memory.make_sure(needed)

    def compute(first, size):
        nonlocal done
        rows = slice(first, first + size)

        def on_progress(transitions, before=done):
            callbacks.on_progress(before + transitions, seed_count * count * max_steps, {})

        part = callbacks.cache(
            f"{first}-{first + size}",
            lambda: imagine_batch(
                *(model, sampling, task, max_steps),
                *(starts[:, rows], trajectory_keys[:, rows], on_progress, on_compiled),
                grounding,
            ),
        )
        done += int(part[3].sum())
        return part

    parts = memory.in_chunks(count, max(1, chunk // seed_count), compute)
    by_seed = zip(*(_by_seed(seed_count, *part) for part in parts), strict=True)
    return [
        _as_trajectories(own, seeds.of_seed(inverse_dynamics, index))
        for index, own in enumerate(by_seed)
    ]


def _by_seed(
    seed_count: int, states, rewards, actions, lengths, terminal
) -> list[tuple[np.ndarray, ...]]:
    """Split the result of `imagine_batch` by seed."""
    lengths, terminal = lengths.reshape(seed_count, -1), terminal.reshape(seed_count, -1)
    steps = np.cumsum(lengths.sum(1))[:-1]
    states = np.split(states, steps + lengths.shape[1] * np.arange(1, seed_count))
    rewards, actions = np.split(rewards, steps), np.split(actions, steps)
    return list(zip(states, rewards, actions, lengths, terminal, strict=True))


def _as_trajectories(
    parts: Sequence[tuple[np.ndarray, ...]], inverse_dynamics: InverseDynamics
) -> Trajectories:
    """Join the chunks of a seed into trajectories."""
    states, rewards, actions, lengths, terminal = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    terminals = np.zeros(lengths.sum(), bool)
    terminals[np.cumsum(lengths) - 1] = terminal
    # A trajectory of T transitions has T + 1 states.
    index = ranges(np.cumsum(lengths + 1) - (lengths + 1), lengths)
    if not actions.shape[1]:
        actions = actions_between(inverse_dynamics, states[index], states[index + 1])
    return from_columns(
        observations=states[index],
        actions=actions,
        rewards=rewards,
        next_observations=states[index + 1],
        terminals=terminals,
        lengths=lengths,
        source=IMAGINED,
    )
