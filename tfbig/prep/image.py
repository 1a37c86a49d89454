"""Transforms of image batches.

Static shapes, graph-safe, compilable; randomness from each example's key alone.

Random transforms work on intensities (uint8), before `standardize`. Shapes: b batch, h height, w
width, c channels.
"""

from __future__ import annotations

from collections.abc import Iterable

from tfbig.core.lazy import np, tf
from tfbig.prep import random

# One stream of a key's random numbers for each use.
SHIFT, FLIP, CUT, COLOURS = 1, 2, 3, 4


def standardize(image_bhwc: tf.Tensor, mean: list[float], std: list[float]) -> tf.Tensor:
    """(image - mean) / std for each channel, as float32."""
    return (tf.cast(image_bhwc, tf.float32) - tf.constant(mean, tf.float32)) / tf.constant(
        std, tf.float32
    )


def channel_statistics(batches: Iterable[np.ndarray]) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel, as `standardize` takes them.

    Args:
        batches: arrays of pixels, 0-255, [..., channels].
    """
    total = squares = count = 0
    for batch in batches:
        pixels = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
        count += len(pixels)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1e-12))
    # A channel that never changes is passed on as zero rather than divided by nothing.
    deviation = np.where(deviation < 1e-3, 1.0, deviation)
    return {
        "mean": [round(float(x), 6) for x in mean],
        "std": [round(float(x), 6) for x in deviation],
    }


def random_crop(
    image_bhwc: tf.Tensor, key: tf.Tensor, padding: int, mode: str = "black"
) -> tf.Tensor:
    """Each picture shifted by up to `padding` pixels both ways.

    Same as padding and cropping at random.

    Args:
        image_bhwc: pictures.
        key: uint32 [b, 2].
        padding: largest shift in pixels; less than height and width.
        mode: what comes in at the edge: "black" (zeros) or "mirror" (reflection without the edge
            pixel itself).
    """
    height, width = image_bhwc.shape[1:3]
    if padding >= min(height, width):
        raise ValueError(
            f"random_crop: expected a padding below the picture's size {height} x {width}."
            f" Received: {padding}."
        )
    shift = random.integers(key, SHIFT, -padding, padding, (2,))
    row = tf.range(height)[None] + shift[:, :1]
    column = tf.range(width)[None] + shift[:, 1:]
    moved = _pick(image_bhwc, _reflect(row, height), _reflect(column, width))
    if mode == "mirror":
        return moved
    inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None]
    return moved * tf.cast(inside, image_bhwc.dtype)[..., None]


def _reflect(index: tf.Tensor, size: int) -> tf.Tensor:
    return (size - 1) - tf.abs((size - 1) - tf.abs(index))


def _pick(image_bhwc: tf.Tensor, row_bh: tf.Tensor, column_bw: tf.Tensor) -> tf.Tensor:
    """The pixels at each picture's own rows and columns, as one gather."""
    height, width, channels = image_bhwc.shape[1:]
    flat = tf.reshape(image_bhwc, (-1, height * width, channels))
    index = row_bh[:, :, None] * width + column_bw[:, None]
    return tf.reshape(
        tf.gather(flat, tf.reshape(index, (-1, height * width)), axis=1, batch_dims=1),
        tf.shape(image_bhwc),
    )


def random_flip(image_bhwc: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Each picture mirrored left-right with probability one half."""
    mirrored = random.uniform(key, FLIP) < 0.5
    return tf.where(mirrored[:, None, None, None], image_bhwc[:, :, ::-1], image_bhwc)


def cutout(image_bhwc: tf.Tensor, key: tf.Tensor, size: int) -> tf.Tensor:
    """A black square of `size` pixels around a random pixel of each picture, cut at the edge.

    DeVries and Taylor 2017.
    """
    height, width = image_bhwc.shape[1:3]
    place = random.uniform(key, CUT, (2,)) * tf.constant([height, width], tf.float32)
    start = tf.cast(tf.floor(place), tf.int32) - size // 2
    row = tf.range(height)[None] - start[:, :1]
    column = tf.range(width)[None] - start[:, 1:]
    hidden = ((row >= 0) & (row < size))[:, :, None] & ((column >= 0) & (column < size))[:, None]
    return image_bhwc * tf.cast(~hidden, image_bhwc.dtype)[..., None]


def centre(image_hwc: tf.Tensor, height: int, width: int, share: float = 1.0) -> tf.Tensor:
    """A part in the middle of a picture with the proportions `width` : `height`.

    Its sides are `share` of those of the largest one.
    """
    size = tf.shape(image_hwc)
    rows = tf.minimum(size[0], size[1] * height // width)
    columns = tf.minimum(size[1], size[0] * width // height)
    if share < 1:
        rows, columns = (
            tf.cast(tf.round(tf.cast(count, tf.float32) * share), tf.int32)
            for count in (rows, columns)
        )
    rows, columns = tf.maximum(1, rows), tf.maximum(1, columns)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    return image_hwc[top : top + rows, left : left + columns]


def resize(image_hwc: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """A picture (uint8) resized by antialiased bilinear interpolation.

    Returned as it is if it has the size already.
    """
    return tf.ensure_shape(resize_to(image_hwc, height, width), (height, width, None))


def resize_to(image_hwc: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int) -> tf.Tensor:
    """As `resize`, to a size that need not be known when a graph is made."""
    size = tf.shape(image_hwc)
    fits = (size[0] == height) & (size[1] == width)
    resized = tf.cond(
        fits,
        lambda: tf.cast(image_hwc, tf.float32),
        lambda: tf.image.resize(image_hwc, (height, width), antialias=True),
    )
    image = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    return tf.ensure_shape(image, (None, None, image_hwc.shape[-1]))


def resample(
    image_bhwc: tf.Tensor, scale_b2: tf.Tensor, offset_b2: tf.Tensor, mirrored_b2: tf.Tensor
) -> tf.Tensor:
    """Each picture scaled, moved and mirrored at once, float32; what comes in is black.

    Bilinear, antialiased where it is made smaller. Rows and columns are interpolated one after the
    other by matrices, which accelerators multiply well and which have static shapes.

    Args:
        image_bhwc: pictures.
        scale_b2: vertical and horizontal factor, above 0.
        offset_b2: where the top left corner comes to lie, in pixels (y, x).
        mirrored_b2: bool; which are mirrored top-bottom and left-right afterwards.
    """
    height, width = image_bhwc.shape[1:3]
    image = tf.cast(image_bhwc, tf.float32)
    rows = _interpolation(height, scale_b2[:, 0], offset_b2[:, 0])
    columns = _interpolation(width, scale_b2[:, 1], offset_b2[:, 1])
    rows = tf.where(mirrored_b2[:, :1, None], rows[:, ::-1], rows)
    columns = tf.where(mirrored_b2[:, 1:, None], columns[:, ::-1], columns)
    image = tf.einsum("byh,bhwc->bywc", rows, image)
    return tf.einsum("bxw,bywc->byxc", columns, image)


def _interpolation(size: int, scale_b: tf.Tensor, offset_b: tf.Tensor) -> tf.Tensor:
    """Weights [b, to, from] of an axis's old pixels in its new ones."""
    place = tf.range(size, dtype=tf.float32) + 0.5
    source = (place[None] - offset_b[:, None]) / scale_b[:, None]
    reach = tf.minimum(scale_b, 1.0)[:, None, None]  # of the triangle, wider where it shrinks
    weight = tf.nn.relu(1 - tf.abs(source[:, :, None] - place) * reach)
    inside = (source > 0) & (source < size)
    total = tf.maximum(tf.reduce_sum(weight, -1, keepdims=True), 1e-6)
    return weight / total * tf.cast(inside, tf.float32)[:, :, None]


def random_colours(
    image_bhwc: tf.Tensor, key: tf.Tensor, strength: float, inside_b2: tf.Tensor
) -> tf.Tensor:
    """Each picture (0-255) brighter or darker, with more or less contrast and colour, float32.

    Args:
        image_bhwc: pictures.
        key: uint32 [b, 2].
        strength: the three factors are drawn from 1 - strength to 1 + strength.
        inside_b2: height and width of what is a picture, at the top left; the rest stays black.
    """
    height, width = image_bhwc.shape[1:3]
    rows = tf.range(height, dtype=tf.float32) < inside_b2[:, :1]
    columns = tf.range(width, dtype=tf.float32) < inside_b2[:, 1:]
    inside = tf.cast(rows[:, :, None] & columns[:, None], tf.float32)[..., None]
    factors = random.uniform(key, COLOURS, (3,)) * (2 * strength) + (1 - strength)
    bright, contrast, colour = (factors[:, i, None, None, None] for i in range(3))
    image = tf.cast(image_bhwc, tf.float32) * bright * inside
    pixels = tf.reduce_sum(inside, (1, 2, 3), keepdims=True) * image_bhwc.shape[-1]
    mean = tf.reduce_sum(image, (1, 2, 3), keepdims=True) / pixels
    image = (image - mean) * contrast + mean
    grey = tf.reduce_mean(image, -1, keepdims=True)
    return tf.clip_by_value((image - grey) * colour + grey, 0.0, 255.0) * inside
