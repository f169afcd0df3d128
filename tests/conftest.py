"""Settings and small data that all tests share."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tskd_jax.data import load_dataset
from tskd_jax.data.formats.d4rl import write
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.tasks import Task
from tskd_jax.policy import Bounds
from tskd_jax.training.callbacks import TrainingCallbacks

# Nearly all of these tests' time is compilation. Without optimizations it takes less than half,
# without XLA's newer code generator a third less again, and each program is compiled once for this
# process and for those that tests start, which inherit all of it. With optimizations (`optimized`)
# LLVM's cheap ones alone: programs run five times as fast as without any, and compile in half the
# time of all.
_FLAGS = (
    *("--xla_cpu_use_fusion_emitters=false", "--xla_backend_optimization_level=1"),
    "--xla_llvm_disable_expensive_passes=true",
)
if _FLAGS[0] not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS])
_COMPILED = tempfile.TemporaryDirectory(prefix="tskd_jax_compiled_", ignore_cleanup_errors=True)
_SETTINGS = {
    "jax_compilation_cache_dir": os.environ.get("JAX_COMPILATION_CACHE_DIR", _COMPILED.name),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_disable_most_optimizations": True,
}
for _name, _value in _SETTINGS.items():
    jax.config.update(_name, _value)
    os.environ[_name.upper()] = str(int(_value) if isinstance(_value, bool) else _value)

# (1, 3) + (3,) is an error: a forgotten axis must not be filled in silently.
jax.config.update("jax_numpy_rank_promotion", "raise")

EPISODE_LIMIT = 10


@pytest.fixture(scope="module")
def optimized():
    """For a module whose programs run longer than they compile."""
    jax.config.update("jax_disable_most_optimizations", False)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0"
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"


def _alive(observations):
    return observations[..., 0] < 1.0


@pytest.fixture(scope="session")
def tiny_task() -> Task:
    """Alive while the first number of the state is below 1; episodes of at most 10 steps."""
    return Task(
        name="tiny",
        gymnasium_id="none",
        state_size=3,
        bounds=Bounds.symmetric(1.0, 2),
        episode_limit=EPISODE_LIMIT,
        random_return=0.0,
        expert_return=10.0,
        alive=_alive,
        position_size=1,
    )


@pytest.fixture(scope="session")
def tiny_trajectories() -> Trajectories:
    """24 episodes of m = 3 and n = 2, by turns terminal, truncated at the limit, short fragment.

    A state is a bounded walk that the actions push; the first number is above 1 in the state that
    ends a terminal episode and below it in all others, as `tiny_task` has it.
    """
    rng = np.random.default_rng(0)
    parts = []
    for episode in range(24):
        kind = ("terminal", "truncated", "fragment")[episode % 3]
        length = {"terminal": 3 + episode % 5, "truncated": EPISODE_LIMIT, "fragment": 4}[kind]
        actions = rng.uniform(-0.9, 0.9, (length, 2))
        states = [rng.uniform(-0.8, 0.8, 3)]
        for action in actions:
            push = np.array([action[0], action[1], action[0] - action[1]])
            states.append(np.clip(0.8 * states[-1] + 0.3 * push, -0.95, 0.95))
        states = np.array(states)
        if kind == "terminal":
            states[-1, 0] = 1.2
        terminals = np.zeros(length, bool)
        terminals[-1] = kind == "terminal"
        parts.append((states[:-1], actions, states[1:, 1] + 0.5, states[1:], terminals, length))
    *columns, lengths = zip(*parts, strict=True)
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    columns = dict(zip(names, map(np.concatenate, columns), strict=True))
    return from_columns(lengths=lengths, **columns)


@pytest.fixture(scope="session")
def tiny_config() -> SimpleNamespace:
    """A section for each part, whose diffusers train in seconds; all else at its default."""
    # Here, so that tests of one room run while another one is broken.
    from tskd_jax.models import baseline, cloning, dynamics, inverse_dynamics, value
    from tskd_jax.stitching import successors
    from tskd_jax.teacher import diffuser, reward_generator, trajectory_generator

    small = {
        "features": 8,
        "multipliers": (1,),
        "diffusion_steps": 10,
        "steps": 200,
        "batch_size": 32,
        "learning_rate": 2e-3,
    }
    few_steps = {"sampler": "ddim", "steps": 4}
    return SimpleNamespace(
        inverse_dynamics=inverse_dynamics.Config(),
        dynamics=dynamics.Config(),
        value=value.Config(),
        baseline=baseline.Config(),
        stitching=successors.Config(),
        student=cloning.Config(),
        trajectory_generator=replace(trajectory_generator.Config(), **small, horizon=8, context=3),
        reward_generator=replace(reward_generator.Config(), **small, horizon=2),
        sampling=replace(trajectory_generator.SamplingConfig(), **few_steps),
        reward_sampling=replace(diffuser.SamplingConfig(), **few_steps),
    )


@pytest.fixture(scope="session")
def tiny_generators(tiny_config, tiny_trajectories):
    """(DDR-I trained on the tiny trajectories, seeds (1, …), its metrics, the loss by chunk)."""
    from tskd_jax.teacher import trajectory_generator

    losses = []
    model, metrics = trajectory_generator.train(
        tiny_config.trajectory_generator,
        tiny_trajectories,
        None,
        None,
        keys=jax.random.key(0)[None],
        callbacks=TrainingCallbacks(
            on_progress=lambda done, steps, metrics: losses.append(metrics["loss"])
        ),
    )
    return model, metrics, losses


@pytest.fixture(scope="session")
def tiny_generator(tiny_generators):
    """DDR-I of one seed, trained on the tiny trajectories."""
    from tskd_jax.training.seeds import of_seed

    return of_seed(tiny_generators[0], 0)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """A few episodes of the embedded data, so that every stage is short."""
    path = tmp_path_factory.mktemp("data") / "few.hdf5"
    write(path, load_dataset("hopper-sac-replay").select(np.arange(0, 600, 20)), {})
    return path
