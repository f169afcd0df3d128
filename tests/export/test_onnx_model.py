"""Tests of the ONNX form."""

import importlib.util
from dataclasses import replace

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

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

from tskd_jax.contract import Contract  # noqa: E402
from tskd_jax.export import export, onnx_model  # noqa: E402
from tskd_jax.export.eight_bits import quantised  # noqa: E402
from tskd_jax.policy import Bounds  # noqa: E402


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_it_acts_as_numpy_does(sizes, int8):
    policy = make_policy(sizes)
    act, by = onnx_model.load(onnx_model.write(policy, None, int8=int8))
    check_acts_alike(quantised(policy) if int8 else policy, act, by)


def test_eight_bits_are_a_quarter_of_the_size():
    policy = make_policy((11, 256, 256, 3))
    made = export("onnx", policy, None, int8=True)
    (content,) = made.files.values()
    assert policy.parameters < len(content) < 1.2 * policy.parameters
    assert "8 bits change the action by" in made.lines[-1]


def test_the_reference_acts_so_too(monkeypatch):
    """Where ONNX Runtime is not installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "onnxruntime" else found(name, *more),
    )
    made = export("onnx", make_policy(), None)
    assert "reference" in made.lines[0]
    assert "onnxruntime is not installed" in made.lines[0]


def test_old_runtimes_read_it():
    policy = make_policy()
    eight = onnx.load_from_string(onnx_model.write(policy, None, int8=True))
    assert "DequantizeLinear" in {node.op_type for node in eight.graph.node}
    assert (eight.ir_version, eight.opset_import[0].version) == (7, 13)
    model = onnx.load_from_string(onnx_model.write(policy, None))
    assert model.ir_version == 7
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 13)]
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Gemm", "Relu", "Tanh", "Mul", "Add", "Max", "Min"}
    (given,), (made,) = model.graph.input, model.graph.output
    assert (given.name, made.name) == ("observation", "action")
    sizes = [
        [axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim]
        for one in (given, made)
    ]
    assert sizes == [["batch", 4], ["batch", 3]]


def test_bounds_of_one_need_no_scaling():
    policy = replace(make_policy(), bounds=Bounds.symmetric(1.0, 3))
    content = onnx_model.write(policy, None)
    model = onnx.load_from_string(content)
    assert {node.op_type for node in model.graph.node} == {"Gemm", "Relu", "Tanh"}
    check_acts_alike(policy, *onnx_model.load(content))


def test_actions_stay_within_the_bounds_unless_they_are_no_numbers():
    policy = make_saturated()
    act, _ = onnx_model.load(onnx_model.write(policy, None))
    check_within_bounds(policy, act)
    assert np.isnan(act(np.full((1, 1), np.nan, np.float32))).all()


def test_the_contract_travels():
    policy = make_policy()
    contract = contract_of(policy, observation_names=("a", "φ", "*/", '"'), control_hz=125.0)
    content = onnx_model.write(policy, contract)
    (entry,) = onnx.load_from_string(content).metadata_props
    assert entry.key == "contract"
    assert Contract.from_json(entry.value) == contract
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    known = session.get_modelmeta().custom_metadata_map
    assert Contract.from_json(known["contract"]) == contract


def test_no_rows():
    act, _ = onnx_model.load(onnx_model.write(make_policy(), None))
    assert act(np.zeros((0, 4), np.float32)).shape == (0, 3)
