"""LSTM: a recurrent network that reads rows, or any sequence, one step after another."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn.choices import INITIALIZERS


@dataclass(frozen=True, kw_only=True)
class LSTM(Model):
    """LSTM: a recurrent network over rows or any sequence (Hochreiter and Schmidhuber 1997)."""

    units: tuple[int, ...] = knob((128,), "width of each layer", low=1)
    bidirectional: bool = knob(False, "read from both ends; features double")
    summary: str = knob(
        "last",
        "of the time steps: the last state, or the average of all",
        choices=("last", "average"),
    )
    dropout: float = knob(
        0.0, "share of each layer's output dropped while training", low=0, high=0.95
    )
    initializer: str = knob("auto", "of the input weights; auto: Glorot's", choices=INITIALIZERS)

    @classmethod
    def smallest(cls):
        return cls(units=(4,))

    def build(self, spec):
        """Input [batch, time, ...], such as a picture's rows, to features [batch, units[-1]]."""
        layers = keras.layers
        ((name, feature),) = spec.items()
        inputs = x = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        if len(feature.shape) != 2:
            x = layers.Reshape((feature.shape[0], math.prod(feature.shape[1:])), name="rows")(x)
        weights = "glorot_uniform" if self.initializer == "auto" else self.initializer
        for i, units in enumerate(self.units, 1):
            keep = i < len(self.units) or self.summary == "average"
            layer = layers.LSTM(
                units, return_sequences=keep, kernel_initializer=weights, name=f"lstm_{i}"
            )
            x = layers.Bidirectional(layer, name=f"both_{i}")(x) if self.bidirectional else layer(x)
            if self.dropout:
                x = layers.Dropout(self.dropout, name=f"dropout_{i}")(x)
        if self.summary == "average":
            x = layers.GlobalAveragePooling1D(name="average")(x)
        return keras.Model(inputs, x, name="lstm")
