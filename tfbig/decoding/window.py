"""The part of a text from which its next token is predicted once it exceeds the context."""

from __future__ import annotations

from tfbig.core.lazy import tf


def num_dropped(length, context: int):
    """How many of a row's first tokens are left behind before its next token is predicted.

    None while the row fits the context; one that has outgrown it continues from its last half, so
    that text can be longer than the context and a cache is rarely filled anew.

    Args:
        length: of the row, a whole number, or of each row, an int32 tensor [b].
        context: most tokens that the model reads.
    """
    rest = length - max(1, context // 2)
    if isinstance(length, int):
        return rest if length > context else 0
    return tf.where(length > context, rest, 0)
