"""Grids of configs: every combination, and mistakes before anything is done."""

import pytest
from tiny import ROOT

from tskd_jax.config import make_config
from tskd_jax.errors import ConfigError


@pytest.fixture
def grid(monkeypatch):
    """`--grid` arguments -> the combinations."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    from variants import grid

    config = make_config(
        "quick", environment="hopper", levels={"": "hopper-sac-replay"}, default="", overrides={}
    )
    return lambda *arguments: grid(config, arguments)


def test_every_combination_is_a_config(grid):
    found = grid("stitching.radius=0.1,0.2", "value.steps=7,8", "stitching.rule=value_first")
    assert [tuple(point.values()) for point, _ in found] == [
        (0.1, 7, "value_first"),
        (0.1, 8, "value_first"),
        (0.2, 7, "value_first"),
        (0.2, 8, "value_first"),
    ]
    point, config = found[2]
    assert list(point) == ["stitching.radius", "value.steps", "stitching.rule"]
    assert (config.stitching.radius, config.value.steps) == (0.2, 7)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["stitching.raduis=1"], r"did you mean config\.stitching\.radius"),
        (["stitching=1"], "is a section"),
        (["seed=1,2"], "a field of a section is meant"),
        (["stitching.radius=far"], "'far' is no float"),
        (["stitching.radius="], "'' is no float"),
        (["stitching.radius=0.1,-1"], "out of range"),
        (["stitching.radius=0.1,0.10"], "a value is there twice"),
        (["stitching.radius=0.1", "stitching.radius=0.2"], "is there twice"),
        (["imagination.enabled=yes"], "'yes' is no bool"),
        (["student.hidden=5"], "cannot be varied"),
        (["sampling.steps=5,500"], "more than"),
    ],
)
def test_mistakes(grid, arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        grid(*arguments)
