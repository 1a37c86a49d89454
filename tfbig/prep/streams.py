"""Random numbers of many independent streams at once, each a pure function of its seed."""

from __future__ import annotations

from tfbig.core.lazy import np

# Of SplitMix64 (Steele, Lea and Flood 2014)
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mixed(value: np.ndarray) -> np.ndarray:
    """Numbers that look random, uint64 [...], each of one number: SplitMix64's finaliser."""
    value = np.asarray(value).astype(np.uint64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(FIRST)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(SECOND)
    return value ^ (value >> np.uint64(31))


def combined(*values) -> np.ndarray:
    """One number, uint64, of several; equal only where all of them are, but for chance."""
    result = np.uint64(0)
    with np.errstate(over="ignore"):
        for value in values:
            result = mixed(result + np.uint64(GOLDEN) + mixed(value))
    return result


class Streams:
    """n streams of random numbers, by SplitMix64; `state`, uint64 [n], is all there is to keep."""

    def __init__(self, seeds: np.ndarray):
        """`seeds`: whole numbers [n]."""
        self.state = combined(seeds)

    def uniform(self) -> np.ndarray:
        """The next number of each stream, float64 [n], 0 <= x < 1."""
        self.state = self.state + np.uint64(GOLDEN)
        return (mixed(self.state) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, high) -> np.ndarray:
        """The next whole number of each stream, int64 [n], below `high` (one number, or [n])."""
        return (self.uniform() * high).astype(np.int64)

    def choice(self, allowed: np.ndarray) -> np.ndarray:
        """One of the allowed places of each row of bool [n, m], int64 [n]; without any, 0."""
        which = self.integers(allowed.sum(1))
        return (allowed.cumsum(1) > which[:, None]).argmax(1)

    def restart(self, which: np.ndarray, seeds: np.ndarray) -> None:
        """Begins anew, by other seeds, where `which` (bool [n]) says so."""
        self.state = np.where(which, combined(seeds), self.state)
