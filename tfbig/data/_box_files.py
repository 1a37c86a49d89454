"""Pictures with boxes in a folder: what COCO's, Pascal VOC's and YOLO's files have in common."""

from __future__ import annotations

import collections
import os
import re
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tfbig.core.errors import UserError
from tfbig.core.pictures import SUFFIXES
from tfbig.data._detection import Annotated

SHOWN = 3  # names in a line
MOST_STRETCH = 1.02  # of a picture's proportions against those that its annotation states
SPLIT_WORDS = {  # as folders, lists and annotation files are called
    "train": re.compile(r"(?<![a-z])(train|training|trainval)(?![a-z])", re.IGNORECASE),
    "validation": re.compile(r"(?<![a-z])(val|valid|validation|dev)(?![a-z])", re.IGNORECASE),
    "test": re.compile(r"(?<![a-z])(test|testing)(?![a-z])", re.IGNORECASE),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """One annotated picture of a folder.

    Attributes:
        path: of the picture.
        split: that its folder, its list or its annotation file is called by; "" where none is.
        entry: its boxes, with classes as numbers.
    """

    path: Path
    split: str
    entry: Annotated


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the annotation files of a folder say.

    Attributes:
        names: of the classes, in the order of their numbers.
        pictures: those with annotations.
        notes: lines about what was left aside or is odd.
    """

    names: tuple[str, ...]
    pictures: list[Found]
    notes: list[str]


class Pictures:
    """Finds a folder's pictures by what annotations call them.

    Letters with accents are the same however they are composed, and so are suffixes in capitals.
    """

    def __init__(self, root: Path, pictures: Iterable[Path]):
        self.root = root
        whole = root.absolute()  # what is said from outside may begin with the folder's own name
        self.parts = {
            path: (*composed(whole / self.inside(path).parent).parts, _key(path.name))
            for path in pictures
        }
        self.named = collections.defaultdict(list)
        self.stemmed = collections.defaultdict(list)
        for path in self.parts:
            self.named[_key(path.name)].append(path)
            self.stemmed[composed(path.stem)].append(path)

    def find(self, name: str, where: Path, *, anywhere: bool = False) -> Path | None:
        """The picture that an annotation file calls so; None: it is not there.

        A name with a folder means a picture in that folder. Only where the folder cannot be one of
        these, since the name is a whole path, an address or leads upwards, less of the path is
        enough: as much of its end as some picture's path ends with.

        Args:
            name: what the file calls it.
            where: the file.
            anywhere: whether other names with folders are told from somewhere else, too.

        Raises:
            UserError: several could be meant.
        """
        parts, elsewhere = parts_of(name)
        if not parts:
            return None
        if ".." in parts:
            for folder in _around(where, self.root):
                path = Path(os.path.normpath(folder.joinpath(*parts)))
                if path in self.parts:
                    return path
            parts = parts[len(parts) - parts[::-1].index("..") :]
        key = (*parts[:-1], _key(parts[-1])) if parts else ("",)
        for count in range(len(key), 0 if elsewhere or anywhere else len(key) - 1, -1):
            same = [
                path for path in self.named[key[-1]] if self.parts[path][-count:] == key[-count:]
            ]
            if same:
                return self._nearest(same, name, where)
        return None

    def of_stem(self, stem: str, where: Path) -> list[Path]:
        """The pictures that are called so but for the suffix, if several of one folder: all."""
        same = self.stemmed[composed(stem)]
        return self._near(same, where) if len(same) > 1 else same

    def _nearest(self, same: list[Path], name: str, where: Path) -> Path:
        if len(same) == 1:
            return same[0]
        near = self._near(same, where)
        exact = [path for path in near if name.endswith(path.name)]
        if len(exact or near) > 1:
            first, second = map(self.inside, (exact or near)[:2])
            raise UserError(
                f"data: {where} names {name}. Expected one picture of that name. Found: {first} and"
                f" {second}. Write the folder before the name, or take the other out."
            )
        return (exact or near)[0]

    def _near(self, same: list[Path], where: Path) -> list[Path]:
        """Of pictures called alike those of the file's own split, and of these the closest."""
        split = split_of(where.relative_to(self.root))
        own = [path for path in same if split and split_of(self.inside(path).parent) == split]
        for folder in _around(where, self.root):
            beside = [path for path in own or same if path.parent == folder]
            if beside:
                return beside
        return own or same

    def inside(self, path: Path) -> Path:
        return path.relative_to(self.root)


def parts_of(name: str) -> tuple[list[str], bool]:
    """The folders and the name of a path, and whether it is one of somewhere else."""
    windows = bool(re.match(r"[A-Za-z]:[\\/]|\\\\", name))
    address = not windows and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name)
    try:
        path = unquote(urlsplit(name).path) if address else name.replace("\\", "/")
    except ValueError:  # no address after all
        path = name
    parts = [composed(part) for part in path.split("/") if part not in ("", ".")]
    elsewhere = windows or address or path.startswith("/") or ".." in parts
    return parts, bool(elsewhere)


def _around(where: Path, root: Path) -> list[Path]:
    """Folders in which the pictures of an annotation file may be, the likeliest first."""
    above = [folder for folder in where.parents if folder.is_relative_to(root)]
    return [each for up in above for each in (up, up / "images", up / "JPEGImages")]


def composed(path: Path | str) -> Path | str:
    """A path with letters and their accents in one character each, as most programs write them."""
    return type(path)(unicodedata.normalize("NFC", str(path)))


def _key(name: str) -> str:
    stem, suffix = os.path.splitext(composed(name))
    return stem + suffix.lower()


def is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def absent(where: Path, name: str) -> UserError:
    return UserError(
        f"data: {where} names the picture {name}, which is not there. Put it there, or take it out"
        " of the file."
    )


def split_of(path: Path | str) -> str:
    """The split that the innermost name of a path speaks of; "" where none does, or of several."""
    for words in reversed(Path(path).parts):
        spoken = [split for split, pattern in SPLIT_WORDS.items() if pattern.search(words)]
        if spoken:
            return spoken[0] if len(spoken) == 1 else ""
    return ""


def shown(names: Iterable) -> str:
    """The first few of some names."""
    names = list(map(str, names))
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def unannotated(pictures: Iterable[Path], found: list[Found]) -> list[str]:
    """A line about pictures that no annotation names."""
    known = {each.path for each in found}
    rest = [path.name for path in pictures if path not in known]
    if not rest:
        return []
    return [f"{len(rest):,} pictures without annotation are left out: {shown(rest)}"]


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, without those at its end that are empty."""
    try:
        return path.read_text("utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"data: {path}: expected text in UTF-8. Received: {error}. Save it as UTF-8."
        ) from error


def refuse_shares(where: Path, ends: Iterable[tuple[float, ...]]) -> None:
    """Refuses boxes in shares of their pictures where pixels are meant: all would be specks.

    Args:
        where: the annotation file, or the folder.
        ends: left, top, right and bottom of all its boxes, in what was taken for pixels.
    """
    first = None
    for box in ends:
        if not all(-0.01 <= end <= 1.01 for end in box):
            return
        first = first or box
    if first:
        box = ", ".join(f"{end:g}" for end in first)
        raise UserError(
            f"data: {where}: expected boxes in pixels, as COCO and Pascal VOC count. Received: all"
            f" boxes from 0 to 1, such as {box}, which are shares of the pictures' sides. Multiply"
            " them by width and height."
        )


def check_proportions(where: Path, picture: Path, height: float, width: float) -> None:
    """Refuses boxes in a picture of other proportions than their annotation states.

    Pictures that were made smaller as a whole are fine: boxes become shares of their sides.

    Args:
        where: the annotation file.
        picture: as it is now.
        height: of the picture, as the file states it.
        width: likewise.
    """
    real = _upright_size(picture)
    if real is None:  # said when it is decoded
        return
    *sides, turned = real
    stretch = (height / width) / (sides[0] / sides[1])
    if not 1 / MOST_STRETCH <= stretch <= MOST_STRETCH:
        how = ", turned as its EXIF says" if turned else ""
        raise UserError(
            f"data: {where} states that {picture.name} has {height:g} x {width:g} pixels (height x"
            f" width). Expected: the proportions of the picture. Received: a picture of {sides[0]}"
            f" x {sides[1]}{how}. State boxes and size of the picture as it is shown."
        )


def _upright_size(path: Path) -> tuple[int, int, bool] | None:
    """Height and width of a picture as it is shown, and whether it is turned; by its header."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels, which decoding refuses
            with Image.open(path) as picture:
                width, height = picture.size
                # Of a PNG, Pillow would look for EXIF behind the pixels
                known = picture.format != "PNG" or "exif" in picture.info
                turned = known and picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return (width, height, True) if turned else (height, width, False)
