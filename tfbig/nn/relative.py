"""Attention that knows how far two places are apart (Dai et al. 2019), without a shift of scores.

Sines and cosines of a distance are products of those of the two places, so the scores of distances
are one more matrix product, for any length, in any format.

Shapes: b rows, t places, n heads, h width of a head, d = n h.
"""

from __future__ import annotations

import functools

from tfbig.core.lazy import keras, np


@functools.cache
def relative_attention():
    """The layer's class; made at first use, since its base is Keras's.

    It takes queries, keys and values [b, n, t, h] and which places are real, bool [b, t], and gives
    [b, n, t, h].
    """

    @keras.saving.register_keras_serializable("tfbig")
    class RelativeAttention(keras.layers.Layer):
        def build(self, shapes):
            heads, _, width = shapes[0][1:]
            whole = heads * width
            for name in ("content_bias", "distance_bias"):
                weight = self.add_weight(shape=(heads, 1, width), initializer="zeros", name=name)
                setattr(self, name, weight)
            self.distances = self.add_weight(
                shape=(heads, width, whole), initializer="glorot_uniform", name="distances"
            )
            self.speed = 10_000.0 ** (-np.arange(0, whole, 2, dtype=np.float32) / whole)

        def call(self, inputs):
            ops = keras.ops
            q, k, v, real = inputs
            scores = ops.matmul(q + self.content_bias, ops.swapaxes(k, -1, -2))
            scores = scores + self._of_distances(q + self.distance_bias)
            scores = ops.cast(scores, "float32") * q.shape[-1] ** -0.5
            scores = ops.where(real[:, None, None], scores, -1e30)
            return ops.matmul(ops.cast(ops.softmax(scores), v.dtype), v)

        def _of_distances(self, q_bnth):
            """Scores of how far each key stands before each query, [b, n, t, t]."""
            ops = keras.ops
            place = ops.cast(ops.arange(ops.shape(q_bnth)[2]), "float32")
            angle = place[:, None] * self.speed
            sine, cosine = (ops.cast(f(angle), q_bnth.dtype) for f in (ops.sin, ops.cos))
            a, b = ops.split(ops.matmul(q_bnth, self.distances), 2, axis=-1)
            # a sin(i - j) + b cos(i - j), as a product of what is told by i and by j
            of_query = ops.concatenate([a * sine + b * cosine, b * sine - a * cosine], -1)
            of_key = ops.concatenate([cosine, sine], -1)
            return ops.matmul(of_query, ops.transpose(of_key))

        def compute_output_shape(self, shapes):
            return shapes[2]

    return RelativeAttention
