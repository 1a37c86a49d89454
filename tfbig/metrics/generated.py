"""How made pictures are distributed beside real ones, in the features of a network.

Both distances are of all pictures of a split, and of as many made ones. Figures in other features
or of other numbers of pictures cannot be compared.

Shapes: n pictures, d features.
"""

from __future__ import annotations

from collections.abc import Iterable

from tfbig.core.lazy import np

BLOCK = 500  # pictures whose kernel is computed at once


def kernel_distance(real_nd: np.ndarray, made_nd: np.ndarray) -> float:
    """KID: the squared maximum mean discrepancy by (x . y / d + 1)^3, unbiased.

    Binkowski et al. 2018. The mean over blocks of some 500 pictures from all over the split, whose
    parts may differ; it may fall below 0. Copies of a picture, as a bootstrap draws them, are not
    compared with each other.
    """
    blocks = max(1, round(len(real_nd) / BLOCK))
    pairs = [(real_nd[i::blocks], made_nd[i::blocks]) for i in range(blocks)]
    return float(np.mean([_discrepancy(*(x.astype(np.float64) for x in pair)) for pair in pairs]))


def _discrepancy(x, y) -> float:
    return _within(x) + _within(y) - 2 * _kernel(x, y).mean()


def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(x) -> float:
    kernel = _kernel(x, x)
    squares = np.einsum("nd,nd->n", x, x)
    others = squares[:, None] + squares[None] - 2 * (x @ x.T) > 1e-9 * squares.max()
    return float(kernel[others].mean()) if others.any() else 0.0


def frechet_distance(real_nd: np.ndarray, made_nd: np.ndarray) -> float:
    """FID: the Fréchet distance of two normal distributions (Heusel et al. 2017).

    It is too large by an amount that shrinks with the number of pictures.
    """
    (mean_x, spread_x), (mean_y, spread_y) = (
        (values.mean(0), np.cov(values, rowvar=False)) for values in (real_nd, made_nd)
    )
    values, vectors = np.linalg.eigh(spread_x)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ spread_y @ root), 0)).sum()
    squares = ((mean_x - mean_y) ** 2).sum()
    return float(squares + np.trace(spread_x) + np.trace(spread_y) - 2 * shared)


def nearest(made: np.ndarray, real: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of each made picture the nearest real one: its place, and how far it is.

    Args:
        made: uint8 [n, ...].
        real: the real ones, some at a time, uint8 [m, ...].

    Returns:
        int64 [n]; float [n], the root of the mean squared difference.
    """
    flat = made.reshape(len(made), -1).astype(np.float32)
    places = np.zeros(len(made), np.int64)
    least = np.full(len(made), np.inf)
    first = 0
    for part in real:
        other = part.reshape(len(part), -1).astype(np.float32)
        squares = (flat**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * flat @ other.T
        row = squares.argmin(1)
        value = squares[np.arange(len(made)), row]
        is_nearer = value < least
        places[is_nearer] = first + row[is_nearer]
        least[is_nearer] = value[is_nearer]
        first += len(part)
    return places, np.sqrt(np.maximum(least, 0) / flat.shape[1])
