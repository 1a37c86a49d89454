"""A toy task of detection: a picture holds no, one or several bright rectangles of two classes.

The smallest user of truth of any size, of average precision, and of boxes that are answered.
"""

from dataclasses import dataclass

import numpy as np

from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, tf
from tfbig.core.model import Model
from tfbig.core.serving import Media, Serving
from tfbig.media.picture import Picture

SIZES = {"train": 128, "validation": 40, "test": 40}
SIDE, CELL = 32, 4
CELLS = SIDE // CELL
MOST = 8  # boxes in a picture, and boxes found in one
LEAST_SCORE = 0.1  # of what is taken for a box
SHAPE = (SIDE, SIDE, 3)


@dataclass(frozen=True, kw_only=True)
class Rectangles(Dataset):
    """Each quarter of a picture is empty or holds a red or a green rectangle."""

    gives = frozenset({"image", "boxes"})
    label_names = ("red", "green")
    spec = {
        "image": Feature(shape=SHAPE, dtype="uint8"),
        "boxes": Feature(shape=(None, 4), dtype="float32", unit="pixels", most=MOST),
        "classes": Feature(shape=(None,), dtype="int32", values=2, most=MOST),
    }

    def size(self, split):
        return SIZES[split]

    def examples(self, split, positions):
        drawn = [self._draw(np.random.default_rng([len(split), int(i)])) for i in positions]
        images = [image for image, _, _ in drawn]
        return {
            "image": np.reshape(images, (-1, *SHAPE)).astype(np.uint8),
            "boxes": [boxes for _, boxes, _ in drawn],
            "classes": [classes for _, _, classes in drawn],
        }

    def _draw(self, random):
        image = random.integers(0, 60, SHAPE).astype(np.uint8)
        boxes, classes = [], []
        for corner in np.array([(0, 0), (0, 16), (16, 0), (16, 16)])[random.random(4) < 0.4]:
            height, width = random.integers(6, 15, 2)
            top, left = corner + random.integers(0, (17 - height, 17 - width))
            colour = random.integers(2)
            image[top : top + height, left : left + width, colour] = 255
            boxes.append((top, left, top + height, left + width))
            classes.append(colour)
        return image, np.reshape(boxes, (-1, 4)).astype(np.float32), np.array(classes, np.int32)


@dataclass(frozen=True, kw_only=True)
class Grid(Model):
    """A few convolutions, to one map of a fourth of the side."""

    takes, gives = frozenset({"image"}), frozenset({"pyramid"})

    def build(self, spec):
        inputs = x = keras.Input(spec["image"].shape, name="image")
        for number, (width, stride) in enumerate([(16, 2), (24, 2), (24, 1)]):
            layer = keras.layers.Conv2D(
                width, 5, stride, "same", activation="relu", name=f"conv_{number}"
            )
            x = layer(x)
        return keras.Model(inputs, [keras.layers.Dropout(0.02, name="drop")(x)])


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """Boxes and their classes; each is found by the cell of a grid that holds its centre."""

    primary = ("ap50", "max")
    preprocess_on = "device"
    takes, needs = frozenset({"image", "boxes"}), frozenset({"pyramid"})

    @classmethod
    def smallest(cls, folder):
        return recipe()

    def preprocess(self, raw, training):
        truth = ("boxes", "classes", "boxes_count")
        ready = {name: raw[name] for name in truth if name in raw}
        return {**ready, "image": tf.cast(raw["image"], tf.float32) / 255}

    def build(self):
        body = self.model.build({"image": self.data.spec["image"]})
        (finest,) = body.outputs
        # Of a cell: whether a box is there, its class, its centre's place and its size in cells
        return keras.Model(body.input, keras.layers.Conv2D(6, 1, name="head")(finest))

    def loss(self, model, batch, training):
        given = tf.reshape(model(batch["image"], training=training), (-1, CELLS**2, 6))
        boxes, there = batch["boxes"] / CELL, _is_real(batch)
        centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        cell = tf.cast(centre, tf.int32)
        number = cell[..., 0] * CELLS + cell[..., 1]
        own = tf.gather(given, number, batch_dims=1)  # [b, boxes, 6]
        taken = tf.reduce_max(tf.one_hot(number, CELLS**2) * there[..., None], 1)
        wrong = tf.nn.sigmoid_cross_entropy_with_logits(taken, given[..., 0])
        classes = tf.cast(batch["classes"], tf.float32)
        confused = tf.nn.sigmoid_cross_entropy_with_logits(classes, own[..., 1])
        place = tf.concat([centre - tf.floor(centre), tf.math.log(tf.maximum(size, 1.0))], -1)
        distance = tf.reduce_sum(tf.abs(own[..., 2:] - place), -1)
        found = tf.reduce_sum(wrong, 1) + tf.reduce_sum((confused + distance) * there, 1)
        # A picture without a box counts as much as another, but says nothing of distances
        count = tf.reduce_sum(there, 1)
        distances = tf.reduce_sum(distance * there, 1)
        return {"loss": (found, tf.ones_like(found)), "distance": (distances, count)}

    def predict(self, model, inputs):
        given = model(inputs["image"], training=False)
        score = tf.sigmoid(given[..., 0])
        peak = tf.nn.max_pool2d(score[..., None], 3, 1, "SAME")[..., 0]
        score = tf.where(score == peak, score, 0.0)
        scores, cell = tf.math.top_k(tf.reshape(score, (-1, CELLS**2)), MOST)
        own = tf.gather(tf.reshape(given, (-1, CELLS**2, 6)), cell, batch_dims=1)
        corner = tf.stack([cell // CELLS, cell % CELLS], -1)
        centre, half = tf.cast(corner, tf.float32) + own[..., 2:4], tf.exp(own[..., 4:]) / 2
        boxes = CELL * tf.concat([centre - half, centre + half], -1)
        is_found = scores >= LEAST_SCORE
        return {
            "boxes": tf.where(is_found[..., None], boxes, 0.0),
            "scores": tf.where(is_found, scores, 0.0),
            "classes": tf.where(is_found, tf.cast(own[..., 1] > 0, tf.int32), 0),
            "count": tf.reduce_sum(tf.cast(is_found, tf.int32), 1),
        }

    def metrics(self, outputs, batch):
        error = tf.abs(outputs["count"] - batch["boxes_count"])
        return {"count_error": (tf.cast(error, tf.float32), tf.ones_like(error, tf.float32))}

    def records(self, outputs, batch):
        names = ("boxes", "classes", "boxes_count")
        return {**outputs, **{f"true_{name}": batch[name] for name in names}}

    def examine(self, records):
        """Which boxes of a picture are right: the surest first, each takes a true one of its class
        that it shares half of its area with."""
        scores = records["scores"]
        classes = np.where(np.arange(MOST) < records["count"][:, None], records["classes"], -1)
        true_classes = records["true_classes"]
        real = np.arange(true_classes.shape[1]) < records["true_boxes_count"][:, None]
        true_classes = np.where(real, true_classes, -2)
        shared = overlap(records["boxes"][:, :, None], records["true_boxes"][:, None])
        shared *= classes[:, :, None] == true_classes[:, None]
        right, rows = np.zeros(scores.shape, bool), np.arange(len(scores))
        for place in range(MOST):
            best = shared[:, place].argmax(-1)
            right[:, place] = shared[rows, place, best] >= 0.5
            shared[rows[right[:, place]], :, best[right[:, place]]] = 0
        truth = (true_classes[..., None] == np.arange(2)).sum(1)
        return {"scores": scores, "classes": classes, "right": right, "truth": truth}

    def score(self, statistics):
        each = [_precision(statistics, number) for number in range(2)]
        known = [value for value in each if value is not None]
        return {"ap50": float(np.mean(known)) if known else None}

    def serving(self, model, options):
        picture = Picture(shape=SHAPE)

        def answer(outputs):
            names = tf.gather(tf.constant(self.data.label_names), outputs["classes"])
            return {**outputs, "classes": names}

        def outputs(answers):
            numbers = tf.cast(answers["classes"] == self.data.label_names[1], tf.int32)
            return {**answers, "classes": numbers}

        return Serving(
            signature={"image": picture.served("image")},
            decode=lambda served: {"image": picture.decode(served["image"])},
            encode=lambda raw: {"image": picture.encode(raw["image"])},
            answer=answer,
            grade=lambda answers, batch: self.metrics(outputs(answers), batch),
            records=lambda answers, batch: self.records(outputs(answers), batch),
            media=Media(
                takes={"image": "picture"},
                gives={"boxes": "boxes", "classes": "label", "scores": "probabilities"},
            ),
        )


def _is_real(batch):
    places = tf.range(batch["boxes"].shape[1])
    return tf.cast(places < batch["boxes_count"][:, None], tf.float32)


def overlap(one, other):
    """Intersection over union of boxes [..., 4]."""
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (one, other)]
    return both / np.maximum(sum(areas) - both, 1e-9)


def _precision(statistics, number):
    """Average precision of one class, as COCO's: the mean over 101 recalls of the best precision
    there or beyond; None where the class does not occur."""
    truth, own = statistics["truth"][:, number].sum(), statistics["classes"] == number
    if not truth:
        return None
    order = np.argsort(-statistics["scores"][own], kind="stable")
    right = statistics["right"][own][order].cumsum()
    precision = right / np.arange(1, len(right) + 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return best[np.searchsorted(right / truth, np.linspace(0, 1, 101), side="left")].mean()


def recipe():
    return Experiment(
        name="toy_boxes",
        task=Detection(),
        model=Grid(),
        data=Rectangles(),
        train=Train(length="120", batch_size=16, evaluate_every="60", save_every="60"),
        optim=Optim(optimizer="adam", learning_rate=0.005),
    )
