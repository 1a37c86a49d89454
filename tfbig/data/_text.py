"""Windows of consecutive tokens from a corpus: what all text datasets share."""

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
from tfbig.data import _text_store as store
from tfbig.prep import text as prep
from tfbig.prep import tokenizers, vocabularies

READY = (
    "folder with tokenizer.json, vocab.json and merges.txt, or vocab.txt; SentencePiece .model; or"
    " a run"
)

TOLD_LEAK = 0.00005  # share of a held-out split found in training text: what is not 0.00 %


@dataclass(frozen=True, kw_only=True)
class TextWindows(Dataset):
    """Windows of context + 1 tokens, by position, from token files in the cache.

    Training windows start `stride` tokens apart; held-out splits are covered by windows side by
    side, each token but the first a target once. A window's `length` says how many of its targets
    are real.
    """

    gives = frozenset({"tokens"})

    context: int = knob(64, "tokens that a window's last target is predicted from", low=1)
    stride: int | None = knob(
        None,
        "tokens between the starts of training windows; none: context, so an epoch reads each token"
        " once",
        low=1,
    )
    tokenizer: str = knob(
        "characters",
        "how text becomes tokens; wordpiece: for masked language models, gives no text back",
        choices=("characters", "bytes", "bpe", "wordpiece", "ready"),
    )
    vocabulary: int = knob(
        4096, "bpe, wordpiece: number of tokens to learn from the training split", low=258
    )
    cased: bool = knob(False, "wordpiece: large letters are others than small ones")
    vocabulary_path: str | None = knob(None, f"ready: {READY}", path=True)
    min_count: int = knob(
        1, "characters: those rarer in the training split share one unknown token", low=1
    )
    normalize: str = knob("nfc", "Unicode normalisation", choices=prep.FORMS)
    duplicates: str = knob(
        "drop_near",
        "documents that are equal but for white space, or nearly",
        choices=("keep", "drop_exact", "drop_near"),
    )
    near: float = knob(
        0.8,
        "drop_near: share of common 16-character shingles from which documents are the same",
        above=0,
        high=1,
    )
    min_characters: int = knob(1, "shorter documents are left out", low=1)
    max_characters: int | None = knob(None, "longer documents are left out", low=1)
    max_odd: float = knob(
        0.1,
        "largest share of control, unassigned or replacement characters in a document",
        low=0,
        high=1,
    )
    script: str = knob(
        "any",
        "documents with less than half of their letters in this script are left out",
        choices=prep.SCRIPTS,
    )
    validation: float = knob(
        0.05,
        "share of the text held out for validation, in whole documents where they come near it",
        above=0,
        high=0.45,
    )
    test: float = knob(0.05, "share of the text held out for the test", above=0, high=0.45)
    split_seed: int = knob(0, "of the choice of held-out documents", low=0, high=2**32 - 1)

    def documents(self) -> store.Documents:
        """(split or None, name, text) of each document, in a fixed order, one at a time."""
        raise NotImplementedError

    def content(self) -> str:
        """Changes when the documents change."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Changes when the documents or a ready vocabulary change."""
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

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.tokenizer == "ready" and not self.vocabulary_path:
            expected = f"a {READY}, for data.tokenizer=ready"
            message = f"expected {expected}. Received: nothing. Set data.vocabulary_path=PATH."
            yield "vocabulary_path", Needed(message)
        if self.tokenizer != "ready" and self.vocabulary_path:
            yield (
                "vocabulary_path",
                (
                    f"expected with data.tokenizer=ready alone. Received: {self.vocabulary_path}"
                    f" with {self.tokenizer}."
                ),
            )
        # Documents are read once, before training, and all become one stream
        if self.on_error != "stop":
            yield (
                "on_error",
                (
                    "expected stop: a damaged document is named when the text is prepared."
                    f" Received: {self.on_error}."
                ),
            )

    @property
    def spec(self):
        tokens = Feature(shape=(self.context + 1,), dtype="int32", unit="token")
        return {
            "tokens": tokens,
            "length": Feature(shape=(), dtype="int32", unit="targets that are real"),
        }

    def size(self, split):
        tokens = len(self.tokens(split))
        if split == "train":
            if tokens <= self.context:
                raise UserError(
                    f"data.context: expected fewer than the {tokens:,} tokens of the training"
                    f" split. Received: {self.context}."
                )
            self._refuse_empty_splits()
            return (tokens - 1 - self.context) // (self.stride or self.context) + 1
        return -(-(tokens - 1) // self.context) if tokens > 1 else 0

    def _refuse_empty_splits(self) -> None:
        """Said before training, since held-out splits are read after it.

        A test split of share 0 is meant to be empty.
        """
        for split in ("validation", *(["test"] if self.test else [])):
            tokens = len(self.tokens(split))
            if tokens < 2:  # the first is a target of none
                raise UserError(
                    f"data.{split}: expected a share that gives the {split} split at least 2"
                    f" tokens. Received: {getattr(self, split)}, which gives {tokens} beside"
                    f" {len(self.tokens('train')):,} for training. Raise data.{split}, or give more"
                    " text."
                )

    def examples(self, split, positions):
        tokens = self.tokens(split)
        positions = np.asarray(positions, np.int64)
        size = self.size(split)
        if positions.size and not (positions.min() >= 0 and positions.max() < size):
            raise ValueError(
                f"positions: expected 0 ... {size - 1} in {split}. Received: {positions.min()} ..."
                f" {positions.max()}."
            )
        start = positions * ((self.stride or self.context) if split == "train" else self.context)
        index = np.minimum(start[:, None] + np.arange(self.context + 1), len(tokens) - 1)
        length = np.minimum(self.context, len(tokens) - 1 - start)
        return {"tokens": tokens[index].astype(np.int32), "length": length.astype(np.int32)}

    def tokens(self, split: str) -> np.ndarray:
        """A split's tokens, memory-mapped, uint16 or uint32 [n]."""
        if split not in SPLITS:
            raise UserError(f"split: expected one of {', '.join(SPLITS)}. Received: {split!r}.")
        return self._opened[1][split]

    @property
    def separated(self) -> bool:
        """Whether the training split holds the tokens around documents.

        It does where the vocabulary has a begin token, and where there are several documents.
        """
        saved, _, tokenizer = self._opened
        if tokenizer.begin is not None:
            return True
        return tokenizer.separator is not None and saved["splits"]["train"]["documents"] > 1

    def read_tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer the tokens were made by."""
        return self._opened[2]

    @cached_property
    def _opened(self) -> tuple[dict, dict, tokenizers.Tokenizer]:
        """The content of store.json, the token files, and the tokenizer.

        They are of the text as it was at the first access.
        """
        # Without what does not change the token files
        whole = dataclasses.replace(self, context=1, stride=None)
        return _opened(whole, self.fingerprint())

    def source_card(self) -> dict:
        """Title, source, licence and citation."""
        raise NotImplementedError

    def notes(self):
        counts = dict(self._opened[0]["cleaning"])
        read = counts.pop("read")
        del counts["kept"], counts["split"]
        reasons = [f"{number:,} {reason}" for reason, number in counts.items() if number]
        total = sum(counts.values())
        lines = []
        if reasons:
            lines.append(f"{total:,} of {read:,} documents left out: {', '.join(reasons)}")
        shares = self._opened[0]["overlap"].items()
        if leaks := [f"{share:.2%} of {split}'s" for split, share in shares if share >= TOLD_LEAK]:
            blocks = f"blocks of {store.BLOCK} characters"
            lines.append(f"{blocks} that stand in the training text too: {', '.join(leaks)}")
        return lines

    def card(self):
        saved, _, tokenizer = self._opened
        counts = dict(saved["cleaning"])
        division = counts.pop("split")
        entries = {
            "documents": ", ".join(
                f"{number:,} {name}"
                for name, number in counts.items()
                if number or name in ("read", "kept")
            )
        }
        entries["split"] = division
        for split, entry in saved["splits"].items():
            entries[f"{split} text"] = (
                f"{entry['documents']:,} documents, {entry['characters']:,} characters,"
                f" {entry['tokens']:,} tokens"
            )
        entries["leak check"] = ", ".join(
            f"{share:.2%} of {split}'s blocks of {store.BLOCK} characters are in training text"
            for split, share in saved["overlap"].items()
        )
        entries["tokenizer"] = f"{tokenizer.kind}, {tokenizer.size:,} tokens"
        return {**self.source_card(), **entries}


@functools.lru_cache(maxsize=4)
def _opened(data: TextWindows, fingerprint: str) -> tuple[dict, dict, tokenizers.Tokenizer]:
    """A dataset's store, written at the first call; see `TextWindows._opened`."""
    rules = store.Rules(
        **{field.name: getattr(data, field.name) for field in dataclasses.fields(store.Rules)}
    )
    folder = store.prepared(data.documents, fingerprint, rules)
    saved = json.loads((folder / "store.json").read_text("utf-8"))

    def open_file(path):
        return (
            np.memmap(path, saved["dtype"], "r")
            if path.stat().st_size
            else np.empty(0, saved["dtype"])
        )

    tokens = {split: open_file(folder / f"{split}.bin") for split in SPLITS}
    return (
        saved,
        tokens,
        vocabularies.from_json(json.loads((folder / "tokenizer.json").read_text("utf-8"))),
    )
