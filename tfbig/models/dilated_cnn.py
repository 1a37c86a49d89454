"""Dilated CNN: residual blocks, each of which looks twice as far as the one before it."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _nucleotides
from tfbig.nn.neighbours import neighbours


@dataclass(frozen=True, kw_only=True)
class DilatedCNN(Model):
    """Dilated CNN: residual blocks that reach ever further, for what stands far apart.

    After SpliceAI (Jaganathan et al. 2019). A place sees `kernel` + 2 (2^`depth` - 1) (`reach` - 1)
    letters: 8 blocks over 3 places see about a thousand, with as many weights as near ones need.
    """

    motifs: int = knob(32, "filters that read the sequence, and width of the blocks", low=1)
    kernel: int = knob(11, "letters in a row that the first layer looks at", low=1)
    depth: int = knob(6, "residual blocks of two convolutions", low=1)
    reach: int = knob(3, "places that a block's convolutions look at", low=2)
    summary: str = _nucleotides.summary_knob()
    dropout: float = knob(0.2, "share dropped of the features", low=0, high=0.95)

    takes, gives = frozenset({"nucleotides"}), frozenset({"features"})

    @classmethod
    def smallest(cls):
        return cls(motifs=8, kernel=5, depth=2, dropout=0.1)

    def build(self, spec):
        """Fractions of bases, and their count if lengths differ, to features [batch, width]."""
        layers = keras.layers
        inputs = _nucleotides.inputs_of(spec)
        x, real = _nucleotides.read(spec, inputs, self.summary)
        filters = layers.Dense(self.motifs, activation="relu", name="motifs")
        x = filters(neighbours(x, self.kernel)) * real
        for block in range(1, self.depth + 1):
            y = x
            for number in (1, 2):
                y = self._convolved(y, real, 2 ** (block - 1), f"block_{block}_{number}")
            x = x + y
        x = _nucleotides.summarised(spec, self.summary, x, real)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        return keras.Model(inputs, x, name="dilated_cnn")

    def _convolved(self, x, real, dilation: int, name: str):
        """Normalised, rectified and convolved; zeros behind the end."""
        layers = keras.layers
        x = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
        x = keras.ops.relu(x) * real
        return layers.Dense(self.motifs, name=name)(neighbours(x, self.reach, dilation)) * real
