"""Which files of a user's folder are meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tfbig.core.errors import UserError


def is_hidden(inside: Path | str) -> bool:
    """Whether a path inside a folder is hidden, or in something hidden.

    Editors, notebooks, version control and macOS put such files beside one's own.
    """
    return any(name.startswith(".") or name == "__MACOSX" for name in Path(inside).parts)


def files_inside(folder: Path) -> list[Path]:
    """The files in a folder and the folders inside it, sorted.

    Linked files are included, hidden ones are not. A folder that several links lead to is read
    once: in two splits, the same files would be both trained on and tested with.
    """
    return sorted(_files(folder, set()))


def _files(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    # Folders themselves come before links to them, so that files are called by their own names.
    for entry in sorted(_entries(folder), key=lambda entry: (entry.is_symlink(), entry.name)):
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            yield from _files(folder / entry.name, seen)
        else:
            yield folder / entry.name


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}.") from error
