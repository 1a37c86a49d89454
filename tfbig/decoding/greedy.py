"""Greedy search in a graph where a program of its own starts, such as a translator's encoder.

Shapes: b rows, v values to choose from.
"""

from __future__ import annotations

from collections.abc import Callable

from tfbig.core.lazy import tf


def search(step: Callable, carried: dict, fixed: dict, *, length: int, first: int, end: int):
    """The likeliest choices, one after another, int32 [b, length]; zeros behind the end.

    Args:
        step: from the last choice and its place, int32 [b], and what is carried over and fixed by
            name, to (scores [b, v], what is carried on by name).
        carried: what the first step is given and each renews, name -> [b, ...].
        fixed: what each step is given unchanged, name -> [b, ...].
        length: choices to make.
        first: what stands for a last choice in the first step.
        end: the choice behind which nothing more is chosen; -1: none.
    """
    rows = tf.shape(next(iter({**carried, **fixed}.values())))[0]

    def body(i, chosen, made, done, carried):
        scores, carried = step(chosen, tf.fill([rows], i), {**carried, **fixed})
        chosen = tf.argmax(scores, -1, tf.int32)
        kept = tf.where(done, 0, chosen)
        made = tf.where(tf.range(length)[None] == i, kept[:, None], made)
        return i + 1, chosen, made, done | (chosen == end), carried

    begun = tf.fill([rows], first), tf.zeros((rows, length), tf.int32), tf.zeros((rows,), tf.bool)
    # Programs leave the number of rows open, also where the first step knows it
    free = {name: tf.TensorShape((None, *value.shape[1:])) for name, value in carried.items()}
    row = tf.TensorShape((None,))
    return tf.while_loop(
        lambda i, chosen, made, done, carried: (i < length) & ~tf.reduce_all(done),
        body,
        (tf.constant(0), *begun, carried),
        shape_invariants=(tf.TensorShape(()), row, tf.TensorShape((None, length)), row, free),
        parallel_iterations=1,
    )[2]
