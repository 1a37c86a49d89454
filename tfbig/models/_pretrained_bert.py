"""Pretrained weights for BERT: BERT, RoBERTa and DistilBERT of Hugging Face and KerasHub."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.lazy import np
from tfbig.models import _hugging_face, _keras_hub

FAMILIES = ("bert", "roberta", "distilbert")
OFFSET = 2  # rows of RoBERTa's table of positions before that of the first token
PREFIXES = ("bert.", "roberta.", "distilbert.", "transformer.")
NORMS = {"gamma": "weight", "beta": "bias"}
ENDINGS = {"kernel": "weight", "embeddings": "weight", **NORMS}
PUBLISHED = {"positions": "learned", "normalization": "after"}
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}  # theirs -> ours

# Our layer -> their module, {i} being the block; several are put side by side.
EMBEDDINGS = {
    "embedding": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "segment": "embeddings.token_type_embeddings",
}
BERT = {
    "norm": ("embeddings.LayerNorm",),
    "block_{i}_attention_qkv": tuple(
        f"encoder.layer.{{i}}.attention.self.{name}" for name in ("query", "key", "value")
    ),
    "block_{i}_attention_out": ("encoder.layer.{i}.attention.output.dense",),
    "block_{i}_norm_1": ("encoder.layer.{i}.attention.output.LayerNorm",),
    "block_{i}_hidden": ("encoder.layer.{i}.intermediate.dense",),
    "block_{i}_out": ("encoder.layer.{i}.output.dense",),
    "block_{i}_norm_2": ("encoder.layer.{i}.output.LayerNorm",),
    "pooler": ("pooler.dense",),
}
TABLE = {
    "bert": {
        **BERT,
        "transform": ("cls.predictions.transform.dense",),
        "transform_norm": ("cls.predictions.transform.LayerNorm",),
        "token_bias": ("cls.predictions",),
    },
    "roberta": {
        **BERT,
        "transform": ("lm_head.dense",),
        "transform_norm": ("lm_head.layer_norm",),
        "token_bias": ("lm_head",),
    },
    "distilbert": {
        "norm": ("embeddings.LayerNorm",),
        "block_{i}_attention_qkv": tuple(
            f"layer.{{i}}.attention.{name}_lin" for name in ("q", "k", "v")
        ),
        "block_{i}_attention_out": ("layer.{i}.attention.out_lin",),
        "block_{i}_norm_1": ("layer.{i}.sa_layer_norm",),
        "block_{i}_hidden": ("layer.{i}.ffn.lin1",),
        "block_{i}_out": ("layer.{i}.ffn.lin2",),
        "block_{i}_norm_2": ("layer.{i}.output_layer_norm",),
        "transform": ("vocab_transform",),
        "transform_norm": ("vocab_layer_norm",),
        "token_bias": ("vocab_projector",),
    },
}
# KerasHub's layer -> the module of Hugging Face's BERT
HUB = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
    "pooled_dense": "pooler.dense",
    **{
        f"transformer_layer_{{i}}/{theirs}": f"encoder.layer.{{i}}.{module}"
        for theirs, module in {
            "self_attention_layer/query": "attention.self.query",
            "self_attention_layer/key": "attention.self.key",
            "self_attention_layer/value": "attention.self.value",
            "self_attention_layer/attention_output": "attention.output.dense",
            "self_attention_layer_norm": "attention.output.LayerNorm",
            "feedforward_intermediate_dense": "intermediate.dense",
            "feedforward_output_dense": "output.dense",
            "feedforward_layer_norm": "output.LayerNorm",
        }.items()
    },
}
HUB_GROUP = re.compile(r"^(embeddings|token_and_position_embedding)/")  # a layer around layers
HUB_FAMILIES = {
    "BertBackbone": {"activation": "gelu_tanh", "epsilon": 1e-12},
    "RobertaBackbone": {"activation": "gelu", "epsilon": 1e-5},
    "DistilBertBackbone": {"activation": "gelu", "epsilon": 1e-12},
}
# What a checkpoint may lack; it then starts fresh
OPTIONAL = ("pooler", "transform", "transform_norm", "token_bias")


def settings(folder: Path) -> tuple[str, dict]:
    """A checkpoint's family and its settings of BERT, by its config.json."""
    config = _hugging_face.config(folder, FAMILIES)
    family = config["model_type"]
    names = {
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "hidden": "intermediate_size",
        "activation": "hidden_act",
    }
    if family == "distilbert":
        names = {"width": "dim", "depth": "n_layers", "heads": "n_heads", "hidden": "hidden_dim"}
        names["activation"] = "activation"
    try:
        values = {ours: config[theirs] for ours, theirs in names.items()}
    except KeyError as error:
        raise UserError(
            f"init: {folder / 'config.json'}: expected a value of {error}. It is missing."
        ) from error
    values |= PUBLISHED
    values["activation"] = ACTIVATIONS.get(values["activation"], values["activation"])
    values["epsilon"] = 1e-12 if family == "distilbert" else config.get("layer_norm_eps", 1e-12)
    positions = config.get("position_embedding_type", "absolute")
    if values["activation"] not in ("gelu", "gelu_tanh", "relu") or positions != "absolute":
        raise UserError(
            f"init: {folder}: expected gelu, gelu_new or relu, and absolute positions. Received:"
            f" {values['activation']!r} and {positions!r}."
        )
    return family, values


def preset(name: str) -> tuple[str, dict, dict[str, np.ndarray]]:
    """A KerasHub preset's family, settings of BERT, and tensors by Hugging Face's names.

    All its families have BERT's layout here: none has rows of positions before the first token.
    """
    network = _keras_hub.backbone(name, tuple(HUB_FAMILIES))
    config = network.get_config()
    values = PUBLISHED | HUB_FAMILIES[type(network).__name__]
    values |= {
        "width": config["hidden_dim"],
        "depth": config["num_layers"],
        "heads": config["num_heads"],
        "hidden": config["intermediate_dim"],
    }
    stored = {}
    for path, value in _keras_hub.arrays(network).items():
        layer, _, kind = path.rpartition("/")
        layer = HUB_GROUP.sub("", layer)
        number = re.search(r"_(\d+)/", layer)
        module = HUB[re.sub(r"_\d+/", "_{i}/", layer)].format(i=number and number[1])
        stored[f"{module}.{ENDINGS.get(kind, kind)}"] = value.T if kind == "kernel" else value
    return "bert", values, stored


def load(config, model, path: str) -> None:
    """Loads pretrained weights into a built model.

    Args:
        config: the BERT it was built by.
        model: that body, with a task's head.
        path: the checkpoint's folder, or "hub:" and a KerasHub preset.

    Raises:
        UserError: it is of another family, shape or settings; no weight was changed.
    """
    if path.startswith(_keras_hub.PREFIX):
        family, required, stored = preset(path.removeprefix(_keras_hub.PREFIX))
    else:
        folder = Path(path).expanduser()
        family, required = settings(folder)
        stored = {_short(name): value for name, value in _hugging_face.tensors(folder).items()}
    ours = {name: getattr(config, name) for name in required}
    ours["hidden"] = config.hidden or 4 * config.width
    wrong = [f"model.{name}={value}" for name, value in required.items() if ours[name] != value]
    if wrong:
        raise UserError(
            f"init: {path} was made with other settings than the model. Give {' '.join(wrong)}."
        )
    values, fresh = {}, []
    for variable in model.variables:
        layer, _, kind = "/".join(variable.path.split("/")[-2:]).partition("/")
        value = _value(family, layer, kind, stored, path)
        if value is None:
            if layer in OPTIONAL:
                fresh.append(layer)
            continue
        if layer == "position" and len(value) >= variable.shape[0]:
            value = value[: variable.shape[0]]  # a shorter context needs fewer
        if value.shape != tuple(variable.shape):
            cause = (
                "data.context is longer than what it knows"
                if layer == "position"
                else "is the vocabulary another one? Set data.tokenizer=ready and"
                f" data.vocabulary_path={path}"
            )
            raise UserError(
                f"init: {path}: {layer} is {list(value.shape)}, expected {list(variable.shape)};"
                f" {cause}."
            )
        if not np.isfinite(value).all():
            raise UserError(f"init: {path}: {layer} holds NaN. Get the checkpoint again.")
        values[variable.path] = (variable, value)
    if fresh:
        layers = ", ".join(dict.fromkeys(fresh))
        message = f"init: {path} has no {layers}; what it lacks starts fresh"
        warnings.warn(message, LeftOut, stacklevel=2)
    for variable, value in values.values():
        variable.assign(value)


def _short(name: str) -> str:
    """A tensor's name without its family's prefixes, and with today's names of norms."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    for ours, theirs in NORMS.items():
        if name.endswith(f"LayerNorm.{ours}"):
            name = f"{name.removesuffix(ours)}{theirs}"
    return name


def _value(family: str, layer: str, kind: str, stored: dict, path: str) -> np.ndarray | None:
    """The value of a variable of ours, float32; None where theirs has nothing for it.

    A task's own head is always fresh.
    """
    if layer in EMBEDDINGS:
        return _embeddings(family, layer, stored, path)
    number = layer.split("_")[1] if layer.startswith("block_") else ""
    row = TABLE[family].get(layer.replace(f"block_{number}_", "block_{i}_", 1) if number else layer)
    if row is None:
        return None
    ending = ENDINGS.get(kind, kind)
    names = [f"{name.format(i=int(number) - 1 if number else '')}.{ending}" for name in row]
    if layer in OPTIONAL and names[0] not in stored:
        return None
    parts = [_tensor(stored, name, path) for name in names]
    return np.concatenate([part.T if kind == "kernel" else part for part in parts], axis=-1)


def _embeddings(family: str, layer: str, stored: dict, path: str) -> np.ndarray:
    name = f"{EMBEDDINGS[layer]}.weight"
    if layer == "segment":
        if name not in stored:  # DistilBERT knows none
            width = _tensor(stored, f"{EMBEDDINGS['embedding']}.weight", path).shape[1]
            return np.zeros((2, width), np.float32)
        value = _tensor(stored, name, path)
        return np.repeat(value, 2, axis=0) if len(value) == 1 else value
    value = _tensor(stored, name, path)
    return value[OFFSET:] if layer == "position" and family == "roberta" else value


def _tensor(stored: dict, name: str, path: str) -> np.ndarray:
    if name not in stored:
        raise UserError(f"init: {path}: expected a tensor {name}. It is missing.")
    value = stored[name]
    if value.dtype.name not in _hugging_face.FLOATS:
        raise UserError(
            f"init: {path}: expected {name} in one of {', '.join(_hugging_face.FLOATS)}. Received:"
            f" {value.dtype.name}."
        )
    return value.astype(np.float32)
