"""Byte-level BPE: texts cut into the byte sequences that a vocabulary's merges make."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property

from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.prep.tokenizers import MARK, SEPARATOR, Tokenizer, optional

LONGEST_WORD = 1000  # bytes of a word that a vocabulary is learnt from; longer ones are cut


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
        cutter = tokenizer.pre_tokenizer
        tokenizer.pre_tokenizer = in_short_words(cutter, LONGEST_WORD)
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.pre_tokenizer = cutter
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
        spell = _spell_bytes if bytewise else spell_pieces
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


def in_short_words(cutter, longest: int):
    """A library's cutter of words whose words have so many letters at most.

    To learn from a word takes the square of its letters: of one that is a whole file, hours.
    """
    library = optional("tokenizers").pre_tokenizers
    return library.Sequence([cutter, library.FixedLength(longest)])


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


def spell_pieces(word: str) -> bytes:
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
