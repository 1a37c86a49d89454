"""Texts with labels: what all datasets of them share, from the rows of a table to tokens."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.errors import Needed, UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.lazy import np
from tfbig.data._splits import grouped
from tfbig.prep import bpe, tokenizers, vocabularies
from tfbig.prep import text as prep
from tfbig.prep.wordpiece import WordPiece

READY = (
    "folder with tokenizer.json, vocab.json and merges.txt, or vocab.txt; SentencePiece .model; or"
    " a run"
)
BINS = 10  # of numbers, when splits are given equal shares of each


@dataclass(frozen=True)
class Rows:
    """A table of labelled texts.

    Attributes:
        texts: of each row.
        seconds: of each row, where rows are pairs of texts; empty where they are not.
        labels: int32 [n], the number of each row's class; or uint8 [n, classes], 1 for those that
            a row has; or float32 [n], where what is learnt is a number.
        names: of the classes; empty for numbers.
        splits: of each row, one of SPLITS, or "" where the split is decided here.
        notes: what must be known of how they were read, a line each.
    """

    texts: list[str]
    labels: np.ndarray
    names: tuple[str, ...] = ()
    seconds: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelledTexts(Dataset):
    """Texts, or pairs of them, each with a label, several labels or a number.

    Rows without a published split are divided here: seeded, with the same share of each label, and
    rows of the same text together.
    """

    gives = frozenset({"text", "label"})

    context: int = knob(64, "tokens that are read of each text; longer ones are cut", low=1)
    tokenizer: str = knob(
        "wordpiece",
        "how text becomes tokens",
        choices=("wordpiece", "bpe", "characters", "bytes", "ready"),
    )
    vocabulary: int = knob(
        8192, "wordpiece, bpe: number of tokens to learn from the training split", low=258
    )
    vocabulary_path: str | None = knob(None, f"ready: {READY}", path=True)
    cased: bool = knob(False, "wordpiece: large letters are others than small ones")
    min_count: int = knob(
        2, "characters: those rarer in the training split share one unknown token", low=1
    )
    normalize: str = knob("nfc", "Unicode normalisation", choices=prep.FORMS)
    validation: float = knob(
        0.1, "share of the rows held out for validation, if none is published", above=0, high=0.45
    )
    test: float = knob(
        0.1, "share of the rows held out for the test, if none is published", above=0, high=0.45
    )
    split_seed: int = knob(0, "of the choice of held-out rows", low=0, high=2**32 - 1)

    def rows(self) -> Rows:
        """All rows, in a fixed order."""
        raise NotImplementedError

    def content(self) -> str:
        """Changes when the rows change."""
        raise NotImplementedError

    def source_card(self) -> dict:
        """Title, source, licence and citation."""
        raise NotImplementedError

    def problems(self):
        if self.tokenizer == "ready" and not self.vocabulary_path:
            expected = f"a {READY}, for data.tokenizer=ready"
            message = f"expected {expected}. Received: nothing. Set data.vocabulary_path=PATH."
            yield "vocabulary_path", Needed(message)
        if self.tokenizer != "ready" and self.vocabulary_path:
            message = "expected with data.tokenizer=ready alone. Received:"
            yield "vocabulary_path", f"{message} {self.vocabulary_path} with {self.tokenizer}."
        if self.on_error != "stop":
            message = "expected stop: a damaged row is named when the table is read. Received:"
            yield "on_error", f"{message} {self.on_error}."

    def fingerprint(self):
        if not self.vocabulary_path:
            return self.content()
        digest = hashlib.sha256(self.content().encode())
        for path in vocabularies.ready_files(Path(self.vocabulary_path).expanduser()):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    @property
    def spec(self):
        tokens = Feature(
            shape=(None,), dtype="int32", unit="token", values=self._table.size, most=self.context
        )
        labels = self._table.splits["train"].labels
        label = Feature(shape=labels.shape[1:], dtype=labels.dtype.name)
        pair = {"text_pair": tokens} if self.is_pair else {}
        return {"text": tokens, **pair, "label": label}

    @property
    def is_pair(self) -> bool:
        """Whether each row holds two texts."""
        return "text_pair" in self._table.splits["train"].tokens

    @property
    def label_names(self):
        return self._table.names

    def labels(self, split):
        labels = self._split(split).labels
        return labels if labels.dtype == np.int32 else None

    def size(self, split):
        return len(self._split(split).labels)

    def lengths(self, split):
        return {name: tokens.lengths for name, tokens in self._split(split).tokens.items()}

    def examples(self, split, positions):
        part = self._split(split)
        positions = np.asarray(positions, np.int64)
        size = len(part.labels)
        if positions.size and not (positions.min() >= 0 and positions.max() < size):
            raise ValueError(
                f"positions: expected 0 ... {size - 1} in {split}. Received: {positions.min()} ..."
                f" {positions.max()}."
            )
        tokens = {name: values.at(positions) for name, values in part.tokens.items()}
        return {**tokens, "label": part.labels[positions]}

    def encoded(self, split, positions):
        texts = self.texts(split, positions)
        return {
            name: _as_bytes([prep.plain(text, self.normalize) for text in values])
            for name, values in texts.items()
        }

    def texts(self, split: str, positions: np.ndarray) -> dict[str, list[str]]:
        """The texts at `positions` as they were read: "text" and, of pairs, "text_pair"."""
        part = self._split(split)
        return {name: [values[i] for i in positions] for name, values in part.texts.items()}

    def documents(self) -> Iterator[tuple[None, str, str]]:
        """(None, name, text) of each text of the training split, for corpora made of several."""
        split_of = _divided(self, rows := self.rows(), _marks(rows))
        for i in np.flatnonzero(split_of == "train"):
            for values in (rows.texts, rows.seconds):
                if values:
                    yield None, f"row {i:,}", prep.newlines(values[i])

    def read_tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer that the tokens were made by."""
        return self._table.tokenizer

    def _split(self, split: str) -> Split:
        if split not in SPLITS:
            raise UserError(f"split: expected one of {', '.join(SPLITS)}. Received: {split!r}.")
        return self._table.splits[split]

    @cached_property
    def _table(self) -> Table:
        return _opened(self, self.fingerprint())

    def notes(self):
        return list(self._table.notes)

    def card(self):
        table = self._table
        entries = {}
        for split, part in table.splits.items():
            shares = ""
            if part.labels.dtype == np.int32:
                counts = np.bincount(part.labels, minlength=len(table.names))
                named = zip(table.names, counts, strict=True)
                shares = ": " + ", ".join(f"{count:,} {name}" for name, count in named)
            entries[f"{split} rows"] = f"{len(part.labels):,}{shares}"
        entries["leak check"] = "; ".join(table.leaks) or "no text stands in two splits"
        entries["tokenizer"] = f"{table.tokenizer.kind}, {table.size:,} tokens"
        return {**self.source_card(), **entries}


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of many texts, one behind the other.

    Attributes:
        values: int32 [tokens].
        starts: where each text's begin, int64 [texts + 1].
    """

    values: np.ndarray
    starts: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts).astype(np.int32)

    def at(self, positions: np.ndarray) -> list[np.ndarray]:
        return [self.values[self.starts[i] : self.starts[i + 1]] for i in positions]


@dataclass(frozen=True, eq=False)
class Split:
    """One split: its texts by name, their tokens, and its labels."""

    texts: dict[str, list[str]]
    tokens: dict[str, Tokens]
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Table:
    """A dataset in memory."""

    names: tuple[str, ...]
    tokenizer: tokenizers.Tokenizer
    splits: dict[str, Split]
    notes: list[str]
    leaks: list[str]

    @property
    def size(self) -> int:
        return self.tokenizer.size


@functools.lru_cache(maxsize=4)
def _opened(data: LabelledTexts, fingerprint: str) -> Table:
    """The rows of a dataset divided and tokenised, once for all datasets of the same settings."""
    rows = data.rows()
    marks = _marks(rows)
    split_of = _divided(data, rows, marks)
    members = {split: np.flatnonzero(split_of == split) for split in SPLITS}
    for split, rows_of_split in members.items():
        if not len(rows_of_split):
            raise UserError(
                f"data: expected a row for the {split} split at least. Received: none of"
                f" {len(rows.texts):,}, of which those of the same text stay together. Give more"
                " rows, or another share."
            )
    columns = {"text": rows.texts, **({"text_pair": rows.seconds} if rows.seconds else {})}
    texts = {
        split: {name: [values[i] for i in members[split]] for name, values in columns.items()}
        for split in SPLITS
    }
    tokenizer = _tokenizer(data, texts["train"])
    notes = list(rows.notes)
    splits = {}
    for split in SPLITS:
        tokens = {}
        for name, values in texts[split].items():
            encoded = tokenizer.encode_all([prep.plain(text, data.normalize) for text in values])
            tokens[name] = _packed([row[: data.context] for row in encoded])
            notes += _cut(split, name, encoded, data.context)
        splits[split] = Split(texts[split], tokens, rows.labels[members[split]])
    leaks = _leaks(marks, members)
    notes += [f"{leak}; its metrics are too good" for leak in leaks]
    notes += _contradictions(marks, rows.labels)
    return Table(rows.names, tokenizer, splits, notes, leaks)


def _tokenizer(data: LabelledTexts, texts: dict[str, list[str]]) -> tokenizers.Tokenizer:
    """The tokenizer, learnt from training text alone where it is learnt."""
    plain = (prep.plain(text, data.normalize) for values in texts.values() for text in values)
    if data.tokenizer == "wordpiece":
        return WordPiece.train(plain, data.vocabulary, lowercase=not data.cased)
    if data.tokenizer == "characters":
        return tokenizers.Characters.of(plain, min_count=data.min_count, separator=True)
    if data.tokenizer == "bytes":
        return tokenizers.Bytes()
    if data.tokenizer == "ready":
        return vocabularies.ready(Path(data.vocabulary_path or "").expanduser())
    return bpe.BPE.train(plain, data.vocabulary)


def _marks(rows: Rows) -> np.ndarray:
    """The number of each row's text, the same for rows that differ in case and space alone."""
    numbers: dict[bytes, int] = {}
    marks = []
    for i, text in enumerate(rows.texts):
        pair = f"{text}\0{rows.seconds[i]}" if rows.seconds else text
        mark = prep.digest(prep.normalize(pair, "nfkc").casefold())
        marks.append(numbers.setdefault(mark, len(numbers)))
    return np.array(marks, np.int64)


def _divided(data: LabelledTexts, rows: Rows, marks: np.ndarray) -> np.ndarray:
    """The split of each row: as published; held-out splits that are not are cut from the rest."""
    split_of = np.array(rows.splits or [""] * len(rows.texts), object)
    split_of[split_of == ""] = "train"
    strata = _strata(rows.labels)
    total = int((split_of == "train").sum())
    for number, (split, share) in enumerate((("test", data.test), ("validation", data.validation))):
        if (split_of == split).any():
            continue
        rest = np.flatnonzero(split_of == "train")
        count = max(1, round(share * total))
        seed = (data.split_seed + number) % 2**32
        held = grouped(strata[rest], marks[rest], count, seed)
        split_of[rest[held]] = split
    return split_of


def _strata(labels: np.ndarray) -> np.ndarray:
    """What each split gets the same share of: classes, sets of them, or parts of the range."""
    if labels.ndim > 1:
        return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    if labels.dtype == np.int32:
        return labels
    edges = np.quantile(labels, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, labels)


def _packed(encoded: list[np.ndarray]) -> Tokens:
    values = np.concatenate([np.empty(0, np.int32), *encoded]).astype(np.int32)
    starts = np.cumsum([0, *(len(row) for row in encoded)], dtype=np.int64)
    return Tokens(values, starts)


def _cut(split: str, name: str, encoded: list[np.ndarray], most: int) -> list[str]:
    """Says how many texts are longer than what is read of them."""
    lengths = np.array([len(row) for row in encoded])
    long = int((lengths > most).sum())
    if not long:
        return []
    which = "second texts" if name == "text_pair" else "texts"
    return [
        f"{long:,} of {split}'s {len(encoded):,} {which} are cut at {most:,} tokens (data.context);"
        f" the longest has {lengths.max():,}"
    ]


def _leaks(marks: np.ndarray, members: dict[str, np.ndarray]) -> list[str]:
    """What stands in two splits, in words."""
    known = marks[members["train"]]
    leaks = []
    for split in ("validation", "test"):
        count = int(np.isin(marks[members[split]], known).sum())
        if count:
            total = len(members[split])
            leaks.append(f"{count:,} of {split}'s {total:,} texts stand in the training split too")
    return leaks


def _contradictions(marks: np.ndarray, labels: np.ndarray) -> list[str]:
    """Says how many texts come with several labels."""
    flat = labels.reshape(len(labels), -1)
    pairs = np.unique(np.column_stack([marks, flat.astype(np.float64)]), axis=0)
    several = sum(count > 1 for count in Counter(pairs[:, 0].tolist()).values())
    return [f"{several:,} texts stand there several times, with different labels"] * bool(several)


def _as_bytes(texts: list[str]) -> np.ndarray:
    encoded = np.empty(len(texts), object)
    encoded[:] = [text.encode() for text in texts]
    return encoded
