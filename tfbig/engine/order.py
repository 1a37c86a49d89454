"""The order of training examples.

A pure function of (seed, position), so any reader can start anywhere at no cost.

Position p of a run is example `p mod size` of epoch `p div size`; within an epoch the examples are
permuted by a stateless index shuffle (a block cipher on the row number), a different one for each
epoch. Batches run on across epochs, so every example is seen exactly once an epoch and no batch is
short.
"""

from __future__ import annotations

from tfbig.core.lazy import tf


def positions(first: tf.Tensor, count: int) -> tf.Tensor:
    """The run's positions first, first + 1, ... as int64 [count]."""
    return tf.cast(first, tf.int64) + tf.range(count, dtype=tf.int64)


def rows(position: tf.Tensor, size: int, seed: int) -> tf.Tensor:
    """The rows of the split (int64 [n], 0 <= row < size) at these positions (int64 [n])."""
    epoch = position // size
    seeds = tf.stack(
        [tf.fill(tf.shape(epoch), tf.constant(seed, tf.int64)), epoch, tf.zeros_like(epoch)], axis=1
    )
    # The raw operation, since tf.random.experimental.index_shuffle takes no seed for each index.
    return tf.raw_ops.RandomIndexShuffle(
        index=position % size, seed=seeds, max_index=tf.constant(size - 1, tf.int64), rounds=8
    )


def keys(position: tf.Tensor, seed: int) -> tf.Tensor:
    """A key for each position's random numbers (uint32 [n, 2]).

    Never the same for two positions of a run.
    """
    low = tf.cast(position % 2**32, tf.uint32)
    high = tf.cast((position // 2**32 + 65_521 * seed) % 2**32, tf.uint32)
    return tf.stack([low, high], axis=1)
