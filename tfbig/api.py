"""The Python side of the package besides the commands: recipes, models and data for use in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tfbig.core import config, registry
from tfbig.core.experiment import Experiment
from tfbig.core.run import Run

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfbig.core.contracts import Task
    from tfbig.engine.job import Trained


def recipe(name: str, *settings: str) -> Experiment:
    """A recipe's experiment with "key=value" overrides."""
    return config.override(registry.recipe(name), list(settings))


def build(experiment: Experiment) -> tuple[Task, keras.Model]:
    """The bound task and its untrained, plain Keras functional model."""
    from tfbig.engine import job

    return job.build(config.validate(experiment))


def batches(task: Task, split: str, batch_size: int) -> tf.data.Dataset:
    """One pass over a split as model-ready batches, name -> [batch, ...]; without augmentation, the last batch may be short."""
    from tfbig.engine.batches import dataset

    return dataset(task, split, batch_size)


def load(run: str | Path | Run, step: str | int = "best") -> Trained:
    """A run's trained model, its task and its `predict`; from its best, last or a given step's checkpoint."""
    from tfbig.engine.job import Trained
    from tfbig.report.console import Console

    return Trained(run if isinstance(run, Run) else Run.open(run), str(step), Console())
