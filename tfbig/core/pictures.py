"""Encoded pictures: which kinds are decoded, and how many pixels each claims to hold.

Both are read from the bytes alone. `prep.pictures.decode` makes the same two decisions in the
graph, for callers that serve it elsewhere.
"""

from __future__ import annotations

import re
import struct

MOST_PIXELS = 1 << 26  # of a picture that is decoded; a small file can claim to hold far more
# Segments of a JPEG or blocks of a GIF that are looked through, which is quick
MOST_PARTS = 1 << 16
KINDS = "JPEG, PNG, GIF or BMP"
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif")
NO_IHDR = "expected a PNG that begins with the chunk IHDR"
# Each scan goes over the whole picture again, however few bytes it takes; progressive JPEGs have
# about 10
MOST_SCANS = 100
MANY_SCANS = f"expected a JPEG of at most {MOST_SCANS} scans"
# Chunks of text inflate a thousandfold, so they are cut out before a PNG is decoded, by a walk that
# takes at most so many steps: FEW_CHUNKS, and one for each CHUNK_BYTES of the file
FEW_CHUNKS, CHUNK_BYTES = 64, 512
MANY_CHUNKS = f"expected a PNG with text to have more than {CHUNK_BYTES} bytes a chunk on average"
TEXT_CHUNKS = (b"zTXt", b"iTXt")

# Of a JPEG; what stands between segments is passed over, as decoders do
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
# Markers of the segments SOF, which hold the size
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LAST = frozenset((0xD9, 0xDA))  # EOI, SOS: no size comes behind them
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a segment
# SOS, its length, and the number of components, which decides the length
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


def claimed_pixels(encoded: bytes) -> int:
    """Height times width of an encoded picture, as its decoder will see them.

    Of a GIF the larger of screen and first frame.

    Returns:
        The number of pixels; 0 for what is no picture of the KINDS or states no size, which is
        refused undecoded.

    Raises:
        ValueError: the size stands where it should not, or what is not counted in pixels would
            take long; such a picture is refused.
    """
    if encoded.startswith(b"\xff\xd8\xff"):
        if sum(1 for _ in _SCAN.finditer(encoded)) > MOST_SCANS:
            raise ValueError(MANY_SCANS)
        return _jpeg(encoded)
    if encoded.startswith(b"\x89PNG"):
        if encoded[12:16] != b"IHDR":
            raise ValueError(NO_IHDR)
        without_text(encoded)
        return _product(">II", encoded, 16)
    if encoded.startswith(b"GIF8"):
        return max(_product("<HH", encoded, 6), _first_frame(encoded))
    if encoded.startswith(b"BM"):
        return abs(_product("<ii", encoded, 18))  # a negative height means rows from top to bottom
    return 0


def _product(form: str, encoded: bytes, place: int) -> int:
    """The product of two numbers that stand at a place; 0 where the bytes end before."""
    if len(encoded) < place + struct.calcsize(form):
        return 0
    first, second = struct.unpack_from(form, encoded, place)
    return first * second


def without_text(encoded: bytes) -> bytes:
    """A PNG without its chunks of text that may be compressed; all else as it is.

    Raises:
        ValueError: the chunks of a PNG with text are so many and so small that it is refused.
    """
    if not encoded.startswith(b"\x89PNG") or not any(name in encoded for name in TEXT_CHUNKS):
        return encoded
    kept = [encoded[:8]]
    place = 8
    for _ in range(FEW_CHUNKS + len(encoded) // CHUNK_BYTES):
        if place >= len(encoded):
            break
        name = encoded[place + 4 : place + 8]
        end = place + 12 + int.from_bytes(encoded[place : place + 4], "big")
        if name not in TEXT_CHUNKS:
            kept.append(encoded[place:end])
        place = len(encoded) if name == b"IEND" else end
    if place < len(encoded):
        raise ValueError(MANY_CHUNKS)
    return b"".join(kept)


def _jpeg(encoded: bytes) -> int:
    place = 2
    for _ in range(MOST_PARTS):
        match = _MARKER.search(encoded, place)
        if match is None or match[1][0] in _LAST:
            return 0
        marker = match[1][0]
        place = match.end()
        if marker in _SIZES:
            return _product(">HH", encoded, place + 3)
        if marker not in _BARE:
            place += max(2, int.from_bytes(encoded[place : place + 2], "big"))
    raise ValueError(f"expected the size of a JPEG within its first {MOST_PARTS:,} segments")


def _first_frame(encoded: bytes) -> int:
    """Pixels of a GIF's first frame, which may be larger than the screen that its header states."""
    flags = encoded[10] if len(encoded) > 10 else 0
    place = 13 + (6 << flags % 8 if flags >= 128 else 0)  # behind the table of colours
    inside_extension = False
    for _ in range(MOST_PARTS):
        if place >= len(encoded):
            return 0
        head = encoded[place]
        if inside_extension:
            place += 1 + head
            inside_extension = head > 0
        elif head == 0x21:
            place += 2
            inside_extension = True
        else:
            return _product("<HH", encoded, place + 5) if head == 0x2C else 0
    raise ValueError(f"expected the first frame of a GIF within its first {MOST_PARTS:,} blocks")
