"""Pretrained weights for BERT: the BERT, RoBERTa and DistilBERT families of Hugging Face."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.lazy import np
from tfbig.models._pretrained import FLOATS, tensors

FAMILIES = ("bert", "roberta", "distilbert")
OFFSET = 2  # rows of RoBERTa's table of positions before that of the first token
PREFIXES = ("bert.", "roberta.", "distilbert.", "transformer.")
NORMS = {"gamma": "weight", "beta": "bias"}

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
# What a checkpoint may lack; it then starts fresh
OPTIONAL = ("pooler", "transform", "transform_norm", "token_bias")


def settings(folder: Path) -> tuple[str, dict]:
    """A checkpoint's family and its settings of BERT, by its config.json."""
    path = folder / "config.json"
    try:
        config = dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        expected = "a folder with config.json and .safetensors files"
        raise UserError(f"init: expected {expected}. Received: {folder} ({error}).") from error
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UserError(
            f"init: expected a checkpoint of the families {', '.join(FAMILIES)}. Received:"
            f" {folder}, {family!r}."
        )
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
        raise UserError(f"init: {path}: expected a value of {error}. It is missing.") from error
    values |= {"positions": "learned", "normalization": "after"}
    values["epsilon"] = 1e-12 if family == "distilbert" else config.get("layer_norm_eps", 1e-12)
    positions = config.get("position_embedding_type", "absolute")
    if values["activation"] not in ("gelu", "relu") or positions != "absolute":
        raise UserError(
            f"init: {folder}: expected gelu or relu, and absolute positions. Received:"
            f" {values['activation']!r} and {positions!r}."
        )
    return family, values


def load(config, model, path: str) -> None:
    """Loads pretrained weights into a built model.

    Args:
        config: the BERT it was built by.
        model: that body, with a task's head.
        path: the checkpoint's folder.

    Raises:
        UserError: it is of another family, shape or settings; no weight was changed.
    """
    if path.startswith("hub:"):
        raise UserError(
            f"init: expected a folder with config.json and .safetensors files. Received: {path}."
        )
    folder = Path(path).expanduser()
    family, required = settings(folder)
    ours = {name: getattr(config, name) for name in required}
    ours["hidden"] = config.hidden or 4 * config.width
    wrong = [f"model.{name}={value}" for name, value in required.items() if ours[name] != value]
    if wrong:
        raise UserError(
            f"init: {path} was made with other settings than the model. Give {' '.join(wrong)}."
        )
    stored = {_short(name): value for name, value in tensors(folder).items()}
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
    ending = {"kernel": "weight", **NORMS}.get(kind, kind)
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
    if value.dtype.name not in FLOATS:
        raise UserError(
            f"init: {path}: expected {name} in one of {', '.join(FLOATS)}. Received:"
            f" {value.dtype.name}."
        )
    return value.astype(np.float32)
