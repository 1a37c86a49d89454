"""Sequences: DNA, RNA or proteins, from files, plain letters or stdin.

FASTA, FASTQ and GenBank, also gzipped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.media._medium import Medium, shown
from tfbig.prep.alphabets import Alphabet
from tfbig.prep.sequence_files import SUFFIXES, records, text_of

DNA = "ACGTN"
PROTEIN = "ACDEFGHIKLMNPQRSTVWYX"
SHOWN = 600  # letters of a sequence in a report
PLAIN = re.compile(r"[A-Za-z*.\-]+")  # what is taken for letters rather than for a path


@dataclass(frozen=True, kw_only=True)
class Sequence(Medium):
    """Sequences of letters, as numbers: uint8 [letters], the place of each in the alphabet.

    Small letters count as large ones.

    Attributes:
        letters: the alphabet, in large letters; DNA and RNA with N, proteins with X for any.
        aliases: (letter, letter of `letters` that it stands for), such as U for T.
        least, most: letters of the shortest and the longest sequence.
        remedy: what to do with longer ones, as a sentence.
    """

    medium, noun = "sequence", "sequence"
    suffixes = (*SUFFIXES, ".npy")
    array = "of letters [n]"

    letters: str = DNA
    aliases: tuple[tuple[str, str], ...] = ()
    least: int = 1
    most: int
    remedy: str = ""

    @property
    def alphabet(self) -> Alphabet:
        return Alphabet(self.letters, self.aliases)

    @property
    def _sizes(self) -> str:
        """How many letters are expected, in words."""
        return f"{self.most:,}" if self.least == self.most else f"{self.least:,} to {self.most:,}"

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
        text = text_of(content, name)
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
                f"{name}: expected an array {self.array}. Received: {array.dtype}"
                f" {list(array.shape)}."
            )
        texts = np.char.decode(array, "latin-1") if array.dtype.kind == "S" else array
        return [self._numbers(str(text), f"{name}[{i}]") for i, text in enumerate(texts)]

    def _numbers(self, text: str, name: str) -> np.ndarray:
        """Letters as numbers; the first that is none of the alphabet is named."""
        numbers = self.alphabet.numbers(text, name)
        if not self.least <= len(numbers) <= self.most:
            remedy = f" {self.remedy}" if self.remedy and len(numbers) > self.most else ""
            raise UserError(
                f"{name}: expected {self._sizes} letters. Received: {len(numbers):,}.{remedy}"
            )
        return numbers

    def text(self, numbers: np.ndarray) -> str:
        """The letters that numbers stand for."""
        return self.alphabet.text(numbers)

    def decode(self, served: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Letters (string [b]) to numbers uint8 [b, longest] and how many are real, int32 [b].

        Refused with an InvalidArgumentError: letters that the alphabet lacks, sequences of fewer
        than `least` or of more than `most`.
        """
        count = tf.strings.length(served)
        for bound, right in (
            (f"at least {self.least}", count >= self.least),
            (f"at most {self.most}", count <= self.most),
        ):
            tf.debugging.Assert(tf.reduce_all(right), [f"expected {bound} letters"])
        longest = tf.minimum(tf.reduce_max(tf.concat([count, [0]], 0)), self.most)
        bytes_bt = tf.io.decode_raw(served, tf.uint8, fixed_length=tf.maximum(longest, 1))
        bytes_bt = bytes_bt[:, :longest]
        real = tf.range(tf.shape(bytes_bt)[1])[None] < count[:, None]
        numbers = tf.gather(tf.constant(self.alphabet.table()), tf.cast(bytes_bt, tf.int32))
        wrong = real & (numbers == len(self.letters))
        place = tf.argmax(tf.cast(tf.reshape(wrong, [-1]), tf.int32), output_type=tf.int32)
        letter = 1 + tf.math.floormod(place, tf.maximum(1, tf.shape(wrong)[1]))
        message = f"expected letters of {self.alphabet.accepted}. Received another one, at letter "
        tf.debugging.Assert(
            ~tf.reduce_any(wrong), [tf.strings.join([message, tf.strings.as_string(letter)])]
        )
        # Always of the alphabet, so that the refusal is what is told, whichever runs first
        return tf.where(real & ~wrong, numbers, 0), count

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
        return {"letters": self.alphabet.accepted, "most": self.most}
