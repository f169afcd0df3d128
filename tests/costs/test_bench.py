"""Programs measured on the devices that are here."""

import jax
import numpy as np
import pytest
from costs.test_programs import TASK, programs, small

from tskd_jax.costs import bench
from tskd_jax.costs.fresh import filled, stand_in
from tskd_jax.machine import devices
from tskd_jax.training.training import TrainState


@pytest.fixture(scope="module")
def recorded():
    return stand_in(TASK, 1200)


@pytest.fixture(scope="module")
def quick(recorded):
    return programs(small("quick", imagination={"chunk": 16}), recorded)


def test_noise_stands_for_what_has_no_values_and_no_more():
    given = {
        "shape": jax.ShapeDtypeStruct((3, 4), np.float32),
        "same": np.broadcast_to(np.float32(7), (2, 5)),
        "keys": jax.eval_shape(lambda: jax.random.split(jax.random.key(1), 3)),
        "whole": jax.ShapeDtypeStruct((2,), np.int32),
        "real": np.arange(3.0, dtype=np.float32),
        "scalar": np.float32(5),
    }
    placed = filled(given, devices.COPIED, devices.mesh())
    for name, leaf in placed.items():
        assert (leaf.shape, leaf.dtype) == (given[name].shape, given[name].dtype)
    for name in ("shape", "same"):
        assert 0 < np.std(placed[name]) < 0.2
    np.testing.assert_array_equal(placed["real"], given["real"])
    assert placed["scalar"] == 5


@pytest.mark.parametrize(
    "name", ["trajectory_generator", "imagination", "choices: students in the world"]
)
def test_a_call_takes_as_many_turns_as_it_says(quick, name):
    one = bench.Runner(quick[name], most=100)
    assert one.row["flops"] == one.flops > 0
    assert one.row["peak_bytes"] > 0
    for _ in range(3):  # results come back as arguments where they are donated
        before = updates(one)
        assert one() > 0
        if before is not None:
            assert updates(one) - before == one._turns == one._done
        elif hasattr(one._result, "lengths"):
            assert one._result.lengths.max() == one._done


def updates(one):
    """How many updates a training has done; None if it is none."""
    state = one._result[0] if isinstance(one._result, tuple) else None
    return int(state.step) if isinstance(state, TrainState) else None


@pytest.mark.slow
def test_a_row_says_how_long_and_what_share(quick, recorded):
    larger = programs(small("quick", trajectory_generator={"batch_size": 256}), recorded)
    name = "trajectory_generator"
    row = bench.measure(quick[name], 0.5, larger[name])
    assert row["calls"] >= bench.LEAST_CALLS
    assert row["seconds_low"] <= row["seconds"] <= row["seconds_high"]
    assert 0 < row["share_of_products"] < 1
    # 64 times the rows: certainly longer, and by no more.
    assert 1.5 < row["ratio"] < 200
    assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    assert row["against_seconds"] > row["seconds"]
    assert "times as long" in bench.line(row)


def test_what_takes_too_long_is_not_even_compiled(quick, monkeypatch):
    monkeypatch.setattr(bench, "matmul_peak", lambda dtype: 1.0)
    row = bench.measure(quick["imagination"], 0.5)
    assert row["too_long"] == row["flops"]
    assert "compile_seconds" not in row
    assert "left out" in bench.line(row)


def test_on_a_known_chip_the_bound_stands_beside_it(quick, monkeypatch):
    from costs.test_programs import HERE

    monkeypatch.setattr(bench, "of_kind", lambda kind: HERE)
    row = bench.measure(quick["trajectory_generator"], 0.1)
    assert row["at_least"] >= row["flops"] / HERE.peak["float32"]
    assert "times the compiler's bound" in bench.line(row)


def test_by_turns_every_side_has_as_many(monkeypatch):
    order = []
    sides = [lambda side=side: order.append(side) or float(side) for side in range(3)]
    spent = bench.by_turns(sides, 0.0)
    assert order == [0, 1, 2] * bench.LEAST_CALLS
    np.testing.assert_array_equal(spent, [[0, 1, 2]] * bench.LEAST_CALLS)


def test_the_search_and_a_decision(recorded):
    config = small("paper")
    search = bench.measure_search(config.stitching, recorded, 0.1)
    assert search["program"] == "stitching: search"
    tested = bench.measure_search(small("quick").stitching, recorded, 0.1)
    assert tested["program"] == "stitching: search, no density test"
    decision = bench.measure_decision((8,), recorded, TASK, 0.1)
    for row in (search, decision):
        assert row["seconds"] > 0
        assert set(bench.flat(row)) == set(bench.COLUMNS)
