"""Random numbers as a pure function of a key.

Thus an example's augmentation depends on nothing around it. Every example comes with a key (uint32
[batch, 2]); the same key gives the same numbers in any batch, on any device, compiled or not, as a
tensor or a NumPy array. The mixing function is the finaliser of MurmurHash3 (Appleby 2011), applied
to one word after another.
"""

from __future__ import annotations

import math

from tfbig.core.lazy import np, ops_of, tf


def _mix(word):
    """A bijection of uint32: every input bit changes every output bit with probability one half."""
    ops = ops_of(word)
    word = ops.bitwise_xor(word, ops.right_shift(word, np.uint32(16))) * np.uint32(0x85EBCA6B)
    word = ops.bitwise_xor(word, ops.right_shift(word, np.uint32(13))) * np.uint32(0xC2B2AE35)
    return ops.bitwise_xor(word, ops.right_shift(word, np.uint32(16)))


def bits(key, stream: int, shape: tuple[int, ...] = ()):
    """Random 32-bit words.

    Args:
        key: uint32 [batch, 2], a tensor or a NumPy array, and so are the words.
        stream: which of a key's many independent sequences; each use takes one of its own.
        shape: words wanted for each example.

    Returns:
        uint32 [batch, *shape].
    """
    ops = ops_of(key)
    golden = np.uint32(0x9E3779B9)  # keeps a key of zeros from staying zero
    state = _mix(key[:, 0] + golden)
    state = _mix(ops.bitwise_xor(state, key[:, 1]) + golden)
    state = _mix(ops.bitwise_xor(state, np.uint32(stream)) + golden)
    counter = ops.array(ops.arange(math.prod(shape), dtype="int32"), "uint32")
    words = _mix(_mix(state[:, None] + counter[None] * golden) + golden)
    return ops.reshape(words, (-1, *shape))


def uniform(key, stream: int, shape: tuple[int, ...] = ()):
    """Uniform float32 numbers in [0, 1), [batch, *shape]; see `bits`."""
    ops = ops_of(key)
    top = ops.right_shift(bits(key, stream, shape), np.uint32(8))
    return ops.array(ops.array(top, "int32"), "float32") * 2.0**-24


def integers(
    key: tf.Tensor, stream: int, low: int, high: int, shape: tuple[int, ...] = ()
) -> tf.Tensor:
    """Uniform int32 numbers from low to high, both included, [batch, *shape]; see `bits`."""
    return low + tf.cast(tf.floor(uniform(key, stream, shape) * float(high - low + 1)), tf.int32)


def normal(key, stream: int, shape: tuple[int, ...] = ()):
    """Normal float32 numbers of mean 0 and deviation 1, [batch, *shape]; see `bits`.

    Box and Muller 1958: two uniform numbers for each.
    """
    ops = ops_of(key)
    pairs = uniform(key, stream, (2, *shape))
    length = ops.sqrt(-2.0 * ops.log(1.0 - pairs[:, 0]))  # of 1 - [0, 1), so never of 0
    return length * ops.cos(pairs[:, 1] * np.float32(2 * math.pi))
