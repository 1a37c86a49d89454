"""Labelled pictures: what datasets of them share."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.lazy import np, tf
from tfbig.data._splits import stratified
from tfbig.prep import pictures
from tfbig.prep.random_view import random_decoder

DECODED_TOGETHER = 64


@dataclass(frozen=True, kw_only=True)
class MemoryImages(Dataset):
    """Labelled pictures in memory, published as train and test.

    Part of train is held out for validation.
    """

    gives = frozenset({"image", "label"})

    validation: int = knob(
        5_000, "training examples held out for validation, the same share of each class", low=1
    )
    split_seed: int = knob(0, "of the choice of validation examples", low=0, high=2**32 - 1)

    shape = (28, 28, 1)  # height, width, channels
    published = {"train": 60_000, "test": 10_000}

    def problems(self):
        if self.validation >= self.published["train"]:
            yield (
                "validation",
                (
                    f"expected fewer than the {self.published['train']:,} training examples."
                    f" Received: {self.validation:,}."
                ),
            )
        elif self.validation > (most := self.published["train"] - len(self.label_names)):
            yield (
                "validation",
                (
                    f"expected at most {most:,}, so that each class keeps an example to train on."
                    f" Received: {self.validation:,}."
                ),
            )

    @classmethod
    def smallest(cls, folder):
        """The same kind of pictures, a few hundred made-up ones in place of those published."""
        made_up = {"published": {"train": 400, "test": 100}, "published_arrays": _made_up}
        made_up["check"] = Dataset.check  # nothing need be there
        return type(cls.__name__, (cls,), {"__module__": cls.__module__, **made_up})(validation=50)

    @property
    def spec(self):
        return {
            "image": Feature(shape=self.shape, dtype="uint8", unit="intensity 0-255"),
            "label": Feature(shape=(), dtype="int32"),
        }

    def size(self, split):
        check_split(split)
        sizes = {"validation": self.validation, "train": self.published["train"] - self.validation}
        return sizes.get(split, self.published["test"])

    def labels(self, split):
        return self.arrays(split)["label"]

    def published_arrays(self, part: str) -> dict[str, np.ndarray]:
        """The pictures and labels of a published part, "train" or "test".

        Not kept by the dataset.
        """
        raise NotImplementedError

    def arrays(self, split):
        check_split(split)
        return _splits(self, "test" if split == "test" else "train")[split]

    def examples(self, split, positions):
        arrays = self.arrays(split)
        positions = np.asarray(positions, np.int64)
        size = self.size(split)
        if positions.size and not (positions.min() >= 0 and positions.max() < size):
            raise ValueError(
                f"positions: expected 0 ... {size - 1} in {split}. Received: {positions.min()} ..."
                f" {positions.max()}."
            )
        return {name: value[positions] for name, value in arrays.items()}


@dataclass(frozen=True, kw_only=True)
class EncodedImages(Dataset):
    """Labelled pictures that are stored encoded, decoded when they are asked for."""

    gives = frozenset({"image", "label"})

    side: int = knob(64, "height and width in pixels: the centre square, resized", low=1)
    centre: float = knob(
        1.0,
        "evaluation and use: of the sides of the centre square, the share that is seen; 0.875 is"
        " ImageNet's",
        above=0,
        high=1,
    )
    random_area: float | None = knob(
        None,
        "training: a random part with at least so large a share of a picture's area, resized to the"
        " side (Szegedy et al. 2015 take 0.08); none: the centre, as in evaluations",
        above=0,
        high=1,
    )

    channels = 3

    @property
    def spec(self):
        shape = (self.side, self.side, self.channels)
        image = Feature(shape=shape, dtype="uint8", unit="intensity 0-255")
        return {"image": image, "label": Feature(shape=(), dtype="int32")}

    def stored(self, split: str, positions: np.ndarray) -> tuple[Iterable[bytes], list[int], list]:
        """Contents, labels, and what messages call the pictures at `positions`."""
        raise NotImplementedError

    def examples(self, split, positions):
        return self._read(split, positions)

    def random_views(self, positions, keys):
        return self._read("train", positions, None if self.random_area is None else keys)

    def encoded(self, split, positions):
        contents, _, _ = self.stored(split, positions)
        return {"image": np.array(list(contents), object)}

    def _read(self, split: str, positions: np.ndarray, keys: np.ndarray | None = None) -> dict:
        contents, labels, names = self.stored(split, positions)
        shape = self.spec["image"].shape
        how = (self.background, self.centre) if keys is None else (self.background, 1.0)
        images = decode_pictures(contents, names, shape, *how, keys, self.random_area)
        return {"image": images, "label": np.array(labels, np.int32)}


def _made_up(data: MemoryImages, part: str) -> dict[str, np.ndarray]:
    """Pictures of noise, brighter the higher their label is."""
    count = data.published[part]
    classes = len(data.label_names)
    label = np.arange(count, dtype=np.int32) % classes
    noise = np.random.default_rng(count).integers(0, 100, (count, *data.shape))
    bright = 155 * label // (classes - 1)
    return {"image": (noise + bright[:, None, None, None]).astype(np.uint8), "label": label}


def decode_pictures(
    contents: Iterable[bytes],
    names: Sequence[str],
    shape: tuple,
    background: int,
    centre: float = 1.0,
    keys: np.ndarray | None = None,
    random_area: float | None = None,
) -> np.ndarray:
    """Encoded pictures as uint8 [n, height, width, channels], decoded several at a time.

    The decoder is the one that exported models hold.

    Args:
        contents: of the n pictures, taken a few at a time.
        names: what messages call them.
        shape: (height, width, channels).
        background: what shows through a PNG, 0-255; see `prep.pictures.decode`.
        centre: share of the sides of the part in the middle that is seen.
        keys: uint32 [n, 2]; given, a random part of each picture is seen instead.
        random_area: its least share of the picture's area.

    Raises:
        UserError: one is refused; the message starts with its name.
    """

    def decode(contents: list[bytes], rows: slice) -> np.ndarray:
        if keys is None:
            return pictures.decoder(shape, background, share=centre)(tf.constant(contents))
        return random_decoder(shape, background, random_area)(tf.constant(contents), keys[rows])

    decoded = np.empty((len(names), *shape), np.uint8)
    contents = iter(contents)
    for first in range(0, len(names), DECODED_TOGETHER):
        rows = range(first, min(first + DECODED_TOGETHER, len(names)))
        together = list(itertools.islice(contents, len(rows)))
        decoded[rows.start : rows.stop] = _decoded(together, names, rows, decode)
    return decoded


def _decoded(
    contents: list[bytes], names: Sequence[str], rows: range, decode: Callable
) -> np.ndarray:
    """Pictures of some rows; `decode` takes their contents and the rows as a slice."""
    try:
        return decode(contents, slice(rows.start, rows.stop)).numpy()
    except tf.errors.OpError as error:
        for content, row in zip(contents, rows, strict=True):
            if len(contents) > 1:
                _decoded([content], names, range(row, row + 1), decode)
        raise UserError(
            f"data: {names[rows.start]} cannot be decoded: {pictures.reason(error)}. Mend it or"
            " take it out."
        ) from error


def check_split(split: str) -> None:
    """Refuses a split that does not exist."""
    if split not in SPLITS:
        raise UserError(f"split: expected one of {', '.join(SPLITS)}. Received: {split!r}.")


@functools.lru_cache(maxsize=4)
def _splits(data: MemoryImages, part: str) -> dict[str, dict[str, np.ndarray]]:
    """The splits that a published part holds, from one reading.

    Datasets with the same settings are equal, so they share one copy.
    """
    whole = data.published_arrays(part)
    if part == "test":
        return {"test": whole}
    train, held = stratified(whole["label"], data.validation, data.split_seed)
    return {
        split: {name: value[rows] for name, value in whole.items()}
        for split, rows in (("train", train), ("validation", held))
    }
