"""Pretrained weights for networks that see: ResNet, ConvNeXt and ViT of Hugging Face and timm.

A residual network of torchvision has timm's names. A table maps a layer of ours, the stage and the
block in it being numbers, to the module that holds its weights elsewhere, where both are counted
from 0.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.lazy import np
from tfbig.models._hugging_face import FLOATS, tensors

COUNT = "num_batches_tracked"  # by PyTorch's normalisation, which nothing here reads
PREFIXES = ("resnet.", "convnext.", "vit.")
NUMBERED = re.compile(r"(stage|smaller|block)_(\d+)(?:_block_(\d+))?")
KINDS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

# {s}: the stage, {b}: the block
RESNET = {
    "stem": "embedder.embedder.convolution",
    "stem_norm": "embedder.embedder.normalization",
    "stage_block_shortcut": "encoder.stages.{s}.layers.{b}.shortcut.convolution",
    "stage_block_shortcut_norm": "encoder.stages.{s}.layers.{b}.shortcut.normalization",
}
TIMM_RESNET = {
    "stem": "conv1",
    "stem_norm": "bn1",
    "stage_block_shortcut": "layer{s1}.{b}.downsample.0",
    "stage_block_shortcut_norm": "layer{s1}.{b}.downsample.1",
}
for _number in (1, 2, 3):
    _layer = f"encoder.stages.{{s}}.layers.{{b}}.layer.{_number - 1}"
    RESNET[f"stage_block_conv_{_number}"] = f"{_layer}.convolution"
    RESNET[f"stage_block_conv_{_number}_norm"] = f"{_layer}.normalization"
    TIMM_RESNET[f"stage_block_conv_{_number}"] = f"layer{{s1}}.{{b}}.conv{_number}"
    TIMM_RESNET[f"stage_block_conv_{_number}_norm"] = f"layer{{s1}}.{{b}}.bn{_number}"
CONVNEXT = {
    "stem": "embeddings.patch_embeddings",
    "stem_norm": "embeddings.layernorm",
    "smaller_norm": "encoder.stages.{s}.downsampling_layer.0",
    "smaller": "encoder.stages.{s}.downsampling_layer.1",
    "stage_block_conv": "encoder.stages.{s}.layers.{b}.dwconv",
    "stage_block_norm": "encoder.stages.{s}.layers.{b}.layernorm",
    "stage_block_hidden": "encoder.stages.{s}.layers.{b}.pwconv1",
    "stage_block_out": "encoder.stages.{s}.layers.{b}.pwconv2",
    "stage_block_scale": "encoder.stages.{s}.layers.{b}.layer_scale_parameter",
    "norm": "layernorm",
}
TIMM_CONVNEXT = {
    "stem": "stem.0",
    "stem_norm": "stem.1",
    "smaller_norm": "stages.{s}.downsample.0",
    "smaller": "stages.{s}.downsample.1",
    "stage_block_conv": "stages.{s}.blocks.{b}.conv_dw",
    "stage_block_norm": "stages.{s}.blocks.{b}.norm",
    "stage_block_hidden": "stages.{s}.blocks.{b}.mlp.fc1",
    "stage_block_out": "stages.{s}.blocks.{b}.mlp.fc2",
    "stage_block_scale": "stages.{s}.blocks.{b}.gamma",
    "norm": "head.norm",
}
# Named as `_fused` leaves them
VIT = {"norm": "layernorm", "patches": "patches"}
TIMM_VIT = {"norm": "norm", "patches": "patches"}
for _ours, _theirs, _timms in (
    ("norm_1", "layernorm_before", "norm1"),
    ("attention_qkv", "attention.qkv", "attn.qkv"),
    ("attention_out", "attention.output.dense", "attn.proj"),
    ("norm_2", "layernorm_after", "norm2"),
    ("hidden", "intermediate.dense", "mlp.fc1"),
    ("out", "output.dense", "mlp.fc2"),
):
    VIT[f"block_{_ours}"] = f"encoder.layer.{{s}}.{_theirs}"
    TIMM_VIT[f"block_{_ours}"] = f"blocks.{{s}}.{_timms}"
QUERY = re.compile(r"(.*attention)\.attention\.query\.(weight|bias)")
# Patches' convolution, positions
EMBEDDINGS = (
    ("embeddings.patch_embeddings.projection", "embeddings.position_embeddings"),
    ("patch_embed.proj", "pos_embed"),
)
SCALES = ("layer_scale_parameter", "gamma")  # tensors that stand for themselves


def load(model, source: str, *tables: dict[str, str]) -> None:
    """Loads pretrained weights into a model that has the layers of a table.

    Pictures should then be normalised as those weights learnt them, with ImageNet's mean and
    deviation; a task that measures its own data's is near to that.

    Args:
        model: a built model; layers that no table names, such as heads, stay fresh.
        source: a folder with .safetensors files.
        tables: the one whose first entry the checkpoint has is used.

    Raises:
        UserError: it is another kind of network, or of another shape; no weight was changed.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"init: expected a run, or a folder with .safetensors files. Received: {source}."
        )
    stored = _fused({_short(name): value for name, value in tensors(folder).items()})
    firsts = [f"{next(iter(each.values()))}.weight" for each in tables]
    table = next(
        (each for each, first in zip(tables, firsts, strict=True) if first in stored), None
    )
    if table is None:
        stems = " or ".join(firsts)
        raise UserError(f"init: {source}: expected a tensor {stems}. It is of another kind.")
    values, fresh, used = [], [], set()
    for variable in model.variables:
        layer, _, kind = "/".join(variable.path.split("/")[-2:]).partition("/")
        name = _elsewhere(layer, kind, table)
        if name is None:
            fresh.append(layer)
            continue
        values.append((variable, _value(stored, name, variable, source)))
        used.add(name)
    inside = tuple({name.partition("{")[0] for name in table.values() if "{" in name})
    left = sorted(n for n in set(stored) - used if n.startswith(inside) and COUNT not in n)
    if left:
        raise UserError(
            f"init: {source}: expected a network like the model's. Received: one that has more,"
            f" such as {left[0]}. See the model's size, depth and blocks."
        )
    if fresh:
        names = ", ".join(dict.fromkeys(fresh))
        warnings.warn(f"init: fresh, being no part of {source}: {names}", LeftOut, stacklevel=2)
    for variable, value in values:
        variable.assign(value)


def _short(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _fused(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A Vision Transformer's tensors as ours are; those of other networks as they stand.

    Queries, keys and values are one matrix. The convolution over patches is a matrix, too, and a
    position's bias, with that of the convolution or, at the first place, the class token.
    """
    fused = dict(stored)
    for match in filter(None, map(QUERY.fullmatch, stored)):
        parts = [f"{match[1]}.attention.{part}.{match[2]}" for part in ("query", "key", "value")]
        fused[f"{match[1]}.qkv.{match[2]}"] = np.concatenate([fused.pop(part) for part in parts])
    for convolution, positions in EMBEDDINGS:
        if positions not in fused:
            continue
        weight, bias = (fused.pop(f"{convolution}.{kind}") for kind in ("weight", "bias"))
        fused["patches.weight"] = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
        places = fused.pop(positions)[0].astype(np.float32)
        names = [name for name in fused if name.endswith("cls_token")]
        tokens = [fused.pop(name).reshape(1, -1) for name in names]
        added = np.concatenate([*tokens, np.repeat(bias[None], len(places) - len(tokens), 0)])
        fused["patches.bias"] = (places + added).T  # turned back with all matrices
    return fused


def _elsewhere(layer: str, kind: str, table: dict[str, str]) -> str | None:
    """The tensor that holds a variable of ours; None: none does."""
    match = NUMBERED.match(layer)
    numbers = {}
    if match:
        stage = int(match[2])
        numbers = {"s": stage - 1, "s1": stage, "b": int(match[3] or 1) - 1}
        layer = match[1] + ("_block" if match[3] else "") + layer[match.end() :]
    if layer not in table:
        return None
    module = table[layer].format(**numbers)
    return module if module.endswith(SCALES) else f"{module}.{KINDS[kind]}"


def _value(stored: dict, name: str, variable, source: str) -> np.ndarray:
    if name not in stored:
        raise UserError(
            f"init: {source}: expected a tensor {name}, as the model has. It is missing. See the"
            " model's size, depth and blocks."
        )
    value = stored[name]
    if value.dtype.name not in FLOATS:
        raise UserError(
            f"init: {source}: expected {name} in one of {', '.join(FLOATS)}. Received:"
            f" {value.dtype.name}."
        )
    value = _turned(value.astype(np.float32), tuple(variable.shape))
    if value.shape != tuple(variable.shape):
        raise UserError(
            f"init: {source}: {name} is {list(value.shape)}, expected {list(variable.shape)}. See"
            " the model's size, width and channels."
        )
    if not np.isfinite(value).all():
        raise UserError(f"init: {source}: {name} holds NaN. Get the checkpoint again.")
    return value


def _turned(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor with its axes in Keras's order."""
    if value.ndim == 4:
        is_depthwise = shape[-1] == 1 and value.shape[1] == 1
        return value.transpose(2, 3, 0, 1) if is_depthwise else value.transpose(2, 3, 1, 0)
    return value.T if value.ndim == 2 else value
