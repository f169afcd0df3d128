"""What students imitate of the data that is kept and of what was imagined from it."""

import numpy as np

from tskd_jax.data.trajectories import IMAGINED, RECORDED, STITCHED, concatenate, from_columns
from tskd_jax.methods.method import beside, replaced


def steps(states, action, lengths, source):
    """Transitions of one-dimensional states, all with that action."""
    states = np.asarray(states, np.float32)[:, None]
    return from_columns(
        observations=states,
        actions=np.full_like(states, action),
        rewards=np.zeros(len(states)),
        next_observations=states + 1,
        terminals=np.zeros(len(states), bool),
        lengths=lengths,
        source=source,
    )


def test_an_imagined_transition_replaces_what_was_recorded_from_its_state():
    recorded = steps([0, 1, 2, 3, 1], 0.0, [4, 1], RECORDED)
    stitched = steps([1, 7], 0.5, [2], STITCHED)
    imagined = steps([1, 2], 1.0, [1, 1], IMAGINED)
    data = replaced(concatenate([recorded, stitched]), imagined)
    # 1 and 2 are taken from the recorded episodes, which fall apart; a stitch stays what it is.
    assert data.observations[:, 0].tolist() == [0, 3, 1, 7, 1, 2]
    assert data.actions[:, 0].tolist() == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert data.source.tolist() == [RECORDED] * 2 + [STITCHED] * 2 + [IMAGINED] * 2
    assert data.lengths.tolist() == [1, 1, 2, 1, 1]


def test_where_nothing_was_believed_everything_stays():
    recorded = steps([0, 1, 2], 0.0, [3], RECORDED)
    data = replaced(recorded, recorded.select(np.arange(0)))
    assert data.observations.tolist() == recorded.observations.tolist()
    assert data.lengths.tolist() == [3]


def test_beside_each_other_nothing_is_lost():
    recorded = steps([0, 1], 0.0, [2], RECORDED)
    imagined = steps([0, 1], 1.0, [1, 1], IMAGINED)
    assert beside(recorded, imagined).actions[:, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
