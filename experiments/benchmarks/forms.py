"""The forms of a student that can run on this machine, as one sort of function."""

import importlib.util
from collections.abc import Callable

import jax
import numpy as np

from tskd_jax.export import c_header, npz, onnx_model, stablehlo, tflite_model
from tskd_jax.policy import Policy

PAPER_SIZES = (11, 256, 256, 3)  # of the paper's student on hopper
Act = Callable[[np.ndarray], np.ndarray]  # (N, m) -> (N, n)


def onnx_of_one_thread(content: bytes) -> Act:
    """ONNX Runtime as a control loop would have it."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run([onnx_model.OUTPUT], {onnx_model.INPUT: x})[0]


def tflite_of_one_row(content: bytes) -> Act:
    """The interpreter of one thread, whose tensors keep their sizes."""
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    made = interpreter.get_output_details()[0]["index"]

    def act(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given, x)
        interpreter.invoke()
        return interpreter.get_tensor(made)

    return lambda x: act(x) if len(x) == 1 else np.concatenate([act(row[None]) for row in x])


def jax_of(policy: Policy) -> Act:
    """One compiled program on JAX's first device, with the way there and back."""
    compiled = jax.jit(stablehlo.function(policy))
    return lambda x: np.asarray(compiled(x))


def forms(policy: Policy) -> list[tuple[str, int, Act]]:
    """(name, bytes of the file, what acts) of all that can run here."""
    count = len(npz.write(policy, None))
    found: list[tuple[str, int, Act]] = [
        ("numpy", count, lambda x: policy(x[0])[None] if len(x) == 1 else policy(x)),
        ("numpy, two rows", count, lambda x: policy(np.repeat(x, 2, 0))[:1]),
    ]
    if importlib.util.find_spec("flatbuffers"):
        found.append(("jax", len(stablehlo.write(policy, None)), jax_of(policy)))
    if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        content = onnx_model.write(policy, None)
        found.append(("onnx", len(content), onnx_of_one_thread(content)))
    if importlib.util.find_spec("ai_edge_litert"):
        content = tflite_model.write(policy, None)
        found.append(("tflite", len(content), tflite_of_one_row(content)))
    if compiler := c_header.find_compiler():
        for name, int8 in (("c", False), ("c, int8", True)):
            content = c_header.write(policy, None, int8=int8)
            act = c_header.compiled(content, compiler, (*c_header.FLAGS, "-O3"))
            found.append((name, len(content), act))
    return found
