"""The four files of MNIST that travel with the package."""

from __future__ import annotations

import functools
from pathlib import Path

from tfbig.core.lazy import np
from tfbig.data import _embedded

FOLDER = Path(__file__).parent / "_mnist"
SHA256 = {  # of the uncompressed files, as published
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def part(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A published part, "train" or "test": digits uint8 [n, 28, 28, 1], what they are int32 [n]."""
    prefix = {"train": "train", "test": "t10k"}[name]
    pixels = read(f"{prefix}-images-idx3-ubyte")
    labels = read(f"{prefix}-labels-idx1-ubyte")
    image = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return image, np.frombuffer(labels, np.uint8, offset=8).astype(np.int32)


@functools.lru_cache(maxsize=2)  # a second takes: datasets that differ in their settings share it
def read(name: str) -> bytes:
    """The uncompressed content of one of the four files, checked against its published checksum."""
    return _embedded.content(FOLDER / f"{name}.xz", SHA256[name])
