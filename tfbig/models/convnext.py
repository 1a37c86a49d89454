"""ConvNeXt: a convolutional network built as Transformers are, of the published sizes."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _pretrained_pictures as pretrained

SIZES = {  # blocks of each stage, channels of each stage
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}


@dataclass(frozen=True, kw_only=True)
class ConvNeXt(Model):
    """ConvNeXt (Liu et al. 2022; atto to nano: Wightman 2022).

    Tiny has 28,589,128 parameters with 1,000 classes, as published.
    """

    size: str = knob("tiny", "published blocks and channels", choices=tuple(SIZES))
    blocks: tuple[int, ...] = knob((), "of each stage, in place of the size's", low=1)
    channels: tuple[int, ...] = knob((), "of each stage, in place of the size's", low=1)
    patch: int = knob(4, "pixels of a side that the first convolution makes one", low=1)
    kernel: int = knob(7, "side of the convolutions inside blocks in pixels", low=1)
    layer_scale: float = knob(1e-6, "what each block's output is multiplied by at first", above=0)
    stochastic_depth: float = knob(
        0.0,
        "training: share of examples that pass by the last block, fewer those before it (Huang et"
        " al. 2016)",
        low=0,
        high=0.9,
    )

    @classmethod
    def smallest(cls):
        return cls(
            blocks=(1, 1), channels=(8, 16), kernel=3, layer_scale=1.0, stochastic_depth=0.02
        )

    def problems(self):
        if len(self.blocks or SIZES[self.size][0]) != len(self.channels or SIZES[self.size][1]):
            yield (
                "channels",
                f"expected as many as model.blocks={list(self.blocks)}. Received:"
                f" {list(self.channels)}.",
            )

    def build(self, spec):
        """Input [batch, height, width, channels] to features [batch, n]."""
        layers = keras.layers
        ((name, feature),) = spec.items()
        blocks = self.blocks or SIZES[self.size][0]
        channels = self.channels or SIZES[self.size][1]
        inputs = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        x = layers.Conv2D(channels[0], self.patch, self.patch, name="stem")(inputs)
        x = layers.LayerNormalization(epsilon=1e-6, name="stem_norm")(x)
        total, done = sum(blocks), 0
        for stage, (count, width) in enumerate(zip(blocks, channels, strict=True), 1):
            if stage > 1:
                x = layers.LayerNormalization(epsilon=1e-6, name=f"smaller_{stage}_norm")(x)
                x = layers.Conv2D(width, 2, 2, name=f"smaller_{stage}")(x)
            for block in range(1, count + 1):
                share = self.stochastic_depth * done / max(1, total - 1)
                x = self._block(x, width, share, f"stage_{stage}_block_{block}")
                done += 1
        x = layers.GlobalAveragePooling2D(name="global_pool")(x)
        x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
        return keras.Model(inputs, x, name="convnext")

    def load(self, model, source):
        """Loads weights of a ConvNeXt: Hugging Face's form or timm's."""
        pretrained.load(model, source, pretrained.CONVNEXT, pretrained.TIMM_CONVNEXT)

    def _block(self, x, width: int, share: float, name: str):
        layers = keras.layers
        inside = layers.DepthwiseConv2D(self.kernel, padding="same", name=f"{name}_conv")(x)
        inside = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(inside)
        inside = layers.Dense(4 * width, name=f"{name}_hidden")(inside)
        inside = keras.ops.gelu(inside, approximate=False)
        inside = layers.Dense(width, name=f"{name}_out")(inside)
        scale = keras.initializers.Constant(self.layer_scale)
        inside = layers.EinsumDense(
            "bhwc,c->bhwc", (None, None, width), kernel_initializer=scale, name=f"{name}_scale"
        )(inside)
        if share:
            whole = (None, 1, 1, 1)  # an example's output is dropped whole
            inside = layers.Dropout(share, noise_shape=whole, name=f"{name}_dropped")(inside)
        return layers.Add(name=f"{name}_add")([x, inside])
