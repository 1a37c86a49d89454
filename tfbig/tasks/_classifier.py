"""What classifiers of recordings, sequences and texts have in common: a head, a loss, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tfbig.core.component import knob
from tfbig.core.contracts import Task
from tfbig.core.lazy import keras, tf
from tfbig.nn.heads import with_logits
from tfbig.tasks._targets import Number, OneLabel, SeveralLabels


@dataclass(frozen=True, kw_only=True)
class Classifier(Task):
    """A task whose model gives logits, and whose `answers` knows what they mean."""

    label_smoothing: float = knob(
        0.0, "share of the target spread over all labels (Szegedy et al. 2016)", low=0, high=0.9
    )

    read: ClassVar[tuple[str, ...]] = ()
    """What of a batch the model reads, where it is there."""

    @property
    def answers(self) -> OneLabel | SeveralLabels | Number:
        """What is answered, as the run learnt it."""
        return OneLabel(tuple(self.facts["labels"]))

    def headed(self, body: keras.Model, features) -> keras.Model:
        """The body with a head of as many logits as there are answers."""
        return with_logits(body, features, self.answers.width, type(self.model).__name__.lower())

    def _logits(self, model, batch, training: bool):
        given = {name: batch[name] for name in self.read if name in batch}
        return tf.cast(model(given, training=training), tf.float32)

    def loss(self, model, batch, training):
        logits = self._logits(model, batch, training)
        losses = self.answers.loss(logits, batch["label"], self.label_smoothing)
        measured = self.answers.metrics(self.answers.outputs(logits), batch["label"])
        return {**measured, "loss": (losses, tf.ones_like(losses))}

    def predict(self, model, inputs):
        """Of one label: logits, probability [batch, labels], and the most probable label [batch].

        Of several: logits and probability [batch, labels]. Of numbers: value [batch].
        """
        return self.answers.outputs(self._logits(model, inputs, False))

    def metrics(self, outputs, batch):
        """Accuracy (of several labels: all of them right) and loss; of numbers the error."""
        return self.answers.metrics(outputs, batch["label"])

    def score(self, statistics):
        """Matthews' correlation, F1, AUROC where there are two labels; correlations of numbers."""
        return self.answers.score(statistics)

    def grade(self, answers, batch):
        return self.answers.graded(answers, batch["label"])
