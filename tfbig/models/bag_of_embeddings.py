"""Bag of embeddings: the mean of a text's vectors, the baseline beside all that know order."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _text


@dataclass(frozen=True, kw_only=True)
class BagOfEmbeddings(Model):
    """Bag of embeddings: the mean of a text's vectors, and hidden layers if wanted.

    Iyyer et al. 2015, Joulin et al. 2017.
    """

    width: int = knob(128, "of the embedding", low=1)
    units: tuple[int, ...] = knob((), "width of each hidden layer", low=1)
    dropout: float = knob(
        0.3, "share dropped of the mean and of each hidden layer while training", low=0, high=0.95
    )

    takes, gives = frozenset({"text"}), frozenset({"features"})

    @classmethod
    def smallest(cls):
        return cls(width=8, units=(6,), dropout=0.1)

    def build(self, spec):
        """Tokens and their count to features [batch, width or units[-1]]."""
        layers = keras.layers
        inputs = _text.inputs_of(spec)
        x = _text.average(*_text.embedded(spec, inputs, self.width, 0.0))
        x = self._drop(x, 0)
        for i, units in enumerate(self.units, 1):
            x = self._drop(layers.Dense(units, activation="relu", name=f"dense_{i}")(x), i)
        return keras.Model(inputs, x, name="bag_of_embeddings")

    def _drop(self, x, number: int):
        if not self.dropout:
            return x
        return keras.layers.Dropout(self.dropout, name=f"dropout_{number}")(x)
