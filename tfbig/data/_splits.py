"""Splits held out from a training set."""

from __future__ import annotations

from tfbig.core.lazy import np


def stratified(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and `count` rows held out, sorted and disjoint, keeping each class's share.

    Shares that are not whole are rounded by largest remainder, but no class's last row is held out,
    so there are fewer than `count` if no class has a row to spare. RandomState's stream is frozen,
    so the split stays the same for all versions of NumPy.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    counts = np.minimum(np.floor(exact).astype(np.int64), sizes - 1)
    order = np.argsort(-(exact - counts), kind="stable")
    while (missing := count - counts.sum()) and len(spare := order[(counts + 1 < sizes)[order]]):
        counts[spare[:missing]] += 1
    random = np.random.RandomState(seed)
    held = [
        random.permutation(np.flatnonzero(labels == label))[:n]
        for label, n in zip(classes, counts, strict=True)
    ]
    held = np.sort(np.concatenate([np.empty(0, np.int64), *held]))
    return np.setdiff1d(np.arange(len(labels)), held, assume_unique=True), held


def grouped(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """About `count` rows to hold out, sorted, rows of a group together.

    Each group counts for the label of its first row. Where all rows are groups of their own, these
    are `stratified`'s.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    wanted = max(1, round(count * len(first) / len(labels)))
    _, held = stratified(labels[first], wanted, seed)
    return np.flatnonzero(np.isin(group, held))


def balanced(labels: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows to hold out, sorted, rows of a group together, `share` of each class or somewhat fewer.

    Groups are taken in a seeded order, each if all of it is still wanted: so the sizes are right
    however unlike the groups are, but groups larger than what is held out stay in training.

    Args:
        labels: numbers of classes, int [n].
        groups: numbers or names [n].
        share: of each class, from 0 to 1; at least one row of each class is wanted.
        seed: of the order.
    """
    _, group = np.unique(groups, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((group.max(initial=-1) + 1, label.max(initial=-1) + 1), np.int64)
    np.add.at(counts, (group, label), 1)
    wanted = np.maximum(1, np.rint(share * counts.sum(0)).astype(np.int64))
    held = []
    for number in np.random.RandomState(seed).permutation(len(counts)):
        if (counts[number] <= wanted).all():
            wanted -= counts[number]
            held.append(number)
    return np.flatnonzero(np.isin(group, held))
