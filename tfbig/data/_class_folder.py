"""Your own labelled files: a folder with one subfolder for each class."""

from __future__ import annotations

import collections
import hashlib
import os
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.errors import Needed, UserError
from tfbig.core.features import SPLITS
from tfbig.core.files import digests
from tfbig.core.folders import files_inside, is_hidden
from tfbig.core.lazy import np
from tfbig.data._images import check_split
from tfbig.data._placed import LIKE_A_PART
from tfbig.data._splits import copies, grouped
from tfbig.data._tables import SPLIT_NAMES

PARTS = {split: [name for name, meant in SPLIT_NAMES.items() if meant == split] for split in SPLITS}
Files = list[tuple[Path, int]]


@dataclass(frozen=True, kw_only=True)
class ClassFolder(Dataset):
    """Files in a folder for each class, of which the splits may be given or are made here."""

    noun: ClassVar[str]
    """What a file holds, in a word."""
    suffixes: ClassVar[tuple[str, ...]]
    """Endings of the files that are meant."""
    version: ClassVar[int] = 1
    """Of how the files are read: part of the fingerprint."""

    path: str = knob(
        "",
        "the folder; its subfolders are the classes, or train and test with the classes inside",
        path=True,
    )
    validation_share: float = knob(
        0.1,
        "share of each class's training files held out, if there is no validation folder",
        above=0,
        high=0.5,
    )
    test_share: float = knob(
        0.1,
        "share of each class's files held out, if there is no test folder",
        above=0,
        high=0.5,
    )
    split_seed: int = knob(0, "of the choice of files held out", low=0, high=2**32 - 1)

    def problems(self):
        if not self.path:
            expected = f"expected a folder with a subfolder of {self.noun}s for each class"
            yield "path", Needed(f"{expected}. Received: nothing. Set data.path=PATH.")

    def group_of(self, path: Path) -> str:
        """The group of a file: what may not stand in two splits; its own path where it is alone."""
        return str(path)

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
        return np.array([label for _, label in self.rows(split)], np.int32)

    def rows(self, split: str, positions: np.ndarray | None = None) -> Files:
        """Files of a split with their labels: all of them, or those at some positions."""
        check_split(split)
        files = self._listed[1][split]
        if positions is None:
            return files
        return [files[int(i)] for i in np.asarray(positions, np.int64)]

    def stamps(self, split: str) -> tuple:
        """The files of a split with size and time of change: it changes when any of them does."""
        return tuple((path, *_stamp(path)) for path, _ in self.rows(split))

    def fingerprint(self):
        names, _ = self._listed
        lines = [
            f"{split} {label} {path.relative_to(self.root)} {digest}"
            for split, label, path, digest in self._digested()
        ]
        return (
            f"{self.version}:"
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
    def _listed(self) -> tuple[tuple[str, ...], dict[str, Files]]:
        """The folder's content at the first access; each command and Python call reads it anew."""
        return _files(self)

    def notes(self):
        """Lines about what is left out, and what stands in two splits or under two classes."""
        return [*self._left_out(), *self._copies]

    @cached_property
    def _copies(self) -> list[str]:
        rows = (
            (split, self.label_names[label], content)
            for split, label, _, content in self._digested()
        )
        return copies(rows, self.noun, "class")

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
        endings = collections.Counter(map(_kind, sorted({*inside, *beside} - listed)))
        counts = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common())
        expected = f"{self.noun}s of a class, ending in {', '.join(self.suffixes)}"
        return [f"left out of {self.root}, being no {expected}: {counts}"] if endings else []

    def card(self):
        return {
            "title": f"{self.noun}s in {self.root.resolve().name}",
            "source": str(self.root.resolve()),
            "licence": "the owner's",
            "citation": "none",
        }


def _kind(path: Path) -> str:
    """The kind of a path that is left out, in a word or two."""
    if path.is_file():
        return path.suffix.lower() or "without an ending"
    return f"folder called {path.name}" if path.is_dir() else "broken link"


def read(path: Path) -> bytes:
    """A file's content."""
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


def _files(data: ClassFolder) -> tuple[tuple[str, ...], dict[str, Files]]:
    """The names of the classes, and each split's files as (path, label), sorted by path."""
    root = data.root
    if not root.is_dir():
        raise UserError(
            f"data.path: expected a folder of {data.noun}s. Received: {data.path}, which is no"
            " folder."
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
        whole = _listed(data, root, names)
        rest, held = _hold_out(data, whole, data.test_share, data.split_seed)
    else:
        rest = _listed(data, parts["train"], names)
        if parts["test"]:
            held = _listed(data, parts["test"], names)
        else:
            rest, held = _hold_out(data, rest, data.test_share, data.split_seed)
    if parts["train"] is not None and parts["validation"]:
        train = rest
        validation = _listed(data, parts["validation"], names)
    else:
        train, validation = _hold_out(
            data, rest, data.validation_share, (data.split_seed + 1) % 2**32
        )
    files_of = dict(zip(SPLITS, (train, validation, held), strict=True))
    for split, files in files_of.items():
        if not files:
            raise UserError(
                f"data.path: {data.path} leaves no {data.noun} for the {split} split. Expected a"
                f" few {data.noun}s in each class at least."
            )
    untaught = set(range(len(names))) - {label for _, label in train}
    if untaught:
        raise UserError(
            f"data.path: {data.path} leaves no {data.noun} of {names[min(untaught)]} to train on:"
            " its groups are held out. Expected each class in several groups."
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


def _listed(data: ClassFolder, folder: Path, names: tuple[str, ...]) -> Files:
    """The files of each class's folder, and of folders inside it."""
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
            if path.suffix.lower() in data.suffixes and path.is_file()
        ]
        if not inside:
            raise UserError(
                f"data.path: {folder / name} holds no {data.noun}. Expected files ending in"
                f" {', '.join(data.suffixes)}."
            )
        files += [(path, label) for path in inside]
    return files


def _hold_out(data: ClassFolder, files: Files, share: float, seed: int) -> tuple[Files, Files]:
    """Files to train on, and those held out; of a group all or none."""
    labels = np.array([label for _, label in files])
    numbers: dict[str, int] = {}  # of groups, in the order of their first files
    groups = np.array([numbers.setdefault(data.group_of(path), len(numbers)) for path, _ in files])
    held = grouped(labels, groups, max(1, round(share * len(files))), seed)
    rest = np.setdiff1d(np.arange(len(files)), held)
    return [files[i] for i in rest], [files[i] for i in held]
