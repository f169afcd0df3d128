"""The world that no recorded path crosses: values lead where imitation does not.

Nothing is promised of TD3+BC and ReBRAC here: they stay near the mean of what was done, which at a
crossing is neither of the two ways.
"""

import pytest
from stitching.chain_world import TASK, clone, make_recorded, reaches_goal

from tskd_jax.models import cql, iql

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimized")]
COMMON = {"hidden": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "target_average": 0.02}


def test_imitation_falls_into_the_pit():
    assert [reaches_goal(policy) for policy in clone(make_recorded())] == [False, False]


@pytest.mark.parametrize(
    ("module", "fields", "least"),
    [
        (iql, {"steps": 3000, "expectile": 0.9, "temperature": 10.0}, 4),
        # Its actor is noisy in training, which costs one of the seeds its way.
        (
            cql,
            {"steps": 2500, "actor_learning_rate": 3e-4, "threshold": 5.0, "weight": 1.0}
            | {"actions": 4, "discount": 0.8},
            3,
        ),
    ],
)
def test_values_lead_to_the_goal(module, fields, least):
    config = module.Config(**COMMON | fields)
    policies, _ = module.train(config, make_recorded(), TASK, (0, 1, 2, 3))
    assert sum(map(reaches_goal, policies)) >= least
