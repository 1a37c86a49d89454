"""Texts: as they are, from files or stdin, in UTF-8."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.lazy import np, tf
from tfbig.media._medium import Medium, Taken, read, shown
from tfbig.prep import text as prep


@dataclass(frozen=True, kw_only=True)
class Text(Medium):
    """Texts of any language and length; raw examples are strings."""

    medium, noun = "text", "text"

    @classmethod
    def check(cls, inputs):
        """Whatever is a text can be used."""

    def take(self, inputs) -> Taken:
        """Texts, "-" for that on stdin; each text is its own name.

        From Python also an array of texts, and a `pathlib.Path` for a file.
        """
        words = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
        if not words:
            raise UserError("inputs: expected at least one text. Received: none.")
        if not all(isinstance(word, (str, Path)) for word in words):
            raise UserError(f"inputs: expected texts. Received: {type(words[0]).__name__}.")
        named = [word for word in words if isinstance(word, str) and os.path.exists(word)]
        if named:
            message = (
                f"{named[0][:100]!r} is taken as a text; for what is in the file of that name, give"
                " - and the file on stdin"
            )
            warnings.warn(message, LeftOut, stacklevel=2)
        texts = [_text(word) for word in words]
        return Taken(names=texts, values=texts, refused=[])

    def decode(self, served: tf.Tensor) -> tf.Tensor:
        """Texts (string [b]) as they are, if they are UTF-8."""
        return tf.strings.unicode_transcode(served, "UTF-8", "UTF-8", errors="strict")

    def encode(self, values) -> np.ndarray:
        """Texts to UTF-8 bytes [n]."""
        for number, text in enumerate(values, 1):
            prep.refuse_surrogates(text, f"text {number}")
        encoded = np.empty(len(values), object)
        encoded[:] = [text.encode() for text in values]
        return encoded

    def panel(self, title, values, captions=(), caption=""):
        """The texts, each with its caption before it if there is any."""
        items = list(values)
        if captions:
            items = [f"{words}\n{text}" for words, text in zip(captions, values, strict=True)]
        return shown({"kind": "texts", "title": title, "items": items}, caption)


def _text(word: str | Path) -> str:
    if isinstance(word, Path):
        return prep.decode(read(word), str(word))
    return prep.decode(read(Path("-")), "stdin") if word == "-" else word
