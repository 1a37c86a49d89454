"""Q-network: the value of each action in an observation, of fully connected layers or a CNN."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn.choices import ACTIVATIONS, initializer


@dataclass(frozen=True, kw_only=True)
class QNetwork(Model):
    """What the values of actions are read from (Mnih et al. 2015).

    Convolutions, where the observation is a picture or planes of a board, then fully connected
    layers. Duelling (Wang et al. 2016): the last of these stand twice, once for the value of the
    state, once for the advantages of actions.
    """

    units: tuple[int, ...] = knob((128, 128), "width of each fully connected layer", low=1)
    activation: str = knob("relu", "after each layer", choices=ACTIVATIONS)
    duelling: bool = knob(True, "the last layer for state and advantages apart")
    filters: tuple[int, ...] = knob(
        (), "of each convolution over a picture or planes; empty: they are flattened", low=1
    )
    kernel: int = knob(3, "side of each convolution", low=1)
    stride: int = knob(1, "of the first convolution", low=1)

    takes = frozenset({"observation"})
    gives = frozenset({"action_values"})

    @classmethod
    def smallest(cls):
        return cls(units=(16,), filters=(4,))

    def problems(self):
        if not self.units:
            yield "units", "expected at least one number. Received: none."

    def build(self, spec):
        """Input [batch, ...] to features [batch, width]: one, or the state's and advantages'."""
        layers = keras.layers
        ((name, feature),) = spec.items()
        if self.filters and len(feature.shape) != 3:
            raise ValueError(
                f"model.filters: expected none, for observations of shape {list(feature.shape)}, no"
                f" pictures. Received: {self.filters}."
            )
        weights = initializer("auto", self.activation)
        options = {"activation": self.activation, "kernel_initializer": weights}
        inputs = x = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        for i, filters in enumerate(self.filters, 1):
            stride = self.stride if i == 1 else 1
            layer = layers.Conv2D(
                filters, self.kernel, stride, "same", name=f"convolution_{i}", **options
            )
            x = layer(x)
        if len(x.shape) > 2:
            x = layers.Flatten(name="flatten")(x)
        *first, last = self.units
        for i, units in enumerate(first, 1):
            x = layers.Dense(units, name=f"dense_{i}", **options)(x)
        parts = ("state", "advantages") if self.duelling else ("values",)
        outputs = [layers.Dense(last, name=f"dense_{part}", **options)(x) for part in parts]
        return keras.Model(inputs, outputs, name="q_network")
