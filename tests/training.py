"""What the tests of training share.

Small experiments, a silent observer, comparison of everything that is trained.
"""

from itertools import chain

import numpy as np

import tfbig
from tfbig.engine import loop
from tfbig.engine.setup import Setup

FACTS = {"mean": [33.3], "std": [78.6], "labels": [str(i) for i in range(10)]}
LOUD = [
    "model.dropout=0.3",
    "task.crop_padding=2",
    "task.cutout=4",
    "train.batch_size=32",
    "train.evaluate_every=9",
    "train.save_every=5",
]


def make(*settings, recipe="mnist_mlp"):
    return tfbig.recipe(recipe, *settings)


class Silent:
    """An observer that remembers."""

    def __init__(self):
        self.lines, self.notes, self.evaluations = [], [], []

    def restored(self, step):
        self.lines = [line for line in self.lines if line[0] <= step]

    def trained(self, step, values):
        self.lines.append((step, values["loss"]))

    def evaluated(self, step, split, metrics):
        self.evaluations.append((step, metrics.get("loss", {}).get("value")))

    def note(self, text):
        self.notes.append(text)


def run_to(folder, length, *settings, recipe="mnist_mlp"):
    setup = Setup(make(*settings, f"train.length={length}", recipe=recipe), FACTS)
    observer = Silent()
    state = loop.train(setup, folder, observer)
    return setup, state, observer


def values(setup):
    return [np.array(v.numpy()) for v in chain(*setup.files.values())]


def assert_equal(first, second):
    for a, b in zip(values(first), values(second), strict=True):
        np.testing.assert_array_equal(a, b)
