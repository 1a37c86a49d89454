"""A recurrent encoder and decoder with attention, the baseline of translation.

Shapes: b batch, s source places, t target places, d width, u units, v scored tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.nn import attention as attn
from tfbig.nn.embedding import shared_embedding


@dataclass(frozen=True, kw_only=True)
class GRUAttention(Model):
    """GRUs that read in both directions and write, looking at what was read (Luong et al. 2015).

    Source and target share one embedding, which also scores what is written.
    """

    width: int = knob(192, "width of the embedding", low=1)
    units: int = knob(256, "units of the writing GRU, and of each reading one", low=1)
    dropout: float = knob(
        0.2, "share dropped of embeddings and before the scores while training", low=0, high=0.95
    )

    takes = frozenset({"source_tokens", "target_tokens"})
    gives = frozenset({"logits"})

    @classmethod
    def smallest(cls):
        return cls(width=8, units=12, dropout=0.05)

    def build(self, spec):
        source = keras.Input((None,), dtype="int32", name="source")
        count = keras.Input((), dtype="int32", name="source_count")
        before = keras.Input((None,), dtype="int32", name="before")
        network = _Network(self, spec)
        memory = network.memory(source, count)
        written = network.layers["writer"](
            network.embed(before, "decoder"), initial_state=memory["state"]
        )
        inputs = {"source": source, "source_count": count, "before": before}
        return keras.Model(inputs, network.scores(written, memory), name="gru_attention")

    def transducer(self, model, spec):
        network = _Network(self, spec, model)
        source = keras.Input((None,), dtype="int32", name="source")
        count = keras.Input((), dtype="int32", name="source_count")
        inputs = {"source": source, "source_count": count}
        encode = keras.Model(inputs, network.memory(source, count), name="encode")
        token, place = (keras.Input((), dtype="int32", name=name) for name in ("token", "place"))
        kept = {
            name: keras.Input(value.shape[1:], dtype=value.dtype, name=name)
            for name, value in encode.output.items()
        }
        x_bd = network.embed(token[:, None], "decoder")[:, 0]
        written, state = network.layers["writer"].cell(x_bd, [kept["state"]])
        state = state[0] if isinstance(state, list | tuple) else state
        logits = network.scores(written[:, None], kept)[:, 0]
        given = {"token": token, "place": place, **kept}
        return encode, keras.Model(given, {"logits": logits, "state": state}, name="step")

    def aligner(self, model, spec):
        network = _Network(self, spec, model)
        memory = network.memory(model.input["source"], model.input["source_count"])
        x_btd = network.embed(model.input["before"], "decoder")
        written = network.layers["writer"](x_btd, initial_state=memory["state"])
        return keras.Model(model.input, network.shares(written, memory), name="aligner")


class _Network:
    """The computation, on new layers or on a built model's."""

    def __init__(self, config: GRUAttention, spec, model=None):
        names = ("embedding", "reader", "memory", "state", "writer", "query", "mix")
        drops = [f"{place}_dropout" for place in ("encoder", "decoder", "mix")]
        self.config = config
        if model is None:
            made = self._made(config, spec, drops)
        else:
            made = {
                name: model.get_layer(name) for name in (*names, *(drops * bool(config.dropout)))
            }
        self.layers = made

    @staticmethod
    def _made(config: GRUAttention, spec, drops: list[str]) -> dict:
        layers = keras.layers
        units, values = config.units, spec["source"].values
        embedding = shared_embedding(values, config.width, spec["target"].values, "embedding")
        reader = layers.GRU(units, return_sequences=True, return_state=True, name="gru")
        made = {
            "embedding": embedding,
            "reader": layers.Bidirectional(reader, name="reader"),
            "memory": layers.Dense(units, use_bias=False, name="memory"),
            "state": layers.Dense(units, activation="tanh", name="state"),
            "writer": layers.GRU(units, return_sequences=True, name="writer"),
            "query": layers.Dense(units, use_bias=False, name="query"),
            "mix": layers.Dense(config.width, activation="tanh", use_bias=False, name="mix"),
        }
        if config.dropout:
            made |= {name: layers.Dropout(config.dropout, name=name) for name in drops}
        return made

    def drop(self, x, place: str):
        return self.layers[f"{place}_dropout"](x) if self.config.dropout else x

    def embed(self, tokens_bt, place: str):
        return self.drop(self.layers["embedding"](tokens_bt), place)

    def memory(self, source_bs, count_b) -> dict:
        """What was read, which of it is real, and the state that writing begins with."""
        real_bs = attn.positions(source_bs) < count_b[:, None]
        x_bsd = self.embed(source_bs, "encoder")
        read, forward, backward = self.layers["reader"](x_bsd, mask=real_bs)
        state = self.layers["state"](keras.ops.concatenate([forward, backward], -1))
        return {"memory": self.layers["memory"](read), "source_real": real_bs, "state": state}

    def shares(self, written_btu, memory: dict):
        """How much each target place looks at each source place, [b, t, s]."""
        ops = keras.ops
        query = self.layers["query"](written_btu) * self.config.units**-0.5
        weights = ops.matmul(query, ops.swapaxes(memory["memory"], 1, 2))
        return ops.softmax(ops.where(memory["source_real"][:, None], weights, -1e9))

    def scores(self, written_btu, memory: dict):
        """Scores of each next token, [b, t, v]."""
        ops = keras.ops
        seen = ops.matmul(self.shares(written_btu, memory), memory["memory"])
        mixed = self.layers["mix"](ops.concatenate([written_btu, seen], -1))
        logits = self.layers["embedding"](self.drop(mixed, "mix"), reverse=True)
        return ops.cast(logits, "float32")
