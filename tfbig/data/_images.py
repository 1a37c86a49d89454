"""Labelled pictures: what datasets of them share."""

from __future__ import annotations

import functools
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tfbig.core.contracts import SPLITS, Dataset, Feature, knob
from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.data._folders import is_hidden
from tfbig.data._splits import stratified

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


@dataclass(frozen=True, kw_only=True)
class MemoryImages(Dataset):
    """Labelled pictures in memory, published as train and test; part of train is held out for validation."""

    validation: int = knob(5_000, "training examples held out for validation, the same share of each class", low=1)
    split_seed: int = knob(0, "of the choice of validation examples", low=0, high=2**32 - 1)

    shape = (28, 28, 1)  # height, width, channels
    published = {"train": 60_000, "test": 10_000}

    def problems(self):
        if self.validation >= self.published["train"]:
            yield "validation", f"expected fewer than the {self.published['train']:,} training examples. Received: {self.validation:,}."
        elif self.validation > (most := self.published["train"] - len(self.label_names)):
            yield "validation", f"expected at most {most:,}, so that each class keeps an example to train on. Received: {self.validation:,}."

    @property
    def spec(self):
        return {"image": Feature(shape=self.shape, dtype="uint8", unit="intensity 0-255"), "label": Feature(shape=(), dtype="int32")}

    def size(self, split):
        check_split(split)
        sizes = {"validation": self.validation, "train": self.published["train"] - self.validation}
        return sizes.get(split, self.published["test"])

    def published_arrays(self, part: str) -> dict[str, np.ndarray]:
        """The pictures and labels of a published part, "train" or "test"; not kept by the dataset."""
        raise NotImplementedError

    def arrays(self, split):
        check_split(split)
        return _splits(self, "test" if split == "test" else "train")[split]

    def examples(self, split, positions):
        arrays = self.arrays(split)
        positions = np.asarray(positions, np.int64)
        size = self.size(split)
        if positions.size and not (positions.min() >= 0 and positions.max() < size):
            raise ValueError(f"positions: expected 0 ... {size - 1} in {split}. Received: {positions.min()} ... {positions.max()}.")
        return {name: value[positions] for name, value in arrays.items()}


def centre_picture(encoded: bytes, side: int, channels: int, name: str, background: int) -> np.ndarray:
    """The centre square of an encoded picture, resized, as uint8 [side, side, channels]; `background` (0-255) shows through a PNG.

    Raises:
        UserError: the bytes are no whole picture; the message starts with its name.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is far too large is an error below
            image = _eight_bits(Image.open(io.BytesIO(encoded)), encoded)
        if image.has_transparency_data:
            under = background if encoded.startswith(b"\x89PNG") else 0  # through other formats black shows, as in `prep.decode`, where TensorFlow makes it so
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*[under] * 3, 255)), image.convert("RGBA"))
        image = image.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError as error:  # its own words name an object in memory
        raise UserError(f"data: {name} cannot be decoded: it is no picture, or its beginning is damaged. Mend it or take it out.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"data: {name} cannot be decoded: {error}. Mend it or take it out.") from error
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    box = (left, top, left + short, top + short)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box)).reshape(side, side, channels)


def _eight_bits(image: Image.Image, encoded: bytes) -> Image.Image:
    """A PNG of 2, 4 or 16 bits as one of 8, its transparent colour too: Pillow clips 16-bit grey and leaves that colour as it was stored."""
    from PIL import Image

    depth, hidden = encoded[24] if image.format == "PNG" else 8, image.info.get("transparency")
    if depth == 16 and image.mode.startswith("I"):
        grey = np.asarray(image)
        opacity = np.where(grey == (-1 if hidden is None else hidden), 0, 255)
        return Image.merge("LA", [Image.fromarray(band.astype(np.uint8)) for band in (grey >> 8, opacity)])
    if depth in (2, 4) and image.mode == "L" and hidden is not None:
        image.info["transparency"] = hidden * 255 // (2**depth - 1)
    elif depth == 16 and image.mode == "RGB" and hidden is not None:
        image.info["transparency"] = tuple(value >> 8 for value in hidden)
    return image


def pictures_inside(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """What has a picture's name in a folder and in folders inside it, sorted, without what is hidden."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in found if not is_hidden(path.relative_to(folder)))


def check_split(split: str) -> None:
    """Refuses a split that does not exist."""
    if split not in SPLITS:
        raise UserError(f"split: expected one of {', '.join(SPLITS)}. Received: {split!r}.")


@functools.lru_cache(maxsize=4)
def _splits(data: MemoryImages, part: str) -> dict[str, dict[str, np.ndarray]]:
    """The splits that a published part holds, from one reading. Datasets with the same settings are equal, so they share one copy."""
    whole = data.published_arrays(part)
    if part == "test":
        return {"test": whole}
    train, held = stratified(whole["label"], data.validation, data.split_seed)
    return {split: {name: value[rows] for name, value in whole.items()} for split, rows in (("train", train), ("validation", held))}
