"""BCCD: 364 pictures of blood cells with boxes of three classes; travels with the package."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.lazy import np
from tfbig.data import _embedded
from tfbig.data._detection import Annotated, DetectionData, annotated

PATH = Path(__file__).parent / "_bccd" / "pictures.zip"
SHA256 = "110449130fd80ba58285601243f3fe17f09b4248f54f1baf09572d1ce0c8051d"
SIZE = (240, 320)  # of all pictures


@dataclass(frozen=True, kw_only=True)
class BCCD(DetectionData):
    """BCCD: blood cells under a microscope, 205, 87 and 72 pictures with some 13 boxes each.

    Red cells, white cells, platelets, in the splits of TensorFlow Datasets. Pictures are half as
    large as the published ones, 320 x 240 pixels, and so are areas of boxes by which average
    precision is told apart.
    """

    label_names = ("RBC", "WBC", "Platelets")

    @classmethod
    def smallest(cls, folder):
        return cls(height=64, width=64)

    def check(self):
        _read()

    def pictures(self, split):
        return _read()[split]

    def stored(self, split, position):
        return _archive().read(f"{self.pictures(split)[position].name}.jpg")

    def card(self):
        return {
            "title": "BCCD, blood cells with boxes",
            "source": "https://github.com/Shenggan/BCCD_Dataset, v1.0, at half its size",
            "licence": "MIT",
            "citation": "Shenggan (2017). BCCD Dataset.",
        }


@functools.lru_cache(maxsize=1)
def _archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(_embedded.content(PATH, SHA256)))


@functools.lru_cache(maxsize=1)
def _read() -> dict[str, list[Annotated]]:
    splits = json.loads(_archive().read("boxes.json"))
    whole = np.array([*SIZE, *SIZE], np.float64)
    return {
        split: [
            annotated(name, np.reshape(boxes, (-1, 5))[:, :4] / whole, [box[4] for box in boxes])
            for name, boxes in pictures.items()
        ]
        for split, pictures in splits.items()
    }
