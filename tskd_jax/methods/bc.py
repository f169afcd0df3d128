"""Behavioural cloning of all recorded transitions: the baseline of every comparison."""

from tskd_jax.methods.base import Experiment, Method, NoFields, Outcome


def train(exp: Experiment, _own: NoFields) -> Outcome:
    """Fit π(s) to the recorded actions by mean squared error (section 3)."""
    data = [exp.recorded]
    return Outcome(exp.distil(data), data)


METHOD = Method("BC", "behavioural cloning of all recorded transitions", train)
