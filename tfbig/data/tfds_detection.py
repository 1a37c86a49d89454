"""Any dataset of TensorFlow Datasets with boxes: COCO, Pascal VOC and others, read at random."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.data import _tfds, _tfds_folders
from tfbig.data._detection import Annotated, DetectionData, annotated
from tfbig.data._tfds_records import check_records, source

CROWD_KEYS = ("is_crowd", "iscrowd")
BOX_KEY, LABEL_KEY = "bbox", "label"


@dataclass(frozen=True, kw_only=True)
class TFDSDetection(DetectionData):
    """Any dataset of TensorFlow Datasets with boxes, larger than memory or not.

    It is read at random from ArrayRecord files. Boxes of all pictures are read at the start, which
    takes a minute for COCO's 118,287.
    """

    builder: str = knob(
        "coco/2017", "TensorFlow Datasets' name, or name/configuration, such as voc/2007"
    )
    test_part: str = knob(
        "validation", "published part used as test split (COCO's own has no boxes)"
    )
    validation_part: str = knob(
        "", "published part used as validation split; empty: held out from train"
    )
    validation: int = knob(
        5_000, "training pictures held out if no validation part is named", low=1
    )
    split_seed: int = knob(0, "of the choice of validation pictures", low=0, high=2**32 - 1)
    objects_key: str = knob("objects", "the feature that holds boxes and their labels")

    @classmethod
    def smallest(cls, folder):
        """One bright rectangle in each picture, prepared as published ones are."""
        from tensorflow_datasets import features

        kinds = {
            "image": features.Image(shape=(None, None, 3)),
            "objects": features.Sequence(
                {
                    "bbox": features.BBoxFeature(),
                    "label": features.ClassLabel(names=["thing"]),
                    "is_crowd": np.bool_,
                }
            ),
        }
        parts = {part: _made_up(count) for part, count in (("train", 40), ("validation", 12))}
        _tfds.prepare_made_up("boxed_pictures", folder, kinds, parts, random_access=True)
        return cls(builder="boxed_pictures", height=32, width=32, most_boxes=2, validation=10)

    def check(self):
        _tfds_folders.find(self.builder, random_access=True)

    @property
    def label_names(self):
        return tuple(_objects(self)[LABEL_KEY].names)

    def pictures(self, split):
        entries = _entries(self, self._part(split))
        return [entries[row] for row in _rows(self, split)]

    def stored(self, split, position):
        row = int(_rows(self, split)[position])
        try:
            return _source(self, self._part(split))[row]["image"]
        except Exception as error:  # whatever a damaged record may raise
            raise UserError(
                f"data: picture {row} of {self.builder} cannot be read: {error}. Prepare the"
                " dataset again."
            ) from error

    def fingerprint(self):
        lines = _tfds.described(_builder(self))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def card(self):
        info = _builder(self).info
        licence = info.redistribution_info.license if info.redistribution_info else ""
        return {
            "title": info.full_name,
            "source": f"{info.homepage or ''} through TensorFlow Datasets".strip(),
            "licence": licence or "see the source",
            "citation": info.citation or "see the source",
        }

    def _part(self, split: str) -> str:
        parts = {"train": "train", "validation": self.validation_part or "train"}
        return parts.get(split, self.test_part)


def _made_up(count: int) -> list[dict]:
    import tensorflow_datasets as tfds

    random = np.random.default_rng(count)
    rows = []
    for number in range(count):
        height, width = 24 + number % 5, 32
        picture = random.integers(0, 60, (height, width, 3)).astype(np.uint8)
        top, left = (int(x) for x in random.integers(0, 8, 2))
        picture[top : top + 12, left : left + 16] = 240
        box = tfds.features.BBox(
            top / height, left / width, (top + 12) / height, (left + 16) / width
        )
        thing = {"bbox": box, "label": 0, "is_crowd": False}
        rows.append({"image": picture, "objects": [thing]})
    return rows


@functools.lru_cache(maxsize=4)
def _builder(data: TFDSDetection):
    builder = _tfds.open_builder(data.builder, random_access=True)
    info = builder.info
    named = {"train": "train", "test": data.test_part, "validation": data.validation_part}
    _tfds.check_parts(info, named)
    if "image" not in info.features:
        raise UserError(
            f"data.builder: expected pictures under image. {info.full_name} has"
            f" {', '.join(sorted(info.features))}."
        )
    for part in dict.fromkeys(("train", data.test_part, data.validation_part or "train")):
        check_records(builder, part)
    return builder


def _objects(data: TFDSDetection):
    """The feature of a picture's objects."""
    import tensorflow_datasets as tfds

    features = _builder(data).info.features
    present = data.objects_key in features
    inside = getattr(features[data.objects_key], "feature", {}) if present else {}
    wanted = {BOX_KEY: tfds.features.BBoxFeature, LABEL_KEY: tfds.features.ClassLabel}
    if not all(key in inside and isinstance(inside[key], kind) for key, kind in wanted.items()):
        raise UserError(
            "data.objects_key: expected a feature that holds boxes (bbox) and labels (label)."
            f" Received: {data.objects_key!r}. {data.builder} has {', '.join(sorted(features))}."
        )
    return inside


@functools.lru_cache(maxsize=12)
def _source(data: TFDSDetection, part: str):
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    return source(_builder(data), part, decoders)


@functools.lru_cache(maxsize=4)
def _entries(data: TFDSDetection, part: str) -> list[Annotated]:
    inside = _objects(data)
    crowd_key = next((key for key in CROWD_KEYS if key in inside), None)
    entries = []
    for row, record in enumerate(_source(data, part)):
        objects = record[data.objects_key]
        boxes = objects[BOX_KEY]
        crowds = objects[crowd_key] if crowd_key else None
        name = f"picture {row} of {part}"
        _tfds.check_labels(objects[LABEL_KEY], data.label_names, f"{name} of {data.builder}")
        entries.append(annotated(name, boxes, objects[LABEL_KEY], crowds))
    if not any(len(entry.boxes) for entry in entries):
        raise UserError(f"data: the part {part} of {data.builder} is published without boxes.")
    return entries


@functools.lru_cache(maxsize=12)
def _rows(data: TFDSDetection, split: str) -> np.ndarray:
    """The stored rows of a split; those held out are chosen at random."""
    size = _builder(data).info.splits[data._part(split)].num_examples
    if split == "test" or data.validation_part:
        return np.arange(size)
    if data.validation >= size:
        raise UserError(
            f"data.validation: expected fewer than the {size:,} training pictures. Received:"
            f" {data.validation:,}."
        )
    order = np.random.RandomState(data.split_seed).permutation(size)
    held = split == "validation"
    return np.sort(order[: data.validation] if held else order[data.validation :])
