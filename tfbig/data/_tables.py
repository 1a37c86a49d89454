"""Tables in CSV, TSV and JSON lines: their rows, by the names of their columns."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.core.spelling import MISSING
from tfbig.data._swallowed_rows import SwallowedRows
from tfbig.prep import text as prep

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
LINES = (".jsonl", ".ndjson")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
PACKED = (".gz", ".xz")
MOST_FIELD = 2**27  # characters of a cell
OTHERS = (";", "\t", "|", ",")  # what stands between columns in tables of other endings
DOUBLED = 'Put such a text between quotes, each quote inside of it doubled: """Open".'


def rows(
    lines: Iterable[str], name: str, separator: str, *, quotes: bool = True
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row behind the header, and the place that messages name.

    Args:
        lines: of the file, with their ends.
        name: of the file, for messages.
        separator: between cells.
        quotes: whether a cell may stand between quotes and then hold separators and ends of lines;
            otherwise a quote is a character like others.

    Raises:
        UserError: a quote is not closed, or it swallows rows, or cells are too few or too many.
    """
    csv.field_size_limit(MOST_FIELD)
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
    try:
        header = _header(next(reader, []), name, separator)
        swallowed = SwallowedRows(len(header), separator)
        last = reader.line_num
        for cells in reader:
            first, last = last + 1, reader.line_num
            if not cells:
                continue
            place = f"{name}, line {last:,}"
            if len(cells) != len(header):
                raise UserError(
                    f"{place}: expected {len(header)} cells, as the header has. Received:"
                    f" {len(cells)}. Put texts that hold a separator between quotes."
                )
            # Texts of several lines have commas, but hardly ever tabs
            if separator == "\t" and any("\n" in cell and "\t" in cell for cell in cells):
                raise _swallowed(name, first, last, "tabs")
            swallowed.see(cells, first, last)
            yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num:,}: {error}. {DOUBLED}") from error
    lines_between = swallowed.found()
    if lines_between:
        raise _swallowed(name, *lines_between, "what looks like rows")


def _swallowed(name: str, first: int, last: int, between: str) -> UserError:
    return UserError(
        f"{name}: expected quotes around single cells. Received: a quote that is opened in line"
        f" {first:,} and closed in line {last:,}, with {between} between. {DOUBLED}"
    )


def _header(cells: list[str], name: str, separator: str) -> list[str]:
    """The names of columns, without blanks around them."""
    header = [cell.strip() for cell in cells]
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise UserError(f"{name}: expected each column once. Twice: {twice[0]!r}.")
    other = next((mark for mark in OTHERS if len(header) == 1 and mark in header[0]), None)
    if other and other != separator:
        raise UserError(
            f"{name}: expected columns with {separator!r} between them. Received: {header[0]!r},"
            f" with {other!r}. Save it with {separator!r}"
            + (", or call it .tsv." if other == "\t" else ".")
        )
    return header


def read(path: Path) -> bytes:
    """A file's content, unpacked where its name says that it is packed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix.lower())
    try:
        return unpack(content) if unpack else content
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path}: cannot be unpacked: {error}.") from error


def ending(path: Path) -> str:
    """A file's ending, that of what is packed if it is."""
    inner = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return inner.suffix.lower()


def missing(texts: Iterable[str], noun: str) -> list[str]:
    """A line about texts that may be cells without any."""
    found = Counter(text for text in map(str.strip, texts) if text in MISSING)
    if not found:
        return []
    words = ", ".join(sorted(found))
    return [
        f"{found.total():,} {noun} are {words}, as programs write cells that hold nothing; they are"
        " read as texts"
    ]


def rows_of(path: Path) -> Iterator[tuple[str, dict]]:
    """The rows of a table, CSV or TSV by its ending, JSON lines otherwise, each with its place."""
    content = prep.decode(read(path), str(path))
    separator = SEPARATORS.get(ending(path))
    if separator:
        return rows(io.StringIO(content), str(path), separator)
    return _of_lines(content, str(path))


def _of_lines(content: str, name: str) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number:,}"
        yield place, json_object(line, place)


def json_object(line: str, place: str) -> dict:
    """The JSON object of a line; the same key twice is refused."""

    def once(pairs: list[tuple[str, object]]) -> dict:
        row = dict(pairs)
        if len(row) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise UserError(f"{place}: expected each key once. Twice: {twice!r}.")
        return row

    try:
        row = json.loads(line, object_pairs_hook=once)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        remedy = " Write an object in each line: jq -c '.[]' OLD > NEW." * line.startswith("[")
        raise UserError(
            f"{place}: expected a JSON object. Received: {line[:40]!r} ({error}).{remedy}"
        ) from error
    if not isinstance(row, dict):
        remedy = " Write an object in each line: jq -c '.[]' OLD > NEW." * isinstance(row, list)
        raise UserError(f"{place}: expected a JSON object. Received: {type(row).__name__}.{remedy}")
    return row


def split_named(name: str, place: str) -> str:
    """The split that a table calls by one of its usual names."""
    split = SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise UserError(
            f"{place}: expected one of {', '.join(SPLITS)} as split. Received: {name[:40]!r}."
        )
    return split


def in_order(name: str) -> tuple:
    """Sorts whole numbers by their values, and names behind them."""
    return (0, int(name), name) if re.fullmatch(r"-?\d{1,18}", name) else (1, 0, name)
