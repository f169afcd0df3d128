"""Tests of the StableHLO form."""

import jax
import numpy as np
import pytest
from exported import (
    SHAPES,
    check_acts_alike,
    check_within_bounds,
    contract_of,
    make_policy,
    make_saturated,
)

pytest.importorskip("flatbuffers", reason="the extra stablehlo is not installed")

from tskd_jax.contract import Contract
from tskd_jax.export import export, stablehlo


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_it_acts_as_numpy_does(sizes):
    policy = make_policy(sizes)
    act, by = stablehlo.load(stablehlo.write(policy, None))
    check_acts_alike(policy, act, by)


def test_it_is_for_every_platform_and_any_number_of_rows():
    exported = jax.export.deserialize(bytearray(stablehlo.write(make_policy(), None)))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert str(exported.in_avals[0]) == "float32[batch,4]"
    assert str(exported.out_avals[0]) == "float32[batch,3]"
    # Full single precision on accelerators.
    assert "HIGHEST" in exported.mlir_module()


def test_actions_stay_within_the_bounds_unless_they_are_no_numbers():
    policy = make_saturated()
    act, _ = stablehlo.load(stablehlo.write(policy, None))
    check_within_bounds(policy, act)
    assert np.isnan(act(np.full((1, 1), np.nan, np.float32))).all()


def test_the_contract_stands_beside_it():
    policy = make_policy()
    contract = contract_of(policy, method="tskd")
    made = export("stablehlo", policy, contract)
    assert list(made.files) == [".stablehlo", ".contract.json"]
    assert Contract.from_json(made.files[".contract.json"]) == contract
    assert list(export("stablehlo", policy, None).files) == [".stablehlo"]
