"""Examples of any length in a few fixed shapes.

So few programs are compiled, and little is padded. A shape says to which length each feature with a
free axis is padded. The shapes of a run are measured on its training split and kept with its facts;
every split is then divided among them by length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.features import Feature, Spec
from tfbig.core.lazy import np

Padded = dict[str, int]
CANDIDATES = 64  # lengths among which those of shapes are chosen
WINDOW = 64  # slabs whose shapes are shuffled among each other


def free(spec: Spec) -> dict[str, int]:
    """The features whose first axis is free, and the most that it holds."""
    return {name: feature.most for name, feature in spec.items() if feature.most is not None}


def longest(spec: Spec) -> int:
    """The most that any free axis holds; 1 where there is none."""
    return max(free(spec).values(), default=1)


def measured(data: Dataset, count: int, batch_size: int) -> list[Padded]:
    """At most `count` shapes, from short to long, by which training examples are padded least."""
    lengths = lengths_of(data, "train")
    most = free(data.spec)
    if lengths is None:
        return [most]
    relative = _relative(lengths, most)
    edges = _edges(relative, count)
    shapes, below = [], 0
    for edge in edges:
        inside = relative <= edge
        if inside.sum() - below < batch_size and edge != edges[-1]:
            continue  # too few for a batch of like length: they stand with the next longer ones
        below = inside.sum()
        # No axis of length 0, which few layers can be built on
        shapes.append({name: max(1, int(values[inside].max())) for name, values in lengths.items()})
    return shapes


def _edges(relative: np.ndarray, count: int) -> np.ndarray:
    """At most `count` lengths, ascending, to which examples are padded with the least sum.

    Each example is padded to the next edge that is no shorter. Among CANDIDATES lengths the best
    ones are found by dynamic programming.
    """
    quantiles = np.arange(1, CANDIDATES + 1) / CANDIDATES
    values = np.unique(np.quantile(relative, quantiles, method="higher"))
    below = np.searchsorted(np.sort(relative), values, side="right")  # examples up to each
    least = below * values  # of the examples up to each, where it is the only edge
    chosen = []
    for _ in range(1, min(count, len(values))):
        between = below[:, None] - below[None]
        sums = least[None] + between * values[:, None]
        sums[np.triu_indices(len(values))] = np.inf  # an edge before another one is shorter
        chosen.append(np.argmin(sums, axis=1))
        least = sums.min(axis=1)
    last = len(values) - 1
    edges = [values[last]]
    for before in reversed(chosen):
        last = before[last]
        edges.append(values[last])
    return np.array(edges[::-1])


def lengths_of(data: Dataset, split: str) -> dict[str, np.ndarray] | None:
    """What `data.lengths` says of a split.

    Raises:
        UserError: an example is longer than the spec says there are.
    """
    lengths = data.lengths(split)
    for name, values in (lengths or {}).items():
        most = data.spec[name].most
        longer = np.flatnonzero(np.asarray(values) > most)
        if len(longer):
            raise UserError(
                f"data: example {longer[0]:,} of the {split} split: {name}: expected at most"
                f" {most:,}. Received: {values[longer[0]]:,}."
            )
    return lengths


def _relative(lengths: dict[str, np.ndarray], most: Padded) -> np.ndarray:
    """How much of the most that they may hold each example fills, float64 [n]."""
    return np.max([lengths[name] / most[name] for name in lengths], axis=0)


def pad(values: list[np.ndarray], length: int, feature: Feature) -> np.ndarray:
    """Arrays of their own lengths as one array [n, length, ...], filled up with zeros.

    Raises:
        ValueError: one is longer; its place is the error's second argument.
    """
    padded = np.zeros((len(values), length, *feature.shape[1:]), feature.dtype)
    for place, value in enumerate(values):
        if len(value) > length:
            message = f"expected at most {length:,}. Received: {len(value):,}."
            raise ValueError(message, place)
        padded[place, : len(value)] = value
    return padded


def padded(examples: dict, lengths: Padded, spec: Spec) -> dict[str, np.ndarray]:
    """Raw examples as batches hold them: features with a free axis padded to these lengths, and how
    many of each are real."""
    arrays = dict(examples)
    for name, length in lengths.items():
        arrays[name] = pad(examples[name], length, spec[name])
        arrays[f"{name}_count"] = counts(examples[name])
    return arrays


def counts(values: list[np.ndarray]) -> np.ndarray:
    """How long each of the arrays is, int32 [n]."""
    return np.array([len(value) for value in values], np.int32)


def fitting(values: dict[str, list], shapes: list[Padded], most: Padded) -> Padded:
    """The smallest of the shapes that all of these values fit, else the most there may be."""
    longest = {name: max(map(len, arrays), default=0) for name, arrays in values.items()}
    for padded in shapes:
        if all(longest[name] <= padded.get(name, 0) for name in longest):
            return padded
    return most


@dataclass(frozen=True, eq=False)
class Group:
    """The examples of a split that are padded to one shape.

    Attributes:
        rows: of the split, int64 [n]; None: all of them, in order.
        size: how many.
        padded: feature -> length.
    """

    rows: np.ndarray | None
    size: int
    padded: Padded

    def at(self, places: np.ndarray) -> np.ndarray:
        """The rows of the split at these places of the group."""
        return places if self.rows is None else self.rows[places]


def groups(data: Dataset, split: str, shapes: list[Padded] | None) -> list[Group]:
    """A split divided among the shapes.

    What fits none of them is padded to the most there may be.
    """
    most = free(data.spec)
    size = data.size(split)
    lengths = lengths_of(data, split)
    if not most or lengths is None or not shapes:
        return [Group(None, size, most)]
    fits = [
        np.all([lengths[name] <= padded[name] for name in lengths], axis=0) for padded in shapes
    ]
    first = np.argmax([*fits, np.ones(size, bool)], axis=0)
    members = [np.flatnonzero(first == number) for number in range(len(shapes) + 1)]
    named = zip(members, [*shapes, most], strict=True)
    return [Group(rows, len(rows), padded) for rows, padded in named if len(rows)]


def turn(number: int, sizes: list[int]) -> tuple[int, int]:
    """Which group slab `number` is of, and how many slabs of that group come before it.

    Groups take turns in proportion to their sizes, spread evenly: halved again and again, each half
    gets its share of the numbers before. So it costs no more to start at any slab.
    """
    first, last = 0, len(sizes)
    while last - first > 1:
        middle = (first + last) // 2
        first_half = sum(sizes[first:middle])
        both = sum(sizes[first:last])
        before = number * first_half // both
        if (number + 1) * first_half // both > before:
            number, last = before, middle
        else:
            number = number - before
            first = middle
    return first, number


def batches_of(groups: list[Group], batch_size: int) -> Iterator[tuple[Group, int]]:
    """Every batch of a pass over the groups.

    The group, and the place of the batch's first example.
    """
    for group in groups:
        for place in range(0, group.size, batch_size):
            yield group, place
