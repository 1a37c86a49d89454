"""Convolutions along sequences as matrix products, which compilers are fast at.

Shapes: b sequences, t places, d values.
"""

from __future__ import annotations

from tfbig.core.lazy import keras


def neighbours(x_btd, kernel: int, dilation: int = 1):
    """Each place's `kernel` neighbours side by side, zeros beyond the ends: [b, t, kernel * d].

    Neighbours stand `dilation` places apart; a Dense layer on them is a convolution.
    """
    ops = keras.ops
    reach = (kernel - 1) * dilation
    before = (kernel - 1) // 2 * dilation
    padded = ops.pad(x_btd, ((0, 0), (before, reach - before), (0, 0)))
    shifted = [padded[:, i : i - reach or None] for i in range(0, reach + 1, dilation)]
    return ops.concatenate(shifted, axis=-1)
