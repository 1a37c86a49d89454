"""LSTM over a text's embeddings, from one end or both."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _text


@dataclass(frozen=True, kw_only=True)
class TextLSTM(Model):
    """LSTM over a text's embeddings, read from one end or both.

    Hochreiter and Schmidhuber 1997, Graves and Schmidhuber 2005.
    """

    width: int = knob(128, "of the embedding", low=1)
    units: tuple[int, ...] = knob((128,), "width of each layer", low=1)
    bidirectional: bool = knob(True, "read from both ends; features double")
    summary: str = knob(
        "largest",
        "of the states: the largest value or the mean of each over the text",
        choices=("largest", "average"),
    )
    dropout: float = knob(
        0.3, "share dropped of the embedding's vectors and of the features", low=0, high=0.95
    )

    takes, gives = frozenset({"text"}), frozenset({"features"})

    @classmethod
    def smallest(cls):
        return cls(width=8, units=(4,), dropout=0.1)

    def build(self, spec):
        """Tokens and their count to features [batch, units[-1], twice that if bidirectional]."""
        layers = keras.layers
        inputs = _text.inputs_of(spec)
        x, real = _text.embedded(spec, inputs, self.width, self.dropout)
        mask = _text.is_real(inputs)
        for i, units in enumerate(self.units, 1):
            layer = layers.LSTM(units, return_sequences=True, name=f"lstm_{i}")
            if self.bidirectional:
                layer = layers.Bidirectional(layer, name=f"both_{i}")
            x = layer(x, mask=mask)
        summary = _text.largest if self.summary == "largest" else _text.average
        x = summary(x, real)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        return keras.Model(inputs, x, name="text_lstm")
