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


def row(name, seeds, *parts):
    """What `compared` is given of a stage: (seconds of a turn, turns in a run) of each program."""
    return {"program": name, "seeds": seeds}, [{"seconds": s, "times": n} for s, n in parts]


def test_each_row_is_compared_by_the_seed_with_the_first_of_its_stage():
    first = chips.compared([], *row("a", 1, (2.0, 10)))
    assert (first["of_a_seed"], first["times_first"]) == (20.0, 1.0)
    five = chips.compared([first], *row("a", 5, (4.0, 10)))
    assert (five["of_a_seed"], five["times_first"]) == (8.0, 0.4)
    # A chunk of one length has a fifth of a seed's trajectories: there are five times as many.
    chunks = chips.compared([first], *row("a", 5, (2.0, 40), (1.0, 20)))
    assert (chunks["of_a_seed"], chunks["times_first"]) == (20.0, 1.0)
    other = chips.compared([first, five], *row("b", 5, (4.0, 0)))  # turns that nobody knows
    assert (other["of_a_seed"], other["times_first"]) == (0.8, 1.0)
    misfit = chips.compared([first], *row("a", 9, (2.0, 10), ("", 10)))
    assert misfit["of_a_seed"] == misfit["times_first"] == ""


def test_a_stage_has_all_of_its_programs(monkeypatch):
    import jax

    monkeypatch.setattr(chips.aot, "devices_of", lambda chip, count: jax.devices()[:count])
    monkeypatch.setattr(chips.report, "Lowered", lambda program, chip, among: program)
    chosen = chips.points(make_config("hopper", "paper"), [1, 5], [])
    one, five = chips.compiled(chips.CHIPS["h100"], 1, chosen, ["imagination"])
    # 512 + 88 trajectories; 5 × 102 + 90 of each seed, which are padded to 128 all.
    assert [part.times for part in one[1]] == [1000, 1000]
    assert [part.times for part in five[1]] == [6000]
    with pytest.raises(ConfigError, match="none of student, inverse_dynamics"):
        next(chips.compiled(chips.CHIPS["h100"], 1, chosen, ["abacus"]))


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
    for about, [one] in chips.compiled(here, 1, chosen, ["trajectory_generator"]):
        rows.append(about | one.compile())
    assert [row["seeds"] for row in rows] == [1, 2]
    assert rows[1]["flops"] == 2 * rows[0]["flops"] > 0
    assert rows[1]["peak_bytes"] > rows[0]["peak_bytes"]
