"""MNIST: 70,000 handwritten digits of 28 x 28 pixels; travels with the package."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.data import _mnist_files
from tfbig.data._images import MemoryImages


@dataclass(frozen=True, kw_only=True)
class MNIST(MemoryImages):
    """MNIST: 70,000 handwritten digits of 28 x 28 pixels; travels with the package.

    LeCun et al. 1998.
    """

    background = 0  # the digits are white on black

    @classmethod
    def smallest(cls, folder):
        return cls()

    @property
    def label_names(self):
        return tuple("0123456789")

    def published_arrays(self, part):
        image, label = _mnist_files.part(part)
        return {"image": image, "label": label}

    def card(self):
        return {
            "title": "MNIST database of handwritten digits",
            "source": (
                "Yann LeCun, Corinna Cortes, Christopher J. C. Burges,"
                " http://yann.lecun.com/exdb/mnist/"
            ),
            "licence": "CC BY-SA 3.0",
            "citation": (
                "LeCun, Y., Bottou, L., Bengio, Y., Haffner, P. (1998). Gradient-based learning"
                " applied to document recognition. Proceedings of the IEEE 86(11), 2278-2324."
            ),
        }
