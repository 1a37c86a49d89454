"""How well labels are told apart and numbers are told: from counts and ranks.

The same as scikit-learn's and SciPy's measures of these names (see tests/test_text_classification),
from what a bootstrap can afford to ask for hundreds of times.
"""

from __future__ import annotations

from tfbig.core.lazy import np


def matthews(counts: np.ndarray) -> float:
    """Matthews' correlation of a confusion matrix of any size (Gorodkin 2004); 0 if undefined."""
    counts = counts.astype(np.float64)
    total, hits = counts.sum(), np.trace(counts)
    true, said = counts.sum(1), counts.sum(0)
    scale = (total**2 - said @ said) * (total**2 - true @ true)
    return float((hits * total - true @ said) / np.sqrt(scale)) if scale > 0 else 0.0


def auroc(score: np.ndarray, is_positive: np.ndarray) -> float | None:
    """The share of pairs of a positive and a negative that are in order; None without pairs."""
    from scipy import stats

    positives = int(is_positive.sum())
    negatives = len(is_positive) - positives
    if not positives or not negatives:
        return None
    ranks = stats.rankdata(score)[is_positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def auprc(score: np.ndarray, is_positive: np.ndarray) -> float | None:
    """Average precision: the area below precision over recall, in steps; None without positives."""
    positives = int(is_positive.sum())
    if not positives:
        return None
    order = np.argsort(-score, kind="stable")
    hits, ranked = np.cumsum(is_positive[order]), score[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of equal scores
    steps = np.diff(hits[ends], prepend=0) / positives
    return float(steps @ (hits[ends] / (ends + 1)))


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each class of a confusion matrix, 0 where it is undefined."""
    hits, total = np.diagonal(counts), counts.sum(0) + counts.sum(1)
    return np.where(total > 0, 2 * hits / np.maximum(total, 1), 0.0)


def pearson(one: np.ndarray, other: np.ndarray) -> float | None:
    """Pearson's correlation; None where one of both is constant."""
    one, other = (np.asarray(values, np.float64) - np.mean(values) for values in (one, other))
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale > 0 else None


def spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's correlation, of ranks; None where one of both is constant."""
    from scipy import stats

    return pearson(stats.rankdata(one), stats.rankdata(other))
