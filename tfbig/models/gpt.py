"""GPT: a decoder-only Transformer that scores each next token, from GPT-2 to Llama."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np
from tfbig.core.model import Model
from tfbig.models import _pretrained_gpt
from tfbig.nn import attention as attn

ALIKE = {"qk_norm": False, "kv_heads": None, "hidden": None}
GPT2 = {
    **ALIKE,
    "positions": "learned",
    "normalization": "layer",
    "activation": "gelu",
    "tied": True,
    "bias": True,
}
LLAMA = {
    **ALIKE,
    "positions": "rope",
    "normalization": "rms",
    "activation": "swiglu",
    "tied": False,
    "bias": False,
}
SIZES = {
    "char": {**GPT2, "width": 128, "depth": 4, "heads": 4},  # nanoGPT's small one for CPUs
    "gpt2_124m": {**GPT2, "width": 768, "depth": 12, "heads": 12},
    "gpt2_355m": {**GPT2, "width": 1024, "depth": 24, "heads": 16},
    "gpt2_774m": {**GPT2, "width": 1280, "depth": 36, "heads": 20},
    "gpt2_1558m": {**GPT2, "width": 1600, "depth": 48, "heads": 25},
    "smollm_135m": {
        **LLAMA,
        "width": 576,
        "depth": 30,
        "heads": 9,
        "kv_heads": 3,
        "hidden": 1536,
        "tied": True,
    },
    "tinyllama_1100m": {
        **LLAMA,
        "width": 2048,
        "depth": 22,
        "heads": 32,
        "kv_heads": 4,
        "hidden": 5632,
    },
}


@dataclass(frozen=True, kw_only=True)
class GPT(Model):
    """GPT: a decoder-only Transformer.

    Radford et al. 2019; with rope, rms and swiglu: Touvron et al. 2023.
    """

    size: str = knob(
        "none", "a published configuration; settings given beside it win", choices=("none", *SIZES)
    )
    width: int = knob(128, "width of the hidden states", low=1)
    depth: int = knob(4, "number of blocks", low=1)
    heads: int = knob(4, "attention heads; divides width", low=1)
    kv_heads: int | None = knob(
        None, "heads of keys and values (Ainslie et al. 2023); divides heads; none: heads", low=1
    )
    hidden: int | None = knob(
        None, "width of each block's hidden layer; none: 4 width, 8/3 width for swiglu", low=1
    )
    positions: str = knob(
        "learned",
        "how order is known: learnt vectors, or rotation (Su et al. 2021)",
        choices=("learned", "rope", "none"),
    )
    rope_base: float = knob(10_000.0, "rope: longest wavelength over 2 pi", above=1)
    normalization: str = knob(
        "layer", "before attention and hidden layer", choices=("layer", "rms")
    )
    epsilon: float = knob(1e-5, "added to the variance when normalising", above=0)
    activation: str = knob(
        "gelu",
        "of the hidden layer: gelu by its tanh form, swiglu (Shazeer 2020), relu2 (So et al. 2021)",
        choices=("gelu", "swiglu", "relu2"),
    )
    qk_norm: bool = knob(False, "normalise queries and keys of each head (Henry et al. 2020)")
    tied: bool = knob(True, "scores by the embedding's own vectors (Press and Wolf 2017)")
    bias: bool = knob(False, "biases in matrix products and layer normalisation")
    dropout: float = knob(
        0.0,
        "share dropped of embeddings and of each branch's output while training",
        low=0,
        high=0.95,
    )
    block: int | None = knob(
        None, "queries handled together, for long sequences in little memory; none: all", low=1
    )
    deviation: float = knob(
        0.02,
        "standard deviation of initial weights; those that write to the residual stream: over"
        " sqrt(2 depth)",
        above=0,
    )

    takes, gives = frozenset({"tokens"}), frozenset({"logits"})

    @classmethod
    def of(cls, size: str, **settings) -> GPT:
        """A published configuration; `settings` given beside it win."""
        return cls(**{"size": size, **SIZES[size], **settings})

    @classmethod
    def smallest(cls):
        return cls(width=16, depth=1, heads=2, dropout=0.1)

    def settled(self, given):
        if "size" not in given:
            return self
        return dataclasses.replace(
            self,
            **{
                name: value for name, value in SIZES.get(self.size, {}).items() if name not in given
            },
        )

    def problems(self):
        if self.width % self.heads:
            yield (
                "heads",
                f"expected a divisor of model.width={self.width}. Received: {self.heads}.",
            )
        elif self.positions == "rope" and self.width // self.heads % 2:
            yield (
                "heads",
                f"expected an even width per head for rope. Received: {self.width} / {self.heads}.",
            )
        if self.kv_heads is not None and self.heads % self.kv_heads:
            yield (
                "kv_heads",
                f"expected a divisor of model.heads={self.heads}. Received: {self.kv_heads}.",
            )

    def build(self, spec):
        """Tokens [batch, length] to logits [batch, length, values].

        `length` is also the longest there can be.
        """
        ((name, feature),) = spec.items()
        tokens = keras.Input(feature.shape, dtype="int32", name=name)
        network = _Network(self, feature)
        return keras.Model(tokens, network.head(network.hidden(tokens)[0]), name="gpt")

    def load(self, model, source):
        """Loads weights of a GPT-2 or Llama.

        From a folder with its config.json and .safetensors files, or from hub:PRESET of KerasHub.
        """
        _pretrained_gpt.load(self, model, source)

    def cached(self, model):
        ops = keras.ops
        length = model.input.shape[1]
        network = _Network(
            self,
            Feature(shape=(length,), dtype="int32", values=model.output.shape[-1]),
            model.get_layer,
        )
        tokens = keras.Input((length,), dtype="int32", name="tokens")
        count = keras.Input((), dtype="int32", name="count")
        x_btd, cache = network.hidden(tokens)
        last = ops.take_along_axis(x_btd, ops.reshape(count - 1, (-1, 1, 1)), axis=1)
        prefill = keras.Model([tokens, count], [network.head(last)[:, 0], *cache], name="prefill")
        token = keras.Input((), dtype="int32", name="token")
        position = keras.Input((), dtype="int32", name="at")
        cache = [
            keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=f"cache_{i}")
            for i, tensor in enumerate(cache)
        ]
        x_btd, after = network.hidden(token[:, None], position[:, None], cache)
        return prefill, keras.Model(
            [token, position, *cache], [network.head(x_btd)[:, 0], *after], name="step"
        )


class _Network:
    """The computation, on new layers or, given a built model's `get_layer`, on that model's."""

    def __init__(self, config: GPT, feature: Feature, existing=None):
        self.config, self.feature, self.existing, self.made = config, feature, existing, {}
        self.swiglu = config.activation == "swiglu"
        self.kv_heads = config.kv_heads or config.heads

    def layer(self, kind: str, name: str, *arguments, **options):
        if name not in self.made:
            self.made[name] = (
                self.existing(name)
                if self.existing
                else getattr(keras.layers, kind)(*arguments, name=name, **options)
            )
        return self.made[name]

    def normal(self, scale: float = 1.0):
        return keras.initializers.RandomNormal(stddev=self.config.deviation * scale)

    def dense(self, x, width: int, name: str, scale: float = 1.0):
        return self.layer(
            "Dense", name, width, use_bias=self.config.bias, kernel_initializer=self.normal(scale)
        )(x)

    def norm(self, x, name: str):
        if self.config.normalization == "rms":
            return self.layer("RMSNormalization", name, epsilon=self.config.epsilon)(x)
        return self.layer(
            "LayerNormalization", name, epsilon=self.config.epsilon, center=self.config.bias
        )(x)

    def drop(self, x, name: str):
        return self.layer("Dropout", name, self.config.dropout)(x) if self.config.dropout else x

    @property
    def residual(self) -> float:
        """Scale of the weights that write to the residual stream (Radford et al. 2019)."""
        return (2 * self.config.depth) ** -0.5

    def hidden(self, tokens_bt, position_bt=None, cache=None):
        """Normalised hidden states [b, t, d] and each block's keys and values [b, m, length, h]."""
        config = self.config
        fresh = []
        at_bt = attn.positions(tokens_bt) if position_bt is None else position_bt
        options = {"tie_weights": config.tied, "embeddings_initializer": self.normal()}
        x_btd = self.layer(
            "ReversibleEmbedding", "embedding", self.feature.values, config.width, **options
        )(tokens_bt)
        if config.positions == "learned":
            size = (self.feature.shape[0], config.width)
            x_btd = x_btd + self.layer(
                "Embedding", "position", *size, embeddings_initializer=self.normal()
            )(at_bt)
        x_btd = self.drop(x_btd, "dropout")
        for i in range(1, config.depth + 1):
            branch, keys_values = self.attention(
                self.norm(x_btd, f"block_{i}_norm_1"),
                at_bt,
                cache and cache[2 * i - 2 : 2 * i],
                f"block_{i}_attention",
            )
            fresh.extend(keys_values)
            x_btd = x_btd + branch
            x_btd = x_btd + self.mlp(self.norm(x_btd, f"block_{i}_norm_2"), f"block_{i}")
        return self.norm(x_btd, "norm"), fresh

    def head(self, x_btd):
        return keras.ops.cast(
            self.layer("ReversibleEmbedding", "embedding")(x_btd, reverse=True), "float32"
        )

    def attention(self, x_btd, at_bt, cache, name: str):
        config = self.config
        ops = keras.ops
        n = self.config.heads
        m = self.kv_heads
        qkv = self.dense(x_btd, (n + 2 * m) * (config.width // n), f"{name}_qkv")
        qkv = attn.split_heads(qkv, n + 2 * m)
        q, k, v = qkv[:, :n], qkv[:, n : n + m], qkv[:, n + m :]
        if config.qk_norm:
            q, k = (
                self.layer("RMSNormalization", f"{name}_{which}_norm", epsilon=config.epsilon)(x)
                for which, x in (("query", q), ("key", k))
            )
        if config.positions == "rope":
            q, k = (attn.rotate(x, at_bt, config.rope_base) for x in (q, k))
        if cache is None:
            mixed = attn.attend_causally(q, k, v, at_bt, config.block, f"{name}_blocked")
        else:  # one query, which looks at what is cached up to its own position
            slot_s = np.arange(cache[0].shape[2], dtype=np.int32)[None]
            here = ops.equal(at_bt, slot_s)[:, None, :, None]
            k, v = (ops.where(here, new, old) for new, old in zip((k, v), cache, strict=True))
            mixed = attn.attend(q, k, v, ops.greater_equal(at_bt, slot_s)[:, None])
        out = self.dense(attn.join_heads(mixed), config.width, f"{name}_out", self.residual)
        return self.drop(out, f"{name}_dropout"), [k, v]

    def mlp(self, x_btd, name: str):
        config = self.config
        ops = keras.ops
        width = config.hidden or (round(8 / 3 * config.width) if self.swiglu else 4 * config.width)
        y = self.dense(x_btd, 2 * width if self.swiglu else width, f"{name}_hidden")
        if self.swiglu:
            y = ops.silu(y[..., :width]) * y[..., width:]
        else:
            y = (
                ops.gelu(y, approximate=True)
                if config.activation == "gelu"
                else ops.square(ops.relu(y))
            )
        return self.drop(
            self.dense(y, config.width, f"{name}_out", self.residual), f"{name}_dropout"
        )
