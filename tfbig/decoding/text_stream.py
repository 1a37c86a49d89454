"""Text as its tokens arrive: whole characters only, and never a part of what stops it."""

from __future__ import annotations

import codecs

from tfbig.prep import graph_text
from tfbig.prep.tokenizers import UNKNOWN, Tokenizer

TORN = 3  # bytes at most that a character's beginning has


def _replace_each(error: UnicodeDecodeError):
    """U+FFFD for each byte that is part of no character, as SentencePiece has it."""
    return UNKNOWN * (error.end - error.start), error.end


EACH = "tfbig.replace_each"
codecs.register_error(EACH, _replace_each)


class TextStream:
    """Decodes tokens as they come; a token takes the same time however many came before it.

    Args:
        tokenizer: what made the tokens.
        stop: the text ends before the first of these, wherever it comes; empty ones are none.
        begins: whether no other text stands before it.

    Attributes:
        done: whether a stop text or the end of the document was reached.
    """

    def __init__(self, tokenizer: Tokenizer, *stop: str, begins: bool = False):
        self.stop = [text for text in stop if text]
        self.done = False
        self._separator = tokenizer.separator
        known = graph_text.pieces(tokenizer) is not None
        self._decoder = (_ByteDecoder if known else _PieceDecoder)(tokenizer, begins)
        self._shown, self._held = [], ""  # what was returned, and whole characters behind it

    @property
    def text(self) -> str:
        """What was written so far, without what stopped it."""
        return "".join(self._shown) + ("" if self.done else self._held + self._decoder.torn)

    def add(self, tokens: list[int]) -> str:
        """Takes new tokens and returns the text that is now certain and was not returned before."""
        if self.done:
            return ""
        if self._separator is not None and self._separator in tokens:
            tokens = tokens[: tokens.index(self._separator)]
            self.done = True
        self._held += "".join(map(self._decoder.add, tokens))
        # What was returned before holds no part of a stop text, so none begins in it
        text = self._held + self._decoder.torn
        places = [text.index(stop) for stop in self.stop if stop in text]
        if places:
            text = text[: min(places)]
            self.done = True
        return self._show(text, len(text) if self.done else self._certain(text))

    def end(self) -> str:
        """What is left when no more tokens come."""
        text = "" if self.done else self._held + self._decoder.torn
        self.done = True
        return self._show(text, len(text))

    def _certain(self, text: str) -> int:
        """How much of a text later tokens cannot change.

        Not a torn character, nor what may become the stop text.
        """
        # Counted in the text, as some tokenizers show each byte of a character's beginning
        certain = len(text) - min(len(text) - len(text.rstrip(UNKNOWN)), TORN)
        begun = (
            length
            for stop in self.stop
            for length in range(min(len(stop) - 1, certain), 0, -1)
            if stop.startswith(text[certain - length : certain])
        )
        return certain - max(begun, default=0)

    def _show(self, text: str, until: int) -> str:
        self._shown.append(text[:until])
        self._held = self._held[until:]
        return text[:until]


class _ByteDecoder:
    """Text of tokens that each stand for some bytes: all but SentencePiece's.

    Attributes:
        torn: what the beginning of a character shows as while the rest of it is missing.
    """

    def __init__(self, tokenizer: Tokenizer, begins: bool):
        self.tokenizer, self.begins = tokenizer, begins
        self.pieces = graph_text.pieces(tokenizer)
        self.utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def torn(self) -> str:
        pending, _ = self.utf8.getstate()
        return pending.decode("utf-8", "replace")

    def add(self, token: int) -> str:
        """The whole characters that a token adds."""
        content = self.pieces[token]
        if self.begins and content:
            self.begins = False
            # Some tokenizers put a space before a text, and leave it out again
            spaced = self.tokenizer.decode([token]) != self.tokenizer.continuation([token])
            content = content.removeprefix(b" ") if spaced else content
        return self.utf8.decode(content)


class _PieceDecoder:
    """Text of SentencePiece's tokens: pieces that stand for themselves, and bytes.

    Attributes:
        torn: what the beginning of a character shows as while the rest of it is missing.
    """

    def __init__(self, tokenizer: Tokenizer, begins: bool):
        self.tokenizer = tokenizer
        # Tokens at the start of a text that are no text yet: spaces that are left out there
        self.opening = [] if begins else None
        self.utf8 = codecs.getincrementaldecoder("utf-8")(EACH)

    @property
    def torn(self) -> str:
        pending, _ = self.utf8.getstate()
        return UNKNOWN * len(pending)

    def add(self, token: int) -> str:
        """The whole characters that a token adds, and those that it shows to be torn for good."""
        byte = self.tokenizer.byte(token)
        if byte is not None:
            self.opening = None
            return self.utf8.decode(byte)
        torn = self.utf8.decode(b"", final=True)
        if self.opening is None:
            return torn + self.tokenizer.continuation([token])
        self.opening.append(token)
        text = self.tokenizer.decode(self.opening)
        self.opening = None if text else self.opening
        return text
