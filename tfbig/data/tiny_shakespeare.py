"""Tiny Shakespeare: 1.1 million characters of plays, through TensorFlow Datasets."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

from tfbig.core.errors import NoData
from tfbig.data import _tfds
from tfbig.data._text import TextWindows
from tfbig.prep import text as prep


@dataclass(frozen=True, kw_only=True)
class TinyShakespeare(TextWindows):
    """Tiny Shakespeare: 1.1 million characters of plays (Karpathy 2015), split 90/5/5 as published,
    65 characters.
    """

    def check(self):
        _tfds.find("tiny_shakespeare")

    def documents(self):
        for split in ("train", "validation", "test"):
            yield split, split, prep.decode(_text(split), split)

    def content(self):
        return hashlib.sha256(
            b"".join(_text(split) for split in ("train", "validation", "test"))
        ).hexdigest()

    def source_card(self):
        return {
            "title": "Tiny Shakespeare",
            "source": "https://github.com/karpathy/char-rnn through TensorFlow Datasets",
            "licence": "public domain",
            "citation": "Karpathy, A. (2015). char-rnn.",
        }


@functools.lru_cache(maxsize=3)
def _text(split: str) -> bytes:
    texts = _tfds.read_all("tiny_shakespeare", split).get("text", ())
    if not len(texts) or not all(isinstance(text, bytes) for text in texts):
        received = "none. Delete its folder and prepare it again."
        raise NoData(
            f"data: tiny_shakespeare in {_tfds.folder()}: expected texts in {split}. Received:"
            f" {received}"
        )
    return b"".join(texts)
