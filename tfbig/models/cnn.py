"""Convolutional network: stages of convolutions, each followed by pooling; plain or residual."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn.choices import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS, initializer, normalization


@dataclass(frozen=True, kw_only=True)
class CNN(Model):
    """Convolutional network.

    Stages of convolutions, plain (LeCun et al. 1998) or residual (He et al. 2016).
    """

    filters: tuple[int, ...] = knob(
        (32, 64), "channels of each stage; pooling halves the picture after each", low=1
    )
    convolutions: int = knob(1, "convolutions in each stage", low=1)
    kernel: int = knob(3, "side of the convolution kernels in pixels", low=1)
    residual: bool = knob(
        False, "add each stage's first convolution to its last (needs at least 2 convolutions)"
    )
    pooling: str = knob("max", "after each stage", choices=("max", "average"))
    summary: str = knob(
        "flatten", "of the last stage's picture", choices=("flatten", "average", "max")
    )
    units: int = knob(128, "width of the dense layer after it; 0: none", low=0)
    activation: str = knob("relu", "after convolutions and the dense layer", choices=ACTIVATIONS)
    normalization: str = knob("batch", "before each activation", choices=NORMALIZATIONS)
    dropout: float = knob(
        0.0, "share of the last features dropped while training", low=0, high=0.95
    )
    initializer: str = knob(
        "auto", "of the weights; auto suits the activation", choices=INITIALIZERS
    )

    @classmethod
    def smallest(cls):
        return cls(filters=(8,), convolutions=2, units=4)

    def problems(self):
        if self.residual and self.convolutions < 2:
            yield (
                "residual",
                (
                    "expected model.convolutions of at least 2 with it. Received:"
                    f" {self.convolutions}."
                ),
            )

    def build(self, spec):
        """Input [batch, height, width, channels] to features [batch, n]."""
        layers = keras.layers
        ((name, feature),) = spec.items()
        inputs = x = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        pool = layers.MaxPooling2D if self.pooling == "max" else layers.AveragePooling2D
        for stage, filters in enumerate(self.filters, 1):
            first = None
            for i in range(1, self.convolutions + 1):
                x = self._convolution(x, filters, f"stage_{stage}_{i}")
                first = x if first is None else first
                # Pooled early, so that the rest of the stage works on a quarter of the pixels
                if i == 1:
                    x = first = pool(2, padding="same", name=f"stage_{stage}_pool")(x)
            if self.residual:
                x = layers.Add(name=f"stage_{stage}_add")([x, first])
        x = self._summary(x)
        weights = initializer(self.initializer, self.activation)
        if self.units:
            x = layers.Dense(
                self.units,
                use_bias=self.normalization != "batch",
                kernel_initializer=weights,
                name="dense",
            )(x)
            x = normalization(self.normalization, "dense_norm")(x)
            x = layers.Activation(self.activation, name="dense_activation")(x)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        return keras.Model(inputs, x, name="cnn")

    def _convolution(self, x, filters, name):
        weights = initializer(self.initializer, self.activation)
        plain = self.normalization != "batch"  # batch normalisation has a shift of its own
        x = keras.layers.Conv2D(
            filters,
            self.kernel,
            padding="same",
            use_bias=plain,
            kernel_initializer=weights,
            name=name,
        )(x)
        x = normalization(self.normalization, f"{name}_norm")(x)
        return keras.layers.Activation(self.activation, name=f"{name}_activation")(x)

    def _summary(self, x):
        if self.summary == "flatten":
            return keras.layers.Flatten(name="flatten")(x)
        pool = (
            keras.layers.GlobalAveragePooling2D
            if self.summary == "average"
            else keras.layers.GlobalMaxPooling2D
        )
        return pool(name="global_pool")(x)
