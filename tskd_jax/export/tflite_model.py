"""TFLite (LiteRT): FULLY_CONNECTED with ReLU, TANH, MUL and ADD, written without TensorFlow.

The format's schema is the one that ai-edge-litert ships. Input `observation` (batch, m), output
`action` (batch, n), float32; use `resize_tensor_input` for a batch other than 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.export.eight_bits import levels_of
from tskd_jax.policy import Policy

SUFFIX = ".tflite"
IDENTIFIER = b"TFL3"
# For each operator, the first version that supports its use here; 1 if not listed.
VERSIONS = {"DEQUANTIZE": 5}  # needed for one scale per row


def write(policy: Policy, contract: Contract | None, *, int8: bool = False) -> bytes:
    """Write the model as bytes.

    Args:
      policy: the student, in full precision.
      contract: the contract, written as JSON into the metadata `contract`.
      int8: whether to store weights in 8 bits.
    """
    import flatbuffers  # pyright: ignore[reportMissingImports]
    from ai_edge_litert import schema_py_generated as schema  # pyright: ignore[reportMissingImports]

    graph = _Graph(schema)
    center, half = policy.bounds.affine
    x = graph.tensor("observation", (1, len(policy.weights[0])))
    graph.made.inputs = [x]
    for place, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
        last = place == len(policy.weights) - 1
        if int8:
            levels, inputs, outputs = levels_of(weight)
            scaled = graph.tensor(f"scaled_{place}", (1, len(inputs)))
            by = graph.constant(f"in_{place}", inputs)
            graph.add("MUL", [x, by], scaled, schema.MulOptionsT())
            x, weights = scaled, graph.dequantized(f"weight_{place}", levels.T, outputs)
        else:
            weights = graph.constant(f"weight_{place}", np.ascontiguousarray(weight.T))
        operands = [weights, graph.constant(f"bias_{place}", bias)]
        options = schema.FullyConnectedOptionsT()
        kinds = schema.ActivationFunctionType
        options.fusedActivationFunction = kinds.NONE if last else kinds.RELU
        out = graph.tensor(f"layer_{place}", (1, len(bias)))
        graph.add("FULLY_CONNECTED", [x, *operands], out, options)
        x = out
    for name, operator, operand in (
        ("tanh", "TANH", None),
        ("scaled", "MUL", half),
        ("action", "ADD", center),
    ):
        inputs = [x] if operand is None else [x, graph.constant(f"{name}_by", operand)]
        options = {"MUL": schema.MulOptionsT, "ADD": schema.AddOptionsT}.get(operator)
        out = graph.tensor(name, (1, len(policy.biases[-1])))
        graph.add(operator, inputs, out, options() if options else None)
        x = out
    graph.made.outputs = [x]
    if contract:
        graph.metadata("contract", contract.to_json().encode())
    builder = flatbuffers.Builder(0)
    builder.Finish(graph.model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


class _Graph:
    """Builds a model with one graph by adding tensors and operators."""

    def __init__(self, schema: Any):
        self.schema = schema
        self.made = schema.SubGraphT()
        self.made.name = "policy"
        self.made.tensors, self.made.operators = [], []
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "tskd_jax"
        self.model.subgraphs, self.model.operatorCodes = [self.made], []
        self.model.buffers = [schema.BufferT()]  # the first is empty: for tensors that are computed
        self.model.metadata = []
        self._codes: dict[str, int] = {}

    def tensor(self, name: str, shape: tuple[int, ...], buffer: int = 0) -> int:
        """Add a tensor and return its index; the first axis of a computed tensor is the batch."""
        made = self.schema.TensorT()
        made.name, made.buffer = name.encode(), buffer
        made.type = self.schema.TensorType.FLOAT32
        made.shape = list(shape)
        if not buffer:
            made.shapeSignature = [-1, *shape[1:]]
        self.made.tensors.append(made)
        return len(self.made.tensors) - 1

    def constant(self, name: str, values: np.ndarray) -> int:
        """Add a constant float32 tensor and return its index."""
        return self.tensor(name, values.shape, self._buffer(values.astype("<f4").tobytes()))

    def dequantized(self, name: str, levels: np.ndarray, scales: np.ndarray) -> int:
        """Add a tensor, levels (rows, columns) int8 times scales (rows,), and return its index."""
        kept = self.tensor(f"{name}_levels", levels.shape, self._buffer(levels.tobytes()))
        made = self.made.tensors[kept]
        made.type = self.schema.TensorType.INT8
        made.quantization = self.schema.QuantizationParametersT()
        made.quantization.scale = [float(one) for one in scales]
        made.quantization.zeroPoint = [0] * len(scales)
        made.quantization.quantizedDimension = 0
        out = self.tensor(name, levels.shape)
        self.made.tensors[out].shapeSignature = None  # its first axis is not the batch
        self.add("DEQUANTIZE", [kept], out, self.schema.DequantizeOptionsT())
        return out

    def add(self, operator: str, inputs: list[int], output: int, options: Any) -> None:
        """Add an operator."""
        made = self.schema.OperatorT()
        made.opcodeIndex = self._code(operator)
        made.inputs, made.outputs = inputs, [output]
        if options is not None:
            made.builtinOptions = options
            name = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, name)
        self.made.operators.append(made)

    def metadata(self, name: str, content: bytes) -> None:
        """Store bytes under a name."""
        made = self.schema.MetadataT()
        made.name, made.buffer = name.encode(), self._buffer(content)
        self.model.metadata.append(made)

    def _buffer(self, content: bytes) -> int:
        made = self.schema.BufferT()
        made.data = np.frombuffer(content, np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def _code(self, operator: str) -> int:
        if operator not in self._codes:
            made = self.schema.OperatorCodeT()
            code = getattr(self.schema.BuiltinOperator, operator)
            made.builtinCode = made.deprecatedBuiltinCode = code  # the latter for old interpreters
            made.version = VERSIONS.get(operator, 1)
            self.model.operatorCodes.append(made)
            self._codes[operator] = len(self.model.operatorCodes) - 1
        return self._codes[operator]


def load(content: bytes) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """(act, by): the interpreter of ai-edge-litert."""
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    interpreter = Interpreter(model_content=content)

    def act(observations: np.ndarray) -> np.ndarray:
        place = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(place, observations.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, observations)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return act, f"ai-edge-litert {version('ai-edge-litert')}"
