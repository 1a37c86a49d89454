"""How well labels are told apart, for reports of tasks that answer with one label of several."""

from __future__ import annotations

from tfbig.core.lazy import np

BINS = 15
DRAWN = 200  # points of a curve
CURVES = 8  # classes in a plot


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


def balanced(labels: np.ndarray, classes: int) -> list[float]:
    """A weight of each class, 1 on average over examples: its inverse frequency."""
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / np.maximum(counts, 1) / np.count_nonzero(counts)
    return [round(float(weight), 6) for weight in weights]


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


def curves(names, true, probability) -> list[dict]:
    """ROC and precision over recall of each class against the others; of two, of the last one."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, precision = [], []
    for number in range(len(names))[-1:] if len(names) == 2 else range(len(names))[:CURVES]:
        is_positive, score = true == number, probability[:, number]
        if is_positive.all() or not is_positive.any():
            continue
        wrong, right, _ = roc_curve(is_positive, score)
        exact, recall, _ = precision_recall_curve(is_positive, score)
        roc.append(_series(names[number], wrong, right))
        precision.append(_series(names[number], recall[::-1], exact[::-1]))
    axes = {"x_label": "false positive rate", "y_label": "sensitivity", "series": roc}
    other = {"x_label": "recall", "y_label": "precision", "series": precision}
    return [
        {"kind": "curves", "title": "Receiver operating characteristic", **axes},
        {"kind": "curves", "title": "Precision over recall", **other},
    ]


def _series(name, x, y) -> dict:
    kept = np.unique(np.linspace(0, len(x) - 1, DRAWN).round().astype(int))
    x, y = (np.round(values[kept].astype(float), 4).tolist() for values in (x, y))
    return {"name": name, "x": x, "y": y}


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
