"""Pictures as a user gives them: files, folders, .npy arrays, stdin."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.data._images import SUFFIXES, pictures_inside
from tfbig.prep import image as prep

FORMATS = ("JPEG", "MPO", "PNG", "BMP", "GIF")  # Pillow's names; an MPO is a camera's JPEG of several pictures
TRACED_FROM = 40  # files that are worth the second that a graph for all of them takes to make
FOUND = (*SUFFIXES, ".npy")  # what is looked for in folders


def gather(inputs, task: Task) -> tuple[list[str], np.ndarray, list[dict]]:
    """The pictures that `inputs` mean, as names and uint8 [n, height, width, channels], and what is wrong with other files.

    Args:
        inputs: paths of pictures, folders or .npy files, "-" for stdin, or an array uint8 [n, height, width, channels].
        task: its `decode` and its data's `spec` say what a picture is.

    Returns:
        The names, the pictures, and [{"input", "error"}] of the files among several that cannot be read.

    Raises:
        UserError: there is but one file and it cannot be read, or a path leads to no file.
    """
    shape = task.data.spec["image"].shape
    if is_array(inputs):
        pictures = _pictures(np.asarray(inputs), task, "array")
        return [str(i) for i in range(len(pictures))], pictures, []
    sources, found, refused = find(inputs), [], []
    decode = decoder(task, len(sources))
    for source in sources:
        try:
            found += read(source, task, decode)
        except UserError as error:
            if len(sources) == 1:
                raise
            refused.append({"input": str(source), "error": str(error)})
    return [name for name, _ in found], np.stack([picture for _, picture in found]) if found else np.empty((0, *shape), np.uint8), refused


def is_array(inputs) -> bool:
    return not isinstance(inputs, (str, Path)) and hasattr(inputs, "shape")


def find(inputs) -> list[Path]:
    """The files that a path or several mean; folders are searched for pictures."""
    try:
        paths = [Path(path) for path in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    except TypeError as error:
        expected = "paths of pictures, of folders or of .npy files, or an array uint8 [n, height, width, channels]"
        raise UserError(f"inputs: expected {expected}. Received: {str(inputs)[:100]} ({type(inputs).__name__}).") from error
    found = []
    for path in paths:
        if str(path) == "-" or path.is_file() or path.is_fifo():
            found.append(path)
        elif path.is_dir():
            inside = [file for file in pictures_inside(path, FOUND) if not file.is_dir()]
            if not inside:
                raise UserError(f"{path}: holds no picture. Expected files ending in {', '.join(FOUND)}.")
            found += inside
        else:
            raise UserError(f"{path}: no such file or folder.")
    return found


def decoder(task: Task, files: int):
    """The task's `decode` of one encoded picture, quick for so many files: bytes to uint8 [height, width, channels]."""
    plain = lambda encoded: task.decode({"image_bytes": encoded})["image"]  # noqa: E731
    graph = tf.function(plain, input_signature=[tf.TensorSpec([None], tf.string)]) if files >= TRACED_FROM else plain

    def decode(content: bytes) -> np.ndarray:
        try:
            return graph(tf.constant([content])).numpy()[0]
        except tf.errors.OpError:
            return plain(tf.constant([content])).numpy()[0]  # what is wrong is said in plainer words without a graph

    return decode


def read(path: Path, task: Task, decode) -> list[tuple[str, np.ndarray]]:
    """The pictures of one file (or of stdin for "-") as (name, uint8 [height, width, channels]); `decode` from `decoder`."""
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    if content[:6] == b"\x93NUMPY":
        try:
            array = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise UserError(f"{path}: is no whole .npy file: {error}.") from error
        pictures = _pictures(array, task, str(path))
        return [(f"{path}[{i}]" if len(pictures) > 1 else str(path), picture) for i, picture in enumerate(pictures)]
    try:
        check(content)
        picture = decode(as_decoded(content))
    except (tf.errors.OpError, OSError, SyntaxError, ValueError) as error:
        reason = str(error).strip().split("\n")[-1][:200]
        raise UserError(f"{path}: is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy. Found: {reason}") from error
    return [(str(path), picture)]


def check(content: bytes) -> None:
    """Raises an error for a damaged picture; TensorFlow's own decoder fills up a torn one without a word.

    Raises:
        OSError, SyntaxError: it is damaged.
        ValueError: it is no picture, or one that TensorFlow cannot decode.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise ValueError("it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as picture:
                if picture.format not in FORMATS:
                    raise ValueError(f"it is {picture.format}, whatever its name says")
                if picture.mode == "CMYK":
                    raise ValueError("its colours are CMYK; save it as RGB or grey")
                if picture.width * picture.height > prep.MOST_PIXELS:
                    raise ValueError(f"it has more than {prep.MOST_PIXELS:,} pixels")
                picture.load()
    except UnidentifiedImageError as error:
        raise ValueError("it is none of these") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error


def as_decoded(content: bytes) -> bytes:
    """A BMP as a PNG that shows what training sees of it, for TensorFlow decodes only plain ones; other formats as they are."""
    from PIL import Image

    if not content.startswith(b"BM"):
        return content
    picture, buffer = Image.open(io.BytesIO(content)), io.BytesIO()
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture.convert("RGBA"))
    picture.convert("RGB").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _pictures(array: np.ndarray, task, name: str) -> np.ndarray:
    """An array as uint8 [n, height, width, channels] of the model's own size."""
    height, width, channels = task.data.spec["image"].shape
    shaped = array[None] if array.shape in ((height, width), (height, width, channels)) else array
    shaped = shaped[..., None] if channels == 1 and shaped.shape[1:] == (height, width) else shaped
    if array.dtype != np.uint8 or shaped.shape[1:] != (height, width, channels) or not len(shaped):
        expected = f"uint8 [n, {height}, {width}, {channels}] with at least one picture"
        raise UserError(f"{name}: expected {expected}. Received: {array.dtype} {list(array.shape)}.")
    return shaped
