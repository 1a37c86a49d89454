"""Your own labelled pictures: a folder with one subfolder for each class."""

from __future__ import annotations

import collections
import functools
import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.features import SPLITS
from tfbig.core.files import UNREAD, digests
from tfbig.core.folders import files_inside, is_hidden
from tfbig.core.lazy import np
from tfbig.core.pictures import SUFFIXES
from tfbig.data._images import EncodedImages, check_split
from tfbig.data._splits import stratified

# A split whose pictures take more than this is read from its files again and again
MEMORY_BYTES = 512 * 2**20
LIKE_A_PART = re.compile(r"(^|[^a-z])(train|valid|val|test|eval)", re.IGNORECASE)
PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, kw_only=True)
class ImageFolder(EncodedImages):
    """Your own labelled pictures.

    PATH/CLASS/*.jpg, or PATH/train/CLASS/*.jpg beside PATH/test and perhaps PATH/validation.

    Pictures are JPEG, PNG, GIF or BMP, decoded as exported models do; see
    `tfbig.prep.image.decode`.
    """

    path: str = knob(
        "",
        "the folder; its subfolders are the classes, or train and test with the classes inside",
        path=True,
    )
    channels: int = knob(3, "3: colour, 1: grey", choices=(1, 3))
    validation_share: float = knob(
        0.1,
        "share of each class's training pictures held out, if there is no validation folder",
        above=0,
        high=0.5,
    )
    test_share: float = knob(
        0.1,
        "share of each class's pictures held out, if there is no test folder",
        above=0,
        high=0.5,
    )
    split_seed: int = knob(0, "of the choice of pictures held out", low=0, high=2**32 - 1)

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

    def problems(self):
        if not self.path:
            expected = "expected a folder with a subfolder of pictures for each class"
            yield "path", Needed(f"{expected}. Received: nothing. Set data.path=PATH.")

    @property
    def root(self) -> Path:
        return Path(os.path.expanduser(self.path))

    def check(self):
        _files(self)

    @property
    def label_names(self):
        return self._listed[0]

    def size(self, split):
        check_split(split)
        return len(self._listed[1][split])

    def labels(self, split):
        check_split(split)
        return np.array([label for _, label in self._listed[1][split]], np.int32)

    def stored(self, split, positions):
        check_split(split)
        rows = [self._listed[1][split][int(i)] for i in np.asarray(positions, np.int64)]
        contents = (_read(path) for path, _ in rows)
        return contents, [label for _, label in rows], [str(path) for path, _ in rows]

    def arrays(self, split):
        pixels = self.side * self.side * self.channels
        is_varied = split == "train" and self.random_area is not None
        if is_varied or self.size(split) * pixels > MEMORY_BYTES:
            return None
        return _arrays(
            self, split, tuple((path, *_stamp(path)) for path, _ in self._listed[1][split])
        )

    def fingerprint(self):
        names, _ = self._listed
        lines = [
            f"{split} {label} {path.relative_to(self.root)} {digest}"
            for split, label, path, digest in self._digested()
        ]
        return (
            "4:"
            + hashlib.sha256(
                "\n".join([*names, *lines]).encode("utf-8", "surrogateescape")
            ).hexdigest()
        )

    def _digested(self) -> list[tuple[str, int, Path, str]]:
        """All pictures as (split, label, path, digest of the content)."""
        rows = [(split, *row) for split, files in self._listed[1].items() for row in files]
        contents = digests(path for _, path, _ in rows)
        return [
            (split, label, path, content)
            for (split, path, label), content in zip(rows, contents, strict=True)
        ]

    @cached_property
    def _listed(self) -> tuple[tuple[str, ...], dict[str, list[tuple[Path, int]]]]:
        """The folder's content at the first access; each command and Python call reads it anew."""
        return _files(self)

    def notes(self):
        """Lines about what is left out, and what stands in two splits or under two classes."""
        return [*self._left_out(), *self._copies]

    @cached_property
    def _copies(self) -> list[str]:
        places = collections.defaultdict(list)  # of each content: its splits and labels
        for split, label, _, content in self._digested():
            places[content].append((split, label))
        places.pop(UNREAD, None)
        twice, classes = collections.Counter(), set()
        contradictory = 0
        for rows in places.values():
            labels = {label for _, label in rows}
            splits = [split for split, _ in rows]
            if "train" in splits:
                twice.update(split for split in splits if split != "train")
            if len(labels) > 1:
                contradictory += len(rows)
                classes |= labels
        lines = []
        if twice:
            copies = ", ".join(f"{twice[split]:,} of {split}" for split in SPLITS if twice[split])
            sentence = "pictures that stand in the training split too, byte for byte"
            lines.append(f"{sentence}: {copies}; metrics of these splits are too good")
        if contradictory:
            names = ", ".join(self.label_names[label] for label in sorted(classes))
            sentence = "pictures that stand under another class too, byte for byte"
            lines.append(f"{sentence}: {contradictory:,}, of {names}; not all can be right")
        return lines

    def _left_out(self) -> list[str]:
        folders = [path for split in PARTS if (path := _part(self.root, split))] or [self.root]
        listed = {path for files in self._listed[1].values() for path, _ in files}
        inside = [
            file
            for split_folder in folders
            for class_folders in _class_folders(split_folder).values()
            for folder in class_folders
            for file in files_inside(folder)
        ]
        beside = [
            path
            for folder in {self.root, *folders}
            for path in folder.iterdir()
            if not is_hidden(path.name)
        ]
        beside = [
            path
            for path in beside
            if path not in folders and not (path.is_dir() and path.parent in folders)
        ]
        endings = collections.Counter(map(_ending, sorted({*inside, *beside} - listed)))
        counts = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common())
        expected = f"pictures of a class, ending in {', '.join(SUFFIXES)}"
        return [f"left out of {self.root}, being no {expected}: {counts}"] if endings else []

    def card(self):
        return {
            "title": f"pictures in {self.root.resolve().name}",
            "source": str(self.root.resolve()),
            "licence": "the owner's",
            "citation": "none",
        }


def _ending(path: Path) -> str:
    """The kind of a path that is left out, in a word or two."""
    if path.is_file():
        return path.suffix.lower() or "without an ending"
    return "folder" if path.is_dir() else "broken link"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"data: {path} cannot be read: {error.strerror}. It was there when the folder was"
            " listed."
        ) from error


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns of a file; zeros if it has gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=6)
def _arrays(data: ImageFolder, split: str, files: tuple) -> dict[str, np.ndarray]:
    """A split in memory, decoded once for as long as its `files` stay as they are."""
    return data.examples(split, np.arange(data.size(split)))


def _files(data: ImageFolder) -> tuple[tuple[str, ...], dict[str, list[tuple[Path, int]]]]:
    """The names of the classes, and each split's pictures as (path, label), sorted by path."""
    root = data.root
    if not root.is_dir():
        raise UserError(
            f"data.path: expected a folder of pictures. Received: {data.path}, which is no folder."
        )
    parts = {split: _part(root, split) for split in PARTS}
    alone = next(
        (path for path in (parts["validation"], parts["test"]) if path and not parts["train"]), None
    )
    if alone is not None:
        raise UserError(
            f"data.path: {data.path} has {alone.name} but no train beside it. Expected train too,"
            " or nothing but classes."
        )
    names = _classes(parts["train"] or root)
    if parts["train"] is None:
        whole = _listed(root, names)
        rest, held = _hold_out(whole, data.test_share, data.split_seed)
    else:
        rest = _listed(parts["train"], names)
        if parts["test"]:
            held = _listed(parts["test"], names)
        else:
            rest, held = _hold_out(rest, data.test_share, data.split_seed)
    if parts["train"] is not None and parts["validation"]:
        train = rest
        validation = _listed(parts["validation"], names)
    else:
        train, validation = _hold_out(rest, data.validation_share, (data.split_seed + 1) % 2**32)
    files_of = dict(zip(SPLITS, (train, validation, held), strict=True))
    for split, files in files_of.items():
        if not files:
            raise UserError(
                f"data.path: {data.path} leaves no picture for the {split} split. Expected a few"
                " pictures in each class at least."
            )
    return names, files_of


def _part(root: Path, split: str) -> Path | None:
    """The folder of a split, by any of its names.

    None if there is none. With capitals it is one if it has classes inside, else a class itself.
    """
    folders = sorted(
        path for path in root.iterdir() if path.name.lower() in PARTS[split] and path.is_dir()
    )
    folders = [
        path
        for path in folders
        if path.name in PARTS[split]
        or any(inside.is_dir() and not is_hidden(inside.name) for inside in path.iterdir())
    ]
    if len(folders) > 1:
        raise UserError(
            f"data.path: expected one folder of the {split} split in {root}. Found:"
            f" {', '.join(path.name for path in folders)}. Take all but one elsewhere."
        )
    return folders[0] if folders else None


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """The folders of each class, by its name in Unicode's composed form, sorted.

    A Mac spells accents apart: its folders are the same classes as others'.
    """
    folders = collections.defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not is_hidden(path.name):
            folders[unicodedata.normalize("NFC", path.name)].append(path)
    return dict(sorted(folders.items()))


def _refuse_parts_inside(folders: dict[str, list[Path]]) -> None:
    """Refuses splits inside of classes, whose test pictures would be trained on."""
    for path in (path for paths in folders.values() for path in paths):
        inside = {entry.name.lower() for entry in path.iterdir() if entry.is_dir()}
        splits = [split for split, names in PARTS.items() if inside & {*names}]
        if "train" in splits and len(splits) > 1:
            raise UserError(
                f"data.path: expected splits outside of classes, as train/{path.name}. Received:"
                f" {path}, a class with {' and '.join(splits)} inside."
            )


def _refuse_parts_as_classes(folder: Path, folders: dict[str, list[Path]]) -> None:
    """Refuses splits of other names, which would be learnt as classes."""
    inside = {name: {*_class_folders(paths[0])} for name, paths in folders.items()}
    alike = len({frozenset(names) for names in inside.values()}) == 1
    if alike and all(map(LIKE_A_PART.search, folders)) and len(next(iter(inside.values()))) > 1:
        raise UserError(
            f"data.path: expected folders named train and test, with the classes inside. Received:"
            f" {', '.join(folders)} in {folder}. Rename them."
        )


def _classes(folder: Path) -> tuple[str, ...]:
    folders = _class_folders(folder)
    _refuse_parts_inside(folders)
    _refuse_parts_as_classes(folder, folders)
    names = tuple(folders)
    odd = [name for name in names if name.encode("utf-8", "replace").decode() != name]
    if odd:
        raise UserError(
            "data.path: expected class folders whose names are text in UTF-8, for labels are"
            f" written and sent. Received: {odd[0]!a} in {folder}. Rename it."
        )
    if len(names) < 2:
        raise UserError(
            f"data.path: expected a subfolder for each class, two at least, in {folder}. Found:"
            f" {', '.join(names) or 'none'}."
        )
    return names


def _listed(folder: Path, names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The pictures of each class's folder, and of folders inside it."""
    folders = _class_folders(folder)
    strange = [name for name in folders if name not in names]
    if strange:
        raise UserError(
            f"data.path: {folder} has the class {strange[0]!r}, which the training folder has not:"
            f" {', '.join(names)}."
        )
    files = []
    for label, name in enumerate(names):
        inside = [
            path
            for inside_class in folders.get(name, ())
            for path in files_inside(inside_class)
            if path.suffix.lower() in SUFFIXES and path.is_file()
        ]
        if not inside:
            raise UserError(
                f"data.path: {folder / name} holds no picture. Expected files ending in"
                f" {', '.join(SUFFIXES)}."
            )
        files += [(path, label) for path in inside]
    return files


def _hold_out(files: list[tuple[Path, int]], share: float, seed: int) -> tuple[list, list]:
    labels = np.array([label for _, label in files])
    rest, held = stratified(labels, max(1, round(share * len(files))), seed)
    return [files[i] for i in rest], [files[i] for i in held]
