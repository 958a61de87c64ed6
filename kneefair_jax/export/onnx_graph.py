"""An ONNX graph, node by node, as arithmetic on named tensors.

`onnx` describes a graph as a list of nodes with named inputs and outputs. A `Tensor` is such a name; its operators and
`Graph.node` add nodes, so that a graph is written like the computation. Reference: the operators of ONNX, opset 18.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18  # the first in which the axes of reductions are inputs; onnxruntime >= 1.14 has it
IR_VERSION = 8  # of the file, of the same release
TYPES = {
    np.float16: TensorProto.FLOAT16,
    np.float32: TensorProto.FLOAT,
    np.float64: TensorProto.DOUBLE,
    np.int32: TensorProto.INT32,
    np.int64: TensorProto.INT64,
    np.uint8: TensorProto.UINT8,
    np.bool_: TensorProto.BOOL,
}


class Tensor(NamedTuple):
    """A tensor of a graph, by its name; operands may be numbers, which get the type `dtype`."""

    graph: "Graph"
    name: str
    dtype: type

    def _binary(self, op: str, other: Any, dtype: type | None = None) -> "Tensor":
        return self.graph.node(op, self, self._operand(other), dtype=dtype or self.dtype)

    def _operand(self, other: Any) -> "Tensor":
        return other if isinstance(other, Tensor) else self.graph.constant(other, self.dtype)

    def __add__(self, other: Any) -> "Tensor":
        return self._binary("Add", other)

    def __sub__(self, other: Any) -> "Tensor":
        return self._binary("Sub", other)

    def __mul__(self, other: Any) -> "Tensor":
        return self._binary("Mul", other)

    def __truediv__(self, other: Any) -> "Tensor":
        return self._binary("Div", other)

    def __matmul__(self, other: Any) -> "Tensor":
        return self._binary("MatMul", other)

    def __and__(self, other: Any) -> "Tensor":
        return self._binary("And", other)

    # Comparisons add a node; those of a tuple, which this class is too, are not used.
    def __lt__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return self._binary("Less", other, np.bool_)

    def __gt__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return self._binary("Greater", other, np.bool_)

    def __ge__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return self._binary("GreaterOrEqual", other, np.bool_)

    def maximum(self, other: Any) -> "Tensor":
        """Return the larger of both, elementwise."""
        return self._binary("Max", other)

    def minimum(self, other: Any) -> "Tensor":
        """Return the smaller of both, elementwise."""
        return self._binary("Min", other)

    def cast(self, dtype: type) -> "Tensor":
        """Return the same numbers as another type."""
        return self.graph.node("Cast", self, dtype=dtype, to=TYPES[dtype])

    def reshape(self, *shape: int | Self) -> "Tensor":
        """Return another shape: whole numbers (0 keeps a length, -1 is what remains)."""
        return self.graph.node("Reshape", self, self.graph.constant(shape, np.int64))

    def transpose(self, *axes: int) -> "Tensor":
        """Return the axes in another order."""
        return self.graph.node("Transpose", self, perm=axes)

    def reduce(self, op: str, axes: Sequence[int]) -> "Tensor":
        """Return a reduction such as "ReduceMean" over axes, which keep the length 1."""
        return self.graph.node(op, self, self.graph.constant(axes, np.int64), keepdims=1)

    def slice(self, start: Any, stop: Any, axis: int) -> "Tensor":
        """Return the positions from `start` until before `stop` along an axis: numbers, or i64[1]."""
        bounds = (
            value if isinstance(value, Tensor) else self.graph.constant([value], np.int64)
            for value in (start, stop)
        )
        return self.graph.node("Slice", self, *bounds, self.graph.constant([axis], np.int64))


class Graph:
    """Nodes and constants; a graph within another one (`Graph.when`) shares the names."""

    def __init__(self, parent: "Graph | None" = None):
        self._nodes: list[onnx.NodeProto] = []
        self._root: Graph = parent._root if parent else self
        self._constants: list[onnx.TensorProto] = []
        self._count = 0

    def constant(self, value: Any, dtype: type) -> Tensor:
        """Return an array or a number as a tensor."""
        name = self._name()
        self._root._constants.append(
            numpy_helper.from_array(np.ascontiguousarray(value, dtype).reshape(np.shape(value)), name)
        )
        return Tensor(self, name, dtype)

    def node(self, op: str, *inputs: Tensor, dtype: type | None = None, **attributes: Any) -> Tensor:
        """Add a node and return its first output; its type is that of the first input, unless `dtype` is given."""
        return self.nodes(op, *inputs, outputs=1, dtype=dtype, **attributes)[0]

    def nodes(
        self, op: str, *inputs: Tensor, outputs: int, dtype: type | None = None, **attributes: Any
    ) -> list[Tensor]:
        """Add a node and return its outputs."""
        names = [self._name() for _ in range(outputs)]
        self._nodes.append(helper.make_node(op, [tensor.name for tensor in inputs], names, **attributes))
        return [Tensor(self, name, dtype or inputs[0].dtype) for name in names]

    def where(self, condition: Tensor, chosen: Tensor, other: Any) -> Tensor:
        """Return `chosen` where a condition holds, elsewhere `other`."""
        return self.node("Where", condition, chosen, chosen._operand(other), dtype=chosen.dtype)

    def range(self, length: Tensor) -> Tensor:
        """Return 0, 1, ... below a scalar, of its type."""
        return self.node("Range", self.constant(0, length.dtype), length, self.constant(1, length.dtype))

    def input(self, name: str, dtype: type) -> Tensor:
        """Return a tensor that the caller gives."""
        return Tensor(self, name, dtype)

    def when(self, condition: Tensor, chosen: Tensor, other: Any) -> Tensor:
        """Return `chosen`, or else `other(graph)` of a graph that is computed only then."""
        branches = []
        for make in (lambda graph: Tensor(graph, chosen.name, chosen.dtype), other):
            graph = Graph(self)
            # An output of a branch is the output of one of its nodes.
            result = graph.node("Identity", make(graph))
            value = helper.make_tensor_value_info(result.name, TYPES[chosen.dtype], None)
            branches.append(helper.make_graph(graph._nodes, "branch", [], [value]))
        return self.node(
            "If", condition, dtype=chosen.dtype, then_branch=branches[0], else_branch=branches[1]
        )

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, tuple[Tensor, Sequence[str | int]]]
    ) -> onnx.ModelProto:
        """Return the graph as a model; `outputs` are tensors and their shapes, by name."""
        for name, (tensor, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor.name], [name]))
        values = [
            helper.make_tensor_value_info(name, TYPES[tensor.dtype], shape)
            for name, (tensor, shape) in outputs.items()
        ]
        graph = helper.make_graph(self._nodes, "segmentation", list(inputs), values, self._constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="kneefair_jax",
        )

    def _name(self) -> str:
        self._root._count += 1
        return f"t{self._root._count}"
