"""Videos: GIF, MP4, folders of pictures, or arrays uint8 [frames, height, width, channels]."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.folders import files_inside
from tfbig.core.lazy import np, tf
from tfbig.core.pictures import SUFFIXES
from tfbig.media._medium import Medium, read, shown
from tfbig.prep import films, pictures
from tfbig.prep.films import middles

FRAME_MS = 120  # how long a report shows each frame
SHOWN_SIDE = 128  # most pixels of a side there


@dataclass(frozen=True, kw_only=True)
class Video(Medium):
    """Videos as so many frames of one size.

    Of a video of n frames, frame floor((i + 1/2) n / frames) is taken for each i below `frames`:
    the middles of equal parts. A served model takes the frames as encoded pictures, decoded as
    pictures are (see `tfbig.prep.pictures.decode`): frames from a dataset go in as PNG, without
    loss.

    Attributes:
        frames: how many are taken of each video.
        shape: height, width, channels of a frame.
    """

    medium, noun = "video", "video"
    suffixes = films.SUFFIXES
    unreadable = (".wmv", ".flv", ".mpg", ".mpeg", ".ts")
    array = "uint8 [n, frames, height, width, channels]"

    frames: int
    shape: tuple[int, int, int]

    @classmethod
    def _files(cls, path):
        """The videos of a folder; where there are none, each folder of pictures inside is one."""
        if path.is_dir():
            files = files_inside(path)
            inside = {file.suffix.lower() for file in files}
            folders = {file.parent for file in files if file.suffix.lower() in SUFFIXES}
            if folders and not inside & {*cls.suffixes, *cls.unreadable}:
                return sorted(folders)
        return super()._files(path)

    def served(self, name):
        """The frames of each video as encoded pictures, [batch, frames]."""
        return tf.TensorSpec([None, self.frames], tf.string, name=name)

    def decode(self, served: tf.Tensor) -> tf.Tensor:
        """Encoded pictures (string [b, frames]) to uint8 [b, frames, height, width, channels]."""
        images = pictures.decode_all(tf.reshape(served, [-1]), self.shape)
        return tf.reshape(images, [-1, self.frames, *self.shape])

    def encode(self, values) -> np.ndarray:
        """uint8 [n, frames, height, width, channels] to PNG bytes [n, frames]."""
        encoded = np.empty((len(values), self.frames), object)
        for row, frames in zip(encoded, values, strict=True):
            row[:] = [_png([frame]) for frame in frames]
        return encoded

    def panel(self, title, values, captions, caption=""):
        """The videos, moving: a PNG may hold several frames."""
        items = [
            {"png": base64.b64encode(_png(frames, SHOWN_SIDE)).decode(), "caption": words}
            for frames, words in zip(values, captions, strict=True)
        ]
        return shown({"kind": "pictures", "title": title, "items": items}, caption)

    def form(self):
        return {"frames": self.frames, "shape": list(self.shape)}

    def _of_source(self, source, count):
        if source.is_dir():
            return [(str(source), self._of_pictures(source))]
        return super()._of_source(source, count)

    def _of_pictures(self, folder: Path) -> np.ndarray:
        """The pictures of a folder, sorted by their names, as the frames of one video.

        Numbers in names are sorted as numbers: 2 before 10.
        """
        paths = [
            file
            for file in files_inside(folder)
            if file.suffix.lower() in SUFFIXES and file.parent == folder
        ]
        paths.sort(key=_by_numbers)
        chosen = [paths[i] for i in middles(len(paths), self.frames)]
        frames = []
        for path in chosen:
            try:
                frames.append(pictures.decode(tf.constant(read(path)), *self.shape).numpy())
            except tf.errors.OpError as error:
                raise UserError(
                    f"{path}: is no picture that can be read. Expected JPEG, PNG, BMP or GIF."
                    f" Found: {pictures.reason(error)}"
                ) from error
        return np.stack(frames)

    def _of_bytes(self, content, name, count):
        return [(name, films.read(io.BytesIO(content), name, self.frames, self.shape))]

    def _of_array(self, array, name):
        """Arrays of one video or several, of any number of frames and of any size."""
        videos = array[None] if array.ndim == 4 else array
        channels = self.shape[-1]
        is_shaped = videos.ndim == 5 and videos.shape[-1] in (channels, 1, 3)
        if array.dtype != np.uint8 or not is_shaped or not videos.size:
            raise UserError(
                f"{name}: expected uint8 [n, frames, height, width, {channels}] with at least one"
                f" frame. Received: {array.dtype} {list(array.shape)}."
            )
        return np.stack([films.of_array(video, self.frames, self.shape) for video in videos])

    def _together(self, values):
        return np.stack(values) if values else np.empty((0, self.frames, *self.shape), np.uint8)


def _by_numbers(path: Path) -> tuple:
    """A file's name in parts that are sorted one after another: text, number, text, ..."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], path.name


def filmstrip(video: np.ndarray, frames: int) -> np.ndarray:
    """Some frames of a video (uint8 [n, h, w, c]) side by side, a line between, as one picture."""
    chosen = video[middles(len(video), min(frames, len(video)))]
    line = ((0, 0), (0, 0), (0, 1), (0, 0))
    strip = np.concatenate(list(np.pad(chosen, line, constant_values=128)), axis=1)
    return strip[:, :-1]


def _png(frames, most_px: int | None = None) -> bytes:
    """Frames (uint8 [height, width, channels]) as one PNG, moving if there are several."""
    from PIL import Image

    images = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    if most_px is not None:
        for image in images:
            image.thumbnail((most_px, most_px))
    buffer = io.BytesIO()
    moving = {"save_all": True, "append_images": images[1:], "duration": FRAME_MS, "loop": 0}
    images[0].save(buffer, "PNG", **(moving if len(images) > 1 else {}))
    return buffer.getvalue()
