"""A toy agent: walkers that go on by what the model says, and a target that follows the model."""

from dataclasses import dataclass, replace

import numpy as np
from toy_sequences import Steps

from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, tf
from tfbig.core.serving import Media, Serving
from tfbig.core.source import Source

PLACE = {"x": Feature(shape=(1, 2), dtype="float32"), "y": Feature(shape=(1,), dtype="float32")}


def truth(x):
    return x @ np.array([1.0, -2.0], np.float32)


@dataclass(frozen=True, kw_only=True)
class Places(Dataset):
    """Places to be evaluated at; those of training are made by the walkers."""

    gives = frozenset({"places"})
    spec = PLACE

    def size(self, split):
        return 20

    def examples(self, split, positions):
        draws = [np.random.default_rng([len(split), int(i)]).normal(size=2) for i in positions]
        x = np.reshape(draws, (-1, 1, 2))
        return {"x": x.astype(np.float32), "y": truth(x.astype(np.float32))}


class Walkers(Source):
    """Each walks on by what the model says of its place, and by chance."""

    spec = PLACE

    def __init__(self, model, batch_size, seed):
        self.model, self.seed = model, seed
        self.place = np.random.default_rng(seed).normal(size=(batch_size, 1, 2)).astype(np.float32)

    def batch(self, number):
        x = self.place
        said = self.model(x, training=False).numpy()[..., :1]
        chance = np.random.default_rng([self.seed, number]).normal(size=x.shape).astype(np.float32)
        self.place = np.tanh(0.5 * x + 0.1 * said + chance)
        return {"x": x, "y": truth(x)}

    def state(self):
        return {"place": self.place}

    def restore(self, state):
        self.place = state["place"]


@dataclass(frozen=True, kw_only=True)
class Walk(Task):
    """The value of a place, learnt where the walkers come along."""

    takes, feeds, needs = frozenset({"places"}), frozenset({"steps"}), frozenset({"sequence"})
    preprocess_on = "device"

    @classmethod
    def smallest(cls, folder):
        train = Train(length="40", batch_size=6, evaluate_every="20", save_every="10")
        return replace(recipe(), task=cls(), train=train)

    def preprocess(self, raw, training):
        return {name: raw[name] for name in ("x", "y") if name in raw}

    def build(self):
        body = self.model.build({"x": PLACE["x"]})
        return keras.Model(body.input, keras.layers.Dense(1, name="head")(body.output))

    def source(self, model, batch_size, seed):
        return Walkers(model, batch_size, seed)

    def variables(self, model):
        followers = [
            keras.Variable(v.numpy(), trainable=False, name=f"target_{i}")
            for i, v in enumerate(model.trainable_variables)
        ]
        object.__setattr__(self, "followers", followers)
        return followers

    def after_step(self, model, step):
        for follower, weight in zip(self.followers, model.trainable_variables, strict=True):
            follower.assign(tf.where(step % 3 == 0, weight.value, follower.value))

    def loss(self, model, batch, training):
        error = model(batch["x"], training=training)[..., 0] - batch["y"]
        return {"loss": (tf.reduce_sum(error**2, 1), tf.ones_like(error[:, 0]))}

    def predict(self, model, inputs):
        return {"given": model(inputs["x"], training=False)[..., 0]}

    def metrics(self, outputs, batch):
        error = outputs["given"] - batch["y"]
        return {"loss": (tf.reduce_sum(error**2, 1), tf.ones_like(error[:, 0]))}

    def serving(self, model, options):
        return Serving(
            signature={"x": tf.TensorSpec((None, *PLACE["x"].shape))},
            decode=dict,
            encode=lambda raw: {"x": raw["x"]},
            answer=lambda outputs: {"value": outputs["given"]},
            grade=lambda answers, batch: self.metrics({"given": answers["value"]}, batch),
            media=Media(takes={"x": "state"}, gives={"value": "number"}),
        )


def recipe():
    return Experiment(
        name="toy_agent",
        task=Walk(),
        model=Steps(),
        data=Places(),
        train=Train(
            length="8", batch_size=6, evaluate_every="100", save_every="3", final_split="none"
        ),
        optim=Optim(learning_rate=0.05),
    )
