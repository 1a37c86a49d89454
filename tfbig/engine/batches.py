"""Batches: slabs of consecutive training batches, and padded batches for evaluation.

Training reads slabs [block, batch, ...] that hold `block` batches, so that one call into the compiled program makes many
steps. Slab m always holds the batches of steps m * block ... (m + 1) * block - 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tfbig.core.contracts import Dataset, Task
from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.core.workers import Share
from tfbig.engine import order
from tfbig.engine.readable import ERRORS

SLAB_BYTES = 128 * 2**20


def block_length(data: Dataset, batch_size: int, wanted: int) -> int:
    """Steps per slab: as many as wanted, while a slab of raw examples stays small."""
    example = sum(int(np.prod(feature.shape)) * np.dtype(feature.dtype).itemsize for feature in data.spec.values())
    return max(1, min(wanted, SLAB_BYTES // max(1, example * batch_size)))


class Reader:
    """A function from rows (int64 [n]) of a split to raw examples: a gather if the split fits in memory, else random access."""

    def __init__(self, data: Dataset, split: str):
        self.data, self.split, self.failure = data, split, None
        arrays = data.arrays(split)
        self.tensors = None if arrays is None else {name: tf.constant(value) for name, value in arrays.items()}

    def __call__(self, row: tf.Tensor) -> dict[str, tf.Tensor]:
        if self.tensors is not None:
            return {name: tf.gather(value, row) for name, value in self.tensors.items()}
        spec = self.data.spec
        values = tf.numpy_function(self._load, [row], [tf.dtypes.as_dtype(feature.dtype) for feature in spec.values()], stateful=False)
        count = row.shape[0]
        return {name: tf.ensure_shape(value, (count, *spec[name].shape)) for name, value in zip(spec, values, strict=True)}

    def _load(self, rows: np.ndarray) -> list[np.ndarray]:
        try:
            examples = self.data.examples(self.split, rows)
        except ERRORS as error:  # TensorFlow would pass on its text only, with a traceback in it
            self.failure = error if isinstance(error, UserError) else UserError(f"data: the {self.split} split cannot be read: {error}.")
            raise
        return [np.ascontiguousarray(examples[name], feature.dtype) for name, feature in self.data.spec.items()]

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """While elements are taken from a pipeline of this reader: what went wrong in reading is said in its own words."""
        try:
            yield
        except tf.errors.OpError:
            if self.failure is None:
                raise
            raise self.failure from None


class Slabs:
    """Slabs of training batches by step: name -> [block, batch, ...].

    They hold raw examples with their "key" if the task preprocesses on the device, model-ready ones otherwise. Reading in
    order is what it is made for; any other step costs no more than a new start of the pipeline.
    """

    def __init__(self, task: Task, *, batch_size: int, block: int, seed: int, offsets: np.ndarray | None = None):
        """`offsets` (int64 [n]): the places in each batch that are read here; by default all of them."""
        offsets = np.arange(batch_size) if offsets is None else offsets
        self.block, self._next, self._number, self._slab = block, None, None, None
        size, take = task.data.size("train"), Reader(task.data, "train")
        if size == 0:
            raise UserError("data: the training split is empty. Expected at least one example.")

        def slab(number: tf.Tensor) -> dict[str, tf.Tensor]:
            first = order.positions(number * block, block) * batch_size
            position = tf.reshape(first[:, None] + tf.constant(offsets, tf.int64), [block * len(offsets)])
            raw = {**take(order.rows(position, size, seed)), "key": order.keys(position, seed)}
            ready = raw if task.preprocess_on == "device" else task.preprocess(raw, training=True)
            return {name: tf.reshape(value, (block, len(offsets), *value.shape[1:])) for name, value in ready.items()}

        self._slabs = lambda first: tf.data.Dataset.range(first, 2**62).map(slab, num_parallel_calls=2, deterministic=True).prefetch(2)
        self.spec, self._failures = self._slabs(0).element_spec, take.failures

    def at(self, step: int) -> tuple[dict[str, tf.Tensor], int]:
        """The slab that holds a step, and the step's place in it."""
        number, first = divmod(step, self.block)
        if number != self._number:
            if self._next is None or number != self._number + 1:
                self._next = iter(self._slabs(number))
            with self._failures():
                self._slab, self._number = next(self._next), number
        return self._slab, first


def share_offsets(batch_size: int, accumulate: int, share: Share) -> np.ndarray:
    """The places in a batch (int64 [n]) that a worker computes: its share of each micro-batch, one after the other."""
    micro = np.arange(batch_size).reshape(accumulate, -1)
    return micro[:, share.first : share.first + share.size].ravel()


def evaluation_batches(
    task: Task, split: str, batch_size: int, index: int = 0, count: int = 1
) -> Iterator[tuple[int, dict[str, tf.Tensor], int]]:
    """Every example of a split once, in order, as (first row, raw or model-ready batch, how many of its rows are real).

    Of `count` readers, reader `index` gets every count-th batch.

    The last batch is filled up with copies of the split's first rows, so that all batches have one shape.
    """
    size, take = task.data.size(split), Reader(task.data, split)
    if size == 0:
        raise UserError(f"data: the {split} split is empty, so there is nothing to evaluate.")
    starts = range(index * batch_size, size, count * batch_size)
    idle = not starts  # more readers than batches: one batch all the same, with no real row, so that all make the same calls
    starts = range(1) if idle else starts

    def load(start: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = take(order.positions(start, batch_size) % size)
        return raw if task.preprocess_on == "device" else task.preprocess(raw, training=False)

    batches = tf.data.Dataset.range(starts.start, starts.stop, starts.step).map(load, num_parallel_calls=2, deterministic=True).prefetch(2)
    elements = iter(batches)
    for first in starts:
        with take.failures():
            batch = next(elements)
        yield first, batch, 0 if idle else min(batch_size, size - first)


def dataset(task: Task, split: str, batch_size: int) -> tf.data.Dataset:
    """One pass over a split as model-ready batches, for a plain `fit` or `evaluate`; the last batch may be short."""
    take = Reader(task.data, split)
    rows = tf.data.Dataset.range(task.data.size(split)).batch(batch_size)
    return rows.map(lambda row: task.preprocess(take(row), training=False), num_parallel_calls=2).prefetch(2)
