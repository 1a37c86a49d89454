"""Files that say where boxes are in pictures: COCO's JSON, Pascal VOC's XML, YOLO's text."""

from __future__ import annotations

import collections
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.core.pictures import SUFFIXES
from tfbig.data._detection import Annotated, annotated

FORMS = (
    "COCO's JSON, Pascal VOC's XML for each picture, or YOLO's text files beside a data.yaml or"
    " classes.txt"
)
SPLIT_WORDS = {  # as folders, lists and annotation files are called
    "train": re.compile(r"(?<![a-z])(train|training|trainval)(?![a-z])", re.IGNORECASE),
    "validation": re.compile(r"(?<![a-z])(val|valid|validation)(?![a-z])", re.IGNORECASE),
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


def read(
    root: Path, files: list[Path], pictures: list[Path]
) -> tuple[tuple[str, ...], list[Found]]:
    """Names of classes, and the annotated pictures, in whichever form the folder has."""
    documents = [file for file in files if file.suffix.lower() == ".json"]
    coco = [(path, saved) for path in documents if (saved := _coco_of(path)) is not None]
    xml = [file for file in files if file.suffix.lower() == ".xml"]
    text = [file for file in files if file.suffix.lower() == ".txt"]
    if coco:
        return _read_coco(root, coco, pictures)
    if xml:
        return _read_voc(root, xml, text, pictures)
    if text:
        return _read_yolo(root, files, pictures)
    return (), []


class _Pictures:
    """Finds a folder's pictures by what annotations call them."""

    def __init__(self, root: Path, pictures: list[Path]):
        self.root = root
        self.known = set(pictures)
        self.named = collections.defaultdict(list)
        for path in pictures:
            self.named[path.name].append(path)

    def find(self, name: str, where: Path) -> Path | None:
        """The picture that an annotation file calls so; None: it is not there.

        Raises:
            UserError: several could be meant.
        """
        for folder in (where.parent, self.root, self.root / "images"):
            path = Path(os.path.normpath(folder / name))
            if path in self.known:
                return path
        same = self.named.get(Path(name).name, [])
        split = _split_of(where.stem)
        if len(same) > 1 and split:
            same = [p for p in same if _split_of(str(p.parent.relative_to(self.root))) == split]
        if len(same) > 1:
            raise UserError(
                f"data: {where} names {name}, which could be {same[0]} or {same[1]}. Expected one"
                " picture of that name."
            )
        return same[0] if same else None


def _absent(where: Path, name: str) -> UserError:
    return UserError(f"data: {where} names the picture {name}, which is not there.")


def _coco_of(path: Path) -> dict | None:
    """A JSON file's content if it has COCO's form."""
    try:
        saved = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"data: {path} cannot be read as JSON: {error}.") from error
    keys = ("images", "annotations", "categories")
    return saved if isinstance(saved, dict) and all(key in saved for key in keys) else None


def _read_coco(root: Path, documents: list, pictures: list[Path]):
    """COCO's JSON: boxes are left, top, width and height in pixels."""
    finder = _Pictures(root, pictures)
    names: dict[str, int] = {}
    found = []
    for path, saved in documents:
        try:
            found += _coco_pictures(root, path, saved, finder, names)
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            if isinstance(error, UserError):  # which is a ValueError
                raise
            raise UserError(
                f"data: {path}: expected COCO's form: images with id, file_name, height and width;"
                f" annotations with image_id, category_id and bbox. Received: {error!r}."
            ) from error
    return tuple(names), found


def _coco_pictures(root, path, saved, finder: _Pictures, names: dict[str, int]) -> Iterator[Found]:
    """The pictures of one file; `names` grows by the classes that it is the first to name."""
    number_of = {}
    for category in sorted(saved["categories"], key=lambda category: category["id"]):
        number_of[category["id"]] = names.setdefault(str(category["name"]), len(names))
    boxes_of = collections.defaultdict(list)
    for annotation in saved["annotations"]:
        boxes_of[annotation["image_id"]].append(annotation)
    for image in saved["images"]:
        picture = finder.find(str(image["file_name"]), path)
        if picture is None:
            raise _absent(path, image["file_name"])
        annotations = boxes_of[image["id"]]
        sides = np.array([image["height"], image["width"]] * 2, np.float64)
        if not (sides >= 1).all():
            raise ValueError(f"height {image['height']}, width {image['width']}")
        boxes = []
        for annotation in annotations:
            left, top, width, height = (float(x) for x in annotation["bbox"])
            boxes.append(np.array([top, left, top + height, left + width]) / sides)
        classes = [number_of[annotation["category_id"]] for annotation in annotations]
        crowds = [int(annotation.get("iscrowd", 0)) for annotation in annotations]
        inside = str(picture.parent.relative_to(root))
        split = _split_of(path.stem) or _split_of(inside)
        entry = annotated(str(picture.relative_to(root)), boxes, classes, crowds)
        yield Found(path=picture, split=split, entry=entry)


def _read_voc(root: Path, documents: list[Path], lists: list[Path], pictures: list[Path]):
    """Pascal VOC's XML, one for each picture: boxes are pixels counted from 1, both ends inside."""
    finder = _Pictures(root, pictures)
    listed = _voc_splits(lists)
    read = []
    for path in documents:
        try:
            tree = ElementTree.parse(path).getroot()
            if tree.tag != "annotation":
                continue
            size = [float(tree.findtext(f"size/{side}")) for side in ("height", "width")] * 2
            objects = []
            for item in tree.iter("object"):
                ends = [
                    float(item.findtext(f"bndbox/{end}"))
                    for end in ("ymin", "xmin", "ymax", "xmax")
                ]
                first = np.array(ends) - [1, 1, 0, 0]
                objects.append((str(item.findtext("name")).strip(), first / size))
        except (ElementTree.ParseError, TypeError, ValueError, OSError) as error:
            raise UserError(
                f"data: {path}: expected Pascal VOC's form: size with height and width, objects"
                f" with name and bndbox. Received: {error}."
            ) from error
        name = (tree.findtext("filename") or "").strip()
        picture = finder.find(name, path) if name else None
        candidates = (finder.find(path.stem + suffix, path) for suffix in SUFFIXES)
        picture = picture or next((found for found in candidates if found), None)
        if picture is None:
            raise _absent(path, name or path.stem)
        read.append((path, picture, objects))
    names = sorted({name for _, _, objects in read for name, _ in objects})
    found = []
    for path, picture, objects in read:
        entry = annotated(
            str(picture.relative_to(root)),
            [box for _, box in objects],
            [names.index(name) for name, _ in objects],
        )
        split = listed.get(path.stem) or _split_of(str(picture.parent.relative_to(root)))
        found.append(Found(path=picture, split=split, entry=entry))
    return tuple(names), found


def _voc_splits(lists: list[Path]) -> dict[str, str]:
    """The split of each picture that ImageSets/Main/SPLIT.txt lists, by its name."""
    splits = {}
    for path in lists:
        if "ImageSets" in path.parts and path.stem in ("train", "val", "test"):
            for line in path.read_text("utf-8", "replace").splitlines():
                if line.split():
                    splits[line.split()[0]] = _split_of(path.stem)
    return splits


def _read_yolo(root: Path, files: list[Path], pictures: list[Path]):
    """YOLO's text: a line for each box, class, centre x, centre y, width, height as shares.

    A picture without a text file, or with an empty one, holds none.
    """
    names = _yolo_names(files)
    known = set(files)
    found = []
    for picture in pictures:
        inside = picture.relative_to(root)
        parts = ["labels" if part == "images" else part for part in inside.parts[:-1]]
        beside = root.joinpath(*parts, picture.stem + ".txt")
        boxes, classes = [], []
        for number, line in enumerate(_lines(beside) if beside in known else (), 1):
            try:
                label, x, y, width, height = (float(word) for word in line.split()[:5])
                names[int(label)]
            except (ValueError, IndexError) as error:
                raise UserError(
                    f"data: {beside}, line {number}: expected a class below {len(names)}, centre x"
                    f" and y, width and height. Received: {line[:60]!r}."
                ) from error
            classes.append(int(label))
            boxes.append([y - height / 2, x - width / 2, y + height / 2, x + width / 2])
        split = _split_of(str(inside.parent))
        found.append(Found(path=picture, split=split, entry=annotated(str(inside), boxes, classes)))
    return names, found


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]


def _yolo_names(files: list[Path]) -> tuple[str, ...]:
    """The classes' names, of data.yaml or classes.txt."""
    for path in files:
        if path.name in ("classes.txt", "obj.names"):
            return tuple(line.strip() for line in _lines(path))
    documents = [path for path in files if path.suffix.lower() in (".yaml", ".yml")]
    for path in documents:
        import yaml

        try:
            names = yaml.safe_load(path.read_text("utf-8")).get("names")
        except (yaml.YAMLError, AttributeError, OSError) as error:
            raise UserError(f"data: {path} cannot be read as YAML: {error}.") from error
        if isinstance(names, dict):
            names = [names[number] for number in sorted(names)]
        if names:
            return tuple(map(str, names))
    raise UserError(
        "data: expected the classes' names, in classes.txt (one a line) or in a .yaml file with"
        " names, as YOLO has them. Found: neither."
    )


def _split_of(words: str) -> str:
    """The split that a name speaks of; "" where it is none, or several."""
    spoken = [split for split, pattern in SPLIT_WORDS.items() if pattern.search(words)]
    return spoken[0] if len(spoken) == 1 else ""
