"""TensorFlow Datasets: prepared ones are opened, absent ones downloaded.

Without a network, an absent one is reported at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tfbig.core.errors import NoData, UserError
from tfbig.core.files import digests
from tfbig.core.lazy import load, np
from tfbig.data._tfds_folders import command, find, folder

# In features.json, today and before; protobuf's JSON takes a field by both of its names
CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
OWN_CLASS = re.compile(r"tensorflow_datasets(\.\w+)+", re.ASCII)


def open_builder(name: str, *, random_access: bool = False):
    """The builder of a dataset that is ready to be read.

    Downloads and prepares it if need be and possible.

    Args:
        name: TensorFlow Datasets' name, such as "cifar10" or "imagenet2012".
        random_access: whether it must be stored so that it can be read at any position: as
            ArrayRecord or TFRecord. Downloaded, it is prepared as the former.

    Raises:
        NoData: it is not prepared and cannot be downloaded, or it is stored in a way that has no
            random access.
    """
    import tensorflow_datasets as tfds

    root = folder()
    prepared = find(name, random_access=random_access)
    if prepared is not None:
        _refuse_foreign_classes(prepared)
        load()  # quietly, before it is imported from elsewhere
        try:
            builder = tfds.builder_from_directory(prepared)
        except Exception as error:  # whatever a damaged description may raise
            raise damaged(f"{prepared} cannot be opened: {reason(error)}") from error
        stored = prepared.relative_to(root).parent.as_posix()
        described = "/".join(filter(None, (builder.name, builder.info.config_name)))
        if described != stored:
            raise NoData(f"data: expected {stored} in {prepared}. Found: {described}.")
        return _with_access(builder, name, root) if random_access else builder
    print(f"{name}: downloading and preparing, once, into {root}", file=sys.stderr)
    try:
        load()
        builder = tfds.builder(
            name, data_dir=root, **({"file_format": "array_record"} if random_access else {})
        )
        builder.download_and_prepare()
    except Exception as error:  # whatever a download, a checksum or a disk may raise
        raise NoData(
            f"data: {name} could not be prepared in {root}: {error}\nTry again, or run\n "
            f" {command(name, random_access)}"
        ) from error
    return builder


def reason(error: Exception) -> str:
    """The first line of a library's message, without its inner names."""
    return re.sub(r"\{\{.*?\}\} *| *\[Op:.*", "", str(error).strip().partition("\n")[0])


def damaged(what: str) -> NoData:
    return NoData(f"data: {what}\nDelete that folder and prepare it again.")


def _refuse_foreign_classes(prepared: Path) -> None:
    """Refuses features of classes that are not TensorFlow Datasets' own.

    The library imports the module of whatever class features.json names: code of whoever made the
    folder.
    """
    path = prepared / "features.json"
    try:
        features = json.loads(path.read_text("utf-8"))
        classes = list(_classes(features))
    except FileNotFoundError:  # said by the library
        return
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(f"{path} cannot be read: {error}") from error
    foreign = next((name for name in classes if not OWN_CLASS.fullmatch(name)), None)
    if foreign is not None:
        raise NoData(
            f"data: {path}: expected features of TensorFlow Datasets' own classes, since nothing"
            f" that a folder names is run. Received: {foreign[:100]!r}. Prepare the dataset with"
            " those."
        )


def _classes(features) -> Iterator[str]:
    """The names of the classes in a features.json, wherever they stand.

    Texts are looked into as well: the library reads some of them as JSON.
    """
    if isinstance(features, str) and features.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(json.JSONDecodeError):
            features = json.loads(features)
    if isinstance(features, dict):
        yield from (features[key] for key in CLASS_KEYS if isinstance(features.get(key), str))
        features = list(features.values())
    for value in features if isinstance(features, list) else ():
        yield from _classes(value)


def stored_as(builder) -> str:
    """The file format of a dataset, such as array_record."""
    return str(builder.info.file_format.value)


def described(builder) -> list[str]:
    """Lines about a prepared dataset: its version, and the sizes of its parts."""
    parts = sorted(builder.info.splits.items())
    sizes = [f"{name} {part.num_examples} {part.num_bytes}" for name, part in parts]
    return [builder.info.full_name, *sizes]


def contents(builder) -> list[str]:
    """Lines that change when anything in a dataset's files does; they are read for it."""
    files = [path for part in sorted(builder.info.splits) for path in files_of(builder, part)]
    return [*described(builder), *digests(files)]


def files_of(builder, part: str) -> list[Path]:
    """The files of a part, all of which are in the dataset's folder."""
    base = Path(builder.data_dir)
    paths = [Path(os.path.normpath(file)) for file in builder.info.splits[part].filepaths]
    for path in paths:
        if path.parent != base:
            raise damaged(f"{base}: expected the files of {part} inside. Received: {path}.")
    return paths


def check_parts(info, named: dict[str, str]) -> None:
    """Refuses parts that a dataset does not have, and one that two splits would share.

    Args:
        info: of the dataset.
        named: split -> published part; empty: it is cut from train.

    Raises:
        UserError: a part is absent, or named twice.
    """
    split_of: dict[str, str] = {}
    for split, part in named.items():
        if not part:
            continue
        if part not in info.splits and split == "train":
            raise UserError(
                f"data.builder: expected a dataset with a part {part}. Received: {info.full_name},"
                f" which has {', '.join(info.splits)}."
            )
        if part not in info.splits:
            known = ", ".join(info.splits)
            raise UserError(f"data.{split}_part: expected one of {known}. Received: {part!r}.")
        if part in split_of:
            raise UserError(
                f"data.{split}_part: expected another part than that of the {split_of[part]} split."
                f" Received: {part!r} for both."
            )
        split_of[part] = split


def check_labels(labels: np.ndarray, names: tuple[str, ...], what: str) -> None:
    """Refuses labels beyond the classes that a dataset names."""
    highest = int(np.max(labels, initial=-1))
    if highest >= len(names):
        raise damaged(
            f"{what}: expected labels 0 ... {len(names) - 1}, as {len(names)} classes are named."
            f" Received: {highest}."
        )


@contextlib.contextmanager
def reading(builder) -> Iterator[None]:
    """A context in which whatever a damaged description or file may raise is one message."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        name = builder.info.full_name
        raise damaged(f"{name} in {builder.data_dir} cannot be read: {reason(error)}") from error


def _with_access(builder, name: str, where: Path):
    if stored_as(builder) not in ("array_record", "tfrecord"):
        raise NoData(
            f"data: {name} in {where} is stored as {stored_as(builder)}; random access needs"
            " array_record or tfrecord. Convert it with\n  tfds convert_format --dataset_dir"
            f" {builder.data_dir} --out_file_format array_record"
        )
    return builder


def prepare_made_up(
    name: str,
    where: Path,
    features: dict,
    parts: dict[str, list[dict]],
    *,
    random_access: bool = False,
) -> None:
    """Writes a made-up dataset of this name as TensorFlow Datasets prepares those it knows.

    Args:
        name: of the dataset.
        where: the folder of prepared datasets.
        features: name -> feature of TensorFlow Datasets.
        parts: name -> examples, each name -> value.
        random_access: whether it is stored as ArrayRecord.
    """
    import tensorflow_datasets as tfds

    class MadeUp(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = where

        def _info(self):
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {part: self._generate_examples(rows) for part, rows in parts.items()}

        def _generate_examples(self, rows):
            yield from enumerate(rows)

    MadeUp.name = name
    file_format = "array_record" if random_access else "tfrecord"
    MadeUp(data_dir=where, file_format=file_format).download_and_prepare()


def read_all(name: str, part: str) -> dict:
    """A small dataset's whole part as arrays, in the order it is stored in: name -> [n, ...]."""
    import tensorflow_datasets as tfds

    builder = open_builder(name)
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    with reading(builder):
        batch = builder.as_dataset(
            split=part, batch_size=-1, shuffle_files=False, read_config=config
        )
    return {key: value.numpy() for key, value in batch.items() if hasattr(value, "numpy")}


def read_labelled(
    name: str, part: str, shape: tuple[int, ...], classes: int
) -> dict[str, np.ndarray]:
    """A small labelled set's pictures, uint8 [n, *shape], and labels, int32 [n].

    Args:
        name: of the dataset.
        part: of it.
        shape: [n, height, width, channels] as published.
        classes: labels are 0 ... classes - 1.

    Raises:
        NoData: it holds something else.
    """
    arrays = read_all(name, part)
    image, label = (arrays.get(key, np.empty(0)) for key in ("image", "label"))
    right = image.shape == shape and image.dtype == np.uint8
    right = right and label.shape == shape[:1] and label.dtype.kind in "iu"
    if not right or label.min() < 0 or label.max() >= classes:
        expected = f"image uint8 {list(shape)}, label 0 ... {classes - 1}"
        received = (
            f"image {image.dtype} {list(image.shape)}, label {label.dtype} {list(label.shape)}"
        )
        raise damaged(f"{name} in {folder()}: expected in {part} {expected}. Received: {received}.")
    return {"image": image, "label": label.astype(np.int32)}
