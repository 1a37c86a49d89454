"""The Free Spoken Digit Dataset as it travels with the package."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from tfbig.core.lazy import np
from tfbig.data import _embedded
from tfbig.data._recordings import Recording

PATH = Path(__file__).parent / "_spoken_digits" / "recordings.xz"
SHA256 = "551f101be9e9789b544973d8d978e597d0c801d89b02f03db541bb1b0fd36447"
RATE_HZ = 8000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST, VALIDATION = range(5), range(5, 10)  # of the 50 recordings of a digit by a speaker
SPEAKERS = ("george", "jackson", "nicolas", "theo", "yweweler")
CARD = {
    "title": "Free Spoken Digit Dataset",
    "source": "https://github.com/Jakobovski/free-spoken-digit-dataset, v1.0.9",
    "licence": "CC BY-SA 4.0",
    "citation": "Jackson, Z. et al. (2016). Free Spoken Digit Dataset (FSDD).",
}


@functools.lru_cache(maxsize=1)
def recordings() -> list[tuple[Recording, int]]:
    """All recordings, each with its number among those of its digit and speaker, 0 ... 49."""
    content = _embedded.content(PATH, SHA256)
    head, _, rest = content.partition(b"\n")
    counts = json.loads(head)
    # Differences of neighbours, folded to whole numbers without a sign: low bytes, then high ones
    low, high = np.frombuffer(rest, np.uint8).reshape(2, -1).astype(np.int32)
    folded = low + 256 * high
    difference = (folded >> 1) ^ -(folded & 1)
    samples = np.cumsum(difference, dtype=np.int64).astype(np.int16)  # wraps as it was folded
    ends = np.cumsum(list(counts.values()))
    listed = []
    for name, end in zip(counts, ends, strict=True):
        digit, speaker, number = name.split("_")
        recording = Recording(
            name=name,
            count=counts[name],
            speaker=speaker,
            label=int(digit),
            text=WORDS[int(digit)],
            levels=samples[end - counts[name] : end],
        )
        listed.append((recording, int(number)))
    return listed


def divided(held_out: str = "") -> dict[str, list[Recording]]:
    """The recordings by split: the published one, or all recordings of one speaker as the test."""
    splits = {"train": [], "validation": [], "test": []}
    for recording, number in recordings():
        is_test = recording.speaker == held_out if held_out else number in TEST
        if is_test:
            splits["test"].append(recording)
        else:
            splits["validation" if number in VALIDATION else "train"].append(recording)
    return splits
