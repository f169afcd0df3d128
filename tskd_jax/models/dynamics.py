"""Ensemble of forward dynamics p_i(s'|s) (section 5.1, Equations 8 and 9)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer, moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.fields import COUNT, NOT_NEGATIVE, WIDTHS, between, field
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.models import held_out
from tskd_jax.nn.mlp import MLP
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import (
    Training,
    TrainingConfig,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)

LOG_STD_RANGE = (-10.0, 2.0)
LEVELS = 1001  # of `likelihood_quantiles`
MAX_ROWS_MEASURED = 8192  # most rows trained on whose likelihood is measured
HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.dynamics`."""

    steps: int = steps_field(200_000, "Appendix B; steps are our choice")
    batch_size: int = batch_size_field(256, "Appendix B; steps are our choice")
    learning_rate: float = learning_rate_field(3e-4, "Appendix B; steps are our choice")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((300, 300, 300), WIDTHS, "hidden layers (Appendix B)")
    members: int = field(7, COUNT, "Gaussians trained (Appendix B)")
    elites: int = field(3, COUNT, "Gaussians kept, by held-out likelihood (Appendix B)")
    resolution: float = field(
        0.01,
        NOT_NEGATIVE,
        "deviation added to the ensemble's for imagination.min_likelihood_quantile, in standard "
        "deviations of the state: what a diffuser cannot resolve it is not blamed for",
    )
    held_out: float = field(0.1, between(0.001, 0.9), "share of transitions held out")


@struct.dataclass
class DynamicsEnsemble:
    """Gaussians over the next state, one for each member, in raw units.

    The networks see normalised states and predict the normalised change of state, which has the
    same scale in every dimension. `predict` gives means and deviations in raw units.

    Attributes:
      params: with the members as leading axis.
      states: normaliser of s.
      change_mean, change_deviation: (m,) of s' - s in the dataset; a dimension that never changes
        has deviation 1, so that its density is finite.
      resolution: (m,) deviation that `likelihoods` adds in quadrature to the members', raw units.
      likelihood_quantiles: (1001,) quantiles 0, 0.001, … 1 of `likelihoods` at held-out recorded
        transitions.
      hidden: widths of the hidden layers.
    """

    params: Leaf
    states: Normalizer
    change_mean: Leaf
    change_deviation: Leaf
    resolution: Leaf
    likelihood_quantiles: Leaf
    hidden: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def network(self) -> MLP:
        return MLP(self.hidden, 2 * self.change_mean.shape[0])

    def init(self, key: jax.Array) -> Leaf:
        """Fresh parameters of one member."""
        return self.network.init(key, jnp.zeros((1, self.change_mean.shape[0])))

    def change(
        self, params: Leaf, states: Float[Array, "batch state"]
    ) -> tuple[Float[Array, "batch state"], Float[Array, "batch state"]]:
        """One member's (mean, log deviation) of the normalised change of state."""
        output = self.network.apply(params, self.states.normalize(states))
        mean, log_std = jnp.split(output, 2, -1)
        return mean, jnp.clip(log_std, *LOG_STD_RANGE)

    def predict(
        self, states: Float[Array, "batch state"]
    ) -> tuple[Float[Array, "batch member state"], Float[Array, "batch member state"]]:
        """(mean, deviation) of s' by every member, raw units."""
        mean, log_std = jax.vmap(self.change, (0, None), 1)(self.params, states)
        scale = self.change_deviation[None, None]
        mean = states[:, None] + self.change_mean[None, None] + mean * scale
        return mean, jnp.exp(log_std) * scale

    def log_densities(
        self, states: Float[Array, "batch state"], next_states: Float[Array, "batch state"]
    ) -> Float[Array, "batch member"]:
        """log p_i(s'|s), raw units."""
        mean, deviation = self.predict(states)
        return gaussian_log_density(next_states[:, None], mean, deviation)

    def log_mean_density(
        self, states: Float[Array, "batch state"], next_states: Float[Array, "batch state"]
    ) -> Float[Array, " batch"]:
        """log mean_i p_i(s'|s), raw units: the right side of Equation 9."""
        return log_mean_exp(self.log_densities(states, next_states))


def gaussian_log_density(x: Array, mean: Array, deviation: Array) -> Array:
    """log N(x; mean, diag(deviation²)), summed over the last axis."""
    z = (x - mean) / deviation
    return (-0.5 * jnp.square(z) - jnp.log(deviation) - HALF_LOG_2PI).sum(-1)


def log_mean_exp(x: Float[Array, "batch member"]) -> Float[Array, " batch"]:
    """log of the mean of exp(x) over members; the densities themselves would overflow float32."""
    return jax.nn.logsumexp(x, axis=-1) - jnp.log(x.shape[-1])


def create(config: Config, trajectories: Trajectories) -> DynamicsEnsemble:
    """The ensemble of one seed for a dataset, without parameters."""
    mean, deviation = moments(trajectories.next_observations - trajectories.observations)
    return DynamicsEnsemble(
        params=None,
        states=fit_normalizer("gaussian", trajectories.observations),
        change_mean=mean.astype(np.float32),
        change_deviation=np.where(deviation > 0, deviation, 1.0).astype(np.float32),
        resolution=(config.resolution * moments(trajectories.observations)[1]).astype(np.float32),
        likelihood_quantiles=np.zeros(LEVELS, np.float32),
        hidden=config.hidden,
    )


def training(
    config: Config, trajectories: Trajectories, keys: jax.Array
) -> tuple[Training, list[tuple[np.ndarray, np.ndarray]]]:
    """The training of all members of all seeds by maximum likelihood.

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      keys: (S,).

    Returns:
      (the training; for each seed, the transitions trained on and those held out).
    """
    model = create(config, trajectories)
    columns = (trajectories.observations, trajectories.next_observations)
    scale, shift = model.change_deviation[None], model.change_mean[None]

    def loss(params, _ema, batch, _key):
        states, next_states = batch
        mean, log_std = model.change(params, states)
        change = (next_states - states - shift) / scale
        return -gaussian_log_density(change, mean, jnp.exp(log_std)).mean()

    return held_out.training(
        *("dynamics", config, trajectories, columns, keys),
        init=model.init,
        loss=loss,
        share=config.held_out,
        members=config.members,
    )


def train(
    config: Config,
    trajectories: Trajectories,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[DynamicsEnsemble, list[dict[str, float]]]:
    """Fit `members` Gaussians and keep the `elites` that are best on held-out data.

    Returns:
      (the ensemble with the seeds as leading axis of every leaf, parameters (S, elites, …);
      metrics of each seed).
    """
    plan, splits = training(config, trajectories, keys)
    fitted = fit(plan, callbacks)
    model = create(config, trajectories)
    models, metrics = zip(
        *(
            _keep_elites(
                config, model.replace(params=seeds.of_seed(fitted.params, i)), trajectories, *split
            )
            for i, split in enumerate(splits)
        ),
        strict=True,
    )
    return seeds.stack_seeds(models), list(metrics)


def _keep_elites(
    config: Config,
    model: DynamicsEnsemble,
    trajectories: Trajectories,
    rows: np.ndarray,
    held_out: np.ndarray,
) -> tuple[DynamicsEnsemble, dict[str, float]]:
    """Keep the members of one seed that explain the held-out rows best; also return metrics."""
    states, next_states = trajectories.observations, trajectories.next_observations
    unseen = states[held_out], next_states[held_out]
    densities = log_densities(model, *unseen)
    order = np.argsort(-densities.mean(0), kind="stable")[: config.elites]
    model = model.replace(params=jax.tree.map(lambda leaf: leaf[order], model.params))
    levels = np.linspace(0, 1, LEVELS)
    quantiles = np.quantile(likelihoods(model, *unseen), levels).astype(np.float32)
    model = model.replace(likelihood_quantiles=quantiles)
    seen = np.random.default_rng(0).permutation(rows)[:MAX_ROWS_MEASURED]
    return model, {
        "held_out_log_likelihood": float(log_mean_densities(model, *unseen).mean()),
        "trained_on_log_likelihood": float(
            log_mean_densities(model, states[seen], next_states[seen]).mean()
        ),
    }


_predict = jax.jit(lambda model, states: model.predict(states))
_log_densities = jax.jit(
    lambda model, states, next_states: model.log_densities(states, next_states)
)


def predictions(model: DynamicsEnsemble, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, deviation) by one seed's members: (N, m) -> two (N, members, m), on the host."""
    return in_batches(lambda s: _predict(model, s), states)


_log_mean_densities = jax.jit(lambda model, s, s_next: model.log_mean_density(s, s_next))


def log_mean_densities(
    model: DynamicsEnsemble, states: np.ndarray, next_states: np.ndarray
) -> np.ndarray:
    """log mean_i p_i(s'|s) by one seed's members: (N, m), (N, m) -> (N,), on the host."""
    return in_batches(lambda s, s_next: _log_mean_densities(model, s, s_next), states, next_states)


@jax.jit
def _likelihoods(model: DynamicsEnsemble, states, next_states):
    mean, deviation = model.predict(states)
    deviation = jnp.hypot(deviation, jnp.asarray(model.resolution)[None, None])
    return log_mean_exp(gaussian_log_density(next_states[:, None], mean, deviation))


def likelihoods(model: DynamicsEnsemble, states: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    """Like `log_mean_densities`, with the members' deviations widened by `resolution`.

    The ensemble of a nearly deterministic simulator is so sharp that every imagined transition,
    good or bad, is hundreds of deviations off. At the diffuser's resolution, the two differ.
    """
    return in_batches(lambda s, s_next: _likelihoods(model, s, s_next), states, next_states)


def log_densities(
    model: DynamicsEnsemble, states: np.ndarray, next_states: np.ndarray
) -> np.ndarray:
    """log p_i(s'|s) by one seed's members: (N, m), (N, m) -> (N, members), on the host."""
    return in_batches(lambda s, s_next: _log_densities(model, s, s_next), states, next_states)


def consistent_lengths(
    model: DynamicsEnsemble, trajectories: Trajectories, quantile: float
) -> np.ndarray:
    """(E,) transitions of each trajectory before the first that one seed's ensemble rejects.

    A transition is accepted if its likelihood is at least that quantile of the likelihoods of
    held-out recorded transitions.
    """
    least = np.interp(quantile, np.linspace(0, 1, LEVELS), model.likelihood_quantiles)
    likelihood = likelihoods(model, trajectories.observations, trajectories.next_observations)
    accepted = likelihood >= least
    first_rejected = np.where(accepted, trajectories.size, np.arange(trajectories.size))
    first_rejected = np.minimum.reduceat(first_rejected, trajectories.starts)
    return np.minimum(first_rejected - trajectories.starts, trajectories.lengths)
