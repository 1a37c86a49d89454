"""Multi-head attention from plain operations.

Shapes: b batch, t query positions, s key positions, d model width, n heads, m key/value heads, g =
    n / m, h head width.
"""

from __future__ import annotations

import functools

from tfbig.core.lazy import keras, np


def attend(q_bnth, k_bmsh, v_bmsh, mask=None):
    """Scaled dot-product attention with grouped queries.

    Vaswani et al. 2017, Ainslie et al. 2023.

    Args:
        q_bnth: queries.
        k_bmsh: keys; m divides n, and each serves n / m neighbouring heads. Where they are fewer
            heads, t and s are known.
        v_bmsh: values.
        mask: boolean, [b or 1, t, s], true where a query may look; None: everywhere.

    Returns:
        [b, n, t, h]. Scores are normalised in float32 at least.
    """
    ops = keras.ops
    heads, length, width = q_bnth.shape[1:]
    groups = k_bmsh.shape[1]
    grouped = groups != heads
    q = q_bnth * width**-0.5
    if grouped:
        # The queries of a group stand in one matrix, so that keys and values are never copied.
        q = ops.reshape(q, (-1, groups, heads // groups * length, width))
    scores = ops.matmul(q, ops.swapaxes(k_bmsh, -1, -2))
    if scores.dtype != "float64":
        scores = ops.cast(scores, "float32")
    if grouped:
        scores = ops.reshape(scores, (-1, heads, length, k_bmsh.shape[2]))
    if mask is not None:
        scores = ops.where(mask[:, None], scores, -1e30)
    share = ops.cast(ops.softmax(scores), v_bmsh.dtype)
    if not grouped:
        return ops.matmul(share, v_bmsh)
    share = ops.reshape(share, (-1, groups, heads // groups * length, k_bmsh.shape[2]))
    return ops.reshape(ops.matmul(share, v_bmsh), (-1, heads, length, width))


def shares(q_bnth, k_bnsh, mask=None):
    """How much each query looks at each key, mean over the heads, [b, t, s]; see `attend`."""
    ops = keras.ops
    scores = ops.matmul(q_bnth * q_bnth.shape[-1] ** -0.5, ops.swapaxes(k_bnsh, -1, -2))
    if mask is not None:
        scores = ops.where(mask[:, None], scores, -1e30)
    return ops.mean(ops.softmax(ops.cast(scores, "float32")), axis=1)


def attend_causally(
    q_bnth, k_bnth, v_bnth, position_bt, block: int | None = None, name: str | None = None
):
    """Attention of each position to itself and those before it.

    Args:
        q_bnth: queries.
        k_bnth: keys, at most as many heads.
        v_bnth: values.
        position_bt: 0 ... t - 1, [1, t]; see `positions`.
        block: queries handled together, so that memory is proportional to block * t instead of t *
            t (Rabe and Staats 2021); scores are computed again for the gradient. None: all at once.
        name: of the layer that is needed for it.
    """
    if block is None or block >= q_bnth.shape[2]:
        return attend(q_bnth, k_bnth, v_bnth, position_bt[:, :, None] >= position_bt[:, None, :])
    return _blocked_attention()(block, name=name)([q_bnth, k_bnth, v_bnth])


def _attend_from(first: int, q_bnth, k_bnsh, v_bnsh):
    """Causal attention of queries at positions first, first + 1 ... to keys at 0 ... s - 1."""
    ops = keras.ops
    query, key = first + ops.arange(q_bnth.shape[2]), ops.arange(k_bnsh.shape[2])
    return attend(q_bnth, k_bnsh, v_bnsh, (query[:, None] >= key)[None])


@functools.cache
def _blocked_attention():
    """The layer's class; made at first use, since its base is Keras's."""

    @keras.saving.register_keras_serializable("tfbig")
    class BlockedAttention(keras.layers.Layer):
        def __init__(self, block: int, **options):
            super().__init__(**options)
            self.block = block

        def call(self, inputs):
            q, k, v = inputs
            outputs = []
            for first in range(0, q.shape[2], self.block):
                end = min(q.shape[2], first + self.block)  # no query of the block looks further
                attend_block = keras.remat(functools.partial(_attend_from, first))
                outputs.append(attend_block(q[:, :, first:end], k[:, :, :end], v[:, :, :end]))
            return keras.ops.concatenate(outputs, axis=2)

        def compute_output_shape(self, shapes):
            return shapes[0]

        def get_config(self):
            return {**super().get_config(), "block": self.block}

    return BlockedAttention


def split_heads(x_btd, heads: int):
    """[b, t, n * h] to [b, n, t, h]; t may be unknown."""
    ops = keras.ops
    length, width = x_btd.shape[1:]
    if length is None:  # of a symbolic input: only a layer may leave two axes open
        return ops.transpose(keras.layers.Reshape((-1, heads, width // heads))(x_btd), (0, 2, 1, 3))
    return ops.transpose(ops.reshape(x_btd, (-1, length, heads, width // heads)), (0, 2, 1, 3))


def join_heads(x_bnth):
    """[b, n, t, h] to [b, t, n * h]; t may be unknown."""
    ops = keras.ops
    heads, length, width = x_bnth.shape[1:]
    x_btnh = ops.transpose(x_bnth, (0, 2, 1, 3))
    if length is None:
        return keras.layers.Reshape((-1, heads * width))(x_btnh)
    return ops.reshape(x_btnh, (-1, length, heads * width))


def rotate(x_bnth, position_bt, base: float = 10_000.0):
    """Rotary position embedding (Su et al. 2021).

    The halves of a head's width are the two coordinates.

    Args:
        x_bnth: queries or keys; h is even.
        position_bt: whole numbers, [b or 1, t].
        base: the longest wavelength is 2 pi times this.
    """
    ops = keras.ops
    half = x_bnth.shape[-1] // 2
    # NumPy: a constant of each graph, not a tensor outside
    speed = np.array([base ** (-i / half) for i in range(half)], np.float32)
    angle = ops.cast(position_bt, "float32")[:, None, :, None] * speed
    cos, sin = ops.cast(ops.cos(angle), x_bnth.dtype), ops.cast(ops.sin(angle), x_bnth.dtype)
    a, b = x_bnth[..., :half], x_bnth[..., half:]
    return ops.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def positions(x_bt):
    """0 ... t - 1 as int32 [1, t], from any tensor of length t.

    A compiler makes a constant of it.
    """
    ops = keras.ops
    return (
        ops.cumsum(ops.max(ops.ones_like(x_bt, dtype="int32"), axis=0, keepdims=True), axis=1) - 1
    )


def sinusoids(length: int, width: int) -> np.ndarray:
    """Vectors of positions by sines and cosines (Vaswani et al. 2017), float32 [length, width]."""
    speed = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angle = np.arange(length)[:, None] * speed
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, -1)[:, :width].astype("f")


def self_attention(
    x_btd, heads: int, name: str, initializer: str = "glorot_uniform", dropout: float = 0.0
):
    """Multi-head self-attention over all positions (Vaswani et al. 2017).

    Args:
        x_btd: a symbolic input whose length t is known.
        heads: number of heads; divides d.
        name: prefix of the layers' names.
        initializer: of both weight matrices.
        dropout: share of the output dropped while training.

    Returns:
        [b, t, d].
    """
    layers = keras.layers
    width = x_btd.shape[-1]
    if width % heads:
        raise ValueError(f"{name}: expected a width that {heads} heads divide. Received: {width}.")
    # One matrix multiplication for queries, keys and values.
    qkv = split_heads(
        layers.Dense(3 * width, kernel_initializer=initializer, name=f"{name}_qkv")(x_btd),
        3 * heads,
    )
    mixed = attend(qkv[:, :heads], qkv[:, heads : 2 * heads], qkv[:, 2 * heads :])
    out = layers.Dense(width, kernel_initializer=initializer, name=f"{name}_out")(join_heads(mixed))
    return layers.Dropout(dropout, name=f"{name}_dropout")(out) if dropout else out


def heads_of(x_btd, heads: int, name: str) -> list:
    """Queries, keys and values [b, n, t, h] of [b, t, 3 * n * h], of any length t.

    Args:
        x_btd: a symbolic input.
        heads: n.
        name: prefix of the layers' names.
    """
    layers = keras.layers
    width = x_btd.shape[-1] // (3 * heads)
    x = layers.Reshape((-1, 3 * heads, width), name=f"{name}_split")(x_btd)
    x = keras.ops.transpose(x, (0, 2, 1, 3))
    return [x[:, i * heads : (i + 1) * heads] for i in range(3)]


def attend_to(q_bnth, k_bnsh, v_bnsh, real_bs, name: str):
    """Scaled dot-product attention to places that are real, of any lengths t and s.

    Args:
        q_bnth: symbolic queries.
        k_bnsh: keys.
        v_bnsh: values.
        real_bs: whether each key is real rather than padding, boolean.
        name: prefix of the layers' names.

    Returns:
        [b, t, n * h]. Scores are normalised in float32 at least.
    """
    ops = keras.ops
    heads, width = q_bnth.shape[1], q_bnth.shape[3]
    scores = ops.matmul(q_bnth * width**-0.5, ops.transpose(k_bnsh, (0, 1, 3, 2)))
    if scores.dtype != "float64":
        scores = ops.cast(scores, "float32")
    scores = ops.where(real_bs[:, None, None], scores, -1e30)
    share = ops.cast(ops.softmax(scores), v_bnsh.dtype)
    mixed = ops.transpose(ops.matmul(share, v_bnsh), (0, 2, 1, 3))
    return keras.layers.Reshape((-1, heads * width), name=f"{name}_join")(mixed)
