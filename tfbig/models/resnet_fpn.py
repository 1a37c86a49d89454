"""Feature pyramid on a residual network: maps from fine to coarse that all know the whole."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _pretrained_pictures as pretrained
from tfbig.nn.choices import normalization
from tfbig.nn.residual import BLOCKS, STEMS, Body


@dataclass(frozen=True, kw_only=True)
class ResNetFPN(Model):
    """Feature pyramid (Lin et al. 2017) on a residual network (He et al. 2016).

    With the large stem the finest map has a fourth of the picture's side. Layers of the residual
    network are called as those of the model resnet, so that init=RUN takes them from there.
    """

    takes = frozenset({"image"})
    gives = frozenset({"pyramid"})

    depth: int = knob(
        18, "of the residual network; 50 and more have bottlenecks", choices=tuple(BLOCKS)
    )
    blocks: tuple[int, ...] = knob(
        (), "blocks of two convolutions in each stage, in place of the depth's", low=1
    )
    width: int = knob(64, "channels of the first stage, doubled with each stage", low=1)
    stem: str = knob("large", "large: a fourth of the picture; small: all of it", choices=STEMS)
    features: int = knob(256, "channels of the pyramid's maps", low=1)
    normalization: str = knob(
        "batch",
        "behind each convolution; group: for small batches",
        choices=("batch", "group", "none"),
    )
    zero_gamma: bool = knob(True, "blocks begin as the identity")
    dropout: float = knob(0.0, "share of the maps dropped while training", low=0, high=0.95)

    @classmethod
    def smallest(cls):
        return cls(blocks=(1, 1), width=8, features=16, normalization="none", dropout=0.02)

    def build(self, spec):
        """Input [batch, height, width, channels] to maps [batch, h, w, features], fine first."""
        layers = keras.layers
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
        coarsest = body.strides[-1]
        if any(side % coarsest for side in feature.shape[:2]):
            raise ValueError(
                f"model: expected pictures whose height and width are multiples of {coarsest}, its"
                f" coarsest map's stride. Received: {feature.shape[0]} x {feature.shape[1]}."
            )
        maps = []
        above = None
        for level, x in reversed(list(enumerate(body.stages(inputs), 1))):
            x = layers.Conv2D(self.features, 1, name=f"lateral_{level}")(x)
            if above is not None:
                larger = layers.UpSampling2D(2, name=f"larger_{level}")(above)
                x = layers.Add(name=f"merged_{level}")([x, larger])
            above = x
            maps.append(self._smoothed(x, level))
        return keras.Model(inputs, maps[::-1], name="resnet_fpn")

    def load(self, model, source):
        """Loads weights of a residual network: Hugging Face's form, torchvision's or timm's."""
        pretrained.load(model, source, pretrained.RESNET, pretrained.TIMM_RESNET)

    def _smoothed(self, x, level: int):
        name = f"pyramid_{level}"
        bias = self.normalization == "none"
        x = keras.layers.Conv2D(self.features, 3, padding="same", use_bias=bias, name=name)(x)
        x = normalization(self.normalization, f"{name}_norm")(x)
        x = keras.layers.Activation("relu", name=f"{name}_activation")(x)
        if self.dropout:
            x = keras.layers.Dropout(self.dropout, name=f"{name}_dropout")(x)
        return x
