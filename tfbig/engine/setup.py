"""What a loop works with, built from an experiment.

Task, model, optimiser, step, compiled programs.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from tfbig.core import duration
from tfbig.core.component import Component
from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.lazy import keras, tf
from tfbig.core.workers import Place, cores
from tfbig.engine import batches, checkpoint, evaluate, remat, shapes
from tfbig.engine.fine_tuning import freeze, layer_rates
from tfbig.engine.optimizer import build_optimizer
from tfbig.engine.readable import Readable
from tfbig.engine.step import Step, compile_block, has_accelerator, wants_halves, wants_jit
from tfbig.engine.strategy import Workers, join, layers

_BUILDING = threading.RLock()  # a model may be built of another one
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def build_task(
    experiment: Experiment, facts: dict, data: Readable | None = None, parts: Mapping = {}
) -> tuple[Task, keras.Model]:
    """The bound task and its model with fresh weights, adapted if the experiment says so.

    Both are decided by the experiment and its seed alone.
    """
    task = experiment.task.bind(experiment.model, data or Readable(experiment.data), facts, parts)
    # Seed and policy are the process's: another thread that builds would draw from the same numbers
    with _BUILDING:
        before = keras.config.dtype_policy()
        keras.utils.set_random_seed(experiment.seed)
        keras.config.set_dtype_policy(POLICIES[experiment.device.precision])
        try:
            model = task.build()
            freeze(model, experiment.train.freeze)
            if experiment.adapt is not None:
                model = experiment.adapt.adapt(model)
                if not model.trainable_variables:
                    raise UserError(
                        "adapt, train.freeze: expected to leave something to be trained. Received:"
                        f" train.freeze={','.join(experiment.train.freeze) or 'none'}, and nothing"
                        " else that adapt would train."
                    )
            return task, model
        except ValueError as error:  # sizes that do not fit each other
            raise UserError(str(error)) from error
        finally:
            keras.config.set_dtype_policy(before)


def training_facts(experiment: Experiment, data: Readable) -> dict:
    """What preprocessing and batches need to know of the training split (JSON values)."""
    facts = experiment.task.measure(data)
    train = experiment.train
    if data.lengths("train") is not None:
        facts = {**facts, "shapes": shapes.measured(data, train.shapes, train.batch_size)}
    return facts


@dataclass(frozen=True)
class Lengths:
    """The experiment's durations in optimiser steps."""

    epoch: float
    total: int
    evaluate: int
    save: int

    @classmethod
    def of(cls, experiment: Experiment) -> Lengths:
        train = experiment.train
        epoch = experiment.data.size("train") / train.batch_size
        total = duration.to_steps(train.length, epoch=epoch)
        portion = [
            max(1, duration.to_steps(text, epoch=epoch, length=total))
            for text in (train.evaluate_every, train.save_every)
        ]
        return cls(epoch, total, *portion)

    def next_stop(self, step: int) -> int:
        """The next step after `step` at which there is something to do besides training."""
        return min(
            self.total, *((step // every + 1) * every for every in (self.evaluate, self.save))
        )


class Setup:
    """Everything a training run works with."""

    def __init__(
        self,
        experiment: Experiment,
        facts: dict,
        workers: Workers | None = None,
        data: Readable | None = None,
        parts: Mapping = {},
    ):
        self.experiment = experiment
        self.workers = workers or Workers(Place())
        self.data = data or Readable(experiment.data)
        self.task, self.model = build_task(experiment, facts, self.data, parts)
        synchronised = self.workers.count > 1 and join(
            self.model, sync_batch_norm=experiment.device.sync_batch_norm
        )
        self.jit, self.jit_reason = wants_jit(experiment.device.jit, self.model, synchronised)

    # What only training needs is made when it is asked for: using a trained model must not need its
    # data.

    @cached_property
    def lengths(self) -> Lengths:
        return Lengths.of(self.experiment)

    def epochs(self, step: int) -> float | None:
        """Passes over the training split so far; None where an agent makes the examples."""
        return None if self.task.makes_batches() else round(step / self.lengths.epoch, 3)

    @cached_property
    def optimizer(self) -> keras.optimizers.Optimizer:
        optim = self.experiment.optim
        lengths = self.lengths
        return build_optimizer(
            optim, self.model.trainable_variables, length=lengths.total, epoch=lengths.epoch
        )

    @cached_property
    def step(self) -> Step:
        halves = wants_halves(self.experiment.device.halves, self.model, self.jit)
        if self.experiment.train.remat:
            remat.install(self.model)
        _ = self.task_variables  # made before the step is compiled
        rates = layer_rates(self.model, self.experiment.optim.first_rate)
        return Step(
            self.experiment,
            self.task,
            self.model,
            self.optimizer,
            self.workers,
            self.jit,
            halves,
            rates,
        )

    @property
    def model_files(self) -> dict[str, list]:
        """A checkpoint's files that hold the model, and the variables in each."""
        adapter = self.experiment.adapt
        if adapter is None:
            return {checkpoint.WEIGHTS: self.model.variables}
        own = adapter.own(self.model)
        apart = {variable.path for variable in own}
        common = [variable for variable in self.model.variables if variable.path not in apart]
        return {checkpoint.WEIGHTS: common, checkpoint.ADAPTER: own}

    @property
    def files(self) -> dict[str, list]:
        """A checkpoint's files, and the variables in each."""
        others = [*self.optimizer.variables, *self.step.extra_variables, *self.task_variables]
        return {**self.model_files, checkpoint.OPTIMIZER: others}

    @cached_property
    def task_variables(self) -> list:
        """The task's own variables, such as a target network's."""
        return list(self.task.variables(self.model))

    @cached_property
    def uneven_variables(self) -> list:
        """Moving statistics that each worker keeps of its own rows alone."""
        if self.workers.count == 1 or self.experiment.device.sync_batch_norm:
            return []
        normalizations = [
            layer
            for layer in layers(self.model)
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        return [
            variable
            for layer in normalizations
            for variable in (layer.moving_mean, layer.moving_variance)
        ]

    @cached_property
    def slabs(self) -> batches.Slabs | batches.MadeSlabs:
        """The training batches by step."""
        train = self.experiment.train
        seed = self.experiment.seed
        source = self.task.source(self.model, train.batch_size, seed)
        if source is not None:
            if self.workers.count > 1:
                raise UserError(
                    f"task: {type(self.task).__name__} makes its own batches, in one process."
                    f" Received: {self.workers.count} workers."
                )
            return batches.MadeSlabs(self.task, source, batch_size=train.batch_size, seed=seed)
        block = batches.block_length(self.task, train.batch_size, self.experiment.device.block)
        offsets = batches.share_offsets(train.batch_size, train.accumulate, self.step.share)
        return batches.Slabs(
            self.task,
            batch_size=train.batch_size,
            block=block,
            seed=self.experiment.seed,
            offsets=offsets,
        )

    @property
    def block(self) -> int:
        """Batches in a slab: most steps that one call of the compiled program makes."""
        return self.slabs.block

    @cached_property
    def run_block(self) -> Callable:
        """The compiled training program; see `compile_block`."""
        return compile_block(self.step, self.slabs.spec, self.jit)

    @cached_property
    def predict(self) -> Callable:
        """The compiled prediction program; see `compile_predict`."""
        return evaluate.compile_predict(self.task, self.model, self.jit)

    def evaluate(
        self,
        split: str,
        *,
        asked: Component | None = None,
        between_steps: bool = False,
        **options,
    ) -> evaluate.Evaluation:
        """The metrics of a split.

        Args:
            split: "train", "validation" or "test".
            asked: an instance of `Task.evaluation`; None: its defaults.
            between_steps: whether it does without what `Task.conclude` gives.
            options: further ones of `evaluate.evaluate`.
        """
        has_more = type(self.task).conclude is not Task.conclude and not between_steps
        run = self._concluding(asked or self.task.evaluation()) if has_more else self.predict
        size = evaluation_batch(self.experiment)
        return evaluate.evaluate(self.task, run, split, size, **options)

    def _concluding(self, asked: Component) -> Callable:
        """The compiled program of evaluations with what `Task.conclude` gives, kept for others."""
        if asked not in self._concluders:
            # Loops of many small steps take XLA long to compile, and gain little on CPU
            jit = self.jit and has_accelerator()
            self._concluders[asked] = evaluate.compile_predict(self.task, self.model, jit, asked)
        return self._concluders[asked]

    @cached_property
    def _concluders(self) -> dict[Component, Callable]:
        return {}


def merged(setup: Setup) -> Setup:
    """A setup whose plain model answers as an adapted one does; `setup` itself without adapter."""
    adapter = setup.experiment.adapt
    task = setup.task
    if adapter is None:
        return setup
    experiment = dataclasses.replace(setup.experiment, adapt=None)
    plain = Setup(experiment, task.facts, data=setup.data, parts=task.parts)
    values = checkpoint.named(setup.model.variables) | adapter.merged(setup.model)
    for path, variable in checkpoint.named(plain.model.variables).items():
        variable.assign(values[path])
    return plain


def evaluation_batch(experiment: Experiment) -> int:
    """Examples per call without gradients: four times what fits with them."""
    return 4 * experiment.train.batch_size // experiment.train.accumulate


def device_text() -> str:
    """The devices TensorFlow computes on, in words."""
    for kind in ("TPU", "GPU"):
        devices = tf.config.list_physical_devices(kind)
        if devices:
            name = (
                tf.config.experimental.get_device_details(devices[0]).get("device_name", kind)
                if kind == "GPU"
                else kind
            )
            return f"{len(devices)} x {name}"
    return f"CPU, {cores()} cores"
