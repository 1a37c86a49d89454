"""What the media share: which files a user means, how they are read, and what became of them."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tfbig.core.errors import LeftOut, PartlyRefused, UserError
from tfbig.core.folders import files_inside
from tfbig.core.lazy import np, tf

NUMPY = b"\x93NUMPY"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a user gave, as raw examples.

    Attributes:
        names: what each is called: its path, or its place in an array.
        values: the raw examples, one array [n, ...], or a list where they are of any length.
        refused: [{"input", "error"}] of the files among several that cannot be used.
    """

    names: list[str]
    values: Sequence
    refused: list[dict[str, str]]

    def answered(self, results: list[dict]) -> list[dict]:
        """The predictions for them.

        Raises:
            PartlyRefused: some files could not be used; it carries the predictions of the others.
        """
        if not self.refused:
            return results
        message = (
            f"{len(self.refused):,} of the files cannot be used; of the others, {len(results):,}"
            " predictions were made."
        )
        lines = [message, *(entry["error"] for entry in self.refused)]
        raise PartlyRefused("\n".join(lines), results, self.refused)


@dataclass(frozen=True, kw_only=True)
class Medium:
    """A kind of input, of what users have in files, folders, .npy arrays or on stdin."""

    medium: ClassVar[str]
    """Its name in artefact.json."""
    noun: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """Of the files that are looked for in folders."""
    unreadable: ClassVar[tuple[str, ...]] = ()
    """Of files of this medium that are named as refused, rather than passed over."""
    array: ClassVar[str]
    """What an array of several must be, in words."""

    @classmethod
    def find(cls, inputs: Any) -> tuple[list[Path | str], list[dict[str, str]]]:
        """The files that a path or several mean, and [{"input", "error"}] of paths without any.

        Folders are searched. A path that means no file is refused, but the others are used.

        Raises:
            UserError: no path means a file, or something else than paths was given.
        """
        try:
            words = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
            paths = [Path(word) for word in words]
        except TypeError as error:
            raise UserError(
                f"inputs: expected paths of {cls.noun}s, of folders or of .npy files, or an array"
                f" {cls.array}. Received: {str(inputs)[:100]} ({type(inputs).__name__})."
            ) from error
        files, refused = [], []
        for path in paths:
            try:
                files += cls._files(path)
            except UserError as error:
                refused.append({"input": str(path), "error": str(error)})
        if refused and not files:
            raise UserError("\n".join(entry["error"] for entry in refused))
        return files, refused

    @classmethod
    def check(cls, inputs: Any) -> None:
        """Refuses what `take` could not use whatever the model is; without TensorFlow."""
        if not is_array(inputs):
            cls.find(inputs)

    @classmethod
    def _files(cls, path: Path) -> list[Path]:
        """The files that one path means."""
        if str(path) == "-" or path.is_file() or path.is_fifo():
            return [path]
        if not path.is_dir():
            raise UserError(f"{path}: no such file or folder.")
        wanted = (*cls.suffixes, *cls.unreadable)
        files = files_inside(path)
        inside = [file for file in files if file.suffix.lower() in wanted]
        if not inside:
            endings = ", ".join(cls.suffixes)
            raise UserError(f"{path}: holds no {cls.noun}. Expected files ending in {endings}.")
        if len(inside) < len(files):
            first = next(file for file in files if file not in inside)
            count = f"{len(files) - len(inside):,} of {len(files):,} files"
            message = f"{path}: {count} left out, being no {cls.noun}s, such as {first.name}"
            warnings.warn(message, LeftOut, stacklevel=2)
        return inside

    def take(self, inputs: Any) -> Taken:
        """What `inputs` mean, as raw examples.

        Args:
            inputs: paths of files or folders, "-" for stdin, or an array of several.

        Raises:
            UserError: there is but one file and it cannot be used, or the array is another one.
        """
        if is_array(inputs):
            values = self._of_array(np.asarray(inputs), "array")
            return Taken(names=[str(i) for i in range(len(values))], values=values, refused=[])
        sources, refused = self.find(inputs)
        named = []
        for source in sources:
            try:
                named += self._of_source(source, len(sources))
            except UserError as error:
                if len(sources) + len(refused) == 1:
                    raise
                refused.append({"input": str(source), "error": str(error)})
        values = self._together([value for _, value in named])
        return Taken(names=[name for name, _ in named], values=values, refused=refused)

    def _of_source(self, source: Path, count: int) -> list[tuple[str, Any]]:
        """The raw examples of one of `count` files, each with its name."""
        content = read(source)
        if content.startswith(NUMPY):
            values = self._of_array(load_npy(content, str(source)), str(source))
            return numbered(str(source), values)
        return self._of_bytes(content, str(source), count)

    def _of_bytes(self, content: bytes, name: str, count: int) -> list[tuple[str, Any]]:
        """The raw examples of one of `count` files' content, each with its name."""
        raise NotImplementedError

    def _of_array(self, array: np.ndarray, name: str) -> Sequence:
        """An array's raw examples."""
        raise NotImplementedError

    def _together(self, values: list) -> Sequence:
        """Raw examples of any length; media of one shape stack them."""
        return values

    def served(self, name: str) -> tf.TensorSpec:
        """What a served model receives, by this name: encoded, [batch]."""
        return tf.TensorSpec([None], tf.string, name=name)

    def decode(self, served: tf.Tensor):
        """What a served model receives to raw examples, in a graph."""
        raise NotImplementedError

    def encode(self, values: Sequence) -> np.ndarray:
        """Raw examples to what a served model receives."""
        raise NotImplementedError

    def panel(
        self, title: str, values: Sequence, captions: Sequence[str], caption: str = ""
    ) -> dict[str, Any]:
        """Raw examples as a panel of a report (see tfbig/report/panels.py)."""
        raise NotImplementedError

    def form(self) -> dict[str, Any]:
        """What the server's page must know, as JSON values: sizes, rates, letters."""
        return {}


def is_array(inputs: Any) -> bool:
    """Whether a user gave an array rather than paths."""
    return not isinstance(inputs, (str, Path)) and hasattr(inputs, "shape")


def read(path: Path) -> bytes:
    """A file's content, or stdin's for "-"."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error


def load_npy(content: bytes, name: str) -> np.ndarray:
    """The array of a .npy file; Python objects in it are refused."""
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a header is read as Python, which has many errors of its own
        raise UserError(f"{name}: is no whole .npy file: {str(error)[:200]}.") from error


def numbered(name: str, values: Sequence) -> list[tuple[str, Any]]:
    """The raw examples of one file, with their numbers if there are several."""
    return [(f"{name}[{i}]" if len(values) > 1 else name, value) for i, value in enumerate(values)]


def shown(panel: dict[str, Any], caption: str) -> dict[str, Any]:
    """A panel with its caption, if it has one."""
    return {**panel, "caption": caption} if caption else panel
