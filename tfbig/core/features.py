"""What an example holds: the shape, type and unit of each of its parts; and the splits of data."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Shape, type and unit of one named part of an example, without the batch axis.

    The first axis may be free, None, with the `most` that it holds: boxes of a picture, samples of
    a recording, letters of a text. A dataset then gives an array of each example's own length, and
    the reader pads with zeros and adds how many are real, as NAME_count, int32 [batch].

    Example:
        Feature(shape=(None, 4), dtype="float32", unit="pixels", most=32)  # at most 32 boxes
    """

    shape: tuple[int | None, ...]
    dtype: str
    """NumPy's name, or "string" for what stays on the host."""
    unit: str = ""
    values: int | None = None
    """Numbers that stand for one of so many things (tokens, labels): 0 ... values - 1."""
    most: int | None = None
    """The longest that the free axis may be."""

    def __post_init__(self):
        is_free = bool(self.shape) and self.shape[0] is None
        assert is_free == (self.most is not None), "a free first axis needs `most`, others none"

    @property
    def longest(self) -> tuple[int, ...]:
        """The shape with the free axis at its longest."""
        return self.shape if self.most is None else (self.most, *self.shape[1:])


Spec = dict[str, Feature]
