"""Diffusion: how noise covers a picture in the course of a time, and what undoes it.

At time t in [0, 1] a picture is signal(t) x + noise(t) e, with e of mean 0 and deviation 1, and
signal^2 + noise^2 = 1: a cosine schedule (Nichol and Dhariwal 2021). A network says the velocity,
signal e - noise x (Salimans and Ho 2022), which is neither large nor small at any time.

Shapes: b batch, d width of an embedding; others any [b, ...].
"""

from __future__ import annotations

import math

from tfbig.core.lazy import keras, np, tf

LAST = 0.99  # the time at which writing begins: later, too little signal is left to divide by
FREQUENCIES = (1.0, 1000.0)  # of a time's embedding, turns from time 0 to 1


def scaled(image):
    """uint8 intensities as float32, -1 to 1."""
    return tf.cast(image, tf.float32) * (2 / 255) - 1


def intensities(picture):
    """The reverse of `scaled`, rounded, uint8."""
    grey = tf.clip_by_value(tf.round((picture + 1) * 127.5), 0, 255)
    return tf.cast(grey, tf.uint8)


def signal(time):
    return tf.cos(time * (math.pi / 2))


def noise(time):
    return tf.sin(time * (math.pi / 2))


def _beside(factor_b, values):
    """A number of each example, so that it multiplies all of the example's values."""
    return tf.reshape(factor_b, (-1, *[1] * (len(values.shape) - 1)))


def covered(picture, draw, time_b):
    """Pictures [b, ...] as they are at these times, covered by this noise."""
    return _beside(signal(time_b), picture) * picture + _beside(noise(time_b), picture) * draw


def velocity(picture, draw, time_b):
    """What a network should say of covered pictures."""
    return _beside(signal(time_b), picture) * draw - _beside(noise(time_b), picture) * picture


def uncovered(seen, said, time_b):
    """The picture and the noise that a covered one consists of, if this velocity is right."""
    share, rest = _beside(signal(time_b), seen), _beside(noise(time_b), seen)
    return share * seen - rest * said, rest * seen + share * said


def embedded(time_b, width: int):
    """Sines and cosines of symbolic times, [b, d], float32 whatever the policy."""
    ops = keras.ops
    low, high = np.log(FREQUENCIES)
    turns = np.exp(np.linspace(low, high, width // 2)).astype(np.float32)
    angle = ops.cast(time_b, "float32")[:, None] * (2 * math.pi * turns)[None]
    return ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)
