"""BERT: a Transformer that reads a text from both ends at once, to be fine-tuned on labels.

Shapes: b texts, t tokens, d width, n heads, h head width.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.models import _pretrained_bert, _text
from tfbig.nn import attention as attn

PUBLISHED = {
    "hidden": None,
    "positions": "learned",
    "normalization": "after",
    "activation": "gelu",
    "summary": "first",
    "epsilon": 1e-12,
}
SIZES = {
    "tiny": {**PUBLISHED, "width": 128, "depth": 2, "heads": 2},
    "mini": {**PUBLISHED, "width": 256, "depth": 4, "heads": 4},
    "small": {**PUBLISHED, "width": 512, "depth": 4, "heads": 8},
    "medium": {**PUBLISHED, "width": 512, "depth": 8, "heads": 8},
    "base": {**PUBLISHED, "width": 768, "depth": 12, "heads": 12},
    "large": {**PUBLISHED, "width": 1024, "depth": 24, "heads": 16},
}


@dataclass(frozen=True, kw_only=True)
class BERT(Model):
    """BERT: a Transformer encoder (Devlin et al. 2019; sizes below base: Turc et al. 2019).

    Its hidden states are for masked language models, their summary for classification.
    """

    size: str = knob(
        "none", "a published configuration; settings given beside it win", choices=("none", *SIZES)
    )
    width: int = knob(128, "width of the hidden states", low=1)
    depth: int = knob(2, "number of blocks", low=1)
    heads: int = knob(2, "attention heads; divides width", low=1)
    hidden: int | None = knob(None, "width of each block's hidden layer; none: 4 width", low=1)
    positions: str = knob(
        "learned",
        "how order is known: learnt vectors, or rotation (Su et al. 2021)",
        choices=("learned", "rope", "none"),
    )
    normalization: str = knob(
        "after",
        "where: after each branch is added, as published, or before each branch",
        choices=("after", "before"),
    )
    activation: str = knob(
        "gelu",
        "of the hidden layer; gelu_tanh: its approximation, as first published; geglu multiplies"
        " two halves (Shazeer 2020)",
        choices=("gelu", "gelu_tanh", "relu", "geglu"),
    )
    summary: str = knob(
        "first",
        "features: the first token's state, or the mean, through a layer with tanh",
        choices=("first", "average"),
    )
    epsilon: float = knob(1e-12, "added to the variance when normalising", above=0)
    dropout: float = knob(
        0.1,
        "share dropped of embeddings, of each branch's output and of the features while training",
        low=0,
        high=0.95,
    )
    deviation: float = knob(0.02, "standard deviation of initial weights", above=0)

    takes, gives = frozenset({"text"}), frozenset({"features", "sequence"})

    @classmethod
    def of(cls, size: str, **settings) -> BERT:
        """A published configuration; `settings` given beside it win."""
        return cls(**{"size": size, **SIZES[size], **settings})

    @classmethod
    def smallest(cls):
        return cls(width=16, depth=1, heads=2, dropout=0.1)

    def settled(self, given):
        if "size" not in given:
            return self
        fresh = SIZES.get(self.size, {}).items()
        return dataclasses.replace(
            self, **{name: value for name, value in fresh if name not in given}
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

    def build(self, spec):
        """Tokens and their count to {"sequence": [b, t, d], "features": [b, d]}."""
        inputs = _text.inputs_of(spec)
        network = _Network(self)
        x_btd = network.hidden(spec, inputs)
        outputs = {"sequence": x_btd, "features": network.features(x_btd, inputs)}
        return keras.Model(inputs, outputs, name="bert")

    def load(self, model, source):
        """Loads weights of a BERT, RoBERTa or DistilBERT.

        From a folder of Hugging Face's form, with its config.json and .safetensors files, or from
        hub:PRESET of KerasHub.
        """
        _pretrained_bert.load(self, model, source)


class _Network:
    """The computation, on layers with the names that weights are kept by."""

    def __init__(self, config: BERT):
        self.config = config
        self.before = config.normalization == "before"

    def normal(self):
        return keras.initializers.TruncatedNormal(stddev=self.config.deviation)

    def dense(self, x, width: int, name: str, **options):
        kernel = self.normal()
        return keras.layers.Dense(width, kernel_initializer=kernel, name=name, **options)(x)

    def norm(self, x, name: str):
        return keras.layers.LayerNormalization(epsilon=self.config.epsilon, name=name)(x)

    def drop(self, x, name: str):
        if not self.config.dropout:
            return x
        return keras.layers.Dropout(self.config.dropout, name=name)(x)

    def table(self, rows: int, name: str):
        layers = keras.layers
        return layers.Embedding(
            rows, self.config.width, embeddings_initializer=self.normal(), name=name
        )

    def hidden(self, spec, inputs):
        """Hidden states [b, t, d], normalised."""
        config, ops = self.config, keras.ops
        tokens = inputs["tokens"]
        # Reversible: a masked language model scores tokens by the embedding's own vectors
        x = keras.layers.ReversibleEmbedding(
            spec["tokens"].values,
            config.width,
            tie_weights=True,
            embeddings_initializer=self.normal(),
            name="embedding",
        )(tokens)
        segments = inputs.get("segments")
        x = x + self.table(2, "segment")(ops.zeros_like(tokens) if segments is None else segments)
        at_bt = attn.positions(tokens)
        if config.positions == "learned":
            x = x + self.table(spec["tokens"].most, "position")(at_bt)
        if not self.before:
            x = self.norm(x, "norm")
        x = self.drop(x, "dropout")
        real_bt = _text.is_real(inputs)
        for i in range(1, config.depth + 1):
            x = self.block(x, real_bt, at_bt, f"block_{i}")
        return self.norm(x, "norm") if self.before else x

    def block(self, x, real_bt, at_bt, name: str):
        """Attention and a hidden layer, each added to what it reads."""
        if self.before:
            x = x + self.attention(self.norm(x, f"{name}_norm_1"), real_bt, at_bt, name)
            return x + self.mlp(self.norm(x, f"{name}_norm_2"), name)
        x = self.norm(x + self.attention(x, real_bt, at_bt, name), f"{name}_norm_1")
        return self.norm(x + self.mlp(x, name), f"{name}_norm_2")

    def attention(self, x, real_bt, at_bt, name: str):
        config = self.config
        qkv = self.dense(x, 3 * config.width, f"{name}_attention_qkv")
        q, k, v = attn.heads_of(qkv, config.heads, f"{name}_attention")
        if config.positions == "rope":
            q, k = (attn.rotate(each, at_bt) for each in (q, k))
        mixed = attn.attend_to(q, k, v, real_bt, f"{name}_attention")
        out = self.dense(mixed, config.width, f"{name}_attention_out")
        return self.drop(out, f"{name}_attention_dropout")

    def mlp(self, x, name: str):
        config, ops = self.config, keras.ops
        width = config.hidden or 4 * config.width
        gated = config.activation == "geglu"
        y = self.dense(x, 2 * width if gated else width, f"{name}_hidden")
        if gated:
            y = ops.gelu(y[..., :width], approximate=False) * y[..., width:]
        elif config.activation in ("gelu", "gelu_tanh"):
            y = ops.gelu(y, approximate=config.activation == "gelu_tanh")
        else:
            y = ops.relu(y)
        return self.drop(self.dense(y, config.width, f"{name}_out"), f"{name}_dropout")

    def features(self, x_btd, inputs):
        """The summary of a text, [b, d]."""
        if self.config.summary == "first":
            summary = x_btd[:, 0]
        else:
            real = keras.ops.cast(_text.is_real(inputs), x_btd.dtype)[:, :, None]
            summary = _text.average(x_btd, real)
        pooled = self.dense(summary, self.config.width, "pooler", activation="tanh")
        return self.drop(pooled, "features_dropout")
