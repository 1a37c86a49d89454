"""How well labels are told apart, for reports of tasks that answer with one label of several."""

from __future__ import annotations

from tfbig.core.lazy import np

BINS = 15


def panels(names, true, said, confidence) -> list[dict]:
    """Confusion matrix, measures of each class, reliability.

    Args:
        names: of the labels.
        true: number of each example's label, int [n].
        said: of the most probable one, int [n].
        confidence: its probability [n].
    """
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (true, said), 1)
    bins, error = reliability(confidence, said == true)
    matrix = {"kind": "matrix", "title": "Confusion matrix", "labels": list(names)}
    return [
        {**matrix, "counts": counts.tolist()},
        by_class(names, true, said),
        {"kind": "calibration", "title": "Reliability", "bins": bins, "ece": error},
    ]


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error, 0 to 1: how far confidence is from accuracy, by equal bins.

    Guo et al. 2017.
    """
    index = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(index, confidence - right.astype(np.float64), BINS)
    return float(np.abs(gap).sum() / len(right))


def by_class(names, label, predicted) -> dict:
    """A table of precision, recall and F1 of each class, the worst class first."""
    from sklearn.metrics import precision_recall_fscore_support

    numbers = np.arange(len(names))
    scores = np.stack(
        precision_recall_fscore_support(label, predicted, labels=numbers, zero_division=np.nan),
        axis=1,
    )
    order = np.argsort(np.where(np.isnan(scores[:, 2]), np.inf, scores[:, 2]), kind="stable")
    return {
        "kind": "table",
        "title": "Each class, the worst first",
        "headers": ["class", "examples", "precision", "recall", "F1"],
        "rows": [[names[i], f"{int(scores[i, 3]):,}", *map(_share, scores[i, :3])] for i in order],
        "caption": (
            "Precision: the share of those said to be of a class that are. Recall: the share of"
            " those of a class that were said to be. F1: their harmonic mean."
        ),
    }


def _share(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"


def reliability(confidence, right) -> tuple[list[dict], float]:
    """Accuracy by confidence in equal bins, and the expected calibration error.

    Guo et al. 2017.
    """
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for i in range(BINS):
        inside = index == i
        count = int(inside.sum())
        sure = accuracy = None
        if count:
            sure = float(confidence[inside].mean())
            accuracy = float(right[inside].mean())
            error += count / len(right) * abs(sure - accuracy)
        bins.append(
            {
                "low": i / BINS,
                "high": (i + 1) / BINS,
                "confidence": sure,
                "accuracy": accuracy,
                "count": count,
            }
        )
    return bins, error
