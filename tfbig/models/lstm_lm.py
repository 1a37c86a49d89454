"""LSTM language model: a recurrent network that scores each next token, the baseline beside GPT."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn.attention import positions


@dataclass(frozen=True, kw_only=True)
class LSTMLM(Model):
    """LSTM language model: embedding, LSTM layers, scores of each next token.

    Mikolov et al. 2010, Zaremba et al. 2014.
    """

    width: int = knob(128, "of the embedding", low=1)
    units: tuple[int, ...] = knob((256,), "width of each LSTM layer", low=1)
    dropout: float = knob(
        0.0,
        "share dropped of the embedding and of each layer's output while training",
        low=0,
        high=0.95,
    )

    takes, gives = frozenset({"tokens"}), frozenset({"logits"})

    @classmethod
    def smallest(cls):
        return cls(width=4, units=(4,))

    def build(self, spec):
        """Tokens [batch, length] to logits [batch, length, values]."""
        ((name, feature),) = spec.items()
        tokens = keras.Input(feature.shape, dtype="int32", name=name)
        x = self._drop(
            keras.layers.Embedding(feature.values, self.width, name="embedding")(tokens), 0
        )
        for i, units in enumerate(self.units, 1):
            x, *_ = keras.layers.LSTM(
                units, return_sequences=True, return_state=True, name=f"lstm_{i}"
            )(x)
            x = self._drop(x, i)
        logits = keras.layers.Dense(feature.values, dtype="float32", name="head")(x)
        return keras.Model(tokens, logits, name="lstm_lm")

    def _drop(self, x, number: int):
        return (
            keras.layers.Dropout(self.dropout, name=f"dropout_{number}")(x) if self.dropout else x
        )

    def cached(self, model):
        """The cache is each layer's output and cell state."""
        ops = keras.ops
        length = model.input.shape[1]
        tokens = keras.Input((length,), dtype="int32", name="tokens")
        count = keras.Input((), dtype="int32", name="count")
        mask = positions(tokens) < count[:, None]  # states stay as they are behind the prompt
        x_btd, cache = self._run(model, tokens, mask)
        last = ops.take_along_axis(x_btd, ops.reshape(count - 1, (-1, 1, 1)), axis=1)
        prefill = keras.Model(
            [tokens, count], [model.get_layer("head")(last)[:, 0], *cache], name="prefill"
        )
        token = keras.Input((), dtype="int32", name="token")
        position = keras.Input((), dtype="int32", name="at")
        states = [
            keras.Input(state.shape[1:], dtype=state.dtype, name=f"cache_{i}")
            for i, state in enumerate(cache)
        ]
        x_btd, after = self._run(model, token[:, None], None, states)
        return prefill, keras.Model(
            [token, position, *states], [model.get_layer("head")(x_btd)[:, 0], *after], name="step"
        )

    def _run(self, model, tokens, mask, states=None):
        x = model.get_layer("embedding")(tokens)
        after = []
        for i in range(len(self.units)):
            before = None if states is None else states[2 * i : 2 * i + 2]
            x, *state = model.get_layer(f"lstm_{i + 1}")(x, initial_state=before, mask=mask)
            after += state
        return x, after
