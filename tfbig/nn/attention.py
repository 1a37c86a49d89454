"""Multi-head attention from plain layers. Shapes: b batch, t positions, d model width, n heads, h head width."""

from __future__ import annotations

from tfbig.core.lazy import keras


def self_attention(x_btd, heads: int, name: str, initializer: str = "glorot_uniform", dropout: float = 0.0):
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
    layers, ops = keras.layers, keras.ops
    length, width = x_btd.shape[1:]
    if width % heads:
        raise ValueError(f"{name}: expected a width that {heads} heads divide. Received: {width}.")
    # One matrix multiplication for queries, keys and values.
    qkv = layers.Dense(3 * width, kernel_initializer=initializer, name=f"{name}_qkv")(x_btd)
    qkv = ops.transpose(ops.reshape(qkv, (-1, length, 3, heads, width // heads)), (2, 0, 3, 1, 4))
    q_bnth, k_bnth, v_bnth = qkv[0], qkv[1], qkv[2]
    scores_bntt = ops.matmul(q_bnth, ops.swapaxes(k_bnth, -1, -2)) * (width // heads) ** -0.5
    mixed_bnth = ops.matmul(ops.softmax(scores_bntt), v_bnth)
    mixed_btd = ops.reshape(ops.transpose(mixed_bnth, (0, 2, 1, 3)), (-1, length, width))
    out = layers.Dense(width, kernel_initializer=initializer, name=f"{name}_out")(mixed_btd)
    return layers.Dropout(dropout, name=f"{name}_dropout")(out) if dropout else out
