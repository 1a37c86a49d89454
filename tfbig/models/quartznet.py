"""QuartzNet: separable convolutions over time, for speech."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Model
from tfbig.core.lazy import keras
from tfbig.nn.frames import Frames, inputs_of, separable, separable_block
from tfbig.nn.streams import streamed

# Kernel and channels of the blocks, at width 1
BLOCKS = ((33, 256), (39, 256), (51, 512), (63, 512), (75, 512))
FIRST_KERNEL, LAST_KERNEL, LAST = 33, 87, 1024


@dataclass(frozen=True, kw_only=True)
class QuartzNet(Model):
    """QuartzNet-BxR: five kinds of blocks of R separable convolutions, B / 5 of each.

    Kriman et al. 2019. On 64 bands with 29 outputs 5x5, 10x5 and 15x5 have 6.7, 12.8 and 18.9
    million parameters, as published.
    """

    blocks: int = knob(5, "published sizes; each of five kinds a fifth", choices=(5, 10, 15))
    repeats: int = knob(5, "separable convolutions of each block", low=1)
    width: float = knob(1.0, "of all layers, relative to the published width", above=0, high=4)
    stride: int = knob(2, "frames from one place of the first layer to the next", low=1, high=4)
    dropout: float = knob(0.0, "share of each activation dropped while training", low=0, high=0.95)

    takes, gives = frozenset({"frames"}), frozenset({"sequence"})

    @classmethod
    def smallest(cls):
        return cls(repeats=1, width=1 / 64, dropout=0.02)

    streams = True

    def build(self, spec):
        """Frames and their count to a sequence [b, t / stride, 1024 width] and its count."""
        inputs = inputs_of(spec)
        x = self._network(Frames(inputs["frames"], inputs["frames_count"]))
        return keras.Model(inputs, x.outputs(), name="quartznet")

    def streamed(self, body, frames, behind=0):
        """See `tfbig.nn.streams.streamed`."""
        return streamed(self._network, body, frames, behind)

    def _network(self, x: Frames) -> Frames:
        def wide(channels):
            return max(1, round(channels * self.width))

        x = separable(x, wide(BLOCKS[0][1]), FIRST_KERNEL, "first", stride=self.stride)
        x = x.activated("relu", "first_activation").dropped(self.dropout, "first_dropout")
        for kind, (kernel, channels) in enumerate(BLOCKS, 1):
            for number in range(1, self.blocks // len(BLOCKS) + 1):
                name = f"block_{kind}_{number}"
                x = separable_block(x, wide(channels), kernel, self.repeats, self.dropout, name)
        x = separable(x, wide(BLOCKS[-1][1]), LAST_KERNEL, "wide", dilation=2)
        x = x.activated("relu", "wide_activation").dropped(self.dropout, "wide_dropout")
        x = x.convolved(wide(LAST), 1, "last").normalized("batch", "last_norm")
        return x.activated("relu", "last_activation").dropped(self.dropout, "last_dropout")
