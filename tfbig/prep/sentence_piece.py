"""SentencePiece models, as they come with published weights."""

from __future__ import annotations

import base64
import itertools

from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.prep.bpe import spell_pieces
from tfbig.prep.tokenizers import MARK, Tokenizer, named, optional


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
                f"characters: {named(strange)} not in this SentencePiece vocabulary, which has no"
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
        return spell_pieces(self._words[token]) if self._pieces.IsByte(token) else None

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
