"""Connected digits: recordings of single ones by one speaker joined; travels with the package."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.features import SPLITS
from tfbig.core.lazy import np
from tfbig.data import _digits
from tfbig.data._recordings import Recording
from tfbig.data._transcribed import Transcribed

SILENCE_S = (0.05, 0.4)  # between digits, and around them
GAIN_DB = 6.0  # of each digit, either way
NOISE = (1.0, 8.0)  # deviation of the noise underneath, in levels of 16 bits


@dataclass(frozen=True, kw_only=True)
class ConnectedDigits(Transcribed):
    """One to seven spoken digits of one speaker in a row, with random silence and gain between.

    Semi-synthetic: the single digits are the recordings of `spoken_digits`, in its splits; nobody
    said them one after another. Its transcripts are words.
    """

    rate_hz: int = knob(8000, "samples a second, as they were recorded", choices=(8000,))
    most_s: float = knob(12.0, "seconds of the longest row", above=0)
    most_digits: int = knob(7, "digits of the longest row", low=1, high=20)
    train_rows: int = knob(2000, "rows of the training split", low=1)
    test_rows: int = knob(300, "rows of the validation split, and of the test split", low=1)
    held_out: str = knob(
        "",
        "all recordings of this speaker are the test; empty: the published split",
        choices=("", *_digits.SPEAKERS),
    )

    @classmethod
    def smallest(cls, folder):
        return cls(train_rows=40, test_rows=20, most_digits=2)

    def check(self):
        _digits.recordings()

    def divided(self):
        singles = _digits.divided(self.held_out)
        sizes = dict.fromkeys(SPLITS, self.test_rows) | {"train": self.train_rows}
        return {
            split: [self._row(split, singles[split], number) for number in range(size)]
            for split, size in sizes.items()
        }

    def _row(self, split: str, singles: list[Recording], number: int) -> Recording:
        """One row, which depends on nothing but its split and number."""
        random = np.random.RandomState([SPLITS.index(split), number])
        speakers = sorted({one.speaker for one in singles})
        speaker = speakers[random.randint(len(speakers))]
        own = [one for one in singles if one.speaker == speaker]
        chosen = [
            own[random.randint(len(own))] for _ in range(1 + random.randint(self.most_digits))
        ]
        low, high = (round(edge * self.rate_hz) for edge in SILENCE_S)
        parts = [np.zeros(random.randint(low, high))]
        for one in chosen:
            gain = 10 ** (random.uniform(-GAIN_DB, GAIN_DB) / 20)
            parts += [one.levels * gain, np.zeros(random.randint(low, high))]
        row = np.concatenate(parts)
        row = row + random.normal(0, random.uniform(*NOISE), len(row))
        levels = np.clip(np.rint(row), -32768, 32767).astype(np.int16)
        return Recording(
            name=f"{split} {number}",
            count=len(levels),
            speaker=speaker,
            text=" ".join(one.text for one in chosen),
            levels=levels,
        )

    def content(self):
        return _digits.SHA256

    def source_card(self):
        title = "Connected digits, joined from the Free Spoken Digit Dataset (semi-synthetic)"
        return {**_digits.CARD, "title": title}
