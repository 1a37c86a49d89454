"""Pretrained weights for residual networks: Hugging Face's ResNet, torchvision's and timm's."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.lazy import np
from tfbig.models._pretrained import FLOATS, tensors

PREFIX = "resnet."
COUNT = "num_batches_tracked"  # by PyTorch's normalisation, which nothing here reads
LAYER = re.compile(r"(stem|stage_(\d+)_block_(\d+)_(?:conv_(\d+)|shortcut))(_norm)?")
KINDS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load(model, source: str) -> None:
    """Loads the weights of a residual network into a model that has its layers.

    Pictures should then be normalised as those weights learnt them, with ImageNet's mean and
    deviation; a task that measures its own data's is near to that.

    Args:
        model: a built model; layers that no residual network has, such as heads, stay fresh.
        source: a folder with .safetensors files.

    Raises:
        UserError: it is another kind of network, or of another shape; no weight was changed.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"init: expected a run, or a folder with .safetensors files. Received: {source}."
        )
    stored = {name.removeprefix(PREFIX): value for name, value in tensors(folder).items()}
    of = _hugging_face if "embedder.embedder.convolution.weight" in stored else _torchvision
    values, fresh, used = [], [], set()
    for variable in model.variables:
        layer, _, kind = "/".join(variable.path.split("/")[-2:]).partition("/")
        match = LAYER.fullmatch(layer)
        if match is None:
            fresh.append(layer)
            continue
        name = f"{of(match)}.{KINDS[kind]}"
        values.append((variable, _value(stored, name, variable, source)))
        used.add(name)
    left = sorted(name for name in set(stored) - used if "layer" in name and COUNT not in name)
    if left:
        raise UserError(
            f"init: {source}: expected a residual network like the model's. Received: one that has"
            f" more, such as {left[0]}. See model.depth and model.blocks."
        )
    if fresh:
        names = ", ".join(dict.fromkeys(fresh))
        warnings.warn(f"init: fresh, being no part of {source}: {names}", LeftOut, stacklevel=2)
    for variable, value in values:
        variable.assign(value)


def _hugging_face(match: re.Match) -> str:
    """The module of a layer in Hugging Face's ResNet."""
    _, stage, block, number, norm = match.groups()
    part = "normalization" if norm else "convolution"
    if stage is None:
        return f"embedder.embedder.{part}"
    inside = "shortcut" if number is None else f"layer.{int(number) - 1}"
    return f"encoder.stages.{int(stage) - 1}.layers.{int(block) - 1}.{inside}.{part}"


def _torchvision(match: re.Match) -> str:
    """The module of a layer in torchvision's and timm's resnet."""
    _, stage, block, number, norm = match.groups()
    if stage is None:
        return "bn1" if norm else "conv1"
    inside = f"bn{number}" if norm else f"conv{number}"
    if number is None:
        inside = f"downsample.{1 if norm else 0}"
    return f"layer{stage}.{int(block) - 1}.{inside}"


def _value(stored: dict, name: str, variable, source: str) -> np.ndarray:
    if name not in stored:
        raise UserError(
            f"init: {source}: expected a tensor {name}, as the model has. It is missing. See"
            " model.depth and model.blocks."
        )
    value = stored[name]
    if value.dtype.name not in FLOATS:
        raise UserError(
            f"init: {source}: expected {name} in one of {', '.join(FLOATS)}. Received:"
            f" {value.dtype.name}."
        )
    value = value.astype(np.float32)
    value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    if value.shape != tuple(variable.shape):
        raise UserError(
            f"init: {source}: {name} is {list(value.shape)}, expected {list(variable.shape)}. See"
            " model.width and model.depth."
        )
    if not np.isfinite(value).all():
        raise UserError(f"init: {source}: {name} holds NaN. Get the checkpoint again.")
    return value
