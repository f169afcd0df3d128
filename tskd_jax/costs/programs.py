"""The compiled programs of a run: the arguments of each, and how often it runs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.config import Config
from tskd_jax.costs import plans
from tskd_jax.costs.fresh import fresh_world
from tskd_jax.costs.program import Keyed, Prepared, Program, padded
from tskd_jax.costs.stages import is_training, stages_of, training_of
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.machine import devices
from tskd_jax.methods import METHODS
from tskd_jax.methods.parts import aggregating, choosing, imagining
from tskd_jax.methods.parts.pricing import DiffusionPricing
from tskd_jax.methods.parts.stitching import stitching
from tskd_jax.models import cloning, contest, referee
from tskd_jax.run.stages import Call
from tskd_jax.stitching import tile_search
from tskd_jax.teacher import few_steps, reward_generator
from tskd_jax.training.chunk import chunk_of
from tskd_jax.training.seeds import of_seed
from tskd_jax.training.training import Training

REWARDS_AT_ONCE = 512  # edges per batch of `reward_generator.rewards_between`
SEARCH = "stitching: search"


def programs_of(
    config: Config,
    compared: Sequence[tuple[str, str, str, Config]],
    recorded: Trajectories,
    task: Task,
) -> list[Program]:
    """List the programs of a run; equal programs are merged and their turns added up.

    Different programs of one stage, such as the plans of a whole chunk and of what is left over,
    get numbers: `imagination`, `imagination (2)`.

    Args:
      config: the final config.
      compared: the config's methods, as for `stages_of`.
      recorded: the dataset; only its size matters.
      task: the config's task.
    """
    calls, outcome = stages_of(compared, recorded, task)
    found: dict[Any, Program] = {}
    for call in calls:
        for key, program in _programs(call, config, recorded, task):
            if known := found.get(key):
                program = replace(known, times=known.times + program.times)
            found[key] = program
    if config.evaluation.teacher_episodes and outcome is not None and outcome.teachers:
        model, episodes = (
            outcome.teachers[0].trajectory_generator,
            config.evaluation.teacher_episodes,
        )
        times = task.episode_limit * len(config.pipeline_seeds) * len(outcome.teachers)
        how = model, config.teacher_sampling(0), episodes, times
        _, found["evaluation.teacher"] = plans.in_simulator("evaluation.teacher", *how)
    if judged := [one for *_, one, _ in compared if not METHODS[one].needs_simulator]:
        worlds = len(config.pipeline_seeds)
        how = len(config.seeds) // worlds, config.referee.episodes, worlds * len(judged)
        if config.referee.episodes:
            key, found[key] = _judging("referee", config, recorded, task, *how)
    seen: Counter[str] = Counter()
    numbered = []
    for program in found.values():
        seen[program.name] += 1
        number = seen[program.name]
        name = program.name if number == 1 else f"{program.name} ({number})"
        numbered.append(replace(program, name=name))
    return numbered


def _programs(call: Call, config: Config, recorded: Trajectories, task: Task) -> list[Keyed]:
    """The programs of a stage, each with a key that equal programs share."""
    if is_training(call):
        shape = () if call.keys is None else call.keys.shape
        training = (call.function, call.config, shape), _training(call)
        if call.function is few_steps.train:
            return [plans.of_distillation(call), training]
        return [training]
    if call.function is imagining.imagine:
        return plans.of_imagination(call, config, recorded, task)
    if call.function is imagining.plan_in_simulator:
        teacher, _, count = call.inputs
        times = task.episode_limit * len(call.seeds)
        model = teacher.trajectory_generator
        return [plans.in_simulator(call.name, model, call.config, count, times)]
    if call.function is aggregating.ask_teacher:
        worlds = len(call.seeds)
        how = len(config.seeds) // worlds, config.aggregation.episodes, worlds
        visits = _judging("aggregation", config, recorded, task, *how, visiting=True)
        return [visits, *plans.of_aggregation(call, config, recorded, task)]
    if call.function is stitching:
        return _stitching(call, config, recorded, task)
    if call.function is choosing.best_share:
        return [_contest(call), _choosing(call, config, recorded, task, len(call.config[0].shares))]
    if call.function in (choosing.best_data, choosing.confirmed_share):
        return [_choosing(call, config, recorded, task, len(call.inputs[0]))]
    return []


def _training(call: Call) -> Program:
    name = "student" if call.function is cloning.train else call.name
    dtype = getattr(call.config, "dtype", "float32")
    prepare = _chunks(lambda: training_of(call))
    return Program(name, "update", call.config.steps, dtype, prepare)


def _chunks(training: Callable[[], Training]) -> Callable[..., Prepared]:
    """`Program.prepare` of a training's updates."""

    def prepare(among, place):
        chunk = chunk_of(training(), among)
        if place is devices.shapes:
            state, data = chunk.shapes()
        else:  # on noise the loss may become infinite, which would end the loop
            state, data = chunk.place(chunk.start()), chunk.place_data()

        def again(arguments, result, turns):
            state = arguments[0] if result is None else result[0]
            return state, data, np.int32(turns), np.float32(np.inf)

        arguments = state, data, np.int32(1), np.float32(0)
        return Prepared(chunk.program(state), arguments, chunk.mesh, again=again)

    return prepare


def _stitching(call: Call, config: Config, recorded: Trajectories, task: Task) -> list[Keyed]:
    """The search on an accelerator, and DDR-II's rewards for a batch of stitches."""
    _, _, pricing, *_ = call.inputs
    size, rows = task.state_size, recorded.size
    members = len(jax.tree.leaves(of_seed(pricing.ensemble.params, 0))[0])
    tested = members if call.config.rule == "density_first" else 0

    def search(among, _place):
        mesh = devices.mesh(among=among)
        return Prepared(*tile_search.program(rows, size, tested, mesh), mesh)

    found: list[Keyed] = [(("search", tested), Program(SEARCH, "tile", 0, "float32", search))]
    if isinstance(pricing, DiffusionPricing):
        model, sampling = of_seed(pricing.reward_generator, 0), pricing.sampling

        def rewards(among, place):
            mesh = devices.mesh(among=among)
            batch = padded(REWARDS_AT_ONCE, mesh)
            pair = jax.ShapeDtypeStruct((batch, size), jnp.float32)
            keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
            given = place((pair, pair, keys), devices.BY_ROWS, mesh)
            placed = place(model, devices.COPIED, mesh)
            return Prepared(reward_generator.rewards_of_batch, (placed, sampling, *given), mesh)

        once = f"{REWARDS_AT_ONCE} edges"
        of_batch = Program("stitching: rewards", once, 0, model.config.dtype, rewards)
        found.append(("rewards", of_batch))
    return found


def _contest(call: Call) -> Keyed:
    """The training of the short students of all shares."""
    (selection, student), recorded, _, task = call.config, *call.inputs
    datasets = list(choosing.data_of_shares(selection, recorded, task).values())
    short, each, numbers = contest.entries(selection, student, datasets)
    prepare = _chunks(lambda: cloning.training(short, each, task, numbers))
    program = Program("choices: short students", "update", short.steps, "float32", prepare)
    return (choosing.best_share, call.config), program


def _choosing(call: Call, config: Config, recorded: Trajectories, task: Task, groups: int) -> Keyed:
    """Groups of students in the learned world: a share is chosen in that of the first seed."""
    of_seeds = call.function is choosing.best_data
    short = call.function is choosing.best_share
    students = config.selection.students if short else len(config.seeds)
    worlds = len(call.seeds) if of_seeds else 1
    how = students // worlds, config.selection.episodes, groups * worlds
    return _judging("choices", config, recorded, task, *how)


def _judging(
    name: str,
    config: Config,
    recorded: Trajectories,
    task: Task,
    students: int,
    episodes: int,
    groups: int,
    visiting: bool = False,
) -> Keyed:
    """One step of students in the learned world: of so many groups of them, each for itself."""
    sizes = (task.state_size, *config.student.hidden, task.action_size)
    layers = [
        (
            jax.ShapeDtypeStruct((students, sizes[i], sizes[i + 1]), jnp.float32),
            jax.ShapeDtypeStruct((students, sizes[i + 1]), jnp.float32),
        )
        for i in range(len(sizes) - 1)
    ]
    policies = tuple(zip(*layers, strict=True))

    def prepare(among, place):
        mesh = devices.mesh(among=among[:1])  # it is not sharded
        key = jax.random.key(0)
        world = of_seed(fresh_world(config, recorded, key[None]), 0)
        starts = np.resize(recorded.initial_observations, (episodes, task.state_size))
        world, policies_, starts, key = place((world, policies, starts, key), devices.COPIED, mesh)
        return Prepared(
            *(referee.roll_out, (world, policies_, task, task.bounds, starts, key, visiting), mesh),
            done=lambda verdict: int(verdict.lengths.max()),
        )

    times = task.episode_limit * groups
    program = Program(f"{name}: students in the world", "step", times, "float32", prepare)
    return (referee.roll_out, name, students, episodes), program
