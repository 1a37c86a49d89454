"""Training by several processes, one for each machine or accelerator.

Sums over all of them, and what they agree on.

Each worker is a whole training of its own, with plain variables and the same compiled programs,
that differs in one thing: it computes its own share of each batch, and gradients are summed over
all workers. As all start equal and apply equal sums, they stay equal; every optimiser, precision
and checkpoint works as in one process. (Variables mirrored by tf.distribute would forbid compiled
steps, averages of weights and accumulation under Keras 3.)
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator

from tfbig.core import workers
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.lazy import keras, np, tf

SIGNALS = (2, 15)


class Workers:
    """All processes that train together.

    A process on its own has nobody to ask, and its sums are its own values.

    Must be made before TensorFlow computes anything: connections are set up when its runtime
    starts.
    """

    def __init__(self, place: workers.Place):
        self.place = place
        self.count = place.count
        self.is_chief = place.is_chief
        self._strategy = None
        if self.count > 1:
            with _explained(place):
                self._strategy = tf.distribute.MultiWorkerMirroredStrategy(
                    communication_options=_communication(place)
                )

    def share(self, whole: int, together: int = 1) -> workers.Share:
        """This worker's rows of a (micro-)batch, in whole groups of `together` neighbours."""
        if whole % together:
            raise UserError(
                f"train.batch_size / train.accumulate: expected a multiple of {together}, for the"
                f" task takes so many examples together. Received: {whole}."
            )
        if whole < together * self.count:
            least = f"{together} examples" if together > 1 else "one example"
            raise UserError(
                f"train.batch_size / train.accumulate: expected at least {least} for each of"
                f" {self.count} workers. Received: {whole}."
            )
        return workers.Share.of(whole, self.place.index, self.count, together)

    def run(self, function: Callable):
        """Calls a function of graph code that may use `total` and synchronised normalisation."""
        return function() if self._strategy is None else self._strategy.run(function)

    def total(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Tensors summed over the workers in one transfer; only inside `run`.

        They come as float32, or the most exact type among them.
        """
        if self._strategy is None:
            return tensors
        shapes = [tensor.shape for tensor in tensors]
        exact = keras.backend.result_type("float32", *(tensor.dtype for tensor in tensors))
        flat = tf.concat([tf.reshape(tf.cast(tensor, exact), [-1]) for tensor in tensors], 0)
        sums = tf.split(_all_reduce(flat), [shape.num_elements() for shape in shapes])
        return [tf.reshape(values, shape) for values, shape in zip(sums, shapes, strict=True)]

    def total_array(self, values: np.ndarray) -> np.ndarray:
        """An array summed over the workers, outside of graph code.

        Exact where all but one hold zeros.
        """
        if self._strategy is None:
            return values
        with self.failures():
            return self._total(tf.constant(values, tf.float64)).numpy()

    @property
    def _total(self) -> Callable:
        if "_total" not in self.__dict__:

            @tf.function(autograph=False, reduce_retracing=True)
            def total(value):
                return self._strategy.run(lambda: _all_reduce(value))

            self.__dict__["_total"] = total
        return self.__dict__["_total"]

    def agree(self, count: int, signum: int) -> tuple[int, int]:
        """The chief's `count`, and the signal that any worker received (0: none)."""
        if self._strategy is None:
            return count, signum
        mine = [
            float(count) if self.is_chief else 0.0,
            *(float(signum == number) for number in SIGNALS),
        ]
        count, *seen = self.total_array(np.array(mine))
        return int(count), next(
            (number for number, flag in zip(SIGNALS, seen, strict=True) if flag), 0
        )

    def meet(self) -> None:
        """Waits until all workers have come here."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any worker."""
        return (
            flag if self._strategy is None else bool(self.total_array(np.array([float(flag)]))[0])
        )

    def average(self, variables: list) -> None:
        """Replaces variables that differ between workers by their mean.

        Such as moving statistics of each worker's own rows.
        """
        for variable in variables:
            variable.assign(self.total_array(variable.numpy().astype(np.float64)) / self.count)

    def gather(self, text: str) -> list[str]:
        """The text of each worker, in their order."""
        if self._strategy is None:
            return [text]
        mine = np.frombuffer(text.encode(), np.uint8)
        index = self.place.index
        sizes = np.zeros(self.count)
        sizes[index] = len(mine)
        rows = np.zeros((self.count, max(1, int(self.total_array(sizes).max()))))
        rows[index, : len(mine)] = mine
        sizes = self.total_array(sizes).astype(int)
        return [
            row[:size].astype(np.uint8).tobytes().decode()
            for row, size in zip(self.total_array(rows), sizes, strict=True)
        ]

    def same(self, facts: dict[str, str], remedy: str) -> None:
        """Makes sure that all workers have the same facts; the error names those that differ."""
        if self._strategy is None:
            return
        seen = [json.loads(text) for text in self.gather(json.dumps(facts))]
        names = dict.fromkeys(name for own in seen for name in own)
        wrong = [name for name in names if len({own.get(name) for own in seen}) > 1]
        if wrong:
            differences = "\n".join(
                f"{name}: "
                + ", ".join(f"worker {i} {own.get(name, 'none')}" for i, own in enumerate(seen))
                for name in wrong
            )
            raise UserError(f"the workers differ. {remedy} Received:\n{differences}")

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Turns a lost connection into a message that names the worker."""
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.DeadlineExceededError,
            tf.errors.CancelledError,
        ) as error:
            if self._strategy is None:
                raise
            raise _lost(self.place, error) from error


def _communication(place: workers.Place):
    """Sums over NVIDIA's NCCL where every worker has an accelerator, else as TensorFlow chooses.

    A worker computes on one accelerator. Where several are visible, workers of one machine take one
    each.
    """
    options = tf.distribute.experimental.CommunicationOptions
    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return options()
    if place.neighbours >= len(devices) > 1:
        raise UserError(
            f"TF_CONFIG: expected at most one worker for each of {len(devices)} accelerators of a"
            " machine. Received: more."
        )
    if len(devices) > 1:
        tf.config.set_visible_devices(devices[place.neighbours], "GPU")
    return options(implementation=tf.distribute.experimental.CommunicationImplementation.NCCL)


def exact(value: tf.Tensor) -> tf.Tensor:
    """At least float32, the precision in which losses and statistics are computed."""
    return tf.cast(value, keras.backend.result_type(value.dtype, "float32"))


def _all_reduce(value: tf.Tensor) -> tf.Tensor:
    # The identity gives the value a device, which tf.distribute asks for.
    return tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, tf.identity(value)
    )


def join(model: keras.Model, *, sync_batch_norm: bool) -> bool:
    """Makes a model's layers compute on a share of a batch what they would on the whole.

    Returns whether they need sums for it.

    Batch normalisation takes its statistics over all workers. Dropout draws the whole batch's mask
    and takes its own rows.
    """
    needs_sums = False
    for layer in layers(model):
        if isinstance(layer, keras.layers.BatchNormalization) and sync_batch_norm:
            layer.synchronized = needs_sums = True
            layer.call = functools.partial(_batch_normalization, layer)
        elif isinstance(layer, keras.layers.Dropout):
            layer.call = functools.partial(_dropout, layer)
    return needs_sums


def layers(model) -> Iterator:
    """All layers of a model, those inside nested models too."""
    for layer in model.layers:
        yield from layers(layer) if isinstance(layer, keras.Model) else (layer,)


def _batch_normalization(layer, inputs, training=None, mask=None):
    """Keras's batch normalisation, with one sum over the workers in either direction.

    Keras makes five, and each of them waits for all workers.
    """
    share = workers.current_share()
    if share is None or not training or not layer.trainable or layer.renorm or mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    x = exact(inputs)
    mean, variance = _moments(x, layer, share.size / share.whole)
    for moving, current in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + current * (1.0 - layer.momentum))
    x = keras.ops.batch_normalization(
        x, mean, variance, layer.axis, layer.beta, layer.gamma, layer.epsilon
    )
    return keras.ops.cast(x, layer.compute_dtype)


def _moments(
    x: tf.Tensor, layer: keras.layers.BatchNormalization, part: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance [channels] over the rows of all workers; this one's share is `part`.

    Both are computed relative to the moving mean, which all workers share: squares of large means
    would leave nothing of a small variance.
    """
    origin = layer.moving_mean.value
    mean, variance = keras.ops.moments(
        x, [axis for axis in range(len(x.shape)) if axis != layer.axis % len(x.shape)]
    )
    shift = mean - origin
    shift, square = tf.unstack(_all_reduce(tf.stack([shift, variance + tf.square(shift)]) * part))
    # Rounding may leave less than nothing
    return origin + shift, tf.maximum(square - tf.square(shift), 0.0)


def _dropout(layer, inputs, training=False):
    share = workers.current_share()
    if share is None or not training or not layer.rate:
        return type(layer).call(layer, inputs, training=training)
    whole = keras.ops.ones((share.whole, *inputs.shape[1:]), inputs.dtype)
    mask = keras.random.dropout(
        whole, layer.rate, noise_shape=layer.noise_shape, seed=layer.seed_generator
    )
    return inputs * mask[share.first : share.first + share.size]


@contextlib.contextmanager
def _explained(place: workers.Place) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, RuntimeError, ValueError, TypeError) as error:
        raise RunFailure(
            f"worker {place.index}: cannot join the workers at {', '.join(place.addresses)}:"
            f" {str(error).splitlines()[0]}"
        ) from error


def _lost(place: workers.Place, error: Exception) -> RunFailure:
    """The error of a lost worker, which TensorFlow's messages name in different ways."""
    text = str(error)
    gone = {int(number) for number in re.findall(r"task[:_/= ]+(\d+)", text)} - {place.index}
    gone = [i for i in sorted(gone) if i < place.count]
    named = [i for i, address in enumerate(place.addresses) if address in text and i != place.index]
    # It is the chief that answers these requests
    served = [0] if not place.is_chief and "/tensorflow.CoordinationService/" in text else []
    lost = gone or named or served
    names = " and ".join(f"worker {i} ({place.addresses[i]})" for i in lost) or "another worker"
    return RunFailure(
        f"worker {place.index}: {names} does not answer any more. What was saved is intact. "
        "End all workers, then start them again with --resume to go on, with as many as you have."
    )
