"""Pictures with boxes around what is in them: what datasets of them share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.lazy import np, tf
from tfbig.data._images import DECODED_TOGETHER, check_split
from tfbig.prep import pictures

MEMORY_BYTES = 512 * 2**20  # of decoded pictures that are kept
SHOWN = 3  # names in a line
MUCH = 0.25  # of a box's area outside of its picture, which is told


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One picture and its boxes.

    Attributes:
        name: what messages call it.
        boxes: top, left, bottom, right as shares of the picture's height and width, float64 [n, 4].
        classes: the number of each box's class, int32 [n].
        crowds: 1 where a box stands for a crowd of things, in which single ones are not told apart,
            int32 [n].
        left_out: boxes that were empty or outside the picture.
        cut: boxes that are kept, but had much of their area outside.
    """

    name: str
    boxes: np.ndarray
    classes: np.ndarray
    crowds: np.ndarray
    left_out: int
    cut: int


def annotated(name: str, boxes: list, classes: list, crowds: list | None = None) -> Annotated:
    """A picture's boxes, cut at its edges; empty ones and those outside it are left out.

    Args:
        name: what messages call the picture.
        boxes: top, left, bottom, right as shares of its height and width.
        classes: their numbers.
        crowds: which stand for crowds; none by default.
    """
    whole = np.reshape(np.array(boxes, np.float64), (-1, 4))
    shares = np.clip(whole, 0.0, 1.0)
    kept = ((shares[:, 2:] - shares[:, :2]) > 1e-9).all(1)
    cut = kept & (_area(shares) < (1 - MUCH) * _area(whole))
    crowd = np.zeros(len(shares)) if crowds is None else np.array(crowds)
    return Annotated(
        name=name,
        boxes=shares[kept],
        classes=np.array(classes, np.int32).reshape(-1)[kept],
        crowds=crowd.astype(np.int32).reshape(-1)[kept],
        left_out=int((~kept).sum()),
        cut=int(cut.sum()),
    )


def _area(boxes: np.ndarray) -> np.ndarray:
    """Of boxes [n, 4] as shares of their picture."""
    return np.prod(boxes[:, 2:] - boxes[:, :2], 1)


@dataclass(frozen=True, kw_only=True)
class DetectionData(Dataset):
    """Pictures, made to fit inside one size, with boxes in the pixels of their own size."""

    gives = frozenset({"image", "boxes"})

    height: int = knob(256, "of the pictures that the model sees, in pixels", low=8)
    width: int = knob(320, "of the pictures that the model sees, in pixels", low=8)
    most_boxes: int = knob(100, "true boxes that a picture may have", low=1, high=10_000)

    def pictures(self, split: str) -> list[Annotated]:
        """The annotated pictures of a split, in their order."""
        raise NotImplementedError

    def stored(self, split: str, position: int) -> bytes:
        """A picture as its owner stores it."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3

    @property
    def spec(self):
        most = self.most_boxes
        classes = len(self.label_names)
        return {
            "image": Feature(shape=self.shape, dtype="uint8", unit="intensity 0-255"),
            "size": Feature(shape=(2,), dtype="float32", unit="pixels"),
            "boxes": Feature(shape=(None, 4), dtype="float32", unit="pixels", most=most),
            "classes": Feature(shape=(None,), dtype="int32", values=classes, most=most),
            "crowds": Feature(shape=(None,), dtype="int32", most=most),
        }

    def check_most(self) -> None:
        """Refuses more boxes in a picture than there may be, of whichever split."""
        for split in SPLITS:
            for entry in self.pictures(split):
                if len(entry.boxes) > self.most_boxes:
                    raise UserError(
                        f"data.most_boxes: expected at least {len(entry.boxes)}, the boxes of"
                        f" {entry.name}. Received: {self.most_boxes}."
                    )

    def size(self, split):
        check_split(split)
        return len(self._checked[split])

    @cached_property
    def _checked(self) -> dict[str, list[Annotated]]:
        """The annotated pictures of all splits, none with more boxes than there may be."""
        self.check_most()
        return {split: self.pictures(split) for split in SPLITS}

    def examples(self, split, positions):
        check_split(split)
        positions = np.asarray(positions, np.int64)
        entries = self._checked[split]
        rows = [entries[int(i)] for i in positions]
        image, size = self._decoded(split, positions)
        whole = np.concatenate([size, size], 1)
        return {
            "image": image,
            "size": size,
            "boxes": [
                (row.boxes * sides).astype(np.float32)
                for row, sides in zip(rows, whole, strict=True)
            ],
            "classes": [row.classes for row in rows],
            "crowds": [row.crowds for row in rows],
        }

    def encoded(self, split, positions):
        contents = [self.stored(split, int(i)) for i in np.asarray(positions, np.int64)]
        return {"image": np.array(contents, object)}

    def _decoded(self, split: str, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures that fit inside, uint8 [n, height, width, 3], and their sizes, [n, 2].

        Those of a small split are kept, each from when it is first asked for.
        """
        count = len(self._checked[split])
        if count * self.height * self.width * 3 > MEMORY_BYTES:
            return _decode(self, split, positions)
        if split not in self._kept:
            image = np.empty((count, *self.shape), np.uint8)
            self._kept[split] = image, np.zeros((count, 2), np.float32)  # no picture is 0 high
        image, size = self._kept[split]
        absent = np.unique(positions[size[positions, 0] == 0])
        if len(absent):
            image[absent], size[absent] = _decode(self, split, absent)
        return image[positions], size[positions]

    @cached_property
    def _kept(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {}

    def fingerprint(self):
        lines = [
            f"{split} {entry.name} {entry.boxes.tolist()} {entry.classes.tolist()}"
            f" {entry.crowds.tolist()}"
            for split in SPLITS
            for entry in self.pictures(split)
        ]
        names = ",".join(self.label_names)
        return hashlib.sha256("\n".join([names, *lines]).encode()).hexdigest()

    def notes(self):
        notes = []
        for split in SPLITS:
            entries = self.pictures(split)
            told = (
                ("left out, empty or outside", {entry.name: entry.left_out for entry in entries}),
                (
                    f"cut at the edge of their picture by more than {MUCH:.0%}; boxes may be"
                    " measured in another way than expected",
                    {entry.name: entry.cut for entry in entries},
                ),
            )
            for words, counts in told:
                names = [name for name, count in counts.items() if count]
                if names:
                    more = ", ..." if len(names) > SHOWN else ""
                    shown = ", ".join(names[:SHOWN]) + more
                    notes.append(f"{split}: {sum(counts.values()):,} boxes {words}: {shown}")
        learnt = {int(number) for entry in self.pictures("train") for number in entry.classes}
        absent = [name for number, name in enumerate(self.label_names) if number not in learnt]
        if absent:
            notes.append(f"classes without a box in the train split: {', '.join(absent)}")
        return notes


def _decode(data: DetectionData, split: str, positions: np.ndarray) -> tuple:
    image = np.empty((len(positions), *data.shape), np.uint8)
    size = np.empty((len(positions), 2), np.float32)
    for first in range(0, len(positions), DECODED_TOGETHER):
        rows = slice(first, first + DECODED_TOGETHER)
        image[rows], size[rows] = _decode_some(data, split, positions[rows])
    return image, size


def _decode_some(data: DetectionData, split: str, positions: np.ndarray) -> list[np.ndarray]:
    contents = [data.stored(split, int(i)) for i in positions]
    decode = pictures.decoder(data.shape, data.background, pictures.decode_all_inside)
    try:
        return [part.numpy() for part in decode(tf.constant(contents))]
    except tf.errors.OpError as error:
        if len(positions) > 1:
            for position in positions:
                _decode_some(data, split, np.array([position]))
        name = data.pictures(split)[int(positions[0])].name
        raise UserError(
            f"data: {name} cannot be decoded: {pictures.reason(error)}. Mend it or take it out."
        ) from error
