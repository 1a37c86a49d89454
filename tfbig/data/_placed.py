"""Files by the names of their folders: classes, perhaps inside of splits."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.spelling import name_of
from tfbig.data._tables import SPLIT_NAMES

LIKE_A_PART = re.compile(r"(^|[^a-z])(train|valid|val|test|eval)", re.IGNORECASE)


def placed(
    root: Path, paths: list[Path], class_of: Callable[[Path], str] | None = None
) -> list[tuple[str, str]]:
    """The split ("" where no folder says it) and the class of each file.

    Args:
        root: the user's folder.
        paths: the files inside of it.
        class_of: what a file that stands in no class's folder says of its class; none: such a file
            is refused.

    Raises:
        UserError: splits are called otherwise, or stand inside of classes.
    """
    parts = [path.relative_to(root).parts for path in paths]
    inside = collections.defaultdict(set)  # of each folder: folders in it, "" for files
    for top, *below in parts:
        if below:
            inside[top].add(below[0] if len(below) > 1 else "")
    # Without classes inside, it is one: of railways
    by_split = any(
        SPLIT_NAMES.get(top.lower()) == "train" and (class_of or "" not in own)
        for top, own in inside.items()
    )
    rows, deeper = [], collections.defaultdict(set)
    for path, own in zip(paths, parts, strict=True):
        folders, split = list(own[:-1]), ""
        if by_split:
            split = SPLIT_NAMES.get(own[0].lower(), "")
            if not split:
                raise UserError(
                    f"data.path: expected the splits train, validation, test in {root}. Received:"
                    f" {own[0]}."
                )
            del folders[0]
        if not folders and class_of is None:
            raise UserError(f"data.path: expected {path} inside of a class's folder.")
        name = name_of(folders[0] if folders else class_of(path))
        if folders:
            deeper[name].add(_below(path, folders, class_of))
        rows.append((split, name))
    if not by_split:
        _refuse_parts(root, {name: deeper[name] for _, name in rows}, is_file=class_of is not None)
    _refuse_odd(root, {name for _, name in rows})
    _refuse_parts_inside(root, deeper)
    return rows


def _below(path: Path, folders: list[str], class_of: Callable[[Path], str] | None) -> str:
    """What a file of a class's folder stands in, or is called by."""
    if len(folders) > 1:
        return folders[1]
    return class_of(path) if class_of else ""


def _refuse_odd(root: Path, names: set[str]) -> None:
    """Refuses names of classes that are no text."""
    odd = sorted(name for name in names if name.encode("utf-8", "replace").decode() != name)
    if odd:
        raise UserError(
            "data.path: expected class folders whose names are text in UTF-8, for labels are"
            f" written and sent. Received: {odd[0]!a} in {root}. Rename it."
        )


def _refuse_parts(root: Path, inside: dict[str, set], is_file: bool) -> None:
    """Refuses splits of other names, which would be learnt as classes.

    Args:
        root: the user's folder.
        inside: of each class what stands in its folder: folders, and "" or the classes of files.
        is_file: whether files may be classes, too.
    """
    names = sorted(inside)
    spoken = [LIKE_A_PART.search(name) for name in names]
    if not all(spoken):
        return
    contents = {frozenset(own) for own in inside.values()}
    if is_file:
        kinds = {match[2].lower() for match in spoken}
        alike = len(contents) == 1 and len(next(iter(contents))) != 1
        is_parts = alike and len(kinds) > 1
    else:
        is_parts = not any("" in own for own in contents)
    if is_parts:
        raise UserError(
            f"data.path: expected train and perhaps test and validation in {root}, with the classes"
            f" inside. Received: {', '.join(names[:3])}. Rename them."
        )


def _refuse_parts_inside(root: Path, deeper: dict[str, set]) -> None:
    """Refuses splits inside of classes, whose test files would be trained on."""
    for name, below in deeper.items():
        splits = {SPLIT_NAMES.get(str(each).lower()) for each in below} - {None}
        if "train" in splits and len(splits) > 1:
            raise UserError(
                f"data.path: expected splits outside of classes, as train/{name}. Received: {name}"
                f" in {root}, a class with {' and '.join(sorted(splits))} inside."
            )
