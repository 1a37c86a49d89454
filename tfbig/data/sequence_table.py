"""Your own labelled DNA or RNA: a table, a table for each split, or FASTA for each class."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.folders import files_inside
from tfbig.core.lazy import np
from tfbig.core.spelling import name_of
from tfbig.data import _tables as tables
from tfbig.data._labelled_sequences import LabelledSequences, Rows
from tfbig.data._placed import placed
from tfbig.prep.nucleotides import NUCLEOTIDES
from tfbig.prep.sequence_files import FASTA, records, text_of

TABLES = (*tables.SEPARATORS, *tables.LINES)
NOTHING = ("", "na", "nan")  # cells without a sequence, whose letters could be bases


@dataclass(frozen=True)
class Row:
    """A sequence as it is read.

    Attributes:
        place: for messages: the file, and the line or the record.
        title: what it is called.
    """

    place: str
    title: str
    letters: str
    label: str
    split: str
    group: str


@dataclass(frozen=True, kw_only=True)
class SequenceTable(LabelledSequences):
    """Your own labelled sequences.

    CSV or TSV with a header, or JSON lines; a folder with such tables named train, test and perhaps
    validation; or a folder with FASTA of each class: PATH/CLASS.fa or PATH/CLASS/*.fa, perhaps
    inside of PATH/train, PATH/test and PATH/validation. Files may be packed as .gz or .xz.
    """

    path: str = knob("", "the file or folder", path=True)
    sequence: str = knob("sequence", "column (key of JSON lines) of the sequence")
    label: str = knob("label", "column of the label")
    split: str = knob(
        "", "column that names each row's split: train, validation, test; empty: divided here"
    )
    group: str = knob(
        "",
        "column of the group, such as a gene or chromosome, that may not stand in two splits; of"
        " FASTA: title; empty: there is none",
    )
    group_pattern: str = knob(
        "",
        "regular expression whose first match in the group's cell is the group; empty: all of it",
    )

    @classmethod
    def smallest(cls, folder):
        """Sequences with one motif or another."""
        random = np.random.RandomState(0)
        lines = ["sequence,label"]
        for i in range(120):
            motif, label = (("TATAAA", "tata"), ("GGGCGG", "gc"))[i % 2]
            before, after = ("".join(random.choice(list("ACGT"), n)) for n in (i % 7, i // 2 % 9))
            lines.append(f"{before}{motif}{after},{label}")
        (folder / "sequences.csv").write_text("\n".join(lines), "utf-8")
        return cls(path=str(folder / "sequences.csv"), validation=0.2, test=0.2)

    def problems(self):
        yield from super().problems()
        if not self.path:
            expected = "expected a table of sequences and labels, or a folder with FASTA by class"
            yield "path", Needed(f"{expected}. Received: nothing. Set data.path=PATH.")
        try:
            re.compile(self.group_pattern)
        except re.error as error:
            message = "expected a regular expression. Received:"
            yield "group_pattern", f"{message} {self.group_pattern} ({error})."
        if self.group_pattern and not self.group:
            yield "group_pattern", "expected with data.group alone. Received: no data.group."

    def check(self):
        self._files()

    @property
    def root(self) -> Path:
        return Path(self.path).expanduser()

    def _files(self) -> list[Path]:
        """The table, or the files of a folder."""
        if not self.root.exists():
            raise UserError(
                f"data.path: expected a file or folder. Received: {self.path}, which does not"
                " exist."
            )
        files = files_inside(self.root) if self.root.is_dir() else [self.root]
        wanted = TABLES if self.root.is_file() else (*TABLES, *FASTA)
        usable = [file for file in files if tables.ending(file) in wanted]
        if not usable:
            what = "a file" if self.root.is_file() else "a folder with files"
            raise UserError(
                f"data.path: expected {what} ending in {', '.join(wanted)}, perhaps packed as"
                f" {' or '.join(tables.PACKED)}. Received: {self.root}. FASTA is read from a"
                " folder with a file for each class."
            )
        return usable

    def fingerprint(self):
        names = ("sequence", "label", "split", "group", "group_pattern")
        digest = hashlib.sha256(repr([getattr(self, name) for name in names]).encode())
        for file in self._files():
            digest.update(str(file.relative_to(self.root)).encode("utf-8", "surrogateescape"))
            digest.update(hashlib.sha256(tables.read(file)).digest())
        return digest.hexdigest()

    def rows(self):
        read = list(self._all())
        kept = [row for row in read if row.letters.lower() not in NOTHING]
        if not kept:
            raise UserError(f"{self.root}: expected sequences. Received: none.")
        sequences = [NUCLEOTIDES.numbers(row.letters, row.place) for row in kept]
        empty = len(read) - len(kept)
        notes = (f"{empty:,} rows are left out, whose sequence is empty or nan",) if empty else ()
        names = tuple(sorted({row.label for row in kept}, key=tables.in_order))
        if not 2 <= len(names) <= max(100, len(kept) // 2):
            raise UserError(
                f"{self.root}: expected at least 2 labels, each several times. Received:"
                f" {len(names):,} different ones in {len(kept):,} rows."
            )
        numbers = {name: number for number, name in enumerate(names)}
        splits = [row.split for row in kept]
        return Rows(
            sequences=sequences,
            labels=np.array([numbers[row.label] for row in kept], np.int32),
            names=names,
            titles=[row.title for row in kept],
            groups=[self._group(row) for row in kept] if self.group else [],
            splits=splits if any(splits) else [],
            notes=(*notes, *self._others()),
        )

    def _all(self) -> Iterator[Row]:
        fasta = []
        for file in self._files():
            if tables.ending(file) in TABLES:
                yield from self._of_table(file)
            else:
                fasta.append(file)
        yield from self._of_fasta(fasta)

    def _of_table(self, file: Path) -> Iterator[Row]:
        split = ""
        if file != self.root:  # one of a folder's
            split = tables.split_named(file.name.partition(".")[0], str(file))
        for place, row in tables.rows_of(file):
            letters, label = (self._cell(row, name, place) for name in (self.sequence, self.label))
            if self.split:
                split = tables.split_named(self._cell(row, self.split, place), place)
            group = self._cell(row, self.group, place) if self.group else ""
            if not label:
                raise UserError(f"{place}: expected a label under {self.label!r}. Received: none.")
            title = place.removeprefix(f"{file}, ")
            yield Row(place, title, "".join(letters.split()), name_of(label), split, group)

    def _cell(self, row: dict, column: str, place: str) -> str:
        if column not in row:
            raise UserError(
                f"{place}: expected a column {column!r}. Received: {', '.join(map(repr, row))}."
                " Name the columns by data.sequence, data.label, data.split and data.group."
            )
        value = row[column]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, (str, int)):
            raise UserError(
                f"{place}: expected text under {column!r}. Received: {json.dumps(value)[:40]}."
            )
        return str(value).strip()

    def _of_fasta(self, files: list[Path]) -> Iterator[Row]:
        """FASTA of classes: by the names of folders, or of files that stand in none."""
        if files and self.group not in ("", "title"):
            raise UserError(f"data.group: expected title for FASTA. Received: {self.group}.")
        for file, (split, label) in zip(files, placed(self.root, files, _class_of), strict=True):
            name = str(file)
            for title, letters in records(text_of(tables.read(file), name), name):
                yield Row(f"{name}: {title}", title, letters, label, split, title)

    def _group(self, row: Row) -> str:
        match = re.search(self.group_pattern, row.group)
        if match is None or not row.group:
            raise UserError(
                f"{row.place}: expected a group that fits data.group_pattern. Received:"
                f" {row.group!r}."
            )
        return match[0] if self.group_pattern else row.group

    def _others(self) -> tuple[str, ...]:
        """A line about files of a folder that are not read."""
        if self.root.is_file():
            return ()
        others = sorted(set(files_inside(self.root)) - set(self._files()))
        if not others:
            return ()
        return (f"{len(others):,} files are left out of the folder, such as {others[0].name}",)

    def source_card(self):
        return {
            "title": f"Labelled sequences in {self.root.name}",
            "source": self.path,
            "licence": "the user's own",
            "citation": "none",
        }


def _class_of(file: Path) -> str:
    """The class that FASTA is called by: its name without endings."""
    unpacked = file.with_suffix("") if file.suffix.lower() in tables.PACKED else file
    return unpacked.stem
