"""CIFAR-10: 60,000 colour pictures of 10 kinds of objects, 32 x 32 pixels.

Through TensorFlow Datasets.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.data import _tfds, _tfds_folders
from tfbig.data._images import MemoryImages


@dataclass(frozen=True, kw_only=True)
class CIFAR10(MemoryImages):
    """CIFAR-10: 60,000 colour pictures of 10 kinds of objects, 32 x 32 pixels (Krizhevsky 2009)."""

    shape = (32, 32, 3)
    published = {"train": 50_000, "test": 10_000}

    @property
    def label_names(self):
        return (
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        )

    def check(self):
        _tfds_folders.find("cifar10")

    def published_arrays(self, part):
        shape = (self.published[part], *self.shape)
        return _tfds.read_labelled("cifar10", part, shape, len(self.label_names))

    def card(self):
        return {
            "title": "CIFAR-10",
            "source": (
                "Alex Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html, through TensorFlow"
                " Datasets"
            ),
            "licence": "none stated; cite the report",
            "citation": (
                "Krizhevsky, A. (2009). Learning multiple layers of features from tiny images."
                " Technical report, University of Toronto."
            ),
        }
