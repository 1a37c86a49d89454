"""What is reported before a training starts: its data and length, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator

from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.features import SPLITS
from tfbig.core.lazy import keras
from tfbig.engine.facts import notes
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Lengths
from tfbig.engine.strategy import layers

SHOWN = 5  # names in a line
FEW_OF_A_CLASS = 10  # training examples
FEW_TO_MEASURE = 30  # examples of a held-out split


def refuse_empty(experiment: Experiment, data: Readable) -> None:
    """Refuses empty splits that a training needs; held-out ones are only read much later."""
    if not data.size("train"):
        raise UserError("data: the training split is empty. Expected at least one example.")
    if not data.size("validation"):
        raise UserError(
            "data: the validation split is empty, so no checkpoint could be told to be better."
            " Expected at least one example."
        )
    if experiment.train.final_split == "test" and not data.size("test"):
        raise UserError(
            "train.final_split: the test split is empty. Set train.final_split=validation, or none."
        )


def lines(experiment: Experiment, data: Readable) -> list[str]:
    """Examples of each split, classes, steps."""
    sizes = ", ".join(f"{data.size(split):,} {split}" for split in SPLITS)
    lengths = Lengths.of(experiment)
    classes = f"; {len(data.label_names):,} classes" if data.label_names else ""
    epochs = f"{lengths.total / lengths.epoch:,.3g} epochs"
    if experiment.task.makes_batches():
        epochs = "which an agent makes"
    return [
        f"examples: {sizes}{classes}",
        (
            f"training: {lengths.total:,} steps of {experiment.train.batch_size:,} examples,"
            f" {epochs}; evaluated every {lengths.evaluate:,} steps"
        ),
    ]


def concerns(experiment: Experiment, data: Readable, splits: dict[str, dict]) -> Iterator[str]:
    """What may make a training worth less than it seems, a line each.

    Args:
        experiment: what is trained.
        data: its examples.
        splits: the sizes and, where they are known, the examples of each class; as in data.json.

    Raises:
        UserError: nothing could be learnt, all training examples being of one class.
    """
    yield from notes(data)
    for split in SPLITS[:2]:  # of the test split only the size is known before training is over
        classes = splits[split]["classes"]
        absent = [name for name, count in classes.items() if not count]
        if split == "train" and len(classes) > 1 and len(absent) == len(classes) - 1:
            only = next(name for name, count in classes.items() if count)
            raise UserError(
                f"data: all {data.size(split):,} training examples are of the class {only}, so"
                " there is nothing to learn. Expected two classes at least."
            )
        if absent:
            yield f"classes without an example in the {split} split: {_some(absent)}"
    few = [
        f"{name} ({count})"
        for name, count in splits["train"]["classes"].items()
        if 0 < count < FEW_OF_A_CLASS
    ]
    if few:
        yield (
            f"classes with fewer than {FEW_OF_A_CLASS} training examples, from which little can be"
            f" learnt: {_some(few)}"
        )
    for split in SPLITS[1:]:
        if 0 < data.size(split) < FEW_TO_MEASURE:
            yield (
                f"the {split} split has {data.size(split):,} examples: see the intervals of its"
                " metrics for how little they say"
            )
    if experiment.train.freeze and experiment.init is None:
        yield (
            f"train.freeze: {_some(list(experiment.train.freeze))} keep weights that are drawn at"
            " random, for there is no init"
        )
    batch = experiment.train.batch_size
    size = data.size("train")
    if batch > size and not experiment.task.makes_batches():
        yield (
            f"train.batch_size: a batch of {batch:,} holds the {size:,} training examples more than"
            " once; a smaller one makes more steps of an epoch"
        )


def micro_statistics(experiment: Experiment, model: keras.Model) -> Iterator[str]:
    """A warning if layers need statistics of the whole batch but get micro-batches."""
    parts = experiment.train.accumulate
    if parts > 1 and any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in layers(model)
    ):
        rows = experiment.train.batch_size // parts
        yield (
            "train.accumulate: batch normalisation takes the statistics of each micro-batch of"
            f" {rows:,} examples, and adds each to its moving averages, {parts} a step: the result"
            " is not that of whole batches"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
