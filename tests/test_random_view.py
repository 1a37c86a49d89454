"""Random parts of encoded pictures: where they lie, and that they are of the same pictures."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfbig.core.errors import UserError
from tfbig.core.lazy import tf
from tfbig.data.image_folder import ImageFolder
from tfbig.data.tfds_images import TFDSImages
from tfbig.engine.readable import Readable
from tfbig.prep import pictures, random_view

SHAPE = (34, 28, 3)  # more than half of the picture, so that it is decoded to all its pixels
RAMP = np.add.outer(3 * np.arange(48), 2 * np.arange(64))[..., None] % 256
PICTURE = Image.fromarray(np.concatenate([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1).astype(np.uint8))


def saved(kind, **options) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, **options)
    return buffer.getvalue()


def keys(count, second=0) -> np.ndarray:
    return np.stack([np.arange(count), np.full(count, second)], 1).astype(np.uint32)


@pytest.mark.parametrize(("size", "least"), [((48, 64), 0.08), ((400, 30), 0.5), ((7, 9), 1.0)])
def test_parts_lie_inside_and_are_of_the_size_asked_for(size, least):
    draw = tf.function(
        lambda key: tf.stack(random_view.random_part(tf.constant(size), key, least, 1.0))
    )
    parts = np.array([draw(key) for key in keys(200)])
    top, left, rows, columns = parts.T
    assert (parts >= (0, 0, 1, 1)).all()
    assert (top + rows <= size[0]).all() and (left + columns <= size[1]).all()
    if size == (400, 30):  # no part of the half of it is nearly square
        assert (columns == 30).all() and (rows == 40).all() and len(set(top)) > 50
        return
    assert (rows * columns >= (least - 0.02) * size[0] * size[1] - 30).all()
    shape = columns / rows
    assert shape.min() > 0.68 and shape.max() < 1.46
    if least < 1:
        assert len({*map(tuple, parts)}) > 190
        share = rows * columns / (size[0] * size[1])
        assert share.min() < 0.15 and share.max() > 0.8


def whole_then_part(content, key, shape, least):
    """The same by decoding all of it first."""
    pixels = pictures.decode_whole(tf.constant(content), shape[-1])
    top, left, rows, columns = random_view.random_part(
        tf.shape(pixels)[:2], tf.constant(key), least, shape[1] / shape[0]
    )
    part = pixels[top : top + rows, left : left + columns]
    return random_view._resized(part, *shape[:2]).numpy()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_of_a_jpeg_is_that_of_the_upright_picture(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    content = saved("JPEG", exif=exif, subsampling=0, quality=95)
    decode = random_view.random_decoder(SHAPE, 255, 0.2)
    views = decode(tf.constant([content] * 4), keys(4, orientation)).numpy()
    assert (views[0] != views[1]).any()
    for view, key in zip(views, keys(4, orientation), strict=True):
        expected = whole_then_part(content, key, SHAPE, 0.2)
        assert np.abs(view.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_kinds_are_seen_alike(kind, channels):
    content, (key,) = saved(kind), keys(1, 7)
    view = random_view.random_decoder((16, 16, channels), 255, 0.3)(tf.constant([content]), [key])
    expected = whole_then_part(content, key, (16, 16, channels), 0.3)
    np.testing.assert_array_equal(view[0], expected)


def test_much_larger_jpegs_are_decoded_to_fewer_pixels():
    large = PICTURE.resize((640, 480), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=95, subsampling=0)
    content, (key,) = buffer.getvalue(), keys(1, 3)
    view = random_view.random_decoder((32, 32, 3), 255, 0.7)(tf.constant([content]), [key])
    expected = whole_then_part(content, key, (32, 32, 3), 0.7)
    difference = np.abs(view[0].numpy().astype(int) - expected)
    assert np.median(difference) <= 6  # no more than shades; edges of the ramp differ


def test_a_view_belongs_to_its_key_alone():
    content = saved("JPEG")
    decode = random_view.random_decoder(SHAPE, 255, 0.2)
    together = decode(tf.constant([content] * 3), keys(3)).numpy()
    alone = decode(tf.constant([content]), keys(3)[1:2]).numpy()
    np.testing.assert_array_equal(together[1], alone[0])


@pytest.mark.parametrize("kind", [ImageFolder, TFDSImages])
def test_training_sees_parts_and_evaluation_the_centre(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    plain = kind.smallest(tmp_path)
    data = Readable(dataclasses.replace(plain, random_area=0.1))
    rows = np.array([3, 0, 3, 3])
    np.testing.assert_array_equal(
        plain.random_views(rows, keys(4))["image"], plain.examples("train", rows)["image"]
    )
    views = data.random_views(rows, keys(4))
    again = data.random_views(rows[2:], keys(4)[2:])
    np.testing.assert_array_equal(views["image"][2:], again["image"])
    assert views["label"].tolist() == plain.examples("train", rows)["label"].tolist()
    assert data.arrays("train") is None or (views["image"][0] != views["image"][2]).any()
    for name, value in data.examples("test", rows).items():
        np.testing.assert_array_equal(value, plain.examples("test", rows)[name])


def test_a_torn_picture_is_named(tmp_path):
    data = dataclasses.replace(ImageFolder.smallest(tmp_path), random_area=0.5)
    torn = data.stored("train", np.array([1]))[2][0]
    Path(torn).write_bytes(saved("JPEG")[:200])
    with pytest.raises(UserError, match=f"{torn} cannot be decoded"):
        data.random_views(np.arange(4), keys(4))
    skipping = Readable(dataclasses.replace(data, on_error="skip"))
    assert skipping.random_views(np.arange(4), keys(4))["image"].shape == (4, 16, 16, 3)
    assert list(skipping.skipped["train"]) == [1]


@pytest.mark.parametrize("share", [0.5, 0.875])
def test_the_centre_is_as_large_as_published(share):
    """Resized to side / share and cut to the side, nearly."""
    content, side = saved("PNG"), 21
    seen = pictures.decode(tf.constant(content), side, side, 3, share=share).numpy()
    edge = round(48 * share)
    box = ((64 - edge) // 2, (48 - edge) // 2)
    part = PICTURE.crop((*box, box[0] + edge, box[1] + edge))
    expected = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR))
    assert np.abs(seen.astype(int) - expected).max() <= 2
