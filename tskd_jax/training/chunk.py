"""The program that a training repeats: a chunk of updates of all seeds and members.

It is described for a mesh before anything is placed on it, so it can be compiled for devices that
this machine does not have (`machine/aot.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from tskd_jax.machine import devices
from tskd_jax.training import seeds
from tskd_jax.training.training import Training, TrainState, make_update


@dataclass(frozen=True)
class Chunk:
    """A training on a mesh.

    Attributes:
      training: what is trained.
      mesh: the devices it runs on.
    """

    training: Training
    mesh: Mesh

    def start(self) -> TrainState:
        """The state before the first update, where JAX puts it by default."""
        keys, training = self.training.keys, self.training

        def of_member(key, initial):
            params = training.init(jax.random.fold_in(key, 0)) if initial is None else initial
            # Copies: a donated buffer must neither appear twice nor belong to the caller.
            own, average = (jax.tree.map(jnp.copy, params) for _ in range(2))
            return own, average, training.optimizer.init(params)

        start = jax.jit(self._over_members(of_member))
        params, average, opt_state = start(keys, training.initial)
        return TrainState(params, average, opt_state, jnp.zeros((), jnp.int32), jnp.copy(keys))

    def place(self, state: TrainState) -> TrainState:
        """Place a state on the mesh: spread seeds and members, copy the rest."""
        step = devices.copied(state.step, self.mesh)
        placed = devices.place(state.replace(step=None), self._spread, self.mesh)
        return placed.replace(step=step)

    def place_data(self) -> Any:
        """Place the training's data on the mesh."""
        return self._map_data(devices.place)

    def shapes(self) -> tuple[TrainState, Any]:
        """The shapes of state and data with their placement on the mesh; computes nothing."""
        state = jax.eval_shape(self.start)
        step = devices.shapes(state.step, devices.COPIED, self.mesh)
        state = devices.shapes(state.replace(step=None), self._spread, self.mesh)
        return state.replace(step=step), self._map_data(devices.shapes)

    def program(self, state: TrainState) -> Any:
        """The jitted program, (state, data, updates, largest loss) -> see `_chunk`.

        Trace it, and lower the result, inside `devices.on(mesh)`.

        Args:
          state: arrays or shapes, with their placement; the program donates this argument.
        """
        training, shape = self.training, self.training.keys.shape
        update = self._over_members(
            make_update(training),
            (0, 0, 0, 0, None, training.data_axes),
            (0, 0, 0, 0, None, training.member_axes),
        )
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
        return jax.jit(
            lambda *arguments: _chunk(update, shape, *arguments),
            donate_argnums=0,
            out_shardings=(shardings, *(shardings.step,) * 3),
        )

    @property
    def _spread(self) -> PartitionSpec:
        return PartitionSpec(*devices.MEMBERS[: self.training.keys.ndim])

    def _map_data(self, place: Callable[[Any, PartitionSpec, Mesh], Any]) -> Any:
        """Apply `place` to the data: spread parts with a leading seed axis, copy the rest."""

        def of_part(axis, part):
            spec = PartitionSpec(*devices.MEMBERS[:1] if axis == 0 else ())
            return place(part, spec, self.mesh)

        axes = self.training.data_axes
        return jax.tree.map(of_part, axes, self.training.data, is_leaf=lambda axis: axis is None)

    def _over_members(
        self, function: Callable[..., Any], outer: Any = 0, inner: Any = 0
    ) -> Callable[..., Any]:
        """Map a function over seeds and members, with `in_axes` `outer` and `inner`."""
        shape = self.training.keys.shape
        for axis in reversed(range(len(shape))):
            in_axes = outer if axis == 0 else inner
            function = seeds.map_axis(
                function, shape[axis], in_axes, spmd_axis_name=devices.MEMBERS[axis]
            )
        return function


def chunk_of(training: Training, among: Sequence[Any] | None = None) -> Chunk:
    """The chunk of a training, on the mesh that suits it.

    Args:
      training: what is trained.
      among: devices, of this machine or not; None: all of JAX's devices.
    """
    keys = training.keys
    batch = jax.eval_shape(training.draw, training.seen_by((0,) * keys.ndim), keys.ravel()[0])
    rows = (*jax.tree.leaves(batch)[0].shape, 1)[0]
    return Chunk(training, devices.mesh(keys.shape, rows, among))


def _chunk(update, shape: tuple[int, ...], state: TrainState, data, count, largest):
    """Run `count` updates of all members, or fewer if one diverges."""

    def body(carry):
        state, _, sums, _, done, _ = carry
        params, average, opt_state, updates, metrics = update(
            state.params, state.ema, state.opt_state, state.key, state.step, data
        )
        good = (jnp.abs(metrics["loss"]) <= largest) & jnp.isfinite(metrics["gradient_norm"])
        state = state.replace(params=params, ema=average, opt_state=opt_state, step=state.step + 1)
        sums = {name: total + jnp.mean(metrics[name]) for name, total in sums.items()}
        return state, updates, sums, metrics, done + 1, good.all()

    names = ("loss", "gradient_norm")
    carry = (
        *(state, jax.tree.map(jnp.zeros_like, state.params), dict.fromkeys(names, jnp.zeros(()))),
        *({name: jnp.zeros(shape) for name in names}, 0, True),
    )
    carry = jax.lax.while_loop(lambda c: (c[4] < count) & c[5], body, carry)
    state, updates, sums, last, done, good = carry
    # Only for the last update, and after the loop: inside it, XLA on a GPU computes these norms for
    # every update, which makes the optimizer's kernels copy the arrays that they change.
    means = {name: sums[name] / done for name in names}
    means["update_norm"] = jnp.mean(_norms(updates, len(shape)))
    means["parameter_norm"] = jnp.mean(_norms(state.params, len(shape)))
    return state, means, last, good


def _norms(tree: Any, axes: int) -> jax.Array:
    """The norm of each member's part of a tree; members are its first `axes` axes."""
    squares = [jnp.sum(leaf**2, range(axes, leaf.ndim)) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares))
