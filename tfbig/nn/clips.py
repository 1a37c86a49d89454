"""Blocks of networks of clips: convolutions over each frame, and over time (Tran et al. 2018).

A convolution over frames takes them all as so many pictures; one over time takes pixels as a row:
both are of two dimensions, which are quick on CPUs and have their like in ONNX and LiteRT, where
those of three are slow or missing.

Shapes: b batch, t frames, h height, w width, c channels.
"""

from __future__ import annotations

from collections.abc import Callable

from tfbig.core.lazy import keras
from tfbig.nn.choices import normalization

NORMALIZATIONS = ("batch", "group", "none")


class Layers:
    """Layers of a network of clips, made anew or, given a built model's `get_layer`, that model's.

    Args:
        norm: kind of normalisation, one of NORMALIZATIONS.
        existing: from a name to the layer that is called so.
    """

    def __init__(self, norm: str, existing: Callable | None = None):
        self.norm, self.existing = norm, existing

    def __call__(self, kind: str, name: str, *arguments, **options):
        """The layer of this name, of a class of `keras.layers`."""
        if self.existing:
            return self.existing(name)
        return getattr(keras.layers, kind)(*arguments, name=name, **options)

    def frames(self, x_bthwc, layer):
        """A layer of pictures upon each frame."""
        ops = keras.ops
        y = layer(ops.reshape(x_bthwc, (-1, *x_bthwc.shape[2:])))
        return ops.reshape(y, (-1, x_bthwc.shape[1], *y.shape[1:]))

    def over_frames(self, x_bthwc, filters: int, kernel: int, stride: int, name: str):
        """A convolution over each frame, without a bias where it is normalised."""
        layer = self(
            "Conv2D",
            name,
            filters,
            kernel,
            stride,
            "same",
            use_bias=self.norm == "none",
            kernel_initializer="he_normal",
        )
        return self.frames(x_bthwc, layer)

    def over_time(self, x_bthwc, filters: int, kernel: int, stride: int, name: str, padding="same"):
        """A convolution over time of each pixel; "valid" where frames before it are in `x`."""
        ops = keras.ops
        _, frames, height, width, channels = x_bthwc.shape
        layer = self(
            "Conv2D",
            name,
            filters,
            (kernel, 1),
            (stride, 1),
            padding,
            use_bias=self.norm == "none",
            kernel_initializer="he_normal",
        )
        y = layer(ops.reshape(x_bthwc, (-1, frames, height * width, channels)))
        return ops.reshape(y, (-1, y.shape[1], height, width, filters))

    def normed(self, x_bthwc, name: str, gamma: str = "ones"):
        """Normalised: each frame by itself, or all by the batch."""
        if self.norm == "none":
            return x_bthwc
        layer = self.existing(name) if self.existing else normalization(self.norm, name, gamma)
        return self.frames(x_bthwc, layer)

    def activated(self, x, name: str):
        return self("Activation", name, "relu")(x)
