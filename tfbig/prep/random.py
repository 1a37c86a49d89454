"""Random numbers as a pure function of a key, so that an example's augmentation depends on nothing
around it.

Every example comes with a key (uint32 [batch, 2]); the same key gives the same numbers in any
batch, on any device, compiled or not. The mixing function is the finaliser of MurmurHash3 (Appleby
2011), applied to one word after another.
"""

from __future__ import annotations

import math

from tfbig.core.lazy import tf


def _mix(word: tf.Tensor) -> tf.Tensor:
    """A bijection of uint32 in which every input bit changes every output bit with probability one
    half.
    """
    word = tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, tf.constant(16, tf.uint32)))
    word *= tf.constant(0x85EBCA6B, tf.uint32)
    word = tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, tf.constant(13, tf.uint32)))
    word *= tf.constant(0xC2B2AE35, tf.uint32)
    return tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, tf.constant(16, tf.uint32)))


def bits(key: tf.Tensor, stream: int, shape: tuple[int, ...] = ()) -> tf.Tensor:
    """Random 32-bit words.

    Args:
        key: uint32 [batch, 2].
        stream: which of a key's many independent sequences; each use takes one of its own.
        shape: words wanted for each example.

    Returns:
        uint32 [batch, *shape].
    """
    golden = tf.constant(0x9E3779B9, tf.uint32)  # keeps a key of zeros from staying zero
    state = _mix(key[:, 0] + golden)
    state = _mix(tf.bitwise.bitwise_xor(state, key[:, 1]) + golden)
    state = _mix(tf.bitwise.bitwise_xor(state, tf.constant(stream, tf.uint32)) + golden)
    counter = tf.range(math.prod(shape), dtype=tf.int32)
    words = _mix(_mix(state[:, None] + tf.cast(counter, tf.uint32)[None] * golden) + golden)
    return tf.reshape(words, (-1, *shape))


def uniform(key: tf.Tensor, stream: int, shape: tuple[int, ...] = ()) -> tf.Tensor:
    """Uniform float32 numbers in [0, 1), [batch, *shape]; see `bits`."""
    top = tf.bitwise.right_shift(bits(key, stream, shape), tf.constant(8, tf.uint32))
    return tf.cast(tf.cast(top, tf.int32), tf.float32) * 2.0**-24


def integers(
    key: tf.Tensor, stream: int, low: int, high: int, shape: tuple[int, ...] = ()
) -> tf.Tensor:
    """Uniform int32 numbers from low to high, both included, [batch, *shape]; see `bits`."""
    return low + tf.cast(tf.floor(uniform(key, stream, shape) * float(high - low + 1)), tf.int32)
