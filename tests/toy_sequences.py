"""A toy task on sequences of any length.

The smallest user of free axes, of weights, records and score, served as numbers of any length.
"""

from dataclasses import dataclass, replace

import numpy as np

from tfbig.core.component import knob
from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, tf
from tfbig.core.model import Model
from tfbig.core.serving import Media, Serving

SIZES = {"train": 90, "validation": 30, "test": 30}
LONGEST = 12


@dataclass(frozen=True, kw_only=True)
class Sequences(Dataset):
    """Steps of two numbers.

    Each step's target is their weighted sum. Lengths are 1 to 12, most short.
    """

    gives = frozenset({"steps", "numbers"})
    like_length: bool = knob(True, "say the lengths, so that batches are of like length")

    @property
    def spec(self):
        return {
            "x": Feature(shape=(None, 2), dtype="float32", most=LONGEST),
            "y": Feature(shape=(None,), dtype="float32", most=LONGEST),
            "name": Feature(shape=(), dtype="int32"),
        }

    def size(self, split):
        return SIZES[split]

    def _length(self, split, position):
        random = np.random.default_rng([len(split), position])
        return int(1 + (LONGEST - 1) * random.random() ** 2)

    def lengths(self, split):
        each = np.array([self._length(split, i) for i in range(SIZES[split])])
        return {"x": each, "y": each} if self.like_length else None

    def examples(self, split, positions):
        found = {"x": [], "y": [], "name": np.asarray(positions, np.int32)}
        for position in np.asarray(positions):
            random = np.random.default_rng([len(split), int(position), 1])
            x = random.normal(size=(self._length(split, int(position)), 2)).astype(np.float32)
            found["x"].append(x)
            found["y"].append(x @ np.array([1.0, -2.0], np.float32) + 0.5)
        return found


@dataclass(frozen=True, kw_only=True)
class Steps(Model):
    """One layer, step by step."""

    takes, gives = frozenset({"steps"}), frozenset({"sequence"})

    def build(self, spec):
        inputs = keras.Input(spec["x"].shape, name="x", dtype=spec["x"].dtype)
        hidden = keras.layers.Dense(8, "tanh", kernel_regularizer="l2", name="hidden")(inputs)
        return keras.Model(inputs, hidden)


@dataclass(frozen=True, kw_only=True)
class StepRegression(Task):
    """A number for each step."""

    primary = ("r_squared", "max")
    preprocess_on = "device"
    takes, feeds = frozenset({"steps", "numbers"}), frozenset({"steps"})
    needs = frozenset({"sequence"})

    @classmethod
    def smallest(cls, folder):
        train = Train(length="60", batch_size=12, shapes=3, evaluate_every="20")
        return replace(recipe(), task=cls(), train=train)

    def preprocess(self, raw, training):
        ready = {name: raw[name] for name in ("x", "y") if name in raw}
        steps = tf.range(raw["x"].shape[1])[None]
        return {**ready, "real": tf.cast(steps < raw["x_count"][:, None], tf.float32)}

    def build(self):
        body = self.model.build({"x": self.data.spec["x"]})
        return keras.Model(body.input, keras.layers.Dense(1, name="head")(body.output))

    def _squares(self, given, batch):
        error = given - tf.cast(batch["y"], given.dtype)
        return tf.reduce_sum(error**2 * tf.cast(batch["real"], given.dtype), 1)

    def loss(self, model, batch, training):
        given = model(batch["x"], training=training)[..., 0]
        return {"loss": (self._squares(given, batch), tf.reduce_sum(batch["real"], 1))}

    def predict(self, model, inputs):
        return {"given": model(inputs["x"], training=False)[..., 0]}

    def metrics(self, outputs, batch):
        return {"loss": (self._squares(outputs["given"], batch), tf.reduce_sum(batch["real"], 1))}

    def records(self, outputs, batch):
        real = batch["real"]
        columns = [
            self._squares(outputs["given"], batch),
            tf.reduce_sum(batch["y"] * real, 1),
            tf.reduce_sum(batch["y"] ** 2 * real, 1),
            tf.reduce_sum(real, 1),
        ]
        return {"sums": tf.stack([tf.cast(column, tf.float32) for column in columns], 1)}

    def serving(self, model, options):
        def encode(raw):
            x = np.zeros((len(raw["x"]), LONGEST, 2), np.float32)
            for row, value in zip(x, raw["x"], strict=True):
                row[: len(value)] = value
            return {"x": x, "x_count": np.array([len(value) for value in raw["x"]], np.int32)}

        return Serving(
            signature={
                "x": tf.TensorSpec((None, LONGEST, 2)),
                "x_count": tf.TensorSpec((None,), tf.int32),
            },
            decode=dict,
            encode=encode,
            answer=lambda outputs: {"value": outputs["given"]},
            grade=lambda answers, batch: self.metrics({"given": answers["value"]}, batch),
            records=lambda answers, batch: self.records({"given": answers["value"]}, batch),
            media=Media(gives={"value": "number"}),
        )

    def score(self, statistics):
        wrong, total, squares, count = statistics["sums"].astype(np.float64).sum(0)
        return {"r_squared": 1 - wrong / (squares - total**2 / count)}


def recipe():
    return Experiment(
        name="toy_sequences",
        task=StepRegression(),
        model=Steps(),
        data=Sequences(),
        train=Train(length="12", batch_size=12, shapes=3, evaluate_every="12", final_split="none"),
        optim=Optim(learning_rate=0.1),
    )
