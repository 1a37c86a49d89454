"""What kinds of mistakes a detector makes, after TIDE (Bolya et al. 2020).

Each box that is told is right; a copy of one that is; of the right class, but badly placed; well
placed, but of another class; or around nothing. A true box that no right one stands for is missed.
"""

from __future__ import annotations

from tfbig.core.lazy import np

SHARED = 0.5  # intersection over union with a true box, to be well placed
TOUCHED = 0.1  # below it a box has nothing to do with a true one
KINDS = ("right", "copy", "badly placed", "other class", "around nothing")


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [n, 4] and others [m, 4], as [n, m]."""
    both = _shared(boxes, others)
    return both / np.maximum(_areas(boxes)[:, None] + _areas(others)[None] - both, 1e-9)


def inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of each box [n, 4] that lies inside each other one [m, 4], as [n, m]."""
    return _shared(boxes, others) / np.maximum(_areas(boxes)[:, None], 1e-9)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)


def _shared(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1)


def count(records: dict[str, np.ndarray], classes: int, least: float) -> np.ndarray:
    """How many boxes of each class are of each of KINDS, and true ones are missed: [classes, 6].

    Boxes are counted by the class that they are said to be of, the surest first. Crowds count as
    nothing, and what lies in one is not counted.

    Args:
        records: as `tfbig.metrics.average_precision.match` takes them.
        classes: how many there are.
        least: score of the boxes that count.
    """
    counts = np.zeros((classes, len(KINDS) + 1), np.int64)
    for row in range(len(records["scores"])):
        told = np.arange(records["scores"].shape[1]) < records["count"][row]
        told &= records["scores"][row] >= least
        number = records["true_count"][row]
        true_boxes = records["true_boxes"][row][:number]
        boxes = records["boxes"][row][told]
        crowd = records["true_crowd"][row][:number] > 0
        shared = np.where(crowd, inside(boxes, true_boxes), overlaps(boxes, true_boxes))
        said = records["classes"][row][told]
        true = records["true_classes"][row][:number]
        taken = np.zeros(number, bool)
        for box in range(len(said)):
            kind = _kind(shared[box], said[box] == true, taken, crowd)
            if kind is not None:
                counts[said[box], kind] += 1
        for label in true[~taken & ~crowd]:
            counts[label, -1] += 1
    return counts


def _kind(shared: np.ndarray, same: np.ndarray, taken: np.ndarray, crowd: np.ndarray) -> int | None:
    """The number of a box's kind; `taken` notes a true box that it is right about."""
    free = np.where(same & ~taken & ~crowd, shared, 0.0)
    if free.max(initial=0.0) >= SHARED:
        taken[free.argmax()] = True
        return KINDS.index("right")
    if (shared[crowd] >= SHARED).any():
        return None
    own = shared[same & ~crowd].max(initial=0.0)
    other = shared[~same & ~crowd].max(initial=0.0)
    if own >= SHARED:
        return KINDS.index("copy")
    if other >= SHARED:
        return KINDS.index("other class")
    return KINDS.index("badly placed" if own >= TOUCHED else "around nothing")


def panel(records: dict[str, np.ndarray], names: tuple[str, ...], least: float) -> dict:
    """A table of a report: the classes with most mistakes first."""
    counts = count(records, len(names), least)
    order = np.argsort(-counts[:, 1:].sum(1), kind="stable")
    rows = [[names[i], *(f"{value:,}" for value in counts[i])] for i in order if counts[i].any()]
    return {
        "kind": "table",
        "title": f"Boxes of a score of at least {least:g}, by kind",
        "headers": ["class", *KINDS, "missed"],
        "rows": rows,
        "caption": (
            f"Right: at least {SHARED:.0%} shared with a true box of the class. Copy: of one that"
            f" is right already. Badly placed: {TOUCHED:.0%} to {SHARED:.0%} shared. Other class:"
            " well placed around something else. Missed: true boxes without a right one."
        ),
    }
