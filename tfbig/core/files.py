"""Writing files so that a kill, a power cut or a full disk never harms what was there before."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfbig.core.errors import DiskFull, RunFailure, UserError
from tfbig.core.workers import cores

LOCK = ".lock"
# The errors of a disk, a quota or a limit that is reached
SETTLED_NS = 2 * 10**9  # a change within so short a time may not show in a file's status
UNREAD = "none"  # instead of the digest of a file that cannot be read
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, payload: bytes) -> None:
    """Writes `payload` to `path` and waits until it is on the disk."""
    with path.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, payload: bytes | str) -> None:
    """Replaces `path` in one move: readers see the old content or the new, never a part."""
    payload = payload.encode("utf-8", "backslashreplace") if isinstance(payload, str) else payload
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_synced(beside, payload)
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed
            beside.unlink(missing_ok=True)
        raise disk_failure(path, len(payload), error) from error


def write_json(path: Path, value: object) -> None:
    """Writes `value` as readable JSON, in one move."""
    write_atomic(path, json_text(value, indent=1) + "\n")


def json_text(value: object, **options) -> str:
    """JSON with letters as they are.

    A file's name that is not UTF-8 is escaped, so that it comes back the same. Numbers that are not
    finite become null, since JSON has none.
    """
    value = _finite(value)
    options = {**options, "allow_nan": False}
    text = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, **options)
    return text


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digests(paths: Iterable[Path]) -> list[str]:
    """The sha256 of each file's content, UNREAD where it cannot be read.

    Files whose status has not changed are read once by a process.
    """
    with ThreadPoolExecutor(cores()) as readers:
        return list(readers.map(_known_digest, paths))


def _known_digest(path: Path) -> str:
    try:
        status = path.stat()
        stamp = (status.st_dev, status.st_ino, status.st_size)
        times = (status.st_mtime_ns, status.st_ctime_ns)
        if time.time_ns() - max(times) < SETTLED_NS:
            return _digest.__wrapped__(path)
        return _digest(path, *stamp, *times)
    except OSError:
        return UNREAD


@functools.lru_cache(maxsize=1 << 20)
def _digest(path: Path, *status: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(folder: Path, doing: str) -> Iterator[None]:
    """Keeps a second process from working in a folder.

    The lock goes with the process, however it ends.

    Raises:
        UserError: another process holds it; its cause is a BlockingIOError.
        RunFailure: the folder cannot be written.
    """
    import fcntl

    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise disk_failure(folder / LOCK, 0, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(
                f"{folder}: is being {doing} by another process"
                f" ({file.read().strip() or 'unknown'})."
            ) from error
        # On a full disk the owner cannot be written down; the lock holds all the same
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"pid {os.getpid()} on {socket.gethostname()}".encode())
        yield


def disk_failure(path: Path, size: int, error: OSError) -> RunFailure:
    """An operating system's error while writing, as one message.

    It says where, what was needed (unless `size` is 0, not known) and what to do.
    """
    if error.errno in FULL:
        needed = f"Needed: {size_text(size)}; " if size else ""
        try:
            disk = os.statvfs(path.parent)
            free = f"{size_text(disk.f_bavail * disk.f_frsize)} are free there"
        except OSError:
            free = "the free space there is unknown"
        return DiskFull(
            f"{path}: could not be written, the disk or quota is full. {needed}{free}. What was"
            " saved before is intact. Free some space, then try again."
        )
    return RunFailure(
        f"{path}: could not be written: {error.strerror or error}. What was saved before is intact."
    )


def size_text(size: int) -> str:
    """A number of bytes in the unit that suits it."""
    if size >= 1e6:
        return f"{size / 1e6:,.1f} MB"
    if size >= 1e3:
        return f"{size / 1e3:.1f} KB"
    return f"{size} bytes"
