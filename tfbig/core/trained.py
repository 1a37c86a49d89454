"""A trained model as tasks get it, whoever has loaded it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import keras
    import numpy as np


class TrainedModel(Protocol):
    """A run's model with its best weights, ready to use.

    Attributes:
        model: the plain Keras functional model.
        step: the optimiser step that its weights are of.
        jit: whether XLA compiles what the model computes.
    """

    model: keras.Model
    step: int
    jit: bool

    def predict(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of `Task.predict` for raw examples: name -> [n, ...] to name -> [n, ...]."""
