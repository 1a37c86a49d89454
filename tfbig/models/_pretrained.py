"""Weights from elsewhere for GPT: checkpoints of the GPT-2 and Llama families as Hugging Face's libraries write them."""

from __future__ import annotations

import json
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

# Our variable -> their tensors, {i} being the block; several are put side by side. "T": stored output by input.
TABLE = {
    "gpt2": {
        "embedding/embeddings": ("wte.weight",),
        "position/embeddings": ("wpe.weight",),
        "block_{i}_norm_1/gamma": ("h.{i}.ln_1.weight",),
        "block_{i}_norm_1/beta": ("h.{i}.ln_1.bias",),
        "block_{i}_attention_qkv/kernel": ("h.{i}.attn.c_attn.weight",),
        "block_{i}_attention_qkv/bias": ("h.{i}.attn.c_attn.bias",),
        "block_{i}_attention_out/kernel": ("h.{i}.attn.c_proj.weight",),
        "block_{i}_attention_out/bias": ("h.{i}.attn.c_proj.bias",),
        "block_{i}_norm_2/gamma": ("h.{i}.ln_2.weight",),
        "block_{i}_norm_2/beta": ("h.{i}.ln_2.bias",),
        "block_{i}_hidden/kernel": ("h.{i}.mlp.c_fc.weight",),
        "block_{i}_hidden/bias": ("h.{i}.mlp.c_fc.bias",),
        "block_{i}_out/kernel": ("h.{i}.mlp.c_proj.weight",),
        "block_{i}_out/bias": ("h.{i}.mlp.c_proj.bias",),
        "norm/gamma": ("ln_f.weight",),
        "norm/beta": ("ln_f.bias",),
    },
    "llama": {
        "embedding/embeddings": ("embed_tokens.weight",),
        "embedding/reverse_embeddings": ("lm_head.weight", "T"),
        "block_{i}_norm_1/scale": ("layers.{i}.input_layernorm.weight",),
        "block_{i}_attention_qkv/kernel": (*(f"layers.{{i}}.self_attn.{x}_proj.weight" for x in "qkv"), "T"),
        "block_{i}_attention_out/kernel": ("layers.{i}.self_attn.o_proj.weight", "T"),
        "block_{i}_norm_2/scale": ("layers.{i}.post_attention_layernorm.weight",),
        "block_{i}_hidden/kernel": ("layers.{i}.mlp.gate_proj.weight", "layers.{i}.mlp.up_proj.weight", "T"),
        "block_{i}_out/kernel": ("layers.{i}.mlp.down_proj.weight", "T"),
        "norm/scale": ("norm.weight",),
    },
}
PREFIXES = ("transformer.", "model.", "")


def settings(path: Path) -> tuple[str, dict]:
    """The family of a checkpoint ("gpt2" or "llama") and the settings of GPT it was made with, from its config.json."""
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"init: expected a folder with config.json and .safetensors files. Received: {path} ({error}).") from error
    family = config.get("model_type")
    if family == "gpt2":
        common = {"positions": "learned", "normalization": "layer", "activation": "gelu", "bias": True, "qk_norm": False}
        odd = config.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh")
        values = {"width": "n_embd", "depth": "n_layer", "heads": "n_head", "epsilon": "layer_norm_epsilon"}
        made = {**common, "tied": config.get("tie_word_embeddings", True), "hidden": config.get("n_inner") or 4 * config["n_embd"]}
        made["kv_heads"] = config["n_head"]
    elif family == "llama":
        common = {"positions": "rope", "normalization": "rms", "activation": "swiglu", "bias": False, "qk_norm": False}
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        odd = config.get("hidden_act") != "silu" or config.get("attention_bias") or config.get("mlp_bias") or rope.get("rope_type", "default") != "default"
        odd = odd or config.get("head_dim") not in (None, config["hidden_size"] // config["num_attention_heads"])
        values = {"width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads", "epsilon": "rms_norm_eps", "hidden": "intermediate_size"}
        made = {**common, "tied": config.get("tie_word_embeddings", False), "rope_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)}
        made["kv_heads"] = config.get("num_key_value_heads") or config["num_attention_heads"]
    else:
        raise UserError(f"init: expected a checkpoint of the families {', '.join(TABLE)}. Received: {path}, {family!r}.")
    if odd:
        raise UserError(f"init: {path} is a {family} of a kind that GPT has no settings for (its activation, biases, head width or rope scaling).")
    return family, {**made, **{ours: config[theirs] for ours, theirs in values.items()}}


def tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint's files, without their families' prefixes, as float32."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, "np") as opened:
                for name in opened.keys():  # noqa: SIM118 - it is no mapping
                    prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
                    found[name.removeprefix(prefix)] = opened.get_tensor(name)
        except (OSError, SafetensorError, TypeError) as error:
            raise UserError(f"init: {file} cannot be read: {error}.") from error
    if not found:
        raise UserError(f"init: expected .safetensors files. Received: {path}, which holds none.")
    return found


def load(config, model, path: Path) -> None:
    """Puts a checkpoint's weights into a built model.

    Args:
        config: the GPT it was built by.
        model: tokens to logits.
        path: the checkpoint's folder.

    Raises:
        UserError: it is of another family, shape or settings; no weight was changed.
    """
    family, wanted = settings(path)
    have = {"hidden": round(8 / 3 * config.width) if config.activation == "swiglu" else 4 * config.width}
    have["kv_heads"] = wanted["heads"] if wanted["kv_heads"] == wanted["heads"] else config.heads
    ours = {name: getattr(config, name) if getattr(config, name) is not None else have.get(name) for name in wanted}
    wrong = [f"model.{name}={value}" for name, value in wanted.items() if ours[name] != value]
    if wrong:
        raise UserError(f"init: {path} was made with other settings than the model. Give {' '.join(wrong)}.".replace("True", "true").replace("False", "false"))
    stored, values = tensors(path), {}
    for variable in model.variables:
        name = "/".join(variable.path.split("/")[-2:])
        if "seed" in name:
            continue
        value = _value(family, name, stored, path)
        if name == "position/embeddings" and len(value) >= variable.shape[0]:
            value = value[: variable.shape[0]]  # a shorter context needs fewer
        if value.shape != tuple(variable.shape):
            what = "data.context is longer than what it knows" if name.startswith("position") else "is the vocabulary another one?"
            raise UserError(f"init: {path}: {name} is {list(value.shape)}, expected {list(variable.shape)}; {what}")
        values[variable.path] = (variable, value)
    for variable, value in values.values():
        variable.assign(value)


def _value(family: str, name: str, stored: dict, path: Path) -> np.ndarray:
    number = name.split("_")[1] if name.startswith("block_") else ""
    row = TABLE[family].get(name.replace(f"block_{number}_", "block_{i}_", 1) if number else name)
    if row is None:
        raise UserError(f"init: {path}: {family} has nothing for {name}.")
    turned, parts = row[-1] == "T", []
    for theirs in (key.format(i=int(number) - 1 if number else "") for key in row if key != "T"):
        if theirs not in stored:
            raise UserError(f"init: {path}: expected a tensor {theirs} (for {name}). It is missing.")
        parts.append(stored[theirs].T if turned else stored[theirs])
    return np.concatenate(parts, axis=-1).astype(np.float32)
