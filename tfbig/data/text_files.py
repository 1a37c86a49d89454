"""Text of the user's own: a file, a folder of text files, or JSON lines."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.folders import is_hidden
from tfbig.data._packed import PACKED, ending, reading, unpacked
from tfbig.data._text import TextWindows
from tfbig.prep import text as prep

LARGE = 64 * 2**20  # bytes; a file of at least as many is read in parts
PART = 2**20  # bytes of each part
KINDS = 5  # of files left out that are named
PLAIN = (".txt", ".md", ".text")
LINES = (".jsonl", ".ndjson")
REMEDY = "Convert the file to UTF-8, or set data.errors=replace."
JSON_KINDS = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True, kw_only=True)
class TextFiles(TextWindows):
    """Text of the user's own.

    A file, a folder searched for .txt and .md, or JSON lines; .gz and .xz are unpacked.

    In a folder, hidden files and folders are not read; linked folders are, each once. Files with
    other endings are left out and reported.

    Each plain file is one document unless `separator` cuts it, or it is longer than LARGE: then it
    is read in parts, cut at line ends, each a document. Each JSON line is one.
    """

    path: str = knob("", "the file or folder", path=True)
    field: str = knob("text", "JSON lines: the key that holds the text")
    separator: str = knob(
        "",
        r"text between the documents of a plain file, such as \n\n; empty: a file is one document",
    )
    errors: str = knob(
        "strict", "invalid UTF-8: refuse it, or replace it by U+FFFD", choices=("strict", "replace")
    )

    @classmethod
    def smallest(cls, folder):
        """Verses of a counting song."""
        verses = (f"{i} green bottles hanging on the wall." for i in range(200))
        (folder / "song.txt").write_text("\n\n".join(verses), "utf-8")
        return cls(path=str(folder / "song.txt"), context=16)

    def problems(self):
        yield from super().problems()
        if not self.path:
            yield (
                "path",
                Needed(
                    "expected a file or folder with text. Received: nothing. Set data.path=PATH."
                ),
            )

    def check(self):
        self._files()

    def _files(self) -> list[Path]:
        path = Path(self.path).expanduser()
        if path.is_file():
            return [path]
        if not path.is_dir():  # said when it is read, since a run can be used where its text is not
            raise UserError(
                f"data.path: expected a file or folder. Received: {self.path}, which does not"
                " exist."
            )
        texts = [file for file in _inside(path) if _is_text(file)]
        if not texts:
            endings = f"{', '.join(PLAIN + LINES)}, packed or not ({', '.join(PACKED)})"
            received = f"{path}, which holds none that is not hidden"
            raise UserError(
                f"data.path: expected a folder with files ending in {endings}. Received:"
                f" {received}."
            )
        return texts

    def notes(self):
        return [*self._files_left_out(), *self._separator_missing(), *super().notes()]

    def _separator_missing(self) -> list[str]:
        """Says that a separator is in none of the files, which are a document each then."""
        files = [file for file in self._files() if ending(unpacked(file)) not in LINES]
        if not self.separator or not files or self._opened[0]["cleaning"]["read"] > len(files):
            return []
        return [f"data.separator: {self.separator!r} stands in no file, so each is one document"]

    def _files_left_out(self) -> list[str]:
        path = Path(self.path).expanduser()
        if path.is_file() and not _is_text(path):
            sentence = (
                f"{path} is read as plain text, whatever its name says; JSON lines end in"
                f" {' or '.join(LINES)}"
            )
            return [sentence]
        others = [file for file in _inside(path) if not _is_text(file)] if path.is_dir() else []
        if not others:
            return []
        kinds = Counter(_kind(file) for file in others)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(KINDS))
        more = f", {len(kinds) - KINDS:,} other kinds" if len(kinds) > KINDS else ""
        first = others[0].relative_to(path)
        sentence = (
            f"{len(others):,} files of {path} left out, since they are no text files by their"
            f" names: {counts}{more}; the first: {first}"
        )
        return [sentence]

    def content(self):
        digest = hashlib.sha256(repr((self.field, self.separator, self.errors)).encode())
        for path in self._files():
            try:
                with path.open("rb") as file:
                    digest.update(
                        hashlib.file_digest(file, "sha256").digest() + ending(path).encode()
                    )
                # The same bytes, read otherwise
                if ending(path) in PACKED and ending(unpacked(path)) in LINES:
                    digest.update(b"lines")
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
        return digest.hexdigest()

    def documents(self):
        for path in self._files():
            texts = self._lines(path) if ending(unpacked(path)) in LINES else self._plain(path)
            for number, (place, text) in enumerate(texts):
                yield None, place or f"{path}:{number}", text

    def _plain(self, path: Path) -> Iterator[tuple[None, str]]:
        separator = prep.newlines(prep.unescape(self.separator))
        rest = ""
        empty = True
        for first_byte, first_line, content in _parts(path):
            text = prep.decode(
                content,
                str(path),
                self.errors,
                first_byte=first_byte,
                first_line=first_line,
                remedy=REMEDY,
            )
            empty = empty and not text.strip()
            *whole, rest = (rest + text).split(separator) if separator else (text, "")
            yield from ((None, document) for document in whole)
            if len(rest) > LARGE:
                yield None, rest
                rest = ""
        if empty:
            raise UserError(f"{path}: expected text. Received: an empty file.")
        if separator:
            yield None, rest

    def _lines(self, path: Path) -> Iterator[tuple[str, str]]:
        for number, line in enumerate(reading(path, iter), 1):
            line = line.removesuffix(b"\n")
            if not line.strip():
                continue
            place = f"{path}, line {number:,}"
            try:
                value = json.loads(prep.decode(line, place, self.errors, remedy=REMEDY))
            except ValueError as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(
                    f"{place}: expected a JSON object. Received: {line[:40]!r} ({error})."
                ) from error
            except RecursionError as error:
                raise UserError(
                    f"{place}: expected a JSON object. Received: {line[:40]!r}, nested too deeply."
                ) from error
            if not isinstance(value, dict) or not isinstance(value.get(self.field), str):
                raise UserError(
                    f"{place}: expected text under {self.field!r} (data.field). "
                    f"Received: {_received(value, self.field)}."
                )
            prep.refuse_surrogates(value[self.field], place)
            yield place, prep.newlines(value[self.field])

    def source_card(self):
        return {
            "title": f"Text in {Path(self.path).name}",
            "source": self.path,
            "licence": "the user's own",
            "citation": "none",
        }


def _received(value, field: str) -> str:
    """What a line of JSON holds instead of a text, in words."""
    if not isinstance(value, dict):
        return f"{JSON_KINDS[type(value)]}, not an object"
    if field not in value:
        return f"an object with {', '.join(map(repr, value)) or 'nothing in it'}"
    return f"{JSON_KINDS[type(value[field])]} under it"


def _inside(folder: Path) -> list[Path]:
    """The files in a folder and those inside it, linked ones too, sorted; hidden ones are left out.

    A folder that several links lead to is read once, so that circular links end.
    """

    def refuse(error: OSError):
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}.") from error

    files = []
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        files += [Path(root, name) for name in names if not is_hidden(name)]
    return sorted(files)


def _is_text(path: Path) -> bool:
    return ending(unpacked(path)) in PLAIN + LINES and path.is_file()


def _kind(path: Path) -> str:
    """The kind of a file that is no text file, by its name."""
    if path.is_symlink() and not path.exists():
        return "links that lead nowhere"
    if not path.is_file():
        return "no regular files"
    return ending(path) or "without an ending"


def _parts(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """A file's content, unpacked, as (first byte, first line, content).

    It comes at once if it is small, else in parts cut behind line ends.
    """
    beginning = b"".join(reading(path, lambda file: iter([file.read(LARGE)])))
    if len(beginning) < LARGE:
        yield 0, 1, beginning
        return
    first_byte, first_line, rest = 0, 1, b""
    for content in reading(path, lambda file: iter(lambda: file.read(PART), b"")):
        content = rest + content
        end = content.rfind(b"\n") + 1 or _character_end(content)
        rest = content[end:]
        yield first_byte, first_line, content[:end]
        first_byte += end
        first_line += content.count(b"\n", 0, end)
    if rest:
        yield first_byte, first_line, rest


def _character_end(content: bytes) -> int:
    """Where the last whole character before the end begins; what is no UTF-8 is cut anywhere."""
    return next(
        (
            i
            for i in range(len(content) - 1, max(0, len(content) - 5), -1)
            if content[i] & 0xC0 != 0x80
        ),
        len(content),
    )
