"""Any labelled image dataset of TensorFlow Datasets, of ImageNet's size too, read at random."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.data import _tfds
from tfbig.data._images import EncodedImages, check_split
from tfbig.data._tfds_records import check_records, source


@dataclass(frozen=True, kw_only=True)
class TFDSImages(EncodedImages):
    """Any labelled image dataset of TensorFlow Datasets, larger than memory or not.

    It is read at random from ArrayRecord or TFRecord files.
    """

    builder: str = knob(
        "imagenet2012",
        "TensorFlow Datasets' name, or name/configuration, such as imagenet_resized/64x64",
    )
    side: int = knob(224, "height and width in pixels: the centre square, resized", low=1)
    test_part: str = knob(
        "validation",
        "published part used as test split (ImageNet's own test labels are not published)",
    )
    validation_part: str = knob(
        "", "published part used as validation split; empty: held out from train"
    )
    validation: int = knob(
        10_000, "training examples held out if no validation part is named", low=1
    )
    split_seed: int = knob(0, "of the choice of validation examples", low=0, high=2**32 - 1)
    image_key: str = knob("image", "the feature that holds the picture")
    label_key: str = knob("label", "the feature that holds the label")

    @classmethod
    def smallest(cls, folder):
        """Pictures of one grey each, prepared as published ones are."""
        from tensorflow_datasets import features

        kinds = {
            "image": features.Image(shape=(None, None, 3)),
            "label": features.ClassLabel(names=["dark", "bright"]),
        }
        parts = {
            part: [
                {"image": np.full((9, 9 + i % 4, 3), 3 * i, np.uint8), "label": int(i > count // 2)}
                for i in range(count)
            ]
            for part, count in (("train", 60), ("validation", 20))
        }
        _tfds.prepare_made_up("grey_pictures", folder, kinds, parts, random_access=True)
        return cls(builder="grey_pictures", side=8, validation=15)

    def check(self):
        _tfds.find(self.builder, random_access=True)

    @property
    def label_names(self):
        return tuple(_builder(self).info.features[self.label_key].names)

    def size(self, split):
        size = len(_rows(self, split))
        _check_labelled(self, self._part(split))
        return size

    def stored(self, split, positions):
        rows = _rows(self, split)[np.asarray(positions, np.int64)]
        source = _source(self, self._part(split))
        try:
            records = source.__getitems__([int(row) for row in rows])
        except Exception as error:  # whatever a damaged record may raise
            place = f"rows {rows.min():,} to {rows.max():,} of {self.builder}"
            message = f"data: {place} cannot be read: {error}. Prepare the dataset again."
            raise UserError(message) from error
        names = [f"picture {row} of {self.builder}" for row in rows]
        for record, name in zip(records, names, strict=True):
            if record[self.label_key] < 0:
                raise UserError(f"data: {name} has no label.")
            _tfds.check_labels(record[self.label_key], self.label_names, name)
        contents = [record[self.image_key] for record in records]
        return contents, [record[self.label_key] for record in records], names

    def fingerprint(self):
        lines = _tfds.described(_builder(self))
        return "2:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def card(self):
        info = _builder(self).info
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
def _builder(data: TFDSImages):
    import tensorflow_datasets as tfds

    builder = _tfds.open_builder(data.builder, random_access=True)
    features = builder.info.features
    for key in ("image_key", "label_key"):
        if getattr(data, key) not in features:
            raise UserError(
                f"data.{key}: expected one of {', '.join(sorted(features))}. Received:"
                f" {getattr(data, key)!r}."
            )
    named = {"train": "train", "test": data.test_part, "validation": data.validation_part}
    _tfds.check_parts(builder.info, named)
    kinds = {
        "image_key": (tfds.features.Image, "pictures"),
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
def _check_labelled(data: TFDSImages, part: str) -> None:
    """Refuses a part published without labels, as some test sets are; one record tells."""
    if len(source := _source(data, part)) and source[0][data.label_key] < 0:
        raise UserError(
            f"data: the part {part} of {data.builder} is published without labels. Expected a"
            " labelled one, named by data.test_part or data.validation_part."
        )


@functools.lru_cache(maxsize=12)
def _source(data: TFDSImages, part: str):
    import tensorflow_datasets as tfds

    decoders = {data.image_key: tfds.decode.SkipDecoding()}
    return source(_builder(data), part, decoders)


@functools.lru_cache(maxsize=12)
def _rows(data: TFDSImages, split: str) -> np.ndarray:
    """The stored rows of a split.

    The choice of those held out is random, not stratified: labels are not read for it.
    """
    part = data._part(split)
    size = _builder(data).info.splits[part].num_examples
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
