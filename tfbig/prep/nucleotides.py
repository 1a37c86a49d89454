"""DNA and RNA: letters as fractions of the four bases, and the strand across.

Letters that stand for one of several bases are equal fractions of them, gaps are zeros. Bases are
in the order A, C, G, T, so the strand across is the same fractions, backwards in both axes.

Shapes: b sequences, t letters.
"""

from __future__ import annotations

from tfbig.core.lazy import np, tf
from tfbig.prep.alphabets import Alphabet

BASES = "ACGT"
# What letters stand for: Nomenclature Committee of the IUB 1985, Nucleic Acids Research 13, 3021
MEANINGS = {
    **{base: base for base in BASES},
    **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": BASES, "-": ""},
}
NUCLEOTIDES = Alphabet("".join(MEANINGS), (("U", "T"), ("X", "N"), (".", "-")))


def fractions() -> np.ndarray:
    """Of each letter the fractions of A, C, G and T, float32 [letters, 4]."""
    rows = [[base in meaning for base in BASES] for meaning in MEANINGS.values()]
    counts = np.array(rows, np.float32)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def complements() -> np.ndarray:
    """Of each letter the number of the one across, uint8 [letters]."""
    meant = [frozenset(meaning) for meaning in MEANINGS.values()]
    across = dict(zip(BASES, reversed(BASES), strict=True))
    turned = [frozenset(across[base] for base in meaning) for meaning in meant]
    return np.array([meant.index(meaning) for meaning in turned], np.uint8)


def reverse_complement(numbers: np.ndarray) -> np.ndarray:
    """The strand across, read in its own direction; numbers of letters, uint8 [t]."""
    return complements()[numbers][::-1]


def read(numbers, count=None):
    """Numbers of letters [b, t] as fractions float32 [b, t, 4]; zeros behind `count`, int32 [b]."""
    given = tf.gather(tf.constant(fractions()), tf.cast(numbers, tf.int32))
    if count is None:
        return given
    real = tf.range(tf.shape(numbers)[1])[None] < count[:, None]
    return given * tf.cast(real, tf.float32)[..., None]


def turned(numbers, count=None):
    """`reverse_complement` of [b, t] in a graph; the first `count` of each, int32 [b], are real."""
    across = tf.gather(tf.constant(complements().astype(np.int32)), tf.cast(numbers, tf.int32))
    if count is None:
        return tf.reverse(across, [1])
    return tf.reverse_sequence(across, count, seq_axis=1)


def spelled(given: np.ndarray) -> str:
    """The letters nearest to fractions [t, 4]."""
    distance = np.abs(given[:, None] - fractions()[None]).sum(-1)
    return NUCLEOTIDES.text(distance.argmin(1))
