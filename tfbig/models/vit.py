"""Vision Transformer: a picture cut into patches, read by a Transformer encoder."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn.attention import self_attention
from tfbig.nn.choices import INITIALIZERS, initializer, normalization


@dataclass(frozen=True, kw_only=True)
class ViT(Model):
    """Vision Transformer: patches read by a pre-norm Transformer encoder.

    Dosovitskiy et al. 2021.
    """

    patch: int = knob(7, "side of a patch in pixels; divides height and width", low=1)
    width: int = knob(64, "width of the hidden states", low=1)
    depth: int = knob(4, "number of Transformer blocks", low=1)
    heads: int = knob(4, "attention heads; divides width", low=1)
    mlp_ratio: float = knob(
        2.0, "width of each block's hidden layer over the model's width", above=0
    )
    summary: str = knob(
        "average", "of the patches: their average, or a class token", choices=("average", "token")
    )
    activation: str = knob(
        "gelu",
        "in each block's hidden layer; gelu by its tanh form",
        choices=("gelu", "relu", "silu"),
    )
    normalization: str = knob(
        "layer", "before attention and hidden layer", choices=("layer", "rms")
    )
    dropout: float = knob(
        0.0, "share of each branch's output dropped while training", low=0, high=0.95
    )
    initializer: str = knob("auto", "of the weights; auto: Glorot's", choices=INITIALIZERS)

    @classmethod
    def smallest(cls):
        return cls(patch=4, width=8, depth=1, heads=2)

    def problems(self):
        if self.width % self.heads:
            yield (
                "heads",
                f"expected a divisor of model.width={self.width}. Received: {self.heads}.",
            )

    def build(self, spec):
        """Input [batch, height, width, channels] to features [batch, width]."""
        layers = keras.layers
        ops = keras.ops
        ((name, feature),) = spec.items()
        inputs = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        patches = self._cut(inputs)
        if self.summary == "token":
            # What it learns is its position's bias
            patches = layers.ZeroPadding1D((1, 0), name="token")(patches)
        # A bias for each position is the learnt position embedding.
        size = (patches.shape[1], self.width)
        x_btd = layers.EinsumDense(
            "btp,pd->btd", size, bias_axes="td", bias_initializer="truncated_normal", name="patches"
        )(patches)
        for i in range(1, self.depth + 1):
            x_btd = self._block(x_btd, f"block_{i}")
        x_btd = normalization(self.normalization, "norm")(x_btd)
        x_bd = ops.mean(x_btd, axis=1) if self.summary == "average" else x_btd[:, 0]
        return keras.Model(inputs, x_bd, name="vit")

    def _cut(self, image):
        """[b, H, W, c] to [b, patches, patch * patch * c].

        A reshape and one matrix product, since a convolution is slower.
        """
        ops = keras.ops
        size = self.patch
        height, width, channels = image.shape[1:]
        if height % size or width % size:
            raise ValueError(
                f"model.patch: expected a divisor of the picture's size {height} x {width}."
                f" Received: {size}."
            )
        rows, columns = height // size, width // size
        x = ops.transpose(
            ops.reshape(image, (-1, rows, size, columns, size, channels)), (0, 1, 3, 2, 4, 5)
        )
        return ops.reshape(x, (-1, rows * columns, size * size * channels))

    def _block(self, x_btd, name):
        layers = keras.layers
        weights = initializer(self.initializer, "tanh")
        y = normalization(self.normalization, f"{name}_norm_1")(x_btd)
        x_btd = x_btd + self_attention(y, self.heads, f"{name}_attention", weights, self.dropout)
        y = normalization(self.normalization, f"{name}_norm_2")(x_btd)
        y = layers.Dense(
            int(self.width * self.mlp_ratio), kernel_initializer=weights, name=f"{name}_hidden"
        )(y)
        y = (
            keras.ops.gelu(y, approximate=True)
            if self.activation == "gelu"
            else getattr(keras.ops, self.activation)(y)
        )
        y = layers.Dense(self.width, kernel_initializer=weights, name=f"{name}_out")(y)
        y = layers.Dropout(self.dropout, name=f"{name}_dropout")(y) if self.dropout else y
        return x_btd + y
