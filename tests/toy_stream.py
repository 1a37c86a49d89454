"""A toy task that is asked step by step: a filter of a stream, which carries a state.

The smallest user of Serving and of steps without a start, and of an exported score.
"""

from dataclasses import dataclass, replace

import numpy as np

from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, tf
from tfbig.core.model import Model
from tfbig.core.serving import Media, Program, Serving, Stepwise, Unrolled

SIZES = {"train": 120, "validation": 20, "test": 300}
STEPS, WIDTH = 6, 4


@dataclass(frozen=True, kw_only=True)
class Streams(Dataset):
    """Frames of two numbers; each frame's target is a sum of them all that fades."""

    gives = frozenset({"readings", "numbers"})
    spec = {
        "x": Feature(shape=(STEPS, 2), dtype="float32"),
        "y": Feature(shape=(STEPS,), dtype="float32"),
    }

    def size(self, split):
        return SIZES[split]

    def examples(self, split, positions):
        draws = [np.random.default_rng([len(split), int(i)]).normal(size=12) for i in positions]
        x = np.reshape(draws, (-1, STEPS, 2)).astype(np.float32)
        y, total = np.zeros(x.shape[:2], np.float32), np.zeros(len(x), np.float32)
        for step in range(STEPS):
            total = 0.5 * total + x[:, step] @ np.array([0.3, -0.2], np.float32)
            y[:, step] = total
        return {"x": x, "y": y}


@dataclass(frozen=True, kw_only=True)
class Recurrent(Model):
    """One recurrent layer."""

    takes, gives = frozenset({"readings"}), frozenset({"sequence"})

    def build(self, spec):
        inputs = keras.Input(spec["x"].shape, name="x")
        layer = keras.layers.SimpleRNN(WIDTH, return_sequences=True, name="memory")
        return keras.Model(inputs, layer(inputs))


@dataclass(frozen=True, kw_only=True)
class Filter(Task):
    """A number for each frame, from all that came before."""

    primary = ("r_squared", "max")
    preprocess_on = "device"
    takes, feeds = frozenset({"readings", "numbers"}), frozenset({"readings"})
    needs = frozenset({"sequence"})

    @classmethod
    def smallest(cls, folder):
        return replace(recipe(), task=cls())

    def preprocess(self, raw, training):
        return {name: raw[name] for name in ("x", "y") if name in raw}

    def build(self):
        body = self.model.build({"x": self.data.spec["x"]})
        return keras.Model(body.input, keras.layers.Dense(1, name="head")(body.output))

    def loss(self, model, batch, training):
        error = model(batch["x"], training=training)[..., 0] - tf.cast(batch["y"], "float32")
        return {"loss": (tf.reduce_sum(error**2, 1), tf.ones_like(error[:, 0]) * STEPS)}

    def predict(self, model, inputs):
        return {"given": model(inputs["x"], training=False)[..., 0]}

    def metrics(self, outputs, batch):
        error = outputs["given"] - batch["y"]
        return {"loss": (tf.reduce_sum(error**2, 1), tf.ones_like(error[:, 0]) * STEPS)}

    def records(self, outputs, batch):
        """What a coefficient of determination is made of."""
        y = batch["y"]
        wrong = tf.reduce_sum((outputs["given"] - y) ** 2, 1)
        return {"sums": tf.stack([wrong, tf.reduce_sum(y, 1), tf.reduce_sum(y**2, 1)], 1)}

    def score(self, statistics):
        wrong, total, squares = statistics["sums"].astype(np.float64).sum(0)
        return {"r_squared": 1 - wrong / (squares - total**2 / len(statistics["sums"]) / STEPS)}

    def serving(self, model, options):
        cell, head = model.get_layer("memory").cell, model.get_layer("head")

        def listen(frame, state):
            output, (state,) = cell(frame, [state])
            return {"given": head(output)[:, 0], "state": state}

        step = {"frame": tf.TensorSpec((None, 2)), "state": tf.TensorSpec((None, WIDTH))}
        return Serving(
            signature={"frames": tf.TensorSpec((None, STEPS, 2))},
            decode=lambda served: {"x": served["frames"]},
            encode=lambda raw: {"frames": raw["x"]},
            answer=lambda outputs: {"value": outputs["given"]},
            grade=lambda answers, batch: self.metrics({"given": answers["value"]}, batch),
            records=lambda answers, batch: self.records({"given": answers["value"]}, batch),
            programs={"listen": Program(function=listen, inputs=step)},
            stepwise=Stepwise(
                step="listen",
                carried=("state",),
                unit="frame",
                outputs={"given": ("given", "same")},
                unroll=lambda raw: Unrolled(given={"frame": raw["x"]}),
            ),
            media=Media(takes={"frames": "samples"}, gives={"value": "number"}),
        )


def recipe():
    return Experiment(
        name="toy_stream",
        task=Filter(),
        model=Recurrent(),
        data=Streams(),
        train=Train(length="60", batch_size=12, evaluate_every="20"),
        optim=Optim(learning_rate=0.1),
    )
