"""Sequences: DNA, RNA or proteins, from FASTA, FASTQ, plain letters or stdin, also gzipped."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.media._medium import Medium, shown

DNA, RNA = "ACGTN", "ACGUN"
PROTEIN = "ACDEFGHIKLMNPQRSTVWYX"
GZIP = b"\x1f\x8b"
MOST_BYTES = 1 << 30  # of a file, unpacked
SHOWN = 600  # letters of a sequence in a report
PLAIN = re.compile(r"[A-Za-z*.\-]+")  # what is taken for letters rather than for a path


@dataclass(frozen=True, kw_only=True)
class Sequence(Medium):
    """Sequences of letters, as numbers: uint8 [letters], the place of each in the alphabet.

    Small letters count as large ones.

    Attributes:
        letters: the alphabet, in large letters; DNA and RNA with N, proteins with X for any.
        most: letters of the longest sequence.
    """

    medium, noun = "sequence", "sequence"
    suffixes = (".fa", ".fasta", ".fna", ".faa", ".fq", ".fastq", ".gz", ".npy")
    array = "of letters [n]"

    letters: str = DNA
    most: int

    @classmethod
    def _files(cls, path):
        """Files, or the letters themselves where there is no such file."""
        if not path.exists() and str(path) != "-" and PLAIN.fullmatch(str(path)):
            return [path]
        return super()._files(path)

    def _of_source(self, source, count):
        if str(source) != "-" and not source.exists():
            word = str(source)
            try:
                return [(word, self._numbers(word, "sequence"))]
            except UserError as error:
                raise UserError(f"{error} There is no file {word[:100]} either.") from error
        return super()._of_source(source, count)

    def _of_bytes(self, content, name, count):
        text = _text(content, name)
        named = [
            (f"{name}: {title}" if title else name, self._numbers(letters, f"{name}: {title or 1}"))
            for title, letters in records(text, name)
        ]
        if not named:
            raise UserError(f"{name}: expected at least one sequence. Received: none.")
        return named

    def _of_array(self, array, name):
        if array.ndim != 1 or array.dtype.kind not in "US" or not array.size:
            raise UserError(
                f"{name}: expected {self.array}. Received: {array.dtype} {list(array.shape)}."
            )
        texts = np.char.decode(array, "latin-1") if array.dtype.kind == "S" else array
        return [self._numbers(str(text), f"{name}[{i}]") for i, text in enumerate(texts)]

    def _numbers(self, text: str, name: str) -> np.ndarray:
        """Letters as numbers; the first that is none of the alphabet is named."""
        large = text.upper()
        wrong = re.search(f"[^{re.escape(self.letters)}]", large)
        if wrong:
            place = wrong.start()
            raise UserError(
                f"{name}: expected letters of {self.letters}. Received: {text[place]!r}, at letter"
                f" {place + 1:,}."
            )
        if not 0 < len(large) <= self.most:
            raise UserError(
                f"{name}: expected 1 to {self.most:,} letters. Received: {len(large):,}."
            )
        return self._table()[np.frombuffer(large.encode("ascii"), np.uint8)]

    def _table(self) -> np.ndarray:
        """Of each byte, the number of the letter it stands for; as many as there are for others."""
        table = np.full(256, len(self.letters), np.uint8)
        for number, letter in enumerate(self.letters):
            table[[ord(letter), ord(letter.lower())]] = number
        return table

    def text(self, numbers: np.ndarray) -> str:
        """The letters that numbers stand for."""
        return "".join(self.letters[number] for number in numbers)

    def decode(self, served: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Letters (string [b]) to numbers uint8 [b, longest] and how many are real, int32 [b].

        Refused with an InvalidArgumentError: letters that the alphabet lacks, sequences of none or
        of more than `most`.
        """
        count = tf.strings.length(served)
        for bound, right in (
            ("at least 1", count >= 1),
            (f"at most {self.most}", count <= self.most),
        ):
            tf.debugging.Assert(tf.reduce_all(right), [f"expected {bound} letters"])
        bytes_bt = tf.io.decode_raw(served, tf.uint8, fixed_length=self.most)
        bytes_bt = bytes_bt[:, : tf.reduce_max(tf.concat([count, [0]], 0))]
        real = tf.range(tf.shape(bytes_bt)[1])[None] < count[:, None]
        numbers = tf.gather(tf.constant(self._table()), tf.cast(bytes_bt, tf.int32))
        wrong = real & (numbers == len(self.letters))
        place = tf.argmax(tf.cast(tf.reshape(wrong, [-1]), tf.int32), output_type=tf.int32)
        letter = 1 + tf.math.floormod(place, tf.maximum(1, tf.shape(wrong)[1]))
        message = f"expected letters of {self.letters}. Received another one, at letter "
        tf.debugging.Assert(
            ~tf.reduce_any(wrong), [tf.strings.join([message, tf.strings.as_string(letter)])]
        )
        return tf.where(real, numbers, 0), count

    def encode(self, values, counts=None) -> np.ndarray:
        """Numbers to their letters, bytes [n]."""
        rows = values if counts is None else [v[:n] for v, n in zip(values, counts, strict=True)]
        alphabet = np.frombuffer(self.letters.encode(), np.uint8)
        encoded = np.empty(len(rows), object)
        encoded[:] = [alphabet[numbers].tobytes() for numbers in rows]
        return encoded

    def panel(self, title, values, captions, caption=""):
        """The letters of each."""
        items = []
        for numbers, words in zip(values, captions, strict=True):
            more = " ..." if len(numbers) > SHOWN else ""
            items.append(f"{words}\n{self.text(numbers[:SHOWN])}{more}")
        return shown({"kind": "texts", "title": title, "items": items}, caption)

    def form(self):
        return {"letters": self.letters, "most": self.most}


def _text(content: bytes, name: str) -> str:
    """A file's text, unpacked if it is packed."""
    if content.startswith(GZIP):
        try:
            content = _unpacked(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{name}: is no whole gzip file: {error}.") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{name}: expected at most {MOST_BYTES:,} bytes, unpacked. Cut it.")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}: expected FASTA, FASTQ or plain letters. Received: the byte"
            f" 0x{content[error.start]:02x}, at byte {error.start + 1:,}."
        ) from error


def _unpacked(content: bytes) -> bytes:
    """The content of a gzip file, but not more than is used of it."""
    with gzip.open(io.BytesIO(content)) as file:
        return file.read(MOST_BYTES + 1)


def records(text: str, name: str) -> Iterator[tuple[str, str]]:
    """The (title, letters) of FASTA or FASTQ; of plain letters one without a title.

    Lines of letters are joined, blanks left out. A title is the word behind > or @.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if lines and lines[0].startswith("@"):
        yield from _fastq(lines, name)
        return
    title, parts, number = "", [], 0
    for line in [*lines, ">"]:
        if line.startswith(">"):
            if parts or number:
                yield title, "".join(parts)
            number += 1
            words = line[1:].split()
            title = words[0] if words else f"{number}"
            parts = []
        elif not line.startswith(";"):  # comments of old files
            parts.append("".join(line.split()))


def _fastq(lines: list[str], name: str) -> Iterator[tuple[str, str]]:
    """Records of four lines: @title, letters, +, qualities."""
    for number, first in enumerate(range(0, len(lines), 4), 1):
        record = lines[first : first + 4]
        if len(record) < 4 or record[0][0] != "@" or record[2][0] != "+":
            raise UserError(f"{name}: expected FASTQ, four lines each. Record {number:,} is torn.")
        if len(record[1]) != len(record[3]):
            raise UserError(
                f"{name}: record {number:,}: expected as many qualities as letters,"
                f" {len(record[1]):,}. Received: {len(record[3]):,}."
            )
        yield (record[0][1:].split() or [str(number)])[0], record[1]
