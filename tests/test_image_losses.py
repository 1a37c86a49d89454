"""What a classifier of pictures learns from: mixed pictures, rare classes, those not known yet."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfbig.core.errors import UserError
from tfbig.core.experiment import Train
from tfbig.core.workers import Share
from tfbig.data.image_folder import ImageFolder
from tfbig.engine.setup import Setup, training_facts
from tfbig.nn.label_loss import cross_entropy
from tfbig.tasks import _classes
from tfbig.tasks.image_classification import ImageClassification

LOGITS = tf.constant([[2.0, 0.5, -1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0], [-2.0, 0.0, 4.0]])
LABEL = tf.constant([0, 2, 1, 2])


def softmax(logits):
    exponents = np.exp(logits - np.max(logits, 1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def test_focal_loss():
    """Lin et al. 2017, equation 4."""
    own = softmax(LOGITS.numpy())[np.arange(4), LABEL]
    expected = -((1 - own) ** 2) * np.log(own)
    np.testing.assert_allclose(cross_entropy(LOGITS, LABEL, focal=2.0), expected, rtol=1e-5)
    np.testing.assert_allclose(cross_entropy(LOGITS, LABEL), -np.log(own), rtol=1e-5)


class Told:
    """A model that says these logits, whatever it is shown."""

    def __call__(self, image, training):
        return LOGITS


def bound(**facts):
    def of(**knobs):
        return ImageClassification(**knobs).bind(None, None, {"labels": list("abc"), **facts})

    return of


def test_mixed_pictures_have_two_labels():
    batch = {
        "image": tf.zeros((4, 2, 2, 1)),
        "label": LABEL,
        "other": tf.constant([2, 0, 2, 1]),
        "share": tf.constant([1.0, 0.75, 0.5, 0.0]),
    }
    task = bound(class_weights=[1.0, 2.0, 0.5])
    own, other = (
        -np.log(softmax(LOGITS.numpy())[np.arange(4), batch[k]]) for k in ("label", "other")
    )
    share = batch["share"].numpy()
    losses, weight = task().loss(Told(), batch, True)["loss"]
    np.testing.assert_allclose(losses, share * own + (1 - share) * other, rtol=1e-5)
    np.testing.assert_allclose(weight, 1)
    losses, weight = task(class_weights="balanced").loss(Told(), batch, True)["loss"]
    of = np.array([1.0, 2.0, 0.5])
    mine, theirs = share * of[batch["label"]], (1 - share) * of[batch["other"]]
    np.testing.assert_allclose(losses, mine * own + theirs * other, rtol=1e-5)
    np.testing.assert_allclose(weight, mine + theirs, rtol=1e-6)
    hits, count = task().loss(Told(), batch, True)["accuracy"]
    assert np.round(hits, 2).tolist() == [1, 0, 0, 0] and count.numpy().tolist() == [1] * 4


def test_rare_classes_weigh_more(tmp_path):
    """As scikit-learn's balanced weights, which PyTorch's users give to a loss."""
    data = ImageFolder.smallest(tmp_path)
    for path in sorted((tmp_path / "pictures" / "dark").iterdir())[10:]:
        path.unlink()
    facts = ImageClassification(class_weights="balanced").measure(data)
    labels = data.labels("train")
    expected = len(labels) / (2 * np.bincount(labels))
    np.testing.assert_allclose(facts["class_weights"], expected, rtol=1e-5)
    assert expected[1] > 2 * expected[0]  # dark ones are the second
    assert "class_weights" not in ImageClassification().measure(data)


def test_calibration_error_is_the_reports():
    random = np.random.default_rng(0)
    confidence, right = random.random(500), random.random(500) < 0.7
    bins, error = _classes.reliability(confidence, right)
    assert _classes.calibration_error(confidence, right) == pytest.approx(error)
    assert _classes.calibration_error(np.array([0.9, 0.9]), np.array([True, False])) == (
        pytest.approx(0.4)
    )


def test_neighbours_are_mixed_while_training(tmp_path):
    task = ImageClassification(mixup=0.2, cutmix=1.0, changes=1)
    experiment = dataclasses.replace(ImageClassification.smallest(tmp_path), task=task)
    facts = training_facts(experiment, experiment.data)
    setup = Setup(experiment, facts)
    slab, place = setup.slabs.at(0)
    raw = {name: value[place] for name, value in slab.items()}
    ready = setup.task.preprocess(raw, True)
    assert set(ready) == {"image", "label", "other", "share"}
    for i in range(4):  # four workers mix what one process mixes
        own = Share.of(12, i, 4, setup.task.together)
        rows = slice(own.first, own.first + own.size)
        part = setup.task.preprocess({name: value[rows] for name, value in raw.items()}, True)
        for name, value in part.items():
            np.testing.assert_allclose(value, ready[name][rows], atol=1e-6)
    pairs = np.arange(12) ^ 1
    np.testing.assert_array_equal(ready["other"], ready["label"].numpy()[pairs])
    assert set(setup.task.preprocess(raw, False)) == {"image", "label"}
    (shown,) = setup.task.training_panels({name: value.numpy() for name, value in ready.items()})
    assert "mixed with a neighbour" in shown["caption"]
    assert "%" in shown["items"][0]["caption"]
    for train in (Train(length="1", batch_size=5), Train(length="1", batch_size=6, accumulate=2)):
        odd = dataclasses.replace(experiment, train=train)
        with pytest.raises(UserError, match="accumulate: expected a multiple of 2.*Received: [35]"):
            _ = Setup(odd, facts).slabs
    loss = setup.run_block(slab, tf.constant(0), tf.constant(1))["loss"].numpy()[0]
    assert np.isfinite(loss)
