"""Image transforms against plain NumPy.

Random numbers against what chance allows; compiled and not.
"""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfbig.core import pictures as encoded_pictures
from tfbig.core.errors import UserError
from tfbig.data._images import decode_pictures
from tfbig.media import picture as pictures_given
from tfbig.media.picture import Picture
from tfbig.prep import headers, random
from tfbig.prep import image as prep
from tfbig.prep import pictures as reader

KEYS = tf.stack([tf.range(4000, dtype=tf.int32), tf.zeros(4000, tf.int32)], 1)
KEYS = tf.cast(KEYS, tf.uint32)


def both(function, *arguments):
    """The result without and with XLA, which must be the same."""
    plain = tf.function(function)(*arguments).numpy()
    np.testing.assert_array_equal(
        plain, tf.function(function, jit_compile=True)(*arguments).numpy()
    )
    return plain


def test_uniform():
    drawn = both(lambda key: random.uniform(key, 1, (8,)), KEYS)
    assert (
        drawn.dtype == np.float32
        and drawn.shape == (4000, 8)
        and drawn.min() >= 0
        and drawn.max() < 1
    )
    n = drawn.size
    assert abs(drawn.mean() - 0.5) < 4 / np.sqrt(12 * n) and abs(
        drawn.var() - 1 / 12
    ) < 4 * np.sqrt(1 / 180 / n)
    counts = np.histogram(drawn, 64, (0, 1))[0]
    assert ((counts - n / 64) ** 2 / (n / 64)).sum() < 63 + 4 * np.sqrt(2 * 63)
    # Neighbouring keys, neighbouring numbers
    for a, b in ((drawn[1:, 0], drawn[:-1, 0]), (drawn[:, 0], drawn[:, 1])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(4000)
    other = random.uniform(KEYS, 2, (8,)).numpy()
    assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(n)


def test_numbers_belong_to_the_key_alone():
    whole = random.uniform(KEYS, 1).numpy()
    np.testing.assert_array_equal(random.uniform(KEYS[70:75], 1).numpy(), whole[70:75])
    assert len(np.unique(random.bits(KEYS, 3).numpy())) > 3990


def test_integers():
    drawn = both(lambda key: random.integers(key, 1, -2, 2), KEYS)
    assert sorted(set(drawn)) == [-2, -1, 0, 1, 2] and np.bincount(
        drawn + 2
    ).min() > 4000 / 5 - 4 * np.sqrt(4000 * 0.16)


@pytest.fixture(scope="module")
def pictures():
    return np.random.RandomState(0).randint(0, 256, (4000, 6, 7, 2), dtype=np.uint8)


@pytest.mark.parametrize(("mode", "numpy_mode"), [("black", "constant"), ("mirror", "reflect")])
def test_random_crop(pictures, mode, numpy_mode):
    moved = both(lambda image, key: prep.random_crop(image, key, 3, mode), pictures, KEYS)
    shift = random.integers(KEYS, prep.SHIFT, -3, 3, (2,)).numpy()
    assert moved.dtype == np.uint8
    for i in range(0, 4000, 97):
        padded = np.pad(pictures[i], ((3, 3), (3, 3), (0, 0)), mode=numpy_mode)
        y, x = shift[i] + 3
        np.testing.assert_array_equal(moved[i], padded[y : y + 6, x : x + 7])
    with pytest.raises(
        ValueError, match="expected a padding below the picture's size 6 x 7. Received: 6."
    ):
        prep.random_crop(pictures, KEYS, 6)


def test_random_flip(pictures):
    flipped = both(prep.random_flip, pictures, KEYS)
    same, mirrored = (
        (flipped == pictures).all((1, 2, 3)),
        (flipped == pictures[:, :, ::-1]).all((1, 2, 3)),
    )
    assert (same | mirrored).all() and abs(mirrored.mean() - 0.5) < 0.04


def test_cutout(pictures):
    cut = both(lambda image, key: prep.cutout(image, key, 3), np.maximum(pictures, 1), KEYS)
    hidden = (cut == 0).all(-1)
    assert (
        hidden.any((1, 2)).all() and hidden.sum((1, 2)).max() == 9 and hidden.sum((1, 2)).min() >= 4
    )
    assert (cut[~hidden] == np.maximum(pictures, 1)[~hidden]).all() and hidden.mean(0).min() > 0


def test_standardize():
    got = prep.standardize(
        tf.constant([[[[0, 255]], [[10, 5]]]], tf.uint8), [10.0, 5.0], [2.0, 50.0]
    ).numpy()
    np.testing.assert_allclose(got, [[[[-5, 5]], [[0, 0]]]])


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "JPEG"])
def test_decode(form):
    colours = np.zeros((8, 12, 3), np.uint8)
    colours[:, :6] = (200, 40, 10)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, form)
    got = reader.decode(tf.constant(buffer.getvalue()), 8, 12, 3).numpy()
    assert got.shape == (8, 12, 3) and np.abs(got.astype(int) - colours).mean() < (
        8 if form == "JPEG" else 1
    )
    small = reader.decode(tf.constant(buffer.getvalue()), 4, 6, 3).numpy()
    assert small.shape == (4, 6, 3) and abs(int(small[1, 0, 0]) - 200) < 6
    grey = reader.decode(tf.constant(buffer.getvalue()), 8, 12, 1).numpy()
    assert (
        grey.shape == (8, 12, 1)
        and abs(int(grey[4, 0, 0]) - (0.299 * 200 + 0.587 * 40 + 0.114 * 10)) < 4
    )


def saved(picture, form, **how):
    """A picture of Pillow's, encoded."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **how)
    return buffer.getvalue()


def trained(content, side, channels, background=255):
    """A picture as folders of pictures are read for training."""
    return decode_pictures([content], ["it"], (side, side, channels), background)[0]


def used(content, side, channels, background=255):
    """A picture as exported models see it."""
    return _served(side, channels, background)(tf.constant([content]))[0].numpy()


@functools.cache
def _served(side, channels, background):
    return tf.function(
        lambda encoded: reader.decode_all(encoded, (side, side, channels), background),
        autograph=False,
    )


NOISE = Image.fromarray(np.random.RandomState(3).randint(0, 256, (24, 24, 3)).astype(np.uint8))


@pytest.mark.parametrize(
    "how", [{"quality": 90, "subsampling": 0}, {"quality": 75}, {"progressive": True}], ids=str
)
def test_training_and_use_see_the_same_jpeg(how):
    """What an exact DCT gives, which Pillow's is."""
    content = saved(NOISE, "JPEG", **how)
    np.testing.assert_array_equal(
        trained(content, 24, 3), np.asarray(Image.open(io.BytesIO(content)))
    )
    for side, channels in ((24, 3), (8, 3), (8, 1)):
        np.testing.assert_array_equal(
            trained(content, side, channels), used(content, side, channels)
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_cmyk_is_taken_everywhere(channels):
    content = saved(Image.new("RGB", (8, 8), (220, 30, 30)).convert("CMYK"), "JPEG")
    picture = trained(content, 8, channels)
    np.testing.assert_array_equal(picture, used(content, 8, channels))
    seen = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)
    seen = seen @ (0.299, 0.587, 0.114) if channels == 1 else seen
    assert np.abs(picture.reshape(seen.shape) - seen).max() <= 1


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_pictures_are_turned_as_their_exif_says(form, byte_order):
    """As Pillow turns them; numbers that mean nothing turn none."""
    picture = Image.fromarray(np.random.RandomState(0).randint(0, 256, (6, 10, 3)).astype(np.uint8))
    contents, turned = [], []
    for number in range(10):
        exif = Image.Exif()
        exif.endian = byte_order
        exif.update({0x010F: "maker", 0x0112: number, 0x8769: {36867: "2020"}})
        contents.append(saved(picture, form, exif=exif.tobytes()))
        turned.append(saved(ImageOps.exif_transpose(Image.open(io.BytesIO(contents[-1]))), "PNG"))
    decode = _served(8, 3, 255)
    np.testing.assert_array_equal(decode(tf.constant(contents)), decode(tf.constant(turned)))
    assert len(np.unique(decode(tf.constant(contents)), axis=0)) == 8
    np.testing.assert_array_equal(
        decode_pictures(contents, contents, (8, 8, 3), 255), decode(tf.constant(turned))
    )


def with_exif(tiff):
    return jpeg_with(b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff, (4, 4))


ENTRY = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
EXIFS = {
    "nothing": b"II*\0",
    "a directory far away": b"II*\0" + b"\xff" * 4,
    "a directory cut off": b"II*\0\x08\0\0\0\x01\0" + ENTRY[:9],
    "another type": b"II*\0\x08\0\0\0\x01\0" + ENTRY[:2] + b"\x07" + ENTRY[3:],
    "more entries than there are": b"II*\0\x08\0\0\0\xff\xff" + ENTRY,
}


@pytest.mark.parametrize("name", EXIFS)
def test_damaged_exif_harms_nothing(name):
    content = with_exif(EXIFS[name])
    assert int(headers.jpeg_orientation(tf.constant(content))) == (
        6 if name.startswith("more") else 1
    )
    assert used(content, 8, 1).shape == (8, 8, 1)


def test_exif_is_looked_for_in_segments_alone():
    told = with_exif(b"II*\0\x08\0\0\0\x01\0" + ENTRY)
    comment = jpeg_with(b"\xff\xfe" + struct.pack(">H", 2 + len(told)) + told, (4, 4))
    behind = jpeg_with(b"\xff\xfe\x00\x03x\xff\xff" + told[2 : 2 + 36], (4, 4))
    found = [
        int(headers.jpeg_orientation(tf.constant(content))) for content in (told, comment, behind)
    ]
    assert found == [6, 1, 6]


def transparent(mode):
    """A PNG of 8 x 8 whose left half shows a grey of 200 and whose right half is transparent, and
    hides other colours; and its opacity.
    """
    opacity = np.full((8, 8), 255, np.uint8)
    opacity[:, 4:] = 0 if mode in ("P", "L") else 51  # those of one bit of opacity
    grey, buffer = np.where(opacity == 255, 200, 90).astype(np.uint8), io.BytesIO()
    if mode in ("P", "L"):
        Image.fromarray(grey).convert(mode).save(buffer, "PNG", transparency=90)
    else:
        Image.merge(
            mode, [Image.fromarray(grey)] * (len(mode) - 1) + [Image.fromarray(opacity)]
        ).save(buffer, "PNG")
    return buffer.getvalue(), opacity / 255 * grey, opacity / 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("background", [0, 255])
def test_the_background_shows_through(mode, channels, background):
    content, seen, opacity = transparent(mode)
    expected = seen + background * (1 - opacity)
    got = used(content, 8, channels, background)
    assert got.shape == (8, 8, channels) and np.abs(got - expected[..., None]).max() <= 1
    np.testing.assert_array_equal(trained(content, 8, channels, background), got)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits, colours", [(2, 1), (4, 1), (16, 1), (16, 3)])
@pytest.mark.parametrize("hidden", [True, False])
def test_training_and_use_see_the_same_of_every_depth(bits, colours, hidden, channels):
    """PNGs of 2, 4 and 16 bits, with and without a colour that is transparent."""
    samples = np.random.RandomState(0).randint(0, 2**bits, (8, 8 * colours))
    rows = np.packbits((samples[..., None] >> np.arange(bits)[::-1]) & 1, axis=None).reshape(8, -1)

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, colours - 1, 0, 0, 0))]
    parts += [chunk(b"tRNS", samples[3, :colours].astype(">u2").tobytes())] if hidden else []
    parts += [
        chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        chunk(b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    expected = (samples >> 8 if bits == 16 else samples * 255 / (2**bits - 1)).reshape(
        8, 8, colours
    )
    expected = expected @ (0.299, 0.587, 0.114) if (colours, channels) == (3, 1) else expected
    if hidden:
        transparent = (samples.reshape(8, 8, colours) == samples[3, :colours]).all(-1)
        expected[transparent] = 255
    got = used(content, 8, channels).astype(int)
    assert np.abs(got - expected.reshape(8, 8, -1)).max() <= 1 and len(np.unique(got)) > 2
    np.testing.assert_array_equal(trained(content, 8, channels), got)


def test_training_and_use_see_the_same_of_other_formats():
    """Through a GIF's transparent parts TensorFlow shows black, whatever the background.

    So does training.
    """
    grey = np.repeat([[200, 90]], 8, 0).repeat(4, 1).astype(np.uint8)
    content = saved(Image.fromarray(grey).convert("P"), "GIF", transparency=90)
    np.testing.assert_array_equal(
        used(content, 8, 3), np.where(grey == 90, 0, grey)[..., None].repeat(3, -1)
    )
    np.testing.assert_array_equal(trained(content, 8, 3), used(content, 8, 3))


def bmp(mode):
    """A BMP of 8 x 8 in a mode of Pillow's, or with masks and opacity, or with the shortest header
    (of OS/2).
    """
    colours, buffer = np.random.RandomState(0).randint(0, 256, (8, 8, 4), np.uint8), io.BytesIO()
    if mode == "masks":
        header = struct.pack(
            "<IiiHHIIiiIIIIII",
            56,
            8,
            -8,
            1,
            32,
            3,
            256,
            0,
            0,
            0,
            0,
            0xFF,
            0xFF00,
            0xFF0000,
            0xFF000000,
        )
        return b"BM" + struct.pack("<III", 70 + 256, 0, 70) + header + colours.tobytes()
    if mode == "OS/2":
        return (
            b"BM"
            + struct.pack("<IIIIHHHH", 26 + 192, 0, 26, 12, 8, 8, 1, 24)
            + colours[..., :3].tobytes()
        )
    Image.fromarray(colours[..., :3]).convert(mode).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_training_and_use_see_the_same_of_plain_bmps(mode, channels):
    seen = np.asarray(Image.open(io.BytesIO(bmp(mode))).convert("RGB")).astype(float)
    seen = seen @ (0.299, 0.587, 0.114) if channels == 1 else seen
    assert np.abs(used(bmp(mode), 8, channels).reshape(seen.shape) - seen).max() <= 1
    np.testing.assert_array_equal(trained(bmp(mode), 8, channels), used(bmp(mode), 8, channels))


PNG, JPEG = saved(NOISE, "PNG"), saved(NOISE, "JPEG")
GIF, BMP = saved(NOISE.convert("P"), "GIF"), saved(NOISE, "BMP")
PLAIN = (
    "expected a BMP of 24 or 32 bits a pixel or of greys, uncompressed; save this one so, or as PNG"
)
KINDS = "Unknown image file format: expected JPEG, PNG, GIF or BMP"
REFUSED = {
    "nothing": (b"", "it is empty"),
    "text": (b"x", KINDS),
    "zeros": (bytes(100), KINDS),
    "WebP": (saved(NOISE, "WEBP"), KINDS),
    "TIFF": (saved(NOISE, "TIFF"), KINDS),
    "JPEG's beginning": (JPEG[:3], "Invalid JPEG data"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "Invalid JPEG data"),
    "a JPEG without its end": (JPEG[:-2], "Invalid JPEG data"),
    "beginnings of JPEGs": (JPEG[:3] * 1000, "Invalid JPEG data"),
    "PNG's signature": (PNG[:8], encoded_pictures.NO_IHDR),
    "PNG's header": (PNG[:40], "Invalid PNG"),
    "half a PNG": (PNG[: len(PNG) // 2], "Invalid PNG"),
    "a PNG without its end": (PNG[:-12], "Invalid PNG"),
    "a PNG with a wrong byte": (PNG[:100] + bytes([PNG[100] ^ 1]) + PNG[101:], "Invalid PNG"),
    "GIF's header": (GIF[:13], "Invalid GIF data"),
    "half a GIF": (GIF[: len(GIF) // 2], "Invalid GIF data"),
    "BMP's header": (BMP[:54], "Input size should match"),
    "a BMP without its end": (BMP[:-1], "Input size should match"),
    # TensorFlow would take the palette's numbers for greys, and bytes in another order for colours.
    **{f"BMP: {mode}": (bmp(mode), PLAIN) for mode in ("1", "P", "masks", "OS/2")},
}


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_refused_is_refused_everywhere_in_the_same_words(channels, tmp_path):
    decode = _served(8, channels, 255)
    for name, (content, words) in REFUSED.items():
        with pytest.raises(tf.errors.InvalidArgumentError) as served:
            decode(tf.constant([PNG, content]))
        with pytest.raises(UserError, match=f"data: {name} cannot be decoded: ") as learnt:
            decode_pictures([PNG, content], ["whole", name], (8, 8, channels), 255)
        (tmp_path / "it").write_bytes(content)
        with pytest.raises(
            UserError,
            match=(
                "it: is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy. Found: "
            ),
        ) as asked:
            Picture(shape=(8, 8, channels)).take(tmp_path / "it")
        reason = str(asked.value).partition("Found: ")[2]
        assert (
            words in reason
            and reason in str(learnt.value)
            and reason in str(served.value)
            and "{" not in reason
        )


def test_bytes_that_look_like_transparency_change_nothing():
    pixels, buffer = np.random.RandomState(0).randint(0, 256, (8, 8), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    for content in (buffer.getvalue(), buffer.getvalue() + b"tRNS"):
        np.testing.assert_array_equal(reader.decode(tf.constant(content), 8, 8, 1)[..., 0], pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_picture_says_its_size(kind):
    buffer = io.BytesIO()
    Image.new("L", (37, 21)).save(buffer, kind)
    content = tf.constant(buffer.getvalue())
    readers = {"PNG": headers.png_pixels, "GIF": headers.gif_pixels, "BMP": headers.bmp_pixels}
    assert kind == "JPEG" or int(readers[kind](content)) == 37 * 21
    assert tuple(headers.jpeg_shape(content)) == (21, 37, 1) if kind == "JPEG" else True
    assert encoded_pictures.claimed_pixels(buffer.getvalue()) == 37 * 21


@pytest.mark.parametrize("content", [b"", b"x", b"BM", b"GIF89a"])
def test_what_is_no_picture_has_no_size(content):
    assert encoded_pictures.claimed_pixels(content) == 0


def test_a_png_that_begins_with_another_chunk_is_refused():
    """Its decoder would pass over the chunk and see the size behind it."""
    buffer = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(buffer, "PNG")
    small = b"abCd" + struct.pack(">II", 28, 28) + bytes([8, 0, 0, 0, 0])
    content = (
        buffer.getvalue()[:8]
        + struct.pack(">I", 13)
        + small
        + struct.pack(">I", zlib.crc32(small))
        + buffer.getvalue()[8:]
    )
    with pytest.raises(ValueError, match="expected a PNG that begins with the chunk IHDR"):
        encoded_pictures.claimed_pixels(content)
    for decode in (used, trained):
        with pytest.raises(
            (tf.errors.InvalidArgumentError, UserError),
            match="expected a PNG that begins with the chunk IHDR",
        ):
            decode(content, 8, 1)


def jpeg_with(segments, size=(37, 21)):
    """A JPEG with segments behind its beginning."""
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, "JPEG")
    return buffer.getvalue()[:2] + segments + buffer.getvalue()[2:]


SEGMENTS = {
    "a size in a comment": b"\xff\xfe\x00\x0b\xff\xc0\x00\x0b\x08\x00\x01\x00\x01",
    "bytes between segments": b"\xff\xfe\x00\x03x" + b"\xc0\x00\xff\x00junk" + b"\xff\xff",
    "a marker without a segment": b"\xff\xd0\xff\x01",
    "a comment that ends like a marker": b"\xff\xfe\x00\x03\xff",
}


@pytest.mark.parametrize("segments", SEGMENTS.values(), ids=SEGMENTS)
def test_the_size_of_a_jpeg_is_what_its_decoder_sees(segments):
    content = jpeg_with(segments)
    assert tf.io.decode_jpeg(content).shape == (21, 37, 1)
    assert encoded_pictures.claimed_pixels(content) == 21 * 37
    assert tuple(headers.jpeg_shape(tf.constant(content))) == (21, 37, 1)


@pytest.mark.parametrize(
    "content",
    [jpeg_with(b"\xff\xfe\x00\x02" * 70_000), b"GIF89a" + bytes(7) + b"!\0" + b"\1\1" * 70_000],
    ids=["JPEG", "GIF"],
)
def test_a_size_behind_countless_parts_is_not_looked_for(content):
    with pytest.raises(ValueError, match="within its first 65,536"):
        encoded_pictures.claimed_pixels(content)


def test_a_small_file_that_claims_to_be_huge_is_refused():
    buffer = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 500_000
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 67,108,864 pixels"):
        reader.decode(tf.constant(buffer.getvalue()), 28, 28, 1)


def gif(side, *more):
    """A GIF of one frame, `side` pixels wide and high.

    With `more` frames of other sizes behind it. Its header says 28 x 28.
    """
    parts = []
    for size in (side, *more):
        buffer = io.BytesIO()
        Image.new("P", (size, size), 1).save(buffer, "GIF")
        parts.append(bytearray(buffer.getvalue()))
    first = parts[0]
    first[6:10] = b"\x1c\x00\x1c\x00"
    colours = 13 + 3 * 2 ** (1 + first[10] % 8) * (first[10] >= 128)
    return bytes(first[:-1] + b"".join(part[colours:-1] for part in parts[1:]) + b";")


def test_of_a_gif_only_the_first_frame_is_decoded():
    """The frames behind it are not even looked at: the decoder would hold all of them in memory."""
    content = gif(28, 9000, 9000)
    cut, pixels = headers.first_frame(tf.constant(content))
    assert (
        int(pixels) == 28 * 28
        and len(cut.numpy()) < 2000 < len(content)
        and cut.numpy()[-1:] == b";"
    )
    assert (
        encoded_pictures.claimed_pixels(content) == 28 * 28
        and encoded_pictures.claimed_pixels(gif(9000)) == 9000**2
    )
    for decode in (used, trained):
        np.testing.assert_array_equal(decode(content, 8, 3), decode(gif(28), 8, 3))
        with pytest.raises(
            (tf.errors.InvalidArgumentError, UserError), match="more than 67,108,864 pixels"
        ):
            decode(gif(9000), 8, 1)


def test_a_gif_in_countless_blocks_is_torn():
    """Walking through them would take minutes of a server's time."""
    large = saved(
        Image.fromarray(np.random.RandomState(0).randint(0, 256, (500, 500), np.uint8)), "GIF"
    )
    assert len(large) > 300_000 and used(large, 8, 1).std() > 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid GIF data"):
        used(b"GIF89a" + bytes(7) + b"!\0" + b"\1\1" * 50_000 + b"\0" + large[13:], 8, 1)


@pytest.mark.parametrize(
    "content",
    [b"\xff\x0a" + b"\0" * 40, b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40],
    ids=["bare", "boxed"],
)
def test_jpeg_xl_is_refused(content):
    """Its size is not known before it is decoded."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected JPEG, PNG, GIF or BMP"):
        reader.decode(tf.constant(content), 28, 28, 3)


@pytest.mark.parametrize("inputs", [None, 5, [5], b"abc", [None]])
def test_what_can_be_no_path_is_refused(inputs):
    with pytest.raises(
        UserError,
        match="inputs: expected paths of pictures, of folders or of .npy files, or an array uint8",
    ):
        Picture.find(inputs)


def test_many_files_share_one_graph(tmp_path):
    """And say and show the same as each of them alone."""
    picture = Picture(shape=(8, 8, 3), background=77)
    for i in range(pictures_given.TRACED_FROM):
        Image.new("RGB", (8 + i % 3, 9), (i, 2 * i, 0)).save(tmp_path / f"{i:03d}.png")
    traced = reader.decoder.cache_info().misses
    taken = picture.take(tmp_path)
    assert reader.decoder.cache_info().misses == traced + 1 and not taken.refused
    np.testing.assert_array_equal(taken.values[7], picture.take(taken.names[7]).values[0])
    (tmp_path / "000.png").write_bytes(PNG[:100] + bytes([PNG[100] ^ 1]) + PNG[101:])
    with pytest.raises(UserError) as alone:
        picture.take(tmp_path / "000.png")
    assert "Invalid PNG" in str(alone.value) and "{" not in str(alone.value)
    assert picture.take(tmp_path).refused == [{"input": taken.names[0], "error": str(alone.value)}]


def test_missing_files_among_others_are_named_and_the_others_go_on(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    (tmp_path / "nothing").mkdir()
    asked = [tmp_path / name for name in ("0.png", "1.png", "nothing")]
    taken = Picture(shape=(8, 8, 3)).take(asked)
    refused = taken.refused
    assert taken.names == [str(asked[1])] and taken.values.shape == (1, 8, 8, 3)
    assert [entry["input"] for entry in refused] == [str(asked[0]), str(asked[2])]
    assert (
        refused[0]["error"] == f"{asked[0]}: no such file or folder."
        and "holds no picture" in refused[1]["error"]
    )
    with pytest.raises(
        UserError, match="0.png: no such file or folder.\n.*nothing: holds no picture"
    ):
        Picture.find([asked[0], asked[2]])  # asked before anything heavy is imported


@pytest.mark.parametrize("size", [(50, 40), (40, 50), (300, 1), (8, 8), (31, 16)])
def test_training_and_use_see_the_same_part(size):
    """Of a picture that is not square the centre, as folders of pictures are read for training."""
    plane = np.add.outer(np.linspace(0, 200, size[1]), np.linspace(0, 50, size[0])).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "PNG")
    content, short = buffer.getvalue(), min(size)
    left, top = (size[0] - short) // 2, (size[1] - short) // 2
    box = (left, top, left + short, top + short)
    seen = Image.fromarray(plane).resize((8, 8), Image.Resampling.BILINEAR, box=box)
    assert np.abs(used(content, 8, 1)[..., 0].astype(int) - np.asarray(seen)).max() <= 2
    np.testing.assert_array_equal(trained(content, 8, 1), used(content, 8, 1))
