"""Residual network, version 1.5, of the published depths or any other."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _pretrained_pictures as pretrained
from tfbig.nn.residual import BLOCKS, STEMS, Body


@dataclass(frozen=True, kw_only=True)
class ResNet(Model):
    """Residual network, version 1.5 (He et al. 2016; zero-gamma: Goyal et al. 2017).

    Depth 50 with 1,000 classes has 25,557,032 parameters, as published. CIFAR's ResNet-20 is
    blocks=[3,3,3] width=16 stem=small.
    """

    depth: int = knob(
        18, "published number of layers; 50 and more have bottlenecks", choices=tuple(BLOCKS)
    )
    blocks: tuple[int, ...] = knob(
        (), "blocks of two convolutions in each stage, in place of the depth's", low=1
    )
    width: int = knob(64, "channels of the first stage, doubled with each stage", low=1)
    stem: str = knob(
        "large",
        "large: 7 x 7, a fourth of the picture; small: 3 x 3, for pictures of some 32 pixels",
        choices=STEMS,
    )
    normalization: str = knob(
        "batch", "behind each convolution", choices=("batch", "group", "none")
    )
    zero_gamma: bool = knob(True, "blocks begin as the identity")
    dropout: float = knob(
        0.0, "share of the last features dropped while training", low=0, high=0.95
    )

    @classmethod
    def smallest(cls):
        return cls(blocks=(1, 1), width=8, stem="small", zero_gamma=False, dropout=0.02)

    def build(self, spec):
        """Input [batch, height, width, channels] to features [batch, n]."""
        ((name, feature),) = spec.items()
        inputs = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        body = Body(
            blocks=self.blocks or BLOCKS[self.depth],
            width=self.width,
            bottleneck=not self.blocks and self.depth >= 50,
            stem=self.stem,
            norm=self.normalization,
            zero_gamma=self.zero_gamma and self.normalization != "none",
        )
        x = body.stages(inputs)[-1]
        x = keras.layers.GlobalAveragePooling2D(name="global_pool")(x)
        if self.dropout:
            x = keras.layers.Dropout(self.dropout, name="dropout")(x)
        return keras.Model(inputs, x, name="resnet")

    def load(self, model, source):
        """Loads weights of a residual network: Hugging Face's form, torchvision's or timm's."""
        pretrained.load(model, source, pretrained.RESNET, pretrained.TIMM_RESNET)
