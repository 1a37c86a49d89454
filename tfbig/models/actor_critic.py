"""Actor and critic: two heads' features of one observation, of fully connected layers or a CNN."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn.choices import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class ActorCritic(Model):
    """What an actor and a critic see in an observation (Mnih et al. 2016).

    Fully connected layers, for each of them their own unless they share; behind convolutions, where
    the observation is a picture or planes of a board. Weights begin orthogonal, by the details of
    PPO that Huang et al. 2022 collected.
    """

    units: tuple[int, ...] = knob((64, 64), "width of each fully connected layer", low=1)
    activation: str = knob("tanh", "after each layer", choices=ACTIVATIONS)
    shared: bool = knob(False, "one network for both; convolutions are always shared")
    filters: tuple[int, ...] = knob(
        (), "of each convolution over a picture or planes; empty: they are flattened", low=1
    )
    kernels: tuple[int, ...] = knob((3,), "side of each convolution; the last one goes on", low=1)
    strides: tuple[int, ...] = knob((1,), "stride of each convolution; the last one goes on", low=1)

    takes = frozenset({"observation"})
    gives = frozenset({"actor", "critic"})

    @classmethod
    def smallest(cls):
        return cls(units=(16,), filters=(4,))

    def problems(self):
        for name in ("units", "kernels", "strides"):
            if not getattr(self, name):
                yield name, "expected at least one number. Received: none."

    def build(self, spec):
        """Input [batch, ...] to [actor's features [batch, width], critic's features]."""
        ((name, feature),) = spec.items()
        inputs = x = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        for i, filters in enumerate(self.filters):
            x = self._convolution(x, filters, i)
        if len(x.shape) > 2:
            x = keras.layers.Flatten(name="flatten")(x)
        if self.shared:
            outputs = [self._dense(x, "shared")] * 2
        else:
            outputs = [self._dense(x, part) for part in ("actor", "critic")]
        return keras.Model(inputs, outputs, name="actor_critic")

    def _convolution(self, x, filters: int, number: int):
        kernel, stride = (
            sizes[min(number, len(sizes) - 1)] for sizes in (self.kernels, self.strides)
        )
        if len(x.shape) != 4:
            raise ValueError(
                f"model.filters: expected none, for observations of shape {list(x.shape[1:])}, no"
                f" pictures. Received: {self.filters}."
            )
        if min(x.shape[1:3]) < kernel:
            raise ValueError(
                f"model.kernels: expected at most {min(x.shape[1:3])} for convolution {number + 1}."
                f" Received: {kernel}."
            )
        layer = keras.layers.Conv2D(
            filters,
            kernel,
            stride,
            activation=self.activation,
            kernel_initializer=self._orthogonal(),
            name=f"convolution_{number + 1}",
        )
        return layer(x)

    def _dense(self, x, part: str):
        for i, units in enumerate(self.units, 1):
            layer = keras.layers.Dense(
                units,
                activation=self.activation,
                kernel_initializer=self._orthogonal(),
                name=f"{part}_{i}",
            )
            x = layer(x)
        return x

    def _orthogonal(self):
        return keras.initializers.Orthogonal(math.sqrt(2))
