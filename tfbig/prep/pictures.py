"""Encoded pictures to pixels: the one decoder, in the graph, of all that reads pictures.

Shapes: b batch, h height, w width, c channels.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from tfbig.core.lazy import tf
from tfbig.core.pictures import KINDS, MANY_CHUNKS, MANY_SCANS, MOST_PIXELS, NO_IHDR
from tfbig.prep import boxes, headers
from tfbig.prep.image import centre, resize, resize_to


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
