"""DanQ: convolutions find motifs, a recurrence from both ends reads their order."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _nucleotides
from tfbig.nn.neighbours import neighbours


@dataclass(frozen=True, kw_only=True)
class DanQ(Model):
    """DanQ: motif filters, pooling, and a GRU from both ends (Quang and Xie 2016, with an LSTM)."""

    motifs: int = knob(64, "filters that read the sequence", low=1)
    kernel: int = knob(15, "letters in a row that they look at", low=1)
    pool: int = knob(4, "places of which the largest value is kept", low=1)
    units: int = knob(32, "width of the GRU in each direction", low=1)
    summary: str = knob(
        "largest",
        "of the GRU's states: the largest value or the mean of each",
        choices=("largest", "average"),
    )
    dropout: float = knob(
        0.3, "share dropped behind the pooling and of the features", low=0, high=0.95
    )

    takes, gives = frozenset({"nucleotides"}), frozenset({"features"})

    @classmethod
    def smallest(cls):
        return cls(motifs=8, kernel=5, pool=2, units=4, dropout=0.1)

    def build(self, spec):
        """Fractions of bases, and their count if lengths differ, to features [batch, 2 * units]."""
        layers = keras.layers
        inputs = _nucleotides.inputs_of(spec)
        x, real = _nucleotides.read(spec, inputs, self.summary)
        filters = layers.Dense(self.motifs, activation="relu", name="motifs")
        x = filters(neighbours(x, self.kernel)) * real
        x, real = self._pooled(x, "pool"), self._pooled(real, "pool_real")
        if self.dropout:
            x = layers.Dropout(self.dropout, name="pool_dropout")(x)
        gru = layers.GRU(self.units, return_sequences=True, name="gru")
        x = layers.Bidirectional(gru, name="both")(x, mask=real[..., 0] > 0)
        x = _nucleotides.summarised(spec, self.summary, x, real)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        return keras.Model(inputs, x, name="danq")

    def _pooled(self, x, name: str):
        """The largest of each `pool` places, counted from the first; the last ones may be fewer."""
        if self.pool == 1:
            return x
        # Zeros change no largest value, since none is below zero
        x = keras.ops.pad(x, ((0, 0), (0, self.pool - 1), (0, 0)))
        return keras.layers.MaxPooling1D(self.pool, name=name)(x)
