"""The Python side of the package besides the commands.

Recipes, models and data for use in a notebook.
"""

from __future__ import annotations

from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from tfbig.core import config, registry
from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.features import SPLITS
from tfbig.core.run import Run

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfbig.engine.trained import Trained


def recipe(name: str | Experiment, *settings: str) -> Experiment:
    """A recipe's experiment, or a given one, with "key=value" overrides.

    Example:
        >>> tfbig.recipe("mnist_mlp", "train.length=2ep").train.length
        '2ep'
    """
    return config.override(registry.recipe(name), list(settings))


def build(experiment: str | Experiment, *settings: str) -> tuple[Task, keras.Model]:
    """The bound task and the untrained, plain Keras functional model of an experiment.

    The experiment may be a recipe's name; "key=value" settings override its own.

    Example:
        >>> task, model = tfbig.build("mnist_mlp", "model.units=32")
        >>> model.output_shape
        (None, 10)
    """
    from tfbig.engine import job
    from tfbig.report.console import Console

    return job.build(recipe(experiment, *settings), Console())


def batches(task: Task, split: str, batch_size: int) -> tf.data.Dataset:
    """One pass over a split as model-ready batches, name -> [batch, ...].

    Without augmentation, the last batch may be short.

    `model.fit` takes pairs: batches.map(lambda batch: (batch["image"], batch["label"])).

    Example:
        >>> task, _ = tfbig.build("mnist_mlp")
        >>> batch = next(iter(tfbig.batches(task, "validation", 64)))
        >>> tuple(batch["image"].shape)
        (64, 28, 28, 1)
    """
    if not isinstance(task, Task) or not hasattr(task, "data"):
        raise UserError(
            "task: expected a bound task, as tfbig.build and tfbig.load give it. Received:"
            f" {task!r:.60}."
        )
    if split not in SPLITS:
        raise UserError(f"split: expected one of {', '.join(SPLITS)}. Received: {split!r}.")
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise UserError(
            f"batch_size: expected a whole number, at least 1. Received: {batch_size!r}."
        )
    from tfbig.engine.batches import dataset

    return dataset(task, split, batch_size)


def load(run: str | Path | Run, step: str | int = "best") -> Trained:
    """A run's trained model, its task and its `predict`.

    From its best, last or a given step's checkpoint.

    Example:
        >>> trained = tfbig.load("runs/first")
        >>> trained.predict({"image": np.zeros((2, 28, 28, 1), np.uint8)})["label"].shape
        (2,)
    """
    from tfbig.engine.trained import Trained
    from tfbig.report.console import Console

    return Trained(Run.open(run), str(step), Console())
