"""Diffuser's model (Janner et al. 2022, section 3): states and actions of a window, jointly.

A token is (s_t, a_t). The present state is known, as in inpainting (their section 3.3), and nothing
else. There is no condition: `value_guide` steers sampling towards valuable plans.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.data.windows import SequenceBuffer, make_sequence_buffer, window_rows
from tskd_jax.diffusion import Schedule, as_noise, cosine_schedule, diffusion_loss
from tskd_jax.machine.types import Leaf
from tskd_jax.nn.unet import TemporalUNet
from tskd_jax.teacher.diffuser import loss_metrics
from tskd_jax.teacher.joint_config import ModelConfig
from tskd_jax.training import seeds
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Training


@struct.dataclass
class Scales:
    """The normalisers of a token's parts.

    Attributes:
      states, actions: of the states (m,) and of the actions (n,).
    """

    states: Normalizer
    actions: Normalizer

    @property
    def token_size(self) -> int:
        """m + n."""
        return self.states.raw.shape[-1] + self.actions.raw.shape[-1]

    def bounds(self) -> tuple[Float[Array, " token"], Float[Array, " token"]]:
        """The range of the data, to which samples are clipped."""
        low, high = (
            jnp.concatenate([getattr(self.states, end), getattr(self.actions, end)])
            for end in ("low", "high")
        )
        return low, high


def fit_scales(kind: str, recorded: Trajectories) -> Scales:
    """The normalisers of a dataset; `kind` is one of `data.normalizer.KINDS`.

    The last state of an episode occurs only as a next state; it is included.
    """
    last_states = recorded.next_observations[recorded.ends]
    return Scales(
        states=fit_normalizer(kind, np.concatenate([recorded.observations, last_states])),
        actions=fit_normalizer(kind, recorded.actions),
    )


class JointBuffer(NamedTuple):
    """All episodes, normalised, for windows of states and actions.

    Attributes:
      steps: states, where episodes begin and end, and labels.
      actions: (N + E, n), zeros at an episode's last state, where no action is taken.
    """

    steps: SequenceBuffer
    actions: Leaf


class JointWindow(NamedTuple):
    """H tokens, starting at each of a batch of transitions.

    Attributes:
      tokens: (B, H, m + n); after an episode's end, its last state and zeros for the action.
      exists: (B, H, m + n), false for what lies after the episode's end.
      labels: (B,) of the transitions.
    """

    tokens: Float[Array, "batch horizon token"]
    exists: Bool[Array, "batch horizon token"]
    labels: Float[Array, " batch"]


def make_joint_buffer(recorded: Trajectories, scales: Scales, labels: np.ndarray) -> JointBuffer:
    """Lay out trajectories for `joint_window`; `labels` (N,) belong to the transitions."""
    rewards = fit_normalizer("limits", recorded.rewards[:, None])
    steps = make_sequence_buffer(recorded, scales.states, rewards, labels)
    size = recorded.actions.shape[1]
    actions = jnp.zeros((len(steps.states), size)).at[steps.row]
    return JointBuffer(steps, actions.set(scales.actions.normalize(recorded.actions)))


def joint_window(
    buffer: JointBuffer, transitions: Int[Array, " batch"], horizon: int
) -> JointWindow:
    """The windows that begin with these transitions."""
    w = window_rows(buffer.steps, transitions, horizon, 1)
    parts = buffer.steps.states[w.rows], buffer.actions[w.rows]
    exists = [
        jnp.broadcast_to(there[:, :, None], part.shape)
        for there, part in zip((w.state_exists, w.step_exists), parts, strict=True)
    ]
    return JointWindow(
        jnp.concatenate(parts, -1),
        jnp.concatenate(exists, -1),
        buffer.steps.labels[transitions],
    )


def is_present_state(horizon: int, scales: Scales) -> Bool[Array, "1 horizon token"]:
    """The mask of the present state, which is known, in a plan."""
    is_state = jnp.arange(scales.token_size) < scales.states.raw.shape[-1]
    return ((jnp.arange(horizon) == 0)[:, None] & is_state[None])[None]


@struct.dataclass
class JointDiffuser:
    """A diffuser over states and actions. Shapes are those of one seed; several add an axis.

    Attributes:
      params: of the U-Net, as used by sampling: the moving average.
      scales: the normalisers.
      config: of this model.
    """

    params: Leaf
    scales: Scales
    config: ModelConfig = struct.field(pytree_node=False)

    @property
    def network(self) -> TemporalUNet:
        config = self.config
        return TemporalUNet(config.features, config.multipliers, config.kernel_size)

    @property
    def schedule(self) -> Schedule:
        return cosine_schedule(self.config.diffusion_steps)

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters."""
        x = jnp.zeros((1, self.config.horizon, self.scales.token_size))
        return self.network.init(key, x, jnp.zeros(1, jnp.int32))

    def apply(self, params: Any, x: Array, step: Array, _y: Array, _keep: Array) -> Array:
        """The network's output for (x, k), with the signature of a conditional network."""
        return self.network.apply(params, x, step)

    def denoise(
        self, x: Float[Array, "batch horizon token"], step: Int[Array, " steps"]
    ) -> Float[Array, "batch horizon token"]:
        """ε(x, k) of one step k for all rows, or of one for each; for samplers."""
        network = as_noise(self.config.prediction, self.schedule, self.apply)
        nothing = jnp.zeros(1)
        return network(self.params, x, step, nothing, nothing)


def training(
    config: ModelConfig, recorded: Trajectories, keys: jax.Array
) -> tuple[Training, JointDiffuser]:
    """The training on all windows of the dataset (their Equation 4).

    Args:
      config: of this part.
      recorded: the dataset.
      keys: (S,).

    Returns:
      (the training; the model of one seed, without parameters).
    """
    scales = fit_scales(config.normalizer, recorded)
    model = JointDiffuser(None, scales, config)
    is_known = is_present_state(config.horizon, scales)
    is_action = jnp.arange(scales.token_size) >= recorded.observations.shape[1]
    is_first = (jnp.arange(config.horizon) == 0)[:, None] & is_action[None]
    weight = jnp.where(is_first, config.action_weight, 1.0)[None]

    def loss(params, _ema, batch, key):
        transitions, buffer = batch
        w = joint_window(buffer, transitions, config.horizon)
        return diffusion_loss(
            model.apply,
            params,
            model.schedule,
            w.tokens,
            jnp.zeros(len(w.tokens)),
            known=jnp.broadcast_to(is_known, w.tokens.shape),
            known_values=w.tokens,
            weight=w.exists * weight,
            drop_condition=0.0,
            prediction=config.prediction,
            key=key,
        )

    plan = Training(
        name="joint_diffuser",
        init=model.init,
        loss=loss,
        draw=draw_windows(config.batch_size),
        data=window_data(recorded, scales, np.zeros(recorded.size)),
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=keys,
        accumulate=config.accumulate,
        ema=config.ema(),
    )
    return plan, model


def window_data(
    recorded: Trajectories, scales: Scales, labels: np.ndarray
) -> tuple[np.ndarray, JointBuffer]:
    """`Training.data` for `draw_windows`: the transitions, and the buffer of their windows."""
    buffer = make_joint_buffer(recorded, scales, labels)
    return np.arange(recorded.size, dtype=np.int32), buffer


def draw_windows(batch_size: int):
    """`Training.draw` for `window_data`: uniformly drawn transitions, and the buffer."""

    def draw(data, key):
        transitions, buffer = data
        return uniform_rows(transitions, key, batch_size), buffer

    return draw


def train(
    config: ModelConfig,
    recorded: Trajectories,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[JointDiffuser, list[dict[str, Any]]]:
    """Fit the model; arguments as for `training`.

    Returns:
      (the model with the seeds as leading axis of every leaf; metrics of each seed: `loss` is the
      mean over all seeds, and missing if nothing was left to train).
    """
    plan, model = training(config, recorded, keys)
    fitted, count = fit(plan, callbacks), len(keys)
    models = seeds.for_seeds(model, count).replace(params=fitted.ema)
    return models, loss_metrics(fitted, count)
