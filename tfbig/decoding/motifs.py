"""What filters that read sequences look for, as logos (Schneider and Stephens 1990).

Shapes: n sequences, t letters, k letters that a filter looks at, f filters.
"""

from __future__ import annotations

from tfbig.core.lazy import np

LEAST_SITES = 10  # fewer would say little
THRESHOLD = 0.5  # of a filter's largest answer, from which a place is one of its sites


def logos(
    kernel: np.ndarray, bias: np.ndarray, given: np.ndarray, letters: str, most: int
) -> list[dict]:
    """Logos of filters, those of most information first, as items of a report's panel.

    A filter's sites are the places where it answers at least half as much as anywhere (as DeepBind
    and Basset draw theirs); a letter is as high as its share there times the bits that the place
    holds.

    Args:
        kernel: [k, letters, f].
        bias: [f].
        given: sequences as shares of each letter, [n, t, letters].
        letters: in the order of their axis.
        most: logos.
    """
    size = len(kernel)
    before = (size - 1) // 2
    padded = np.pad(given, ((0, 0), (before, size - 1 - before), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)  # [n, t, letters, k]
    windows = windows.reshape(-1, len(letters), size).transpose(0, 2, 1)
    answers = windows.reshape(len(windows), -1) @ kernel.reshape(-1, kernel.shape[-1]) + bias
    ranked = []
    for number, answer in enumerate(answers.T):
        sites = np.flatnonzero(answer >= max(THRESHOLD * answer.max(), 1e-6))
        if len(sites) < LEAST_SITES:
            continue
        counts = windows[sites].sum(0, dtype=np.float64) + 1e-9
        shares = counts / counts.sum(1, keepdims=True)
        bits = np.log2(len(letters)) + (shares * np.log2(shares)).sum(1)
        columns = [
            [[letter, round(float(height), 3)] for letter, height in zip(letters, row, strict=True)]
            for row in shares * bits[:, None]
        ]
        caption = f"filter {number + 1}: {len(sites):,} sites, {bits.sum():.1f} bits"
        ranked.append((bits.sum(), {"columns": columns, "caption": caption}))
    ranked.sort(key=lambda pair: -pair[0])
    return [item for _, item in ranked[:most]]
