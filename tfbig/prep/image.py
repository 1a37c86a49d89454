"""Transforms of image batches.

Static shapes, graph-safe, compilable; randomness from each example's key alone.

Random transforms work on intensities (uint8), before `standardize`. Shapes: b batch, h height, w
width, c channels.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from tfbig.core.lazy import tf
from tfbig.core.pictures import KINDS, MANY_CHUNKS, MANY_SCANS, MOST_PIXELS, NO_IHDR
from tfbig.prep import boxes, headers, random

# One stream of a key's random numbers for each use.
SHIFT, FLIP, CUT, COLOURS = 1, 2, 3, 4


def standardize(image_bhwc: tf.Tensor, mean: list[float], std: list[float]) -> tf.Tensor:
    """(image - mean) / std for each channel, as float32."""
    return (tf.cast(image_bhwc, tf.float32) - tf.constant(mean, tf.float32)) / tf.constant(
        std, tf.float32
    )


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


def decode(
    encoded: tf.Tensor,
    height: int,
    width: int,
    channels: int,
    background: int = 255,
    share: float = 1.0,
) -> tf.Tensor:
    """One encoded picture, scalar string, as uint8 [height, width, channels].

    It is decoded as `decode_whole` says. Of a picture of another shape the centre is taken, and of
    its sides the given share; another size is brought to this one by antialiased bilinear resizing.
    """
    with tf.device("CPU"):
        image = decode_whole(encoded, channels, background)
        return resize(centre(image, height, width, share), height, width)


def decode_inside(
    encoded: tf.Tensor, height: int, width: int, channels: int, background: int = 255
) -> tuple[tf.Tensor, tf.Tensor]:
    """One encoded picture, scalar string, made to fit inside a size, nothing of it cut off.

    It is decoded as `decode_whole` says, resized by antialiased bilinear interpolation, and stands
    at the top left; what is left at the bottom or at the right is black.

    Returns:
        The picture, uint8 [height, width, channels], and the height and width that it had, in
        pixels, float32 [2].
    """
    with tf.device("CPU"):
        image = decode_whole(encoded, channels, background)
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        rows, columns = tf.unstack(tf.cast(boxes.fitted(size, height, width), tf.int32))
        fitted = resize_to(image, rows, columns)
        padded = tf.pad(fitted, ((0, height - rows), (0, width - columns), (0, 0)))
        return tf.ensure_shape(padded, (height, width, channels)), size


def decode_whole(encoded: tf.Tensor, channels: int, background: int = 255) -> tf.Tensor:
    """One encoded picture, scalar string, of its own size, as uint8 [h, w, channels].

    JPEG, PNG, BMP or a GIF's first frame.

    It is the only decoder: training, evaluation, prediction and serving use it. It is placed on the
    CPU, since another device would round differently.

    Pictures are turned as the orientation in their EXIF says. JPEGs of grey, colours or CMYK are
    decoded with exact DCT. Of 16 bits the upper 8 count. Through what is transparent in a PNG shows
    `background` (0 black ... 255 white), through other formats black; pictures of 4 channels keep
    their opacity.

    Refused with an InvalidArgumentError: other formats that TensorFlow reads (WebP, JPEG XL), for
    what size they claim is not known before they are decoded; BMPs with a palette of colours, masks
    or compression, for TensorFlow would make other colours of them; more than MOST_PIXELS; JPEGs of
    more than MOST_SCANS; what is damaged or torn, as far as its format can tell.
    """
    with tf.device("CPU"):
        decoders = {headers.BMP: _bmp, headers.GIF: _gif, headers.PNG: _png, headers.JPEG: _jpeg}
        decoded = functools.partial(_unknown, encoded, channels, background)
        for magic, decoder in decoders.items():  # the last one is asked for first
            right = functools.partial(decoder, encoded, channels, background)
            decoded = functools.partial(tf.cond, headers.begins(encoded, magic), right, decoded)
        return tf.ensure_shape(decoded(), (None, None, channels))


def decode_all(
    encoded_b: tf.Tensor, shape: tuple[int, int, int], background: int = 255, share: float = 1.0
) -> tf.Tensor:
    """Encoded pictures (string [b]) as uint8 [b, height, width, channels].

    See `decode`. As a graph several at a time.
    """
    return tf.map_fn(
        lambda encoded: decode(encoded, *shape, background, share),
        encoded_b,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )


def decode_all_inside(
    encoded_b: tf.Tensor, shape: tuple[int, int, int], background: int = 255
) -> tuple[tf.Tensor, tf.Tensor]:
    """Encoded pictures (string [b]) as uint8 [b, height, width, channels], and their sizes [b, 2].

    See `decode_inside`. As a graph several at a time.
    """
    return tf.map_fn(
        lambda encoded: decode_inside(encoded, *shape, background),
        encoded_b,
        fn_output_signature=(tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((2,), tf.float32)),
    )


@functools.lru_cache(maxsize=16)
def decoder(
    shape: tuple[int, int, int], background: int = 255, decode: Callable | None = None, **how
) -> Callable:
    """`decode_all`, or `decode` in its place, as a graph, which decodes several at a time.

    `how`: further arguments of it.
    """

    def decode_each(encoded):
        return (decode or decode_all)(encoded, shape, background, **how)

    encoded = tf.TensorSpec([None], tf.string)
    return tf.function(decode_each, input_signature=[encoded], autograph=False)


def reason(error: tf.errors.OpError) -> str:
    """The decoder's own message about what an operation refused, without TensorFlow's location."""
    text = re.sub(r"\{\{.*?\}\} ?", "", re.split(r"\n\t \[\[| \[Op:", str(error))[0])
    text = text.strip().split("\n")[-1].strip().removeprefix("InvalidArgumentError: ")
    asserted = re.search(r"assertion failed: \[(.*)\]|Summarized data: b'(.*)'", text)
    return (asserted and (asserted[1] or asserted[2]) or text).rstrip(".")


def _jpeg(encoded: tf.Tensor, channels: int, background: int) -> tf.Tensor:
    image = decode_jpeg(encoded, channels, headers.jpeg_shape(encoded), tf.io.decode_jpeg)
    return _upright(image, encoded, headers.jpeg_orientation)


def decode_jpeg(
    encoded: tf.Tensor, channels: int, size: tf.Tensor, operation: Callable
) -> tf.Tensor:
    """A JPEG as it is stored, uint8 [h, w, channels], or refused; see `decode_whole`.

    Args:
        encoded: scalar string.
        channels: wanted.
        size: of `headers.jpeg_shape`.
        operation: `tf.io.decode_jpeg`, or one that decodes a part of it.
    """
    large = _too_large(size[0] * size[1])
    encoded = _unless(tf.where(headers.has_many_scans(encoded), MANY_SCANS, large), encoded)

    # The exact DCT, which gives the same everywhere; the quick one differs by some grey levels.
    def exact(components):
        return operation(encoded, channels=components, dct_method="INTEGER_ACCURATE")

    if channels == 1:  # brightness alone, which is a channel of its own, but not in CMYK
        cmyk = tf.equal(size[2], 4)
        return tf.cond(cmyk, lambda: in_channels(exact(3), 1), lambda: exact(1))
    return in_channels(exact(3), channels)


def _png(encoded: tf.Tensor, channels: int, background: int) -> tf.Tensor:
    large = _too_large(headers.png_pixels(encoded))
    refusal = tf.where(headers.begins_with_ihdr(encoded), large, NO_IHDR)
    encoded, is_whole = headers.without_text(encoded)
    encoded = _unless(tf.where(is_whole, refusal, MANY_CHUNKS), encoded)

    def plain():
        return tf.io.decode_png(encoded, channels=channels)

    if channels == 4:
        image = plain()
    else:

        def mixed():
            return in_channels(_upon(background, tf.io.decode_png(encoded, channels=4)), channels)

        image = tf.cond(headers.may_be_transparent(encoded), mixed, plain)
    return _upright(image, encoded, headers.png_orientation)


def _gif(encoded: tf.Tensor, channels: int, background: int) -> tf.Tensor:
    encoded, framed = headers.first_frame(encoded)
    encoded = _unless(_too_large(tf.maximum(framed, headers.gif_pixels(encoded))), encoded)
    return in_channels(tf.io.decode_gif(encoded)[0], channels)


def _bmp(encoded: tf.Tensor, channels: int, background: int) -> tf.Tensor:
    large = _too_large(headers.bmp_pixels(encoded))
    encoded = _unless(
        tf.where(headers.is_plain_bmp(encoded), large, headers.PLAIN_BMP_ONLY), encoded
    )
    return in_channels(tf.io.decode_image(encoded, channels=3, expand_animations=False), channels)


def _unknown(encoded: tf.Tensor, channels: int, background: int) -> tf.Tensor:
    unknown = f"Unknown image file format: expected {KINDS}"
    encoded = _unless(tf.where(tf.equal(encoded, b""), "it is empty", unknown), encoded)
    return tf.io.decode_png(encoded, channels=channels)  # never comes to it


def _unless(refusal: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """The picture, if the reason to refuse it is empty."""
    accepted = tf.debugging.Assert(tf.equal(refusal, ""), [refusal])
    with tf.control_dependencies([] if accepted is None else [accepted]):  # None outside a graph
        return tf.identity(encoded)


def _too_large(pixels: tf.Tensor) -> tf.Tensor:
    return tf.where(pixels > MOST_PIXELS, f"more than {MOST_PIXELS:,} pixels", "")


def in_channels(image_hw3: tf.Tensor, channels: int) -> tf.Tensor:
    """Colours as they are, in grey, or with full opacity."""
    if channels == 1:
        return tf.image.rgb_to_grayscale(image_hw3)
    return (
        image_hw3
        if channels == 3
        else tf.pad(image_hw3, ((0, 0), (0, 0), (0, 1)), constant_values=255)
    )


def _upright(image_hwc: tf.Tensor, encoded: tf.Tensor, orientation: Callable) -> tf.Tensor:
    """A picture turned as its EXIF says, if it has any."""
    number = orientation(encoded)
    return tf.cond(number > 1, lambda: turned(image_hwc, number), lambda: image_hwc)


def turned(image_hwc: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A picture as it is meant to be seen, by the number (1 ... 8) of EXIF's orientation."""

    def is_one_of(*numbers):
        return tf.reduce_any(tf.equal(orientation, numbers))

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image_hwc, (1, 0, 2)), lambda: image_hwc)
    image = tf.cond(is_one_of(2, 3, 6, 7), lambda: image[:, ::-1], lambda: image)
    return tf.cond(is_one_of(3, 4, 7, 8), lambda: image[::-1], lambda: image)


def _upon(background: int, image_hw4: tf.Tensor) -> tf.Tensor:
    """Colours and opacity (uint8 [h, w, 4]) laid upon a background, as uint8 [h, w, 3]."""
    colours, opacity = tf.split(tf.cast(image_hw4, tf.uint16), (3, 1), axis=-1)
    mixed = colours * opacity + background * (255 - opacity)  # at most 255 * 255: uint16 holds it
    return tf.cast((mixed + 127) // 255, tf.uint8)


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
