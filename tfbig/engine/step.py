"""The training step, and the block of steps that is one call into the compiled program."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from tfbig.core.contracts import Task
from tfbig.core.experiment import Experiment
from tfbig.core.lazy import keras, tf
from tfbig.core.workers import computing, cores
from tfbig.engine.graph import nodes
from tfbig.engine.strategy import Workers, exact, layers


class LossScale:
    """Dynamic loss scaling for float16 (Micikevicius et al. 2018).

    Halved on overflow, doubled after 2,000 good steps.
    """

    GROWTH_STEPS = 2000

    def __init__(self):
        self.scale = keras.Variable(2.0**15, trainable=False, name="loss_scale")
        self.good_steps = keras.Variable(
            0, trainable=False, dtype="int32", name="loss_scale_good_steps"
        )
        self.variables = [self.scale, self.good_steps]

    def update(self, finite: tf.Tensor) -> None:
        """Adapts the scale after a step whose gradients were, or were not, finite."""
        good = tf.where(finite, self.good_steps.value + 1, 0)
        grow = good >= self.GROWTH_STEPS
        factor = tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
        self.scale.assign(tf.clip_by_value(self.scale.value * factor, 1.0, 2.0**24))
        self.good_steps.assign(tf.where(grow, 0, good))


class WeightAverage:
    """Exponential moving average of the trainable weights (Polyak and Juditsky 1992).

    It starts from them. After n steps it decays by no more than (1 + n) / (10 + n), so that a young
    one is not still full of weights that knew nothing.
    """

    def __init__(self, variables: list, decay: float):
        self.decay, self.source = decay, variables
        self.variables = [
            keras.Variable(_copy(v), trainable=False, dtype=v.dtype, name=f"ema_{i:04d}")
            for i, v in enumerate(variables)
        ]

    def update(self, step: tf.Tensor) -> None:
        """Takes in the weights; `step` is the number of steps made."""
        number = tf.cast(step, tf.float32)
        share = 1.0 - tf.minimum(self.decay, (1.0 + number) / (10.0 + number))
        for average, weight in zip(self.variables, self.source, strict=True):
            difference = weight.value - average.value
            average.assign(average.value + tf.cast(share, difference.dtype) * difference)

    def swap(self) -> None:
        """Exchanges the weights with their averages; a second call exchanges them back."""
        for average, weight in zip(self.variables, self.source, strict=True):
            kept = _copy(weight)
            weight.assign(_copy(average))
            average.assign(kept)


def _copy(variable) -> tf.Tensor:
    """A variable's value in memory of its own.

    Compiled steps update variables in place, and assigning shares memory.
    """
    return tf.raw_ops.DeepCopy(x=tf.convert_to_tensor(variable.value))


class Step:
    """One optimiser step on one batch, as graph code: preprocess, loss, gradient, clipping, update.

    A task gives sums and weights per example, and only here are they divided: once, by the weight
    of the whole batch. Halves, micro-batches and workers therefore just add up, however unevenly
    their examples weigh, and padding that weighs nothing changes nothing.
    """

    def __init__(
        self,
        experiment: Experiment,
        task: Task,
        model,
        optimizer,
        workers: Workers,
        jit: bool,
        halves: bool = False,
        rates: list[float] | None = None,
    ):
        """The step of one training.

        `halves`: whether each batch's halves are computed side by side, see `wants_halves`.
        `rates`: of each trainable variable, as a factor of the learning rate; None: 1.
        """
        self.rates = rates
        self.halves = halves
        self.task, self.model, self.optimizer, self.workers = task, model, optimizer, workers
        self.adapter = experiment.adapt
        self.rows = experiment.train.batch_size
        self.accumulate = experiment.train.accumulate
        self.share = workers.share(self.rows // self.accumulate, task.together)
        self.logged: list[str] = []  # what the loss gives; known once it was traced
        self.clip_norm = experiment.optim.clip_norm
        self.scaling = LossScale() if experiment.device.precision == "float16" else None
        ema = experiment.train.ema
        self.average = WeightAverage(model.trainable_variables, ema) if ema is not None else None
        # XLA programs cannot hold a sum over workers: what comes before and after it is compiled.
        self._compiled_gradients = self._gradients
        self._compiled_update = self._update
        if jit:
            compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
            self._compiled_gradients = compiled(self._gradients)
            self._compiled_update = compiled(self._update)
        self.jit = jit

    @property
    def extra_variables(self) -> list:
        """State beside the model's and the optimiser's."""
        scaling = self.scaling.variables if self.scaling else []
        return scaling + (self.average.variables if self.average else [])

    def __call__(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Updates everything once; returns float32 scalars, "loss" among them."""
        if self.workers.count == 1:
            return self._update(*self._gradients(batch))
        gradients, sums = self._compiled_gradients(batch)
        return self._compiled_update(*self.workers.run(lambda: self._total(gradients, sums)))

    def _total(self, gradients, sums):
        """The whole batch's gradients and sums from each worker's own, in one transfer."""
        names = sorted(sums)
        summed = self.workers.total([*gradients, *(sums[name] for name in names)])
        return summed[: len(gradients)], dict(zip(names, summed[len(gradients) :], strict=True))

    def _update(self, gradients, sums):
        """Applies the gradients of the sum over the batch, once divided by the batch's weight."""
        weights = {name: _or_one(pair[1]) for name, pair in sums.items()}
        logs = {name: pair[0] / weights[name] for name, pair in sums.items()}
        gradients = [
            gradient / tf.cast(weights["loss"] / self.rows, gradient.dtype)
            for gradient in gradients
        ]
        if self.clip_norm is not None:
            gradients, logs["gradient_norm"] = tf.clip_by_global_norm(gradients, self.clip_norm)
        if self.scaling is None:
            self._apply(gradients)
        else:
            self._apply_if_finite(gradients)
        step = self.optimizer.iterations.value
        if self.adapter is not None:
            self.adapter.after_step(self.model, step)
        if self.average is not None:
            self.average.update(step)
        self.task.after_step(self.model, step)
        return {name: tf.cast(value, tf.float32) for name, value in logs.items()}

    def scalar_names(self, spec: dict[str, tf.TensorSpec]) -> list[str]:
        """The names of the scalars a step returns, found by tracing the loss once."""

        @tf.function(autograph=False)
        def trace(batch):
            if self.task.preprocess_on == "device":
                batch = self.task.preprocess(batch, training=True)
            return self.task.loss(self.model, batch, training=True)

        self.logged = sorted(trace.get_concrete_function(spec).structured_outputs)
        return sorted([*self.logged, *(["gradient_norm"] if self.clip_norm is not None else [])])

    def _gradients(self, batch):
        """Gradients of the loss's sum / rows, and name -> [sum, weight], of this worker's rows."""
        if self.task.preprocess_on == "device":
            batch = self.task.preprocess(batch, training=True)
        if self.accumulate == 1:
            return self._micro_batch(batch)
        micro_batches = {
            name: tf.reshape(value, [self.accumulate, -1, *value.shape[1:]])
            for name, value in batch.items()
        }

        def add(i, gradients, sums):
            micro = self._micro_batch(
                {name: tf.gather(value, i) for name, value in micro_batches.items()}
            )
            return i + 1, *_added((gradients, sums), micro)

        # A loop, not a list: one part's activations are gone before the next one's are made, and
        # the program stays small.
        no_gradients = [tf.zeros(v.shape, v.dtype) for v in self.model.trainable_variables]
        exact_type = keras.backend.result_type("float32", *(g.dtype for g in no_gradients))
        no_sums = {name: tf.zeros([2], exact_type) for name in self.logged}
        _, gradients, sums = tf.while_loop(
            lambda i, *_: i < self.accumulate,
            add,
            (tf.constant(0), no_gradients, no_sums),
            parallel_iterations=1,
        )
        return gradients, sums

    def _micro_batch(self, batch):
        """The innermost graph that may hold sums over workers, as tf.distribute wants it."""
        if self.jit:
            return self._side_by_side(batch)
        return self.workers.run(lambda: self._side_by_side(batch))

    def _side_by_side(self, batch):
        rows = next(iter(batch.values())).shape[0]
        if not self.halves or rows % 2:
            return self._micro_gradients(batch)
        middle = rows // 2
        first = self._micro_gradients({name: value[:middle] for name, value in batch.items()})
        second = self._micro_gradients({name: value[middle:] for name, value in batch.items()})
        return _added(first, second)

    def _micro_gradients(self, batch):
        variables = self.model.trainable_variables
        with computing(self.share):  # the gradient may compute parts of the model again
            with tf.GradientTape() as tape:
                losses = self.task.loss(self.model, batch, training=True)
                sums = {name: _summed(*pair) for name, pair in losses.items()}
                total, weight = tf.unstack(sums["loss"])
                for penalty in self.model.losses:  # weighs as much as the examples it stands with
                    total += tf.cast(penalty, total.dtype) * tf.stop_gradient(weight)
                # Divided by a number that all parts share, to stay in the range of a mean: float16
                # would overflow. The weight of the whole batch is known to `_update` only.
                target = total / self.rows
                if self.scaling is not None:
                    target *= self.scaling.scale.value
            values = [v.value for v in variables]
            gradients = tape.gradient(target, values, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.scaling is not None:
            gradients = [gradient / self.scaling.scale.value for gradient in gradients]
        return gradients, {**sums, "loss": tf.stack([total, weight])}

    def _apply(self, gradients) -> None:
        """The optimiser's update, of which each variable makes its own share."""
        variables = self.model.trainable_variables
        if self.rates is None:
            self.optimizer.apply(gradients, variables)
            return
        # Of the update, not of the gradient, by whose size Adam and others are not moved
        before = [tf.identity(variable.value) for variable in variables]
        with tf.control_dependencies(before):
            self.optimizer.apply(gradients, variables)
        for variable, old, rate in zip(variables, before, self.rates, strict=True):
            variable.assign(old + rate * (variable.value - old))

    def _apply_if_finite(self, gradients) -> None:
        """Applies the update, then takes it back where a gradient overflowed.

        No branch: the step stays one program.
        """
        finite = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]
        )
        state = [*self.model.trainable_variables, *self.optimizer.variables]
        before = [tf.identity(variable.value) for variable in state]
        with tf.control_dependencies(before):
            self._apply(gradients)
        for variable, old in zip(state, before, strict=True):
            variable.assign(tf.where(finite, variable.value, old))
        self.scaling.update(finite)


def _summed(sums: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """[sum, weight] of a batch, [2], from those of its examples, each [batch]."""
    return tf.stack(
        [tf.reduce_sum(exact(sums)), tf.cast(tf.reduce_sum(weights), exact(sums).dtype)]
    )


def _added(first, second):
    """(gradients, name -> [sum, weight]) of two parts of a batch together."""
    gradients = [a + b for a, b in zip(first[0], second[0], strict=True)]
    return gradients, {name: first[1][name] + second[1][name] for name in first[1]}


def _or_one(weight: tf.Tensor) -> tf.Tensor:
    """A divisor that is never zero: the sum over a batch that weighs nothing is zero, too."""
    return tf.where(weight > 0, weight, tf.ones_like(weight))


def compile_block(step: Step, slab_spec: dict[str, tf.TensorSpec], jit: bool) -> Callable:
    """Compiles consecutive steps over a slab into one program.

    Args:
        step: the training step.
        slab_spec: name -> [block, batch, ...] of a slab; others may be padded to other lengths.
        jit: whether XLA compiles it.

    Returns:
        A function (slab, first, count) -> name -> float32 [block] that makes the steps first ...
        first + count - 1 of the slab and returns their scalars in entries 0 ... count - 1. `first`
        and `count` are int32 tensors, so every count runs the same program and its arithmetic does
        not depend on how steps are grouped into calls.
    """
    block = next(iter(slab_spec.values())).shape[0]
    names = step.scalar_names(
        {name: tf.TensorSpec(spec.shape[1:], spec.dtype) for name, spec in slab_spec.items()}
    )
    jit = jit and step.workers.count == 1  # otherwise the step compiles its parts

    @tf.function(jit_compile=jit or None, autograph=False)  # traced again for each shape
    def run_block(slab, first, count):
        arrays = tuple(tf.TensorArray(tf.float32, block, element_shape=()) for _ in names)

        def body(i, arrays):
            scalars = step({name: tf.gather(value, first + i) for name, value in slab.items()})
            return i + 1, tuple(
                array.write(i, scalars[name]) for name, array in zip(names, arrays, strict=True)
            )

        _, arrays = tf.while_loop(
            lambda i, _: i < count, body, (tf.constant(0), arrays), parallel_iterations=1
        )
        return {name: array.stack() for name, array in zip(names, arrays, strict=True)}

    return run_block


SLOW_IN_XLA = (
    "Conv",
    "SeparableConv",
    "DepthwiseConv",
    "LSTM",
    "GRU",
    "SimpleRNN",
    "RNN",
    "Bidirectional",
    "Dropout",
)


def has_accelerator() -> bool:
    """Whether TensorFlow computes on something else than the CPU."""
    return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def wants_jit(choice: str, model, synchronised: bool = False) -> tuple[bool, str]:
    """Whether to compile with XLA, and why.

    Statistics summed over workers are no part of an XLA program.

    On CPU, XLA's convolutions, loops over time and random numbers are slower than TensorFlow's own
    kernels (an MLP with Dropout ten times); everything else gains.
    """
    if synchronised:
        return False, "batch normalisation over all workers"
    if choice != "auto":
        return choice == "true", f"device.jit={choice}"
    if has_accelerator():
        return True, "an accelerator is present"
    slow = sorted(
        {
            type(layer).__name__
            for layer in layers(model)
            if type(layer).__name__.startswith(SLOW_IN_XLA)
        }
    )
    return not slow, (
        f"{', '.join(slow)} on CPU" if slow else "no convolution, recurrence or Dropout on CPU"
    )


def wants_halves(allowed: bool, model, jit: bool) -> bool:
    """Whether a step computes the two halves of its batch side by side.

    Each half is a chain of its own in the compiled program. On CPU, the products of a transformer
    are too small to gain from several threads, but XLA runs independent chains at the same time.
    Models without an axis of moments or patches have few, large products and gain nothing.
    """
    if not (allowed and jit) or has_accelerator():
        return False
    if any(
        isinstance(layer, keras.layers.BatchNormalization) or hasattr(layer, "seed_generator")
        for layer in layers(model)
    ):
        return False  # what these do depends on which rows stand together
    threads = (
        tf.config.threading.get_intra_op_parallelism_threads()
        or int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0)
        or cores()
    )
    dense = [
        node
        for node in nodes(model)
        if isinstance(node.operation, keras.layers.Dense | keras.layers.EinsumDense)
    ]
    return threads > 1 and any(len(node.outputs[0].shape) > 2 for node in dense)
