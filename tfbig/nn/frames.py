"""Layers over frames of any length: what stands behind a row's real frames changes nothing.

Convolutions see zeros there, batch normalisation does not see it at all.

Shapes: b rows, t frames, d channels.
"""

from __future__ import annotations

import functools

from tfbig.core.features import Spec
from tfbig.core.lazy import keras
from tfbig.nn.attention import positions

NORMALIZATIONS = ("batch", "layer")


def inputs_of(spec: Spec) -> dict:
    """Symbolic inputs of a model of frames, by name: "frames" [b, t, m], "frames_count" [b]."""
    frames = spec["frames"]
    return {
        "frames": keras.Input(frames.shape, dtype=frames.dtype, name="frames"),
        "frames_count": keras.Input((), dtype="int32", name="frames_count"),
    }


class Frames:
    """A symbolic tensor [b, t, d] and how many frames of each row are real.

    Its methods give the next one, through layers of the names that they are given.
    """

    def __init__(self, x_btd, count_b):
        self.x, self.count = x_btd, count_b
        self.is_real = positions(x_btd[:, :, 0]) < count_b[:, None]

    def with_(self, x_btd) -> Frames:
        """Another tensor of as many frames."""
        following = object.__new__(Frames)
        following.x, following.count, following.is_real = x_btd, self.count, self.is_real
        return following

    @property
    def masked(self):
        """The tensor with zeros behind the real frames."""
        return self.x * keras.ops.cast(self.is_real, self.x.dtype)[:, :, None]

    def convolved(
        self,
        filters: int,
        kernel: int,
        name: str,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> Frames:
        """Convolution over time, whose first window is centred on the first frame."""
        layer = functools.partial(keras.layers.Conv1D, filters)
        return self._windowed(layer, kernel, name, stride, dilation, bias)

    def depthwise(
        self, kernel: int, name: str, *, stride: int = 1, dilation: int = 1, bias: bool = False
    ) -> Frames:
        """Convolution over time of each channel by itself."""
        layer = keras.layers.DepthwiseConv1D
        return self._windowed(layer, kernel, name, stride, dilation, bias)

    def _windowed(self, layer, kernel, name, stride, dilation, bias) -> Frames:
        if kernel == 1 and stride == 1:
            return self.with_(layer(1, use_bias=bias, name=name)(self.x))
        around = dilation * (kernel - 1)
        padded = keras.layers.ZeroPadding1D((around // 2, around - around // 2))(self.masked)
        x = layer(kernel, strides=stride, dilation_rate=dilation, use_bias=bias, name=name)(padded)
        if stride == 1:
            return self.with_(x)
        return Frames(x, (self.count + stride - 1) // stride)

    def normalized(self, kind: str, name: str) -> Frames:
        """Batch normalisation over real frames, or layer normalisation of each frame."""
        if kind == "layer":
            return self.with_(keras.layers.LayerNormalization(epsilon=1e-6, name=name)(self.x))
        layer = _batch_normalization()(momentum=0.9, epsilon=1e-3, name=name)
        return self.with_(layer(self.x, mask=self.is_real))

    def dense(self, width: int, name: str, bias: bool = True) -> Frames:
        return self.with_(keras.layers.Dense(width, use_bias=bias, name=name)(self.x))

    def activated(self, kind: str, name: str) -> Frames:
        return self.with_(keras.layers.Activation(kind, name=name)(self.x))

    def dropped(self, rate: float, name: str) -> Frames:
        return self.with_(keras.layers.Dropout(rate, name=name)(self.x)) if rate else self

    def plus(self, other: Frames, name: str) -> Frames:
        return self.with_(keras.layers.Add(name=name)([self.x, other.x]))

    def outputs(self) -> dict:
        """What models of frames give: see `Model.gives`."""
        return {"sequence": self.masked, "sequence_count": self.count}


@functools.cache
def _batch_normalization():
    """The layer's class; made at first use, since its base is Keras's."""

    @keras.saving.register_keras_serializable("tfbig")
    class RealFramesNormalization(keras.layers.BatchNormalization):
        """Batch normalisation with a mask, which it does not hand on: layers have their own."""

        def compute_mask(self, inputs, mask=None):
            return None

    return RealFramesNormalization


def separable(
    frames: Frames,
    filters: int,
    kernel: int,
    name: str,
    *,
    stride: int = 1,
    dilation: int = 1,
    kind: str = "batch",
) -> Frames:
    """Depthwise convolution over time, then a mixture of channels, normalised."""
    deep = frames.depthwise(kernel, f"{name}_depthwise", stride=stride, dilation=dilation)
    return deep.convolved(filters, 1, f"{name}_pointwise").normalized(kind, f"{name}_norm")


def separable_block(
    frames: Frames, filters: int, kernel: int, repeats: int, dropout: float, name: str
) -> Frames:
    """Separable convolutions in a row, and a shortcut around them (Kriman et al. 2019)."""
    x = frames
    for number in range(1, repeats + 1):
        own = f"{name}_{number}"
        x = separable(x, filters, kernel, own)
        if number < repeats:
            x = x.activated("relu", f"{own}_activation").dropped(dropout, f"{own}_dropout")
    around = frames.convolved(filters, 1, f"{name}_shortcut")
    around = around.normalized("batch", f"{name}_shortcut_norm")
    x = x.plus(around, f"{name}_add").activated("relu", f"{name}_activation")
    return x.dropped(dropout, f"{name}_dropout")
