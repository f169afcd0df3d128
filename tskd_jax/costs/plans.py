"""Programs that make plans: for what is imagined, for a distilled network, and for the simulator.

Each function returns pairs of (a key that equal programs share, a program).
"""

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.config import Config
from tskd_jax.costs.fresh import fresh_inverse_dynamics, fresh_world
from tskd_jax.costs.program import Keyed, Prepared, Program, padded
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.machine import devices
from tskd_jax.methods.base import Teacher
from tskd_jax.run.stages import Call
from tskd_jax.teacher import imagination, lockstep, plan_paths, planner, planning
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.grounding import Grounding
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training.seeds import of_seed


def of_imagination(call: Call, config: Config, recorded: Trajectories, task: Task) -> list[Keyed]:
    """The plans of `imagining.imagine`."""
    sampling, teacher, _, states, _, count, max_steps, repeat_states = call.inputs
    if not repeat_states:
        count = min(count, len(states))
    how = call.config, sampling, teacher, count, max_steps
    return _imagined("imagination", *how, call.keys, config, recorded, task)


def of_aggregation(call: Call, config: Config, recorded: Trajectories, task: Task) -> list[Keyed]:
    """The teacher's answers in `aggregating.ask_teacher`, in as many states as are asked for."""
    aggregation, imagining, sampling = call.config
    how = imagining, sampling, call.inputs[0], aggregation.states, 1
    return _imagined("aggregation", *how, call.keys, config, recorded, task)


def _imagined(
    name: str,
    section: imagination.Config,
    sampling: SamplingConfig,
    teacher: Teacher,
    count: int,
    max_steps: int,
    keys: jax.Array,
    config: Config,
    recorded: Trajectories,
    task: Task,
) -> list[Keyed]:
    """One plan for a whole chunk of trajectories, and its steps in the learned world.

    `count` trajectories of each seed are imagined in chunks of one size, and the rest in a smaller
    one.
    """
    model, seeds = teacher.trajectory_generator, len(keys)
    max_steps = min(max_steps, task.episode_limit)
    plans = -(-max_steps // sampling.replan_every)
    each = max(1, section.chunk // seeds)
    found = []
    for size, chunks in ((each, count // each), (count % each, 1)):
        if not size or not chunks:
            continue
        bucket = 1 << (size - 1).bit_length()
        how = bucket, model, sampling, section, max_steps, keys
        program = _lockstep(name, plans * chunks, *how, config, recorded, task)
        about = bucket, seeds, model.config, sampling, section, max_steps
        found.append(((lockstep.advance, *about), program))
    return found


def _lockstep(
    name: str,
    times: int,
    bucket: int,
    model: Diffuser,
    sampling: SamplingConfig,
    section: imagination.Config,
    max_steps: int,
    keys: jax.Array,
    config: Config,
    recorded: Trajectories,
    task: Task,
) -> Program:
    """One plan for `bucket` trajectories of each seed."""
    seeds, every = len(keys), sampling.replan_every

    def prepare(among, place):
        grounding, action_size = None, 0
        if section.world != "none":
            inverse = fresh_inverse_dynamics(config, recorded, task, keys)
            models = fresh_world(config, recorded, keys)
            random_member, noise = section.world == "random_member", section.noise_over(max_steps)
            grounding = Grounding(inverse, models, random_member, noise)
            action_size = task.action_size
        mesh = devices.mesh(among=among)
        rows = padded(bucket, mesh) * seeds
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

    return Program(name, _plan_of(bucket * seeds, sampling), times, model.config.dtype, prepare)


def in_simulator(
    name: str, model: Diffuser, sampling: SamplingConfig, episodes: int, times: int
) -> Keyed:
    """One plan for all episodes in the simulator."""
    model, sampling = of_seed(model, 0), sampling.of_observed_states()
    size, context = model.states.low.shape[-1], model.config.context

    def prepare(among, place):
        mesh = devices.mesh(among=among)
        rows = padded(episodes, mesh)
        earlier = jax.eval_shape(lambda: planning.no_plan(model, rows))
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
        history = jax.ShapeDtypeStruct((rows, context, size), jnp.float32)
        history, keys, earlier = place((history, keys, earlier), devices.BY_ROWS, mesh)
        now = np.int32(context)
        placed = place(model, devices.COPIED, mesh)
        return Prepared(
            planner.plan_step, (placed, sampling, history, now, keys, earlier, now), mesh
        )

    once = _plan_of(episodes, sampling)
    program = Program(name, once, times, model.config.dtype, prepare)
    return (planner.plan_step, model.config, sampling, episodes), program


def of_distillation(call: Call) -> Keyed:
    """DDR-I's plans from which `few_steps.train` makes its table."""
    sampling, ddr1, recorded = call.inputs
    model = of_seed(ddr1, 0)
    size, context = model.states.low.shape[-1], model.config.context
    windows = call.config.windows
    if not sampling.temperature:
        windows = min(windows, recorded.size)
    kinds = len({sampling, sampling.of_observed_states()})
    parts = [len(range(index, windows, kinds)) for index in range(kinds)]
    times = len(call.seeds) * sum(-(-part // plan_paths.AT_ONCE) for part in parts)
    rows = min(plan_paths.AT_ONCE, 1 << (parts[0] - 1).bit_length())

    def prepare(among, place):
        mesh = devices.mesh(among=among)
        batch = padded(rows, mesh)
        history = jax.ShapeDtypeStruct((batch, context, size), jnp.float32)
        length = jax.ShapeDtypeStruct((batch,), jnp.int32)
        keys = jax.ShapeDtypeStruct((batch, 2), jnp.uint32)
        given = place((history, length, keys), devices.BY_ROWS, mesh)
        placed = place(model, devices.COPIED, mesh)
        return Prepared(plan_paths.paths, (placed, sampling, *given), mesh)

    once = _plan_of(rows, sampling)
    program = Program("few_steps: plans", once, times, model.config.dtype, prepare)
    return (plan_paths.paths, model.config, sampling, rows), program


def _plan_of(rows: int, sampling: SamplingConfig) -> str:
    return f"plan of {rows} in {sampling.steps} steps"
