"""Policies of random changes to pictures: RandAugment, MixUp and CutMix.

Static shapes, graph-safe, compilable; randomness from each example's key alone. Shapes: b batch, h
height, w width, c channels.
"""

from __future__ import annotations

import functools
import math

from tfbig.core.lazy import np, tf
from tfbig.prep import random

# Streams of a key's random numbers, beside those of `prep.image` and `prep.random_view`
MIX, BOX, CHANGES = 6, 7, 16
ROTATE, SHEAR_X, SHEAR_Y, MOVE_X, MOVE_Y = range(5)
COLOURS = ("autocontrast", "equalize", "posterize", "solarize", "sharpness") + (
    "brightness",
    "contrast",
    "colour",
)
OPERATIONS = 6 + len(COLOURS)  # the sixth of geometry is to leave a picture as it is
MOST_DEGREES, MOST_SHEAR, MOST_MOVE, MOST_FACTOR, MOST_BITS = 30.0, 0.3, 0.45, 0.9, 4
FILL = 128.0  # what comes in from outside
GREY = (0.299, 0.587, 0.114)  # of red, green, blue
QUANTILES = 4096


def rand_augment(image_bhwc: tf.Tensor, key: tf.Tensor, changes: int, strength: float) -> tf.Tensor:
    """Each picture (uint8) changed in a random way, and again, `changes` times (Cubuk et al. 2020).

    A change is one of 14: it rotates by up to 30 degrees, shears by up to 0.3, moves by up to 0.45
    of a side; or it leaves the picture as it is, stretches its contrast, equalises its histogram,
    keeps but 4 bits, inverts what is bright, or makes it up to 1.9 times or as little as 0.1 times
    as sharp, bright, rich in contrast, colourful.

    Args:
        image_bhwc: pictures.
        key: uint32 [b, 2].
        changes: to each picture, one after another.
        strength: 0 to 1, of every change.
    """
    for number in range(changes):
        which = random.integers(key, CHANGES + 2 * number, 0, OPERATIONS - 1)
        side = random.integers(key, CHANGES + 2 * number + 1, 0, 1)
        level = strength * tf.cast(2 * side - 1, tf.float32)
        moved = _moved(tf.cast(image_bhwc, tf.float32), which, level)
        changed = _recoloured(moved, which - 6, level, strength)
        image_bhwc = tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8)
    return image_bhwc


def _moved(image_bhwc: tf.Tensor, which_b: tf.Tensor, level_b: tf.Tensor) -> tf.Tensor:
    """Each picture rotated, sheared or moved, by bilinear interpolation."""
    height, width, channels = image_bhwc.shape[1:]

    def only(operation, most):
        return tf.where(which_b == operation, most * level_b, 0.0)[:, None, None]

    angle = only(ROTATE, math.radians(MOST_DEGREES))
    y = (tf.range(height, dtype=tf.float32) - (height - 1) / 2)[None, :, None]
    x = (tf.range(width, dtype=tf.float32) - (width - 1) / 2)[None, None]
    row = tf.cos(angle) * y - tf.sin(angle) * x + only(SHEAR_Y, MOST_SHEAR) * x
    column = tf.sin(angle) * y + tf.cos(angle) * x + only(SHEAR_X, MOST_SHEAR) * y
    row += only(MOVE_Y, MOST_MOVE * height) + (height - 1) / 2
    column += only(MOVE_X, MOST_MOVE * width) + (width - 1) / 2
    inside = (row > -0.5) & (row < height - 0.5) & (column > -0.5) & (column < width - 0.5)
    row = tf.clip_by_value(row, 0.0, height - 1.0)
    column = tf.clip_by_value(column, 0.0, width - 1.0)
    top, left = tf.floor(row), tf.floor(column)
    flat = tf.reshape(image_bhwc, (-1, height * width, channels))

    def corner(down, right):
        weight = (row - top if down else 1 - (row - top)) * (
            column - left if right else 1 - (column - left)
        )
        rows = tf.minimum(top + down, height - 1.0)
        columns = tf.minimum(left + right, width - 1.0)
        index = tf.cast(rows * width + columns, tf.int32)
        pixels = tf.gather(flat, tf.reshape(index, (-1, height * width)), axis=1, batch_dims=1)
        return tf.reshape(pixels, tf.shape(image_bhwc)) * weight[..., None]

    moved = corner(0, 0) + corner(0, 1) + corner(1, 0) + corner(1, 1)
    moved = tf.where(inside[..., None], moved, FILL)
    is_moved = (which_b <= MOVE_Y)[:, None, None, None]
    return tf.ensure_shape(tf.where(is_moved, moved, image_bhwc), image_bhwc.shape)


def _recoloured(image_bhwc, which_b, level_b, strength: float) -> tf.Tensor:
    """Each picture with the colours that one of COLOURS makes, float32; others as they are."""
    factor = (1 + MOST_FACTOR * level_b)[:, None, None, None]
    whole = tf.round(image_bhwc)
    changes = {
        "autocontrast": lambda: autocontrast(whole),
        "equalize": lambda: equalize(whole),
        "posterize": lambda: posterize(whole, 8 - round(MOST_BITS * strength)),
        "solarize": lambda: tf.where(whole < 256 * (1 - strength), whole, 255 - whole),
        "sharpness": lambda: _blended(smooth(whole), whole, factor),
        "brightness": lambda: whole * factor,
        "contrast": lambda: _blended(tf.reduce_mean(grey(whole), (1, 2), True), whole, factor),
        "colour": lambda: _blended(grey(whole), whole, factor),
    }
    result = image_bhwc
    for number, name in enumerate(COLOURS):
        chosen = (which_b == number)[:, None, None, None]
        result = tf.where(chosen, changes[name](), result)
    return result


def _blended(from_bhwc: tf.Tensor, to_bhwc: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0: the first, 1: the second, more: beyond it."""
    return from_bhwc + factor * (to_bhwc - from_bhwc)


def grey(image_bhwc: tf.Tensor) -> tf.Tensor:
    """Brightness [b, h, w, 1] of colours, or a picture without colours itself."""
    if image_bhwc.shape[-1] != 3:
        return image_bhwc
    return tf.reduce_sum(image_bhwc * tf.constant(GREY, image_bhwc.dtype), -1, keepdims=True)


def posterize(image_bhwc: tf.Tensor, bits: int) -> tf.Tensor:
    """Whole intensities with only so many of their upper bits."""
    step = 2.0 ** (8 - bits)
    return tf.floor(image_bhwc / step) * step


def smooth(image_bhwc: tf.Tensor) -> tf.Tensor:
    """Blurred by Pillow's kernel SMOOTH, 3 x 3, but for the outermost pixels."""
    kernel = np.ones((3, 3)) / 13
    kernel[1, 1] = 5 / 13
    height, width = image_bhwc.shape[1:3]
    inner = sum(
        kernel[i, j] * image_bhwc[:, i : height - 2 + i, j : width - 2 + j]
        for i in range(3)
        for j in range(3)
    )
    y, x = np.arange(height), np.arange(width)
    is_inner = np.outer((y > 0) & (y < height - 1), (x > 0) & (x < width - 1))
    padded = tf.pad(inner, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return tf.where(is_inner[None, :, :, None], padded, image_bhwc)


def autocontrast(image_bhwc: tf.Tensor) -> tf.Tensor:
    """Each channel stretched so that its darkest pixel is 0 and its brightest 255."""
    low = tf.reduce_min(image_bhwc, (1, 2), keepdims=True)
    high = tf.reduce_max(image_bhwc, (1, 2), keepdims=True)
    stretched = tf.floor((image_bhwc - low) * (255 / tf.maximum(high - low, 1)) + 1e-3)
    return tf.where(high > low, stretched, image_bhwc)


def equalize(image_bhwc: tf.Tensor) -> tf.Tensor:
    """Each channel's intensities (whole numbers) spread so that all are about equally frequent."""
    batch, (height, width, channels) = tf.shape(image_bhwc)[0], image_bhwc.shape[1:]
    planes = tf.reshape(
        tf.transpose(tf.cast(image_bhwc, tf.int32), (0, 3, 1, 2)), (-1, height * width)
    )
    offset = 256 * tf.range(batch * channels)[:, None]
    ones = tf.ones_like(planes)
    counts = tf.math.unsorted_segment_sum(ones, planes + offset, batch * channels * 256)
    counts = tf.reshape(counts, (-1, 256))
    value = tf.range(256)[None]
    last = tf.reduce_max(tf.where(counts > 0, value, 0), 1, keepdims=True)
    of_last = tf.gather(counts, last, axis=1, batch_dims=1)
    step = (height * width - of_last) // 255
    before = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((before + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, value)
    equal = tf.gather(table, planes, axis=1, batch_dims=1)
    equal = tf.transpose(tf.reshape(equal, (-1, channels, height, width)), (0, 2, 3, 1))
    return tf.cast(tf.ensure_shape(equal, image_bhwc.shape), image_bhwc.dtype)


def mix(
    image_bhwc: tf.Tensor, key: tf.Tensor, mixup: float, cutmix: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Each picture mixed with its neighbour: 0 with 1, 2 with 3, ...

    By MixUp (Zhang et al. 2018) all over it, or by CutMix (Yun et al. 2019) in a rectangle; if both
    are wanted, by either with probability one half.

    Args:
        image_bhwc: pictures, an even number of them, float32.
        key: uint32 [b, 2].
        mixup: the shares of a picture and its neighbour are of Beta(mixup, mixup); 0: no MixUp.
        cutmix: so for CutMix's areas.

    Returns:
        The mixed pictures, and how much of each is still its own, float32 [b]; the rest is its
        neighbour's.
    """
    other = neighbours(image_bhwc)
    uniform = random.uniform(key, MIX, (2,))
    results = []
    if mixup:
        share = _beta(uniform[:, 0], mixup)
        weight = share[:, None, None, None]
        results.append((weight * image_bhwc + (1 - weight) * other, share))
    if cutmix:
        inside = _rectangle(key, _beta(uniform[:, 0], cutmix), *image_bhwc.shape[1:3])
        share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), (1, 2))
        results.append((tf.where(inside[..., None], other, image_bhwc), share))
    if len(results) == 1:
        return results[0]
    (mixed, share), (cut, cut_share) = results
    is_cut = uniform[:, 1] < 0.5
    return tf.where(is_cut[:, None, None, None], cut, mixed), tf.where(is_cut, cut_share, share)


def neighbours(values: tf.Tensor) -> tf.Tensor:
    """Each row's neighbour in place of it: rows 1, 0, 3, 2, ..."""
    pairs = tf.reshape(values, (-1, 2, *values.shape[1:]))
    return tf.reshape(pairs[:, ::-1], tf.shape(values))


def _rectangle(key, kept_b, height: int, width: int) -> tf.Tensor:
    """[b, h, w]: where a rectangle lies of 1 - `kept_b` of the area, cut at the edge."""
    side = tf.sqrt(1 - kept_b)
    centre = random.uniform(key, BOX, (2,))

    def within(length, place):
        pixel = (tf.range(length, dtype=tf.float32) + 0.5) / length
        return tf.abs(pixel[None] - place[:, None]) < side[:, None] / 2

    return within(height, centre[:, 0])[:, :, None] & within(width, centre[:, 1])[:, None]


def _beta(uniform_b: tf.Tensor, alpha: float) -> tf.Tensor:
    """Numbers of Beta(alpha, alpha) from uniform ones, by a table of its quantiles."""
    table = tf.constant(_quantiles(alpha), tf.float32)
    place = uniform_b * (QUANTILES - 1)
    low = tf.floor(place)
    index = tf.cast(low, tf.int32)
    above = tf.gather(table, tf.minimum(index + 1, QUANTILES - 1))
    return tf.gather(table, index) + (place - low) * (above - tf.gather(table, index))


@functools.lru_cache(maxsize=8)
def _quantiles(alpha: float) -> np.ndarray:
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, np.linspace(0, 1, QUANTILES))
