"""Spoken digits: 2,500 recordings by five people, 17 minutes; travels with the package."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.data import _digits
from tfbig.data._recordings import Labelled
from tfbig.data._transcribed import Transcribed


@dataclass(frozen=True, kw_only=True)
class SpokenDigits(Labelled, Transcribed):
    """The Free Spoken Digit Dataset: single digits in English, 8 kHz, labelled and spelt.

    The published split: of the 50 recordings of a digit by a speaker, 0 to 4 are the test, and the
    same people speak in all splits. Recordings 5 to 9 are the validation split.
    """

    gives = frozenset({"samples", "label", "transcript"})

    rate_hz: int = knob(8000, "samples a second, as they were recorded", choices=(8000,))
    most_s: float = knob(2.5, "seconds of the longest recording", above=0)
    held_out: str = knob(
        "",
        "all recordings of this speaker are the test; empty: the published split",
        choices=("", *_digits.SPEAKERS),
    )

    label_names = _digits.WORDS

    @classmethod
    def smallest(cls, folder):
        return cls()

    def check(self):
        _digits.recordings()

    def divided(self):
        return _digits.divided(self.held_out)

    def content(self):
        return _digits.SHA256

    def source_card(self):
        return _digits.CARD
