"""Heads: a model's last layers, as exact as float32 whatever the policy of the rest.

Shapes: b examples, k labels.
"""

from __future__ import annotations

from tfbig.core.lazy import keras


def exact_dtype() -> str:
    """The dtype of logits: float32, or the policy's where that is more exact."""
    return keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")


def with_logits(body: keras.Model, features_bd, labels: int, name: str) -> keras.Model:
    """A model of the body's inputs, whose features a dense layer called "head" turns into logits.

    Args:
        body: what the features were made by.
        features_bd: symbolic, of any number of dimensions; the last one is read.
        labels: k.
        name: of the model.
    """
    head = keras.layers.Dense(labels, dtype=exact_dtype(), name="head")
    return keras.Model(body.input, head(features_bd), name=name)
