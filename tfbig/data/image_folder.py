"""Your own labelled pictures: a folder with one subfolder for each class."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import np
from tfbig.core.pictures import SUFFIXES
from tfbig.data._class_folder import ClassFolder, read
from tfbig.data._images import EncodedImages

# A split whose pictures take more than this is read from its files again and again
MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ClassFolder, EncodedImages):
    """Your own labelled pictures.

    PATH/CLASS/*.jpg, or PATH/train/CLASS/*.jpg beside PATH/test and perhaps PATH/validation.

    Pictures are JPEG, PNG, GIF or BMP, decoded as exported models do; see
    `tfbig.prep.pictures.decode`.
    """

    noun = "picture"
    suffixes = SUFFIXES
    version = 4

    channels: int = knob(3, "3: colour, 1: grey", choices=(1, 3))

    @classmethod
    def smallest(cls, folder):
        """Pictures of noise in two brightnesses, several sizes and formats."""
        from PIL import Image

        random = np.random.default_rng(0)
        for label, name in enumerate(("dark", "bright")):
            (folder / "pictures" / name).mkdir(parents=True)
            for i in range(30):
                pixels = 120 * label + random.integers(0, 120, (10 + i % 3, 12, 3), np.uint8)
                path = folder / "pictures" / name / f"{i:02d}.{('png', 'jpg', 'bmp')[i % 3]}"
                Image.fromarray(pixels.astype(np.uint8)).save(path)
        return cls(path=str(folder / "pictures"), side=16, validation_share=0.2, test_share=0.2)

    def stored(self, split, positions):
        rows = self.rows(split, positions)
        contents = (read(path) for path, _ in rows)
        return contents, [label for _, label in rows], [str(path) for path, _ in rows]

    def arrays(self, split):
        pixels = self.side * self.side * self.channels
        is_varied = split == "train" and self.random_area is not None
        if is_varied or self.size(split) * pixels > MEMORY_BYTES:
            return None
        return _arrays(self, split, self.stamps(split))


@functools.lru_cache(maxsize=6)
def _arrays(data: ImageFolder, split: str, files: tuple) -> dict[str, np.ndarray]:
    """A split in memory, decoded once for as long as its `files` stay as they are."""
    return data.examples(split, np.arange(data.size(split)))
