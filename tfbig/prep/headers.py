"""What can be read from an encoded picture's bytes before it is decoded.

Its kind, size, orientation; core operations, graph-safe.
"""

from __future__ import annotations

from tfbig.core.lazy import tf
from tfbig.core.pictures import CHUNK_BYTES, FEW_CHUNKS, MOST_PARTS, MOST_SCANS, TEXT_CHUNKS

MAGICS = JPEG, PNG, GIF, BMP = b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM"
# Of 24 or 32 bits a pixel, neither compressed nor with a palette
PLAIN_BMP = rb"BM\C{12}[\x28-\x7c]\x00{3}\C{10}[\x18\x20]\x00{5}\C*"
GREY_BMP = rb"BM\C{12}\x28\x00{3}\C{10}\x08\x00{5}\C*"  # of 8 bits; grey if the palette is GREYS
PLAIN_BMP_ONLY = (
    "expected a BMP of 24 or 32 bits a pixel or of greys, uncompressed; save this one so, or as PNG"
)
# EXIF is looked for in so many segments or chunks of a file at most: EXIF_WITHIN, or EXIF_FIRST and
# one for each EXIF_BYTES, for each takes time
EXIF_WITHIN, EXIF_FIRST, EXIF_BYTES = 1024, 16, 64
FILLING = 4096  # bytes that may fill the place before a marker, passed over at once
GREYS = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))
JPEG_EXIF, PNG_EXIF = rb"Exif\x00\x00(II|MM)", b"eXIf(II|MM)"
# How the header of a scan goes on behind its marker, which no expression for UTF-8 can name
SCAN = rb"\x00(\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)"


def kind(encoded: tf.Tensor) -> tf.Tensor:
    """A picture's kind (int32 scalar): 0 JPEG, 1 PNG, 2 GIF, 3 BMP, 4 another or none."""
    known = [begins(encoded, magic) for magic in MAGICS]
    return tf.argmax(tf.stack([*known, True]), output_type=tf.int32)


def begins(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(encoded, 0, len(magic)), magic)


def begins_with_ihdr(png: tf.Tensor) -> tf.Tensor:
    """Whether a PNG's size stands where it should.

    Its decoder would pass over what stands before.
    """
    return tf.equal(tf.strings.substr(png + b"\0" * 16, 12, 4), b"IHDR")


def is_plain_bmp(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a BMP is of those that TensorFlow decodes rightly.

    Of others it shows numbers of the palette as greys, or fails.
    """
    head = tf.strings.substr(encoded, 0, 54 + len(GREYS))
    # There is nothing to cut out of what is shorter
    palette = tf.strings.substr(head + b"\0" * 54, 54, len(GREYS))
    return tf.strings.regex_full_match(head, PLAIN_BMP) | (
        tf.strings.regex_full_match(head, GREY_BMP) & tf.equal(palette, GREYS)
    )


def may_be_transparent(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has a channel of opacity (its colour type is 4 or 6) or a chunk tRNS.

    True by chance for few others.
    """
    kind = tf.strings.substr(encoded + b"\0" * 26, 25, 1)
    return tf.reduce_any(tf.equal(kind, [b"\x04", b"\x06"])) | holds(encoded, b"tRNS")


def holds(encoded: tf.Tensor, expression: bytes) -> tf.Tensor:
    """Whether a regular expression matches anywhere.

    Where it begins with a letter or more that are given, cutting the match out is several times
    quicker than to match everything.
    """
    cut = tf.strings.regex_replace(encoded, expression, b"", replace_global=False)
    return tf.strings.length(cut) < tf.strings.length(encoded)


def bytes_at(encoded: tf.Tensor, place: tf.Tensor | int, count: int) -> tf.Tensor:
    """The `count` bytes at a place (int64 [count]); zeros behind the end."""
    padded = _from(encoded, place, tf.constant(count, tf.int64)) + b"\0" * count
    return tf.cast(tf.reshape(tf.io.decode_raw(padded, tf.uint8)[:count], (count,)), tf.int64)


def _from(encoded: tf.Tensor, place: tf.Tensor | int, count: tf.Tensor) -> tf.Tensor:
    """The bytes (a string) from a place on; fewer than `count` where the end comes before."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    return tf.strings.substr(encoded, tf.minimum(tf.cast(place, tf.int64), length), count)


def number(bytes_n: tf.Tensor, little: tf.Tensor | bool) -> tf.Tensor:
    """The whole numbers that bytes (int64 [..., n]) stand for, the lowest byte first or last."""
    powers = [1 << 8 * i for i in range(bytes_n.shape[-1])]
    powers = tf.where(little, tf.constant(powers, tf.int64), tf.constant(powers[::-1], tf.int64))
    return tf.reduce_sum(bytes_n * powers, -1)


def jpeg_shape(jpeg: tf.Tensor) -> tf.Tensor:
    """Height, width and components (int64 [3]) as the decoder's own reader finds them."""
    return tf.cast(tf.image.extract_jpeg_shape(jpeg), tf.int64)


def has_many_scans(jpeg: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG has more than MOST_SCANS scans."""

    def counted():
        content = tf.concat([tf.io.decode_raw(jpeg, tf.uint8), tf.zeros((4,), tf.uint8)], 0)
        first, second, third, length, components = (content[i : i - 4 or None] for i in range(5))
        begins = (first == 0xFF) & (second == 0xDA) & (third == 0)
        begins &= (components >= 1) & (components <= 4) & (length == 6 + 2 * components)
        return tf.math.count_nonzero(begins) > MOST_SCANS

    # Quicker than to look at each byte, and seldom more than there are
    cut = tf.strings.length(jpeg) - tf.strings.length(tf.strings.regex_replace(jpeg, SCAN, b""))
    return tf.cond(cut > 3 * MOST_SCANS, counted, lambda: tf.constant(False))


def png_pixels(png: tf.Tensor) -> tf.Tensor:
    """Height times width as the header states them (int64 scalar); so do the next two."""
    size = bytes_at(png, 16, 8)
    return number(size[:4], False) * number(size[4:], False)


def without_text(png: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A PNG without its chunks of text that may be compressed.

    Its decoder would inflate them, each to 8 MB.

    Returns:
        The PNG, and whether its end was reached within the steps that are made (bool scalar).
    """
    length = tf.cast(tf.strings.length(png), tf.int64)

    def look(number_of, place, kept):
        head = bytes_at(png, place, 8)
        size = 12 + number(head[:4], False)
        name = tf.strings.substr(_from(png, place, tf.constant(8, tf.int64)) + b"\0" * 8, 4, 4)
        is_text = tf.reduce_any(tf.equal(name, TEXT_CHUNKS))
        piece = tf.cond(is_text, lambda: tf.constant(b""), lambda: _from(png, place, size))
        place = tf.where(tf.equal(name, b"IEND"), length, place + size)
        return number_of + 1, place, kept.write(number_of, piece)

    def going(_, place, __):
        return place < length

    def cut():
        kept = tf.TensorArray(tf.string, 1, dynamic_size=True, element_shape=())
        kept = kept.write(0, tf.strings.substr(png, 0, 8))
        start = (tf.constant(1), tf.constant(8, tf.int64), kept)
        most = tf.cast(FEW_CHUNKS + length // CHUNK_BYTES, tf.int32)
        _, place, kept = tf.while_loop(going, look, start, maximum_iterations=most)
        return tf.strings.reduce_join(kept.stack()), place >= length

    has_text = tf.reduce_any([holds(png, name) for name in TEXT_CHUNKS])
    return tf.cond(has_text, cut, lambda: (png, tf.constant(True)))


def gif_pixels(gif: tf.Tensor) -> tf.Tensor:
    size = bytes_at(gif, 6, 4)
    return number(size[:2], True) * number(size[2:], True)


def bmp_pixels(bmp: tf.Tensor) -> tf.Tensor:
    size = number(tf.reshape(bytes_at(bmp, 18, 8), (2, 4)), True)
    # A negative height means rows from top to bottom
    return tf.reduce_prod(tf.minimum(size, (1 << 32) - size))


def first_frame(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A GIF cut off behind its first frame, and the pixels (int64 scalar) which that frame claims.

    There are 0 if it has no frame. TensorFlow's decoder holds all frames in memory, each as large
    as it claims, before it returns the first one. Writers make blocks of 255 bytes but for a few; a
    frame in more blocks than that counts as torn, since each block takes time.
    """
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    # Where a place is: between blocks, or before a part of one
    between, extension, frame, end = range(4)

    def colours(flags):  # bytes of a table of colours
        return tf.where(flags >= 128, tf.bitwise.left_shift(tf.constant(6, tf.int64), flags % 8), 0)

    def go_on(place, where, pixels):
        head = bytes_at(encoded, place, 11)
        parts = where != between
        begins = (where == between) & (head[0] == 0x2C)
        step = tf.where(parts, 1 + head[0], tf.where(begins, 11 + colours(head[9]), 2))
        inside = tf.where(head[0] > 0, where, tf.where(where == frame, end, between))
        outside = tf.where(begins, frame, tf.where(head[0] == 0x21, extension, end))
        size = number(head[5:7], True) * number(head[7:9], True)
        return place + step, tf.where(parts, inside, outside), tf.where(begins, size, pixels)

    start = (13 + colours(bytes_at(encoded, 10, 1)[0]), between, tf.zeros((), tf.int64))

    def going(place, where, _):
        return (where != end) & (place < length)

    most = tf.cast(tf.minimum(tf.constant(MOST_PARTS, tf.int64), 64 + length // 32), tf.int32)
    place, _, pixels = tf.while_loop(going, go_on, start, maximum_iterations=most)
    return tf.strings.substr(encoded, tf.zeros((), tf.int64), place) + b";", pixels


def jpeg_orientation(jpeg: tf.Tensor) -> tf.Tensor:
    """How a picture is to be turned, int64 scalar, 1 to 8.

    By the tag Orientation of its EXIF; 1, not at all, if it has none.

    Source: CIPA DC-008 (Exif 3.0), 4.6.5.
    """
    return _orientation(jpeg, JPEG_EXIF, 2, _segment)


def png_orientation(png: tf.Tensor) -> tf.Tensor:
    """The same, of the chunk eXIf (PNG specification, third edition, 11.3.2.12)."""
    return _orientation(png, PNG_EXIF, 8, _chunk)


def _orientation(encoded: tf.Tensor, exif: bytes, start: int, part) -> tf.Tensor:
    """The same, of a picture whose parts begin at `start`."""
    # A look at all bytes is quicker than a walk through the parts
    return tf.cond(
        holds(encoded, exif),
        lambda: _orientation_in(_exif(encoded, start, part)),
        lambda: tf.constant(1, tf.int64),
    )


def _exif(encoded: tf.Tensor, start: int, part) -> tf.Tensor:
    """The TIFF block that a picture's parts hold; empty if none of the first ones does."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)

    def look(place, _):
        size, behind, is_exif = part(encoded, place)
        return tf.where(is_exif, place + behind, place + size), tf.where(is_exif, size, 0)

    def going(place, size):
        return (size == 0) & (place < length)

    first = (tf.constant(start, tf.int64), tf.zeros((), tf.int64))
    most = tf.minimum(EXIF_WITHIN, tf.cast(EXIF_FIRST + length // EXIF_BYTES, tf.int32))
    place, size = tf.while_loop(going, look, first, maximum_iterations=most)
    return _from(encoded, place, size)


def _segment(jpeg: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, int, tf.Tensor]:
    """A JPEG's segment at a place: its size, where EXIF would begin in it, and whether."""
    head = bytes_at(jpeg, place, 10)
    named = tf.reduce_all(tf.equal(head[4:], list(b"Exif\0\0"))) & tf.equal(head[1], 0xE1)
    pixels = tf.not_equal(head[0], 0xFF) | tf.equal(head[1], 0xDA)
    far = tf.constant(1 << 40, tf.int64)
    # Of a row of these bytes the last one begins a marker
    row = tf.io.decode_raw(_from(jpeg, place, tf.constant(FILLING, tf.int64)), tf.uint8)
    filling = tf.reduce_sum(tf.math.cumprod(tf.cast(tf.equal(row, 0xFF), tf.int64))) - 1
    size = tf.where(pixels, far, tf.where(filling > 0, filling, 2 + number(head[2:4], False)))
    return size, 10, named & ~pixels


def _chunk(png: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, int, tf.Tensor]:
    """The same of a PNG's chunk."""
    head = bytes_at(png, place, 8)
    return 12 + number(head[:4], False), 8, tf.reduce_all(tf.equal(head[4:], list(b"eXIf")))


def _orientation_in(tiff: tf.Tensor) -> tf.Tensor:
    """The orientation that the first directory of a TIFF block notes.

    1 if it notes none that there is.
    """
    little = begins(tiff, b"II")
    directory = number(bytes_at(tiff, 4, 4), little)
    count = number(bytes_at(tiff, directory, 2), little)
    entries = tf.io.decode_raw(_from(tiff, directory + 2, 12 * count), tf.uint8)
    entries = tf.cast(tf.reshape(entries[: tf.size(entries) // 12 * 12], (-1, 12)), tf.int64)
    tag, kind, value = (number(entries[:, first : first + 2], little) for first in (0, 2, 8))
    right = (tag == 0x0112) & (kind == 3) & (value >= 1) & (value <= 8)
    return tf.reduce_max(tf.concat([[1], tf.where(right, value, 1)], 0))
