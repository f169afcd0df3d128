"""What holds of any imagined trajectories."""

import jax.numpy as jnp
import numpy as np

from tskd_jax.data.trajectories import IMAGINED


def assert_sound(trajectories, starts, task):
    """What must hold of any imagined trajectories."""
    first, last = trajectories.starts, trajectories.ends
    np.testing.assert_array_equal(trajectories.observations[first], starts)
    assert (trajectories.lengths >= 1).all()
    assert (trajectories.lengths <= task.episode_limit).all()
    # s'_i is s_{i+1} inside an episode, to the bit.
    inside = np.setdiff1d(np.arange(trajectories.size), last)
    np.testing.assert_array_equal(
        trajectories.next_observations[inside], trajectories.observations[inside + 1]
    )
    # It goes on exactly while the task's rule says so, or up to the limit.
    alive = np.asarray(task.alive(jnp.asarray(trajectories.next_observations)))
    assert alive[inside].all()
    assert not trajectories.terminals[inside].any()
    np.testing.assert_array_equal(trajectories.terminals[last], ~alive[last])
    assert (trajectories.lengths[alive[last]] == task.episode_limit).all()
    for column in (trajectories.observations, trajectories.rewards, trajectories.actions):
        assert np.isfinite(column).all()
    assert (trajectories.source == IMAGINED).all()
