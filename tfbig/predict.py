"""Predict with a run: labels and their probabilities for pictures."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from tfbig.core import cli
from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.core.run import Run

EXAMPLES = """  python -m tfbig.predict runs/mnist_mlp digit.png
  python -m tfbig.predict runs/mnist_mlp folder/ more.npy --top 3 --json
  cat digit.png | python -m tfbig.predict runs/mnist_mlp -

.npy holds uint8 pictures [height, width], [n, height, width] or [n, height, width, channels] of the model's own size."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def predict(run: str | Path | Run, inputs, top: int = 1, step: str | int = "best") -> list[dict]:
    """Labels for pictures.

    Args:
        run: the run directory.
        inputs: paths of pictures, folders or .npy files, or an array uint8 [n, height, width, channels].
        top: labels given for each picture, the most probable first.
        step: "best", "last" or a step that has a checkpoint.

    Returns:
        For each picture {"input", "label", "probability", "top": [[label, probability], ...]}.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    from tfbig.engine import job
    from tfbig.report.console import Console

    if top < 1:
        raise UserError(f"top: expected at least 1. Received: {top}.")
    as_array = not isinstance(inputs, (str, Path)) and hasattr(inputs, "shape")
    sources = None if as_array else find([inputs] if isinstance(inputs, (str, Path)) else list(inputs))
    trained = job.Trained(opened, str(step), Console())
    if "image_bytes" not in trained.task.signature():
        raise UserError(f"{opened.path}: its task takes no pictures.")
    if as_array:
        pictures = [(str(i), picture) for i, picture in enumerate(_pictures(np.asarray(inputs), trained.task, "array"))]
    else:
        pictures = [pair for source in sources for pair in read(source, trained.task)]
    probability = trained.predict({"image": np.stack([picture for _, picture in pictures])})["probability"]
    names, results = trained.task.labels, []
    for (source, _), row in zip(pictures, probability, strict=True):
        best = [[names[i], float(row[i])] for i in np.argsort(-row, kind="stable")[:top]]
        results.append({"input": source, "label": best[0][0], "probability": best[0][1], "top": best})
    return results


def find(paths: list) -> list[Path]:
    """The files that paths mean; folders are searched for pictures."""
    found = []
    for path in map(Path, paths):
        if str(path) == "-" or path.is_file():
            found.append(path)
        elif path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in (*SUFFIXES, ".npy"))
            if not inside:
                raise UserError(f"{path}: holds no picture. Expected files ending in {', '.join((*SUFFIXES, '.npy'))}.")
            found += inside
        else:
            raise UserError(f"{path}: no such file or folder.")
    return found


def read(path: Path, task) -> list[tuple[str, np.ndarray]]:
    """The pictures of one file (or of stdin for "-") as (name, uint8 [height, width, channels])."""
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
        decoded = task.decode({"image_bytes": tf.constant([content])})["image"]
    except (tf.errors.OpError, OSError, SyntaxError) as error:
        reason = "it is empty" if not content else str(error).split("\n")[0][:200]
        raise UserError(f"{path}: is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy. Found: {reason}") from error
    return [(str(path), decoded.numpy()[0])]


def check(content: bytes) -> None:
    """Raises an error for a damaged picture; TensorFlow's own decoder fills up a torn one without a word."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        picture.load()


def _pictures(array: np.ndarray, task, name: str) -> np.ndarray:
    """An array as uint8 [n, height, width, channels] of the model's own size."""
    height, width, channels = task.data.spec["image"].shape
    shaped = array[None] if array.shape in ((height, width), (height, width, channels)) else array
    shaped = shaped[..., None] if channels == 1 and shaped.shape[1:] == (height, width) else shaped
    if array.dtype != np.uint8 or shaped.shape[1:] != (height, width, channels) or not len(shaped):
        expected = f"uint8 [n, {height}, {width}, {channels}] with at least one picture"
        raise UserError(f"{name}: expected {expected}. Received: {array.dtype} {list(array.shape)}.")
    return shaped


def door(arguments: list[str]) -> dict:
    parser = cli.Parser("predict", __doc__, EXAMPLES)
    parser.add_argument("run", help="a run directory")
    parser.add_argument("inputs", nargs="+", help="picture files, folders, .npy files, or - for stdin")
    parser.add_argument("--top", type=int, default=1, help="labels for each picture (default: 1)")
    parser.add_argument("--step", default="best", help="best, last or a step number (default: best)")
    given = parser.parse_args(arguments)
    results = predict(given.run, given.inputs, given.top, given.step)
    if not given.json:
        for result in results:
            print(f"{result['input']}: {', '.join(f'{label} {share:.1%}' for label, share in result['top'])}")
    return {"run": given.run, "predictions": results}


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, predict)
