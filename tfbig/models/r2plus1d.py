"""(2+1)D residual network: clips by convolutions over each frame and over time, by turns."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Model
from tfbig.core.lazy import keras
from tfbig.nn.clips import NORMALIZATIONS, Layers

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
STEMS = {"large": (45, 7), "small": (0, 3)}  # channels between its convolutions, 0: as many; side


@dataclass(frozen=True, kw_only=True)
class R2Plus1D(Model):
    """(2+1)D residual network, R(2+1)D (Tran et al. 2018).

    Each convolution of three dimensions is one over each frame, then one over time, of as many
    weights. Depth 18 has 31,505,325 parameters with 400 classes, as published.
    """

    depth: int = knob(18, "published number of layers", choices=tuple(BLOCKS))
    blocks: tuple[int, ...] = knob(
        (), "blocks of two convolutions in each stage, in place of the depth's", low=1
    )
    width: int = knob(
        64, "channels of the first stage; doubled with each, which halves frames and pixels", low=1
    )
    stem: str = knob("large", "first convolution: 7 x 7 or 3 x 3 pixels", choices=tuple(STEMS))
    stem_stride: int = knob(2, "pixels of a frame in one of its output", low=1)
    normalization: str = knob("batch", "behind each convolution", choices=NORMALIZATIONS)
    dropout: float = knob(
        0.0, "share of the last features dropped while training", low=0, high=0.95
    )

    takes = frozenset({"video"})
    gives = frozenset({"features"})

    @classmethod
    def smallest(cls):
        return cls(blocks=(1, 1), width=4, stem="small", normalization="none", dropout=0.02)

    def build(self, spec):
        """Input [batch, frames, height, width, channels] to features [batch, n]."""
        ((name, feature),) = spec.items()
        inputs = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        layers = Layers(self.normalization)
        between, side = STEMS[self.stem]
        x = layers.over_frames(inputs, between or self.width, side, self.stem_stride, "stem_frames")
        x = layers.activated(layers.normed(x, "stem_frames_norm"), "stem_frames_activation")
        x = layers.over_time(x, self.width, 3, 1, "stem_time")
        x = layers.activated(layers.normed(x, "stem_time_norm"), "stem_time_activation")
        for stage, count in enumerate(self.blocks or BLOCKS[self.depth]):
            for block in range(count):
                stride = 2 if stage and not block else 1
                place = f"stage_{stage + 1}_block_{block + 1}"
                x = self._block(layers, x, self.width * 2**stage, stride, place)
        x = keras.layers.GlobalAveragePooling3D(name="global_pool")(x)
        if self.dropout:
            x = keras.layers.Dropout(self.dropout, name="dropout")(x)
        return keras.Model(inputs, x, name="r2plus1d")

    def _block(self, layers: Layers, x, width: int, stride: int, name: str):
        """Two convolutions in each three dimensions, and a shortcut."""
        given = x.shape[-1]
        # As many weights as a convolution of 3 x 3 x 3 has
        between = max(1, 27 * given * width // (9 * given + 3 * width))
        shortcut = x
        if stride > 1 or given != width:
            # Of every second frame the pixels of every second row and column
            shortcut = layers.over_frames(x[:, ::stride], width, 1, stride, f"{name}_shortcut")
            shortcut = layers.normed(shortcut, f"{name}_shortcut_norm")
        for number, step in ((1, stride), (2, 1)):
            part = f"{name}_conv_{number}"
            x = layers.over_frames(x, between, 3, step, f"{part}_frames")
            x = layers.activated(
                layers.normed(x, f"{part}_frames_norm"), f"{part}_frames_activation"
            )
            x = layers.over_time(x, width, 3, step, f"{part}_time")
            x = layers.normed(x, f"{part}_time_norm")
            if number == 1:
                x = layers.activated(x, f"{part}_time_activation")
        return layers.activated(keras.layers.Add(name=f"{name}_add")([x, shortcut]), name)
