"""A world whose best stitch is known: three recorded paths, none of which leads to the goal.

A point in the plane moves by twice its action. Path A leads from the start to the right and into a
pit, B crosses A's bend and falls into a pit further on, C crosses B's bend and reaches the goal:

    y = 3          B₀          C₀
                   ↓           ↓
    y = 0  A₀ → → →•→ → → → → →•→ → goal
                   ↓           ↓
    y = -3        pit         pit
           x = 0   3           5    7

Only A starts at the start. Only C is rewarded, with 10 for reaching the goal.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data.normalizer import Normalizer
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.tasks import Task
from tskd_jax.models import cloning
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.value import Value
from tskd_jax.policy import Bounds

GOAL, PIT = 6.5, -2.5
A = [(0, 0), (1, 0), (2, 0), (3, 0), (3, -1), (3, -2), (3, -3)]
B = [(3, 3), (3, 2), (3, 1), (3.05, 0), (4.05, 0), (5.05, 0), (5.05, -1), (5.05, -2), (5.05, -3)]
C = [(5, 3), (5, 2), (5, 1), (5.1, 0), (6.1, 0), (7.1, 0)]
# A's bend is left for B's, B's for C's: 0.05 away each, and further on.
BEST = [*A[:3], *B[3:5], *C[3:]]
LIMIT = 20
BOUNDS = Bounds.symmetric(1.0, 2)
TASK = Task("chain", "none", 2, BOUNDS, LIMIT, 0.0, 10.0, lambda s: s[..., 1] > PIT)


def step(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return states + 2 * np.clip(actions, -1, 1)


def at_goal(states: np.ndarray) -> np.ndarray:
    return (states[..., 0] >= GOAL) & (np.abs(states[..., 1]) < 1)


def actions_between(s: np.ndarray, s_next: np.ndarray) -> np.ndarray:
    return (s_next - s) / 2


def rewards_between(_s: np.ndarray, s_next: np.ndarray) -> np.ndarray:
    return 10 * at_goal(s_next).astype(np.float32)


def make_recorded() -> Trajectories:
    """A nine times, as most of a dataset is poor, and B and C once."""
    paths = [np.array(path, np.float32) for path in (*9 * [A], B, C)]
    states = np.concatenate([path[:-1] for path in paths])
    next_states = np.concatenate([path[1:] for path in paths])
    return from_columns(
        observations=states,
        actions=actions_between(states, next_states),
        rewards=rewards_between(states, next_states),
        next_observations=next_states,
        terminals=at_goal(next_states) | (next_states[:, 1] < PIT),
        lengths=[len(path) - 1 for path in paths],
    )


def identity(size: int) -> Normalizer:
    zeros, ones = np.zeros((1, size), np.float32), np.ones((1, size), np.float32)
    line = np.concatenate([zeros, ones])
    return Normalizer(raw=line, normal=line, low=zeros[0], high=ones[0], kind="gaussian")


def make_ensemble() -> DynamicsEnsemble:
    """Three equal Gaussians around one stride and a bit to the right: N(s + (1.1, 0), 0.5²).

    At A's bend, from (2, 0): the recorded (3, 0) is off by 0.1, B's (3.05, 0) by 0.05, so B's is
    likelier by (0.1² - 0.05²) / (2 · 0.5²) = 0.015 nats. At B's bend, from (4.05, 0), the same.
    """
    model = DynamicsEnsemble(
        params=None,
        states=identity(2),
        change_mean=np.array([1.1, 0], np.float32),
        change_deviation=np.array([0.5, 0.5], np.float32),
        resolution=np.zeros(1, np.float32),
        likelihood_quantiles=np.zeros(1001, np.float32),
        hidden=(1,),
    )
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
    return model.replace(params=jax.tree.map(jnp.zeros_like, params))


def make_value() -> Value:
    """V(x, y) = max(x, 0): the further right, the nearer to the goal."""
    model = Value(params=None, states=identity(2), scale=np.float32(1), hidden=(1,))
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 2))
    params = jax.tree.map(jnp.zeros_like, params)["params"]
    params["Dense_0"]["kernel"] = params["Dense_0"]["kernel"].at[:, 0].set(1)
    params["Dense_1"]["kernel"] = jnp.ones_like(params["Dense_1"]["kernel"])
    return model.replace(params={"params": params})


def clone(data: Trajectories):
    config = cloning.Config(steps=800, batch_size=64, hidden=(32, 32), learning_rate=3e-3)
    policies, _ = cloning.train(config, [data], TASK, (0, 1))
    return policies


def reaches_goal(policy) -> bool:
    """Whether the policy, from the start, is at the goal before it is in a pit or out of time."""
    state = np.zeros(2, np.float32)
    for _ in range(LIMIT):
        state = step(state, policy(state))
        if at_goal(state) or state[1] < PIT:
            break
    return bool(at_goal(state))
