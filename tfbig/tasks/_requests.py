"""What programs of texts require of a request, in a graph, and what is said of it."""

from __future__ import annotations

from tfbig.core.lazy import tf


def require(condition, message):
    """Ends the request with this message unless the condition holds.

    Returns:
        The operation that does so; None outside a graph.
    """
    return tf.debugging.Assert(condition, [message])


def checked(value, condition, message):
    """A value of a request that ends with this message unless the condition holds.

    The message comes before those of operations that the value would break.
    """
    accepted = require(condition, message)
    with tf.control_dependencies([] if accepted is None else [accepted]):
        return tf.identity(value)


def required(value, condition, message):
    """The same of int32 [b], for formats that have no assertions, too.

    They have an error of tf.zeros for sizes below 0.
    """
    missing = tf.where(checked(condition, condition, message), 0, -1)
    return tf.concat([value, tf.zeros((missing,), tf.int32)], 0)


def are_within(numbers, low: int, high):
    """Whether all numbers are."""
    return tf.reduce_all((numbers >= low) & (numbers <= high))


def known(tokens, size: int, name: str) -> tuple:
    """Whether all tokens are of a vocabulary of this size, and what is said otherwise."""
    return are_within(tokens, 0, size - 1), f"{name}: expected numbers from 0 to {size - 1}"


def outside(tokenizer) -> str:
    """What a model card says where a tokenizer is no part of the graph."""
    return (
        f"Its tokenizer ({tokenizer.kind}) cannot be a part of the graph: token numbers go in, and"
        " assets.extra/tokenizer.json makes them."
    )
