"""Small pictures that would cost much more than their pixels are refused, or cost nothing."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tfbig.core import pictures as claims
from tfbig.core.lazy import tf
from tfbig.deploy.server import pictures as requests
from tfbig.deploy.server.status import Failure
from tfbig.prep import headers, pictures


def saved(picture, kind, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


PIXELS = np.random.RandomState(0).randint(0, 256, (24, 24, 3), np.uint8)
PNG = saved(Image.fromarray(PIXELS), "PNG")
PROGRESSIVE = saved(Image.fromarray(PIXELS), "JPEG", progressive=True)
SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"  # empty, of the first component's frequencies


def chunk(name: bytes, content: bytes) -> bytes:
    sum_of = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + sum_of


def with_chunks(chunks: bytes, png: bytes = PNG) -> bytes:
    """A PNG with chunks behind its first one, IHDR."""
    return png[:33] + chunks + png[33:]


def decoded(content: bytes) -> np.ndarray:
    return pictures.decoder((24, 24, 3))(tf.constant([content])).numpy()[0]


def refused(content: bytes) -> set[str]:
    """What the graph and Python say of a picture that both refuse."""
    with pytest.raises(tf.errors.InvalidArgumentError) as served:
        decoded(content)
    with pytest.raises(ValueError) as counted:
        claims.claimed_pixels(content)
    return {pictures.reason(served.value), str(counted.value)}


def test_a_jpeg_of_countless_scans_is_refused():
    own = PROGRESSIVE.count(b"\xff\xda\x00")
    assert 5 < own < 15
    for scans in (claims.MOST_SCANS - own, 3000):
        content = PROGRESSIVE[:-2] + SCAN * scans + b"\xff\xd9"
        if scans < 100:
            assert decoded(content).std() > 50
            assert claims.claimed_pixels(content) == 24 * 24
            content = content[:-2] + SCAN + b"\xff\xd9"
        assert refused(content) == {"expected a JPEG of at most 100 scans"}


def test_bytes_that_look_like_scans_are_none():
    """Whatever follows a JPEG's end, such as the film of a moving photograph."""
    content = saved(Image.fromarray(PIXELS), "JPEG")
    like = b"\xff\xdb\x00\x08\x01" + b"\xff\xda\x00\x08\x02" + b"\xff\xda\x01\x08\x01"
    assert not headers.has_many_scans(tf.constant(content + like * 200))
    assert headers.has_many_scans(tf.constant(content + SCAN * 100))
    np.testing.assert_array_equal(decoded(content + like * 200), decoded(content))


BOMB = zlib.compress(b"a" * 7_900_000, 9)


@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize(
    "text", [chunk(b"zTXt", b"k\0\0" + BOMB), chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB)]
)
def test_compressed_text_in_a_png_is_not_inflated(text, before):
    content = with_chunks(text * 60) if before else PNG[:-12] + text * 60 + PNG[-12:]
    cut, is_whole = headers.without_text(tf.constant(content))
    assert is_whole and cut.numpy() == PNG
    assert claims.claimed_pixels(content) == 24 * 24
    decoded(PNG)
    started = time.perf_counter()
    np.testing.assert_array_equal(decoded(content), PIXELS)
    assert time.perf_counter() - started < 1  # inflated, they take 4 s


def test_a_png_with_text_is_read_as_it_was():
    """Its opacity, its orientation, names of chunks in its text, and bytes behind its end."""
    exif = Image.Exif()
    exif[0x112] = 3
    clear = Image.fromarray(PIXELS[..., :1].repeat(4, -1), "RGBA")
    png = saved(clear, "PNG", exif=exif)
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"text")) + chunk(b"tEXt", b"k\0IEND zTXt tRNS")
    content = with_chunks(text, png) + chunk(b"zTXt", b"") * 9000
    np.testing.assert_array_equal(decoded(content), decoded(png))
    assert not np.array_equal(decoded(png), decoded(saved(clear, "PNG")))


def test_a_png_with_text_in_countless_chunks_is_refused():
    content = with_chunks(chunk(b"teXt", b"") * 4000 + chunk(b"zTXt", b"k\0\0" + BOMB))
    said = "expected a PNG with text to have more than 512 bytes a chunk on average"
    assert refused(content) == {said}
    np.testing.assert_array_equal(decoded(with_chunks(chunk(b"teXt", b"") * 4000)), PIXELS)


def test_exif_behind_many_bytes_that_fill_is_found_at_once():
    exif = Image.Exif()
    exif[0x112] = 3
    jpeg = saved(Image.fromarray(PIXELS), "JPEG", exif=exif)
    place = jpeg.index(b"\xff\xe1")
    content = tf.constant(jpeg[:place] + b"\xff" * 100_000 + jpeg[place:])
    assert headers.jpeg_orientation(content) == 3
    np.testing.assert_array_equal(decoded(content.numpy()), decoded(jpeg))
    started = time.perf_counter()
    headers.jpeg_orientation(tf.constant(jpeg[:2] + b"\xff\xfe\0\2" * 1000 + jpeg[2:]))
    assert time.perf_counter() - started < 1  # 84 steps, however many segments there are


def entry(key: bytes, content: bytes) -> bytes:
    """An entry of tf.Features with one item of bytes, as a serialised message."""

    def field(number: int, value: bytes) -> bytes:
        assert len(value) < 1 << 14
        return bytes((number << 3 | 2, len(value) & 127 | 128, len(value) >> 7)) + value

    value = field(2, field(1, field(1, content)))
    return field(1, field(1, key) + value)


def example(*entries: bytes, more: bytes = b"") -> bytes:
    content = b"".join(entries)
    return more + bytes((10, len(content) & 127 | 128, len(content) >> 7)) + content


def test_a_graph_reads_the_examples_that_were_counted():
    """Its parser is another one, so it is given what was read, written again."""
    classify = {"ParseExampleV2", "DecodePng"}

    def count(content, operations=classify):
        inputs = {"inputs": np.array([content], object)}
        pixels = requests.count(inputs, 1, operations)
        return pixels.tolist(), inputs["inputs"][0]

    image_bytes = entry(b"image_bytes", PNG)
    other = b"\x48\x05"  # a field that no tf.Example has
    hidden = b"BM" + b"." * 0x4D  # another one, which looks like the beginning of a BMP
    for content in (
        example(image_bytes),
        example(image_bytes, more=other),
        example(image_bytes, more=hidden),
    ):
        assert count(content) == (
            [24 * 24],
            tf.train.Example.FromString(example(image_bytes)).SerializeToString(),
        )
    text = with_chunks(chunk(b"zTXt", b"k\0\0" + BOMB[:2000]))
    assert count(example(entry(b"image_bytes", text))) == count(example(image_bytes))
    assert count(text, {"DecodePng"}) == ([24 * 24], PNG)
    for content in (example(entry(b"\xff", b"x"), image_bytes), PNG, example(image_bytes)[:-1]):
        with pytest.raises(Failure, match="expected a serialised tf.Example. It cannot be parsed"):
            count(content)
    frames = tf.train.SequenceExample()
    for _ in range(3):
        frame = frames.feature_lists.feature_list["frames"].feature.add()
        frame.bytes_list.value.append(PNG)
    operations = {"ParseSequenceExampleV2", "DecodePng"}
    serialised = frames.SerializeToString()
    assert count(serialised, operations) == ([3 * 24 * 24], serialised)
