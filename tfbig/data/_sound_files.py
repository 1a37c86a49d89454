"""Files of sound in a user's folder or table, as recordings."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.folders import files_inside
from tfbig.core.lazy import np
from tfbig.core.spelling import name_of
from tfbig.data import _tables
from tfbig.data._recordings import Recording
from tfbig.prep import recordings
from tfbig.prep.recordings import SUFFIXES

ENDINGS = (*_tables.SEPARATORS, *_tables.LINES, ".json")
# Column names that are usual, for what no setting names
FILE = ("file", "audio_filepath", "path", "filename", "file_name", "audio", "wav")
TEXT = ("text", "transcript", "transcription", "sentence")
LABEL = ("label", "class", "word", "category", "command")
SPEAKER = ("speaker", "speaker_id", "client_id", "spk")
OFFSET, DURATION = "offset", "duration"  # of a part of a file, in manifests of JSON lines
DURATION_S = 0.2  # by how much a duration may be shorter than its file, for it is rounded


@dataclass(frozen=True, kw_only=True)
class Row:
    """A recording that a table or a folder names.

    Attributes:
        path: its file.
        words: its label or its transcript.
        speaker, split: empty where nothing says.
    """

    path: Path
    words: str
    speaker: str = ""
    split: str = ""


def opened(row: Row, rate_hz: int, **own) -> Recording:
    """A file as a recording of this rate; its length is read from its header."""
    count = recordings.length(row.path, rate_hz)
    return Recording(
        name=str(row.path),
        count=count,
        speaker=row.speaker,
        split=row.split,
        path=row.path,
        load=functools.partial(_load, row.path, rate_hz, count),
        **own,
    )


def _load(path: Path, rate_hz: int, count: int) -> np.ndarray:
    samples = recordings.read(_tables.read(path), str(path), rate_hz, count + 1)
    if len(samples) != count:
        raise UserError(
            f"{path}: expected {count:,} samples, as its header says. Received: {len(samples):,}."
            " The file is torn: mend it or take it out."
        )
    return samples


def sounds(folder: Path) -> list[Path]:
    """The files of sound inside a folder."""
    found = [path for path in files_inside(folder) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(
            f"data: {folder} holds no recording. Expected files ending in {', '.join(SUFFIXES)}."
        )
    return found


def table(path: Path, columns: dict[str, str], words: tuple[str, ...]) -> Iterator[Row]:
    """The recordings of a table with a row each.

    Args:
        path: of the table; files that it names stand relative to it.
        columns: "file", "words", "speaker", "split" -> the column's name; empty: a usual one.
        words: usual names of what is learnt.
    """
    usual = {"file": FILE, "words": words, "speaker": SPEAKER, "split": ("split",)}
    for place, row in _tables.rows_of(path):
        cells = {}
        for kind, names in usual.items():
            column = columns.get(kind) or next((name for name in names if name in row), "")
            needed = kind in ("file", "words") or columns.get(kind)
            if needed and column not in row:
                known = ", ".join(map(repr, row))
                wanted = repr(column) if column else f"one of {', '.join(names)}"
                raise UserError(
                    f"{place}: expected a column {wanted}. Received: {known}. Name the columns by"
                    " data.file, data.speaker, data.split and data.label or data.text."
                )
            cells[kind] = _cell(row.get(column), column, place)
        if not cells["file"]:
            raise UserError(f"{place}: expected the name of a file. Received: nothing.")
        split = _tables.split_named(cells["split"], place) if cells["split"] else ""
        # Common Voice has its recordings in clips, beside its tables
        candidates = [path.parent / cells["file"], path.parent / "clips" / cells["file"]]
        file = next((found for each in candidates if (found := existing(each))), None)
        if file is None:
            raise UserError(f"{place}: there is no file {candidates[0]}.")
        _refuse_part(row, file, place)
        words = name_of(cells["words"])
        yield Row(path=file, words=words, speaker=cells["speaker"], split=split)


def _cell(value, column: str, place: str) -> str:
    """A cell's text."""
    if isinstance(value, (list, dict)):
        raise UserError(
            f"{place}: expected text as {column!r}. Received: {type(value).__name__}. Name another"
            " column."
        )
    whole = isinstance(value, float) and value.is_integer()  # 1.0 is called as 1 is
    return "" if value is None else str(int(value) if whole else value).strip()


def _refuse_part(row: dict, file: Path, place: str) -> None:
    """Refuses a row that means a part of its file, for files are read whole."""
    offset, duration = (_number(row.get(name)) for name in (OFFSET, DURATION))
    if offset:
        received = f"an offset of {offset:g} s"
    elif duration:
        seconds = recordings.length(file, 1000) / 1000
        if seconds - duration <= max(DURATION_S, 0.02 * seconds):
            return
        received = f"a duration of {duration:g} s for a file of {seconds:.2f} s"
    else:
        return
    raise UserError(
        f"{place}: expected a whole file. Received: {received}. Parts of recordings are not read:"
        " cut them, one file for each row."
    )


def _number(value) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def left_out(folder: Path, rows: list[Row]) -> list[str]:
    """A line about the files of sound inside a folder that no row means, by their endings."""
    if not folder.is_dir():
        return []
    listed = {row.path for row in rows}
    rest = [path for path in files_inside(folder) if path not in listed]
    kinds = (*SUFFIXES, *recordings.OTHERS)
    endings = collections.Counter(
        path.suffix.lower() for path in rest if path.suffix.lower() in kinds
    )
    counts = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common())
    return [f"recordings in {folder} that are left out: {counts}"] if endings else []


def existing(path: Path) -> Path | None:
    """The file of this name, or with an ending of recordings where it has none; None: no file.

    Tables of Windows write folders with backslashes.
    """
    for each in (path, Path(str(path).replace("\\", "/"))):
        for ending in ("", *SUFFIXES) if each.name else ():
            found = each.with_name(each.name + ending)
            if found.is_file():
                return found
    return None


def is_table(path: Path) -> bool:
    return path.is_file() and _tables.ending(path) in ENDINGS
