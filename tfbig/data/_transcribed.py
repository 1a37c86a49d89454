"""Recordings with a transcript: letters or pieces of words, and which of them can be learnt."""

from __future__ import annotations

import collections
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.lazy import np
from tfbig.data._recordings import Recordings
from tfbig.data._tables import missing
from tfbig.prep import bpe, tokenizers, vocabularies

READY = "folder with tokenizer.json or vocab.json and merges.txt; SentencePiece .model; or a run"


FORMS = ("letters", "none")


@dataclass(frozen=True, kw_only=True)
class Transcribed(Recordings):
    """Recordings with a transcript each."""

    gives = frozenset({"samples", "transcript"})
    answer_kind = "transcript"

    tokenizer: str = knob(
        "characters",
        "what is written one after another: letters, or pieces learnt from the transcripts",
        choices=("characters", "bpe", "ready"),
    )
    vocabulary: int = knob(512, "bpe: pieces to learn from the training transcripts", low=258)
    vocabulary_path: str | None = knob(None, f"ready: {READY}", path=True)
    normalize: str = knob(
        "letters",
        "transcripts before they are learnt and measured; letters: small letters, digits and"
        " apostrophes, one space between words",
        choices=FORMS,
    )
    most_tokens: int = knob(400, "tokens of the longest transcript", low=1)

    def problems(self):
        yield from super().problems()
        if self.tokenizer == "ready" and not self.vocabulary_path:
            expected = f"a {READY}, for data.tokenizer=ready"
            message = f"expected {expected}. Received: nothing. Set data.vocabulary_path=PATH."
            yield "vocabulary_path", Needed(message)

    @property
    def spec(self):
        tokens = Feature(
            shape=(None,),
            dtype="int32",
            unit="token",
            values=self.read_tokenizer().size,
            most=self.most_tokens,
        )
        return {**super().spec, "text": tokens}

    def read_tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer that transcripts are written in."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        texts = self.texts("train")
        if not any(texts):
            raise UserError(
                f"data: expected transcripts with letters. Received: {len(texts):,} to train on,"
                f" all empty with data.normalize={self.normalize}. Is it their column that is read?"
            )
        if self.tokenizer == "ready":
            return vocabularies.ready(Path(self.vocabulary_path or "").expanduser())
        if self.tokenizer == "bpe":
            return bpe.BPE.train(texts, self.vocabulary)
        letters = sorted(set("".join(texts)))
        # Letters that training lacks have a token too, which is never said
        return tokenizers.Characters("".join(letters), unknown=True)

    def answer(self, recording):
        return normalized(recording.text, self.normalize)

    def texts(self, split: str) -> list[str]:
        """The transcripts of a split, as they are learnt and measured."""
        return [normalized(recording.text, self.normalize) for recording in self.recordings(split)]

    @cached_property
    def _tokens(self) -> dict[str, list[np.ndarray]]:
        tokens = {split: self._tokenizer.encode_all(self.texts(split)) for split in SPLITS}
        for split, rows in tokens.items():
            for recording, row in zip(self.recordings(split), rows, strict=True):
                if len(row) > self.most_tokens:
                    raise UserError(
                        f"data.most_tokens: expected at least {len(row)}, the tokens of"
                        f" {recording.name}. Received: {self.most_tokens}."
                    )
        return tokens

    def lengths(self, split):
        counts = super().lengths(split)
        return {**counts, "text": np.array([len(row) for row in self._tokens[split]], np.int32)}

    def examples(self, split, positions):
        positions = np.asarray(positions, np.int64)
        text = [self._tokens[split][int(i)] for i in positions]
        return {**super().examples(split, positions), "text": text}

    def notes(self):
        texts = {split: self.texts(split) for split in SPLITS}
        notes = super().notes()
        known = set("".join(texts["train"]))
        for split in SPLITS[1:]:
            strange = sorted(set("".join(texts[split])) - known)
            if self.tokenizer == "characters" and strange:
                notes.append(f"{split}: characters that training lacks: {''.join(strange)!r}")
        empty = sum(not text for own in texts.values() for text in own)
        if empty:
            notes.append(f"{empty:,} transcripts are empty")
        raw = [recording.text for split in SPLITS for recording in self.recordings(split)]
        notes += missing(raw, "transcripts")
        return notes

    def card(self):
        words = collections.Counter(word for text in self.texts("train") for word in text.split())
        test = [word for text in self.texts("test") for word in text.split()]
        unseen = sum(word not in words for word in test)
        return {
            **super().card(),
            "tokenizer": f"{self._tokenizer.kind}, {self._tokenizer.size:,} tokens",
            "words": (
                f"{sum(words.values()):,} to train on, {len(words):,} different; {unseen:,} of the"
                f" test's {len(test):,} are none of them"
            ),
        }


def normalized(text: str, form: str) -> str:
    """A transcript as it is learnt and measured.

    "letters": Unicode's form NFC, small letters; what is neither letter, digit, mark nor apostrophe
    stands between words as one space.
    """
    if form == "none":
        return text
    text = unicodedata.normalize("NFC", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    kept = "".join(
        letter if letter == "'" or unicodedata.category(letter)[0] in "LMN" else " "
        for letter in text.lower()
    )
    return " ".join(kept.split())
