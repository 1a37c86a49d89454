"""Labelled DNA or RNA in memory: how it is divided, what stands in two splits, how it is read."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from functools import cached_property

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.lazy import np
from tfbig.data._splits import balanced
from tfbig.prep import kmers
from tfbig.prep.nucleotides import BASES, NUCLEOTIDES

KNOWN = {"validation": ("train",), "test": ("train", "validation")}  # what a split may not hold


@dataclass(frozen=True)
class Rows:
    """A table of labelled sequences.

    Attributes:
        sequences: numbers of letters of `prep.nucleotides`, each uint8 [letters].
        labels: int32 [n], the number of each row's class.
        names: of the classes.
        titles: what each is called.
        groups: of each row, such as its gene or chromosome; empty where there are none.
        splits: of each row, one of SPLITS, or "" where the split is decided here.
        notes: what must be known of how they were read, a line each.
    """

    sequences: list[np.ndarray]
    labels: np.ndarray
    names: tuple[str, ...]
    titles: list[str]
    groups: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelledSequences(Dataset):
    """DNA or RNA sequences, each with a label.

    Rows without a published split are divided here: seeded, with the same share of each class.
    """

    gives = frozenset({"nucleotides", "label"})

    length: int = knob(
        0, "letters that are read of longer sequences, around their middle; 0: all", low=0
    )
    split_by: str = knob(
        "auto",
        "what stays in one split: kmers, copies and sequences that share data.kmer bases in a row"
        " on either strand; groups, such as genes, with what kmers keeps together; random: nothing,"
        " as in many papers, which leaks; auto: groups where there are any, else kmers",
        choices=("auto", "groups", "kmers", "random"),
    )
    kmer: int = knob(30, "bases in a row that count as shared", low=8, high=31)
    leaks: str = knob(
        "keep",
        "held-out sequences that training knows: keep and count them; drop copies, of either"
        " strand; drop all that share data.kmer bases in a row",
        choices=("keep", "drop_copies", "drop_shared"),
    )
    validation: float = knob(
        0.1, "share of each class held out for validation, if none is published", above=0, high=0.45
    )
    test: float = knob(
        0.1, "share of each class held out for the test, if none is published", above=0, high=0.45
    )
    split_seed: int = knob(0, "of the choice of held-out sequences", low=0, high=2**32 - 1)

    def rows(self) -> Rows:
        """All rows, in a fixed order."""
        raise NotImplementedError

    def source_card(self) -> dict:
        """Title, source, licence and citation."""
        raise NotImplementedError

    def problems(self):
        if self.on_error != "stop":
            message = "expected stop: a damaged row is named when the file is read. Received:"
            yield "on_error", f"{message} {self.on_error}."

    @property
    def spec(self):
        table = self._table
        axis = (
            {"shape": (table.most,)} if table.is_fixed else {"shape": (None,), "most": table.most}
        )
        letters = Feature(**axis, dtype="uint8", unit="letter", values=len(NUCLEOTIDES.letters))
        return {"sequence": letters, "label": Feature(shape=(), dtype="int32")}

    @property
    def label_names(self):
        return self._table.rows.names

    def labels(self, split):
        return self._table.rows.labels[self._members(split)]

    def size(self, split):
        return len(self._members(split))

    def groups(self, split):
        groups = self._table.rows.groups
        return np.array(groups)[self._members(split)] if groups else None

    def lengths(self, split):
        if self._table.is_fixed:
            return None
        sequences = self._table.rows.sequences
        each = np.array([len(sequences[i]) for i in self._members(split)], np.int32)
        return {"sequence": each}

    def examples(self, split, positions):
        rows = self._places(split, positions)
        sequences = [self._table.rows.sequences[i] for i in rows]
        if self._table.is_fixed:
            sequences = np.array(sequences, np.uint8).reshape(-1, self._table.most)
        return {"sequence": sequences, "label": self._table.rows.labels[rows]}

    def arrays(self, split):
        if not self._table.is_fixed:
            return None
        return self.examples(split, np.arange(self.size(split)))

    def titles(self, split: str, positions: np.ndarray) -> list[str]:
        """What the sequences at `positions` are called."""
        return [self._table.rows.titles[i] for i in self._places(split, positions)]

    def _places(self, split: str, positions: np.ndarray) -> np.ndarray:
        members, positions = self._members(split), np.asarray(positions, np.int64)
        if positions.size and not (positions.min() >= 0 and positions.max() < len(members)):
            raise ValueError(
                f"positions: expected 0 ... {len(members) - 1} in {split}. Received:"
                f" {positions.min()} ... {positions.max()}."
            )
        return members[positions]

    def _members(self, split: str) -> np.ndarray:
        if split not in SPLITS:
            raise UserError(f"split: expected one of {', '.join(SPLITS)}. Received: {split!r}.")
        return self._table.members[split]

    @cached_property
    def _table(self) -> Table:
        return _opened(self, self.fingerprint())

    def notes(self):
        return list(self._table.notes)

    def card(self):
        table, entries = self._table, {}
        for split, members in table.members.items():
            counts = np.bincount(table.rows.labels[members], minlength=len(table.rows.names))
            named = zip(table.rows.names, counts, strict=True)
            shares = ", ".join(f"{count:,} {name}" for name, count in named)
            entries[f"{split} sequences"] = f"{len(members):,}: {shares}"
        return {**self.source_card(), **entries, **table.facts}


@dataclass(frozen=True, eq=False)
class Table:
    """A dataset in memory.

    Attributes:
        rows: all of them.
        members: of each split, the places of its rows, int64 [n].
        facts: what a data card says of copies, splits and leaks.
        notes: what must be known before training, a line each.
    """

    rows: Rows
    members: dict[str, np.ndarray]
    facts: dict[str, str]
    notes: list[str]

    @cached_property
    def most(self) -> int:
        """Letters of the longest sequence."""
        return max(map(len, self.rows.sequences))

    @cached_property
    def is_fixed(self) -> bool:
        """Whether all are of one length, so that a place means the same in each."""
        return min(map(len, self.rows.sequences)) == self.most


@functools.lru_cache(maxsize=4)
def _opened(data: LabelledSequences, fingerprint: str) -> Table:
    """The rows of a dataset divided, once for all datasets of the same settings."""
    rows, notes = _cut(data.rows(), data.length)
    same = kmers.either_strand(rows.sequences)
    units, words = _units(data, rows, same)
    members = _divided(data, rows, units)
    leaks = Leaks(data, rows, same)
    dropped = []
    for split in () if data.leaks == "keep" else KNOWN:
        known = leaks.known(members, split, copies=data.leaks == "drop_copies")
        if known.any():
            line = f"{known.sum():,} of {split}'s {len(known):,} sequences are left out: "
            dropped.append(line + "training knows them (data.leaks)")
            members[split] = members[split][~known]
    for split in SPLITS:
        if not len(members[split]):
            raise UserError(
                f"data: expected a sequence for the {split} split at least. Received: none of"
                f" {len(rows.sequences):,}, of which {words} stay together. Give more, another"
                " share, or another data.split_by."
            )
    facts = {"kept together": words, "odd rows": _odd(rows), "leak check": leaks.words(members)}
    return Table(rows, members, facts, [*rows.notes, *notes, *dropped, *leaks.notes(members)])


def _cut(rows: Rows, length: int) -> tuple[Rows, list[str]]:
    """Longer sequences around their middle, and a line about them."""
    long = sum(len(row) > length for row in rows.sequences) if length else 0
    if not long:
        return rows, []
    middles = []
    for row in rows.sequences:
        first = max(0, len(row) - length) // 2
        middles.append(row[first : first + length])
    note = (
        f"{long:,} of {len(middles):,} sequences are longer than {length:,} letters (data.length)"
    )
    return Rows(**{**vars(rows), "sequences": middles}), [f"{note}: their middle is read"]


def _units(data: LabelledSequences, rows: Rows, same: np.ndarray) -> tuple[np.ndarray, str]:
    """The number of what each row stays together with, and what that is in words."""
    count = len(rows.sequences)
    by = data.split_by
    if by == "auto":
        by = "groups" if rows.groups else "kmers"
    if by == "groups" and not rows.groups:
        raise UserError(
            "data.split_by: expected kmers or random, since no groups are known. Received: groups."
            " Name their column by data.group."
        )
    if by == "random":
        return np.arange(count), "single rows (at random: copies and overlaps may be divided)"
    pairs = [kmers.alike(same), kmers.sharing(rows.sequences, data.kmer)]
    kind = f"copies and rows that share {data.kmer} bases in a row, on either strand"
    if by == "groups":
        pairs.append(kmers.alike(np.array(rows.groups)))
        kind = f"rows of the same group, {kind}"
    units = kmers.tied(count, *pairs)
    sizes = np.bincount(units)
    return units, f"{kind} ({len(sizes):,} such sets, the largest of {sizes.max():,} rows)"


def _divided(data: LabelledSequences, rows: Rows, units: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of each split: as published; held-out splits that are not are cut from the rest."""
    split_of = np.array(rows.splits or [""] * len(rows.sequences), object)
    split_of[split_of == ""] = "train"
    total = int((split_of == "train").sum())
    for number, (split, share) in enumerate((("test", data.test), ("validation", data.validation))):
        if (split_of == split).any():
            continue
        rest = np.flatnonzero(split_of == "train")
        seed = (data.split_seed + number) % 2**32
        held = balanced(rows.labels[rest], units[rest], share * total / max(1, len(rest)), seed)
        split_of[rest[held]] = split
    return {split: np.flatnonzero(split_of == split) for split in SPLITS}


def _odd(rows: Rows) -> str:
    """Copies, sequences with several labels and those with other letters, in words."""
    one = kmers.one_strand(rows.sequences)
    copies = len(one) - len(np.unique(one))
    labels = np.unique(np.stack([one, rows.labels], 1), axis=0)
    several = len(labels) - len(np.unique(one))
    other = sum(bool((row >= len(BASES)).any()) for row in rows.sequences)
    return (
        f"{copies:,} exact copies, {several:,} sequences with two labels, {other:,} with letters"
        f" other than {', '.join(BASES)}"
    )


class Leaks:
    """What held-out sequences have in common with what is known when they are read."""

    def __init__(self, data: LabelledSequences, rows: Rows, same: np.ndarray):
        self.kmer, self.same = data.kmer, same
        self.one = kmers.one_strand(rows.sequences)
        self.runs, self.owner = kmers.runs(rows.sequences, data.kmer)
        self.group = np.array(rows.groups)

    def _shared(self, held: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Which of the held rows share a run of bases with known ones."""
        runs = np.unique(self.runs[np.isin(self.owner, known)])
        inside = np.isin(self.owner, held)
        owners = self.owner[inside][np.isin(self.runs[inside], runs)]
        return np.isin(held, owners)

    def known(self, members: dict, split: str, copies: bool) -> np.ndarray:
        """Which rows of a split are copies of known ones, or share a run of bases with them."""
        held, known = members[split], _rows_before(members, split)
        is_copy = np.isin(self.same[held], self.same[known])
        return is_copy if copies else is_copy | self._shared(held, known)

    def _counts(self, members: dict, split: str) -> dict[tuple[str, str], int]:
        """How many there are of each kind of leak, by its noun and its verb."""
        held, known = members[split], _rows_before(members, split)
        exact = np.isin(self.one[held], self.one[known])
        either = np.isin(self.same[held], self.same[known])
        counts = {
            ("exact copies", "are copies of"): exact.sum(),
            ("copies of the strand across", "are the strand across of"): (either & ~exact).sum(),
            (f"sharing {self.kmer} bases in a row", f"share {self.kmer} bases in a row with"): (
                self._shared(held, known).sum()
            ),
        }
        if len(self.group):
            words = ("of groups that stand there too", "are of the same groups as")
            counts[words] = np.isin(self.group[held], self.group[known]).sum()
        return {words: int(count) for words, count in counts.items()}

    def words(self, members: dict) -> str:
        """All counts, in words."""
        parts = []
        for split, before in KNOWN.items():
            counts = self._counts(members, split).items()
            listed = ", ".join(f"{count:,} {noun}" for (noun, _), count in counts)
            size = len(members[split])
            parts.append(f"{split} ({size:,}) beside {' and '.join(before)}: {listed}")
        return "; ".join(parts)

    def notes(self, members: dict) -> list[str]:
        """A line for each leak."""
        return [
            f"{split}: {count:,} of {len(members[split]):,} sequences {verb} ones of"
            f" {' or '.join(KNOWN[split])}; its metrics may be too good"
            for split in KNOWN
            for (_, verb), count in self._counts(members, split).items()
            if count
        ]


def _rows_before(members: dict, split: str) -> np.ndarray:
    return np.concatenate([members[name] for name in KNOWN[split]])
