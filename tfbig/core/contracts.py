"""The contract of a task; those of models and datasets are in model.py and dataset.py. Read first.

Each is a frozen dataclass whose fields are its configuration ("knobs") and whose methods build from
it, so no argument list is written twice. A file of `models/`, `data/` or `tasks/` defines exactly
one of them and the file's name is its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tfbig.core.component import Component
from tfbig.core.dataset import Dataset
from tfbig.core.model import Model
from tfbig.core.serving import Serving
from tfbig.core.source import Source

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    import numpy as np
    import tensorflow as tf

    from tfbig.core.experiment import Experiment
    from tfbig.core.trained import TrainedModel


@dataclass(frozen=True, kw_only=True)
class Task(Component):
    """What is learnt: examples to inputs, model, loss, prediction, metrics.

    Its methods see what a single replica sees. `bind` gives a copy that knows its `model`, its
    `data` and the `facts` measured on the training split. All methods but `measure` need a bound
    task.
    """

    primary: ClassVar[tuple[str, str]] = ("loss", "min")
    """The metric of `metrics` or `score` that picks the best checkpoint, and whether "max" or "min"
    is better."""

    preprocess_on: ClassVar[str] = "host"
    """"device": `preprocess` is numeric and runs inside the compiled step.

    "host": it runs in the input pipeline.
    """

    takes: ClassVar[frozenset[str]] = frozenset()
    """What a dataset must give; see `Dataset.gives`."""

    feeds: ClassVar[frozenset[str]] = frozenset({"image"})
    """What the model must take; see `Model.takes`."""

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    """What the model must give; see `Model.gives`."""

    metric_units: ClassVar[dict[str, str]] = {}
    """The unit of a metric or another logged scalar: "%" for shares; others as they are."""

    curves: ClassVar[tuple[str, ...]] = ()
    """Metrics and other logged scalars whose course reports show, besides loss and `primary`."""

    plays: ClassVar[bool] = False
    """Whether an evaluation is made of episodes; see `play`."""

    derived: ClassVar[dict[str, tuple[str, Callable[[float], float]]]] = {}
    """Metrics that are an increasing function of another one, such as a perplexity of a mean.

    Name -> (metric, function).
    """

    asked_with: ClassVar[str] = "INPUT"
    """What a prediction is made of, as a word of the command line."""

    evaluation: ClassVar[type[Component]] = Component
    """The knobs of an evaluation (`--knob VALUE` of the evaluate command); see `conclude`."""

    request: ClassVar[type[Component]] = Component
    """The knobs of a prediction (`--knob VALUE` of the predict command); see `respond`."""

    service: ClassVar[type[Component]] = Component
    """The knobs of a served model (`--knob VALUE` of the export command); see `serving`."""

    @classmethod
    def wanted_data(cls, data: type[Dataset] | Dataset) -> str:
        """What it expects instead of this dataset, in words; empty where the dataset fits."""
        return f"data that gives {_listed(cls.takes)}" if cls.takes - data.gives else ""

    @classmethod
    def wanted_model(cls, model: type[Model] | Model) -> str:
        """What it expects instead of this model, in words; empty where the model fits."""
        if cls.feeds <= model.takes and cls.needs <= model.gives:
            return ""
        return f"a model that takes {_listed(cls.feeds)} and gives {_listed(cls.needs)}"

    def fits(self, model: Model, data: Dataset) -> Iterator[tuple[str, str]]:
        """Yields ("data" or "model", what is missing, in words) where they do not fit this task."""
        if expected := self.wanted_data(data):
            yield "data", _mismatch(expected, data, f"gives {_listed(data.gives)}")
        if expected := self.wanted_model(model):
            own = f"takes {_listed(model.takes)} and gives {_listed(model.gives)}"
            yield "model", _mismatch(expected, model, own)

    @classmethod
    def smallest(cls, folder: Path) -> Experiment:
        """The smallest experiment of this task that learns its data within seconds, for tests.

        Its data, and runs that it `uses`, are made on the spot in `folder`, which exists. A model
        with Dropout and without batch normalisation, a length of some dozen steps and an
        evaluation at their end let it be compared with its resumed, compiled and divided self.

        Example:
            return Experiment(
                name="smallest",
                task=cls(),
                model=MLP.smallest(),
                data=ImageFolder.smallest(folder),
                train=Train(length="60", batch_size=12, evaluate_every="20"),
                optim=Optim(optimizer="adam", learning_rate=0.01),
            )
        """
        raise NotImplementedError

    def uses(self) -> dict[str, str]:
        """Other runs that the task needs, frozen.

        Such as a teacher, a tokenizer of pictures, a judge: name -> run directory, as a setting
        gives it. They are copied into the run, and a bound task has
        each as `parts[name]`, with `model`, `task` and `predict`.
        """
        return {}

    def bind(
        self, model: Model, data: Dataset, facts: dict[str, Any], parts: Mapping[str, Any] = {}
    ) -> Task:
        """A copy that knows its model, its data, the facts measured on it, and the runs it uses."""
        bound = dataclasses.replace(self)
        for name, value in (("model", model), ("data", data), ("facts", facts), ("parts", parts)):
            object.__setattr__(bound, name, value)
        return bound

    def measure(self, data: Dataset) -> dict[str, Any]:
        """What preprocessing needs to know of the training split, and of no other.

        JSON values, saved with the run.
        """
        return {}

    @property
    def together(self) -> int:
        """How many neighbours in a batch of training depend on each other, such as 2 for pairs.

        Batches and micro-batches hold whole groups of them, and so does each worker's share.
        """
        return 1

    def preprocess(self, raw: dict[str, tf.Tensor], training: bool) -> dict[str, tf.Tensor]:
        """Raw examples to model-ready ones; the only copy: training, evaluation and serving use it.

        A feature with a free axis comes padded, with NAME_count. Served examples hold only what
        `Serving.decode` gives: of what is not there, nothing is made.

        While training, `raw["key"]` (uint32 [batch, 2]) is unique to each example and epoch:
        randomness comes from it alone.
        """
        raise NotImplementedError

    def build(self) -> keras.Model:
        """The trainable model, head included."""
        raise NotImplementedError

    def preview(self, model: keras.Model) -> list[str]:
        """What can be known of a training before it begins, a line each.

        Such as how much of the truth its targets can express. It is asked once, of a new run with
        the model as it is at first.

        Raises:
            UserError: the training would be in vain.
        """
        return []

    def loss(
        self, model: keras.Model, batch: dict[str, tf.Tensor], training: bool
    ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Per example (sum, weight), each [batch]: of "loss", which is minimised, and other logs.

        The engine divides once, all sums by all weights of the whole batch. Padding weighs 0; a
        text weighs as much as it has tokens; a picture weighs 1, with or without a box in it. A
        weight does not depend on the model.
        """
        raise NotImplementedError

    def source(self, model: keras.Model, batch_size: int, seed: int) -> Source | None:
        """An agent that makes the examples with the model, as in games; None: use the dataset's."""
        return None

    @classmethod
    def makes_batches(cls) -> bool:
        """Whether an agent makes the examples: the training split is no measure of a training."""
        return cls.source is not Task.source

    def variables(self, model: keras.Model) -> list:
        """The task's own variables, created here and kept in checkpoints.

        Such as a target network's, or those of a teacher that follows the model.
        """
        return []

    def after_step(self, model: keras.Model, step: tf.Tensor) -> None:
        """Graph code that ends each step, for `variables` that follow the model's.

        `step` is the number of steps made, int32.
        """

    def predict(self, model: keras.Model, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Model-ready inputs to named outputs [batch, ...]; of padded inputs, padded outputs.

        The only inference path: metrics, command line, export, server.
        """
        raise NotImplementedError

    def play(
        self,
        act: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
        examples: dict[str, np.ndarray],
    ) -> dict[str, np.ndarray]:
        """Outputs of episodes, for agents that are judged by what comes of their actions.

        Asked where `plays`: on the host, in place of `predict`, which `act` is.

        Args:
            act: raw observations, name -> [n, ...], to outputs of `predict`.
            examples: of the dataset, one for each episode, such as its seed: name -> [batch, ...].

        Returns:
            name -> [batch, ...], what `metrics` and `records` see, together with the examples.
        """
        raise NotImplementedError

    def conclude(
        self, model: keras.Model, inputs: dict[str, tf.Tensor], options: Component
    ) -> dict[str, tf.Tensor]:
        """Further outputs that are too dear for the evaluations between steps.

        Such as texts that are written token by token. `metrics` and `records` see them beside those
        of `predict`, after training and when the evaluate command asks; between steps they see
        those of `predict` alone, and give no metric that needs more. `primary` is given always.

        Args:
            model: the trained model.
            inputs: a model-ready batch.
            options: an instance of this task's `evaluation`.
        """
        return {}

    def measured_by(self, options: Component) -> dict[str, str]:
        """How metrics are measured, where their names do not say it: metric -> words.

        Such as a signature that says how a text was divided. They are shown and kept with the
        metrics.

        Args:
            options: an instance of this task's `evaluation`.
        """
        return {}

    def metrics(
        self, outputs: dict[str, tf.Tensor], batch: dict[str, tf.Tensor]
    ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Per example (sum, count), each [batch].

        A metric is all sums over all counts, so padding never counts. The loss is one of them where
        outputs are enough to tell it.
        """
        raise NotImplementedError

    def records(
        self, outputs: dict[str, tf.Tensor], batch: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """What an evaluation keeps of each example besides its metrics: small arrays [batch, ...].

        They are what `score`, `panels` and the check of an export see; outputs are not kept.
        Numbers only, of one shape whatever the example's length. Example: 100 boxes with class and
        score, and the true ones, padded to the most that there may be.
        """
        return {}

    def examine(self, records: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Records of all examples to the statistics that `score` needs of each: name -> [n, ...].

        Such as counts of n-grams. It is called once for each evaluation, on the host.
        """
        return records

    def score(self, statistics: dict[str, np.ndarray]) -> dict[str, float | None]:
        """Metrics that need all examples together, such as average precision.

        They come from what `examine` returned, and are None where too little is counted. It is
        called for the split and for some hundred resamples of it (with `statistics` of drawn
        examples), from which the intervals come.
        """
        return {}

    def serving(self, model: keras.Model, options: Component) -> Serving:
        """All that deploying needs: how users' inputs are read and answered, and more programs.

        Args:
            model: the trained model, computing in float32.
            options: an instance of this task's `service`.
        """
        raise NotImplementedError

    def panels(
        self, split: str, positions: np.ndarray, records: dict[str, np.ndarray]
    ) -> list[dict[str, Any]]:
        """Panels of a report about a finished evaluation, as JSON values.

        tfbig/report/panels.py lists the kinds.

        Args:
            split: what was evaluated.
            positions: int64 [n], of the examples in the split: all but unreadable ones.
            records: of `records` for these examples, each [n, ...].
        """
        return []

    def training_panels(self, batch: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """Panels of a report about the network's inputs, augmentation included.

        Args:
            batch: the first batch of training, as `preprocess(training=True)` makes it.
        """
        return []

    def samples(self, model: keras.Model, jit: bool) -> list[dict[str, Any]]:
        """Panels that show what the model makes by itself, such as text.

        `jit`: whether XLA compiles it.
        """
        return []

    def check_inputs(self, inputs: Any) -> None:
        """Refuses inputs that no model could respond to, such as files that are not there.

        It is called without TensorFlow, before the task is bound.
        """

    def respond(
        self, trained: TrainedModel, inputs: Any, request: Component, write: Callable[[str], Any]
    ) -> list[dict[str, Any]]:
        """Predictions for what a user gave, as the predict command and `tfbig.predict` want them.

        Args:
            trained: the run that predicts.
            inputs: a list of the command line's words, or an array from Python.
            request: an instance of this task's `request`.
            write: shows text on the terminal, as soon as there is any.

        Returns:
            JSON values, one for each prediction.
        """
        raise NotImplementedError


def _listed(kinds: frozenset[str]) -> str:
    return " and ".join(sorted(kinds)) or "nothing"


def _mismatch(expected: str, component: Component, own: str) -> str:
    name = type(component).__name__
    return f"expected {expected}, for this task. Received: {name}, which {own}."
