"""Methods that end in planners: their stages, and what a field of the config changes."""

import pytest
from methods.traced import trace

from tskd_jax.config import finalize, make_config
from tskd_jax.methods import decision_diffuser, diffuser


@pytest.fixture
def no_actors(monkeypatch):
    """A trace has no networks that actors could be made of."""
    monkeypatch.setattr(decision_diffuser, "PlanningActor", lambda *parts: parts)
    monkeypatch.setattr(diffuser, "GuidedActor", lambda *parts: parts)


def paper():
    return finalize(make_config("hopper", "paper,embedded"))[0]


STAGES = {
    "decision_diffuser": ["inverse_dynamics", "student.decision_diffuser"],
    "diffuser": ["value_guide", "student.diffuser"],
}


@pytest.mark.parametrize("name", STAGES)
def test_the_stages_of_a_planner(no_actors, tiny_trajectories, name):
    run, outcome = trace(name, paper(), tiny_trajectories)
    assert list(run.keys) == STAGES[name]
    assert len(outcome.policies) == 5  # one for each seed
    assert not outcome.teachers


@pytest.mark.parametrize(
    ("name", "changes", "stages"),
    [
        ("decision_diffuser", {"seeds": (7,)}, {"student.decision_diffuser"}),
        ("decision_diffuser", {"decision_diffuser.steps": 7}, {"student.decision_diffuser"}),
        ("decision_diffuser", {"inverse_dynamics.steps": 7}, {"inverse_dynamics"}),
        # How it plans is no part of what is trained.
        ("decision_diffuser", {"decision_diffuser.guidance": 3.0}, set()),
        ("decision_diffuser", {"trajectory_generator.steps": 7}, set()),
        ("decision_diffuser", {"seed_axis": "pipeline"}, {"inverse_dynamics"}),
        ("diffuser", {"seeds": (7,)}, {"value_guide", "student.diffuser"}),
        ("diffuser", {"seed": 7}, set()),
        ("diffuser", {"diffuser.steps": 7}, {"student.diffuser"}),
        ("diffuser", {"diffuser.horizon": 7}, {"value_guide", "student.diffuser"}),
        ("diffuser", {"value_guide.steps": 7}, {"value_guide"}),
        ("diffuser", {"diffuser.plans": 7}, set()),
    ],
)
def test_what_a_field_changes_in_a_planner(no_actors, tiny_trajectories, name, changes, stages):
    before, _ = trace(name, paper(), tiny_trajectories)
    after, _ = trace(name, paper(), tiny_trajectories, changes)
    assert {stage for stage in before.keys if before.keys[stage] != after.keys[stage]} == stages
