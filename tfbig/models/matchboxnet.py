"""MatchboxNet: separable convolutions over time, for keywords and other short sounds."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Model
from tfbig.core.lazy import keras
from tfbig.nn.frames import Frames, inputs_of, separable, separable_block

FIRST_KERNEL, LAST_KERNEL, KERNEL_STEP = 11, 29, 2
EDGE = 2  # width of the first and last layers over that of the blocks


@dataclass(frozen=True, kw_only=True)
class MatchboxNet(Model):
    """MatchboxNet-BxRxC: B blocks of R separable convolutions of C channels.

    Majumdar and Ginsburg 2020. On 64 bands with 30 classes 3x1x64 has 77,214 parameters and 3x2x64
    has 92,766, as published (77 K, 93 K).
    """

    blocks: int = knob(3, "blocks, each with a shortcut", low=1)
    repeats: int = knob(2, "separable convolutions of each block", low=1)
    channels: int = knob(64, "of each block; the first and last layers have twice as many", low=1)
    stride: int = knob(1, "frames from one place of the first layer to the next", low=1)
    dropout: float = knob(0.0, "share of each activation dropped while training", low=0, high=0.95)

    takes, gives = frozenset({"frames"}), frozenset({"sequence"})

    @classmethod
    def smallest(cls):
        return cls(blocks=1, repeats=1, channels=4, dropout=0.05)

    def build(self, spec):
        """Frames and their count to a sequence [b, t, 2 channels] and its count."""
        inputs = inputs_of(spec)
        edge = EDGE * self.channels
        x = Frames(inputs["frames"], inputs["frames_count"])
        x = separable(x, edge, FIRST_KERNEL, "first", stride=self.stride)
        x = x.activated("relu", "first_activation").dropped(self.dropout, "first_dropout")
        for block in range(self.blocks):
            kernel = FIRST_KERNEL + KERNEL_STEP * (block + 1)
            x = separable_block(
                x, self.channels, kernel, self.repeats, self.dropout, f"block_{block + 1}"
            )
        x = separable(x, edge, LAST_KERNEL, "wide", dilation=2)
        x = x.activated("relu", "wide_activation").dropped(self.dropout, "wide_dropout")
        x = x.convolved(edge, 1, "last").normalized("batch", "last_norm")
        x = x.activated("relu", "last_activation").dropped(self.dropout, "last_dropout")
        return keras.Model(inputs, x.outputs(), name="matchboxnet")
