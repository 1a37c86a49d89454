"""COCO's JSON files: which boxes are in which pictures."""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.data._box_files import (
    Found,
    Pictures,
    Reading,
    absent,
    check_proportions,
    refuse_shares,
    shown,
    split_of,
    unannotated,
)
from tfbig.data._detection import annotated

FORM = (
    "expected COCO's form: images with id, file_name, height and width; annotations with"
    " image_id, category_id and bbox; categories with id and name"
)
BOXES = "instances"  # how COCO's own files with boxes of all classes are called


@dataclass
class _Document:
    """One JSON file of COCO's form, and what was read of it."""

    path: Path
    saved: dict
    classes: list[str] = field(default_factory=list)  # in the order of their ids
    # Of each picture its rows: class, top, left, bottom, right as shares, crowd
    pictures: dict[Path, list[tuple]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def documents(files: list[Path]) -> tuple[list[_Document], list[UserError]]:
    """The JSON files that list images and annotations, and what is wrong with those unreadable."""
    known, wrong = [], []
    for path in files:
        if path.suffix.lower() != ".json":
            continue
        try:
            saved = json.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            wrong.append(UserError(f"data: {path} cannot be read as JSON: {error}."))
            continue
        if isinstance(saved, dict) and "images" in saved and "annotations" in saved:
            known.append(_Document(path, saved))
    return known, wrong


def read(root: Path, known: list[_Document], pictures: list[Path]) -> Reading:
    """COCO's JSON: boxes are left, top, width and height in pixels.

    Files without boxes, of captions for instance, are left aside. Of several files that name a
    picture, those called instances come first; otherwise they have to say the same of it.

    Args:
        root: the folder.
        known: its JSON files of this form; see `documents`.
        pictures: those in the folder.

    Returns:
        What they say.
    """
    finder = Pictures(root, pictures)
    notes, read = [], []
    for document in known:
        if not _has_boxes(document.saved):
            notes.append(f"{document.path.name} is left aside: no annotation in it has a bbox")
            continue
        _read_one(document, finder)
        read.append(document)
    read, aside = _without_other_views(read)
    notes += aside
    numbers: dict[str, int] = {}
    for document in read:
        notes += document.notes
        for name in document.classes:
            numbers.setdefault(name, len(numbers))
    merged, more = _merged(read, finder)
    found = []
    for picture, (document, split) in merged.items():
        rows = document.pictures[picture]
        entry = annotated(
            str(finder.inside(picture)),
            [row[1:5] for row in rows],
            [numbers[row[0]] for row in rows],
            [row[5] for row in rows],
        )
        found.append(Found(path=picture, split=split, entry=entry))
    notes += more + unannotated(pictures, found)
    return Reading(names=tuple(numbers), pictures=found, notes=notes)


def _has_boxes(saved: dict) -> bool:
    """Whether a file is about boxes; one without any annotation is, if it has classes."""
    annotations = saved["annotations"]
    if not annotations or not isinstance(annotations, list):
        return "categories" in saved
    return any(isinstance(each, dict) and "bbox" in each for each in annotations)


def _without_other_views(read: list[_Document]) -> tuple[list[_Document], list[str]]:
    """COCO's files of key points, for one, repeat pictures of its instances with fewer boxes."""
    first = [each for each in read if each.path.stem.lower().startswith(BOXES)]
    named = {picture for each in first for picture in each.pictures}
    aside = [each for each in read if each not in first and named & each.pictures.keys()]
    notes = [
        f"{each.path.name} is left aside: files called {BOXES} name its pictures, too"
        for each in aside
    ]
    return [each for each in read if each not in aside], notes


def _merged(read: list[_Document], finder: Pictures):
    """Of each picture one file that names it, and its split; and lines about repetitions."""
    merged: dict[Path, tuple[_Document, str]] = {}
    twice = []
    for document in read:
        inside = document.path.relative_to(finder.root)
        own = split_of(inside.with_suffix(""))
        for picture, rows in document.pictures.items():
            split = own or split_of(finder.inside(picture).parent)
            if picture not in merged:
                merged[picture] = document, split
                continue
            other, before = merged[picture]
            if sorted(other.pictures[picture]) != sorted(rows):
                raise UserError(
                    f"data: {document.path} and {other.path} name {finder.inside(picture)}."
                    " Expected the same boxes. Received: others. Take one of the files out."
                )
            if split and before and split != before:
                raise UserError(
                    f"data: {finder.inside(picture)}: expected in one split. Received: {before} by"
                    f" {other.path}, {split} by {document.path}. Take it out of one of them."
                )
            merged[picture] = other, before or split
            twice.append(picture.name)
    if not twice:
        return merged, []
    line = f"{len(twice):,} pictures that several files name alike are read once: {shown(twice)}"
    return merged, [line]


def _read_one(document: _Document, finder: Pictures) -> None:
    try:
        _read_images(document, finder)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"data: {document.path}: {FORM}. Received: {error!r}.") from error


def _read_images(document: _Document, finder: Pictures) -> None:
    path, saved = document.path, document.saved
    names = {}
    if len(kinds := {type(category["id"]).__name__ for category in saved["categories"]}) > 1:
        raise UserError(
            f"data: {path}: expected ids of one kind for all categories. Received:"
            f" {' and '.join(sorted(kinds))}. Write all as numbers."
        )
    for category in sorted(saved["categories"], key=_id):
        number = category["id"]
        if number in names:
            raise UserError(f"data: {path}: {FORM}. Received: two categories of the id {number}.")
        if not isinstance(category["name"], str) or not category["name"].strip():
            raise UserError(
                f"data: {path}: {FORM}. Received: the name {category['name']!r} of the category"
                f" {number}."
            )
        names[number] = category["name"]
    document.classes = list(names.values())
    annotations_of = collections.defaultdict(list)
    for annotation in saved["annotations"]:
        annotations_of[annotation["image_id"]].append(annotation)
    seen, twice = {}, []
    for image in saved["images"]:
        name = str(image["file_name"])
        if image["id"] in seen:
            raise UserError(
                f"data: {path}: expected an id of its own for each image. Received: {image['id']}"
                f" for {seen[image['id']]} and {name}."
            )
        seen[image["id"]] = name
        picture = finder.find(name, path)
        if picture is None:
            raise absent(path, name)
        rows = _rows(path, image, annotations_of[image["id"]], names)
        if rows:
            check_proportions(path, picture, float(image["height"]), float(image["width"]))
        if sorted(document.pictures.setdefault(picture, rows)) != sorted(rows):
            raise UserError(
                f"data: {path} names {finder.inside(picture)} twice. Expected the same boxes both"
                f" times. Received: others, the second time as id {image['id']}. Join the two."
            )
        if document.pictures[picture] is not rows:
            twice.append(picture.name)
    if twice:
        document.notes.append(
            f"{len(twice):,} pictures that {path.name} names twice alike are read once:"
            f" {shown(twice)}"
        )
    refuse_shares(path, _ends(saved["annotations"]))
    astray = {number: len(each) for number, each in annotations_of.items() if number not in seen}
    if astray:
        document.notes.append(
            f"{sum(astray.values()):,} annotations of {path.name} are left out, of images that it"
            f" does not list: {shown(f'image_id {number!r}' for number in astray)}"
        )


def _ends(annotations: list[dict]) -> Iterator[tuple[float, ...]]:
    """Left, top, right and bottom of boxes, as they are stated."""
    for annotation in annotations:
        left, top, across, down = map(_number, annotation.get("bbox") or [math.nan] * 4)
        yield left, top, left + across, top + down


def _id(category: dict):
    return category["id"]


def _rows(path: Path, image: dict, annotations: list[dict], names: dict) -> list[tuple]:
    """The boxes of an image: class, top, left, bottom, right as shares of its sides, crowd."""
    name = image["file_name"]
    height, width = (_number(image.get(side)) for side in ("height", "width"))
    if not (1 <= height < math.inf and 1 <= width < math.inf):
        raise UserError(
            f"data: {path}, image {name}: {FORM}. Received: height {image.get('height')!r}, width"
            f" {image.get('width')!r}. State the picture's size in pixels."
        )
    rows = []
    for annotation in annotations:
        box, category = annotation.get("bbox"), annotation.get("category_id")
        sides = [_number(side) for side in box] if isinstance(box, list) else []
        crowd = _number(annotation.get("iscrowd") or 0)
        if len(sides) != 4 or not all(map(math.isfinite, sides)):
            received = f"bbox {box!r}"
        elif category not in names:
            received = f"category_id {category!r}, which no category has"
        elif crowd not in (0, 1):
            received = f"iscrowd {annotation['iscrowd']!r}"
        else:
            left, top, across, down = sides
            share = top / height, left / width, (top + down) / height, (left + across) / width
            rows.append((names[category], *share, int(crowd)))
            continue
        raise UserError(
            f"data: {path}, annotation {annotation.get('id')!r} of {name}: {FORM}. Received:"
            f" {received}. Mend the annotation or take it out."
        )
    return rows


def _number(value) -> float:
    """A number that JSON holds, also in quotes; NaN for anything else, or one beyond all bounds."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
