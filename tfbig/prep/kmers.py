"""Runs of k bases: which sequences share them on either strand, and which are tied by that.

Sequences are numbers of letters of `prep.nucleotides`, uint8 [letters]. Pairs are two arrays of
places among n sequences.
"""

from __future__ import annotations

from tfbig.core.lazy import np
from tfbig.prep.nucleotides import BASES, reverse_complement

LONGEST = 31  # bases that 64 bits hold, and one value more
BREAK = 255  # between sequences; no base


def runs(sequences: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """All runs of k bases, without those that hold other letters.

    Returns:
        The smaller one of each run's number and that of the run across, uint64 [runs], and the
        place of the sequence that it stands in, int64 [runs].
    """
    parts = [part for row in sequences for part in (row, np.array([BREAK], np.uint8))]
    joined = np.concatenate([*parts, np.full(k, BREAK, np.uint8)])
    owner = np.repeat(np.arange(len(sequences)), [len(row) + 1 for row in sequences])
    count = len(owner)
    own, across = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    whole = np.ones(count, bool)
    for i in range(k):
        letter = joined[i : i + count]
        whole &= letter < len(BASES)
        base = (letter & 3).astype(np.uint64)
        own = (own << np.uint64(2)) | base
        across |= (np.uint64(3) - base) << np.uint64(2 * i)
    return np.minimum(own, across)[whole], owner[whole]


def sharing(sequences: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of sequences that share a run of k bases, enough of them to tie all that do."""
    numbers, owner = runs(sequences, k)
    return alike(numbers, owner)


def alike(keys: np.ndarray, owner: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of equal keys, each with the next of its kind.

    Args:
        keys: [n] of any kind that can be sorted.
        owner: what each key belongs to, int64 [n]; else its place.
    """
    owner = np.arange(len(keys)) if owner is None else owner
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    return owner[order][:-1][same], owner[order][1:][same]


def tied(count: int, *pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The connected component of each of `count` things, int64 [count]."""
    from scipy import sparse

    first, second = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    graph = sparse.coo_matrix((np.ones(len(first), bool), (first, second)), (count, count))
    return sparse.csgraph.connected_components(graph, directed=False)[1].astype(np.int64)


def one_strand(sequences: list[np.ndarray]) -> np.ndarray:
    """A number for each sequence, the same for equal ones, int64 [n]."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(row.tobytes(), len(known)) for row in sequences], np.int64)


def either_strand(sequences: list[np.ndarray]) -> np.ndarray:
    """A number for each sequence, the same for equal ones and those across, int64 [n]."""
    return one_strand(
        [min(row, reverse_complement(row), key=np.ndarray.tobytes) for row in sequences]
    )
