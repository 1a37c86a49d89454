"""Tokenizers: text to whole numbers and back. Characters, bytes, byte-level BPE, SentencePiece.

A tokenizer is a value: `to_json` gives everything that it is, and `from_json` gives it back, so that a run carries its own.
Where documents are packed behind each other, `separator` is the token between them; no text is ever encoded to it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
SEPARATOR = "<|endoftext|>"  # GPT-2's name of it


class Tokenizer:
    """What all tokenizers share.

    Attributes:
        size: number of tokens, the separator included.
        separator: the token between documents; None: there is none.
    """

    kind = ""
    size: int
    separator: int | None = None

    def encode(self, text: str) -> np.ndarray:
        """Tokens of a text, int32 [n]."""
        raise NotImplementedError

    def encode_all(self, texts: list[str]) -> list[np.ndarray]:
        """Tokens of many texts."""
        return [self.encode(text) for text in texts]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; separators are left out, bytes that are no whole character become U+FFFD."""
        raise NotImplementedError

    def continuation(self, tokens: Iterable[int]) -> str:
        """The text of tokens that stand behind others."""
        return self.decode(tokens)

    def byte_lengths(self) -> np.ndarray:
        """UTF-8 bytes that each token stands for, int32 [size]; 0 for the separator."""
        raise NotImplementedError

    def to_json(self) -> dict:
        raise NotImplementedError

    def _kept(self, tokens: Iterable[int]) -> list[int]:
        tokens = [int(token) for token in tokens]
        return tokens if self.separator is None else [token for token in tokens if token != self.separator]


class Characters(Tokenizer):
    """One token for each character (Unicode code point) of an alphabet."""

    kind = "characters"

    def __init__(self, alphabet: str, *, unknown: bool = False, separator: bool = False):
        self.alphabet, self.unknown = alphabet, len(alphabet) if unknown else None
        self.size = len(alphabet) + int(unknown) + int(separator)
        self.separator = self.size - 1 if separator else None
        codes = np.frombuffer(alphabet.encode("utf-32-le"), np.uint32)
        self._codes, self._order = np.sort(codes), np.argsort(codes).astype(np.int32)

    @classmethod
    def of(cls, texts: Iterable[str], *, min_count: int = 1, separator: bool = False) -> Characters:
        """The alphabet of some texts; rarer characters than `min_count` share one unknown token."""
        counts: dict[int, int] = {}
        for text in texts:
            for code, count in zip(*np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_counts=True), strict=True):
                counts[int(code)] = counts.get(int(code), 0) + int(count)
        alphabet = "".join(map(chr, sorted(code for code, count in counts.items() if count >= min_count)))
        return cls(alphabet, unknown=min_count > 1, separator=separator)

    def encode(self, text):
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1) if len(self._codes) else np.zeros(len(codes), int)
        known = self._codes[place] == codes if len(self._codes) else np.zeros(len(codes), bool)
        tokens = self._order[place] if len(self._codes) else np.zeros(len(codes), np.int32)
        if not known.all():
            if self.unknown is None:
                raise UserError(
                    f"characters: {_named({chr(code) for code in codes[~known]})} not in the alphabet of {len(self.alphabet)} characters this tokenizer knows "
                    f"(first at character {int(np.argmin(known)) + 1}). Leave them out, or train with data.min_count=2 or data.tokenizer=bytes."
                )
            tokens = np.where(known, tokens, self.unknown)
        return tokens.astype(np.int32)

    def decode(self, tokens):
        return "".join(self.alphabet[token] if token < len(self.alphabet) else UNKNOWN for token in self._kept(tokens))

    def byte_lengths(self):
        lengths = [len(character.encode()) for character in self.alphabet]
        lengths += [len(UNKNOWN.encode())] * (self.unknown is not None) + [0] * (self.separator is not None)
        return np.array(lengths, np.int32)

    def to_json(self):
        return {"kind": self.kind, "alphabet": self.alphabet, "unknown": self.unknown is not None, "separator": self.separator is not None}


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
    """Byte-level byte-pair encoding (Sennrich et al. 2016, Radford et al. 2019) by the `tokenizers` library."""

    kind = "bpe"

    def __init__(self, definition: str):
        library = _library("tokenizers", "tokenizers")
        self._definition, self._bpe = definition, library.Tokenizer.from_str(definition)
        vocabulary = self._bpe.get_vocab(with_added_tokens=False)
        self.separator = vocabulary.get(SEPARATOR)
        self.size = max(vocabulary.values()) + 1
        if self.separator is None:  # a trained vocabulary has none of its own
            self.separator, self.size = self.size, self.size + 1
        self._words = {token: word for word, token in vocabulary.items()}

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> BPE:
        """Learns a vocabulary of `size` tokens, the separator included."""
        library = _library("tokenizers", "tokenizers")
        tokenizer = _byte_level(library, library.models.BPE())
        trainer = library.trainers.BpeTrainer(
            vocab_size=size - 1, initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def from_files(cls, vocabulary: Path, merges: Path) -> BPE:
        """GPT-2's two files: a JSON object token -> number, and the merges in order, one a line."""
        library = _library("tokenizers", "tokenizers")
        try:
            lines = merges.read_text("utf-8").split("\n")
            pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
            numbers = json.loads(vocabulary.read_text("utf-8"))
            made = cls(_byte_level(library, library.models.BPE(numbers, pairs)).to_str())
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{vocabulary.parent}: holds no GPT-2 vocabulary that can be read: {error}.") from error
        missing = sorted(set(library.pre_tokenizers.ByteLevel.alphabet()) - set(numbers))
        if missing:  # the library would drop what it has no token for
            raise UserError(
                f"{vocabulary}: expected a token for each of the 256 bytes, so that any text can be encoded. Received: none for {len(missing)} "
                f"of them ({', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}). Give a byte-level vocabulary, or set data.tokenizer=bpe to learn one."
            )
        return made

    def encode(self, text):
        return np.array(self._bpe.encode(text, add_special_tokens=False).ids, np.int32)

    def encode_all(self, texts):
        return [np.array(found.ids, np.int32) for found in self._bpe.encode_batch(texts, add_special_tokens=False)]

    def decode(self, tokens):
        kept = self._kept(tokens)
        return self._bpe.decode(kept, skip_special_tokens=False) if kept else ""

    def byte_lengths(self):
        # In a byte-level vocabulary each character of a token's name stands for one byte.
        lengths = [len(self._words.get(token, "")) for token in range(self.size)]
        lengths[self.separator] = 0
        return np.array(lengths, np.int32)

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token; the separator's are none."""
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # these stand for themselves, the others follow 255
        others = [byte for byte in range(256) if byte not in printable]
        byte = {chr(code): code for code in printable} | {chr(256 + i): code for i, code in enumerate(others)}
        words = ["" if token == self.separator else self._words.get(token, "") for token in range(self.size)]
        return [bytes(map(byte.get, word)) if set(word) <= set(byte) else word.encode() for word in words]

    def to_json(self):
        return {"kind": self.kind, "definition": self._definition}


def _byte_level(library, model):
    """A `tokenizers` pipeline around a BPE model as GPT-2 has it: no normalisation, no added space, no special words."""
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


class SentencePiece(Tokenizer):
    """A ready SentencePiece model (Kudo and Richardson 2018). Lossless if the model does not normalise.

    Without byte fallback it has one token for all that it does not know, however much that is. Such text is refused: it could
    not be written again, and its bits per byte would compare with no other tokenizer's.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes):
        library = _library("sentencepiece", "sentencepiece")
        self._model, self._pieces = model, library.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise UserError(f"tokenizer: is no SentencePiece model: {error}.") from error
        self.size = self._pieces.GetPieceSize()
        end = self._pieces.eos_id()
        self.separator = end if end >= 0 else None
        plain = lambda i: not (self._pieces.IsControl(i) or self._pieces.IsUnknown(i) or self._pieces.IsByte(i)) and "\u2581" not in self._pieces.IdToPiece(i)  # noqa: E731
        self._word = [i for i in range(self.size) if plain(i)][:1]

    def encode(self, text):
        tokens = np.array(self._pieces.EncodeAsIds(text), np.int32)
        unknown = self._pieces.unk_id()
        if unknown in tokens:
            strange = {c for c in set(text) if unknown in self._pieces.EncodeAsIds(c)}
            raise UserError(
                f"characters: {_named(strange)} not in this SentencePiece vocabulary, which has no byte fallback (first at character "
                f"{next((i for i, c in enumerate(text, 1) if c in strange), 1)}). Leave them out, or take a vocabulary with byte fallback."
            )
        return tokens

    def decode(self, tokens):
        return self._pieces.DecodeIds(self._kept(tokens))

    def continuation(self, tokens):
        # The library leaves out a space at the start of a text, so some word is put there.
        return self._pieces.DecodeIds(self._word + self._kept(tokens)).removeprefix(self._pieces.DecodeIds(self._word))

    def byte_lengths(self):
        pieces = self._pieces
        length = lambda i: 0 if pieces.IsControl(i) or pieces.IsUnknown(i) else 1 if pieces.IsByte(i) else len(pieces.IdToPiece(i).replace("\u2581", " ").encode())  # noqa: E731
        return np.array([length(i) for i in range(self.size)], np.int32)

    def to_json(self):
        return {"kind": self.kind, "model": base64.b64encode(self._model).decode()}


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
    return BPE(saved["definition"]) if saved["kind"] == "bpe" else SentencePiece(base64.b64decode(saved["model"]))


def ready(path: Path) -> Tokenizer:
    """The tokenizer of a vocabulary made elsewhere; see `ready_files`."""
    found = ready_files(path)
    return BPE.from_files(*found) if len(found) == 2 else SentencePiece(found[0].read_bytes())


def ready_files(path: Path) -> list[Path]:
    """The files of a vocabulary made elsewhere: a folder's vocab.json and merges.txt (or encoder.json, vocab.bpe), or a SentencePiece .model."""
    if path.is_file() and path.suffix == ".model":
        return [path]
    for names in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        pair = [path / name for name in names]
        if all(file.is_file() for file in pair):
            return pair
    inside = sorted(path.glob("*.model")) if path.is_dir() else []
    if len(inside) == 1:
        return inside
    raise UserError(f"data.vocabulary_path: expected a folder with vocab.json and merges.txt, or a SentencePiece .model file. Received: {path}.")


def _library(name: str, package: str):
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"tokenizer: needs the package {package}, which is not installed. Run pip install 'tfbig[text]'.") from error
