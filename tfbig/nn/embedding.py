"""An embedding whose vectors also score the tokens that can be written.

Shapes: b batch, t places, d width, v scored tokens.
"""

from __future__ import annotations

import functools

from tfbig.core.lazy import keras


def shared_embedding(values: int, width: int, scored: int, name: str):
    """A layer of `values` vectors of which the first `scored` are also scored by.

    Called with tokens [b, t] it gives their vectors [b, t, d], scaled by sqrt(d); called with
    states [b, t, d] and `reverse=True` the scores [b, t, v] (Press and Wolf 2017). Where a source
    and a target share a vocabulary, few of its tokens may stand in a target: scoring only those
    saves most of the work.
    """
    return _layer()(values, width, scored, name=name)


@functools.cache
def _layer():
    """The layer's class; made at first use, since its base is Keras's."""

    @keras.saving.register_keras_serializable("tfbig")
    class SharedEmbedding(keras.layers.Layer):
        def __init__(self, values: int, width: int, scored: int, **options):
            super().__init__(**options)
            self.values, self.width, self.scored = values, width, scored

        def build(self, shape=None):
            self.vectors = self.add_weight(
                shape=(self.values, self.width),
                initializer=keras.initializers.RandomNormal(stddev=self.width**-0.5),
                name="embeddings",
            )
            self.built = True

        def call(self, inputs, reverse: bool = False):
            ops = keras.ops
            if not reverse:
                vectors = ops.take(self.vectors, inputs, axis=0)
                return ops.cast(vectors * self.width**0.5, self.compute_dtype)
            kernel = ops.cast(self.vectors[: self.scored], self.compute_dtype)
            return ops.matmul(inputs, ops.transpose(kernel))

        def compute_output_spec(self, inputs, reverse: bool = False):
            kept = inputs.shape[:-1] if reverse else inputs.shape
            shape = (*kept, self.scored if reverse else self.width)
            return keras.KerasTensor(shape, dtype=self.compute_dtype)

        def get_config(self):
            own = {"values": self.values, "width": self.width, "scored": self.scored}
            return {**super().get_config(), **own}

    return SharedEmbedding
