"""Random changes of recordings while training, each a pure function of an example's key.

Shapes: b recordings, n samples, t frames, m mel bands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfbig.core.lazy import tf
from tfbig.prep import random

SPEED, START, GAIN, NOISE, LOUDNESS, BANDS, FRAMES = range(20, 27)  # streams of random numbers
QUIET = 1e-4  # of full scale: silence's level, against which noise is measured


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How recordings are changed.

    Attributes:
        speed: faster or slower by up to this share, and higher or lower (Ko et al. 2015).
        shift_s: zeros of up to so many seconds before a recording.
        gain_db: louder or quieter by up to so much.
        noise: share of recordings under which white noise is laid, 10 to 40 dB below them.
    """

    speed: float = 0.0
    shift_s: float = 0.0
    gain_db: float = 0.0
    noise: float = 0.0

    def longest(self, samples: int, rate_hz: int) -> int:
        """Samples that so many may become."""
        return math.ceil(samples / (1 - self.speed)) + round(self.shift_s * rate_hz)

    def __call__(self, samples_bn, count_b, key, rate_hz: int, least_b=None):
        """Changed samples [b, longest(n)] and how many are real, int32 [b].

        Args:
            samples_bn: float32, zeros behind the count.
            count_b: int32.
            key: uint32 [b, 2].
            rate_hz: samples a second.
            least_b: samples that each must still have, whatever its speed; None: any number.
        """
        whole = samples_bn.shape[1]
        if self.speed or self.shift_s:
            speed = 1 + self.speed * (2 * random.uniform(key, SPEED) - 1)
            if least_b is not None:
                fastest = tf.cast(count_b, tf.float32) / tf.cast(tf.maximum(least_b, 1), tf.float32)
                speed = tf.minimum(speed, tf.maximum(fastest, 1 - self.speed))
            most = round(self.shift_s * rate_hz)
            start = random.integers(key, START, 0, most)
            samples_bn = _played(samples_bn, speed, start, self.longest(whole, rate_hz))
            heard = tf.cast(tf.math.ceil(tf.cast(count_b, tf.float32) / speed), tf.int32)
            count_b = start + heard
        real = tf.sequence_mask(count_b, samples_bn.shape[1], tf.float32)
        if self.noise:
            samples_bn = self._noisy(samples_bn * real, count_b, key) * real
        if self.gain_db:
            decibel = self.gain_db * (2 * random.uniform(key, GAIN) - 1)
            samples_bn = samples_bn * tf.pow(10.0, decibel / 20)[:, None]
        return tf.clip_by_value(samples_bn * real, -1.0, 1.0), count_b

    def _noisy(self, samples, count, key):
        draws = random.uniform(key, LOUDNESS, (2,))
        power = tf.reduce_sum(tf.square(samples), 1) / tf.cast(tf.maximum(count, 1), tf.float32)
        level = tf.sqrt(power + QUIET**2) * tf.pow(10.0, -(10 + 30 * draws[:, 0]) / 20)
        level = tf.where(draws[:, 1] < self.noise, level, 0.0)
        noise = random.uniform(key, NOISE, (samples.shape[1],)) - 0.5
        return samples + math.sqrt(12) * level[:, None] * noise


def _played(samples, speed_b, start_b, length: int):
    """Recordings that begin at a place and are played at a speed, [b, length].

    Between samples there are cubic curves (Catmull and Rom 1974).
    """
    place = tf.cast(tf.range(length)[None] - start_b[:, None], tf.float32) * speed_b[:, None]
    first = tf.floor(place)
    x = (place - first)[:, :, None]
    # Zeros around, for what is asked beyond either end
    padded = tf.pad(samples, [[0, 0], [2, 3]])
    index = tf.clip_by_value(tf.cast(first, tf.int32) + 1, 0, padded.shape[1] - 4)
    a, b, c, d = (tf.gather(padded, index + i, batch_dims=1)[:, :, None] for i in range(4))
    curve = b + 0.5 * x * (c - a + x * (2 * a - 5 * b + 4 * c - d + x * (3 * (b - c) + d - a)))
    inside = (place >= 0) & (place < samples.shape[1])
    return tf.where(inside, curve[:, :, 0], 0.0)


def masked(frames_btm, count_b, key, *, masks: int, bands: int, share: float):
    """Frames with some bands, and some times, of each recording as zeros.

    SpecAugment (Park et al. 2019), without warping.

    Args:
        frames_btm: normalised, so that zero is the mean.
        count_b: real frames.
        key: uint32 [b, 2].
        masks: of either kind.
        bands: a mask is narrower than so many.
        share: a mask is shorter than this share of the real frames.
    """
    whole = tf.fill(tf.shape(count_b), frames_btm.shape[2])
    widest = tf.minimum(bands, whole)
    quiet = _stripes(key, BANDS, masks, whole, widest, frames_btm.shape[2])
    longest = tf.cast(share * tf.cast(count_b, tf.float32), tf.int32)
    short = _stripes(key, FRAMES, masks, count_b, longest, frames_btm.shape[1])
    return tf.where(quiet[:, None, :] | short[:, :, None], 0.0, frames_btm)


def _stripes(key, stream: int, number: int, whole_b, most_b, length: int):
    """Which places stand in one of so many stripes, bool [b, length]."""
    draws = random.uniform(key, stream, (2, number))
    whole, most = (tf.cast(value, tf.float32)[:, None] for value in (whole_b, most_b))
    width = tf.floor(draws[:, 0] * most)
    start = tf.floor(draws[:, 1] * (whole - width + 1))
    place = tf.range(length, dtype=tf.float32)[None, None]
    inside = (place >= start[:, :, None]) & (place < (start + width)[:, :, None])
    return tf.reduce_any(inside, 1)
