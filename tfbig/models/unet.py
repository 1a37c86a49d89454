"""U-Net: from a noisy picture and a time to a picture, by way of coarser and coarser maps."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn.diffusion import embedded
from tfbig.nn.heads import exact_dtype

GROUPS = 8


@dataclass(frozen=True, kw_only=True)
class UNet(Model):
    """U-Net of residual blocks (Ronneberger et al. 2015), for diffusion (Ho et al. 2020).

    Each block is told the time, and the label where there is one. The picture is halved between
    the widths, and what is seen on the way down is joined on the way up.
    """

    widths: tuple[int, ...] = knob(
        (32, 64, 96), "channels of each map, from the picture's size to the coarsest", low=8
    )
    patch: int = knob(
        1,
        "side in pixels of the squares that are seen as one place: 2 is four times as fast",
        low=1,
    )
    blocks: int = knob(2, "residual blocks of each map on the way down, and on the way up", low=1)
    attention: bool = knob(False, "whether the coarsest map's places look at each other")
    zero: bool = knob(True, "blocks begin as the identity, and the last layer as zeros")
    dropout: float = knob(0.0, "share of each block's channels dropped", low=0, high=0.95)

    takes = frozenset({"noisy"})
    gives = frozenset({"picture"})

    @classmethod
    def smallest(cls):
        return cls(widths=(8, 8), blocks=1, attention=True, zero=False, dropout=0.02)

    @property
    def last_weights(self) -> str:
        """How the last weights of a block begin."""
        return "zeros" if self.zero else "glorot_uniform"

    def problems(self):
        if odd := [width for width in self.widths if width % GROUPS]:
            yield "widths", f"expected multiples of {GROUPS}. Received: {odd[0]}."

    def build(self, spec):
        """Input "noisy" [b, h, w, c], "time" [b], "label" int32 [b] if any, to [b, h, w, c]."""
        noisy, time = spec["noisy"], spec["time"]
        height, width, channels = noisy.shape
        most = self.patch * 2 ** (len(self.widths) - 1)
        if height % most or width % most:
            raise ValueError(
                f"model.widths: expected few enough that sides of {height} x {width} pixels can be"
                f" halved {len(self.widths) - 1} times, in squares of model.patch={self.patch}."
                f" Received: {len(self.widths)} widths."
            )
        inputs = {
            name: keras.Input(feature.shape, dtype=feature.dtype, name=name)
            for name, feature in {"noisy": noisy, "time": time}.items()
        }
        layers = keras.layers
        told = layers.Dense(4 * self.widths[0], "silu", name="time_1")(
            embedded(inputs["time"], self.widths[0])
        )
        told = layers.Dense(4 * self.widths[0], name="time_2")(told)
        if "label" in spec:
            inputs["label"] = keras.Input((), dtype="int32", name="label")
            label = layers.Embedding(spec["label"].values, 4 * self.widths[0], name="label_vector")
            told = told + label(inputs["label"])
        told = layers.Activation("silu", name="told")(told)
        x = _Blocks(self, told).between(inputs["noisy"])
        x = layers.GroupNormalization(GROUPS, name="last_norm")(x)
        x = layers.Activation("silu", name="last_silu")(x)
        last = {"kernel_initializer": self.last_weights, "dtype": exact_dtype()}
        outputs = layers.Conv2D(channels * self.patch**2, 3, padding="same", name="last", **last)(x)
        if self.patch > 1:
            outputs = _spread(outputs, self.patch)
        return keras.Model(inputs, outputs, name="unet")


@dataclass(frozen=True)
class _Blocks:
    """Blocks that are told of time and label by `told`, symbolic [b, d]."""

    model: UNet
    told: object

    def between(self, picture):
        """The way down and up again, [b, h, w, first of the widths]."""
        layers = keras.layers
        model = self.model
        side = max(3, model.patch)
        x = layers.Conv2D(model.widths[0], side, strides=model.patch, padding="same", name="first")(
            picture
        )
        beside = []
        for level, width in enumerate(model.widths):
            if level:
                x = layers.Conv2D(width, 3, strides=2, padding="same", name=f"halve_{level}")(x)
            for block in range(model.blocks):
                x = self.block(x, width, f"down_{level}_{block}")
                beside.append(x)
        x = self.block(x, model.widths[-1], "middle_1")
        if model.attention:
            x = _looked_around(x)
        x = self.block(x, model.widths[-1], "middle_2")
        for level, width in reversed(list(enumerate(model.widths))):
            for block in range(model.blocks):
                x = layers.Concatenate(name=f"join_{level}_{block}")([x, beside.pop()])
                x = self.block(x, width, f"up_{level}_{block}")
            if level:
                # A fourth of the work that it would be on the larger map
                x = layers.Conv2D(
                    model.widths[level - 1], 3, padding="same", name=f"narrow_{level}"
                )(x)
                x = layers.UpSampling2D(name=f"double_{level}")(x)
        return x

    def block(self, x, width: int, name: str):
        """Two convolutions with a shortcut around them; the last begins as nothing."""
        layers = keras.layers
        shortcut = x
        if x.shape[-1] != width:
            shortcut = layers.Conv2D(width, 1, name=f"{name}_shortcut")(x)
        x = layers.GroupNormalization(GROUPS, name=f"{name}_norm_1")(x)
        x = layers.Activation("silu", name=f"{name}_silu_1")(x)
        x = layers.Conv2D(width, 3, padding="same", name=f"{name}_conv_1")(x)
        told = layers.Dense(width, name=f"{name}_told")(self.told)
        x = layers.Add(name=f"{name}_add")([x, layers.Reshape((1, 1, width))(told)])
        x = layers.GroupNormalization(GROUPS, name=f"{name}_norm_2")(x)
        x = layers.Activation("silu", name=f"{name}_silu_2")(x)
        if self.model.dropout:
            x = layers.Dropout(self.model.dropout, name=f"{name}_dropout")(x)
        last = {"kernel_initializer": self.model.last_weights, "name": f"{name}_conv_2"}
        x = layers.Conv2D(width, 3, padding="same", **last)(x)
        return layers.Add(name=name)([shortcut, x])


def _looked_around(x):
    """Attention of each place of a map to all of them, added to the map."""
    layers = keras.layers
    height, width, channels = x.shape[1:]
    places = layers.Reshape((height * width, channels), name="places")(
        layers.GroupNormalization(GROUPS, name="attention_norm")(x)
    )
    attention = layers.MultiHeadAttention(1, channels, name="attention")
    seen = layers.Reshape((height, width, channels), name="map")(attention(places, places))
    return layers.Add(name="attended")([x, seen])


def _spread(x, side: int):
    """Places of [b, h, w, side * side * c] as squares of pixels, [b, h * side, w * side, c]."""
    ops = keras.ops
    height, width, channels = x.shape[1:]
    squares = ops.reshape(x, (-1, height, width, side, side, channels // side**2))
    rows = ops.transpose(squares, (0, 1, 3, 2, 4, 5))
    return ops.reshape(rows, (-1, height * side, width * side, channels // side**2))
