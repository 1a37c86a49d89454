"""Alphabets of sequences: letters as numbers, in Python and as a table for graphs."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.errors import UserError
from tfbig.core.lazy import np


@dataclass(frozen=True)
class Alphabet:
    """Letters of sequences, by their places: the first is 0. Small letters count as large ones.

    Attributes:
        letters: large ones, each once; at most 255.
        aliases: (letter, letter of `letters` that it stands for), such as U for T.

    Example:
        Alphabet("ACGT", (("U", "T"),)).numbers("acgu", "mine")  # [0, 1, 2, 3]
    """

    letters: str
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def accepted(self) -> str:
        """All large letters that are read."""
        return self.letters + "".join(alias for alias, _ in self.aliases)

    def table(self) -> np.ndarray:
        """Of each byte the number that it stands for, uint8 [256]; for others len(letters)."""
        table = np.full(256, len(self.letters), np.uint8)
        for letter, meant in (*zip(self.letters, self.letters, strict=True), *self.aliases):
            table[[ord(letter), ord(letter.lower())]] = self.letters.index(meant)
        return table

    def numbers(self, text: str, name: str) -> np.ndarray:
        """Letters as numbers, uint8 [letters].

        Raises:
            UserError: with `name`, the first letter that is none of these, and its place.
        """
        numbers = self.table()[np.frombuffer(text.encode("latin-1", "replace"), np.uint8)]
        wrong = np.flatnonzero(numbers == len(self.letters))
        if len(wrong):
            raise UserError(
                f"{name}: expected letters of {self.accepted}. Received: {text[wrong[0]]!r}, at"
                f" letter {wrong[0] + 1:,}."
            )
        return numbers

    def text(self, numbers: np.ndarray) -> str:
        """The letters that numbers stand for."""
        return "".join(self.letters[number] for number in numbers)
