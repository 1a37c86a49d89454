"""TextCNN: convolutions over a text's embeddings, and the strongest answer of each filter."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _text
from tfbig.nn.neighbours import neighbours


@dataclass(frozen=True, kw_only=True)
class TextCNN(Model):
    """TextCNN: filters over some tokens in a row, and the largest value of each (Kim 2014)."""

    width: int = knob(128, "of the embedding", low=1)
    filters: int = knob(100, "filters of each kernel", low=1)
    kernels: tuple[int, ...] = knob((3, 4, 5), "tokens in a row that filters look at", low=1)
    dropout: float = knob(
        0.5, "share dropped of the embedding's vectors and of the features", low=0, high=0.95
    )

    takes, gives = frozenset({"text"}), frozenset({"features"})

    @classmethod
    def smallest(cls):
        return cls(width=8, filters=4, kernels=(2, 3), dropout=0.1)

    def build(self, spec):
        """Tokens and their count to features [batch, filters * kernels]."""
        layers = keras.layers
        inputs = _text.inputs_of(spec)
        x, real = _text.embedded(spec, inputs, self.width, self.dropout)
        found = []
        for i, kernel in enumerate(self.kernels, 1):
            # A matrix product of neighbours side by side, which compilers are fast at
            y = layers.Dense(self.filters, name=f"filters_{i}")(neighbours(x, kernel))
            found.append(keras.ops.relu(_text.largest(y, real)))
        features = layers.Concatenate(name="features")(found) if len(found) > 1 else found[0]
        if self.dropout:
            features = layers.Dropout(self.dropout, name="dropout")(features)
        return keras.Model(inputs, features, name="textcnn")
