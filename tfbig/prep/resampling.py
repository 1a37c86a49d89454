"""Recordings of any rate brought to a model's own, in a graph.

The filter is that of scipy.signal.resample_poly: a windowed sinc (Kaiser's window, beta 5) that
reaches ten samples of the lower rate to either side. Its taps are figures of both rates, so they
are computed when a recording's rate is known.

Shapes: n samples of one rate, m of the other, k taps that a sample is made of.
"""

from __future__ import annotations

import math

from tfbig.core.lazy import tf

REACH, BETA = 10, 5.0  # of the filter, in samples of the lower rate, and of Kaiser's window
RATES_HZ = 4000, 192_000  # that are taken: the filter has 21 taps for each hertz of a prime rate
PORTION = 1 << 14  # samples made at once
LEAST = 64  # samples of a block at least
LARGEST = 1_000_000  # sizes of a block's matrix, multiplied
TERMS = 24  # of the Bessel function's series: exact for arguments up to 5


def resampled_length(count, rate_hz, wanted_hz: int):
    """Samples that so many are resampled to, int32."""
    count, rate = (tf.cast(value, tf.int64) for value in (count, rate_hz))
    return tf.cast(-(-count * wanted_hz // rate), tf.int32)


def resampled(samples_n, rate_hz, wanted_hz: int):
    """One recording as scipy.signal.resample_poly makes it, float32 [m].

    The same to 1e-5 of full scale.

    Args:
        samples_n: float32.
        rate_hz: its samples a second, int32 scalar, a tensor.
        wanted_hz: those that are wanted.
    """
    rate = tf.cast(rate_hz, tf.int64)
    length = resampled_length(tf.shape(samples_n)[0], rate_hz, wanted_hz)
    same = tf.equal(rate, wanted_hz)
    return tf.cond(same, lambda: samples_n, lambda: _made(samples_n, rate, wanted_hz, length))


def _made(samples, rate, wanted_hz: int, length):
    shared = _common_divisor(rate, tf.constant(wanted_hz, tf.int64))
    up, down = wanted_hz // shared, rate // shared
    half = REACH * tf.maximum(up, down)
    taps = _taps(up, down, half)
    length = tf.cast(length, tf.int64)
    made = tf.cond(
        up * down <= LARGEST,
        lambda: _by_matrix(samples, taps, up, down, half, length),
        lambda: _one_by_one(samples, taps, up, down, half, length),
    )
    return made[:length]


def _by_matrix(samples, taps, up, down, half, length):
    """Blocks of samples, each a matrix times what it is made of: for rates that share much."""
    several = tf.maximum(LEAST // up, 1)
    block, step = several * up, several * down  # samples that are made, of how many
    before = half // up + 1
    taken = before + ((block - 1) * down + half) // up + 1
    tap = tf.range(block) * down - (tf.range(taken)[:, None] - before) * up + half
    inside = (tap >= 0) & (tap <= 2 * half)
    matrix = tf.where(inside, tf.gather(taps, tf.clip_by_value(tap, 0, 2 * half)), 0.0)
    together = PORTION // block + 1
    padded = tf.pad(samples, [[before, taken + together * step]])
    last = tf.shape(padded, tf.int64)[0] - 1

    def portion(first):
        source = (first + tf.range(together))[:, None] * step + tf.range(taken)
        own = tf.gather(padded, tf.minimum(source, last))
        return tf.reshape(tf.matmul(own, matrix), [-1])

    starts = tf.range(0, (length + block - 1) // block, together)
    return _joined(portion, starts)


def _one_by_one(samples, taps, up, down, half, length):
    """Each sample from its own taps: for rates that share little, whose matrix would be large."""
    taken = 2 * half // up + 1  # samples that one is made of, at most
    # Zeros on both sides, for what is asked beyond either end
    padded = tf.pad(samples, [[taken, taken]])
    last = tf.shape(padded, tf.int64)[0] - 1
    each = tf.range(taken)[None]

    def portion(first):
        place = (first + tf.range(PORTION, dtype=tf.int64))[:, None] * down
        source = -((half - place) // up) + each
        tap = place - source * up + half
        weight = tf.where(tap >= 0, tf.gather(taps, tf.maximum(tap, 0)), 0.0)
        own = tf.gather(padded, tf.clip_by_value(source + taken, 0, last))
        return tf.reduce_sum(own * weight, 1)

    return _joined(portion, tf.range(0, length, PORTION))


def _joined(portion, starts):
    """Portions one after another, float32 [m], so that few take memory at once."""
    spec = tf.TensorSpec([None], tf.float32)
    portions = tf.map_fn(portion, starts, fn_output_signature=spec, parallel_iterations=1)
    return tf.reshape(portions, [-1])


def _taps(up, down, half):
    """The filter, float32 [2 half + 1], whose sum is `up`."""
    place = tf.cast(tf.range(-half, half + 1), tf.float64)
    angle = math.pi * place / tf.cast(tf.maximum(up, down), tf.float64)
    one = tf.ones_like(angle)
    sinc = tf.where(place == 0, one, tf.sin(angle) / tf.where(place == 0, one, angle))
    inside = 1 - tf.square(place / tf.cast(half, tf.float64))
    taps = sinc * _bessel((BETA / 2) ** 2 * inside)
    return tf.cast(taps * tf.cast(up, tf.float64) / tf.reduce_sum(taps), tf.float32)


def _bessel(quarter):
    """The modified Bessel function of order 0, of x where `quarter` is x^2 / 4."""
    total = term = tf.ones_like(quarter)
    for number in range(1, TERMS):
        term = term * quarter / number**2
        total += term
    return total


def _common_divisor(a, b):
    """The greatest number that divides both."""
    return tf.while_loop(
        lambda a, b: b > 0, lambda a, b: (b, tf.math.floormod(a, b)), (a, b), parallel_iterations=1
    )[0]
