"""Tatoeba's English-Chinese sentences: 29,155 pairs; travels with the package."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import knob
from tfbig.data import _embedded
from tfbig.data._pairs import TextPairs

FILE = Path(__file__).parent / "_tatoeba_en_zh" / "pairs.tsv.xz"
# Of the uncompressed file
SHA256 = "d1a19c3af3698b6a6cc6db3a20fd4d5f20182874a8b29a71709499cf9bd3c61c"
SPLIT_OF = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class TatoebaEnZh(TextPairs):
    """Tatoeba: everyday sentences in English and Chinese, of six English words on average.

    27,155 pairs to train on, 1,000 for validation, 1,000 for the test. None of those has a sentence
    of the training pairs, but some are nearly equal to one, so expect higher figures than on news.
    """

    direction: str = knob("zh-en", "from which language to which", choices=("zh-en", "en-zh"))

    @classmethod
    def smallest(cls, folder):
        return cls(tokenizer="bytes", max_source=16, max_target=24)

    def pairs(self):
        source, target = self.direction.split("-")
        rows = csv.DictReader(_content().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        for number, row in enumerate(rows, 2):
            yield SPLIT_OF[row["split"]], f"row {number:,}", row[source], row[target]

    def content(self):
        return f"{SHA256} {self.direction}"

    def source_card(self):
        return {
            "title": f"Tatoeba, English-Chinese sentence pairs, {self.direction}",
            "source": "https://tatoeba.org through https://www.manythings.org/anki",
            "licence": "CC BY 2.0 FR; each sentence's author stands beside it in the file",
            "citation": "Tatoeba contributors. Tatoeba: collection of sentences and translations.",
        }


@functools.lru_cache(maxsize=1)
def _content() -> str:
    return _embedded.content(FILE, SHA256).decode("utf-8")
