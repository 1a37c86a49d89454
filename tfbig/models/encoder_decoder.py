"""A Transformer of encoder and decoder, for pairs of texts in one vocabulary.

Shapes: b batch, s source places, t target places, m most target places, d width, n heads, h width
    of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras, np
from tfbig.core.model import Model
from tfbig.nn import attention as attn
from tfbig.nn.embedding import shared_embedding


@dataclass(frozen=True, kw_only=True)
class EncoderDecoder(Model):
    """A Transformer of encoder and decoder (Vaswani et al. 2017), normalised before each part.

    Source and target share one embedding, which also scores what is written. A deep encoder with a
    shallow decoder writes fast at the same quality (Kasai et al. 2021).
    """

    width: int = knob(256, "width of the hidden states", low=1)
    encoder_depth: int = knob(3, "blocks of the encoder", low=1)
    decoder_depth: int = knob(3, "blocks of the decoder", low=1)
    heads: int = knob(4, "attention heads; divides width", low=1)
    hidden: int | None = knob(
        None, "width of each block's hidden layer; none: 4 width, 8/3 width for swiglu", low=1
    )
    positions: str = knob(
        "sinusoidal",
        "how order is known: sines and cosines (Vaswani et al. 2017), or rotation (Su et al. 2021)",
        choices=("sinusoidal", "rope"),
    )
    normalization: str = knob("rms", "before attention and hidden layer", choices=("rms", "layer"))
    activation: str = knob(
        "relu",
        "of the hidden layer; swiglu: Shazeer 2020",
        choices=("relu", "gelu", "swiglu"),
    )
    dropout: float = knob(
        0.1,
        "share dropped of embeddings and of each branch's output while training",
        low=0,
        high=0.95,
    )

    takes = frozenset({"source_tokens", "target_tokens"})
    gives = frozenset({"logits"})

    @classmethod
    def smallest(cls):
        return cls(width=16, encoder_depth=1, decoder_depth=1, heads=2, dropout=0.05)

    def problems(self):
        if self.width % self.heads:
            expected = f"a divisor of model.width={self.width}"
            yield "heads", f"expected {expected}. Received: {self.heads}."
        elif self.positions == "rope" and self.width // self.heads % 2:
            expected = "an even width per head for rope"
            yield "heads", f"expected {expected}. Received: {self.width} / {self.heads}."

    def build(self, spec):
        source, count = _source_inputs()
        before = keras.Input((None,), dtype="int32", name="before")
        network = _Network(self, spec)
        memory = network.memory(source, count)
        logits, _ = network.decoder(before, None, memory, None)
        inputs = {"source": source, "source_count": count, "before": before}
        return keras.Model(inputs, logits, name="encoder_decoder")

    def transducer(self, model, spec):
        network = _Network(self, spec, model.get_layer)
        source, count = _source_inputs()
        fixed = network.memory(source, count)
        first = next(iter(fixed.values()))[:, :1, :1, :1]  # [b, 1, 1, 1]
        sizes = (self.heads, network.most, self.width // self.heads)
        empty = keras.ops.zeros_like(first) * np.zeros((1, *sizes), "float32")
        names = [f"{kind}_{i}" for i in self._decoder_blocks for kind in ("keys", "values")]
        begun = {name: keras.ops.cast(empty, first.dtype) for name in names}
        inputs = {"source": source, "source_count": count}
        encode = keras.Model(inputs, {**fixed, **begun}, name="encode")
        token, place = (keras.Input((), dtype="int32", name=name) for name in ("token", "place"))
        kept = {
            name: keras.Input(value.shape[1:], dtype=value.dtype, name=name)
            for name, value in encode.output.items()
        }
        logits, carried = network.decoder(
            token[:, None], place[:, None], kept, [kept[name] for name in names]
        )
        outputs = {"logits": logits[:, 0], **dict(zip(names, carried, strict=True))}
        return encode, keras.Model({"token": token, "place": place, **kept}, outputs, name="step")

    def aligner(self, model, spec):
        network = _Network(self, spec, model.get_layer)
        network.decoder(
            model.input["before"],
            None,
            network.memory(model.input["source"], model.input["source_count"]),
            None,
        )
        return keras.Model(model.input, attn.shares(*network.last_look), name="aligner")

    @property
    def _decoder_blocks(self) -> range:
        return range(1, self.decoder_depth + 1)


def _source_inputs():
    source = keras.Input((None,), dtype="int32", name="source")
    return source, keras.Input((), dtype="int32", name="source_count")


class _Network:
    """The computation, on new layers or, given a built model's `get_layer`, on that model's."""

    def __init__(self, config: EncoderDecoder, spec, existing=None):
        self.config, self.existing, self.made = config, existing, {}
        self.last_look = None  # queries, keys and mask of the last block's look at the source
        self.values, self.scored = spec["source"].values, spec["target"].values
        self.most = spec["target"].most
        longest = max(self.most, spec["source"].most)
        self.places = attn.sinusoids(longest, config.width)

    def layer(self, name: str, make):
        if name not in self.made:
            self.made[name] = self.existing(name) if self.existing else make(name)
        return self.made[name]

    def dense(self, x, width: int, name: str):
        def make(name):
            return keras.layers.Dense(width, use_bias=False, name=name)

        return self.layer(name, make)(x)

    def norm(self, x, name: str):
        is_rms = self.config.normalization == "rms"
        kind = keras.layers.RMSNormalization if is_rms else keras.layers.LayerNormalization
        return self.layer(name, lambda name: kind(epsilon=1e-6, name=name))(x)

    def drop(self, x, name: str):
        rate = self.config.dropout
        if not rate:
            return x
        return self.layer(name, lambda name: keras.layers.Dropout(rate, name=name))(x)

    @property
    def embedding(self):
        def make(name):
            return shared_embedding(self.values, self.config.width, self.scored, name)

        return self.layer("embedding", make)

    def embed(self, tokens_bt, place_bt, name: str):
        x_btd = self.embedding(tokens_bt)
        if self.config.positions == "sinusoidal":
            vectors = keras.ops.take(self.places, place_bt, axis=0)
            x_btd = x_btd + keras.ops.cast(vectors, x_btd.dtype)
        return self.drop(x_btd, f"{name}_dropout")

    def memory(self, source_bs, count_b) -> dict:
        """What the decoder looks at: keys and values for each of its blocks, and which are real."""
        place = attn.positions(source_bs)
        real_bs = place < count_b[:, None]
        x_bsd = self.embed(source_bs, place, "encoder")
        for i in range(1, self.config.encoder_depth + 1):
            name = f"encoder_{i}"
            q, k, v = self.projected(self.norm(x_bsd, f"{name}_norm_1"), f"{name}_qkv", 3)
            q, k = self.rotated((q, k), place)
            mixed = attn.attend(q, k, v, real_bs[:, None])
            x_bsd = x_bsd + self.branch(mixed, f"{name}_attention")
            x_bsd = x_bsd + self.mlp(self.norm(x_bsd, f"{name}_norm_2"), name)
        x_bsd = self.norm(x_bsd, "encoder_norm")
        memory = {}
        for i in self.config._decoder_blocks:
            k, v = self.projected(x_bsd, f"decoder_{i}_memory", 2)
            memory |= {f"memory_keys_{i}": k, f"memory_values_{i}": v}
        return {**memory, "source_real": real_bs}

    def decoder(self, before_bt, place_b1, memory: dict, cache: list | None):
        """Scores of each next token [b, t, v] and, with a cache, what it becomes.

        Args:
            before_bt: the tokens before those; one of each with a cache.
            place_b1: its place, with a cache.
            memory: of `memory`.
            cache: keys and values of each block, [b, n, m, h].
        """
        place = attn.positions(before_bt) if place_b1 is None else place_b1
        x_btd = self.embed(before_bt, place, "decoder")
        carried = []
        for i in self.config._decoder_blocks:
            name = f"decoder_{i}"
            q, k, v = self.projected(self.norm(x_btd, f"{name}_norm_1"), f"{name}_qkv", 3)
            q, k = self.rotated((q, k), place)
            if cache is None:
                mixed = attn.attend_causally(q, k, v, place)
            else:
                k, v = _written(cache[2 * i - 2 : 2 * i], (k, v), place)
                carried += [k, v]
                slot = np.arange(self.most, dtype=np.int32)[None]
                mixed = attn.attend(q, k, v, keras.ops.greater_equal(place, slot)[:, None])
            x_btd = x_btd + self.branch(mixed, f"{name}_attention")
            (q,) = self.projected(self.norm(x_btd, f"{name}_norm_2"), f"{name}_query", 1)
            keys_values = memory[f"memory_keys_{i}"], memory[f"memory_values_{i}"]
            mixed = attn.attend(q, *keys_values, memory["source_real"][:, None])
            self.last_look = q, keys_values[0], memory["source_real"][:, None]
            x_btd = x_btd + self.branch(mixed, f"{name}_source")
            x_btd = x_btd + self.mlp(self.norm(x_btd, f"{name}_norm_3"), name)
        logits = self.embedding(self.norm(x_btd, "decoder_norm"), reverse=True)
        return keras.ops.cast(logits, "float32"), carried

    def projected(self, x_btd, name: str, count: int):
        """So many of queries, keys and values, each [b, n, t, h]."""
        n = self.config.heads
        heads = attn.split_heads(self.dense(x_btd, count * self.config.width, name), count * n)
        return [heads[:, i * n : (i + 1) * n] for i in range(count)]

    def rotated(self, pair, place_bt):
        if self.config.positions != "rope":
            return pair
        return [attn.rotate(x, place_bt) for x in pair]

    def branch(self, mixed_bnth, name: str):
        out = self.dense(attn.join_heads(mixed_bnth), self.config.width, f"{name}_out")
        return self.drop(out, f"{name}_dropout")

    def mlp(self, x_btd, name: str):
        config = self.config
        is_swiglu = config.activation == "swiglu"
        width = config.hidden or round((8 / 3 if is_swiglu else 4) * config.width)
        y = self.dense(x_btd, 2 * width if is_swiglu else width, f"{name}_hidden")
        if is_swiglu:
            y = keras.ops.silu(y[..., :width]) * y[..., width:]
        else:
            y = keras.ops.relu(y) if config.activation == "relu" else keras.ops.gelu(y)
        return self.drop(self.dense(y, config.width, f"{name}_out"), f"{name}_mlp_dropout")


def _written(cache, new, place_b1):
    """A block's keys and values with new ones at their place."""
    slot = np.arange(cache[0].shape[2], dtype=np.int32)[None]
    here = keras.ops.equal(place_b1, slot)[:, None, :, None]
    return [keras.ops.where(here, fresh, old) for fresh, old in zip(new, cache, strict=True)]
