"""ONNX: a graph of Gemm, Relu, Tanh, Mul, Add, Max and Min, built directly, without tracing.

Input `observation` (batch, m), output `action` (batch, n), float32. Opset 13 and IR version 7 date
from 2020: every runtime since then reads them.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.errors import ExportError, first_line
from tskd_jax.export.eight_bits import levels_of
from tskd_jax.policy import Policy

SUFFIX = ".onnx"
OPSET, IR_VERSION = 13, 7
INPUT, OUTPUT = "observation", "action"


def write(policy: Policy, contract: Contract | None, *, int8: bool = False) -> bytes:
    """Write the model as bytes.

    Args:
      policy: the student, in full precision.
      contract: the contract, written as JSON into the metadata property `contract`.
      int8: whether to store weights in 8 bits; runtimes dequantise them when they load the model.

    Raises:
      ExportError: onnx's checker rejects the model.
    """
    import onnx  # pyright: ignore[reportMissingImports]
    from onnx import TensorProto, helper, numpy_helper  # pyright: ignore[reportMissingImports]

    center, half = policy.bounds.affine
    plain = not center.any() and (half == 1).all()  # the action is the output of tanh
    low, high = policy.bounds.ends
    arrays = {} if plain else {"center": center, "half": half, "low": low, "high": high}
    nodes, x = [], INPUT
    for number, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
        names = [f"weight_{number}", f"bias_{number}"]
        arrays[names[1]] = bias
        if int8:
            kept = [f"levels_{number}", f"out_{number}", f"in_{number}"]
            levels, inputs, outputs = levels_of(weight)
            arrays |= dict(zip(kept, (levels, outputs, inputs[:, None]), strict=True))
            even = f"even_{number}"
            nodes.append(helper.make_node("DequantizeLinear", kept[:2], [even], axis=1))
            nodes.append(helper.make_node("Mul", [even, kept[2]], names[:1]))
        else:
            arrays[names[0]] = weight
        nodes.append(helper.make_node("Gemm", [x, *names], [f"sum_{number}"]))
        last = number == len(policy.weights) - 1
        x = (OUTPUT if plain else "tanh") if last else f"relu_{number}"
        nodes.append(helper.make_node("Tanh" if last else "Relu", [f"sum_{number}"], [x]))
    if not plain:
        nodes.append(helper.make_node("Mul", [x, "half"], ["scaled"]))
        nodes.append(helper.make_node("Add", ["scaled", "center"], ["moved"]))
        # The last rounding may lead past a bound.
        nodes.append(helper.make_node("Max", ["moved", "low"], ["above"]))
        nodes.append(helper.make_node("Min", ["above", "high"], [OUTPUT]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in ((INPUT, len(policy.weights[0])), (OUTPUT, len(policy.biases[-1])))
    ]
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "policy", ends[:1], ends[1:], initializers),
        producer_name="tskd_jax",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    if contract:
        helper.set_model_props(model, {"contract": contract.to_json()})
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise ExportError(f"onnx: {first_line(error)}") from error
    return model.SerializeToString()


def load(content: bytes) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """(act, by): ONNX Runtime, or ONNX's reference evaluator if it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        import onnx  # pyright: ignore[reportMissingImports]
        from onnx.reference import ReferenceEvaluator  # pyright: ignore[reportMissingImports]

        session: Any = ReferenceEvaluator(onnx.load_from_string(content))
        by = f"the reference of onnx {onnx.__version__} (onnxruntime is not installed)"
    else:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        by = f"ONNX Runtime {onnxruntime.__version__}"
    return lambda observations: session.run([OUTPUT], {INPUT: observations})[0], by
