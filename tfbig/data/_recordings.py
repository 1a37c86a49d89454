"""Recordings, and those with a label: what datasets of them share."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.files import digests
from tfbig.core.lazy import np
from tfbig.data._splits import copies, grouped
from tfbig.prep.recordings import LEVELS, to_levels

MEMORY_BYTES = 1 << 30  # of samples that are kept, two bytes each


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """One recording.

    Attributes:
        name: what messages call it.
        count: samples.
        speaker: who speaks; empty where nobody says.
        label: the number of its class.
        text: what is said, as it is learnt.
        levels: its samples, int16 [count], where they are in memory.
        load: reads them otherwise, float32 [count] from -1 to 1.
        split: one of SPLITS, or empty where it is decided here.
        path: the file it is read from, if it is one.
    """

    name: str
    count: int
    speaker: str = ""
    label: int = -1
    text: str = ""
    levels: np.ndarray | None = None
    load: Callable[[], np.ndarray] | None = None
    split: str = ""
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Recordings(Dataset):
    """Recordings of one rate, each with a label or a transcript."""

    rate_hz: int = knob(16_000, "samples a second; other rates are resampled", low=1000)
    most_s: float = knob(20.0, "seconds of the longest recording", above=0)

    def divided(self) -> dict[str, list[Recording]]:
        """The recordings of each split, in a fixed order."""
        raise NotImplementedError

    def content(self) -> str:
        """Changes when the recordings do."""
        raise NotImplementedError

    @property
    def most(self) -> int:
        """Samples of the longest recording that there may be."""
        return int(self.most_s * self.rate_hz)

    @property
    def spec(self):
        return {
            "samples": Feature(shape=(None,), dtype="float32", unit="of full scale", most=self.most)
        }

    def recordings(self, split: str) -> list[Recording]:
        if split not in SPLITS:
            raise UserError(f"split: expected one of {', '.join(SPLITS)}. Received: {split!r}.")
        return self._checked[split]

    @cached_property
    def _checked(self) -> dict[str, list[Recording]]:
        """All splits, none empty and no recording longer than there may be."""
        splits = self.divided()
        for split in SPLITS:
            if not splits.get(split):
                raise UserError(
                    f"data: expected a recording for the {split} split at least. Received: none."
                )
            for recording in splits[split]:
                if recording.count > self.most:
                    seconds = recording.count / self.rate_hz
                    raise UserError(
                        f"data.most_s: expected at least {seconds:.2f}, the seconds of"
                        f" {recording.name}. Received: {self.most_s:g}."
                    )
        return splits

    def size(self, split):
        return len(self.recordings(split))

    def lengths(self, split):
        counts = [recording.count for recording in self.recordings(split)]
        return {"samples": np.array(counts, np.int32)}

    def groups(self, split):
        speakers = [recording.speaker for recording in self.recordings(split)]
        return np.array(speakers) if all(speakers) else None

    def examples(self, split, positions):
        return {"samples": [self.samples(split, int(i)) for i in np.asarray(positions)]}

    def samples(self, split: str, position: int) -> np.ndarray:
        """A recording in 16 bits, float32 [count] from -1 to 1."""
        recording = self.recordings(split)[position]
        levels = recording.levels
        if levels is None:
            levels = self._kept.get((split, position))
        if levels is None:
            levels = to_levels(recording.load())
            if self._room[0] >= levels.nbytes:
                self._room[0] -= levels.nbytes
                self._kept[split, position] = levels
        return levels.astype(np.float32) / LEVELS

    @cached_property
    def _kept(self) -> dict[tuple[str, int], np.ndarray]:
        return {}

    @cached_property
    def _room(self) -> list[int]:
        return [MEMORY_BYTES]

    def fingerprint(self):
        lines = [self.content()]
        for split in SPLITS:
            for one in self.recordings(split):
                lines.append(f"{split} {one.name} {one.count} {one.speaker} {one.label} {one.text}")
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def seconds(self, split: str) -> float:
        return sum(recording.count for recording in self.recordings(split)) / self.rate_hz

    answer_kind: ClassVar[str]
    """What a recording teaches, in a word."""

    def answer(self, recording: Recording) -> str:
        """What a recording teaches."""
        raise NotImplementedError

    def notes(self):
        """Lines about files that stand in two splits, or with two answers."""
        rows = [
            (split, recording)
            for split in SPLITS
            for recording in self.recordings(split)
            if recording.path
        ]
        contents = digests(recording.path for _, recording in rows)
        named = (
            (split, self.answer(recording), content)
            for (split, recording), content in zip(rows, contents, strict=True)
        )
        return [*super().notes(), *copies(named, "recording", self.answer_kind)]

    def _shared_speakers(self) -> set[str]:
        speakers = {
            split: {one.speaker for one in self.recordings(split)} - {""} for split in SPLITS
        }
        return speakers["train"] & (speakers["validation"] | speakers["test"])

    def source_card(self) -> dict:
        """Title, source, licence and citation."""
        raise NotImplementedError

    def card(self):
        card = dict(self.source_card())
        for split in SPLITS:
            own = self.recordings(split)
            speakers = len({one.speaker for one in own} - {""})
            by = f" by {speakers:,} speakers" if speakers else ""
            card[f"{split} recordings"] = f"{len(own):,}{by}, {self.seconds(split) / 60:,.1f} min"
        shared = len(self._shared_speakers())
        told = f"{shared:,} speakers of the training split stand in another one too"
        card["leak check"] = told if shared else "no speaker is known to stand in two splits"
        return card


@dataclass(frozen=True, kw_only=True)
class Labelled(Recordings):
    """Recordings with a label each."""

    gives = frozenset({"samples", "label"})
    answer_kind = "label"

    def answer(self, recording):
        return self.label_names[recording.label]

    @property
    def spec(self):
        return {**super().spec, "label": Feature(shape=(), dtype="int32")}

    def labels(self, split):
        return np.array([recording.label for recording in self.recordings(split)], np.int32)

    def examples(self, split, positions):
        positions = np.asarray(positions, np.int64)
        labels = self.labels(split)[positions]
        return {**super().examples(split, positions), "label": labels}


def split_by_speaker(
    recordings: list[Recording], shares: dict[str, float], seed: int
) -> dict[str, list[Recording]]:
    """Recordings by split: as their source says; what it does not have is held out from train.

    A speaker's recordings, or copies of a recording without one, stand in one split together, and
    each label has about the same share.

    Args:
        recordings: all of them.
        shares: of the "test" and the "validation" split, where they are made here.
        seed: of the choice.
    """
    splits = {split: [one for one in recordings if one.split == split] for split in SPLITS}
    splits["train"] += [one for one in recordings if not one.split]
    total = len(splits["train"])
    known = _contents(splits["train"])
    for number, (split, share) in enumerate(shares.items()):
        if splits[split] or not total:
            continue
        rest = splits["train"]
        labels = np.array([one.label for one in rest])
        groups = np.array([one.speaker or f"\0{known[id(one)]}" for one in rest])
        held = grouped(labels, groups, max(1, round(share * total)), (seed + number) % 2**32)
        is_held = np.isin(np.arange(len(rest)), held)
        splits[split] = [one for one, out in zip(rest, is_held, strict=True) if out]
        splits["train"] = [one for one, out in zip(rest, is_held, strict=True) if not out]
        if not splits[split]:
            _refuse_few(groups.tolist(), split)
    return splits


def _contents(recordings: list[Recording]) -> dict[int, str]:
    """What tells recordings apart, by their ids: the place of the first one with that content.

    Only files without a speaker that are as long as another one are read.
    """
    known = {id(one): str(place) for place, one in enumerate(recordings)}
    alike = collections.defaultdict(list)
    for one in recordings:
        if one.path and not one.speaker:
            alike[one.count].append(one)
    several = [one for own in alike.values() if len(own) > 1 for one in own]
    first: dict[str, str] = {}
    for one, content in zip(several, digests(one.path for one in several), strict=True):
        known[id(one)] = first.setdefault(content, known[id(one)])
    return known


def _refuse_few(groups: list[str], split: str) -> None:
    """Says that there are too few speakers, or different recordings, to hold some out."""
    raise UserError(
        "data: expected a few speakers, or recordings of no speaker that differ, to hold some out"
        f" for the {split} split. Received: {len(groups):,} recordings, {len(set(groups)):,} of"
        " these in all. Name the splits in a column, or set data.speaker to the column of the"
        " file, so that the same people speak in all splits."
    )
