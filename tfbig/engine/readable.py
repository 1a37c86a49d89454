"""A dataset as training reads it.

Records that cannot be read, or hold NaN, are named with their position, or left out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from tfbig.core.dataset import Dataset
from tfbig.core.errors import NoData, UserError
from tfbig.core.features import SPLITS
from tfbig.core.lazy import np

# UserError is a ValueError; readers of packed files raise the others
ERRORS = (OSError, ValueError, RuntimeError)
SHOWN = 3


class Readable:
    """A dataset that applies its `data.on_error`; everything else is the dataset's own.

    A record that is left out is substituted by the next readable one of its split. Which one
    depends on the position alone, so batches stay a pure function of it for every reader, worker
    and resumed run.

    Attributes:
        skipped: split -> position -> what is wrong with the record, as far as records were read.
    """

    def __init__(self, data: Dataset, known: dict[str, dict[str, str]] | None = None):
        """`known`: unreadable records of an earlier part of the run, as `skipped` in JSON."""
        self._data, self._arrays = data, {}
        self.skipped = {
            split: {int(i): text for i, text in (known or {}).get(split, {}).items()}
            for split in SPLITS
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._data, name)

    def examples(self, split: str, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The raw examples at `positions`, with substitutes for those left out."""
        return self._checked(split, positions, functools.partial(self._data.examples, split))

    def random_views(self, positions: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        """The training examples at `positions` as their keys want them, with substitutes."""
        return self._checked(
            "train", positions, functools.partial(self._data.random_views, keys=keys)
        )

    def _checked(self, split: str, positions: np.ndarray, read: Callable) -> dict[str, np.ndarray]:
        """What `read` returns of the readable examples at `positions`, or in their place."""
        while True:
            rows = np.array(
                [self._readable(split, int(i)) for i in np.asarray(positions)], np.int64
            )
            try:
                examples = read(rows)
            except NoData:
                raise
            except ERRORS as error:
                wrong = self._each(split, rows)
                if not wrong:
                    raise error
            else:
                wrong = {int(rows[i]): text for i, text in not_finite(examples).items()}
                if not wrong:
                    return examples
            self._leave_out(split, wrong)

    def arrays(self, split: str) -> dict[str, np.ndarray] | None:
        """The whole split if it is small, as the dataset decides; the same rows as `examples`."""
        if split not in self._arrays:
            try:
                arrays = self._data.arrays(split)
                whole = arrays is None or not (self.skipped.get(split) or not_finite(arrays))
            except NoData:
                raise
            except ERRORS:
                whole = False
            self._arrays[split] = (
                arrays if whole else self.examples(split, np.arange(self._data.size(split)))
            )
        return self._arrays[split]

    def encoded(self, split: str, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The same examples as `examples` returns, as their owner stores them, where known."""
        rows = np.array([self._readable(split, int(i)) for i in np.asarray(positions)], np.int64)
        return self._data.encoded(split, rows)

    def merge(self, others: list[str]) -> None:
        """Adds the unreadable records of other workers, each the JSON text of its `skipped`."""
        for text in others:
            for split, skipped in json.loads(text).items():
                reasons = {int(i): reason for i, reason in skipped.items()}
                self._count({split: {**self.skipped[split], **reasons}})

    def _readable(self, split: str, position: int) -> int:
        """The position itself, or its substitute's: the next readable record that is no longer."""
        wrong = self.skipped.get(split)
        if not wrong or position not in wrong:
            return position
        size = self._data.size(split)
        lengths = self._data.lengths(split) or {}
        for place in range(position + 1, position + size):
            other = place % size
            fits = all(values[other] <= values[position] for values in lengths.values())
            if other not in wrong and fits:
                return other
        raise UserError(
            f"data: no record of the {split} split can stand in for one that cannot be read. "
            f"The first of those: {next(iter(wrong.values()))}"
        )

    def _each(self, split: str, rows: np.ndarray) -> dict[int, str]:
        """Which of the rows cannot be read, and why."""
        wrong = {}
        for row in dict.fromkeys(rows.tolist()):
            try:
                self._data.examples(split, np.array([row]))
            except ERRORS as error:
                wrong[row] = str(error).removeprefix("data: ")
                if self._data.on_error == "stop":
                    break
        return wrong

    def _leave_out(self, split: str, wrong: dict[int, str]) -> None:
        if self._data.on_error == "stop":
            position, text = next(iter(wrong.items()))
            raise UserError(
                f"data: example {position:,} of the {split} split: {text}\ndata.on_error=skip"
                " trains without it."
            )
        self._count({split: {**self.skipped[split], **wrong}})

    def _count(self, found: dict[str, dict[int, str]]) -> None:
        self.skipped.update(found)
        number = sum(map(len, self.skipped.values()))
        if number > self._data.max_skipped:
            lines = [
                f"{split} {position:,}: {text}"
                for split, wrong in self.skipped.items()
                for position, text in sorted(wrong.items())
            ]
            more = "" if number <= SHOWN else f"\nand {number - SHOWN:,} more."
            raise UserError(
                f"data.max_skipped: expected at most {self._data.max_skipped:,} unreadable records."
                f" Found {number:,}:\n" + "\n".join(lines[:SHOWN]) + more
            )


def groups_of(data: Dataset | Readable, split: str) -> np.ndarray | None:
    """What `Dataset.groups` says of a split's examples, once it is known to be of all of them."""
    groups = data.groups(split)
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (data.size(split),) or groups.dtype.kind not in "iuSU":
        raise UserError(
            f"data: expected groups of the {split} split as numbers or names, one for each of its"
            f" {data.size(split):,} examples. Received: {groups.dtype} {list(groups.shape)}."
        )
    return groups


def not_finite(examples: dict[str, np.ndarray]) -> dict[int, str]:
    """The rows (by their place) that hold NaN or an infinite number, and in which part."""
    wrong = {}
    for name, values in examples.items():
        if isinstance(values, list):  # each as long as it is
            finite = [value.dtype.kind != "f" or np.isfinite(value).all() for value in values]
        elif values.dtype.kind == "f":
            finite = np.isfinite(values.reshape(len(values), -1)).all(1)
        else:
            finite = None
        if finite is not None:
            rows = np.flatnonzero(~np.asarray(finite, bool))
            wrong.update({int(row): f"{name} holds NaN or an infinite number" for row in rows})
    return wrong


def told(skipped: dict[str, dict]) -> str:
    """How many records of each split were left out, and the first of them; empty if none was."""
    counts = [f"{len(rows):,} of {split}" for split, rows in skipped.items() if rows]
    first = next((text for rows in skipped.values() for _, text in sorted(rows.items())), "")
    return f"unreadable records left out: {', '.join(counts)}; the first: {first}" if counts else ""
