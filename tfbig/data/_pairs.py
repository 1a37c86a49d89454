"""Pairs of texts that say the same in two languages: what all parallel datasets share."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.errors import Needed, UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.lazy import np
from tfbig.data import _pair_store as store
from tfbig.prep import text as prep
from tfbig.prep import tokenizers, vocabularies

READY = "folder with tokenizer.json, or vocab.json and merges.txt; SentencePiece .model; or a run"


@dataclass(frozen=True, kw_only=True)
class TextPairs(Dataset):
    """Pairs of texts as tokens of one vocabulary, each text with its end behind it."""

    gives = frozenset({"source_tokens", "target_tokens"})

    tokenizer: str = knob(
        "bpe",
        "how the texts of both languages become tokens",
        choices=("characters", "bytes", "bpe", "ready"),
    )
    vocabulary: int = knob(
        8000, "bpe: number of tokens to learn from the training texts of both languages", low=258
    )
    vocabulary_path: str | None = knob(None, f"ready: {READY}", path=True)
    min_count: int = knob(
        2, "characters: those rarer in the training split share one unknown token", low=1
    )
    max_source: int = knob(
        128, "most tokens of a source, its end included; longer pairs are left out", low=2
    )
    max_target: int = knob(
        128, "most tokens of a target, its end included; longer pairs are left out", low=2
    )
    normalize: str = knob("nfc", "Unicode normalisation", choices=prep.FORMS)
    duplicates: str = knob(
        "drop", "training pairs that are equal but for white space", choices=("keep", "drop")
    )
    max_ratio: float | None = knob(
        3.0,
        "training pairs whose ratio of lengths is so many times the usual one, or less than its"
        " inverse, are left out; none: all stay",
        above=1,
    )
    source_script: str = knob(
        "any",
        "training pairs whose source has less than half of its letters in it are left out",
        choices=prep.SCRIPTS,
    )
    target_script: str = knob("any", "the same of targets", choices=prep.SCRIPTS)
    validation: float = knob(
        0.03, "share of the pairs held out for validation, unless it is given", above=0, high=0.45
    )
    test: float = knob(
        0.03, "share of the pairs held out for the test, unless it is given", above=0, high=0.45
    )
    split_seed: int = knob(0, "of the choice of held-out pairs", low=0, high=2**32 - 1)

    def pairs(self) -> store.Pairs:
        """(split or None, place, source, target) of each pair, in a fixed order."""
        raise NotImplementedError

    def content(self) -> str:
        """Changes when the pairs change."""
        raise NotImplementedError

    def source_card(self) -> dict:
        """Title, source, licence and citation."""
        raise NotImplementedError

    def problems(self) -> Iterator[tuple[str, str]]:
        is_ready = self.tokenizer == "ready"
        if is_ready and not self.vocabulary_path:
            expected = f"a {READY}, for data.tokenizer=ready"
            message = f"expected {expected}. Received: nothing. Set data.vocabulary_path=PATH."
            yield "vocabulary_path", Needed(message)
        if not is_ready and self.vocabulary_path:
            received = f"{self.vocabulary_path} with {self.tokenizer}"
            expected = "expected with data.tokenizer=ready alone"
            yield "vocabulary_path", f"{expected}. Received: {received}."
        if self.on_error != "stop":
            expected = "expected stop: a damaged pair is named when the texts are prepared"
            yield "on_error", f"{expected}. Received: {self.on_error}."

    def fingerprint(self) -> str:
        """Changes when the pairs or a ready vocabulary change."""
        if not self.vocabulary_path:
            return self.content()
        digest = hashlib.sha256(self.content().encode())
        for path in vocabularies.ready_files(Path(self.vocabulary_path).expanduser()):
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                raise UserError(
                    f"data.vocabulary_path: {path} cannot be read: {error.strerror}."
                ) from error
        return digest.hexdigest()

    @property
    def spec(self):
        return {
            "source": Feature(shape=(None,), dtype="int32", unit="token", most=self.max_source),
            "target": Feature(shape=(None,), dtype="int32", unit="token", most=self.max_target),
        }

    @property
    def num_scored(self) -> int:
        """Numbers that targets are made of: tokens 0 ... num_scored - 2, and one for all others.

        Where the vocabulary was not learnt from the pairs, they are all of its tokens.
        """
        return self._opened.saved["scored"]

    def read_tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer of both sides; its separator ends each text."""
        return self._opened.tokenizer

    def size(self, split):
        return len(self._side(split, "source")[1])

    def examples(self, split, positions):
        positions = np.asarray(positions, np.int64)
        size = self.size(split)
        if positions.size and not (positions.min() >= 0 and positions.max() < size):
            received = f"{positions.min()} ... {positions.max()}"
            raise ValueError(
                f"positions: expected 0 ... {size - 1} in {split}. Received: {received}."
            )
        return {side: self._texts(split, side, positions) for side in store.SIDES}

    def lengths(self, split):
        return {
            side: np.diff(self._side(split, side)[1], prepend=0).astype(np.int32)
            for side in store.SIDES
        }

    def _texts(self, split: str, side: str, positions: np.ndarray) -> list[np.ndarray]:
        tokens, ends = self._side(split, side)
        starts = np.where(positions > 0, ends[positions - 1], 0) if positions.size else positions
        spans = zip(starts, ends[positions], strict=True)
        return [np.asarray(tokens[start:end], np.int32) for start, end in spans]

    def _side(self, split: str, side: str) -> tuple[np.ndarray, np.ndarray]:
        if split not in SPLITS:
            raise UserError(f"split: expected one of {', '.join(SPLITS)}. Received: {split!r}.")
        return self._opened.sides[split, side]

    @cached_property
    def _opened(self) -> _Opened:
        """The token files as they were at the first access."""
        return _opened(self, self.fingerprint())

    def notes(self):
        saved = self._opened.saved
        counts = dict(saved["cleaning"])
        read = counts.pop("read")
        del counts["split"], counts["kept"]
        lines = []
        left_out = [f"{number:,} {reason}" for reason, number in counts.items() if number]
        if left_out:
            total = sum(counts.values())
            lines.append(f"{total:,} of {read:,} pairs left out: {', '.join(left_out)}")
        for split, entry in saved["splits"].items():
            if entry["too_long"]:
                limits = f"data.max_source={self.max_source} or max_target={self.max_target} tokens"
                lines.append(f"{entry['too_long']:,} {split} pairs left out: longer than {limits}")
        lines += [
            f"{split} pairs that training knows: {text}"
            for split, leaks in saved["leaks"].items()
            if (text := _told(leaks))
        ]
        return lines

    def card(self):
        saved = self._opened.saved
        counts = dict(saved["cleaning"])
        entries = {"split": counts.pop("split")}
        numbers = [f"{number:,} {name}" for name, number in counts.items() if number]
        entries["pairs"] = ", ".join(numbers)
        for split, entry in saved["splits"].items():
            sizes = f"{entry['source_tokens']:,} source and {entry['target_tokens']:,} target"
            too_long = f", {entry['too_long']:,} too long" if entry["too_long"] else ""
            entries[f"{split} pairs"] = f"{entry['pairs']:,} with {sizes} tokens{too_long}"
        for split, leaks in saved["leaks"].items():
            size = saved["splits"][split]["pairs"]
            entries[f"leak check, {split}"] = f"of {size:,} pairs: {_told(leaks) or 'none'}"
        tokenizer = self._opened.tokenizer
        scored = f"{self.num_scored:,} of them scored"
        entries["tokenizer"] = f"{tokenizer.kind}, {tokenizer.size:,} tokens, {scored}"
        return {**self.source_card(), **entries}


def _told(leaks: dict[str, int]) -> str:
    """What of held-out pairs stands in training, in words; empty if nothing does."""
    words = {"source": "sources", "target": "targets", "pair": "whole pairs"}
    return ", ".join(f"{leaks[name]:,} {word}" for name, word in words.items() if leaks[name])


@dataclass(frozen=True)
class _Opened:
    """A store: store.json, (tokens, ends) by split and side, and the tokenizer."""

    saved: dict
    sides: dict
    tokenizer: tokenizers.Tokenizer


@functools.lru_cache(maxsize=4)
def _opened(data: TextPairs, fingerprint: str) -> _Opened:
    names = [field.name for field in dataclasses.fields(store.Rules)]
    rules = store.Rules(**{name: getattr(data, name) for name in names})
    folder = store.prepared(data.pairs, fingerprint, rules)
    saved = json.loads((folder / "store.json").read_text("utf-8"))
    sides = {}
    for split in SPLITS:
        for side in store.SIDES:
            path = folder / f"{split}_{side}.bin"
            is_empty = not path.stat().st_size
            empty = np.empty(0, saved["dtype"])
            tokens = empty if is_empty else np.memmap(path, saved["dtype"], "r")
            sides[split, side] = tokens, np.load(path.with_suffix(".npy"))
    tokenizer = vocabularies.from_json(json.loads((folder / "tokenizer.json").read_text("utf-8")))
    return _Opened(saved, sides, tokenizer)
