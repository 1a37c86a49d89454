"""Your own labelled texts: a table in CSV, TSV or JSON lines, or a folder for each class."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.folders import files_inside
from tfbig.core.lazy import np
from tfbig.core.spelling import name_of
from tfbig.data import _tables as tables
from tfbig.data._labelled_texts import LabelledTexts, Rows
from tfbig.data._placed import placed
from tfbig.prep import text as prep

TEXTS = (".txt", ".md", ".text")
LARGEST = 1e18  # of numbers to learn, so that their squares are finite


@dataclass(frozen=True, kw_only=True)
class TextTable(LabelledTexts):
    """Your own labelled texts.

    CSV or TSV with a header, JSON lines, or a folder: PATH/CLASS/*.txt, or PATH/train/CLASS/*.txt
    beside PATH/test and perhaps PATH/validation.
    """

    path: str = knob("", "the file or folder", path=True)
    text: str = knob("text", "column (key of JSON lines) of the text")
    second: str = knob("", "column of the second text of a pair; empty: there is none")
    label: str = knob("label", "column of the label")
    split: str = knob(
        "", "column that names each row's split: train, validation, test; empty: divided here"
    )
    target: str = knob(
        "label",
        "what the label is: one label, several labels, or a number",
        choices=("label", "labels", "number"),
    )
    label_separator: str = knob(
        ";", "target=labels: stands between labels; JSON lines may also hold a list"
    )

    @classmethod
    def smallest(cls, folder):
        """Sentences whose words tell what they are about."""
        random = np.random.RandomState(0)
        words = {
            "animals": ["cat", "dog", "horse", "cow", "owl"],
            "tools": ["saw", "file", "axe", "plane", "vice"],
        }
        lines = ["text,label"]
        for i in range(100):
            name = ("animals", "tools")[i % 2]
            chosen = random.choice(words[name] + ["the", "a", "and"] * 2, 2 + i % 7)
            lines.append(f'"{" ".join([words[name][i % 5], *chosen])}, {i}",{name}')
        (folder / "table.csv").write_text("\n".join(lines), "utf-8")
        return cls(
            path=str(folder / "table.csv"), context=16, vocabulary=260, validation=0.2, test=0.2
        )

    def problems(self):
        yield from super().problems()
        if not self.path:
            expected = "expected a table of texts and labels, or a folder for each class"
            yield "path", Needed(f"{expected}. Received: nothing. Set data.path=PATH.")

    def check(self):
        self._files()

    @property
    def root(self) -> Path:
        return Path(self.path).expanduser()

    def _files(self) -> list[Path]:
        """The table, or the text files of a folder."""
        if self.root.is_file():
            if tables.ending(self.root) not in (*tables.SEPARATORS, *tables.LINES):
                raise UserError(
                    "data.path: expected a file ending in"
                    f" {', '.join((*tables.SEPARATORS, *tables.LINES))}, perhaps packed as"
                    f" {' or '.join(tables.PACKED)}, or a folder. Received: {self.root}."
                )
            return [self.root]
        if not self.root.is_dir():
            raise UserError(
                f"data.path: expected a file or folder. Received: {self.path}, which does not"
                " exist."
            )
        files = [file for file in files_inside(self.root) if file.suffix.lower() in TEXTS]
        if not files:
            raise UserError(
                f"data.path: expected a folder with a subfolder of files ending in"
                f" {', '.join(TEXTS)} for each class. Received: {self.root}, which holds none."
            )
        return files

    def content(self):
        names = ("text", "second", "label", "split", "target", "label_separator")
        digest = hashlib.sha256(repr([getattr(self, name) for name in names]).encode())
        for file in self._files():
            digest.update(str(file.relative_to(self.root)).encode("utf-8", "surrogateescape"))
            digest.update(hashlib.sha256(tables.read(file)).digest())
        return digest.hexdigest()

    def rows(self):
        if self.root.is_dir():
            return self._of_folder()
        texts, seconds, labels, splits = [], [], [], []
        empty = 0
        for place, row in tables.rows_of(self.root):
            text = self._cell(row, self.text, place)
            if not text.strip():
                empty += 1
                continue
            texts.append(text)
            labels.append(self._label(row, place))
            if self.second:
                seconds.append(self._cell(row, self.second, place))
            if self.split:
                splits.append(tables.split_named(self._cell(row, self.split, place), place))
        if not texts:
            raise UserError(f"{self.root}: expected rows with texts. Received: none.")
        notes = (f"{empty:,} rows are left out, whose text is empty",) if empty else ()
        notes += (*tables.missing([*texts, *seconds], "texts"), *self._never_several(labels))
        values, names = self._labels(labels)
        return Rows(texts, values, names, seconds, splits, notes)

    def _cell(self, row: dict, column: str, place: str) -> str:
        value = _present(row, column, place)
        if not isinstance(value, str):
            raise UserError(
                f"{place}: expected text under {column!r}. Received: {type(value).__name__}."
            )
        prep.refuse_surrogates(value, place)
        return prep.newlines(value)

    def _label(self, row: dict, place: str):
        """A row's label: a name, names, or a number."""
        value = _present(row, self.label, place)
        if self.target == "labels":
            several = value.split(self.label_separator) if isinstance(value, str) else value
            names = several if isinstance(several, list) else [several]
            return [name for name in (self._name(each, place) for each in names) if name]
        if self.target == "label":
            name = self._name(value, place)
            if not name:
                raise UserError(f"{place}: expected a label under {self.label!r}. Received: none.")
            return name
        try:
            number = math.nan if "_" in str(value) else float(value)  # 1_000 is Python's alone
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= LARGEST:
            raise UserError(
                f"{place}: expected a number under {self.label!r}. Received: {str(value)[:40]!r}."
                f" They may be {LARGEST:g} at most; set data.target=label if these are names."
            )
        return number

    def _name(self, value, place: str) -> str:
        """What a label is called: a text, true or false, or a number; 1.0 is called as 1 is."""
        whole = isinstance(value, float) and value.is_integer()
        name = int(value) if whole else value
        is_name = isinstance(name, (str, int)) or (isinstance(name, float) and math.isfinite(name))
        if not is_name:
            several = "; [] means none" if self.target == "labels" else ""
            raise UserError(
                f"{place}: expected a label under {self.label!r}{several}. Received:"
                f" {json.dumps(value)[:40]}."
            )
        name = name_of(str(name))
        prep.refuse_surrogates(name, place)
        return name

    def _never_several(self, labels: list) -> list[str]:
        """A line where each row has one label at most, so that something else may divide them."""
        if self.target != "labels" or any(len(row) > 1 for row in labels):
            return []
        return [
            f"no row has several labels: {self.label_separator!r} (data.label_separator) stands in"
            f" none of them, such as {next((row[0] for row in labels if row), '')[:40]!r}"
        ]

    def _labels(self, labels: list) -> tuple[np.ndarray, tuple[str, ...]]:
        """Labels as numbers, and the names of the classes."""
        if self.target == "number":
            if min(labels) == max(labels):
                raise UserError(
                    f"{self.root}: expected numbers that differ under {self.label!r}. Received:"
                    f" {labels[0]:g} in all {len(labels):,} rows, so there is nothing to learn."
                )
            return np.array(labels, np.float32), ()
        each = labels if self.target == "labels" else [[label] for label in labels]
        names = tuple(sorted({name for row in each for name in row}, key=tables.in_order))
        fewest = 1 if self.target == "labels" else 2
        if len(names) < fewest:
            raise UserError(
                f"{self.root}: expected at least {fewest} labels. Received: {len(names)}"
                f" ({', '.join(names)})."
            )
        if self.target == "label" and len(names) > max(100, len(labels) // 2):
            raise UserError(
                f"{self.root}: expected labels that come several times. Received: {len(names):,}"
                f" different ones in {len(labels):,} rows. Set data.target=number if these are"
                " numbers."
            )
        numbers = {name: number for number, name in enumerate(names)}
        if self.target == "label":
            return np.array([numbers[label] for label in labels], np.int32), names
        values = np.zeros((len(labels), len(names)), np.uint8)
        for i, row in enumerate(labels):
            values[i, [numbers[name] for name in row]] = 1
        return values, names

    def _of_folder(self) -> Rows:
        """Text files by the names of their folders: classes, perhaps inside of splits."""
        if self.target != "label":
            raise UserError(
                f"data.target: expected label for a folder. Received: {self.target}, for"
                f" {self.root}."
            )
        texts, labels, splits = [], [], []
        empty = 0
        files = self._files()
        for file, (split, label) in zip(files, placed(self.root, files), strict=True):
            text = prep.decode(tables.read(file), str(file))
            if not text.strip():
                empty += 1
                continue
            texts.append(text)
            labels.append(label)
            splits += [split] if split else []
        notes = (f"{empty:,} files are left out, which are empty",) if empty else ()
        notes += self._others(2 if splits else 1, set(labels))
        values, names = self._labels(labels)
        return Rows(texts, values, names, splits=splits, notes=notes)

    def _others(self, depth: int, names: set[str]) -> tuple[str, ...]:
        """A line about files of other endings, and about classes of which nothing else is left."""
        others = [file for file in files_inside(self.root) if file.suffix.lower() not in TEXTS]
        if not others:
            return ()
        kinds = Counter(file.suffix.lower() or "without an ending" for file in others)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        places = [file.relative_to(self.root).parts for file in others]
        classes = {name_of(parts[depth - 1]) for parts in places if len(parts) > depth}
        lost = sorted(classes - names)
        nothing = f"; so nothing is read of {', '.join(lost)}" if lost else ""
        endings = ", ".join(TEXTS)
        return (f"files are left out that do not end in {endings}: {counts}{nothing}",)

    def source_card(self):
        return {
            "title": f"Labelled texts in {self.root.name}",
            "source": self.path,
            "licence": "the user's own",
            "citation": "none",
        }


def _present(row: dict, column: str, place: str):
    if column not in row:
        names = ", ".join(map(repr, row))
        raise UserError(
            f"{place}: expected a column {column!r}. Received: {names}. Name the columns by"
            " data.text, data.second, data.label and data.split."
        )
    return row[column]
