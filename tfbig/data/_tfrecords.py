"""Records of TFRecord files at any position, through an index of where each one begins.

A record is its length (uint64), a checksum of that, the content and its checksum, one after another
(https://www.tensorflow.org/tutorials/load_data/tfrecord). The lengths are walked once, 16 bytes a
record, without reading what is between; the places are kept in

    CACHE/tfbig/tfrecords/KEY.npy   int64 [records + 1]; KEY tells path, size and time of change

so that memory is 8 bytes a record, however large the records are.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfbig.core.lazy import np

BEFORE, BEHIND = 12, 4  # bytes around a content
WALKERS = 16  # files looked through at once: it is waiting for a disk, or for a network's


class TFRecords:
    """The contents of TFRecord files, one after another, as a sequence that is read at random.

    It keeps no file open, so that threads and processes may share it.

    Example:
        >>> records = TFRecords(sorted(Path("imagenet").glob("train-*")))
        >>> len(records), records[1_000_000][:4]
        (1281167, b'\\n\\xb3\\xc5\\x07')
    """

    def __init__(self, paths: Sequence[str | Path]):
        """Raises ValueError or OSError where a file is no TFRecord, torn or missing."""
        self.paths = [Path(path) for path in paths]
        with concurrent.futures.ThreadPoolExecutor(WALKERS) as pool:
            places = list(pool.map(_places, self.paths))
        self.lengths = [len(each) - 1 for each in places]
        self._starts = np.cumsum([0, *self.lengths])
        self._places = places

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> bytes:
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        place, following = self._places[file][row - self._starts[file] :][:2]
        with self.paths[file].open("rb", buffering=0) as opened:
            content = os.pread(opened.fileno(), int(following - place), int(place))
        length = len(content) - BEFORE - BEHIND
        if len(content) != following - place or struct.unpack_from("<Q", content)[0] != length:
            raise ValueError(f"{self.paths[file]} is not what it was when it was first read")
        return content[BEFORE:-BEHIND]


def _places(path: Path) -> np.ndarray:
    """Where each record of a file begins, and where the last one ends, int64 [records + 1]."""
    status = path.stat()
    stamp = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    kept = cache / "tfbig" / "tfrecords" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.npy"
    # A crash may have left an empty or torn one
    with contextlib.suppress(OSError, ValueError, EOFError):
        places = np.load(kept)
        if _fit(places, status.st_size):
            return places
    places = _walked(path, status.st_size)
    with contextlib.suppress(OSError):  # it is walked again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".npy", delete=False) as file:
            np.save(file, places)
        os.replace(file.name, kept)
    return places


def _fit(places, size: int) -> bool:
    """Whether these may be the places of a file's records."""
    if not isinstance(places, np.ndarray) or places.dtype != np.int64 or places.ndim != 1:
        return False
    edges_fit = places.size > 0 and places[0] == 0 and places[-1] == size
    return bool(edges_fit and (np.diff(places) >= BEFORE + BEHIND).all())


def _walked(path: Path, size: int) -> np.ndarray:
    places, place = [0], 0
    with path.open("rb", buffering=0) as file:
        while place < size:
            head = os.pread(file.fileno(), 8, place)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            place += BEFORE + length + BEHIND
            if place > size:
                raise ValueError(f"{path}: expected whole records. Received: a torn one")
            places.append(place)
    return np.array(places, np.int64)
