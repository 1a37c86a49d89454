"""A functional model as a list of computations, in order.

Keras offers no public way to walk one; this file alone knows how.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import Any

from tfbig.core.lazy import keras


@dataclass
class Node:
    """One call of a layer or operation.

    Attributes:
        operation: the layer or operation.
        inputs, outputs: the symbolic tensors it takes and gives.
        call: a function of {id of symbolic tensor: value} and `training` that returns its outputs'
            values.
    """

    operation: Any
    inputs: list
    outputs: list
    arguments: Any = field(repr=False)

    def call(self, values: dict[int, Any], training: bool) -> list:
        arguments, options = self.arguments.fill_in(values)
        if (
            isinstance(self.operation, keras.Layer)
            and "training" in inspect.signature(self.operation.call).parameters
        ):
            options = {**options, "training": training}
        outputs = self.operation(*arguments, **options)
        return keras.tree.flatten(outputs)


def nodes(model: keras.Model) -> list[Node]:
    """The computations of a functional model, without its inputs, in an executable order."""
    ordered = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
    ]
    return [
        Node(node.operation, list(node.input_tensors), list(node.outputs), node.arguments)
        for node in ordered
        if not node.is_input
    ]


# Operations whose outputs share their inputs' memory
VIEWS = ("Flatten", "Reshape", "Squeeze", "ExpandDims", "Identity", "StopGradient")
# Values that a recurrent layer keeps for each unit and moment: gates before and after their
# activation, states
RECURRENT = 10


def _recurrent(node: Node) -> list:
    """The recurrent layers that a node calls, both of a bidirectional one."""
    operation = node.operation
    layers = [
        operation,
        *(getattr(operation, f"{direction}_layer", None) for direction in ("forward", "backward")),
    ]
    return [layer for layer in layers if isinstance(layer, keras.layers.RNN)]


def bytes_kept(node: Node, longest: int = 1) -> int:
    """Bytes of a node's results that the gradient needs, for one example.

    Its outputs; for a recurrent layer, those of all its time steps. Axes of any length are taken to
    be the `longest`.
    """
    if type(node.operation).__name__ in VIEWS:
        return 0
    whole = sum(bytes_of(tensor, longest) for tensor in node.outputs)
    return whole + sum(
        4 * RECURRENT * layer.units * _moments(node, longest)
        for layer in _recurrent(node)
        if hasattr(layer, "units")
    )


def operations(node: Node) -> int:
    """How many operations a node starts: a view none, a recurrent layer one for each time step."""
    if type(node.operation).__name__ in VIEWS:
        return 0
    layers = _recurrent(node)
    return len(layers) * _moments(node) if layers else 1


def _moments(node: Node, longest: int = 1) -> int:
    """Time steps of what a recurrent layer reads."""
    return node.inputs[0].shape[1] or longest


def bytes_of(tensor, longest: int = 1) -> int:
    """Bytes of a symbolic tensor for one example.

    Whole numbers, which nobody differentiates, count too.
    """
    width = {
        "float64": 8,
        "int64": 8,
        "float16": 2,
        "bfloat16": 2,
        "bool": 1,
        "uint8": 1,
        "int8": 1,
    }.get(tensor.dtype, 4)
    return width * math.prod(n or longest for n in tensor.shape[1:])
