"""A language model of words that stand behind each other, smoothed (Witten and Bell 1991)."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable

EDGE = "\0"  # stands before the first word


class NGrams:
    """Probabilities of words, given those before them.

    A word has its share of what was seen behind the words before it; what was never seen there is
    told by fewer words, and at last by all words alike.

    Args:
        texts: to learn from, words between spaces.
        order: words that are looked at together.
        words: all that there may be, besides those of the texts.

    Example:
        NGrams(["one two", "one three"], 2).log_p(("one", "two"))
    """

    def __init__(self, texts: Iterable[str], order: int, words: Iterable[str] = ()):
        self.order = order
        self.counts: dict[tuple[str, ...], collections.Counter] = collections.defaultdict(
            collections.Counter
        )
        known = set(words)
        for text in texts:
            own = text.split()
            known.update(own)
            padded = [EDGE] * (order - 1) + own
            for place in range(order - 1, len(padded)):
                for length in range(order):
                    self.counts[tuple(padded[place - length : place])][padded[place]] += 1
        self.size = max(1, len(known))

    def log_p(self, words: tuple[str, ...]) -> float:
        """The log-probability of the last word behind those before it, in nats."""
        padded = ([EDGE] * (self.order - 1) + list(words))[-self.order :]
        return math.log(self._p(tuple(padded[:-1]), padded[-1]))

    def _p(self, before: tuple[str, ...], word: str) -> float:
        shorter = self._p(before[1:], word) if before else 1 / self.size
        seen = self.counts.get(before)
        if not seen:
            return shorter
        total, kinds = seen.total(), len(seen)
        return (seen[word] + kinds * shorter) / (total + kinds)
