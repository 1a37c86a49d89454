"""Convolutions and an LSTM in both directions over frames, the recurrent baseline of speech."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Model
from tfbig.core.lazy import keras
from tfbig.nn.frames import NORMALIZATIONS, Frames, inputs_of, separable
from tfbig.nn.streams import streamed

STEM_KERNEL, DOWN_KERNEL = 5, 7


@dataclass(frozen=True, kw_only=True)
class CRNN(Model):
    """Residual separable convolutions, then LSTMs in both directions (as Deep Speech 2).

    Amodei et al. 2016, with separable convolutions (Kriman et al. 2019). Its places are four frames
    apart.
    """

    channels: int = knob(128, "of the convolutions", low=1)
    blocks: int = knob(4, "residual convolutions", low=0)
    kernel: int = knob(9, "places that a residual convolution looks at", low=1)
    units: tuple[int, ...] = knob(
        (128,), "of each LSTM, in each direction; none of them: convolutions alone", low=1
    )
    normalization: str = knob("batch", "behind each convolution", choices=NORMALIZATIONS)
    dropout: float = knob(
        0.15, "share dropped behind LSTMs, half of it in convolutions", low=0, high=0.95
    )

    takes, gives = frozenset({"frames"}), frozenset({"sequence"})

    @classmethod
    def smallest(cls):
        return cls(channels=12, blocks=1, kernel=3, units=(12,), dropout=0.02)

    @property
    def streams(self) -> bool:
        return not self.units

    def build(self, spec):
        """Frames and their count to a sequence [b, t / 4, 2 units[-1]] (of convolutions alone
        [b, t / 4, channels]) and its count."""
        inputs = inputs_of(spec)
        x = self._network(Frames(inputs["frames"], inputs["frames_count"]))
        return keras.Model(inputs, x.outputs(), name="crnn")

    def streamed(self, body, frames, behind=0):
        """Of convolutions alone: see `tfbig.nn.streams.streamed`."""
        return streamed(self._network, body, frames, behind)

    def _network(self, x: Frames) -> Frames:
        layers = keras.layers
        x = x.convolved(self.channels, STEM_KERNEL, "stem", stride=2)
        x = x.normalized(self.normalization, "stem_norm").activated("silu", "stem_activation")
        kind = self.normalization
        x = separable(x, self.channels, DOWN_KERNEL, "down", stride=2, kind=kind)
        x = x.activated("silu", "down_activation")
        for number in range(1, self.blocks + 1):
            name = f"block_{number}"
            y = separable(x, self.channels, self.kernel, name, kind=kind)
            y = y.activated("silu", f"{name}_activation")
            y = y.dropped(self.dropout / 2, f"{name}_dropout")
            x = x.plus(y, f"{name}_add")
        for number, units in enumerate(self.units, 1):
            layer = layers.LSTM(units, return_sequences=True, name="lstm")
            both = layers.Bidirectional(layer, name=f"both_{number}")
            x = x.with_(both(x.x, mask=x.is_real))
            x = x.dropped(self.dropout, f"both_{number}_dropout")
        return x.normalized("layer", "last_norm")
