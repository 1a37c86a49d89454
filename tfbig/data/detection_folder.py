"""Your own pictures with boxes: COCO's JSON, Pascal VOC's XML or YOLO's text files."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.features import SPLITS
from tfbig.core.files import UNREAD, digests
from tfbig.core.folders import files_inside
from tfbig.core.lazy import np
from tfbig.core.pictures import SUFFIXES
from tfbig.data import _box_coco, _box_voc, _box_yolo
from tfbig.data._box_files import Found, Pictures, Reading
from tfbig.data._detection import DetectionData

FORMS = (
    "COCO's JSON, Pascal VOC's XML for each picture, or YOLO's text files beside a data.yaml or"
    " classes.txt"
)


@dataclass(frozen=True, kw_only=True)
class DetectionFolder(DetectionData):
    """Your own pictures with boxes: a folder in COCO's, Pascal VOC's or YOLO's form.

    Splits are those that folders, lists or annotation files are called by (train, val, test); what
    is missing of them is cut from train, at random, copies of a picture together. Of Pascal VOC,
    objects marked as difficult count as COCO's crowds do: finding them is neither asked for nor a
    mistake. Pictures are JPEG, PNG, GIF or BMP, decoded as exported models do; see
    `tfbig.prep.pictures.decode_inside`.
    """

    path: str = knob("", "the folder with pictures and annotations", path=True)
    validation_share: float = knob(
        0.1,
        "share of the training pictures held out, if there is no validation part",
        above=0,
        high=0.5,
    )
    test_share: float = knob(
        0.1, "share of the pictures held out, if there is no test part", above=0, high=0.5
    )
    split_seed: int = knob(0, "of the choice of pictures held out", low=0, high=2**32 - 1)

    @classmethod
    def smallest(cls, folder):
        """Bright rectangles of two colours upon noise, in COCO's form."""
        from PIL import Image

        random = np.random.default_rng(0)
        images, annotations = [], []
        (folder / "boxes").mkdir()
        for number in range(80):
            picture = random.integers(0, 60, (28 + number % 5, 32, 3)).astype(np.uint8)
            for left in range(0, 16 * int(random.integers(3)), 16):  # none, one or two
                height, width = random.integers(9, 15, 2)
                top = int(random.integers(0, len(picture) - height))
                colour = int(random.integers(2))
                picture[top : top + height, left : left + width, colour] = 250
                box = [left, top, int(width), int(height)]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 10 + colour,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
            name = f"{number:02d}.png"
            Image.fromarray(picture).save(folder / "boxes" / name)
            size = {"height": len(picture), "width": 32}
            images.append({"id": number, "file_name": name, **size})
        categories = [{"id": 10, "name": "red"}, {"id": 11, "name": "green"}]
        saved = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "boxes" / "all.json").write_text(json.dumps(saved), "utf-8")
        return cls(
            path=str(folder / "boxes"),
            height=32,
            width=32,
            most_boxes=4,
            validation_share=0.2,
            test_share=0.2,
        )

    def problems(self):
        if not self.path:
            expected = "expected a folder of pictures with boxes"
            yield "path", Needed(f"{expected}. Received: nothing. Set data.path=PATH.")

    @property
    def root(self) -> Path:
        return Path(os.path.expanduser(self.path))

    def check(self):
        self._listed  # noqa: B018 - says what is wrong with the folder

    @property
    def label_names(self):
        return self._listed[0]

    def pictures(self, split):
        return [found.entry for found in self._listed[1][split]]

    def stored(self, split, position):
        path = self._listed[1][split][position].path
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"data: {path} cannot be read: {error.strerror}.") from error

    def fingerprint(self):
        lines = [super().fingerprint()]
        for split in SPLITS:
            lines += digests(found.path for found in self._listed[1][split])
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def card(self):
        return {
            "title": f"boxes in {self.root.name}",
            "source": str(self.root),
            "licence": "see the source",
            "citation": "see the source",
        }

    def notes(self):
        return [*self._listed[2], *super().notes(), *self._copies()]

    def _copies(self) -> list[str]:
        """A line where pictures stand in two splits, byte for byte."""
        known = {
            split: set(digests(found.path for found in self._listed[1][split])) - {UNREAD}
            for split in SPLITS
        }
        shared = {split: len(known["train"] & known[split]) for split in SPLITS[1:]}
        parts = [f"{count:,} of {split}" for split, count in shared.items() if count]
        if not parts:
            return []
        return [f"pictures that stand in train too, byte for byte: {', '.join(parts)}"]

    @cached_property
    def _listed(self) -> tuple[tuple[str, ...], dict[str, list[Found]], list[str]]:
        """Names of classes, the pictures of each split, and what must be known of the folder."""
        if not self.root.is_dir():
            raise UserError(f"data.path: expected a folder. Received: {self.root}, which is none.")
        files = files_inside(self.root)
        pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
        if not pictures:
            raise UserError(
                f"data: {self.root} holds no picture. Expected files ending in"
                f" {', '.join(SUFFIXES)}."
            )
        reading = _read(self.root, files, pictures)
        if not reading.pictures:
            aside = f" {'; '.join(reading.notes)}." if reading.notes else ""
            raise UserError(
                f"data: {self.root} holds no annotated picture. Expected {FORMS}.{aside}"
            )
        if not any(len(each.entry.boxes) for each in reading.pictures):
            outside = sum(each.entry.left_out for each in reading.pictures)
            aside = f" {'; '.join(reading.notes)}." if reading.notes else ""
            raise UserError(
                f"data: {self.root}: expected boxes with some area inside of pictures. Received:"
                f" {len(reading.pictures):,} annotated pictures without one, and {outside:,} boxes"
                " that are empty or outside. COCO and Pascal VOC count in pixels, YOLO in"
                f" shares.{aside}"
            )
        found = sorted(reading.pictures, key=lambda each: each.path)
        return reading.names, self._split(found), reading.notes

    def _split(self, found: list[Found]) -> dict[str, list[Found]]:
        splits = {split: [each for each in found if each.split == split] for split in SPLITS}
        splits["train"] += [each for each in found if not each.split]
        for split, share in (("test", self.test_share), ("validation", self.validation_share)):
            if not splits[split]:
                whole = len(found) if split == "test" else len(splits["train"])
                count = max(1, round(share * whole))
                splits["train"], splits[split] = _held_out(splits["train"], count, self.split_seed)
        return splits


def _read(root: Path, files: list[Path], pictures: list[Path]) -> Reading:
    """What the annotation files of a folder say, in the first of the forms that it has.

    A file that cannot be read is an error only where it could be of that form.
    """
    coco, broken_json = _box_coco.documents(files)
    voc, broken_xml = _box_voc.documents(files)
    reading = Reading(names=(), pictures=[], notes=[])
    aside = []
    if coco:
        _raise_first(broken_json)
        reading = _box_coco.read(root, coco, pictures)
        aside += reading.notes
        if reading.pictures and voc:
            aside.append(f"{len(voc):,} XML files are left aside: the boxes are COCO's")
    if voc and not reading.pictures:
        _raise_first(broken_xml)
        reading = _box_voc.read(root, voc, files, pictures)
        aside += reading.notes
    if reading.pictures:
        texts = len(_box_yolo.labels(Pictures(root, pictures), files))
        if texts:
            aside.append(f"{texts:,} text files called as pictures are left aside")
    else:
        reading = _box_yolo.read(root, files, pictures)
        aside += reading.notes
        if not reading.pictures:
            _raise_first([*broken_json, *broken_xml])
    aside += [str(error).removeprefix("data: ") for error in [*broken_json, *broken_xml]]
    return dataclasses.replace(reading, notes=aside)


def _raise_first(errors: list[UserError]) -> None:
    if errors:
        raise errors[0]


def _held_out(found: list[Found], count: int, seed: int) -> tuple[list[Found], list[Found]]:
    """Those to train on, and some `count` held out; copies of a picture stay together."""
    groups = collections.defaultdict(list)
    for number, content in enumerate(digests(each.path for each in found)):
        # What cannot be read is no copy of anything
        groups[(content, number if content == UNREAD else 0)].append(number)
    order = np.random.RandomState(seed).permutation(len(groups))
    rows = list(groups.values())
    held: set[int] = set()
    for number in order:
        if len(held) >= count or len(held) + len(rows[number]) >= len(found):
            break
        held.update(rows[number])
    kept = [each for number, each in enumerate(found) if number not in held]
    return kept, [found[number] for number in sorted(held)]
