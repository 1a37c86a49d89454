"""Your own labelled clips: a folder with one subfolder for each class."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.lazy import np
from tfbig.data._class_folder import ClassFolder
from tfbig.prep import films

# A split whose frames take more than this is read from its files again and again
MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class VideoFolder(ClassFolder):
    """Your own labelled clips.

    PATH/CLASS/*.mp4, or PATH/train/CLASS/*.mp4 beside PATH/test and perhaps PATH/validation.

    Clips are GIF, .npy (uint8 [frames, height, width, channels]) or, with tfbig[video], films as
    PyAV reads them. Of a clip of n frames, frame floor((i + 1/2) n / frames) is taken for each i
    below `frames`. Clips of one subject or source video stand in one split.
    """

    gives = frozenset({"video", "label"})
    noun = "video"
    suffixes = films.SUFFIXES

    frames: int = knob(16, "frames taken of each clip, the middles of equal parts", low=1)
    height: int = knob(64, "of a frame, in pixels: the centre, resized", low=1)
    width: int = knob(64, "of a frame, in pixels", low=1)
    channels: int = knob(3, "3: colour, 1: grey", choices=(1, 3))
    group: str = knob(
        "",
        "what in a file's path below data.path names its subject or source video: a regular"
        " expression, such as _(g[0-9]+)_ or /(subject[0-9]+)/; empty: each file is alone",
    )

    @classmethod
    def smallest(cls, folder):
        """Clips of noise that is dark or bright, as GIF and .npy, two of each subject."""
        from PIL import Image

        random = np.random.default_rng(0)
        for label, name in enumerate(("dark", "bright")):
            (folder / "clips" / name).mkdir(parents=True)
            for i in range(30):
                shape = (4 + i % 3, 8, 10 + i % 2, 3)
                video = (120 * label + random.integers(0, 120, shape)).astype(np.uint8)
                path = folder / "clips" / name / f"s{label}{i // 2:02d}_{i % 2}"
                if i % 3:
                    np.save(path.with_suffix(".npy"), video)
                    continue
                first, *others = (Image.fromarray(frame) for frame in video)
                path = path.with_suffix(".gif")
                first.save(path, save_all=True, append_images=others, optimize=False)
        shares = {"validation_share": 0.2, "test_share": 0.2}
        sizes = {"frames": 4, "height": 8, "width": 8}
        return cls(path=str(folder / "clips"), group="(s[0-9]+)_", **sizes, **shares)

    def problems(self):
        yield from super().problems()
        try:
            re.compile(self.group)
        except re.error as error:
            yield "group", f"expected a regular expression. Received: {self.group!r}: {error}."

    @property
    def spec(self):
        shape = (self.frames, self.height, self.width, self.channels)
        video = Feature(shape=shape, dtype="uint8", unit="intensity 0-255")
        return {"video": video, "label": Feature(shape=(), dtype="int32")}

    def check(self):
        super().check()
        if self.group and self._alone() == sum(self.size(split) for split in SPLITS):
            path, _ = self.rows("train")[0]
            raise UserError(
                f"data.group: expected an expression that matches paths such as"
                f" {self._below(path)}. Received: {self.group}, which matches none."
            )

    def notes(self):
        """Lines about files that are left out or stand in two splits, and those of no group."""
        alone = self._alone() if self.group else 0
        lines = [f"files that data.group matches not, each a group of its own: {alone:,}"]
        return [*super().notes(), *(lines if alone else [])]

    def _alone(self) -> int:
        paths = (path for split in SPLITS for path, _ in self.rows(split))
        return sum(self.group_of(path) == str(path) for path in paths)

    def _below(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def group_of(self, path: Path) -> str:
        match = re.search(self.group, self._below(path)) if self.group else None
        return str(path) if match is None else match[match.lastindex or 0]

    def groups(self, split):
        if not self.group:
            return None
        return np.array([self.group_of(path) for path, _ in self.rows(split)])

    def examples(self, split, positions):
        rows = self.rows(split, positions)
        shape = (self.height, self.width, self.channels)
        video = np.empty((len(rows), self.frames, *shape), np.uint8)
        for place, (path, _) in zip(video, rows, strict=True):
            place[:] = films.load(path, self.frames, shape)
        return {"video": video, "label": np.array([label for _, label in rows], np.int32)}

    def arrays(self, split):
        clip = self.frames * self.height * self.width * self.channels
        if self.size(split) * clip > MEMORY_BYTES:
            return None
        return _arrays(self, split, self.stamps(split))


@functools.lru_cache(maxsize=6)
def _arrays(data: VideoFolder, split: str, files: tuple) -> dict[str, np.ndarray]:
    """A split in memory, decoded once for as long as its `files` stay as they are."""
    return data.examples(split, np.arange(data.size(split)))
