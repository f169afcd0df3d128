"""Tests of the TFLite form."""

import numpy as np
import pytest
from exported import SHAPES, check_acts_alike, contract_of, make_policy

interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="the extra tflite is not installed"
)

from tskd_jax.contract import Contract  # noqa: E402
from tskd_jax.export import export, tflite_model  # noqa: E402
from tskd_jax.export.eight_bits import quantised  # noqa: E402


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_it_acts_as_numpy_does(sizes, int8):
    policy = make_policy(sizes)
    act, by = tflite_model.load(tflite_model.write(policy, None, int8=int8))
    check_acts_alike(quantised(policy) if int8 else policy, act, by)


def test_eight_bits_are_a_quarter_of_the_size():
    policy = make_policy((11, 256, 256, 3))
    made = export("tflite", policy, None, int8=True)
    (content,) = made.files.values()
    assert policy.parameters < len(content) < 1.2 * policy.parameters
    assert "8 bits change the action by" in made.lines[-1]


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_it_needs_no_delegate(int8):
    """As on a microcontroller: the plain kernels, one row, no resizing."""
    policy = make_policy()
    right = quantised(policy) if int8 else policy
    plain = interpreter.Interpreter(
        model_content=tflite_model.write(policy, None, int8=int8),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
    )
    plain.allocate_tensors()
    (given,), (made,) = plain.get_input_details(), plain.get_output_details()
    assert given["shape"].tolist() == [1, 4]
    assert given["shape_signature"].tolist() == [-1, 4]
    assert made["shape_signature"].tolist() == [-1, 3]
    assert (given["name"], made["name"]) == ("observation", "action")
    for state in np.random.default_rng(0).normal(size=(5, 1, 4)).astype(np.float32):
        plain.set_tensor(given["index"], state)
        plain.invoke()
        np.testing.assert_allclose(plain.get_tensor(made["index"]), right(state), atol=1e-5)


def test_the_contract_travels():
    from ai_edge_litert import schema_py_generated as schema

    policy = make_policy()
    contract = contract_of(policy, observation_names=("a", "φ", "*/", '"'), control_hz=125.0)
    content = tflite_model.write(policy, contract)
    assert content[4:8] == b"TFL3"
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (entry,) = model.metadata
    assert entry.name == b"contract"
    assert Contract.from_json(bytes(model.buffers[entry.buffer].data)) == contract
    names = {value: key for key, value in vars(schema.BuiltinOperator).items()}
    used = [names[code.builtinCode] for code in model.operatorCodes]
    assert used == ["FULLY_CONNECTED", "TANH", "MUL", "ADD"]
    assert {code.version for code in model.operatorCodes} == {1}
