"""Text of the user's own: a file, a folder of text files, or JSON lines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.contracts import knob
from tfbig.core.errors import UserError
from tfbig.data._text import TextWindows
from tfbig.prep import text as prep

PLAIN, LINES, PACKED = (".txt", ".md", ".text"), (".jsonl", ".ndjson"), (".xz", ".gz")


@dataclass(frozen=True, kw_only=True)
class TextFiles(TextWindows):
    """Text of the user's own: a file, a folder searched for .txt and .md, or JSON lines; .gz and .xz are unpacked.

    Each plain file is one document unless `separator` cuts it; each JSON line is one.
    """

    path: str = knob("", "the file or folder")
    field: str = knob("text", "JSON lines: the key that holds the text")
    separator: str = knob("", r"text between the documents of a plain file, such as \n\n; empty: a file is one document")
    errors: str = knob("strict", "invalid UTF-8: refuse it, or replace it by U+FFFD", choices=("strict", "replace"))

    def problems(self):
        yield from super().problems()
        if not self.path:
            yield "path", "expected a file or folder with text. Received: nothing. Set data.path=PATH."

    def _files(self) -> list[Path]:
        path = Path(self.path).expanduser()
        if path.is_file():
            return [path]
        if not path.is_dir():  # said when it is read, since a run can be used where its text is not
            raise UserError(f"data.path: expected a file or folder. Received: {self.path}, which does not exist.")
        suffixes = PLAIN + LINES
        inside = sorted(p for p in path.rglob("*") if p.is_file() and (p.suffix if p.suffix not in PACKED else Path(p.stem).suffix) in suffixes)
        if not inside:
            raise UserError(f"data.path: expected a folder with files ending in {', '.join(suffixes)}. Received: {path}, which holds none.")
        return inside

    def fingerprint(self):
        digest = hashlib.sha256(repr((self.field, self.separator, self.errors)).encode())
        for path in self._files():
            try:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest() + path.suffix.encode())
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
        return digest.hexdigest()

    def documents(self):
        for path in self._files():
            stem = Path(path.stem) if path.suffix in PACKED else path
            if stem.suffix in LINES:
                yield from self._lines(path)
            else:
                text = prep.decode(_read(path), str(path), self.errors)
                if not text.strip():
                    raise UserError(f"{path}: expected text. Received: an empty file.")
                separator = prep.unescape(self.separator)
                for number, part in enumerate(text.split(separator) if separator else [text]):
                    yield None, f"{path}:{number}", part

    def _lines(self, path: Path):
        for number, line in enumerate(_read(path).split(b"\n"), 1):
            if not line.strip():
                continue
            where = f"{path}, line {number:,}"
            try:
                value = json.loads(prep.decode(line, where, self.errors))
            except ValueError as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(f"{where}: expected a JSON object. Received: {line[:40]!r} ({error}).") from error
            except RecursionError as error:
                raise UserError(f"{where}: expected a JSON object. Received: {line[:40]!r}, nested too deeply.") from error
            if not isinstance(value, dict) or not isinstance(value.get(self.field), str):
                keys = ", ".join(value) if isinstance(value, dict) else type(value).__name__
                raise UserError(f"{where}: expected text under {self.field!r} (data.field). Received: {keys}.")
            prep.refuse_surrogates(value[self.field], where)
            yield None, where, value[self.field]

    def source_card(self):
        return {"title": f"Text in {Path(self.path).name}", "source": self.path, "licence": "the user's own", "citation": "none"}


def _read(path: Path) -> bytes:
    """A file's content, unpacked."""
    import gzip
    import lzma
    import zlib

    unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix, lambda content: content)
    try:
        return unpack(path.read_bytes())
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error
