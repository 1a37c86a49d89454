"""Motif CNN: long filters that find motifs, residual convolutions over what they found."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _nucleotides
from tfbig.nn.neighbours import neighbours


@dataclass(frozen=True, kw_only=True)
class MotifCNN(Model):
    """Motif CNN: filters that find motifs (Alipanahi et al. 2015), then residual convolutions.

    The first layer's filters are drawn as logos in a report. With strands=both the strand across
    is read by the same weights and the mean is taken (Shrikumar et al. 2017): a sequence and the
    one across have equal scores. That is right where a site works in either direction, and wrong
    where direction means something, as at splice junctions.
    """

    motifs: int = knob(64, "filters that read the sequence", low=1)
    kernel: int = knob(15, "letters in a row that they look at", low=1)
    blocks: int = knob(
        2, "residual convolutions over 3 places behind them; each looks twice as far", low=0
    )
    summary: str = _nucleotides.summary_knob()
    units: int = knob(64, "width of the layer behind the summary; 0: none", low=0)
    strands: str = knob(
        "one", "read the sequence as given, or it and the one across", choices=("one", "both")
    )
    dropout: float = knob(
        0.3, "share dropped of the summary and of the layer behind it", low=0, high=0.95
    )

    takes, gives = frozenset({"nucleotides"}), frozenset({"features"})

    @classmethod
    def smallest(cls):
        return cls(motifs=8, kernel=5, blocks=1, units=6, dropout=0.1, strands="both")

    def build(self, spec):
        """Fractions of bases, and their count if lengths differ, to features [batch, width]."""
        layers, ops = keras.layers, keras.ops
        inputs = _nucleotides.inputs_of(spec)
        x, real = _nucleotides.read(spec, inputs, self.summary)
        read = self._reader(spec)
        features = read(x, real)
        if self.strands == "both":
            # A, C, G, T backwards is T, G, C, A, those across; padding comes first, as zeros do
            features = (features + read(ops.flip(x, (1, 2)), ops.flip(real, 1))) / 2
        features = self._dropped(features, "summary_dropout")
        if self.units:
            features = layers.Dense(self.units, activation="relu", name="units")(features)
            features = self._dropped(features, "units_dropout")
        return keras.Model(inputs, features, name="motif_cnn")

    def _dropped(self, features, name: str):
        return keras.layers.Dropout(self.dropout, name=name)(features) if self.dropout else features

    def _reader(self, spec):
        """A function from fractions [b, t, 4] and real places to a summary, of the same weights."""
        layers, ops = keras.layers, keras.ops
        motifs = layers.Dense(self.motifs, activation="relu", name="motifs")
        blocks = [
            (
                layers.LayerNormalization(epsilon=1e-6, name=f"block_{i}_norm"),
                layers.Dense(self.motifs, name=f"block_{i}"),
            )
            for i in range(1, self.blocks + 1)
        ]

        def read(x, real):
            y = motifs(neighbours(x, self.kernel)) * real
            for i, (norm, convolution) in enumerate(blocks):
                normed = ops.relu(norm(y)) * real
                y = (y + convolution(neighbours(normed, 3, 2**i))) * real
            return _nucleotides.summarised(spec, self.summary, y, real)

        return read
