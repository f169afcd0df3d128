"""The compiled programs of a run: the arguments of each, and how often it runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from tskd_jax.config import Config
from tskd_jax.costs.fresh import fresh_inverse_dynamics, fresh_world
from tskd_jax.costs.stages import is_training, stages_of, training_of
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.machine import devices
from tskd_jax.methods.parts import choosing, imagining
from tskd_jax.methods.parts.pricing import DiffusionPricing
from tskd_jax.methods.parts.stitching import stitching
from tskd_jax.models import cloning, referee
from tskd_jax.run.stages import Call
from tskd_jax.stitching import tile_search
from tskd_jax.teacher import lockstep, planner, planning, reward_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.grounding import Grounding
from tskd_jax.training.chunk import chunk_of
from tskd_jax.training.seeds import of_seed

REWARDS_AT_ONCE = 512  # edges per batch of `reward_generator.rewards_between`
SEARCH = "stitching: search"
# How a program's arguments are placed: `devices.shapes`, or like `fresh.filled`.
Place = Callable[[Any, PartitionSpec, Mesh], Any]


def _the_same(arguments: tuple, _result: Any, _turns: int) -> tuple:
    return arguments


@dataclass(frozen=True)
class Prepared:
    """A program with its arguments, for given devices.

    Attributes:
      function: the jitted function.
      arguments: shapes or arrays, with their shardings.
      mesh: the devices.
      again: (arguments, result of the previous call or None, turns) -> arguments of the next call,
        which takes that many turns of the outer loop. By default, for a program without an outer
        loop, the same arguments.
      done: result -> turns that the call took; None: as many as it was called with, else one.
    """

    function: Any
    arguments: tuple
    mesh: Mesh
    again: Callable[[tuple, Any, int], tuple] = _the_same
    done: Callable[[Any], int] | None = None

    @property
    def turns(self) -> bool:
        """Whether one call may take several turns."""
        return self.again is not _the_same

    def trace(self) -> Any:
        """Trace the program."""
        with devices.on(self.mesh):
            return self.function.trace(*self.arguments)


@dataclass(frozen=True)
class Program:
    """A program of a run. If it has an outer loop, its costs are those of one turn.

    Attributes:
      name: the stage, and which part of it.
      once: what one turn is, in words.
      times: number of turns in a run; 0 if it is known only during the run.
      dtype: dtype of its matrix products.
      prepare: (devices, existing or not; how to place arguments) -> the program for these devices.
    """

    name: str
    once: str
    times: int
    dtype: str
    prepare: Callable[[Sequence[Any], Place], Prepared]

    @property
    def about(self) -> dict[str, Any]:
        """The program's columns in a table."""
        names = {"program": self.name, "once": self.once, "times": self.times}
        return names | {"dtype": self.dtype}


def programs_of(
    config: Config,
    compared: Sequence[tuple[str, str, str, Config]],
    recorded: Trajectories,
    task: Task,
) -> list[Program]:
    """List the programs of a run; equal programs are merged and their turns added up.

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
        teacher = outcome.teachers[0]
        runs = len(config.pipeline_seeds) * len(outcome.teachers)
        program = _planning(
            *("evaluation.teacher", teacher.trajectory_generator, config.sampling),
            *(config.evaluation.teacher_episodes, task.episode_limit * runs),
        )
        found["evaluation.teacher"] = program
    return list(found.values())


def _programs(
    call: Call, config: Config, recorded: Trajectories, task: Task
) -> list[tuple[Any, Program]]:
    """The programs of a stage, each with a key that equal programs share."""
    if is_training(call):
        shape = () if call.keys is None else call.keys.shape
        return [((call.function, call.config, shape), _training(call))]
    if call.function is imagining.imagine:
        return [(call.name, _imagination(call, config, recorded, task))]
    if call.function is imagining.plan_in_simulator:
        teacher, _, count = call.inputs
        times = task.episode_limit * len(call.seeds)
        model = teacher.trajectory_generator
        return [(call.name, _planning(call.name, model, call.config, count, times))]
    if call.function is stitching:
        return _stitching(call, config, recorded, task)
    if call.function in (choosing.best_data, choosing.confirmed_share):
        choices = len(call.inputs[0])
        return [(referee.judge, _judging(config, recorded, task, choices, len(call.seeds)))]
    return []


def _training(call: Call) -> Program:
    def prepare(among, place):
        chunk = chunk_of(training_of(call), among)
        if place is devices.shapes:
            state, data = chunk.shapes()
        else:  # on noise the loss may become infinite, which would end the loop
            state, data = chunk.place(chunk.start()), chunk.place_data()

        def again(arguments, result, turns):
            state = arguments[0] if result is None else result[0]
            return state, data, np.int32(turns), np.float32(np.inf)

        arguments = state, data, np.int32(1), np.float32(0)
        return Prepared(chunk.program(state), arguments, chunk.mesh, again=again)

    name = "student" if call.function is cloning.train else call.name
    dtype = getattr(call.config, "dtype", "float32")
    return Program(name, "update", call.config.steps, dtype, prepare)


def _imagination(call: Call, config: Config, recorded: Trajectories, task: Task) -> Program:
    """One plan for a whole chunk of trajectories, and its steps in the learned world."""
    sampling, teacher, _, states, _, count, max_steps, repeat_states = call.inputs
    model, keys = teacher.trajectory_generator, call.keys
    seeds, every = len(call.seeds), sampling.replan_every
    if not repeat_states:
        count = min(count, len(states))
    each = min(count, max(1, call.config.chunk // seeds))
    max_steps = min(max_steps, task.episode_limit)

    def prepare(among, place):
        grounding, action_size = None, 0
        if call.config.world != "none":
            inverse = fresh_inverse_dynamics(config, recorded, task, keys)
            world = fresh_world(config, recorded, keys)
            grounding = Grounding(inverse, world, call.config.world == "random_member")
            action_size = task.action_size
        mesh = devices.mesh(among=among)
        rows = _padded(1 << (each - 1).bit_length(), mesh) * seeds
        progress = lockstep.nothing_imagined(
            model, sampling, max_steps, rows, task.state_size, action_size
        )
        progress = progress.replace(key=np.zeros((rows, 2), np.uint32), time=None)
        progress = place(progress, devices.BY_ROWS, mesh)
        start = place(np.int32(0), devices.COPIED, mesh)
        placed, grounding = place((model, grounding), devices.COPIED, mesh)

        def again(arguments, result, turns):
            progress = arguments[4] if result is None else result
            turns = min(turns, -(-max_steps // every))
            start = devices.copied(np.int32(0), mesh)
            return (*arguments[:4], progress.replace(time=start), turns, -1, grounding)

        arguments = (placed, sampling, task, max_steps, progress.replace(time=start), 1, 0)
        return Prepared(
            *(lockstep.advance, (*arguments, grounding), mesh),
            again=again,
            done=lambda progress: int(progress.time) // every,
        )

    plans = math.ceil(max_steps / every) * math.ceil(count / each)
    return Program(call.name, "plan", plans, model.config.dtype, prepare)


def _planning(name: str, model: Diffuser, sampling: Any, episodes: int, times: int) -> Program:
    """One plan for all episodes in the simulator."""
    model, sampling = of_seed(model, 0), sampling.of_observed_states()
    size, context = model.states.low.shape[-1], model.config.context

    def prepare(among, place):
        mesh = devices.mesh(among=among)
        rows = _padded(episodes, mesh)
        earlier = jax.eval_shape(lambda: planning.no_plan(model, rows))
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
        history = jax.ShapeDtypeStruct((rows, context, size), jnp.float32)
        history, keys, earlier = place((history, keys, earlier), devices.BY_ROWS, mesh)
        now = np.int32(context)
        placed = place(model, devices.COPIED, mesh)
        return Prepared(
            planner.plan_step, (placed, sampling, history, now, keys, earlier, now), mesh
        )

    return Program(name, "plan", times, model.config.dtype, prepare)


def _stitching(
    call: Call, config: Config, recorded: Trajectories, task: Task
) -> list[tuple[Any, Program]]:
    """The search on an accelerator, and DDR-II's rewards for a batch of stitches."""
    _, _, pricing, *_ = call.inputs
    size, rows = task.state_size, recorded.size
    tested = config.dynamics.elites if call.config.rule == "density_first" else 0

    def search(among, _place):
        mesh = devices.mesh(among=among)
        return Prepared(*tile_search.program(rows, size, tested, mesh), mesh)

    found: list[tuple[Any, Program]] = [("search", Program(SEARCH, "tile", 0, "float32", search))]
    if isinstance(pricing, DiffusionPricing):
        model, sampling = of_seed(pricing.reward_generator, 0), pricing.sampling

        def rewards(among, place):
            mesh = devices.mesh(among=among)
            batch = _padded(REWARDS_AT_ONCE, mesh)
            pair = jax.ShapeDtypeStruct((batch, size), jnp.float32)
            keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
            given = place((pair, pair, keys), devices.BY_ROWS, mesh)
            placed = place(model, devices.COPIED, mesh)
            return Prepared(reward_generator.rewards_of_batch, (placed, sampling, *given), mesh)

        once = f"{REWARDS_AT_ONCE} edges"
        of_batch = Program("stitching: rewards", once, 0, model.config.dtype, rewards)
        found.append(("rewards", of_batch))
    return found


def _judging(
    config: Config, recorded: Trajectories, task: Task, choices: int, seeds: int
) -> Program:
    """One step of students in the learned world."""
    students, episodes = len(config.seeds) // seeds, config.selection.episodes
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
            *(referee.roll_out, (world, policies_, task, task.bounds, starts, key, False), mesh),
            done=lambda verdict: int(verdict.lengths.max()),
        )

    times = task.episode_limit * choices * seeds
    return Program("choices: students in the world", "step", times, "float32", prepare)


def _padded(rows: int, mesh: Mesh) -> int:
    """As `devices.padded`, for the given mesh."""
    return -(-rows // mesh.size) * mesh.size
