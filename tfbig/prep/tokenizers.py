"""Tokenizers: text to whole numbers and back. Characters, bytes, byte-level BPE, SentencePiece.

WordPiece, which gives back no text but its words, stands in `prep.wordpiece`.

A tokenizer is a value: `to_json` gives everything that it is, and `from_json` gives it back, so
that a run carries its own. Where documents are packed behind each other, `separator` is the token
between them, and `begin` stands before each where a vocabulary has one; no text is ever encoded to
either.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterable
from functools import cached_property

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
                    f"characters: {_named({chr(code) for code in codes[~known]})} not in the"
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


class BPE(Tokenizer):
    """Byte-pair encoding (Sennrich et al. 2016) by the `tokenizers` library.

    Of bytes, or of characters with a token for each byte to fall back to.

    Args:
        definition: JSON as the library writes it; the whole of it is obeyed.
        begin: the token before each document, if there is one.
        separator: the token behind a document; None: GPT-2's if the vocabulary has it, else one
            more.
    """

    kind = "bpe"

    def __init__(self, definition: str, *, begin: int | None = None, separator: int | None = None):
        library = optional("tokenizers")
        self._definition, self._separator = definition, separator
        self._bpe = library.Tokenizer.from_str(definition)
        self._bpe.encode_special_tokens = True  # the word of a control token is text as well
        self._bpe.no_truncation()
        self._bpe.no_padding()
        vocabulary = self._bpe.get_vocab(with_added_tokens=True)
        self.begin = begin
        self.size = max(vocabulary.values(), default=-1) + 1
        self.separator = vocabulary.get(SEPARATOR) if separator is None else separator
        if self.separator is None:  # a trained vocabulary has none of its own
            self.separator = self.size
            self.size += 1
        count = f"{len(vocabulary):,}"
        expected = f"tokenizer: expected numbers of its {count} tokens, with few left out."
        if self.size > 2 * len(vocabulary) + 1000:
            raise UserError(f"{expected} Received: {self.size - 1:,}.")
        if not all(0 <= token < self.size for token in (self.separator, self.begin or 0)):
            around = f"{self.begin} before a text and {self.separator} behind it"
            raise UserError(f"{expected} Received: {around}.")
        self._words = {token: word for word, token in vocabulary.items()}

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> BPE:
        """Learns a byte-level vocabulary of `size` tokens, with the separator.

        Radford et al. 2019.
        """
        library = optional("tokenizers")
        tokenizer = byte_level(library.models.BPE())
        trainer = library.trainers.BpeTrainer(
            vocab_size=size - 1,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    def encode(self, text):
        return np.array(self._bpe.encode(text, add_special_tokens=False).ids, np.int32)

    def encode_all(self, texts):
        encodings = self._bpe.encode_batch(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, tokens):
        content = self._joined(tokens)
        text = content.removeprefix(b" ") if self._spaced else content
        return text.decode("utf-8", errors="replace")

    def continuation(self, tokens):
        return self._joined(tokens).decode("utf-8", errors="replace")

    def _joined(self, tokens) -> bytes:
        return b"".join(self._bytes[token] for token in tokens)

    def byte_lengths(self):
        return np.array([len(content) for content in self._bytes], np.int32)

    def prefix_lengths(self):
        starts = [self._spaced and content.startswith(b" ") for content in self._bytes]
        return np.array(starts, np.int32)

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token; those of control tokens, such as the separator, are none."""
        return list(self._bytes)

    @cached_property
    def _spaced(self) -> bool:
        """Whether a space is put before a text."""
        return self._joined(self.encode("a")) == b" a"

    @cached_property
    def _bytes(self) -> list[bytes]:
        added = self._bpe.get_added_tokens_decoder()
        control = {token for token, word in added.items() if word.special}
        control |= {self.begin, self.separator}
        steps = parts(json.loads(self._definition).get("pre_tokenizer"))
        bytewise = any(step["type"] == "ByteLevel" for step in steps)
        spell = _spell_bytes if bytewise else _spell_pieces
        content = []
        for token in range(self.size):
            word = "" if token in control else self._words.get(token, "")
            content.append(word.encode() if token in added else spell(word))
        return content

    def to_json(self):
        around = {"begin": self.begin, "separator": self._separator}
        return {"kind": self.kind, "definition": self._definition, **around}


def byte_level(model, *, add_prefix_space: bool = False):
    """A `tokenizers` pipeline around a BPE model, like GPT-2's.

    It has no normalisation and no special words.
    """
    library = optional("tokenizers")
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


def parts(step: dict | None) -> list[dict]:
    """The single steps of a step of a `tokenizers` definition; itself if it has none inside."""
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [step]
    inner = [*step.get("normalizers", []), *step.get("pretokenizers", [])]
    return [single for nested in inner for single in parts(nested)]


def _spell_bytes(word: str) -> bytes:
    """A byte-level token: each character of its name stands for one byte."""
    if set(word) <= BYTES.keys():
        return bytes(map(BYTES.get, word))
    return word.encode()


def _spell_pieces(word: str) -> bytes:
    """A token as SentencePiece names it: a byte by its number, a space by its mark."""
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", word)
    return bytes([int(byte[1], 16)]) if byte else word.replace(MARK, " ").encode()


def _byte_names() -> dict[str, int]:
    """The characters by which GPT-2 names the 256 bytes.

    Printable bytes stand for themselves, the others for the code points from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(code): code for code in printable} | {
        chr(256 + i): code for i, code in enumerate(others)
    }


BYTES = _byte_names()


class SentencePiece(Tokenizer):
    """A ready SentencePiece model (Kudo and Richardson 2018).

    Lossless if the model does not normalise.

    Args:
        model: the content of a .model file.
        begin: the token before each document, if there is one.

    Without byte fallback it has one token for everything that it does not know, however long. Such
    text is refused: it could not be decoded again, and its bits per byte could not be compared with
    another tokenizer's.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes, *, begin: int | None = None):
        library = optional("sentencepiece")
        self._model = model
        self._pieces = library.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
            self.size = self._pieces.GetPieceSize()
            self._words = [self._pieces.IdToPiece(token) for token in range(self.size)]
        except (RuntimeError, UnicodeDecodeError) as error:
            raise UserError(f"tokenizer: is no SentencePiece model: {error}.") from error
        self.begin = begin
        self.separator = self.control("eos")
        words = filter(self._is_word, range(self.size))
        self._word = list(itertools.islice((t for t in words if MARK not in self._words[t]), 1))

    def _is_word(self, token: int) -> bool:
        """Whether a token stands for characters, and neither for a byte nor for nothing."""
        pieces = self._pieces
        return not (pieces.IsControl(token) or pieces.IsUnknown(token) or pieces.IsByte(token))

    def control(self, name: str) -> int | None:
        """The number of the token "bos" or "eos", if the model has it."""
        token = {"bos": self._pieces.bos_id, "eos": self._pieces.eos_id}[name]()
        return token if token >= 0 else None

    def encode(self, text):
        tokens = np.array(self._pieces.EncodeAsIds(text), np.int32)
        unknown = self._pieces.unk_id()
        if unknown in tokens:
            strange = {character for character in set(text) if not self.knows(character)}
            raise UserError(
                f"characters: {_named(strange)} not in this SentencePiece vocabulary, which has no"
                " byte fallback (first at character"
                f" {next((i for i, c in enumerate(text, 1) if c in strange), 1)}). Leave them out,"
                " or take a vocabulary with byte fallback."
            )
        return tokens

    def knows(self, character: str) -> bool:
        """Whether there are tokens for a character."""
        return self._pieces.unk_id() not in self._pieces.EncodeAsIds(character)

    def decode(self, tokens):
        return self._pieces.DecodeIds(self._kept(tokens))

    def continuation(self, tokens):
        # The library leaves out a space at the start of a text, so some word is put there.
        return self._pieces.DecodeIds(self._word + self._kept(tokens)).removeprefix(
            self._pieces.DecodeIds(self._word)
        )

    def byte(self, token: int) -> bytes | None:
        """The byte that a token stands for, None for all but the tokens of bytes."""
        return _spell_pieces(self._words[token]) if self._pieces.IsByte(token) else None

    def byte_lengths(self):
        lengths = [len(word.replace(MARK, " ").encode()) for word in self._words]
        lengths = [length if self._is_word(token) else 0 for token, length in enumerate(lengths)]
        lengths = [self._pieces.IsByte(token) + length for token, length in enumerate(lengths)]
        return np.array(lengths, np.int32)

    def prefix_lengths(self):
        first, *_ = self._pieces.EncodeAsIds("a")
        spaced = self._words[first].startswith(MARK)
        starts = [spaced and word.startswith(MARK) for word in self._words]
        return np.array(starts, np.int32)

    def to_json(self):
        model = base64.b64encode(self._model).decode()
        return {"kind": self.kind, "model": model, "begin": self.begin}


def _named(strange: set[str]) -> str:
    """The first five characters of some, with their code points."""
    names = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in sorted(strange)[:5])
    return names + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")


def from_json(saved: dict) -> Tokenizer:
    """The tokenizer that `to_json` described."""
    if saved["kind"] == "characters":
        return Characters(saved["alphabet"], unknown=saved["unknown"], separator=saved["separator"])
    if saved["kind"] == "bytes":
        return Bytes()
    if saved["kind"] == "bpe":
        return BPE(saved["definition"], begin=saved.get("begin"), separator=saved.get("separator"))
    if saved["kind"] == "wordpiece":
        from tfbig.prep.wordpiece import WordPiece  # which is built on this file

        return WordPiece(**{name: value for name, value in saved.items() if name != "kind"})
    return SentencePiece(base64.b64decode(saved["model"]), begin=saved.get("begin"))


def optional(name: str):
    """A package that only some tokenizers need."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        install = "Run pip install 'tfbig[text]'."
        problem = f"needs the package {name}, which is not installed"
        raise UserError(f"tokenizer: {problem}. {install}") from error
