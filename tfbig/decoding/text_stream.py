"""Text as its tokens arrive: whole characters only, and never a part of what stops it."""

from __future__ import annotations

from tfbig.prep.tokenizers import UNKNOWN, Tokenizer


class TextStream:
    """Decodes tokens as they come.

    Args:
        tokenizer: what made the tokens.
        stop: the text ends before the first of these, wherever it comes; empty ones are none.
        begins: whether no other text stands before it.

    Attributes:
        text: what was written so far, without what stopped it.
        done: whether a stop text or the end of the document was reached.
    """

    def __init__(self, tokenizer: Tokenizer, *stop: str, begins: bool = False):
        self.tokenizer, self.stop = tokenizer, [one for one in stop if one]
        self._decode = tokenizer.decode if begins else tokenizer.continuation
        self.text, self.done, self._tokens, self._shown = "", False, [], 0

    def add(self, tokens: list[int]) -> str:
        """Takes new tokens and returns the text that is now certain and was not returned before."""
        if self.done:
            return ""
        end = self.tokenizer.separator
        if end is not None and end in tokens:
            tokens, self.done = tokens[: tokens.index(end)], True
        self._tokens += tokens
        self.text = self._decode(self._tokens)
        found = [self.text.index(one) for one in self.stop if one in self.text]
        if found:
            self.text, self.done = self.text[: min(found)], True
        return self._show(len(self.text) if self.done else self._certain())

    def end(self) -> str:
        """What is left when no more tokens come."""
        self.done = True
        return self._show(len(self.text))

    def _certain(self) -> int:
        """How much of the text later tokens cannot change.

        Not a torn character, nor what may become the stop text.
        """
        torn = len(self.text) - len(self.text.rstrip(UNKNOWN))
        # A character's first bytes are three at most, and some tokenizers show each
        certain = len(self.text) - min(torn, 3)
        begun = (
            length
            for one in self.stop
            for length in range(min(len(one) - 1, certain), 0, -1)
            if one.startswith(self.text[certain - length : certain])
        )
        return certain - max(begun, default=0)

    def _show(self, until: int) -> str:
        piece = self.text[self._shown : until]
        self._shown = max(self._shown, until)
        return piece
