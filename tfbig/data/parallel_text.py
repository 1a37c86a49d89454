"""Pairs of texts of the user's own: two files a split, a table, or JSON lines."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.folders import is_hidden
from tfbig.data import _tables as tables
from tfbig.data._packed import PACKED, ending, reading, unpacked
from tfbig.data._pairs import TextPairs
from tfbig.prep import text as prep

TABLES = (".tsv", ".csv")
MOST_RETURNS = 100  # carriage returns inside of a line
LINES = (".jsonl", ".ndjson")
SHOWN = 4  # names in a line
STEMS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


@dataclass(frozen=True, kw_only=True)
class ParallelText(TextPairs):
    """Pairs of texts of the user's own; .gz and .xz are unpacked.

    A folder with train.SOURCE and train.TARGET, such as train.de and train.en, line by line, and
    the same for validation (also valid, val, dev) and test if there are any; or one .tsv, .csv or
    .jsonl file, whose columns or keys `source` and `target` name, with a column "split" if it has
    one; keys may stand inside of "translation". Splits that are not given are made here.
    """

    path: str = knob("", "the folder or file", path=True)
    source: str = knob("source", "the source language's file ending, column or key, such as de")
    target: str = knob("target", "the target language's, such as en")
    validation_file: str = knob(
        "", "folder: name of the validation files without their ending; empty: the usual ones"
    )
    test_file: str = knob(
        "", "folder: name of the test files without their ending, such as test_2016_flickr"
    )

    @classmethod
    def smallest(cls, folder):
        """Numbers of things in a language with other words, which counts behind the thing."""
        numbers = {"one": "un", "two": "du", "three": "tri", "four": "kvar", "five": "kvin"}
        colours = {"red": "rug", "green": "verd", "blue": "blu"}
        things = {f"{a}{b}": f"{b}{a}o" for a in "bkl" for b in "aeiou"}
        lines = [
            (f"{n} {c} {t}", f"{things[t]} {numbers[n]} {colours[c]}")
            for n, c, t in itertools.product(numbers, colours, things)
        ]
        # Half of the lines are as short as can be
        lines += [(t, things[t]) for t in things] + [(n, numbers[n]) for n in numbers]
        lines += [
            (f"{n} {t}", f"{things[t]} {numbers[n]}") for n, t in itertools.product(numbers, things)
        ]
        for number, name in enumerate(("train.en", "train.eo")):
            text = "\n".join(pair[number] for pair in lines)
            (folder / name).write_text(text + "\n", "utf-8")
        return cls(
            path=str(folder),
            source="en",
            target="eo",
            tokenizer="characters",
            max_source=24,
            max_target=24,
            validation=0.1,
            test=0.1,
        )

    def problems(self):
        yield from super().problems()
        if not self.path:
            expected = "expected a folder or file of pairs. Received: nothing"
            yield "path", Needed(f"{expected}. Set data.path=PATH.")
        if self.source == self.target:
            yield "target", f"expected another one than data.source. Received: {self.target}."

    def check(self):
        self._files()

    def content(self):
        chosen = (self.source, self.target, self.validation_file, self.test_file)
        digest = hashlib.sha256(repr(chosen).encode())
        for path in itertools.chain.from_iterable(self._files().values()):
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
            digest.update(content + path.name.encode())
        return digest.hexdigest()

    def pairs(self):
        for split, paths in self._files().items():
            if len(paths) == 2:
                yield from self._side_by_side(split, *paths)
            elif ending(unpacked(paths[0])) in LINES:
                yield from self._json_lines(paths[0])
            else:
                yield from self._table(paths[0])

    def notes(self):
        """Also a line about files of a folder that are not read."""
        lines = super().notes()
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            return lines
        read = set(itertools.chain.from_iterable(self._files().values()))
        others = [file.name for file in _visible(folder) if file not in read]
        if others:
            more = ", ..." if len(others) > SHOWN else ""
            lines.append(
                f"{len(others):,} files of the folder are not read: {', '.join(others[:SHOWN])}"
                f"{more}; data.validation_file and data.test_file name others"
            )
        return lines

    def source_card(self):
        return {
            "title": f"Pairs of {self.source} and {self.target} in {Path(self.path).name}",
            "source": self.path,
            "licence": "the user's own",
            "citation": "none",
        }

    def _files(self) -> dict[str, list[Path]]:
        """Of a folder: split -> the files of source and target; else "file" -> the file."""
        path = Path(self.path).expanduser()
        if path.is_file():
            if ending(unpacked(path)) not in TABLES + LINES:
                endings = ", ".join(TABLES + LINES)
                raise UserError(
                    f"data.path: expected a folder, or a file that ends in {endings}, packed or"
                    f" not. Received: {path}."
                )
            return {"file": [path]}
        if not path.is_dir():
            raise UserError(
                f"data.path: expected a folder or file. Received: {self.path}, which does not"
                " exist."
            )
        return self._files_of(path)

    def _files_of(self, folder: Path) -> dict[str, list[Path]]:
        inside = _visible(folder)
        sides = {
            language: _of_language(inside, language) for language in (self.source, self.target)
        }
        both = [stem for stem in sides[self.source] if stem in sides[self.target]]
        if "train" not in both:
            expected = f"train.{self.source} and train.{self.target}"
            received = ", ".join(file.name for file in inside[:8]) or "no files"
            raise UserError(
                f"data.path: expected a folder with {expected}, packed or not"
                f" ({', '.join(PACKED)}). Received: {folder} with {received}. Set data.source and"
                " data.target to the endings of its files."
            )
        stems = {
            "train": "train",
            "validation": self._stem("validation", self.validation_file, both),
            "test": self._stem("test", self.test_file, both),
        }
        return {
            split: [sides[language][stem] for language in (self.source, self.target)]
            for split, stem in stems.items()
            if stem
        }

    def _stem(self, split: str, named: str, stems: list[str]) -> str:
        """The name of a split's files without their ending; empty if there are none."""
        if named:
            if named not in stems:
                raise UserError(
                    f"data.{split}_file: expected one of {', '.join(stems)}. Received: {named!r}."
                )
            return named
        usual = [stem for stem in stems if stem in STEMS[split]]
        others = [stem for stem in stems if stem.startswith(STEMS[split]) and stem not in usual]
        choice = usual or others or [""]
        if len(choice) > 1:
            raise UserError(
                f"data.{split}_file: expected the name of one of {', '.join(choice)}. Received:"
                " nothing."
            )
        return choice[0]

    def _side_by_side(self, split: str, *paths: Path) -> Iterator:
        sides = [_lines(path) for path in paths]
        for number, lines in enumerate(itertools.zip_longest(*sides), 1):
            if None in lines:
                shorter, longer = (paths[i] for i in _ended_first(lines))
                raise UserError(
                    f"{shorter}: expected as many lines as {longer.name} has, one for each pair."
                    f" Received: {number - 1:,} lines, and more there."
                )
            yield split, f"{paths[0]}, line {number:,}", *lines

    def _json_lines(self, path: Path) -> Iterator:
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            place = f"{path}, line {number:,}"
            row = tables.json_object(line, place)
            inner = row.get("translation")  # as Hugging Face keeps pairs
            yield self._named({**row, **inner} if isinstance(inner, dict) else row, place)

    def _table(self, path: Path) -> Iterator:
        separator = tables.SEPARATORS[ending(unpacked(path))]
        lines = (f"{line}\n" for line in _lines(path))
        # In files of pairs that tabs divide, a quote is a character like others
        for place, row in tables.rows(lines, str(path), separator, quotes=separator == ","):
            yield self._named(row, place)

    def _named(self, value: dict, place: str) -> tuple:
        texts = [value.get(name) for name in (self.source, self.target)]
        if not all(isinstance(text, str) for text in texts):
            known = ", ".join(map(str, value))
            raise UserError(
                f"{place}: expected texts under {self.source!r} (data.source) and {self.target!r}"
                f" (data.target). Received: {known}."
            )
        for text in texts:
            prep.refuse_surrogates(text, place)
        named = value.get("split")
        if named is None:
            return None, place, *texts
        return tables.split_named(str(named), place), place, *texts


def _visible(folder: Path) -> list[Path]:
    """The files in a folder, sorted."""
    return sorted(file for file in folder.iterdir() if file.is_file() and not is_hidden(file.name))


def _of_language(files: list[Path], language: str) -> dict[str, Path]:
    """The files of a language, by their names without its ending."""
    found: dict[str, Path] = {}
    for file in files:
        if unpacked(file).suffix != f".{language}":
            continue
        stem = unpacked(file).stem
        if stem in found:
            raise UserError(
                f"data.path: expected one file {stem}.{language}, packed or not. Received:"
                f" {found[stem].name} and {file.name} in {file.parent}. Take one of them out."
            )
        found[stem] = file
    return found


def _ended_first(lines: tuple) -> tuple[int, int]:
    """The places of the side that has ended and of the other one."""
    ended = lines.index(None)
    return ended, 1 - ended


def _lines(path: Path) -> Iterator[str]:
    """A file's lines as text, without their ends."""
    first_byte = 0
    for number, line in enumerate(reading(path, iter), 1):
        text = prep.decode(line, str(path), first_byte=first_byte, first_line=number)
        first_byte += len(line)
        text = text.removesuffix("\n")
        # Files of old Macs are one line to all others: no text has so many
        if text.count("\n") > MOST_RETURNS:
            raise UserError(
                f"{path}, line {number:,}: expected lines that end in \\n. Received: carriage"
                " returns alone. Convert it: tr '\\r' '\\n' < OLD > NEW."
            )
        yield text
