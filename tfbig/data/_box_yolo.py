"""YOLO's text files: which boxes are in which pictures."""

from __future__ import annotations

import collections
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.data._box_files import (
    Found,
    Pictures,
    Reading,
    composed,
    is_picture,
    lines_of,
    parts_of,
    shown,
    split_of,
)
from tfbig.data._detection import annotated

NAMES = ("classes.txt", "obj.names")
LISTS = {"train", "val", "valid", "validation", "dev", "test"}
KEYS = {"train": "train", "val": "validation", "test": "test"}  # of a data.yaml


@dataclass
class _Settings:
    """What a folder's .yaml files and lists say.

    Attributes:
        names: of the classes, by the numbers that stand in the label files.
        source: the file that the names are from.
        split: of pictures that a list or a .yaml file assigns to one.
        points: numbers behind a box that are of key points; None: lines may hold polygons.
        notes: lines about what is left aside.
    """

    names: dict[int, str] = field(default_factory=dict)
    source: Path | None = None
    split: dict[Path, str] = field(default_factory=dict)
    points: int | None = None
    notes: list[str] = field(default_factory=list)


def read(root: Path, files: list[Path], pictures: list[Path]) -> Reading:
    """YOLO's text: a line for each box, class, centre x, centre y, width, height as shares.

    Of a polygon, a class and the corners' x and y, the bounds are taken. Names of classes are those
    of a .yaml file or of classes.txt, splits those of lists, of a .yaml file or of folders. A
    picture without a text file, or with an empty one, holds no box.

    Args:
        root: the folder.
        files: all in the folder.
        pictures: those in the folder.

    Source: Ultralytics, "Object Detection Datasets Overview" and "Instance Segmentation Datasets
    Overview", https://docs.ultralytics.com/datasets/
    """
    finder = Pictures(root, pictures)
    label_of = labels(finder, files)
    documents = _documents(files)
    settings = _Settings()
    for path, saved in documents:
        names = _stated_names(path, saved, files)
        _check_count(path, names, saved.get("nc"))
        _take_names(settings, path, names)
        if saved.get("kpt_shape"):
            settings.points = _points(path, saved["kpt_shape"])
    for path in files:
        if path.name in NAMES or path.suffix == ".names":
            _take_names(settings, path, _listed_names(path))
    if not label_of:
        if settings.names:
            raise UserError(
                f"data: {root}: expected a text file for each picture with boxes, such as"
                f" {_label_places(finder.inside(pictures[0]))[0]}.txt. Received: none of a"
                " picture's name."
            )
        return Reading(names=(), pictures=[], notes=[])
    if not settings.names:
        raise UserError(
            "data: expected the classes' names, in classes.txt (one a line) or in a .yaml file with"
            " names, as YOLO has them. Found: neither."
        )
    lists = _assign_splits(settings, documents, finder, files, set(label_of.values()))
    found = _read_pictures(finder, label_of, settings)
    settings.notes += _unmatched(finder, files, {*label_of.values(), *lists})
    names = tuple(settings.names[number] for number in sorted(settings.names))
    return Reading(names=names, pictures=found, notes=settings.notes)


def _read_pictures(finder: Pictures, label_of: dict[Path, Path], settings: _Settings) -> list:
    stated = set(settings.split.values())
    number_of = {label: number for number, label in enumerate(sorted(settings.names))}
    found, bare, unlisted = [], [], []
    for picture in finder.parts:
        inside = finder.inside(picture)
        split = settings.split.get(picture, "")
        if not split:
            split = split_of(inside.parent)
            if (split or "train") in stated:
                unlisted.append(picture.name)
                continue
        rows = []
        if picture in label_of:
            rows = _rows(label_of[picture], number_of, settings.points)
        else:
            bare.append(picture.name)
        entry = annotated(str(inside), [row[1:] for row in rows], [row[0] for row in rows])
        found.append(Found(path=picture, split=split, entry=entry))
    if bare:
        settings.notes.append(
            f"{len(bare):,} pictures have no label file, which says that they hold no box:"
            f" {shown(bare)}"
        )
    if unlisted:
        settings.notes.append(
            f"{len(unlisted):,} pictures are left out, which no split lists: {shown(unlisted)}"
        )
    return found


# Label files


def labels(finder: Pictures, files: list[Path]) -> dict[Path, Path]:
    """The label file of each picture that has one."""
    texts = {
        composed(path.relative_to(finder.root).with_suffix("")): path
        for path in files
        if path.suffix.lower() == ".txt" and path.name not in NAMES
    }
    label_of = {}
    for picture in finder.parts:
        for place in _label_places(composed(finder.inside(picture))):
            if place in texts:
                label_of[picture] = texts[place]
                break
    return label_of


def _label_places(inside: Path) -> list[Path]:
    """Where the label file of a picture may be, without its suffix."""
    parts = inside.parts[:-1]
    all_swapped = ["labels" if part == "images" else part for part in parts]
    last_swapped = list(parts)
    if "images" in parts:
        last_swapped[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    folders = (Path(*last_swapped), Path(*all_swapped), inside.parent, inside.parent / "labels")
    return [folder / inside.stem for folder in folders]


def _rows(path: Path, number_of: dict[int, int], points: int | None) -> list[tuple]:
    """The boxes of a label file: class, top, left, bottom, right as shares of the sides."""
    rows = []
    for count, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            label, *shares = (float(word) for word in line.split())
        except ValueError:
            label, shares = math.nan, []
        box = _box(shares, points)
        if box is None or label not in number_of:
            counted = set(number_of) == set(range(len(number_of)))
            some = f"below {len(number_of)}" if counted else f"of {shown(sorted(number_of))}"
            form = "centre x and y, width and height, or x and y of a polygon's corners"
            if points is not None:
                form = f"centre x and y, width and height, and {points} numbers of key points"
            raise UserError(
                f"data: {path}, line {count}: expected a class {some}; then {form}. Received:"
                f" {line[:60]!r}, which is {len(line.split())} words. Mend the line or take it out."
            )
        rows.append((number_of[label], *box))
    return rows


def _box(shares: list[float], points: int | None) -> tuple | None:
    """Top, left, bottom, right by the numbers behind a class; None: they are no box."""
    if not all(map(math.isfinite, shares)):
        return None
    if len(shares) == 4 + (points or 0):
        x, y, width, height = shares[:4]
        return y - height / 2, x - width / 2, y + height / 2, x + width / 2
    if points is None and len(shares) >= 6 and len(shares) % 2 == 0:
        across, down = shares[::2], shares[1::2]
        return min(down), min(across), max(down), max(across)
    return None


def _unmatched(finder: Pictures, files: list[Path], used: set[Path]) -> list[str]:
    """A line about label files that are no picture's."""
    names = [
        path.name
        for path in files
        if path.suffix.lower() == ".txt"
        and path not in used
        and path.name not in NAMES
        and ("labels" in finder.inside(path).parts or _is_label(path))
    ]
    if not names:
        return []
    return [f"{len(names):,} label files are left out, being no picture's: {shown(names)}"]


def _is_label(path: Path) -> bool:
    try:
        words = path.read_text("utf-8-sig").partition("\n")[0].split()
        return len([float(word) for word in words]) >= 5
    except (OSError, ValueError):
        return False


# Names of classes


def _documents(files: list[Path]) -> list[tuple[Path, dict]]:
    """The .yaml files that say something of a dataset."""
    documents = []
    for path in files:
        if path.suffix.lower() not in (".yaml", ".yml"):
            continue
        import yaml

        try:
            # Everything stays text: a class may be called "no", which is false elsewhere
            saved = yaml.load(path.read_text("utf-8-sig"), Loader=yaml.BaseLoader)
        except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as error:
            raise UserError(
                f"data: {path} cannot be read as YAML in UTF-8: {error}. Mend it or take it out."
            ) from error
        if isinstance(saved, dict) and saved.get("names"):
            documents.append((path, saved))
    return documents


def _stated_names(path: Path, saved: dict, files: list[Path]) -> dict[int, str]:
    names = saved["names"]
    if isinstance(names, list):
        return dict(enumerate(names))
    if isinstance(names, dict):
        wrong = [number for number in names if not re.fullmatch(r"[0-9]{1,9}", number)]
        if wrong:
            raise UserError(
                f"data: {path}: expected names by whole numbers from 0. Received: {shown(wrong)}."
            )
        return {int(number): name for number, name in names.items()}
    listed = Path(os.path.normpath(path.parent / names))
    if listed not in files:
        raise UserError(
            f"data: {path}: expected names as a list, by numbers, or the name of a file with one a"
            f" line. Received: {names}, a file that is not there."
        )
    return _listed_names(listed)


def _listed_names(path: Path) -> dict[int, str]:
    names = [line.strip() for line in lines_of(path)]
    if not all(names):
        raise UserError(
            f"data: {path}, line {names.index('') + 1}: expected the name of a class. Received: an"
            " empty line, with names behind it. Take it out or fill it."
        )
    return dict(enumerate(names))


def _check_count(path: Path, names: dict[int, str], stated) -> None:
    """Refuses another number of names than a .yaml file states."""
    counts = {str(len(names)), str(max(names, default=-1) + 1)}  # some numbers may be left out
    if stated is not None and str(stated).strip() not in counts:
        raise UserError(
            f"data: {path}: expected nc to be {len(names)}, the number of names. Received:"
            f" {stated}."
        )


def _take_names(settings: _Settings, path: Path, names: dict[int, str]) -> None:
    if not all(isinstance(name, str) and name.strip() for name in names.values()):
        raise UserError(
            f"data: {path}: expected each name to be a word or several. Received:"
            f" {shown(names.values())[:100]}."
        )
    twice = [name for name, count in collections.Counter(names.values()).items() if count > 1]
    if twice:
        raise UserError(f"data: {path}: expected each name once. Twice: {twice[0]!r}.")
    if settings.names and names != settings.names:
        raise UserError(
            f"data: {path} and {settings.source}: expected the same names of classes. Received:"
            f" {shown(names.values())} and {shown(settings.names.values())}. Take one file out."
        )
    if names:
        settings.names, settings.source = names, path


def _points(path: Path, shape) -> int:
    """Numbers behind each box: of so many key points so many numbers each."""
    try:
        count, each = (int(side) for side in shape)
        return count * each
    except (TypeError, ValueError) as error:
        raise UserError(
            f"data: {path}: expected kpt_shape as two whole numbers. Received: {shape}."
        ) from error


# Splits


def _assign_splits(
    settings: _Settings,
    documents: list[tuple[Path, dict]],
    finder: Pictures,
    files: list[Path],
    used_labels: set[Path],
) -> set[Path]:
    """Gives pictures the split that a .yaml file or, without one, a list states; the lists."""
    used = set()
    for path, saved in documents:
        for key, split in KEYS.items():
            stated = saved.get(key) or []
            for item in [stated] if isinstance(stated, str) else stated:
                place = _place(path, str(saved.get("path") or ""), str(item), finder, files)
                if place is None:
                    settings.notes.append(f"{path.name}: {key} is {item}, which is not there")
                elif place.suffix.lower() == ".txt":
                    used.add(place)
                    _assign(settings, split, _listed(settings, place, finder), place)
                else:
                    inside = [each for each in finder.parts if place in each.parents]
                    _assign(settings, split, inside, path)
    if settings.split:
        return used
    for path in files:
        named = path.suffix.lower() == ".txt" and path.stem.lower() in LISTS
        if not named or path in used_labels:
            continue
        if not any(is_picture(line.strip()) for line in lines_of(path)):
            settings.notes.append(f"{path.name} is left aside: no line in it is a picture's name")
            continue
        used.add(path)
        _assign(settings, split_of(path.stem), _listed(settings, path, finder), path)
    return used


def _assign(settings: _Settings, split: str, pictures: list[Path], where: Path) -> None:
    for picture in pictures:
        if settings.split.setdefault(picture, split) != split:
            raise UserError(
                f"data: {where} puts {picture.name} into {split}. Expected in one split. Received:"
                f" in {settings.split[picture]}, too. Take it out of one; without {split}, some"
                " pictures are held out."
            )


def _listed(settings: _Settings, path: Path, finder: Pictures) -> list[Path]:
    """The pictures that a list names; such lists were often written for another folder."""
    lines = [line.strip() for line in lines_of(path) if line.strip()]
    pictures = [finder.find(line, path, anywhere=True) for line in lines]
    lost = [line for line, picture in zip(lines, pictures, strict=True) if picture is None]
    if lost:
        settings.notes.append(
            f"{len(lost):,} lines of {path.name} are left out, whose pictures are not there:"
            f" {shown(lost)}"
        )
    return [picture for picture in pictures if picture is not None]


def _place(path: Path, base: str, item: str, finder: Pictures, files: list[Path]) -> Path | None:
    """The list or the folder with pictures that a .yaml file means; None: it is not there.

    Such files state folders as they were on some machine: leading dots are dropped, and of a whole
    path as much of the end as is there.
    """
    parts, _ = parts_of(item)
    whole = item.startswith("/") or ":" in item[:3]
    down = [part for part in parts if part != ".."]
    tails = [down[-count:] for count in range(len(down), 0, -1)] if whole else [down]
    bases = [path.parent / base, path.parent, finder.root]
    places = [each.joinpath(*some) for some in (parts, *tails) for each in bases]
    known = {composed(each): each for each in files}
    for picture in finder.parts:
        inside = [each for each in picture.parents if each.is_relative_to(finder.root)]
        known |= {composed(each): each for each in inside}
    normal = (composed(Path(os.path.normpath(place))) for place in places)
    return next((known[place] for place in normal if place in known), None)
