"""Checkpoints in Hugging Face's form: a folder of config.json and .safetensors files."""

from __future__ import annotations

import json
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

INDEX = "model.safetensors.index.json"
PREFIXES = ("transformer.", "model.", "")
FLOATS = ("float16", "bfloat16", "float32", "float64")
# AttributeError: of a type that NumPy does not know, such as numbers of 8 bits
_UNREADABLE = (OSError, AttributeError, TypeError, ValueError, MemoryError)


def config(folder: Path, families: tuple[str, ...]) -> dict:
    """What a checkpoint's config.json says, whose model_type is one of these."""
    path = folder / "config.json"
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError(f"{path.name} is no plain file")
        values = dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        expected = "a folder with config.json and .safetensors files"
        raise UserError(f"init: expected {expected}. Received: {folder} ({error}).") from error
    if values.get("model_type") not in families:
        raise UserError(
            f"init: expected a checkpoint of the families {', '.join(families)}. Received:"
            f" {folder}, {values.get('model_type')!r}."
        )
    return values


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint's files, without their families' prefixes, as they are stored.

    Raises:
        UserError: it is not plain which files are meant, one cannot be read, or a name comes twice.
    """
    from safetensors import SafetensorError, safe_open

    stored, sources = {}, {}
    for file, expected in files(folder).items():
        try:
            with safe_open(file, "np") as opened:
                names = list(opened.keys()) if expected is None else expected
                values = {name: opened.get_tensor(name) for name in names}
        except _UNREADABLE + (SafetensorError,) as error:
            raise UserError(f"init: {file} cannot be read: {error}.") from error
        for name, value in values.items():
            prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
            short = name.removeprefix(prefix)
            if short in stored:
                raise UserError(
                    f"init: {folder}: expected one tensor {short}. Received: {sources[short]} and "
                    f"{name} of {file.name}. Leave the one that is meant."
                )
            stored[short], sources[short] = value, name
    return stored


def files(folder: Path) -> dict[Path, list[str] | None]:
    """A checkpoint's files and which tensors to read of each (none: all)."""
    index = folder / INDEX
    whole = folder / "model.safetensors"
    if index.is_file():
        shards = _indexed(index)
        if whole.is_file() and whole not in shards:
            raise UserError(
                f"init: {folder}: expected one checkpoint. Received: two, {whole.name} and the"
                f" files of {INDEX}. Leave the one that is meant."
            )
        return shards
    if whole.is_file():
        return {whole: None}
    others = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not others:
        raise UserError(f"init: expected .safetensors files. Received: {folder}, which holds none.")
    if len(others) > 1:
        names = ", ".join([*(file.name for file in others[:3]), *["..."] * (len(others) > 3)])
        raise UserError(
            f"init: {folder}: expected {whole.name}, or {INDEX} that says which files belong "
            f"together. Received: neither, and {len(others)} .safetensors files ({names}). "
            "Leave one file, or add the index."
        )
    return {others[0]: None}


def _indexed(index: Path) -> dict[Path, list[str] | None]:
    """The tensors of each file that an index names, all of which are there."""
    try:
        places = json.loads(index.read_text("utf-8"))["weight_map"]
        shards: dict[Path, list[str] | None] = {}
        for name, file in places.items():
            if Path(file).name != file:
                raise ValueError(f"{file!r} is no file of this folder")
            shards.setdefault(index.parent / file, []).append(name)
        missing = sorted(file.name for file in shards if not file.is_file())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"init: {index}: expected a JSON object with weight_map, from tensors to files of this "
            f"folder. Received: {type(error).__name__}: {error}. Get the file again."
        ) from error
    if missing or not shards:
        named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"init: {index}: expected the {len(shards)} files that it names. "
            f"Missing: {len(missing)}{f' ({named})' if named else ''}. Get the checkpoint again."
        )
    return shards
