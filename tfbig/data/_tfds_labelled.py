"""Labelled pictures and videos of TensorFlow Datasets, read at random: what they share."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import ClassVar

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.data import _tfds, _tfds_folders
from tfbig.data._images import check_split
from tfbig.data._tfds_records import check_records, source


@dataclass(frozen=True, kw_only=True)
class TFDSLabelled(Dataset):
    """A labelled dataset in ArrayRecord or TFRecord files, larger than memory or not."""

    noun: ClassVar[str]
    """What an example is, in a word."""
    content: ClassVar[str]
    """The knob that names the feature which holds it."""
    kind: ClassVar[str]
    """The class of that feature in `tensorflow_datasets.features`."""
    version: ClassVar[int] = 1
    """Of how the records are read: part of the fingerprint."""

    builder: str = knob("", "TensorFlow Datasets' name, or name/configuration")
    test_part: str = knob("test", "published part used as test split")
    validation_part: str = knob(
        "", "published part used as validation split; empty: held out from train"
    )
    validation: int = knob(
        1_000, "training examples held out if no validation part is named", low=1
    )
    split_seed: int = knob(0, "of the choice of validation examples", low=0, high=2**32 - 1)
    label_key: str = knob("label", "the feature that holds the label")

    def check(self):
        _tfds_folders.find(self.builder, random_access=True)

    @property
    def label_names(self):
        return tuple(opened(self).info.features[self.label_key].names)

    def size(self, split):
        size = len(_rows(self, split))
        _check_labelled(self, self._part(split))
        return size

    def records(self, split: str, positions: np.ndarray) -> tuple[list[dict], list[str]]:
        """Stored records, what they hold still encoded, and what messages call them."""
        rows = _rows(self, split)[np.asarray(positions, np.int64)]
        stored = _source(self, self._part(split))
        try:
            records = stored.__getitems__([int(row) for row in rows])
        except Exception as error:  # whatever a damaged record may raise
            place = f"rows {rows.min():,} to {rows.max():,} of {self.builder}"
            message = f"data: {place} cannot be read: {error}. Prepare the dataset again."
            raise UserError(message) from error
        names = [f"{self.noun} {row} of {self.builder}" for row in rows]
        for record, name in zip(records, names, strict=True):
            if record[self.label_key] < 0:
                raise UserError(f"data: {name} has no label.")
            _tfds.check_labels(record[self.label_key], self.label_names, name)
        return records, names

    def fingerprint(self):
        lines = _tfds.described(opened(self))
        return f"{self.version}:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def card(self):
        info = opened(self).info
        return {
            "title": info.full_name,
            "source": f"{info.homepage or ''} through TensorFlow Datasets".strip(),
            "licence": (
                (info.redistribution_info.license if info.redistribution_info else "")
                or "see the source"
            ),
            "citation": info.citation or "see the source",
        }

    def _part(self, split: str) -> str:
        check_split(split)
        return {
            "train": "train",
            "validation": self.validation_part or "train",
            "test": self.test_part,
        }[split]


@functools.lru_cache(maxsize=4)
def opened(data: TFDSLabelled):
    """The builder of a dataset, once it is known to hold what is expected."""
    import tensorflow_datasets as tfds

    builder = _tfds.open_builder(data.builder, random_access=True)
    features = builder.info.features
    for key in (data.content, "label_key"):
        if getattr(data, key) not in features:
            raise UserError(
                f"data.{key}: expected one of {', '.join(sorted(features))}. Received:"
                f" {getattr(data, key)!r}."
            )
    named = {"train": "train", "test": data.test_part, "validation": data.validation_part}
    _tfds.check_parts(builder.info, named)
    kinds = {
        data.content: (getattr(tfds.features, data.kind), f"{data.noun}s"),
        "label_key": (tfds.features.ClassLabel, "labels"),
    }
    for key, (kind, noun) in kinds.items():
        feature = features[getattr(data, key)]
        if not isinstance(feature, kind):
            received = f"{getattr(data, key)!r}, {type(feature).__name__}"
            raise UserError(f"data.{key}: expected a feature of {noun}. Received: {received}.")
    for part in dict.fromkeys(("train", data.test_part, data.validation_part or "train")):
        check_records(builder, part)
    return builder


@functools.lru_cache(maxsize=12)
def _check_labelled(data: TFDSLabelled, part: str) -> None:
    """Refuses a part published without labels, as some test sets are; one record tells."""
    if len(source := _source(data, part)) and source[0][data.label_key] < 0:
        raise UserError(
            f"data: the part {part} of {data.builder} is published without labels. Expected a"
            " labelled one, named by data.test_part or data.validation_part."
        )


@functools.lru_cache(maxsize=12)
def _source(data: TFDSLabelled, part: str):
    import tensorflow_datasets as tfds

    class Encoded(tfds.decode.SkipDecoding):
        """Leaves what is stored as it is, rows of it too."""

        def decode_batch_example_np(self, example):
            return example

    return source(opened(data), part, {getattr(data, data.content): Encoded()})


@functools.lru_cache(maxsize=12)
def _rows(data: TFDSLabelled, split: str) -> np.ndarray:
    """The stored rows of a split.

    The choice of those held out is random, not stratified: labels are not read for it.
    """
    part = data._part(split)
    size = opened(data).info.splits[part].num_examples
    if split == "test" or data.validation_part:
        return np.arange(size)
    if data.validation >= size:
        raise UserError(
            f"data.validation: expected fewer than the {size:,} training examples. Received:"
            f" {data.validation:,}."
        )
    shuffled = np.random.RandomState(data.split_seed).permutation(size)
    return np.sort(
        shuffled[: data.validation] if split == "validation" else shuffled[data.validation :]
    )
