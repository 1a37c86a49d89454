"""Multi-layer perceptron: fully connected layers on the flattened input."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn.choices import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS, initializer, normalization


@dataclass(frozen=True, kw_only=True)
class MLP(Model):
    """Multi-layer perceptron.

    Fully connected layers on the flattened input (Rumelhart et al. 1986).
    """

    units: tuple[int, ...] = knob((128,), "width of each hidden layer", low=1)
    activation: str = knob("relu", "after each hidden layer", choices=ACTIVATIONS)
    normalization: str = knob("none", "before each activation", choices=NORMALIZATIONS)
    dropout: float = knob(0.0, "share of hidden units dropped while training", low=0, high=0.95)
    initializer: str = knob(
        "auto", "of the weights; auto suits the activation", choices=INITIALIZERS
    )

    @classmethod
    def smallest(cls):
        return cls(units=(8,), dropout=0.1)

    def build(self, spec):
        """Input [batch, ...] of any shape to features [batch, units[-1]]."""
        layers = keras.layers
        ((name, feature),) = spec.items()
        inputs = x = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        x = layers.Flatten(name="flatten")(x)
        weights = initializer(self.initializer, self.activation)
        for i, units in enumerate(self.units, 1):
            x = layers.Dense(units, kernel_initializer=weights, name=f"dense_{i}")(x)
            x = normalization(self.normalization, f"norm_{i}")(x)
            x = layers.Activation(self.activation, name=f"activation_{i}")(x)
            if self.dropout:
                x = layers.Dropout(self.dropout, name=f"dropout_{i}")(x)
        return keras.Model(inputs, x, name="mlp")
