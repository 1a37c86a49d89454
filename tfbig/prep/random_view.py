"""Random parts of encoded pictures, resized: of a JPEG no more is decoded than is seen.

Inception's way of taking pictures for training (Szegedy et al. 2015).
"""

from __future__ import annotations

import functools
import math

from tfbig.core.lazy import tf
from tfbig.prep import headers, image, pictures, random

PART = 5  # stream of a key's random numbers, beside those of `prep.image`
PROPORTIONS = 3 / 4, 4 / 3  # of width to height, over those of what is wanted
TRIES = 10  # of which the first that fits the picture is taken
SMALLER = (1, 2, 4, 8)  # to one in so many pixels a JPEG is decoded quickly
# Shrunk by more than that pixels are averaged; less is quicker without, and training needs no more
ALIASED = 2.0


def random_part(
    size: tf.Tensor, key: tf.Tensor, least_area: float, proportion: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Top, left, height and width (int32 scalars) of a random part of a picture.

    Args:
        size: height and width of the picture in pixels, int32 [2].
        key: uint32 [2].
        least_area: the part's area is at least so large a share of the picture's.
        proportion: width over height of what is wanted; the part's is near to it.
    """
    height, width = tf.unstack(tf.cast(size, tf.float32))
    area, wide, top, left = tf.unstack(random.uniform(key[None], PART, (TRIES, 4))[0], axis=1)
    low, high = (math.log(bound * proportion) for bound in PROPORTIONS)
    wide = tf.exp(low + (high - low) * wide)
    area = (least_area + (1 - least_area) * area) * height * width
    rows, columns = tf.round(tf.sqrt(area / wide)), tf.round(tf.sqrt(area * wide))
    fits = (rows >= 1) & (columns >= 1) & (rows <= height) & (columns <= width)
    # Of a picture so narrow that none fits, all of its shorter side
    nearest = tf.clip_by_value(width / height, math.exp(low), math.exp(high))
    rows = tf.concat([rows, [tf.minimum(height, tf.maximum(1.0, tf.round(width / nearest)))]], 0)
    columns = tf.concat(
        [columns, [tf.minimum(width, tf.maximum(1.0, tf.round(height * nearest)))]], 0
    )
    choice = tf.argmax(tf.concat([fits, [True]], 0), output_type=tf.int32)
    place = tf.minimum(choice, TRIES - 1)
    rows, columns = rows[choice], columns[choice]
    top = tf.floor(top[place] * (height - rows + 1))
    left = tf.floor(left[place] * (width - columns + 1))
    return tuple(tf.cast(value, tf.int32) for value in (top, left, rows, columns))


def decode_random(
    encoded: tf.Tensor,
    key: tf.Tensor,
    shape: tuple[int, int, int],
    background: int,
    least_area: float,
) -> tf.Tensor:
    """A random part of one encoded picture, uint8 [height, width, channels]; see `random_part`.

    The picture is what `pictures.decode_whole` makes of it, turned as its EXIF says, and refused
    for the same reasons. A JPEG that is much larger than what is wanted is decoded to fewer pixels.
    """
    height, width, channels = shape
    pick = functools.partial(random_part, key=key, least_area=least_area, proportion=width / height)

    def jpeg():
        part = _jpeg_part(encoded, channels, pick, (height, width))
        return _resized(part, height, width)

    def other():
        whole = pictures.decode_whole(encoded, channels, background)
        top, left, rows, columns = pick(tf.shape(whole)[:2])
        return _resized(whole[top : top + rows, left : left + columns], height, width)

    with tf.device("CPU"):
        part = tf.cond(headers.begins(encoded, headers.JPEG), jpeg, other)
        return tf.ensure_shape(part, shape)


def decode_all_random(
    encoded_b: tf.Tensor,
    key_b2: tf.Tensor,
    shape: tuple[int, int, int],
    background: int,
    least_area: float,
) -> tf.Tensor:
    """`decode_random` of encoded pictures (string [b]), uint8 [b, height, width, channels]."""
    return tf.map_fn(
        lambda each: decode_random(*each, shape, background, least_area),
        (encoded_b, key_b2),
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )


@functools.lru_cache(maxsize=16)
def random_decoder(shape: tuple[int, int, int], background: int, least_area: float):
    """`decode_all_random` as a graph, which decodes several at a time: (encoded, keys) to them."""

    def decode_each(encoded, keys):
        return decode_all_random(encoded, keys, shape, background, least_area)

    signature = [tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 2], tf.uint32)]
    return tf.function(decode_each, input_signature=signature, autograph=False)


def _jpeg_part(encoded, channels, pick, wanted) -> tf.Tensor:
    """The part of a JPEG, as it is meant to be seen."""
    size = headers.jpeg_shape(encoded)
    orientation = headers.jpeg_orientation(encoded)
    lies = orientation >= 5  # rows are stored as columns
    stored = tf.cast(size[:2], tf.int32)
    upright = tf.where(lies, stored[::-1], stored)
    top, left, rows, columns = pick(upright)
    smaller = tf.minimum(rows // wanted[0], columns // wanted[1])
    # `pictures.turned`, undone
    is_one_of = functools.partial(_is_one_of, orientation)
    top = tf.where(is_one_of(3, 4, 7, 8), upright[0] - top - rows, top)
    left = tf.where(is_one_of(2, 3, 6, 7), upright[1] - left - columns, left)
    window = tf.stack([top, left, rows, columns])
    window = tf.where(lies, tf.gather(window, (1, 0, 3, 2)), window)

    def decoded(ratio):
        def operation(content, **how):
            inside = tf.maximum(window // ratio, (0, 0, 1, 1))
            return tf.image.decode_and_crop_jpeg(content, inside, ratio=ratio, **how)

        return lambda: pictures.decode_jpeg(encoded, channels, size, operation)

    which = tf.reduce_sum(tf.cast(smaller >= SMALLER[1:], tf.int32))
    part = tf.switch_case(which, [decoded(ratio) for ratio in SMALLER])
    return tf.cond(orientation > 1, lambda: pictures.turned(part, orientation), lambda: part)


def _is_one_of(number: tf.Tensor, *numbers: int) -> tf.Tensor:
    return tf.reduce_any(tf.equal(number, numbers))


def _resized(part_hwc: tf.Tensor, height: int, width: int) -> tf.Tensor:
    size = tf.shape(part_hwc)
    shrinks = (size[0] > int(ALIASED * height)) | (size[1] > int(ALIASED * width))

    def quick():
        resized = tf.raw_ops.ResizeBilinear(
            images=part_hwc[None], size=(height, width), half_pixel_centers=True
        )
        return tf.cast(resized[0] + 0.5, tf.uint8)

    return tf.cond(shrinks, lambda: image.resize(part_hwc, height, width), quick)
