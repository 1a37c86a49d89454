"""Pretrained weights for GPT: the GPT-2 and Llama families of Hugging Face and KerasHub."""

from __future__ import annotations

import re
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.models import _hugging_face, _keras_hub

HUB = "transformer_layer_{i}"
QKV = ("query", "key", "value")

# Our variable -> their tensors, {i} being the block; several are put side by side. "T": stored
# output by input.
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
        "block_{i}_attention_qkv/kernel": (
            *(f"layers.{{i}}.self_attn.{x}_proj.weight" for x in "qkv"),
            "T",
        ),
        "block_{i}_attention_out/kernel": ("layers.{i}.self_attn.o_proj.weight", "T"),
        "block_{i}_norm_2/scale": ("layers.{i}.post_attention_layernorm.weight",),
        "block_{i}_hidden/kernel": (
            "layers.{i}.mlp.gate_proj.weight",
            "layers.{i}.mlp.up_proj.weight",
            "T",
        ),
        "block_{i}_out/kernel": ("layers.{i}.mlp.down_proj.weight", "T"),
        "norm/scale": ("norm.weight",),
    },
    "hub_gpt2": {
        "embedding/embeddings": ("token_embedding/embeddings",),
        "position/embeddings": ("position_embedding/embeddings",),
        "block_{i}_attention_qkv/kernel": tuple(f"{HUB}/self_attention/{x}/kernel" for x in QKV),
        "block_{i}_attention_qkv/bias": tuple(f"{HUB}/self_attention/{x}/bias" for x in QKV),
        **{
            f"block_{{i}}_norm_1/{x}": (f"{HUB}/self_attention_layer_norm/{x}",)
            for x in ("gamma", "beta")
        },
        **{
            f"block_{{i}}_norm_2/{x}": (f"{HUB}/feedforward_layer_norm/{x}",)
            for x in ("gamma", "beta")
        },
        **{
            f"block_{{i}}_attention_out/{x}": (f"{HUB}/self_attention/attention_output/{x}",)
            for x in ("kernel", "bias")
        },
        **{
            f"block_{{i}}_hidden/{x}": (f"{HUB}/feedforward_intermediate_dense/{x}",)
            for x in ("kernel", "bias")
        },
        **{
            f"block_{{i}}_out/{x}": (f"{HUB}/feedforward_output_dense/{x}",)
            for x in ("kernel", "bias")
        },
        **{f"norm/{x}": (f"layer_norm/{x}",) for x in ("gamma", "beta")},
    },
    "hub_llama": {
        "embedding/embeddings": ("token_embedding/embeddings",),
        "embedding/reverse_embeddings": ("token_embedding/reverse_embeddings",),
        "block_{i}_attention_qkv/kernel": tuple(f"{HUB}/self_attention/{x}/kernel" for x in QKV),
        "block_{i}_attention_out/kernel": (f"{HUB}/self_attention/attention_output/kernel",),
        "block_{i}_norm_1/scale": (f"{HUB}/self_attention_layernorm/scale",),
        "block_{i}_norm_2/scale": (f"{HUB}/feedforward_layernorm/scale",),
        "block_{i}_hidden/kernel": (
            f"{HUB}/feedforward_gate_dense/kernel",
            f"{HUB}/feedforward_intermediate_dense/kernel",
        ),
        "block_{i}_out/kernel": (f"{HUB}/feedforward_output_dense/kernel",),
        "norm/scale": ("sequence_output_layernorm/scale",),
    },
}
HUB_FAMILIES = {"GPT2Backbone": "hub_gpt2", "LlamaBackbone": "hub_llama"}
LARGEST = 1e30  # setting of a model
# Tensors of a block that are no weights: the causal mask, and rope's wavelengths.
BUFFERS = re.compile(r"h\.\d+\.attn\.(masked_)?bias|layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def settings(folder: Path) -> tuple[str, dict]:
    """A checkpoint's family, "gpt2" or "llama", and its settings of GPT, by its config.json."""
    config = _hugging_face.config(folder, ("gpt2", "llama"))
    family = config["model_type"]
    try:
        values, odd = _gpt2(config) if family == "gpt2" else _llama(config)
    except KeyError as error:
        raise UserError(
            f"init: {folder / 'config.json'}: expected a value of {error}. It is missing."
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"init: {folder / 'config.json'}: expected the settings of a {family}. Received:"
            f" {error}. Get the file again."
        ) from error
    if odd:
        raise UserError(
            f"init: {folder} is a {family} of a kind that GPT has no settings for "
            "(its activation, biases, head width, or scaling of attention or rope)."
        )
    return family, values


def _gpt2(config: dict) -> tuple[dict, bool]:
    """A GPT-2's settings of GPT, and whether it has others that GPT knows nothing of."""
    values = {"positions": "learned", "normalization": "layer", "activation": "gelu"}
    values |= {"bias": True, "qk_norm": False}
    sizes = {"width": "n_embd", "depth": "n_layer", "heads": "n_head", "kv_heads": "n_head"}
    values |= {ours: _positive(config, theirs) for ours, theirs in sizes.items()}
    usual = config.get("n_inner") is None
    values["hidden"] = 4 * values["width"] if usual else _positive(config, "n_inner")
    values["epsilon"] = _positive(config, "layer_norm_epsilon", float)
    values["tied"] = config.get("tie_word_embeddings", True)
    odd = config.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh")
    odd = odd or not config.get("scale_attn_weights", True)
    odd = odd or config.get("scale_attn_by_inverse_layer_idx", False)
    return values, odd


def _llama(config: dict) -> tuple[dict, bool]:
    """A Llama's settings of GPT, and whether it has others that GPT knows nothing of."""
    values = {"positions": "rope", "normalization": "rms", "activation": "swiglu"}
    values |= {"bias": False, "qk_norm": False}
    sizes = {"width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads"}
    sizes["hidden"] = "intermediate_size"
    values |= {ours: _positive(config, theirs) for ours, theirs in sizes.items()}
    grouped = config.get("num_key_value_heads") is not None
    values["kv_heads"] = _positive(config, "num_key_value_heads") if grouped else values["heads"]
    values["epsilon"] = _positive(config, "rms_norm_eps", float)
    values["tied"] = config.get("tie_word_embeddings", False)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = {"rope_theta": rope.get("rope_theta") or config.get("rope_theta") or 10_000.0}
    values["rope_base"] = _positive(base, "rope_theta", float)
    odd = config.get("hidden_act") != "silu"
    odd = odd or config.get("attention_bias") or config.get("mlp_bias")
    odd = odd or rope.get("rope_type", rope.get("type", "default")) != "default"
    odd = odd or config.get("head_dim") not in (None, values["width"] // values["heads"])
    return values, bool(odd)


def _positive(config: dict, name: str, kind: type = int) -> int | float:
    """A number above 0 under this name."""
    value = config[name]
    numeric = isinstance(value, (int, kind)) and not isinstance(value, bool)
    if not numeric or not 0 < value <= LARGEST:
        raise ValueError(f"{name}={value!r}")
    return kind(value)


def preset(name: str) -> tuple[str, dict, dict[str, np.ndarray]]:
    """A KerasHub preset's family, settings and tensors."""
    backbone = _keras_hub.backbone(name, tuple(HUB_FAMILIES))
    family = HUB_FAMILIES[type(backbone).__name__]
    return family, _hub_settings(name, family, backbone), _keras_hub.arrays(backbone)


def _hub_settings(name: str, family: str, backbone) -> dict:
    """A KerasHub backbone's settings of GPT."""
    config = backbone.get_config()
    sizes = {
        "width": config["hidden_dim"],
        "depth": config["num_layers"],
        "hidden": config["intermediate_dim"],
        "qk_norm": False,
    }
    if family == "hub_gpt2":
        return {
            **sizes,
            "positions": "learned",
            "normalization": "layer",
            "activation": "gelu",
            "bias": True,
            "tied": True,
            "epsilon": 1e-5,
            "heads": config["num_heads"],
            "kv_heads": config["num_heads"],
        }
    if (
        config.get("rope_frequency_adjustment_factor") is not None
        or config.get("rope_position_scaling_factor", 1.0) != 1.0
    ):
        raise UserError(f"init: {name} scales its rope, for which GPT has no settings.")
    paths = [weight.path for weight in backbone.weights]
    return {
        **sizes,
        "positions": "rope",
        "normalization": "rms",
        "activation": "swiglu",
        "bias": False,
        "epsilon": config["layer_norm_epsilon"],
        "heads": config["num_query_heads"],
        "kv_heads": config["num_key_value_heads"],
        "rope_base": float(config["rope_max_wavelength"]),
        "tied": not any(path.endswith("reverse_embeddings") for path in paths),
    }


def load(config, model, path: str) -> None:
    """Loads pretrained weights into a built model.

    Args:
        config: the GPT it was built by.
        model: tokens to logits.
        path: the checkpoint's folder, or "hub:" and a KerasHub preset.

    Raises:
        UserError: it is of another family, shape or settings; no weight was changed.
    """
    if path.startswith(_keras_hub.PREFIX):
        family, required, stored = preset(path.removeprefix(_keras_hub.PREFIX))
    else:
        family, required = settings(Path(path).expanduser())
        stored = _hugging_face.tensors(Path(path).expanduser())
    have = {
        "hidden": round(8 / 3 * config.width) if config.activation == "swiglu" else 4 * config.width
    }
    have["kv_heads"] = (
        required["heads"] if required["kv_heads"] == required["heads"] else config.heads
    )
    ours = {
        name: getattr(config, name) if getattr(config, name) is not None else have.get(name)
        for name in required
    }
    wrong = [f"model.{name}={value}" for name, value in required.items() if ours[name] != value]
    if wrong:
        missing_settings = " ".join(wrong).replace("True", "true").replace("False", "false")
        raise UserError(
            f"init: {path} was made with other settings than the model. Give {missing_settings}."
        )
    values, used = {}, set()
    for variable in model.variables:
        name = "/".join(variable.path.split("/")[-2:])
        if "seed" in name:
            continue
        value = _value(family, name, stored, path, used)
        if name == "position/embeddings" and len(value) >= variable.shape[0]:
            value = value[: variable.shape[0]]  # a shorter context needs fewer
        if value.shape != tuple(variable.shape):
            cause = (
                "data.context is longer than what it knows"
                if name.startswith("position")
                else "is the vocabulary another one?"
            )
            raise UserError(
                f"init: {path}: {name} is {list(value.shape)}, expected {list(variable.shape)};"
                f" {cause}"
            )
        if not np.isfinite(value).all():
            numbers = "NaN, or numbers too large for float32"
            raise UserError(f"init: {path}: {name} holds {numbers}. Get the checkpoint again.")
        values[variable.path] = (variable, value)
    _refuse_left_over(path, stored.keys() - used)
    for variable, value in values.values():
        variable.assign(value)


def _refuse_left_over(path: str, names: set[str]) -> None:
    """Refuses blocks with weights that GPT has no place for, without which outputs would differ."""
    blocks = (name for name in names if name.startswith(("h.", "layers.")))
    unknown = sorted(name for name in blocks if not BUFFERS.fullmatch(name))
    if unknown:
        named = ", ".join(unknown[:3]) + (
            f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        )
        raise UserError(
            f"init: {path}: expected blocks of a GPT-2 or Llama. Received: tensors that those do"
            f" not have, {named}. It is of another kind."
        )


def _value(family: str, name: str, stored: dict, path: str, used: set[str]) -> np.ndarray:
    """The value of a variable of ours, float32.

    The names of the tensors that it is made of are added to `used`.
    """
    number = name.split("_")[1] if name.startswith("block_") else ""
    row = TABLE[family].get(name.replace(f"block_{number}_", "block_{i}_", 1) if number else name)
    if row is None:
        raise UserError(f"init: {path}: {family} has nothing for {name}.")
    turned = row[-1] == "T"
    parts = []
    for theirs in (key.format(i=int(number) - 1 if number else "") for key in row if key != "T"):
        if theirs not in stored:
            raise UserError(
                f"init: {path}: expected a tensor {theirs} (for {name}). It is missing."
            )
        value = stored[theirs]
        if value.dtype.name not in _hugging_face.FLOATS:
            kinds = ", ".join(_hugging_face.FLOATS)
            raise UserError(
                f"init: {path}: expected {theirs} in one of {kinds}. Received: {value.dtype.name}."
            )
        if value.ndim not in (1, 2):
            raise UserError(
                f"init: {path}: expected {theirs} with 1 or 2 axes. Received: {list(value.shape)}."
            )
        parts.append(value.T if turned else value)
        used.add(theirs)
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            return np.concatenate(parts, axis=-1).astype(np.float32)
    except ValueError as error:
        shapes = " and ".join(str(list(value.shape)) for value in parts)
        expected = f"tensors that fit side by side for {name}"
        raise UserError(f"init: {path}: expected {expected}. Received: {shapes}.") from error
