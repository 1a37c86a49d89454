"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 pixels; through TensorFlow Datasets."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.data import _tfds, _tfds_folders
from tfbig.data._images import MemoryImages


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(MemoryImages):
    """Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 pixels (Xiao et al. 2017)."""

    background = 0  # the clothes are bright on black

    @property
    def label_names(self):
        return (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        )

    def check(self):
        _tfds_folders.find("fashion_mnist")

    def published_arrays(self, part):
        shape = (self.published[part], *self.shape)
        return _tfds.read_labelled("fashion_mnist", part, shape, len(self.label_names))

    def card(self):
        return {
            "title": "Fashion-MNIST",
            "source": (
                "Zalando Research, https://github.com/zalandoresearch/fashion-mnist, through"
                " TensorFlow Datasets"
            ),
            "licence": "MIT",
            "citation": (
                "Xiao, H., Rasul, K., Vollgraf, R. (2017). Fashion-MNIST: a novel image dataset for"
                " benchmarking machine learning algorithms. arXiv:1708.07747."
            ),
        }
