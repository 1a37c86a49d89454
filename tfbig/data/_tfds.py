"""TensorFlow Datasets: prepared ones are opened, absent ones downloaded, and without a network that is said at once."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from pathlib import Path

from tfbig.core.errors import NoData
from tfbig.core.lazy import load, tf

REACH = (("storage.googleapis.com", 443), ("github.com", 443))
PATIENCE_S = 2.0


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
    """The folder of a dataset's newest prepared version; None: it is absent, but can be downloaded. Looked for without TensorFlow.

    Raises:
        NoData: it is neither prepared nor can it be downloaded.
    """
    where = folder()
    if os.environ.get("TFDS_DATA_DIR") and not where.is_dir():
        raise NoData(f"TFDS_DATA_DIR: expected a folder of prepared datasets. Received: {where}, which does not exist.")
    prepared = _newest(where / name)
    if prepared is not None:
        return prepared
    import tensorflow_datasets as tfds

    try:
        tfds.builder_cls(name)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:  # the latter: no name that it could have
        raise NoData(f"data: TensorFlow Datasets knows no dataset {name!r}, and {where} holds none.") from error
    if not online():
        raise NoData(
            f"data: {name} is not in {where}, and there is no network to download it. On a machine with network run\n"
            f"  {_command(name, random_access)}\nthen copy ~/tensorflow_datasets here and set TFDS_DATA_DIR to the copy."
        )
    return None


def _command(name: str, random_access: bool) -> str:
    recipe = f"tfds.builder('{name}'{', file_format=' + repr('array_record') if random_access else ''}).download_and_prepare()"
    return f'python -c "import tensorflow_datasets as tfds; {recipe}"'


def open_builder(name: str, *, random_access: bool = False):
    """The builder of a dataset that is ready to be read; downloads and prepares it if need be and possible.

    Args:
        name: TensorFlow Datasets' name, such as "cifar10" or "imagenet2012".
        random_access: whether it must be stored as ArrayRecord, which can be read at any position.

    Raises:
        NoData: it is not prepared and cannot be downloaded, or it is stored in a way that has no random access.
    """
    import tensorflow_datasets as tfds

    where, prepared = folder(), find(name, random_access=random_access)
    if prepared is not None:
        load()  # quietly, before it is imported from elsewhere
        try:
            builder = tfds.builder_from_directory(prepared)
        except Exception as error:  # protobuf, JSON and assertions: whatever a damaged description may raise
            raise NoData(f"data: {prepared} cannot be opened: {_reason(error)}\nDelete that folder and prepare it again.") from error
        if builder.name != name:
            raise NoData(f"data: expected {name} in {prepared}. Found: {builder.name}.")
        return _with_access(builder, name, where) if random_access else builder
    print(f"{name}: downloading and preparing, once, into {where}", file=sys.stderr)
    try:
        load()
        builder = tfds.builder(name, data_dir=where, **({"file_format": "array_record"} if random_access else {}))
        builder.download_and_prepare()
    except Exception as error:  # whatever a download, a checksum or a disk may raise
        raise NoData(f"data: {name} could not be prepared in {where}: {error}\nTry again, or run\n  {_command(name, random_access)}") from error
    return builder


def _reason(error: Exception) -> str:
    """The first line of a library's message, without its inner names."""
    return re.sub(r"\{\{.*?\}\} *| *\[Op:.*", "", str(error).strip().partition("\n")[0])


def _newest(base: Path) -> Path | None:
    """The folder of a dataset's newest prepared version: NAME/1.2.3 or NAME/CONFIG/1.2.3."""
    found = [path.parent for pattern in ("*", "*/*") for path in base.glob(f"{pattern}/dataset_info.json")]
    found = [path for path in found if all(part.isdigit() for part in path.name.split("."))]
    return max(found, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _with_access(builder, name: str, where: Path):
    if str(builder.info.file_format.value) != "array_record":
        raise NoData(
            f"data: {name} in {where} is stored as {builder.info.file_format.value}; random access needs array_record. Convert it with\n"
            f"  tfds convert_format --dataset_dir {builder.data_dir} --out_file_format array_record"
        )
    return builder


def read_all(name: str, part: str) -> dict:
    """A small dataset's whole part as arrays, in the order it is stored in: name -> [n, ...]."""
    import tensorflow_datasets as tfds

    builder = open_builder(name)
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    try:
        batch = builder.as_dataset(split=part, batch_size=-1, shuffle_files=False, read_config=config)
    except (AssertionError, OSError, ValueError, tf.errors.OpError) as error:
        raise NoData(f"data: {name} in {builder.data_dir} cannot be read: {_reason(error)}\nDelete that folder and prepare it again.") from error
    return {key: value.numpy() for key, value in batch.items() if hasattr(value, "numpy")}
