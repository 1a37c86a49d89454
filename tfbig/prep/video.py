"""Transforms of batches of clips; what is drawn for a clip holds for all its frames.

Static shapes, graph-safe, compilable; randomness from each example's key alone. Shapes: b batch, t
frames, h height, w width, c channels.
"""

from __future__ import annotations

from tfbig.core.lazy import tf
from tfbig.prep import image, random

START = 16  # the stream of a key's random numbers that says where a clip begins


def random_clip(video_bthwc: tf.Tensor, key: tf.Tensor, length: int) -> tf.Tensor:
    """So many frames in a row of each video, from anywhere in it."""
    spare = video_bthwc.shape[1] - length
    if not spare:
        return video_bthwc
    first = random.integers(key, START, 0, spare)
    return tf.gather(video_bthwc, first[:, None] + tf.range(length), axis=1, batch_dims=1)


def random_shift(clip_bthwc: tf.Tensor, key: tf.Tensor, padding: int) -> tf.Tensor:
    """Each clip shifted by up to `padding` pixels both ways, the edge's mirror image coming in."""
    _, frames, height, width, channels = clip_bthwc.shape
    together = tf.transpose(clip_bthwc, (0, 2, 3, 1, 4))
    together = tf.reshape(together, (-1, height, width, frames * channels))
    together = image.random_crop(together, key, padding, mode="mirror")
    apart = tf.reshape(together, (-1, height, width, frames, channels))
    return tf.transpose(apart, (0, 3, 1, 2, 4))


def random_flip(clip_bthwc: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Each clip mirrored left-right with probability one half."""
    flipped = image.random_flip(_stacked(clip_bthwc), key)
    return tf.reshape(flipped, (-1, *clip_bthwc.shape[1:]))


def random_colours(clip_bthwc: tf.Tensor, key: tf.Tensor, strength: float) -> tf.Tensor:
    """Each clip (0-255) with another brightness, contrast and colour, float32.

    See `tfbig.prep.image.random_colours`.
    """
    stack = _stacked(clip_bthwc)
    whole = tf.constant([list(stack.shape[1:3])], tf.float32)
    changed = image.random_colours(stack, key, strength, whole)
    return tf.reshape(changed, (-1, *clip_bthwc.shape[1:]))


def _stacked(clip_bthwc: tf.Tensor) -> tf.Tensor:
    """The frames of each clip, one below the other, as one picture."""
    _, frames, height, width, channels = clip_bthwc.shape
    return tf.reshape(clip_bthwc, (-1, frames * height, width, channels))
