"""Data that travels with the package: read whole, and only if it is what it was when it left."""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

from tfbig.core.errors import NoData


def content(path: Path, sha256: str) -> bytes:
    """The content of a file beside the code, unpacked where its name ends in .xz.

    Args:
        path: of the file.
        sha256: of the content as it is returned.

    Raises:
        NoData: it cannot be read, or is another one.
    """
    try:
        stored = path.read_bytes()
        whole = lzma.decompress(stored) if path.suffix == ".xz" else stored
    except (OSError, lzma.LZMAError) as error:
        raise _broken(path, f"cannot be read ({error})") from error
    if hashlib.sha256(whole).hexdigest() != sha256:
        raise _broken(path, "its content is not the published file's")
    return whole


def _broken(path: Path, how: str) -> NoData:
    return NoData(f"{path}: {how}. It came with the package: install tfbig again.")
