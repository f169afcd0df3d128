"""What uses a chip best: the points of a grid, and each beside the first."""

import pytest
from tiny import import_script

from tskd_jax.config import make_config
from tskd_jax.errors import ConfigError

pytestmark = pytest.mark.slow

chips = import_script("benchmarks.chips")


def test_every_combination_is_a_config_of_its_own():
    base = make_config("hopper", "quick")
    found = chips.points(base, [1, 2], ["trajectory_generator.dtype=float32,bfloat16"])
    assert [varied for varied, _ in found] == [
        {"seeds": seeds, "trajectory_generator.dtype": dtype}
        for seeds in (1, 2)
        for dtype in ("float32", "bfloat16")
    ]
    assert [(c.seeds, c.trajectory_generator.dtype) for _, c in found[1:3]] == [
        ((0,), "bfloat16"),
        ((0, 1), "float32"),
    ]
    assert all(config.seed_axis == "pipeline" for _, config in found)
    with pytest.raises(ConfigError, match="did you mean"):
        chips.points(base, [1], ["trajectory_generator.batchsize=3"])


def test_each_row_is_compared_by_the_seed_with_the_first_of_its_program():
    one = {"program": "a", "seeds": 1, "seconds": 2.0}
    first = chips.compared([], one)
    assert (first["of_a_seed"], first["times_first"]) == (2.0, 1.0)
    five = chips.compared([first], {"program": "a", "seeds": 5, "seconds": 4.0})
    assert (five["of_a_seed"], five["times_first"]) == (0.8, 0.4)
    other = chips.compared([first, five], {"program": "b", "seeds": 5, "seconds": 4.0})
    assert other["times_first"] == 1.0
    misfit = chips.compared([first], {"program": "a", "seeds": 9, "seconds": ""})
    assert misfit["of_a_seed"] == misfit["times_first"] == ""


def test_two_seeds_are_one_program_with_twice_the_work(monkeypatch):
    import dataclasses

    import jax

    here = dataclasses.replace(chips.CHIPS["h100"], platform="cpu", peak={"float32": 1e12})
    monkeypatch.setattr(chips.aot, "devices_of", lambda chip, count: jax.devices()[:count])
    base = make_config("hopper", "paper")
    small = {"features": 8, "multipliers": (1,), "horizon": 4, "batch_size": 4}
    base.trajectory_generator.update(small)
    base.reward_generator.update(small)
    chosen = chips.points(base, [1, 2], [])
    rows = []
    for about, one in chips.compiled(here, 1, chosen, ["trajectory_generator"]):
        row = one.compile()
        rows.append(about | row)
    assert [row["seeds"] for row in rows] == [1, 2]
    assert rows[1]["flops"] == 2 * rows[0]["flops"] > 0
    assert rows[1]["peak_bytes"] > rows[0]["peak_bytes"]
