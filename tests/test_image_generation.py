"""Diffusion: its arithmetic, samplers where the right answer is known, judges, programs."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from training import Silent

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.run import Run
from tfbig.decoding.diffusion import Sampler, guided
from tfbig.deploy.programs import Programs
from tfbig.engine import job
from tfbig.metrics import generated
from tfbig.models.unet import UNet
from tfbig.nn import diffusion
from tfbig.prep import random
from tfbig.tasks._served_diffusion import Service
from tfbig.tasks.image_classification import ImageClassification
from tfbig.tasks.image_generation import ImageGeneration

MEAN, DEVIATION = 0.3, 0.2  # of the values whose best network is known


def keys(count):
    return tf.constant([[i, 7] for i in range(count)], tf.uint32)


def drawn(*shape):
    return tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)


def test_normal_numbers():
    numbers = random.normal(keys(200), 3, (50, 4))
    assert abs(float(tf.reduce_mean(numbers))) < 0.02
    assert float(tf.math.reduce_std(numbers)) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(numbers, random.normal(keys(200).numpy(), 3, (50, 4)), atol=1e-5)


def test_a_velocity_says_picture_and_noise():
    picture, noise = drawn(5, 4, 4, 1), drawn(5, 4, 4, 1)[::-1]
    time = tf.constant([0.0, 0.2, 0.5, 0.9, 1.0])
    seen = diffusion.covered(picture, noise, time)
    np.testing.assert_allclose(seen[0], picture[0], atol=1e-6)
    np.testing.assert_allclose(seen[-1], noise[-1], atol=1e-6)
    said = diffusion.velocity(picture, noise, time)
    for found, right in zip(diffusion.uncovered(seen, said, time), (picture, noise), strict=True):
        np.testing.assert_allclose(found, right, atol=1e-6)


def best(noisy, time):
    """What the best network says where all values are normal, of MEAN and DEVIATION."""
    signal, noise = (f(time)[:, None, None, None] for f in (diffusion.signal, diffusion.noise))
    spread = signal * DEVIATION**2 / (signal**2 * DEVIATION**2 + noise**2)
    clean = MEAN + spread * (noisy - signal * MEAN)
    covering = (noisy - signal * clean) / noise
    return signal * covering - noise * clean


@pytest.mark.parametrize("freshness", [0.0, 0.5, 1.0])
def test_what_is_written_is_distributed_as_what_was_learnt(freshness):
    written = Sampler(best, (4, 4, 1)).write(keys(300), tf.constant(200), freshness)
    assert float(tf.reduce_mean(written)) == pytest.approx(MEAN, abs=0.01)
    assert float(tf.math.reduce_std(written)) == pytest.approx(DEVIATION, rel=0.06)


def test_a_picture_is_its_seeds_alone():
    sampler = Sampler(best, (4, 4, 1))
    for freshness in (0.0, 1.0):
        together = sampler.write(keys(5), tf.constant(7), freshness)
        alone = sampler.write(keys(5)[3:4], tf.constant(7), freshness)
        np.testing.assert_allclose(together[3:4], alone, atol=1e-6)
        assert np.abs(together[0] - together[1]).max() > 0.05


def test_pictures_to_begin_with():
    """A little noise leaves most of a picture; what is kept stays as it is."""
    picture = tf.clip_by_value(drawn(3, 4, 4, 1), -1, 1)
    sampler = Sampler(best, (4, 4, 1))
    little, much = (
        sampler.write(keys(3), tf.constant(20), first=strength, picture=picture)
        for strength in (0.02, [0.9, 0.9, 1.0])
    )
    assert np.abs(little - picture).mean() < 0.1 < np.abs(much - picture).mean()
    keep = tf.constant([[[[1.0], [1.0], [0.0], [0.0]]] * 4] * 3)
    filled = sampler.write(keys(3), tf.constant(20), picture=picture, keep=keep)
    np.testing.assert_allclose(filled[:, :, :2], picture[:, :, :2], atol=1e-5)
    assert np.abs(filled[:, :, 2:] - picture[:, :, 2:]).mean() > 0.1


def test_guidance():
    told, untold = drawn(2, 3, 3, 1), drawn(2, 3, 3, 1) * 2
    for guidance, right in ((1.0, told), (0.0, untold), (3.0, untold + 3 * (told - untold))):
        np.testing.assert_allclose(guided(told, untold, tf.fill([2], guidance)), right, atol=1e-6)


def test_distances_of_distributions():
    generator = np.random.default_rng(0)
    real, same, other = (generator.normal(mean, 1, (1500, 6)) for mean in (0, 0, 0.5))
    assert abs(generated.kernel_distance(real, same)) < 0.05
    assert generated.kernel_distance(real, other) > 0.5
    x, y = real[:4], other[:4]

    def kernel(a, b):
        return (a @ b / 6 + 1) ** 3

    within = [kernel(v[i], v[j]) for v in (x, y) for i in range(4) for j in range(4) if i != j]
    across = [kernel(a, b) for a in x for b in y]
    by_hand = sum(within) / 12 - 2 * sum(across) / 16
    assert generated.kernel_distance(x, y) == pytest.approx(by_hand)
    twice = np.repeat(x, 2, 0), np.repeat(y, 2, 0)  # as a bootstrap may draw them
    assert generated.kernel_distance(*twice) == pytest.approx(by_hand)
    halves = np.concatenate([real, other])  # a split whose parts differ, and one as mixed as it
    mixed = np.concatenate([other, real])
    assert abs(generated.kernel_distance(halves, mixed[np.argsort(halves[:, 0])])) < 0.05
    # Of two normal distributions: the squared distance of means, and of deviations
    wide = generator.normal(2.0, 3.0, (200_000, 2))
    narrow = generator.normal(0.0, 1.0, (200_000, 2))
    right = 2 * (2.0**2 + (3.0 - 1.0) ** 2)
    assert generated.frechet_distance(wide, narrow) == pytest.approx(right, rel=0.02)


def test_nearest():
    real = np.random.default_rng(0).integers(0, 256, (50, 3, 3, 1)).astype(np.uint8)
    changed = real[[7, 41]].copy()
    changed[1, 0, 0, 0] ^= 8
    places, distances = generated.nearest(changed, iter((real[:20], real[20:])))
    assert places.tolist() == [7, 41]
    np.testing.assert_allclose(distances, [0, 8 / 3], atol=1e-3)


def test_sides_that_cannot_be_halved_are_refused(tmp_path):
    small = ImageGeneration.smallest(tmp_path)
    wrong = dataclasses.replace(small, model=UNet(widths=(8,) * 9))
    with pytest.raises((UserError, ValueError), match="model.widths: expected few enough"):
        job.train(Run.create(tmp_path / "run", wrong), Silent())


def test_classes_without_names_are_refused(tmp_path, monkeypatch):
    small = ImageGeneration.smallest(tmp_path)
    monkeypatch.setattr(type(small.data), "label_names", ())
    with pytest.raises(UserError, match="task.by_class: expected data that names its classes"):
        small.task.measure(small.data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a judge."""
    folder = tmp_path_factory.mktemp("generation")
    small = ImageGeneration.smallest(folder)
    brief = dataclasses.replace(small.train, length="6", evaluate_every="6")
    (folder / "other").mkdir()
    judge = ImageClassification.smallest(folder / "other")
    judge = Run.create(folder / "judge", dataclasses.replace(judge, data=small.data, train=brief))
    job.train(judge, Silent())
    task = dataclasses.replace(small.task, judge=str(judge.path))
    run = Run.create(folder / "run", dataclasses.replace(small, task=task, train=brief))
    job.train(run, Silent())
    return run


def test_a_judge_reads_what_is_written(run):
    metrics = run.read_json("metrics.json")["test"]
    for name in ("kid", "fid", "read_as_asked"):
        assert name in metrics["metrics"]
    assert "of MLP" in metrics["measured_by"]["kid"]
    again = tfbig.evaluate(run, share=1.0, steps=3)["metrics"]
    size = tfbig.load(run).task.data.size("test")
    assert again["read_as_asked"]["count"] == size and np.isfinite(again["kid"]["value"])


def test_a_judge_of_other_pictures_is_refused(run, tmp_path):
    other = dataclasses.replace(run.experiment.data, side=32)
    wrong = dataclasses.replace(run.experiment, data=other)
    with pytest.raises(UserError, match="task.judge: expected a classifier of pictures of 32 x"):
        job.train(Run.create(tmp_path / "run", wrong), Silent())


def test_predictions_are_files(run, tmp_path):
    label = tfbig.load(run).task.labels[0]
    found = tfbig.predict(run, [label, "any"], number=2, steps=2, seed=5, to=str(tmp_path / "to"))
    assert [(row["input"], row["seed"]) for row in found] == [
        (label, 5),
        (label, 6),
        ("any", 7),
        ("any", 8),
    ]
    (again,) = tfbig.predict(run, [label], steps=2, seed=6, to=str(tmp_path / "again"))
    first, second = (np.asarray(Image.open(row["file"])) for row in (found[1], again))
    assert np.abs(first.astype(int) - second).max() <= 1
    mask = np.zeros(first.shape[:2], np.uint8)
    mask[:, mask.shape[1] // 2 :] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    begun = {"picture": found[0]["file"], "mask": str(tmp_path / "mask.png"), "steps": 4}
    (filled,) = tfbig.predict(run, ["any"], to=str(tmp_path / "filled"), **begun)
    before, after = (np.asarray(Image.open(row["file"])).astype(int) for row in (found[0], filled))
    assert np.abs(before - after)[mask == 0].max() <= 1
    with pytest.raises(UserError, match=f"without {label}_6.png. .* Give another folder"):
        tfbig.predict(run, [label], steps=2, seed=6, to=str(tmp_path / "again"))
    with pytest.raises(UserError, match="to: expected a folder that files can be written to"):
        tfbig.predict(run, ["any"], to=str(tmp_path / "mask.png" / "inside"))
    last = 2**31 - 1  # the next one is 0
    found = tfbig.predict(run, ["any"], number=2, steps=1, seed=last, to=str(tmp_path / "last"))
    assert [row["seed"] for row in found] == [last, 0]
    with pytest.raises(UserError, match="expected one of .*any. Received: zebra"):
        tfbig.predict(run, ["zebra"])
    with pytest.raises(UserError, match="mask: expected a picture, too"):
        tfbig.predict(run, ["any"], mask=str(tmp_path / "mask.png"))
    with pytest.raises(UserError, match="picture: .*nowhere.png: no such file"):
        tfbig.predict(run, ["any"], picture="nowhere.png")


def test_programs(run):
    """They write what `predict` writes, vary and fill pictures, and refuse in words."""
    trained = tfbig.load(run)
    programs = Programs(trained.task, trained.model, Service(limit=100))
    label = tf.constant([trained.task.labels[1], "any"])
    asked = {"label": label, "seed": tf.constant([3, 4])}
    made = programs.signatures["serving_default"](**asked)
    for pixels, png in zip(made["image"].numpy(), made["png"].numpy(), strict=True):
        found = np.asarray(Image.open(io.BytesIO(png)))
        np.testing.assert_array_equal(found.reshape(pixels.shape), pixels)
    settings = {"guidance": tf.ones(2), "freshness": tf.zeros(2), "steps": tf.constant(3)}
    strength = tf.constant([0.01, 1.0])
    varied = programs.signatures["vary"](
        **asked, **settings, image_bytes=made["png"], strength=strength
    )
    distance = np.abs(varied["values"] - made["values"]).mean((1, 2, 3))
    assert distance[0] < 0.1 and distance[0] < distance[1]
    for wrong, message in (
        ({**asked, "label": tf.constant(["zebra", "any"])}, "label: expected one of"),
        ({**settings, "steps": tf.constant(0)}, "steps: expected 1 to 1000"),
        ({**settings, "steps": tf.constant(51)}, "and 100 for all pictures of a request"),
        ({**settings, "freshness": tf.fill([2], 1.5)}, "freshness: expected numbers from 0 to 1"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            programs.signatures["generate"](**{**asked, **settings, **wrong})
