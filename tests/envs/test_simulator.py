"""Tests of the simulators' making; `record` is tested with the evaluation's episodes."""

import gymnasium
import pytest

from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import episode_seeds, make_environment


def test_environments_are_silent(capfd, recwarn):
    level = gymnasium.logger.min_level
    make_environment("Hopper-v4").close()
    assert gymnasium.logger.min_level == level
    assert "deprecated" not in capfd.readouterr().err
    assert not [w for w in recwarn if "out of date" in str(w.message)]


def test_seeds_of_episodes_are_distinct():
    seeds = [seed for student in range(20) for seed in episode_seeds(student, 1000)]
    assert len(set(seeds)) == 20_000
    assert min(seeds) >= 0
    assert max(seeds) < 2**31
    # More episodes begin with the same ones.
    assert episode_seeds(3, 100)[:10] == episode_seeds(3, 10)
    assert episode_seeds(0, 0) == []


@pytest.mark.parametrize("name", ["hopper", "halfcheetah", "walker2d"])
def test_making_an_environment_says_nothing(name, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_environment(get_task(name).gymnasium_id).close()
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
