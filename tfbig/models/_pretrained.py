"""Weights from elsewhere for GPT: the GPT-2 and Llama families, as Hugging Face's libraries and KerasHub write them."""

from __future__ import annotations

import json
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

HUB, QKV = "transformer_layer_{i}", ("query", "key", "value")

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
    "hub_gpt2": {
        "embedding/embeddings": ("token_embedding/embeddings",),
        "position/embeddings": ("position_embedding/embeddings",),
        "block_{i}_attention_qkv/kernel": tuple(f"{HUB}/self_attention/{x}/kernel" for x in QKV),
        "block_{i}_attention_qkv/bias": tuple(f"{HUB}/self_attention/{x}/bias" for x in QKV),
        **{f"block_{{i}}_norm_1/{x}": (f"{HUB}/self_attention_layer_norm/{x}",) for x in ("gamma", "beta")},
        **{f"block_{{i}}_norm_2/{x}": (f"{HUB}/feedforward_layer_norm/{x}",) for x in ("gamma", "beta")},
        **{f"block_{{i}}_attention_out/{x}": (f"{HUB}/self_attention/attention_output/{x}",) for x in ("kernel", "bias")},
        **{f"block_{{i}}_hidden/{x}": (f"{HUB}/feedforward_intermediate_dense/{x}",) for x in ("kernel", "bias")},
        **{f"block_{{i}}_out/{x}": (f"{HUB}/feedforward_output_dense/{x}",) for x in ("kernel", "bias")},
        **{f"norm/{x}": (f"layer_norm/{x}",) for x in ("gamma", "beta")},
    },
    "hub_llama": {
        "embedding/embeddings": ("token_embedding/embeddings",),
        "embedding/reverse_embeddings": ("token_embedding/reverse_embeddings",),
        "block_{i}_attention_qkv/kernel": tuple(f"{HUB}/self_attention/{x}/kernel" for x in QKV),
        "block_{i}_attention_out/kernel": (f"{HUB}/self_attention/attention_output/kernel",),
        "block_{i}_norm_1/scale": (f"{HUB}/self_attention_layernorm/scale",),
        "block_{i}_norm_2/scale": (f"{HUB}/feedforward_layernorm/scale",),
        "block_{i}_hidden/kernel": (f"{HUB}/feedforward_gate_dense/kernel", f"{HUB}/feedforward_intermediate_dense/kernel"),
        "block_{i}_out/kernel": (f"{HUB}/feedforward_output_dense/kernel",),
        "norm/scale": ("sequence_output_layernorm/scale",),
    },
}
PREFIXES = ("transformer.", "model.", "")


def settings(path: Path) -> tuple[str, dict]:
    """The family of a checkpoint ("gpt2" or "llama") and the settings of GPT it was made with, from its config.json."""
    try:
        config = dict(json.loads((path / "config.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"init: expected a folder with config.json and .safetensors files. Received: {path} ({error}).") from error
    try:
        return _settings(path, config)
    except KeyError as error:
        raise UserError(f"init: {path / 'config.json'}: expected a value of {error}. It is missing.") from error


def _settings(path: Path, config: dict) -> tuple[str, dict]:
    family = config.get("model_type")
    if family == "gpt2":
        common = {"positions": "learned", "normalization": "layer", "activation": "gelu", "bias": True, "qk_norm": False}
        odd = config.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh")
        odd = odd or not config.get("scale_attn_weights", True) or config.get("scale_attn_by_inverse_layer_idx", False)
        values = {"width": "n_embd", "depth": "n_layer", "heads": "n_head", "epsilon": "layer_norm_epsilon"}
        made = {**common, "tied": config.get("tie_word_embeddings", True), "hidden": config.get("n_inner") or 4 * config["n_embd"]}
        made["kv_heads"] = config["n_head"]
    elif family == "llama":
        common = {"positions": "rope", "normalization": "rms", "activation": "swiglu", "bias": False, "qk_norm": False}
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        odd = config.get("hidden_act") != "silu" or config.get("attention_bias") or config.get("mlp_bias") or rope.get("rope_type", rope.get("type", "default")) != "default"
        odd = odd or config.get("head_dim") not in (None, config["hidden_size"] // config["num_attention_heads"])
        values = {"width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads", "epsilon": "rms_norm_eps", "hidden": "intermediate_size"}
        made = {**common, "tied": config.get("tie_word_embeddings", False), "rope_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)}
        made["kv_heads"] = config.get("num_key_value_heads") or config["num_attention_heads"]
    else:
        raise UserError(f"init: expected a checkpoint of the families gpt2, llama. Received: {path}, {family!r}.")
    if odd:
        raise UserError(f"init: {path} is a {family} of a kind that GPT has no settings for (its activation, biases, head width, or scaling of attention or rope).")
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


def preset(name: str) -> tuple[str, dict, dict[str, np.ndarray]]:
    """A KerasHub preset's family, settings and tensors; `name` is one of KerasHub's or a folder written by it."""
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise UserError("init: hub:... needs the package keras-hub, which is not installed. Run pip install 'tfbig[text]'.") from error
    try:
        backbone = keras_hub.models.Backbone.from_preset(name)
    except Exception as error:  # whatever a download, a name or a file may raise
        raise UserError(f"init: KerasHub has no preset {name!r} here: {str(error)[:200]}") from error
    family = {"GPT2Backbone": "hub_gpt2", "LlamaBackbone": "hub_llama"}.get(type(backbone).__name__)
    if family is None:
        raise UserError(f"init: expected a GPT2Backbone or a LlamaBackbone. Received: {type(backbone).__name__}.")
    config = backbone.get_config()
    made = {"width": config["hidden_dim"], "depth": config["num_layers"], "hidden": config["intermediate_dim"], "qk_norm": False}
    if family == "hub_gpt2":
        made |= {"positions": "learned", "normalization": "layer", "activation": "gelu", "bias": True, "tied": True, "epsilon": 1e-5}
        made |= {"heads": config["num_heads"], "kv_heads": config["num_heads"]}
    else:
        if config.get("rope_frequency_adjustment_factor") is not None or config.get("rope_position_scaling_factor", 1.0) != 1.0:
            raise UserError(f"init: {name} scales its rope, for which GPT has no settings.")
        made |= {"positions": "rope", "normalization": "rms", "activation": "swiglu", "bias": False, "epsilon": config["layer_norm_epsilon"]}
        made |= {"heads": config["num_query_heads"], "kv_heads": config["num_key_value_heads"], "rope_base": float(config["rope_max_wavelength"])}
        made["tied"] = not any(weight.path.endswith("reverse_embeddings") for weight in backbone.weights)
    return family, made, {weight.path: _flat(weight.path, np.asarray(weight.numpy())) for weight in backbone.weights}


def _flat(path: str, value: np.ndarray) -> np.ndarray:
    """KerasHub's weights with an axis of heads, as matrices and vectors."""
    if value.ndim == 3:
        return value.reshape((-1, value.shape[-1]) if "attention_output" in path else (value.shape[0], -1))
    return value.reshape(-1) if path.endswith("bias") else value


def load(config, model, path: str) -> None:
    """Puts weights from elsewhere into a built model.

    Args:
        config: the GPT it was built by.
        model: tokens to logits.
        path: the checkpoint's folder, or "hub:" and a KerasHub preset.

    Raises:
        UserError: it is of another family, shape or settings; no weight was changed.
    """
    if path.startswith("hub:"):
        family, wanted, stored = preset(path.removeprefix("hub:"))
    else:
        family, wanted = settings(Path(path).expanduser())
        stored = tensors(Path(path).expanduser())
    have = {"hidden": round(8 / 3 * config.width) if config.activation == "swiglu" else 4 * config.width}
    have["kv_heads"] = wanted["heads"] if wanted["kv_heads"] == wanted["heads"] else config.heads
    ours = {name: getattr(config, name) if getattr(config, name) is not None else have.get(name) for name in wanted}
    wrong = [f"model.{name}={value}" for name, value in wanted.items() if ours[name] != value]
    if wrong:
        raise UserError(f"init: {path} was made with other settings than the model. Give {' '.join(wrong)}.".replace("True", "true").replace("False", "false"))
    values = {}
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


def _value(family: str, name: str, stored: dict, path: str) -> np.ndarray:
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
