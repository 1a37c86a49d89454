"""What models that read texts of any length share: their inputs, and which places are real.

They take `tokens` int32 [batch, length], of which the first `count` (int32 [batch]) are real, and
of pairs `segments`, 0 in the first text and 1 in the second. What is padded changes nothing.
"""

from __future__ import annotations

from tfbig.core.features import Spec
from tfbig.core.lazy import keras
from tfbig.nn.attention import positions


def inputs_of(spec: Spec) -> dict:
    """Symbolic inputs, by name."""
    return {
        name: keras.Input(feature.shape, dtype=feature.dtype, name=name)
        for name, feature in spec.items()
    }


def is_real(inputs: dict):
    """Whether each place holds a token rather than padding, bool [batch, length]."""
    return positions(inputs["tokens"]) < inputs["count"][:, None]


def embedded(spec: Spec, inputs: dict, width: int, dropout: float):
    """Vectors of the tokens, zeros at padding; (x_btd, real_bt1 as numbers).

    Of pairs, each token's vector tells its text, too.
    """
    layers = keras.layers
    x = layers.Embedding(spec["tokens"].values, width, name="embedding")(inputs["tokens"])
    if "segments" in inputs:
        x = x + layers.Embedding(2, width, name="segment")(inputs["segments"])
    if dropout:
        x = layers.Dropout(dropout, name="embedding_dropout")(x)
    real = keras.ops.cast(is_real(inputs), x.dtype)[:, :, None]
    return x * real, real


def largest(x_btd, real_bt1):
    """The largest value at real places, [batch, d]."""
    return keras.ops.max(x_btd - (1 - real_bt1) * 1e4, axis=1)


def average(x_btd, real_bt1):
    """The mean over real places, [batch, d]."""
    ops = keras.ops
    return ops.sum(x_btd * real_bt1, axis=1) / ops.maximum(ops.sum(real_bt1, axis=1), 1)
