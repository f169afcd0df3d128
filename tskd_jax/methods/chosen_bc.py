"""Behavioural cloning of what the filter keeps: TSKD without a teacher and stitching."""

from tskd_jax.methods.base import Experiment, Method, NoFields, Outcome
from tskd_jax.methods.parts.choosing import choose_share


def train(exp: Experiment, _own: NoFields) -> Outcome:
    """Clone the recorded episodes that TSKD's own filter keeps."""
    exp = choose_share(exp)
    data = exp.select([exp.recorded])
    return Outcome(exp.distil(data), data)


METHOD = Method(
    "filtered BC (TSKD's filter)",
    "behavioural cloning of the recorded episodes that TSKD's filter keeps",
    train,
)
