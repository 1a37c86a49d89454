"""Splits held out from a training set."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from tfbig.core.features import SPLITS
from tfbig.core.files import UNREAD
from tfbig.core.lazy import np

NAMED = 4  # classes or transcripts in a line


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


def copies(rows: Iterable[tuple[str, str, str]], noun: str, kind: str) -> list[str]:
    """Lines about files that stand in the training split and another one, or with two answers.

    Args:
        rows: (split, answer, digest of the content) of each file.
        noun: what a file holds.
        kind: what an answer is, in a word.
    """
    places = collections.defaultdict(list)
    for split, answer, content in rows:
        places[content].append((split, answer))
    places.pop(UNREAD, None)
    twice, contradictory = collections.Counter(), 0
    several: set[str] = set()
    for own in places.values():
        answers = {answer for _, answer in own}
        splits = [split for split, _ in own]
        if "train" in splits:
            twice.update(split for split in splits if split != "train")
        if len(answers) > 1:
            contradictory += len(own)
            several |= answers
    lines = []
    if twice:
        counts = ", ".join(f"{twice[split]:,} of {split}" for split in SPLITS if twice[split])
        sentence = f"{noun}s that stand in the training split too, byte for byte"
        lines.append(f"{sentence}: {counts}; metrics of these splits are too good")
    if contradictory:
        names = ", ".join(sorted(several)[:NAMED]) + (", ..." if len(several) > NAMED else "")
        sentence = f"{noun}s that stand under another {kind} too, byte for byte"
        lines.append(f"{sentence}: {contradictory:,}, of {names}; not all can be right")
    return lines
