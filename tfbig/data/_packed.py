"""Files of text, packed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tfbig.core.errors import UserError

PACKED = (".xz", ".gz")


def ending(path: Path) -> str:
    """A file name's ending, which tells its kind; some systems write it in capitals."""
    return path.suffix.lower()


def unpacked(path: Path) -> Path:
    """A file's name without the ending that says it is packed."""
    return path.with_suffix("") if ending(path) in PACKED else path


def reading(path: Path, read: Callable) -> Iterator[bytes]:
    """What `read` yields from the open file, unpacked; any error is one message."""
    import gzip
    import lzma
    import zlib

    try:
        with {".gz": gzip.open, ".xz": lzma.open}.get(ending(path), open)(path, "rb") as file:
            yield from read(file)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error
