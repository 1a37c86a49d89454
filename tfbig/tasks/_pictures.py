"""Pictures as a user gives them: files, folders, .npy arrays, stdin."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.data._folders import files_inside
from tfbig.data._images import SUFFIXES, reason

TRACED_FROM = 40  # files that are worth the second that a graph for all of them takes to make
FOUND = (*SUFFIXES, ".npy")  # what is looked for in folders
# Pictures too, and named as unreadable
REFUSED = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".tif", ".tiff", ".webp")


def gather(inputs, task: Task) -> tuple[list[str], np.ndarray, list[dict]]:
    """The pictures that `inputs` mean, as names and uint8 [n, height, width, channels], and what is
    wrong with other files.

    Args:
        inputs: paths of pictures, folders or .npy files, "-" for stdin, or an array uint8 [n,
            height, width, channels].
        task: its `decode` and its data's `spec` say what a picture is.

    Returns:
        The names, the pictures, and [{"input", "error"}] of the files among several that cannot be
        read.

    Raises:
        UserError: there is but one file and it cannot be read.
    """
    shape = task.data.spec["image"].shape
    if is_array(inputs):
        pictures = _pictures(np.asarray(inputs), task, "array")
        return [str(i) for i in range(len(pictures))], pictures, []
    sources, refused = find(inputs)
    found, decode = [], decoder(task, len(sources))
    for source in sources:
        try:
            found += read(source, task, decode)
        except UserError as error:
            if len(sources) + len(refused) == 1:
                raise
            refused.append({"input": str(source), "error": str(error)})
    return (
        [name for name, _ in found],
        np.stack([picture for _, picture in found]) if found else np.empty((0, *shape), np.uint8),
        refused,
    )


def is_array(inputs) -> bool:
    return not isinstance(inputs, (str, Path)) and hasattr(inputs, "shape")


def find(inputs) -> tuple[list[Path], list[dict]]:
    """The files that a path or several mean, and [{"input", "error"}] of paths among several that
    mean none.

    Folders are searched for pictures.

    Raises:
        UserError: no path means a file, or something else than paths was given.
    """
    try:
        paths = [Path(path) for path in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    except TypeError as error:
        expected = (
            "paths of pictures, of folders or of .npy files, or an array uint8 [n, height, width,"
            " channels]"
        )
        raise UserError(
            f"inputs: expected {expected}. Received: {str(inputs)[:100]} ({type(inputs).__name__})."
        ) from error
    files, refused = [], []
    for path in paths:
        try:
            files += _files(path)
        except UserError as error:
            refused.append({"input": str(path), "error": str(error)})
    if refused and not files:
        raise UserError("\n".join(entry["error"] for entry in refused))
    return files, refused


def _files(path: Path) -> list[Path]:
    if str(path) == "-" or path.is_file() or path.is_fifo():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder.")
    inside = [file for file in files_inside(path) if file.suffix.lower() in (*FOUND, *REFUSED)]
    if not inside:
        raise UserError(f"{path}: holds no picture. Expected files ending in {', '.join(FOUND)}.")
    return inside


def decoder(task: Task, files: int):
    """The task's `decode` of one encoded picture, quick for so many files.

    Bytes to uint8 [height, width, channels].
    """

    def plain(encoded):
        return task.decode({"image_bytes": encoded})["image"]

    graph = (
        tf.function(plain, input_signature=[tf.TensorSpec([None], tf.string)])
        if files >= TRACED_FROM
        else plain
    )
    return lambda content: graph(tf.constant([content])).numpy()[0]


def read(path: Path, task: Task, decode) -> list[tuple[str, np.ndarray]]:
    """The pictures of one file (or of stdin for "-") as (name, uint8 [height, width, channels]).

    `decode` from `decoder`.
    """
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    if content[:6] == b"\x93NUMPY":
        try:
            array = np.load(io.BytesIO(content), allow_pickle=False)
        except Exception as error:  # a header is read as Python, which has many errors of its own
            raise UserError(f"{path}: is no whole .npy file: {str(error)[:200]}.") from error
        pictures = _pictures(array, task, str(path))
        return [
            (f"{path}[{i}]" if len(pictures) > 1 else str(path), picture)
            for i, picture in enumerate(pictures)
        ]
    try:
        return [(str(path), decode(content))]
    except tf.errors.OpError as error:
        expected = "is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy"
        raise UserError(f"{path}: {expected}. Found: {reason(error)}") from error


def _pictures(array: np.ndarray, task, name: str) -> np.ndarray:
    """An array as uint8 [n, height, width, channels] of the model's own size."""
    height, width, channels = task.data.spec["image"].shape
    shaped = array[None] if array.shape in ((height, width), (height, width, channels)) else array
    shaped = shaped[..., None] if channels == 1 and shaped.shape[1:] == (height, width) else shaped
    if array.dtype != np.uint8 or shaped.shape[1:] != (height, width, channels) or not len(shaped):
        expected = f"uint8 [n, {height}, {width}, {channels}] with at least one picture"
        raise UserError(
            f"{name}: expected {expected}. Received: {array.dtype} {list(array.shape)}."
        )
    return shaped
