"""Films of environments that behave badly; those of a robot are tested with the command."""

import gymnasium
import numpy as np
import pytest
from envs import odd_environments as odd

from tskd_jax.envs.film import film
from tskd_jax.errors import ConfigError
from tskd_jax.policy import Bounds, Policy

NAME = "odd/Filmed-v0"
POLICY = Policy(
    (np.array([[0.0], [1.0]], np.float32),),
    (np.array([9.0], np.float32),),
    Bounds((-0.1,), (0.1,)),
)


@pytest.fixture
def filmed():
    """Registers one of the odd environments, which can be drawn."""

    def register(kind):
        def make(render_mode):
            environment = kind()
            environment.render_mode, environment.metadata = render_mode, {"render_modes": []}
            environment.render = lambda: np.zeros((2, 2, 3), np.uint8)
            return environment

        gymnasium.register(NAME, make)

    yield register
    gymnasium.registry.pop(NAME)


@pytest.mark.parametrize("kind", [odd.Strict, odd.Strict64, odd.Diverging, odd.Tuples])
def test_what_a_policy_can_be_scored_in_can_be_filmed(kind, filmed):
    filmed(kind)
    frames, gained = film(POLICY, NAME, 0, 2, 9)
    assert (len(frames), gained) == (3, 4.0)


@pytest.mark.parametrize(
    ("kind", "seed", "words"),
    [
        (odd.Failing, 3, r"the environment itself fails \(ZeroDivisionError: no friction\)"),
        (odd.Old, 0, r"its reset returns a ndarray, not \(observation, info\)"),
        (odd.Reshaped, 0, r"its step 3 gives an observation of shape \(2, 1\)"),
    ],
)
def test_an_environment_that_fails_is_one_line(kind, seed, words, filmed):
    filmed(kind)
    with pytest.raises(ConfigError, match=f"^{NAME}: {words}"):
        film(POLICY, NAME, seed, 2, 9)
