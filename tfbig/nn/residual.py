"""Residual networks' body: stages of blocks with a shortcut around each (He et al. 2016).

Version 1.5: the 3 x 3 convolution of a bottleneck takes the stride. Padding is the same on all
sides, as in published weights. Layers are called stage_S_block_B_conv_N and so on.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.lazy import keras
from tfbig.nn.choices import normalization

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BOTTLENECK = 4  # a bottleneck's output over its inner width
STEMS = ("large", "small")


@dataclass(frozen=True)
class Body:
    """A residual network without its head.

    Attributes:
        blocks: in each stage; the first block of each but the first halves the picture.
        width: of the first stage, doubled with each one after it.
        bottleneck: blocks of three convolutions (1 x 1, 3 x 3, 1 x 1) rather than two.
        stem: "large": 7 x 7 with stride 2 and pooling, to a fourth of the picture; "small": 3 x 3.
        norm: kind of normalisation.
        zero_gamma: blocks begin as the identity (Goyal et al. 2017).
    """

    blocks: tuple[int, ...]
    width: int
    bottleneck: bool
    stem: str
    norm: str
    zero_gamma: bool

    def stages(self, x) -> list:
        """The outputs of all stages, from fine to coarse, of a picture [b, h, w, channels]."""
        x = self._stem(x)
        outputs = []
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                x = self._block(
                    x, self.width * 2**stage, stride, f"stage_{stage + 1}_block_{block + 1}"
                )
            outputs.append(x)
        return outputs

    @property
    def strides(self) -> list[int]:
        """Pixels of the picture in a pixel of each stage's output."""
        first = 4 if self.stem == "large" else 1
        return [first * 2**stage for stage in range(len(self.blocks))]

    def _stem(self, x):
        if self.stem == "small":
            return self._activated(self._normed(x, self.width, 3, 1, "stem"), "stem")
        x = self._activated(self._normed(x, self.width, 7, 2, "stem"), "stem")
        # Behind a rectifier zeros are the lowest values, so they can stand for what is outside
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_padding")(x)
        return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)

    def _block(self, x, width: int, stride: int, name: str):
        kernels = ((1, 1), (3, stride), (1, 1)) if self.bottleneck else ((3, stride), (3, 1))
        out = width * BOTTLENECK if self.bottleneck else width
        shortcut = x
        if stride > 1 or x.shape[-1] != out:
            shortcut = self._normed(x, out, 1, stride, f"{name}_shortcut")
        for number, (kernel, kernel_stride) in enumerate(kernels, 1):
            is_last = number == len(kernels)
            channels = out if is_last else width
            x = self._normed(
                x, channels, kernel, kernel_stride, f"{name}_conv_{number}", is_last=is_last
            )
            if not is_last:
                x = self._activated(x, f"{name}_conv_{number}")
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
        return self._activated(x, name)

    def _normed(self, x, filters: int, kernel: int, stride: int, name: str, is_last: bool = False):
        """A convolution and its normalisation."""
        if stride > 1 and kernel > 1:
            x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_padding")(x)
            padding = "valid"
        else:
            padding = "same"
        convolution = keras.layers.Conv2D(
            filters,
            kernel,
            stride,
            padding,
            use_bias=self.norm == "none",
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out"),
            name=name,
        )
        gamma = "zeros" if is_last and self.zero_gamma else "ones"
        return normalization(self.norm, f"{name}_norm", gamma)(convolution(x))

    @staticmethod
    def _activated(x, name: str):
        return keras.layers.Activation("relu", name=f"{name}_activation")(x)
