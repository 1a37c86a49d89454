"""Boxes in pictures: where they lie once a picture was resized, moved or mirrored.

A box is its top, left, bottom and right edge, in pixels; edges, not centres of pixels, so that a
whole picture is (0, 0, height, width). Shapes: b batch, n boxes.
"""

from __future__ import annotations

from tfbig.core.lazy import np, tf
from tfbig.prep import random

ZOOMED, PLACED, MIRRORED = 11, 12, 13  # streams of a key's random numbers


def fitted(size: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The largest height and width [..., 2] with a size's proportions inside another size.

    Whole numbers of pixels, float32.

    Args:
        size: float32 [..., 2], heights and widths in pixels.
        height, width: what they have to fit inside.
    """
    most = tf.constant([height, width], tf.float32)
    scale = tf.reduce_min(most / size, -1, keepdims=True)
    return tf.clip_by_value(tf.round(size * scale), 1.0, most)


def scale_inside(size: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Vertical and horizontal factor [..., 2] by which `fitted` changes a size."""
    return fitted(size, height, width) / size


def scaled(boxes_bn4: tf.Tensor, scale_b2: tf.Tensor) -> tf.Tensor:
    """Boxes of pictures that were resized by factors (y, x) each."""
    return boxes_bn4 * tf.tile(scale_b2, (1, 2))[:, None]


def moved(
    boxes_bn4: tf.Tensor,
    scale_b2: tf.Tensor,
    offset_b2: tf.Tensor,
    mirrored_b2: tf.Tensor,
    height: int,
    width: int,
) -> tf.Tensor:
    """Boxes of pictures as `tfbig.prep.image.resample` changes them, not cut at their edges."""
    boxes = scaled(boxes_bn4, scale_b2) + tf.tile(offset_b2, (1, 2))[:, None]
    top, left, bottom, right = tf.unstack(boxes, axis=-1)
    over, aside = mirrored_b2[:, :1], mirrored_b2[:, 1:]
    top, bottom = tf.where(over, height - bottom, top), tf.where(over, height - top, bottom)
    left, right = tf.where(aside, width - right, left), tf.where(aside, width - left, right)
    return tf.stack([top, left, bottom, right], -1)


def clipped(boxes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Boxes [..., n, 4] cut at the edges of pictures of a size [..., 2]."""
    most = tf.concat([size, size], -1)[..., None, :]
    return tf.clip_by_value(boxes, 0.0, most)


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Areas of boxes [..., 4] in square pixels; of none, 0."""
    sides = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def drawn_zoom(
    key: tf.Tensor,
    size_b2: tf.Tensor,
    height: int,
    width: int,
    zoom: float,
    flips: tuple[bool, bool],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Random scales, offsets and mirrorings for `resample` and `moved`, of each picture its own.

    A picture that is made larger is cut at random, one that is made smaller lies anywhere.

    Args:
        key: uint32 [b, 2].
        size_b2: heights and widths of what is a picture and not padding, in pixels.
        height, width: of the whole.
        zoom: the largest factor; the smallest is its reciprocal, all in between alike by logarithm.
        flips: whether half of them are mirrored top-bottom, and half left-right.

    Returns:
        scale [b, 2], offset [b, 2] in pixels, mirrored, bool [b, 2].
    """
    spread = tf.math.log(tf.constant(zoom, tf.float32))
    scale = tf.exp((2 * random.uniform(key, ZOOMED) - 1) * spread)[:, None]
    room = tf.constant([height, width], tf.float32) - size_b2 * scale
    offset = random.uniform(key, PLACED, (2,)) * room
    mirrored = (random.uniform(key, MIRRORED, (2,)) < 0.5) & tf.constant(flips)
    return tf.tile(scale, (1, 2)), offset, mirrored


def padded_truth(raw: dict, most: int) -> dict[str, tf.Tensor]:
    """Raw examples with their true boxes padded to the most that there may be, as a reader does."""
    count = np.array([len(boxes) for boxes in raw["boxes"]], np.int32)
    padded = {"boxes_count": count}
    for name in ("boxes", "classes", "crowds"):
        rows = raw[name]
        whole = np.zeros((len(rows), most, *rows[0].shape[1:]), rows[0].dtype)
        for row, values in zip(whole, rows, strict=True):
            row[: len(values)] = values
        padded[name] = whole
    kept = {name: raw[name] for name in ("image", "size")}
    return {name: tf.constant(value) for name, value in {**kept, **padded}.items()}


def padded(value: tf.Tensor, most: int) -> tf.Tensor:
    """True boxes [b, n, ...] padded to the most that there may be."""
    missing = most - tf.shape(value)[1]
    padding = [(0, 0), (0, missing), *[(0, 0)] * (len(value.shape) - 2)]
    padded = tf.pad(value, padding)
    return tf.ensure_shape(padded, (None, most, *value.shape[2:]))
