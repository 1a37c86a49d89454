"""Transforms of image batches: static shapes, graph-safe, compilable; randomness from each example's key alone.

Random transforms work on intensities (uint8), before `standardize`. Shapes: b batch, h height, w width, c channels.
"""

from __future__ import annotations

from tfbig.core.lazy import tf
from tfbig.core.pictures import MOST_PIXELS, NO_IHDR
from tfbig.prep import random

# One stream of a key's random numbers for each use.
SHIFT, FLIP, CUT = 1, 2, 3
PLAIN_BMP = rb"BM\C{12}[\x28-\x7c]\x00{3}\C{10}[\x18\x20]\x00{5}\C*"  # of 24 or 32 bits a pixel, neither compressed nor with a palette
GREY_BMP = rb"BM\C{12}\x28\x00{3}\C{10}\x08\x00{5}\C*"  # of 8 bits; grey if the palette is GREYS
GREYS = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))


def standardize(image_bhwc: tf.Tensor, mean: list[float], std: list[float]) -> tf.Tensor:
    """(image - mean) / std for each channel, as float32."""
    return (tf.cast(image_bhwc, tf.float32) - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)


def random_crop(image_bhwc: tf.Tensor, key: tf.Tensor, padding: int, mode: str = "black") -> tf.Tensor:
    """Each picture shifted by up to `padding` pixels both ways; same as padding and cropping at random.

    Args:
        image_bhwc: pictures.
        key: uint32 [b, 2].
        padding: largest shift in pixels; less than height and width.
        mode: what comes in at the edge: "black" (zeros) or "mirror" (reflection without the edge pixel itself).
    """
    height, width = image_bhwc.shape[1:3]
    if padding >= min(height, width):
        raise ValueError(f"random_crop: expected a padding below the picture's size {height} x {width}. Received: {padding}.")
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
    return tf.reshape(tf.gather(flat, tf.reshape(index, (-1, height * width)), axis=1, batch_dims=1), tf.shape(image_bhwc))


def random_flip(image_bhwc: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Each picture mirrored left-right with probability one half."""
    mirrored = random.uniform(key, FLIP) < 0.5
    return tf.where(mirrored[:, None, None, None], image_bhwc[:, :, ::-1], image_bhwc)


def cutout(image_bhwc: tf.Tensor, key: tf.Tensor, size: int) -> tf.Tensor:
    """A black square of `size` pixels around a random pixel of each picture, cut at the edge (DeVries and Taylor 2017)."""
    height, width = image_bhwc.shape[1:3]
    place = random.uniform(key, CUT, (2,)) * tf.constant([height, width], tf.float32)
    start = tf.cast(tf.floor(place), tf.int32) - size // 2
    row, column = tf.range(height)[None] - start[:, :1], tf.range(width)[None] - start[:, 1:]
    hidden = ((row >= 0) & (row < size))[:, :, None] & ((column >= 0) & (column < size))[:, None]
    return image_bhwc * tf.cast(~hidden, image_bhwc.dtype)[..., None]


def decode(encoded: tf.Tensor, height: int, width: int, channels: int, background: int = 255) -> tf.Tensor:
    """One encoded picture (JPEG, PNG, BMP or a GIF's first frame; scalar string) as uint8 [height, width, channels].

    Through what is transparent in a PNG shows `background` (0 black ... 255 white); pictures of 4 channels keep their opacity.
    Of a picture of another shape the centre is taken; another size is brought to this one by antialiased bilinear resizing.
    Other formats that TensorFlow reads (WebP, JPEG XL) are refused: what size they claim is not known before they are decoded.
    So are BMPs with a palette of colours, masks or compression: TensorFlow would make other colours of them.
    """
    png = _begins(encoded, b"\x89PNG")
    encoded, framed = tf.cond(_begins(encoded, b"GIF8"), lambda: first_frame(encoded), lambda: (encoded, tf.zeros((), tf.int64)))
    known = tf.debugging.Assert(tf.io.is_jpeg(encoded) | png | _begins(encoded, b"GIF8") | _begins(encoded, b"BM"), ["Unknown image file format: expected JPEG, PNG, GIF or BMP"])
    plain = tf.debugging.Assert(~_begins(encoded, b"BM") | _is_plain_bmp(encoded), ["expected a BMP of 24 or 32 bits a pixel or of greys, uncompressed; save this one so, or as PNG"])
    headed = tf.debugging.Assert(~png | tf.equal(tf.strings.substr(encoded + b"\0" * 16, 12, 4), b"IHDR"), [NO_IHDR])
    small = tf.debugging.assert_less_equal(tf.maximum(framed, claimed_pixels(encoded)), tf.constant(MOST_PIXELS, tf.int64), f"more than {MOST_PIXELS:,} pixels")
    with tf.control_dependencies([check for check in (known, plain, headed, small) if check is not None]):
        encoded = tf.identity(encoded)
    whole = lambda wanted: tf.io.decode_image(encoded, channels=wanted, expand_animations=False)  # noqa: E731
    grey = tf.image.rgb_to_grayscale if channels == 1 else tf.identity
    if channels == 1:  # BMP and GIF decode to colours only
        opaque = lambda: tf.cond(tf.io.is_jpeg(encoded) | png, lambda: whole(1), lambda: grey(whole(3)))  # noqa: E731
    else:
        opaque = lambda: whole(channels)  # noqa: E731
    if channels in (1, 3):
        image = tf.cond(png & _may_be_transparent(encoded), lambda: grey(_upon(background, whole(4))), opaque)
    else:
        image = opaque()
    return resize(centre(tf.ensure_shape(image, (None, None, channels)), height, width), height, width)


def _begins(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(encoded, 0, len(magic)), magic)


def _is_plain_bmp(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a BMP is of those that TensorFlow decodes rightly: of others it shows numbers of the palette as greys, or fails."""
    head = tf.strings.substr(encoded, 0, 54 + len(GREYS))
    palette = tf.strings.substr(head + b"\0" * 54, 54, len(GREYS))  # there is nothing to cut out of what is shorter
    return tf.strings.regex_full_match(head, PLAIN_BMP) | (tf.strings.regex_full_match(head, GREY_BMP) & tf.equal(palette, GREYS))


def _may_be_transparent(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has a channel of opacity (its colour type is 4 or 6) or a chunk tRNS; true by chance for few others."""
    return tf.strings.regex_full_match(encoded, rb"\C{25}[\x04\x06]\C*|\C*tRNS\C*")


def _upon(background: int, image_hw4: tf.Tensor) -> tf.Tensor:
    """Colours and opacity (uint8 [h, w, 4]) laid upon a background, as uint8 [h, w, 3]."""
    colours, opacity = tf.split(tf.cast(image_hw4, tf.uint16), (3, 1), axis=-1)
    mixed = colours * opacity + background * (255 - opacity)  # at most 255 * 255: uint16 holds it
    return tf.cast((mixed + 127) // 255, tf.uint8)


def claimed_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Height times width as an encoded picture's header states them (int64 scalar); 0 where it has none."""
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, 26) + b"\0" * 26, tf.uint8), tf.int64)

    def number(start: int, size: int, little: bool) -> tf.Tensor:
        powers = [1 << 8 * i for i in range(size)]
        return tf.reduce_sum(header[start : start + size] * tf.constant(powers if little else powers[::-1], tf.int64))

    def signed(start: int) -> tf.Tensor:  # BMP: a negative height means rows from top to bottom
        value = number(start, 4, True)
        return tf.minimum(value, (1 << 32) - value)

    jpeg = lambda: tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64))  # noqa: E731
    others = tf.where(_begins(encoded, b"\x89PNG"), number(16, 4, False) * number(20, 4, False), tf.zeros((), tf.int64))
    others = tf.where(_begins(encoded, b"GIF8"), number(6, 2, True) * number(8, 2, True), others)
    others = tf.where(_begins(encoded, b"BM"), signed(18) * signed(22), others)
    return tf.cond(tf.io.is_jpeg(encoded), jpeg, lambda: others)


def first_frame(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A GIF cut off behind its first frame, and the pixels (int64 scalar) which that frame claims; 0 if there is none.

    TensorFlow's decoder holds all frames in memory, each as large as it says itself, before it gives the first one.
    """
    length = tf.strings.length(encoded)
    between, extension, frame, end = range(4)  # where a place is: between blocks, or before a part of one

    def bytes_at(place):  # zeros behind the end
        return tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, place, 11) + b"\0" * 11, tf.uint8), tf.int32)

    def colours(flags):  # bytes of a table of colours
        return tf.where(flags >= 128, tf.bitwise.left_shift(6, flags % 8), 0)

    def go_on(place, where, pixels):
        head = bytes_at(place)
        parts, begins = where != between, (where == between) & (head[0] == 0x2C)
        step = tf.where(parts, 1 + head[0], tf.where(begins, 11 + colours(head[9]), 2))
        inside = tf.where(head[0] > 0, where, tf.where(where == frame, end, between))
        outside = tf.where(begins, frame, tf.where(head[0] == 0x21, extension, end))
        size = tf.cast(head[5] + 256 * head[6], tf.int64) * tf.cast(head[7] + 256 * head[8], tf.int64)
        return place + step, tf.where(parts, inside, outside), tf.where(begins, size, pixels)

    start = (13 + colours(bytes_at(0)[10]), between, tf.zeros((), tf.int64))
    place, _, pixels = tf.while_loop(lambda place, where, _: (where != end) & (place < length), go_on, start)
    return tf.strings.substr(encoded, 0, place) + b";", pixels


def centre(image_hwc: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The largest part in the middle of a picture that is as wide for its height as `width` for `height`."""
    size = tf.shape(image_hwc)
    rows = tf.maximum(1, tf.minimum(size[0], size[1] * height // width))
    columns = tf.maximum(1, tf.minimum(size[1], size[0] * width // height))
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    return image_hwc[top : top + rows, left : left + columns]


def resize(image_hwc: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """A picture (uint8) resized by antialiased bilinear interpolation; returned as it is if it has the size already."""
    size = tf.shape(image_hwc)
    fits = (size[0] == height) & (size[1] == width)
    resized = tf.cond(fits, lambda: tf.cast(image_hwc, tf.float32), lambda: tf.image.resize(image_hwc, (height, width), antialias=True))
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8), (height, width, image_hwc.shape[-1]))
