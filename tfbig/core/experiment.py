"""An experiment: what is learnt, by which model, from which data, and the common knobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from tfbig.core import duration
from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.errors import Needed
from tfbig.core.model import Adapter, Model

OPTIMIZERS = {  # name -> the settings of Optim that it understands besides rate, decay and clipping
    "sgd": ("momentum", "nesterov"),
    "rmsprop": ("momentum", "epsilon"),
    "adagrad": ("epsilon",),
    "adadelta": ("epsilon",),
    "adafactor": (),
    "adam": ("beta_1", "beta_2", "epsilon"),
    "adamw": ("beta_1", "beta_2", "epsilon"),
    "adamax": ("beta_1", "beta_2", "epsilon"),
    "nadam": ("beta_1", "beta_2", "epsilon"),
    "lamb": ("beta_1", "beta_2", "epsilon"),
    "lion": ("beta_1", "beta_2"),
    "muon": ("momentum", "nesterov", "beta_1", "beta_2", "epsilon"),
}


WHOLE = 'epochs ("10ep") or steps ("20_000")'  # of the length of a training


@dataclass(frozen=True, kw_only=True)
class Train(Component):
    """How long, in which portions, and what is kept."""

    length: str = knob("10ep", 'whole training: "10ep" (epochs) or "20_000" (steps)')
    batch_size: int = knob(64, "examples per optimiser step", low=1, high=1_048_576)
    accumulate: int = knob(
        1,
        "micro-batches a batch is split into, to save memory; same result, but batch normalisation"
        " takes each one's own statistics",
        low=1,
    )
    shapes: int = knob(
        4, "data of any length: fixed lengths to which batches of like length are padded", low=1
    )
    remat: bool = knob(
        False,
        "compute activations again for the gradient instead of keeping them, to save memory; same"
        " result, slower",
    )
    evaluate_every: str = knob(
        "1ep", "between evaluations on the validation split: epochs, steps or % of length"
    )
    save_every: str = knob(
        "1ep", "between checkpoints: epochs, steps or % of length; each evaluation saves too"
    )
    keep: int = knob(3, "latest checkpoints kept, besides the best", low=2)
    ema: float | None = knob(
        None,
        "decay of the weights' moving average, which is then what is evaluated",
        above=0,
        high=0.999999,
    )
    patience: int | None = knob(
        None, "stop after this many evaluations without a better primary metric", low=1
    )
    freeze: tuple[str, ...] = knob(
        (),
        "layers that keep the weights they begin with, by the beginning of their names, such as"
        " stem,stage_1",
    )
    final_split: str = knob(
        "test", "split evaluated once after training", choices=("test", "validation", "none")
    )
    tensorboard: bool = knob(False, "write TensorBoard event files to RUN/tensorboard")

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("length", "evaluate_every", "save_every"):
            text = getattr(self, name)
            try:
                number, unit = duration.parse(text, WHOLE if name == "length" else duration.FORM)
            except ValueError as error:
                yield name, str(error)
                continue
            if number == 0:
                yield name, f"expected more than 0. Received: {text!r}."
            if name == "length" and unit == "%":
                yield name, f"expected {WHOLE}. Received: {text!r}."
        if self.batch_size % self.accumulate:
            yield (
                "accumulate",
                (
                    f"expected a divisor of train.batch_size={self.batch_size}. Received:"
                    f" {self.accumulate}."
                ),
            )


@dataclass(frozen=True, kw_only=True)
class Optim(Component):
    """The optimiser and its schedule, Keras's own."""

    optimizer: str = knob("sgd", "which optimiser", choices=tuple(OPTIMIZERS))
    learning_rate: float = knob(0.01, "peak learning rate", above=0)
    schedule: str = knob(
        "constant",
        "of the learning rate after warm-up",
        choices=("constant", "cosine", "linear", "step"),
    )
    warmup: str = knob("0", "linear rise from 0 to the peak: epochs, steps or % of length")
    final_fraction: float = knob(
        0.0, "cosine, linear: last learning rate as a fraction of the peak", low=0, high=1
    )
    step_at: tuple[str, ...] = knob(("50%", "75%"), "step: when the learning rate drops")
    step_factor: float = knob(0.1, "step: factor of each drop", above=0, high=1)
    weight_decay: float = knob(
        0.0, "decoupled decay of weight matrices, times the learning rate", low=0
    )
    first_rate: float = knob(
        1.0,
        "learning rate of the first layer over the last one's; of those between by their place"
        " (Howard and Ruder 2018)",
        above=0,
        high=1,
    )
    clip_norm: float | None = knob(None, "largest global norm of the gradient", above=0)
    momentum: float | None = knob(None, "sgd, rmsprop, muon; none: Keras's default", low=0, high=1)
    nesterov: bool | None = knob(None, "sgd, muon; none: Keras's default")
    beta_1: float | None = knob(
        None, "decay of the first moment; none: Keras's default", low=0, high=1
    )
    beta_2: float | None = knob(
        None, "decay of the second moment; none: Keras's default", low=0, high=1
    )
    epsilon: float | None = knob(None, "added to the denominator; none: Keras's default", above=0)

    def settled(self, given: frozenset[str]) -> Optim:
        """A copy without settings that another optimiser has no use for.

        Such as a recipe's momentum.
        """
        known = (*OPTIMIZERS.get(self.optimizer, ()), *given)
        foreign = [
            name
            for name in ("momentum", "nesterov", "beta_1", "beta_2", "epsilon")
            if name not in known
        ]
        return dataclasses.replace(self, **dict.fromkeys(foreign)) if "optimizer" in given else self

    @property
    def follows_length(self) -> bool:
        """Whether the learning rate at a step depends on the training's length."""
        shares = (self.warmup, *(self.step_at if self.schedule == "step" else ()))
        return self.schedule in ("cosine", "linear") or any(
            text.strip().endswith("%") for text in shares
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        known = OPTIMIZERS.get(self.optimizer, ())
        for name in ("beta_1", "beta_2"):
            if getattr(self, name) == 1:
                yield (
                    name,
                    (
                        "expected less than 1, at which a moving average keeps its first value for"
                        " ever. Received: 1."
                    ),
                )
        for name in ("momentum", "nesterov", "beta_1", "beta_2", "epsilon"):
            if (
                self.optimizer in OPTIMIZERS
                and getattr(self, name) is not None
                and name not in known
            ):
                takers = ", ".join(
                    sorted(key for key, names in OPTIMIZERS.items() if name in names)
                )
                yield (
                    name,
                    (
                        f"expected none: {self.optimizer} has no such setting ({takers} do)."
                        f" Received: {getattr(self, name)}."
                    ),
                )
        for name, values in (("warmup", (self.warmup,)), ("step_at", self.step_at)):
            for text in values:
                try:
                    duration.parse(text)
                except ValueError as error:
                    yield name, str(error)


STRATEGIES = ("auto", "single", "multi_worker", "mirrored", "tpu", "parameter_server")
REFUSED = {  # what tf.distribute offers and this package does another way, or not at all
    "tpu": (
        "TensorFlow computes on a TPU only under tf.distribute.TPUStrategy, which mirrors variables"
        " over its cores. Steps compile with XLA as it needs, but without a TPU that path could not"
        " be tried, so it is not offered"
    ),
    "parameter_server": (
        "updates reach its servers in no fixed order, so neither the order of batches nor resuming"
        " would be exact. Use python -m tfbig.launch --workers N -- train ..."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Device(Component):
    """Where and in which arithmetic."""

    strategy: str = knob(
        "auto",
        "who computes; auto: multi_worker if TF_CONFIG names several workers, mirrored if there are"
        " several accelerators",
        choices=STRATEGIES,
    )
    count: int | None = knob(
        None,
        "mirrored: processes that train together here, one for each accelerator or, without any, on"
        " the CPU; none: all accelerators",
        low=1,
    )
    sync_batch_norm: bool = knob(
        True, "several workers: batch normalisation over the whole batch, as one process would"
    )
    jit: str = knob(
        "auto",
        "compile steps with XLA; auto: all but convolutions, recurrence and Dropout on CPU",
        choices=("auto", "true", "false"),
    )
    halves: bool = knob(
        True,
        "CPU: compute the two halves of a transformer's batch side by side, where XLA compiles"
        " steps",
    )
    precision: str = knob(
        "float32",
        "of activations; weights stay float32",
        choices=("float32", "bfloat16", "float16"),
    )
    block: int = knob(100, "most steps per call into the compiled program", low=1, high=10_000)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.strategy in REFUSED:
            yield "strategy", f"{self.strategy}: {REFUSED[self.strategy]}."
        if self.count is not None and self.strategy != "mirrored":
            yield (
                "count",
                (
                    f"expected with device.strategy=mirrored only. Received: {self.count} with"
                    f" {self.strategy}."
                ),
            )


@dataclass(frozen=True, kw_only=True)
class Experiment(Component):
    """Everything that decides a run's result."""

    name: str = knob("experiment", "the recipe's name; names the run directory")
    seed: int = knob(
        0, "of initial weights, order, augmentation and dropout", low=0, high=2**31 - 1
    )
    init: str | None = knob(
        None,
        "weights to start from: another run's by the names of its layers, a folder with"
        " .safetensors files, or hub:PRESET; none: fresh ones",
        path=True,
    )
    task: Task = field(metadata={"doc": "what is learnt", "kind": "tasks"})
    model: Model = field(metadata={"doc": "the architecture", "kind": "models"})
    data: Dataset = field(metadata={"doc": "the examples", "kind": "data"})
    adapt: Adapter | None = field(
        default=None,
        metadata={"doc": "what is made of the built model before it trains", "kind": "adapt"},
    )
    train: Train = Train()
    optim: Optim = Optim()
    device: Device = Device()

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.name or "/" in self.name or self.name.startswith("."):
            yield "name", f"expected a word that can name a directory. Received: {self.name!r}."
        if self.adapt is not None and self.adapt.needs_init and self.init is None:
            yield (
                "init",
                Needed(
                    "expected weights that know something already, for adapt changes little of"
                    " them. Received: none. Set init=RUN."
                ),
            )
        yield from self.task.fits(self.model, self.data)
