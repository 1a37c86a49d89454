"""Pascal VOC's XML files: which boxes are in which pictures."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

from tfbig.core.errors import UserError
from tfbig.data._box_files import (
    Found,
    Pictures,
    Reading,
    absent,
    check_proportions,
    composed,
    is_picture,
    lines_of,
    refuse_shares,
    shown,
    split_of,
    unannotated,
)
from tfbig.data._detection import annotated

FORM = "expected Pascal VOC's form: size with height and width, objects with name and bndbox"
LISTS = ("train", "val", "test")
MASKS = {"SegmentationClass", "SegmentationObject"}  # pictures in them are drawings of others
UNREADABLE = (ElementTree.ParseError, ValueError, LookupError, OSError)
ENDS = ("ymin", "xmin", "ymax", "xmax")


def documents(files: list[Path]) -> tuple[list[Path], list[UserError]]:
    """The XML files that are annotations, and what is wrong with those unreadable."""
    known, wrong = [], []
    for path in files:
        if path.suffix.lower() != ".xml":
            continue
        try:
            with path.open("rb") as file:
                _, first = next(ElementTree.iterparse(file, ("start",)))
        except (*UNREADABLE, StopIteration) as error:
            wrong.append(_unreadable(path, error))
            continue
        if first.tag == "annotation":
            known.append(path)
    return known, wrong


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"data: {path} cannot be read as XML: {error}. Mend it or take it out.")


def read(root: Path, known: list[Path], files: list[Path], pictures: list[Path]) -> Reading:
    """Pascal VOC's XML, one for each picture: boxes are pixels counted from 1, both ends inside.

    Objects marked as difficult count as crowds do: they are neither asked for nor mistakes.
    A file's picture is the one of its own stem, or else the one that it names. Splits are those of
    ImageSets/Main, or else of the folders.

    Args:
        root: the folder.
        known: its annotations; see `documents`.
        files: all in the folder.
        pictures: those in the folder.

    Source: M. Everingham et al., The PASCAL Visual Object Classes Challenge 2012 development kit.
    """
    seen = [path for path in pictures if not MASKS & set(path.relative_to(root).parts)]
    finder = Pictures(root, seen)
    listed, notes = _splits(files, known)
    rows, of_picture, stated = {}, {}, []
    for path in known:
        try:
            tree = ElementTree.parse(path).getroot()
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        picture = _picture(path, tree, finder)
        if picture in of_picture:
            raise UserError(
                f"data: {path} and {of_picture[picture]} are both about"
                f" {finder.inside(picture)}. Expected one file for each picture. Name each file as"
                " its picture, or take one out."
            )
        of_picture[picture] = path
        rows[path] = _objects(path, tree, picture)
        stated += _ends(tree)
    refuse_shares(root, stated)
    names = sorted({row[0] for each in rows.values() for row in each})
    number = {name: count for count, name in enumerate(names)}
    found, unlisted = [], []
    for picture, path in of_picture.items():
        entry = annotated(
            str(finder.inside(picture)),
            [row[1:5] for row in rows[path]],
            [number[row[0]] for row in rows[path]],
            [row[5] for row in rows[path]],
        )
        folder = split_of(finder.inside(picture).parent)
        split = listed.get(path) or folder
        if listed and not split:
            unlisted.append(picture.name)
        found.append(Found(path=picture, split=split, entry=entry))
    if unlisted:
        notes.append(
            f"{len(unlisted):,} annotated pictures that no list in ImageSets/Main names count as"
            f" train: {shown(unlisted)}"
        )
    notes += unannotated(pictures, found)
    return Reading(names=tuple(names), pictures=found, notes=notes)


def _picture(path: Path, tree: ElementTree.Element, finder: Pictures) -> Path:
    """The picture that an annotation is about: that of its own stem, or else that it names."""
    name = (tree.findtext("filename") or "").strip()
    same = finder.of_stem(path.stem, path)
    if len(same) == 1:
        return same[0]
    named = None
    if is_picture(name):
        named = finder.find(name, path, anywhere=True)
    elif name:
        others = finder.of_stem(name, path)
        named = others[0] if len(others) == 1 else None
    if same and named not in same:
        first, second = (finder.inside(each) for each in same[:2])
        raise UserError(
            f"data: {path}: expected one picture of its name. Found: {first} and {second}. State"
            " which it is in <filename>, or take the other out."
        )
    if named is None:
        raise absent(path, name or path.stem)
    return named


def _objects(path: Path, tree: ElementTree.Element, picture: Path) -> list[tuple]:
    """The boxes of a picture: class, top, left, bottom, right as shares of its sides, crowd."""
    height, width = (_number(tree.findtext(f"size/{side}")) for side in ("height", "width"))
    if not (1 <= height < math.inf and 1 <= width < math.inf):
        raise UserError(
            f"data: {path}: {FORM}. Received: height {tree.findtext('size/height')!r}, width"
            f" {tree.findtext('size/width')!r}. State the picture's size in pixels."
        )
    rows = []
    for count, item in enumerate(tree.iter("object"), 1):
        name = (item.findtext("name") or "").strip()
        ends = {end: item.findtext(f"bndbox/{end}") for end in ENDS}
        top, left, bottom, right = map(_number, ends.values())
        if not name or not all(map(math.isfinite, (top, left, bottom, right))):
            received = f"{ends} of {name}" if name else "no name"
            raise UserError(
                f"data: {path}, object {count}: {FORM}. Received: {received}. Mend the object or"
                " take it out."
            )
        difficult = (item.findtext("difficult") or "").strip().lower() in ("1", "true")
        share = (top - 1) / height, (left - 1) / width, bottom / height, right / width
        rows.append((name, *share, int(difficult)))
    if rows:
        check_proportions(path, picture, height, width)
    return rows


def _ends(tree: ElementTree.Element) -> list[tuple[float, ...]]:
    """Left, top, right and bottom of a picture's boxes, as they are stated."""
    ends = ("xmin", "ymin", "xmax", "ymax")
    return [
        tuple(_number(item.findtext(f"bndbox/{end}")) for end in ends)
        for item in tree.iter("object")
    ]


def _number(text: str | None) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _splits(files: list[Path], known: list[Path]) -> tuple[dict[Path, str], list[str]]:
    """The split of each annotation that ImageSets/Main/SPLIT.txt lists, and lines about others."""
    splits, absent_names = {}, []
    for path in files:
        main = path.parent.name == "Main" and path.parent.parent.name == "ImageSets"
        if not main or path.suffix.lower() != ".txt" or path.stem not in LISTS:
            continue
        base = path.parents[2]
        stems = {composed(each.stem): each for each in known if base in each.parents}
        for line in filter(None, map(str.strip, lines_of(path))):
            name = composed(line)
            if name not in stems:  # lists of a class say behind the name whether it is in there
                name = re.sub(r"\s+(-1|0|1)$", "", name)
            if name not in stems and is_picture(name):
                name = Path(name).stem
            if name not in stems:
                absent_names.append(name)
                continue
            split = split_of(path.stem)
            if splits.setdefault(stems[name], split) != split:
                raise UserError(
                    f"data: {path} lists {name}. Expected in one split. Received: listed for"
                    f" {splits[stems[name]]}, too. Take it out of one list."
                )
    if not absent_names:
        return splits, []
    return splits, [
        f"{len(absent_names):,} names in ImageSets/Main are left out, having no annotation:"
        f" {shown(absent_names)}"
    ]
