"""Arithmetic of a model: floating-point operations of one forward pass."""

from __future__ import annotations

import math

from tfbig.core.lazy import keras, tf
from tfbig.engine.strategy import layers

RECURRENT_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def forward_flops(model, longest: int = 1) -> int:
    """Operations (a multiply-add is two) of a forward pass on one example.

    Matrix products, convolutions, recurrence. Axes of any length are taken to be the `longest`.

    Products are counted in the traced graph; loops over time, whose bodies appear there once, by
    their layer's formula.
    """
    spec = tf.nest.map_structure(
        lambda x: tf.TensorSpec((1, *(n or longest for n in x.shape[1:])), x.dtype), model.input
    )
    traced = tf.function(lambda x: model(x, training=False), autograph=False).get_concrete_function(
        spec
    )
    return sum(_operation(op) for op in traced.graph.get_operations()) + sum(
        _recurrence(layer, longest) for layer in layers(model)
    )


def _operation(op) -> int:
    shapes = [x.shape for x in (*op.inputs, *op.outputs)]
    if not all(shape.is_fully_defined() for shape in shapes) or not op.outputs:
        return 0
    out = math.prod(op.outputs[0].shape)
    if op.type in ("MatMul", "BatchMatMulV2"):
        transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
        return 2 * out * op.inputs[0].shape[-2 if transposed else -1]
    if op.type in ("Conv2D", "Conv3D"):
        return 2 * out * math.prod(op.inputs[1].shape[:-1])
    if op.type == "DepthwiseConv2dNative":
        return 2 * out * math.prod(op.inputs[1].shape[:2])
    return 0


def _recurrence(layer, longest: int) -> int:
    both = isinstance(layer, keras.layers.Bidirectional)
    inner = (layer.forward_layer, layer.backward_layer) if both else (layer,)
    if not all(type(each).__name__ in RECURRENT_GATES for each in inner):
        return 0
    sequence, *_ = tf.nest.flatten(layer.input)  # a state to begin with stands behind it
    steps = sequence.shape[1] or longest
    return sum(
        2
        * RECURRENT_GATES[type(each).__name__]
        * each.units
        * (each.cell.kernel.shape[0] + each.units)
        * steps
        for each in inner
    )
