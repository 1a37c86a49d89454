"""Where prepared TensorFlow Datasets lie, and what to do about absent ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from pathlib import Path

from tfbig.core.errors import NoData

REACH = (("storage.googleapis.com", 443), ("github.com", 443))


PATIENCE_S = 2.0


NAME = re.compile(r"\w+(/\w[\w.+=@-]*)?", re.ASCII)  # of a dataset, and of its configuration


def folder() -> Path:
    """Where prepared datasets are looked for and written to."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def online() -> bool:
    """Whether any of the usual download hosts answers."""
    for address in REACH:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=PATIENCE_S):
            return True
    return False


def find(name: str, *, random_access: bool = False) -> Path | None:
    """The folder of a dataset's newest prepared version; None: it is absent, but can be downloaded.

    TensorFlow is not needed to look for it.

    Args:
        name: TensorFlow Datasets' name, such as "cifar10", or name/configuration, such as
            "imagenet_resized/64x64"; a name alone means its default configuration.
        random_access: whether it must be stored as ArrayRecord or TFRecord.

    Raises:
        NoData: it is neither prepared nor can it be downloaded, or configurations are and none is
            meant.
    """
    root = folder()
    if os.environ.get("TFDS_DATA_DIR") and not root.is_dir():
        received = f"{root}, which does not exist"
        raise NoData(
            f"TFDS_DATA_DIR: expected a folder of prepared datasets. Received: {received}."
        )
    base, _, config = name.partition("/")
    unknown = f"data: TensorFlow Datasets knows no dataset {name!r}, and {root} holds none."
    if not NAME.fullmatch(name):
        raise NoData(f"{unknown} A name is such as cifar10 or imagenet_resized/64x64.")
    prepared = _newest(root / name) or (None if config else _default(root / base))
    if prepared is not None:
        return prepared
    import tensorflow_datasets as tfds

    try:
        configs = tuple(tfds.builder_cls(base).builder_configs)
    except (
        tfds.core.registered.DatasetNotFoundError,
        ValueError,
    ) as error:  # no name it could have
        raise NoData(f"{unknown}{_prepared_configs(root / base)}") from error
    if config and config not in configs:
        known = (
            f"Its configurations: {', '.join(configs)}."
            if configs
            else f"{base} has no configurations."
        )
        raise NoData(f"{unknown} {known}")
    if not online():
        raise NoData(
            f"data: {name} is not in {root}, and there is no network to download it. On a machine"
            f" with network run\n  {command(name, random_access)}\nthen copy ~/tensorflow_datasets"
            " here and set TFDS_DATA_DIR to the copy."
        )
    return None


def _newest(base: Path) -> Path | None:
    """The newest version prepared in a folder: BASE/1.2.3."""
    versions = [path.parent for path in base.glob("*/dataset_info.json")]
    versions = [path for path in versions if all(part.isdecimal() for part in path.name.split("."))]
    return max(
        versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None
    )


def _configs(base: Path) -> list[str]:
    """The configurations of a dataset that are prepared: BASE/CONFIGURATION/1.2.3."""
    inside = sorted(base.iterdir()) if base.is_dir() else []
    return [path.name for path in inside if not path.name.startswith(".") and _newest(path)]


def _prepared_configs(base: Path) -> str:
    configs = _configs(base)
    return f" Prepared configurations of {base.name}: {', '.join(configs)}." if configs else ""


def _default(base: Path) -> Path | None:
    """The newest version of the default configuration; None: no configuration is prepared.

    Raises:
        NoData: others are, or the default one is not known.
    """
    configs = _configs(base)
    if not configs:
        return None
    default = _default_config(base)
    if default in configs:
        return _newest(base / default)
    known = f"{default}, which is not prepared" if default else "not known"
    raise NoData(
        f"data: expected the configuration of {base.name} by name, since its default one is"
        f" {known}.{_prepared_configs(base)} Give one, such as {base.name}/{configs[0]}."
    )


def _default_config(base: Path) -> str | None:
    """The name of a dataset's default configuration.

    As noted when it was prepared, else the library's.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        noted = json.loads((base / ".config" / "metadata.json").read_text("utf-8")).get(
            "default_config_name"
        )
        if isinstance(noted, str):
            return noted
    import tensorflow_datasets as tfds

    try:
        default = tfds.builder_cls(base.name).default_builder_config
    except (tfds.core.registered.DatasetNotFoundError, ValueError):  # a dataset of the user's own
        return None
    return default.name if default else None


def command(name: str, random_access: bool) -> str:
    form = ", file_format='array_record'" if random_access else ""
    recipe = f"tfds.builder('{name}'{form}).download_and_prepare()"
    return f'python -c "import tensorflow_datasets as tfds; {recipe}"'
