"""Error rates of words and characters by jiwer, from counts that add up to a corpus's.

Substitutions, deletions and insertions of the shortest way from a reference to what was said, over
the reference's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

KINDS = ("substitutions", "deletions", "insertions")


def _library():
    try:
        import jiwer
    except ImportError as error:
        raise UserError(
            "word error rate: needs jiwer, not installed. Run pip install 'tfbig[audio]'."
        ) from error
    return jiwer


def check() -> None:
    """Refuses to go on where the library is not installed."""
    _library()


def word_counts(references: Sequence[str], said: Sequence[str]) -> np.ndarray:
    """Of each text: substitutions, deletions, insertions, words of the reference; int64 [n, 4]."""
    return _counts(_library().process_words, references, said, lambda text: len(text.split()))


def character_counts(references: Sequence[str], said: Sequence[str]) -> np.ndarray:
    """As `word_counts`, of characters, spaces among them."""
    return _counts(_library().process_characters, references, said, len)


def _counts(process, references, said, length) -> np.ndarray:
    counts = np.zeros((len(references), 4), np.int64)
    # The library knows no reference without a word: all that is said there is inserted
    spoken = [row for row, text in enumerate(references) if text]
    for row, text in enumerate(references):
        if not text:
            counts[row] = 0, 0, length(said[row]), 0
    if spoken:
        aligned = process([references[i] for i in spoken], [said[i] for i in spoken])
        for row, chunks in zip(spoken, aligned.alignments, strict=True):
            for chunk in chunks:
                size = max(
                    chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
                )
                place = {"substitute": 0, "delete": 1, "insert": 2}.get(chunk.type)
                if place is not None:
                    counts[row, place] += size
            counts[row, 3] = length(references[row])
    return counts


def rate(counts: np.ndarray) -> float | None:
    """The error rate of a corpus, from the counts [n, 4] of its texts."""
    total = np.asarray(counts).sum(0)
    return float(total[:3].sum() / total[3]) if total[3] else None


def shares(counts: np.ndarray) -> dict[str, float | None]:
    """Substitutions, deletions and insertions over the reference's length."""
    total = np.asarray(counts).sum(0)
    return {
        kind: float(total[place] / total[3]) if total[3] else None
        for place, kind in enumerate(KINDS)
    }


def signature(normalizer: str) -> str:
    """How rates are computed, in words."""
    return f"jiwer {version('jiwer')}, text: {normalizer}"
