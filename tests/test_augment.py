"""Policies of random changes, against Pillow's operations, and what they keep."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tfbig.core.lazy import tf
from tfbig.prep import augment

RANDOM = np.random.default_rng(0)
# Of few greys, with a slope
PIXELS = (RANDOM.integers(20, 120, (4, 24, 32, 3)) + np.arange(32)[:, None] * 3).astype(np.uint8)
KEYS = np.stack([np.arange(4), np.full(4, 9)], 1).astype(np.uint32)


def pillow(change):
    return np.stack([np.asarray(change(Image.fromarray(picture))) for picture in PIXELS])


@pytest.mark.parametrize(
    ("ours", "theirs", "allowed"),
    [
        (augment.autocontrast, ImageOps.autocontrast, 1),
        (augment.equalize, ImageOps.equalize, 0),
        (lambda x: augment.posterize(x, 4), lambda x: ImageOps.posterize(x, 4), 0),
        (augment.smooth, lambda x: x.filter(ImageFilter.SMOOTH), 1),
        (lambda x: tf.repeat(augment.grey(x), 3, -1), lambda x: x.convert("L").convert("RGB"), 1),
        (
            lambda x: augment._blended(augment.grey(x), x, 1.9),
            lambda x: ImageEnhance.Color(x).enhance(1.9),
            2,
        ),
    ],
    ids=["autocontrast", "equalize", "posterize", "smooth", "grey", "colour"],
)
def test_operations_are_pillows(ours, theirs, allowed):
    made = np.clip(np.round(ours(tf.constant(PIXELS, tf.float32))), 0, 255)
    assert np.abs(made - pillow(theirs)).max() <= allowed


@pytest.mark.parametrize("operation", range(augment.OPERATIONS))
def test_each_change_is_one_of_fourteen(operation, monkeypatch):
    """And does what it is called; turned, sheared and moved as Pillow's affine transform does."""
    monkeypatch.setattr(
        augment.random,
        "integers",
        lambda key, stream, low, high: tf.fill((len(key),), operation if high > 1 else 1),
    )
    made = augment.rand_augment(tf.constant(PIXELS), KEYS, 1, 0.5).numpy().astype(int)
    assert made.shape == PIXELS.shape
    changed = np.abs(made - PIXELS).mean()
    assert (changed == 0) == (operation == 5)
    if operation > 4:
        return
    cos, sin = (np.cos(np.radians(15)), np.sin(np.radians(15))) if operation == 0 else (1, 0)
    matrix = np.array([[cos, -sin + (0.15 if operation == 2 else 0)], [sin, cos]], float)
    matrix[1, 0] += 0.15 if operation == 1 else 0
    move = np.array([0.225 * 24 * (operation == 4), 0.225 * 32 * (operation == 3)])
    centre = np.array([11.5, 15.5])
    # Pillow counts from a pixel's corner, and takes x before y
    shift = move + centre + 0.5 - matrix @ (centre + 0.5)
    (a, b), (c, d) = matrix
    data = (d, c, shift[1], b, a, shift[0])
    theirs = pillow(
        lambda x: x.transform(x.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    )
    inside = (theirs > 0).all(-1) & (made != augment.FILL).any(-1)
    assert inside.mean() > 0.6
    assert np.abs(made - theirs)[inside].mean() < 1.5


def test_changes_belong_to_the_key_alone():
    run = tf.function(lambda image, key: augment.rand_augment(image, key, 2, 0.9))
    together = run(PIXELS, KEYS).numpy()
    compiled = tf.function(run, jit_compile=True)(PIXELS, KEYS).numpy()
    assert np.abs(compiled.astype(int) - together).mean() < 0.1
    np.testing.assert_array_equal(run(PIXELS[2:3], KEYS[2:3])[0], together[2])
    same = np.repeat(PIXELS[:1], 200, 0)
    keys = np.stack([np.arange(200), np.zeros(200)], 1).astype(np.uint32)
    assert len({picture.tobytes() for picture in run(same, keys).numpy()}) > 60


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0), (0, 1.0), (0.8, 1.0)])
def test_mixed_with_the_neighbour(mixup, cutmix):
    count = 2000
    planes = np.zeros((count, 10, 10, 1), np.float32)
    planes[::2] = 1.0  # a picture's mean is how much of it is the even one's
    keys = np.stack([np.arange(count), np.zeros(count)], 1).astype(np.uint32)
    mixed, share = (value.numpy() for value in augment.mix(planes, keys, mixup, cutmix))
    own = np.where(np.arange(count) % 2, 1 - mixed.mean((1, 2, 3)), mixed.mean((1, 2, 3)))
    np.testing.assert_allclose(own, share, atol=1e-5)
    whole = np.isin(mixed, (0, 1)).all((1, 2, 3))
    assert (whole.mean() > 0.95) == (not mixup) and (whole.mean() > 0.3) == bool(cutmix)
    if not cutmix:
        random = np.random.default_rng(0).beta(mixup, mixup, 100_000)
        for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
            expected = np.quantile(random, quantile)
            assert abs(np.quantile(share, quantile) - expected) < 0.05


def test_neighbours():
    assert augment.neighbours(tf.range(6)).numpy().tolist() == [1, 0, 3, 2, 5, 4]
