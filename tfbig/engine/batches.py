"""Batches: slabs of consecutive training batches, and padded batches for evaluation.

Training reads slabs [block, batch, ...] that hold `block` batches, so that one call into the
compiled program makes many steps. Slab m always holds the batches of steps m * block ... (m + 1) *
block - 1.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator

from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.features import Feature
from tfbig.core.lazy import np, tf
from tfbig.core.source import Source
from tfbig.core.workers import Share, cores
from tfbig.engine import order, shapes
from tfbig.engine.readable import ERRORS

SLAB_BYTES = 128 * 2**20
TEXT_BYTES = 256  # assumed of one text
VISITS = 4  # of an epoch to each shape, at least
COUNT = Feature(shape=(), dtype="int32")


def block_length(task: Task, batch_size: int, wanted: int) -> int:
    """Steps per slab: as many as wanted, while a slab of raw examples stays small.

    Where examples stand in several shapes, an epoch visits each of them several times.
    """
    features = task.data.spec.values()
    example = sum(int(np.prod(feature.longest)) * _item_bytes(feature) for feature in features)
    block = min(wanted, SLAB_BYTES // max(1, example * batch_size))
    shapes = len(task.facts.get("shapes", ()))
    if shapes > 1:
        block = min(block, task.data.size("train") // (batch_size * shapes * VISITS))
    return max(1, block)


def _item_bytes(feature: Feature) -> int:
    return TEXT_BYTES if feature.dtype == "string" else np.dtype(feature.dtype).itemsize


class Reader:
    """A function from rows (int64 [n]) of a split to raw examples, padded to one shape.

    It gathers from memory if the split fits there, and reads at random otherwise.
    """

    def __init__(self, data: Dataset, split: str):
        self.data, self.split, self.failure = data, split, None
        spec = data.spec
        most = shapes.free(data.spec)
        self.spec = {**spec, **{f"{name}_count": COUNT for name in most}}
        arrays = None if most else data.arrays(split)
        self.tensors = None
        if arrays is not None:
            self.tensors = {name: tf.constant(value) for name, value in arrays.items()}

    def __call__(
        self, row: tf.Tensor, padded: shapes.Padded, key: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """`key` (uint32 [n, 2]): of training, which may see something else each time."""
        if self.tensors is not None:
            return {name: tf.gather(value, row) for name, value in self.tensors.items()}
        types = [tf.dtypes.as_dtype(feature.dtype) for feature in self.spec.values()]
        load = functools.partial(self._load, padded=padded)
        given = [row] if key is None else [row, key]
        values = tf.numpy_function(load, given, types, stateful=False)
        raw = {}
        for (name, feature), value in zip(self.spec.items(), values, strict=True):
            length = (padded[name],) if name in padded else feature.shape[:1]
            raw[name] = tf.ensure_shape(value, (row.shape[0], *length, *feature.shape[1:]))
        return raw

    def _load(
        self, rows: np.ndarray, keys: np.ndarray | None = None, *, padded: shapes.Padded
    ) -> list[np.ndarray]:
        try:
            if keys is None:
                examples = self.data.examples(self.split, rows)
            else:
                examples = self.data.random_views(rows, keys)
            for name, length in padded.items():
                examples[f"{name}_count"] = shapes.counts(examples[name])
                examples[name] = self._padded(name, examples[name], length, rows)
        except ERRORS as error:  # TensorFlow would pass on its text only, with a traceback in it
            self.failure = error
            if not isinstance(error, UserError):
                message = f"data: the {self.split} split cannot be read: {error}."
                self.failure = UserError(message)
            raise
        return [self._array(examples[name], feature) for name, feature in self.spec.items()]

    @staticmethod
    def _array(values, feature: Feature) -> np.ndarray:
        dtype = object if feature.dtype == "string" else feature.dtype
        return np.ascontiguousarray(values, dtype)

    def _padded(self, name: str, values: list[np.ndarray], length: int, rows: np.ndarray):
        try:
            return shapes.pad(values, length, self.spec[name])
        except ValueError as error:
            message, place = error.args
            which = f"example {rows[place]:,} of the {self.split} split"
            raise UserError(f"data: {which}: {name}: {message}") from error

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """A context for taking elements from a pipeline of this reader.

        An error in reading is raised as it was, not in TensorFlow's words.
        """
        try:
            yield
        except tf.errors.OpError:
            if self.failure is None:
                raise
            raise self.failure from None


class Slabs:
    """Slabs of training batches by step: name -> [block, batch, ...].

    They hold raw examples with their "key" if the task preprocesses on the device, model-ready ones
    otherwise. All examples of a slab are padded to one shape. Slabs are meant to be read in order;
    a jump costs no more than restarting the pipeline.
    """

    def __init__(
        self,
        task: Task,
        *,
        batch_size: int,
        block: int,
        seed: int,
        offsets: np.ndarray | None = None,
    ):
        """`offsets` (int64 [n]): the places in each batch that are read; by default all of them."""
        self.task, self.batch_size, self.block, self.seed = task, batch_size, block, seed
        self.offsets = np.arange(batch_size) if offsets is None else offsets
        if task.data.size("train") == 0:
            raise UserError("data: the training split is empty. Expected at least one example.")
        self.groups = shapes.groups(task.data, "train", task.facts.get("shapes"))
        self._take = Reader(task.data, "train")
        self._readers: dict[int, tuple[int, Iterator]] = {}  # group -> (its next slab, reader)
        self._number = self._slab = self._window = self._turns = None
        self.spec = self._pipeline(0, 0).element_spec  # of the first group

    def _pipeline(self, group: int, start: int) -> tf.data.Dataset:
        """The slabs of one group from its `start`-th on."""
        members = self.groups[group]
        block = self.block
        count = len(self.offsets)

        def slab(number: tf.Tensor) -> dict[str, tf.Tensor]:
            first = order.positions(number * block, block) * self.batch_size
            position = tf.reshape(
                first[:, None] + tf.constant(self.offsets, tf.int64), [block * count]
            )
            row = order.rows(position, members.size, self.seed)
            row = row if members.rows is None else tf.gather(members.rows, row)
            # No two examples of a run share a key: groups interleave theirs.
            key = order.keys(position * len(self.groups) + group, self.seed)
            raw = {**self._take(row, members.padded, key), "key": key}
            ready = raw
            if self.task.preprocess_on == "host":
                ready = self.task.preprocess(raw, training=True)
            return {
                name: tf.reshape(value, (block, count, *value.shape[1:]))
                for name, value in ready.items()
            }

        numbers = tf.data.Dataset.range(start, 2**62)
        return _read_ahead(numbers, slab)

    def at(self, step: int) -> tuple[dict[str, tf.Tensor], int]:
        """The slab that holds a step, and the step's place in it."""
        number, first = divmod(step, self.block)
        if number != self._number:
            group, local_number = self._turn(number)
            following, reader = self._readers.pop(group, (None, None))
            if following != local_number:
                reader = iter(self._pipeline(group, local_number))
            with self._take.failures():
                self._slab = next(reader)
                self._number = number
            self._readers[group] = local_number + 1, reader
        return self._slab, first

    def trained(self, step: int) -> None:
        """Called after a step was made."""

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint must hold to resume: nothing, a step's number suffices."""
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continues from what `state` returned."""

    def _turn(self, number: int) -> tuple[int, int]:
        """The group of a slab, and the slab's number in it."""
        if len(self.groups) == 1:
            return 0, number
        window, place = divmod(number, shapes.WINDOW)
        if window != self._window:
            self._window = window
            self._turns = self._turns_of(window)
        return self._turns[place]

    def _turns_of(self, window: int) -> list[tuple[int, int]]:
        """The turns of a window of slabs.

        Groups are shuffled, to be in no fixed rhythm; each group's own slabs stay in order.
        """
        first = window * shapes.WINDOW
        sizes = [group.size for group in self.groups]
        turns = [shapes.turn(first + place, sizes) for place in range(shapes.WINDOW)]
        places = [sorted(own for group, own in turns if group == g) for g in range(len(sizes))]
        following = [iter(own) for own in places]
        position = order.positions(first, shapes.WINDOW)
        shuffled = order.rows(position, shapes.WINDOW, self.seed).numpy()
        return [(turns[i][0], next(following[turns[i][0]])) for i in shuffled]


class MadeSlabs:
    """As `Slabs`, for batches that an agent makes itself: see `core.source.Source`.

    A slab holds those that are made with the same weights. Batches are made once and in order. A
    slab that was made but not trained on to its end is part of the state.
    """

    def __init__(self, task: Task, source: Source, *, batch_size: int, seed: int):
        self.task, self.source, self.batch_size, self.seed = task, source, batch_size, seed
        self.block = source.block
        self._number, self._slab = None, None
        self._pending: dict[str, np.ndarray] = {}  # name -> [block, batch, ...]
        self.spec = {
            name: tf.TensorSpec((self.block, batch_size, *feature.shape), feature.dtype)
            for name, feature in source.spec.items()
        }
        self.spec["key"] = tf.TensorSpec((self.block, batch_size, 2), tf.uint32)
        if task.preprocess_on == "host":
            zeros = {name: tf.zeros(spec.shape[1:], spec.dtype) for name, spec in self.spec.items()}
            ready = task.preprocess(zeros, training=True)
            self.spec = {
                name: tf.TensorSpec((self.block, *value.shape), value.dtype)
                for name, value in ready.items()
            }

    def at(self, step: int) -> tuple[dict[str, tf.Tensor], int]:
        """The slab of a step and the step's place in it; its batches are made if they are not."""
        number, first = divmod(step, self.block)
        if number != self._number:
            kept = self._pending if self._number is None else {}
            self._pending = kept or self._made(number * self.block)
            self._slab = self._ready(number)
            self._number = number
        return self._slab, first

    def _made(self, first: int) -> dict[str, np.ndarray]:
        """The next batches of the source, name -> [block, batch, ...]."""
        batches = [self.source.batch(first + i) for i in range(self.block)]
        return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}

    def _ready(self, number: int) -> dict[str, tf.Tensor]:
        """A slab with its keys, preprocessed unless that is done on the device."""
        count = self.block * self.batch_size
        keys = order.keys(order.positions(number * count, count), self.seed)
        raw = {name: tf.constant(value) for name, value in self._pending.items()}
        raw["key"] = tf.reshape(keys, (self.block, self.batch_size, 2))
        if self.task.preprocess_on == "device":
            return raw
        batches = [
            self.task.preprocess({name: value[i] for name, value in raw.items()}, training=True)
            for i in range(self.block)
        ]
        return {name: tf.stack([batch[name] for batch in batches]) for name in batches[0]}

    def trained(self, step: int) -> None:
        """Called after so many steps were made: of whole slabs nothing is pending."""
        if step % self.block == 0:
            self._pending = {}

    def state(self) -> dict[str, np.ndarray]:
        """The agent's state and, if there are any, the batches that wait for their steps."""
        state = {f"source/{name}": np.array(value) for name, value in self.source.state().items()}
        pending = {f"pending/{name}": np.array(value) for name, value in self._pending.items()}
        return {**state, **pending}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continues from what `state` returned."""
        parts = {"source": {}, "pending": {}}
        for name, value in state.items():
            kind, _, own = name.partition("/")
            parts[kind][own] = value
        self.source.restore(parts["source"])
        self._pending = parts["pending"]
        self._number, self._slab = None, None


def share_offsets(batch_size: int, accumulate: int, share: Share) -> np.ndarray:
    """The places in a batch (int64 [n]) that a worker computes: its share of each micro-batch."""
    micro = np.arange(batch_size).reshape(accumulate, -1)
    return micro[:, share.first : share.first + share.size].ravel()


def evaluation_batches(
    task: Task,
    split: str,
    batch_size: int,
    index: int = 0,
    count: int = 1,
    to_longest: bool = False,
) -> Iterator[tuple[np.ndarray, dict[str, tf.Tensor]]]:
    """Every example of a split once, as (its positions, raw or model-ready batch).

    Every batch is full; the rows behind its positions are copies that fill it up. Of `count`
    readers, reader `index` gets every count-th batch; one that would get none gets a batch without
    positions, so that all of them make calls. `to_longest`: all batches are padded to the longest
    there may be.
    """
    if task.data.size(split) == 0:
        raise UserError(f"data: the {split} split is empty, so there is nothing to evaluate.")
    take = Reader(task.data, split)
    measured = None if to_longest else task.facts.get("shapes")
    groups = shapes.groups(task.data, split, measured)
    planned = list(shapes.batches_of(groups, batch_size))
    idle = index >= len(planned)
    for group, places in itertools.groupby(planned[index::count] or planned[:1], lambda at: at[0]):
        firsts = [place for _, place in places]
        elements = iter(_evaluation_pipeline(task, take, group, firsts, batch_size))
        for first in firsts:
            with take.failures():
                batch = next(elements)
            real = 0 if idle else min(batch_size, group.size - first)
            yield group.at(np.arange(first, first + real)), batch


def _evaluation_pipeline(task, take, group, firsts, batch_size) -> tf.data.Dataset:
    def load(first: tf.Tensor) -> dict[str, tf.Tensor]:
        row = order.positions(first, batch_size) % group.size
        raw = take(row if group.rows is None else tf.gather(group.rows, row), group.padded)
        as_stored = task.preprocess_on == "device" or task.plays
        return raw if as_stored else task.preprocess(raw, training=False)

    places = tf.data.Dataset.from_tensor_slices(np.array(firsts, np.int64))
    return _read_ahead(places, load)


def dataset(task: Task, split: str, batch_size: int) -> tf.data.Dataset:
    """One pass over a split as model-ready batches, for a plain `fit` or `evaluate`.

    The last batch may be short. Features of any length are padded to the longest there may be.
    """
    take = Reader(task.data, split)
    longest = shapes.free(task.data.spec)
    rows = tf.data.Dataset.range(task.data.size(split)).batch(batch_size)

    def load(row: tf.Tensor) -> dict[str, tf.Tensor]:
        return task.preprocess(take(row, longest), training=False)

    return _read_ahead(rows, load)


def _read_ahead(numbers: tf.data.Dataset, load: Callable) -> tf.data.Dataset:
    """`load` of each number in order, by as many threads as cores, two results ahead.

    There is nothing to tune, and who ends a tuned pipeline waits for its tuner to wake: seconds.
    """
    ahead = numbers.map(load, num_parallel_calls=cores(), deterministic=True).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False
    return ahead.with_options(options)
