"""BLEU and chrF of translations by sacreBLEU (Post 2018), from counts that add up to a corpus's.

One reference a text. Texts are as people read them, never tokens of a model.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

TOKENIZERS = ("13a", "zh", "char", "none")
BINS = (5, 10, 15, 20, 30, 50)  # words of references, bounds of a report's bars


@functools.cache
def _metric(kind: str, tokenizer: str = ""):
    """SacreBLEU's BLEU or CHRF.

    Its counts of single texts, from which a bootstrap draws, have no public name: `counts` and
    `score` below are the only places that know the private ones.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError as error:
        raise UserError(
            "BLEU: needs sacrebleu, not installed. Run pip install 'tfbig[translation]'."
        ) from error
    return BLEU(tokenize=tokenizer, force=True) if kind == "bleu" else CHRF()


def check() -> None:
    """Refuses to go on where the library is not installed."""
    _metric("chrf")


def bleu_counts(texts: Sequence[str], references: Sequence[str], tokenizer: str) -> np.ndarray:
    """Of each text: its length, its reference's, n-grams that match, all its n-grams; [n, 10]."""
    return _counts(_metric("bleu", tokenizer), texts, references)


def chrf_counts(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Of each text and each order of characters: n-grams, its reference's, matches; [n, 18]."""
    return _counts(_metric("chrf"), texts, references)


def _counts(metric, texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    return np.array(metric._extract_corpus_statistics(texts, [references]), np.int64)


def bleu(counts: np.ndarray) -> float:
    """BLEU of a corpus, 0 ... 100, from the counts [n, 10] of its texts."""
    return _score(_metric("bleu", TOKENIZERS[0]), counts)


def chrf(counts: np.ndarray) -> float:
    """ChrF2 of a corpus, 0 ... 100, from the counts [n, 18] of its texts."""
    return _score(_metric("chrf"), counts)


def _score(metric, counts: np.ndarray) -> float:
    total = np.asarray(counts, np.int64).sum(0).tolist()
    return float(metric._compute_score_from_stats(total).score)


def bleu_signature(tokenizer: str) -> str:
    """How BLEU is computed, in sacreBLEU's words."""
    return _signature(_metric("bleu", tokenizer))


def chrf_signature() -> str:
    """How chrF is computed, in sacreBLEU's words."""
    return _signature(_metric("chrf"))


def _signature(metric) -> str:
    metric.corpus_score(["a"], [["a"]])  # a signature is complete once something was scored
    return str(metric.get_signature())


def by_length(counts: np.ndarray, lengths: np.ndarray) -> dict:
    """A panel of BLEU of the texts whose references have so many words."""
    labels, values = [], []
    for low, high in zip((0, *BINS), (*BINS, np.inf), strict=True):
        inside = (lengths > low) & (lengths <= high)
        if inside.any():
            span = f"{low + 1}-{high}" if high < np.inf else f"more than {low}"
            labels.append(f"{span} words ({inside.sum():,})")
            values.append(round(bleu(counts[inside]), 2))
    title = "BLEU by length of the reference"
    return {"kind": "bars", "title": title, "labels": labels, "values": values, "x_label": "BLEU"}
