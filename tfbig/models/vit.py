"""Vision Transformer: a picture cut into patches, read by a Transformer encoder."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _pretrained_pictures as pretrained
from tfbig.nn.attention import self_attention
from tfbig.nn.choices import INITIALIZERS, initializer, normalization

SIZES = {"ti": (192, 12, 3), "s": (384, 12, 6), "b": (768, 12, 12)}  # width, depth, heads
PUBLISHED_RATIO = 4.0


@dataclass(frozen=True, kw_only=True)
class ViT(Model):
    """Vision Transformer: patches read by a pre-norm Transformer encoder.

    Dosovitskiy et al. 2021; ti, s: Touvron et al. 2021. With 1,000 classes, pictures of 224 pixels,
    patch=16 and summary=token, ti has 5,717,416 parameters as published, s 22,050,664 and b
    86,567,656, but for twice the width: a position's bias holds the patches' bias and the class
    token as well.
    """

    size: str = knob(
        "own",
        "published width, depth, heads and mlp_ratio; own: those below",
        choices=("own", *SIZES),
    )
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
        "in each block's hidden layer; gelu by its tanh form, gelu_exact as weights of Hugging Face"
        " and timm have it",
        choices=("gelu", "gelu_exact", "relu", "silu"),
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
        if self.size == "own" and self.width % self.heads:
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
        width, depth, _ = self._shape
        patches = self._cut(inputs)
        if self.summary == "token":
            # What it learns is its position's bias
            patches = layers.ZeroPadding1D((1, 0), name="token")(patches)
        # A bias for each position is the learnt position embedding.
        size = (patches.shape[1], width)
        x_btd = layers.EinsumDense(
            "btp,pd->btd", size, bias_axes="td", bias_initializer="truncated_normal", name="patches"
        )(patches)
        for i in range(1, depth + 1):
            x_btd = self._block(x_btd, f"block_{i}")
        x_btd = normalization(self.normalization, "norm")(x_btd)
        x_bd = ops.mean(x_btd, axis=1) if self.summary == "average" else x_btd[:, 0]
        return keras.Model(inputs, x_bd, name="vit")

    def load(self, model, source):
        """Loads weights of a Vision Transformer: Hugging Face's form or timm's."""
        pretrained.load(model, source, pretrained.VIT, pretrained.TIMM_VIT)

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Width, depth, heads."""
        return SIZES.get(self.size, (self.width, self.depth, self.heads))

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
        width, _, heads = self._shape
        ratio = self.mlp_ratio if self.size == "own" else PUBLISHED_RATIO
        weights = initializer(self.initializer, "tanh")
        y = normalization(self.normalization, f"{name}_norm_1")(x_btd)
        x_btd = x_btd + self_attention(y, heads, f"{name}_attention", weights, self.dropout)
        y = normalization(self.normalization, f"{name}_norm_2")(x_btd)
        y = layers.Dense(int(width * ratio), kernel_initializer=weights, name=f"{name}_hidden")(y)
        if self.activation.startswith("gelu"):
            y = keras.ops.gelu(y, approximate=self.activation == "gelu")
        else:
            y = getattr(keras.ops, self.activation)(y)
        y = layers.Dense(width, kernel_initializer=weights, name=f"{name}_out")(y)
        y = layers.Dropout(self.dropout, name=f"{name}_dropout")(y) if self.dropout else y
        return x_btd + y
