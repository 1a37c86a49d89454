"""Arrays on the disk, written and read in parts, and how two of them differ.

Imports nothing of this package: processes that examine artefacts use it too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


class Writer:
    """Writes an array whose rows come in parts; bytes as one block and the places where they end.

    `path` names three files: PATH.data, PATH.json, and for bytes PATH.ends.
    """

    def __init__(self, path: Path):
        self.path = str(path)
        self.rows = 0
        self.ends = []
        self.dtype = "float32"
        self.row = ()
        self.file = Path(f"{path}.data").open("wb")  # noqa: SIM115 - closed by `close`

    def add(self, rows: np.ndarray) -> None:
        """Adds rows [n, ...] to those that are there."""
        self.row = rows.shape[1:]
        self.rows += len(rows)
        self._write(rows)

    def _write(self, rows: np.ndarray) -> None:
        if rows.dtype.kind in "OS":
            self.dtype = "bytes"
            for item in rows.reshape(-1):
                self.file.write(item)
                self.ends.append(self.file.tell())
        else:
            self.dtype = rows.dtype.name
            self.file.write(np.ascontiguousarray(rows).tobytes())

    def close(self) -> str:
        """Ends the array; returns what `read` takes."""
        return self._close([self.rows, *self.row])

    def _close(self, shape: list[int]) -> str:
        self.file.close()
        if self.dtype == "bytes":
            np.array(self.ends, np.int64).tofile(f"{self.path}.ends")
        meta = {"dtype": self.dtype, "shape": shape}
        Path(f"{self.path}.json").write_text(json.dumps(meta), "utf-8")
        return self.path


class Bytes:
    """Bytes on the disk, [n, ...]; rows of them are read when they are asked for."""

    dtype = np.dtype(object)

    def __init__(self, path: str, shape: tuple[int, ...]):
        self.path = path
        self.shape = shape
        self.ndim = len(shape)
        self.ends = np.fromfile(f"{path}.ends", np.int64)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        places = np.arange(len(self.ends)).reshape(self.shape)[rows]
        with Path(f"{self.path}.data").open("rb") as file:
            items = [self._item(file, place) for place in places.reshape(-1)]
        array = np.empty(len(items), object)
        array[:] = items
        return array.reshape(places.shape)

    def _item(self, file, place: int) -> bytes:
        start = int(self.ends[place - 1]) if place else 0
        file.seek(start)
        return file.read(int(self.ends[place]) - start)


def save(path: Path, array: np.ndarray) -> str:
    """Writes a whole array, a scalar too; returns what `read` takes."""
    writer = Writer(path)
    writer._write(array)
    return writer._close(list(array.shape))


def read(path: str) -> np.ndarray | Bytes:
    """What was written, as it is on the disk: rows come into memory when they are used."""
    meta = json.loads(Path(f"{path}.json").read_text("utf-8"))
    shape = tuple(meta["shape"])
    if meta["dtype"] == "bytes":
        return Bytes(path, shape)
    if not all(shape):
        return np.zeros(shape, meta["dtype"])
    return np.memmap(f"{path}.data", meta["dtype"], "r", shape=shape)


class Differences:
    """How outputs differ from those expected.

    For each name the largest difference of numbers (relative to 1 + |expected|), or how many texts
    and whole numbers differ.
    """

    def __init__(self):
        self.outputs: dict[str, dict] = {}

    def add(self, actual: dict, expected: dict) -> None:
        """Compares some rows of each output."""
        for name, value in expected.items():
            if name not in actual or actual[name].shape != value.shape:
                self.outputs[name] = {"missing": True}
            elif not self.outputs.get(name, {}).get("missing"):
                self._compare(name, actual[name], value)

    def _compare(self, name: str, actual: np.ndarray, expected: np.ndarray) -> None:
        if expected.dtype.kind != "f":
            before = self.outputs.get(name, {"changed": 0})["changed"]
            self.outputs[name] = {"changed": before + int((actual != expected).sum())}
            return
        before = self.outputs.get(name, {"largest": 0.0})["largest"]
        gap = np.abs(actual.astype(np.float64) - expected) / (1 + np.abs(expected))
        finite = before is not None and bool(np.isfinite(gap).all())
        largest = max(before, float(gap.max(initial=0.0))) if finite else None
        self.outputs[name] = {"largest": largest}

    @property
    def largest(self) -> float | None:
        """Of all outputs; None where one is missing or not finite."""
        if any(
            output.get("missing") or output.get("largest", 0.0) is None
            for output in self.outputs.values()
        ):
            return None
        return max((output.get("largest", 0.0) for output in self.outputs.values()), default=0.0)
