"""Tokenizers: text to whole numbers and back. What all share, and those of characters and bytes.

Others stand in `prep.bpe`, `prep.sentence_piece` and `prep.wordpiece`, which gives back no text but
its words.

A tokenizer is a value: `to_json` gives everything that it is, and `vocabularies.from_json` gives it
back, so that a run carries its own. Where documents are packed behind each other, `separator` is
the token between them, and `begin` stands before each where a vocabulary has one; no text is ever
encoded to either.
"""

from __future__ import annotations

from collections.abc import Iterable

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
SEPARATOR = "<|endoftext|>"  # GPT-2's name of it
MARK = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's name of a space


class Tokenizer:
    """What all tokenizers share.

    Attributes:
        size: number of tokens, the separator included.
        separator: the token behind a document; None: there is none.
        begin: the token before each document and prompt; None: there is none.
        lossless: whether every text can be had back from its tokens.
    """

    kind = ""
    lossless = True
    size: int
    separator: int | None = None
    begin: int | None = None

    @property
    def opener(self) -> int | None:
        """The token that a document's first stands behind, wherever documents are packed."""
        return self.separator if self.begin is None else self.begin

    def encode(self, text: str) -> np.ndarray:
        """Tokens of a text, int32 [n]."""
        raise NotImplementedError

    def encode_all(self, texts: list[str]) -> list[np.ndarray]:
        """Tokens of many texts."""
        return [self.encode(text) for text in texts]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens.

        Separators are left out; bytes that are no whole character become U+FFFD.
        """
        raise NotImplementedError

    def continuation(self, tokens: Iterable[int]) -> str:
        """The text of tokens that stand behind others."""
        return self.decode(tokens)

    def byte_lengths(self) -> np.ndarray:
        """UTF-8 bytes that each token stands for, int32 [size]; 0 for the separator."""
        raise NotImplementedError

    def prefix_lengths(self) -> np.ndarray:
        """How many bytes of each token are no text where it comes first in a text, int32 [size].

        Some tokenizers put a space before a text, so that its first word is like the others.
        """
        return np.zeros(self.size, np.int32)

    def byte_counts(self, before: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """UTF-8 bytes of text that tokens stand for behind those `before` them, int32."""
        prefix = np.where(before == self.opener, self.prefix_lengths()[tokens], 0)
        return (self.byte_lengths()[tokens] - prefix).astype(np.int32)

    def to_json(self) -> dict:
        raise NotImplementedError

    def _kept(self, tokens: Iterable[int]) -> list[int]:
        return [int(token) for token in tokens if token not in (self.separator, self.begin)]


class Characters(Tokenizer):
    """One token for each character (Unicode code point) of an alphabet."""

    kind = "characters"

    def __init__(self, alphabet: str, *, unknown: bool = False, separator: bool = False):
        self.alphabet = alphabet
        self.unknown = len(alphabet) if unknown else None
        self.size = len(alphabet) + int(unknown) + int(separator)
        self.separator = self.size - 1 if separator else None
        codes = np.frombuffer(alphabet.encode("utf-32-le"), np.uint32)
        self._codes = np.sort(codes)
        self._order = np.argsort(codes).astype(np.int32)

    @classmethod
    def of(cls, texts: Iterable[str], *, min_count: int = 1, separator: bool = False) -> Characters:
        """The alphabet of some texts; rarer characters than `min_count` share one unknown token."""
        counts: dict[int, int] = {}
        for text in texts:
            for code, count in zip(
                *np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_counts=True),
                strict=True,
            ):
                counts[int(code)] = counts.get(int(code), 0) + int(count)
        alphabet = "".join(
            map(chr, sorted(code for code, count in counts.items() if count >= min_count))
        )
        return cls(alphabet, unknown=min_count > 1, separator=separator)

    def encode(self, text):
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        place = (
            np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
            if len(self._codes)
            else np.zeros(len(codes), int)
        )
        known = self._codes[place] == codes if len(self._codes) else np.zeros(len(codes), bool)
        tokens = self._order[place] if len(self._codes) else np.zeros(len(codes), np.int32)
        if not known.all():
            if self.unknown is None:
                raise UserError(
                    f"characters: {named({chr(code) for code in codes[~known]})} not in the"
                    f" alphabet of {len(self.alphabet)} characters this tokenizer knows (first at"
                    f" character {int(np.argmin(known)) + 1}). Leave them out, or train with"
                    " data.min_count=2 or data.tokenizer=bytes."
                )
            tokens = np.where(known, tokens, self.unknown)
        return tokens.astype(np.int32)

    def decode(self, tokens):
        return "".join(
            self.alphabet[token] if token < len(self.alphabet) else UNKNOWN
            for token in self._kept(tokens)
        )

    def byte_lengths(self):
        lengths = [len(character.encode()) for character in self.alphabet]
        lengths += [len(UNKNOWN.encode())] * (self.unknown is not None) + [0] * (
            self.separator is not None
        )
        return np.array(lengths, np.int32)

    def to_json(self):
        return {
            "kind": self.kind,
            "alphabet": self.alphabet,
            "unknown": self.unknown is not None,
            "separator": self.separator is not None,
        }


class Bytes(Tokenizer):
    """One token for each UTF-8 byte; token 256 is the separator."""

    kind = "bytes"
    size, separator = 257, 256

    def encode(self, text):
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def decode(self, tokens):
        return bytes(self._kept(tokens)).decode("utf-8", errors="replace")

    def byte_lengths(self):
        return np.array([1] * 256 + [0], np.int32)

    def to_json(self):
        return {"kind": self.kind}


def named(strange: set[str]) -> str:
    """The first five characters of some, with their code points."""
    names = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in sorted(strange)[:5])
    return names + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")


def optional(name: str):
    """A package that only some tokenizers need."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        install = "Run pip install 'tfbig[text]'."
        problem = f"needs the package {name}, which is not installed"
        raise UserError(f"tokenizer: {problem}. {install}") from error
