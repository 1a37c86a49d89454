"""Tiny Shakespeare: 1.1 million characters of plays, through TensorFlow Datasets."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.errors import NoData
from tfbig.data import _tfds, _tfds_folders
from tfbig.data._text import TextWindows
from tfbig.prep import text as prep


@dataclass(frozen=True, kw_only=True)
class TinyShakespeare(TextWindows):
    """Tiny Shakespeare: 1.1 million characters of plays (Karpathy 2015), with 65 distinct ones.

    Split 90/5/5 as published.
    """

    @classmethod
    def smallest(cls, folder):
        """A few lines over and over, prepared as the plays are."""
        from tensorflow_datasets import features

        numbers = {"train": range(90), "validation": range(100, 130), "test": range(200, 230)}
        parts = {
            split: [{"text": "".join(f"{i} to be or not to be\n" for i in own)}]
            for split, own in numbers.items()
        }
        _tfds.prepare_made_up("tiny_shakespeare", folder, {"text": features.Text()}, parts)
        return cls(context=8)

    def check(self):
        _tfds_folders.find("tiny_shakespeare")

    def documents(self):
        for split in ("train", "validation", "test"):
            yield split, split, prep.decode(_text(split, _tfds_folders.folder()), split)

    def content(self):
        splits = ("train", "validation", "test")
        texts = (_text(split, _tfds_folders.folder()) for split in splits)
        return hashlib.sha256(b"".join(texts)).hexdigest()

    def source_card(self):
        return {
            "title": "Tiny Shakespeare",
            "source": "https://github.com/karpathy/char-rnn through TensorFlow Datasets",
            "licence": "public domain",
            "citation": "Karpathy, A. (2015). char-rnn.",
        }


@functools.lru_cache(maxsize=3)
def _text(split: str, folder: Path) -> bytes:
    texts = _tfds.read_all("tiny_shakespeare", split).get("text", ())
    if not len(texts) or not all(isinstance(text, bytes) for text in texts):
        received = "none. Delete its folder and prepare it again."
        raise NoData(
            f"data: tiny_shakespeare in {folder}: expected texts in {split}. Received: {received}"
        )
    return b"".join(texts)
