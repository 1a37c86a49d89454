"""Videos: GIF, MP4, folders of pictures, or arrays uint8 [frames, height, width, channels]."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.folders import files_inside
from tfbig.core.lazy import np, tf
from tfbig.core.pictures import MOST_PIXELS, SUFFIXES
from tfbig.media._medium import Medium, needed, read, shown
from tfbig.prep import image as prep

MOST_FRAMES = 100_000  # of a video that is looked through
FRAME_MS = 120  # how long a report shows each frame
SHOWN_SIDE = 128  # most pixels of a side there


@dataclass(frozen=True, kw_only=True)
class Video(Medium):
    """Videos as so many frames of one size.

    Of a video of n frames, frame floor((i + 1/2) n / frames) is taken for each i below `frames`:
    the middles of equal parts. A served model takes the frames as encoded pictures, decoded as
    pictures are (see `tfbig.prep.image.decode`): frames from a dataset go in as PNG, without loss.

    Attributes:
        frames: how many are taken of each video.
        shape: height, width, channels of a frame.
    """

    medium, noun = "video", "video"
    suffixes = (".gif", ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".npy")
    unreadable = (".wmv", ".flv", ".mpg", ".mpeg", ".ts")
    array = "uint8 [n, frames, height, width, channels]"

    frames: int
    shape: tuple[int, int, int]

    @classmethod
    def _files(cls, path):
        """The videos of a folder; one without any that holds pictures is a video itself."""
        if path.is_dir():
            inside = {file.suffix.lower() for file in files_inside(path)}
            if not inside & {*cls.suffixes, *cls.unreadable} and inside & set(SUFFIXES):
                return [path]
        return super()._files(path)

    def served(self, name):
        """The frames of each video as encoded pictures, [batch, frames]."""
        return tf.TensorSpec([None, self.frames], tf.string, name=name)

    def decode(self, served: tf.Tensor) -> tf.Tensor:
        """Encoded pictures (string [b, frames]) to uint8 [b, frames, height, width, channels]."""
        pictures = prep.decode_all(tf.reshape(served, [-1]), self.shape)
        return tf.reshape(pictures, [-1, self.frames, *self.shape])

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
        """The pictures of a folder, sorted by their names, as the frames of one video."""
        paths = [file for file in files_inside(folder) if file.suffix.lower() in SUFFIXES]
        chosen = [paths[i] for i in middles(len(paths), self.frames)]
        frames = []
        for path in chosen:
            try:
                frames.append(prep.decode(tf.constant(read(path)), *self.shape).numpy())
            except tf.errors.OpError as error:
                raise UserError(
                    f"{path}: is no picture that can be read. Expected JPEG, PNG, BMP or GIF."
                    f" Found: {prep.reason(error)}"
                ) from error
        return np.stack(frames)

    def _of_bytes(self, content, name, count):
        frames = _gif_frames if content.startswith(b"GIF8") else _film_frames
        try:
            chosen = list(frames(content, name, self.frames))
        except UserError:
            raise
        except Exception as error:  # decoders have many errors of their own
            raise UserError(
                f"{name}: is no video that can be read. Expected GIF, MP4, .npy or a folder of"
                f" pictures. Found: {str(error)[:200] or type(error).__name__}."
            ) from error
        return [(name, np.stack([self._fitted(frame) for frame in chosen]))]

    def _fitted(self, frame: np.ndarray) -> np.ndarray:
        """A frame (uint8 [h, w, 3]) in the model's channels and size, as pictures are."""
        height, width, channels = self.shape
        image = prep.in_channels(tf.constant(frame), channels)
        return prep.resize(prep.centre(image, height, width), height, width).numpy()

    def _of_array(self, array, name):
        """Arrays of one video or several, of any number of frames, of the model's own size."""
        videos = array[None] if array.ndim == 4 else array
        is_shaped = videos.ndim == 5 and videos.shape[2:] == self.shape
        if array.dtype != np.uint8 or not is_shaped or not videos.size:
            height, width, channels = self.shape
            raise UserError(
                f"{name}: expected uint8 [n, frames, {height}, {width}, {channels}] with at least"
                f" one frame. Received: {array.dtype} {list(array.shape)}."
            )
        return videos[:, middles(videos.shape[1], self.frames)]

    def _together(self, values):
        return np.stack(values) if values else np.empty((0, self.frames, *self.shape), np.uint8)


def middles(count: int, wanted: int) -> np.ndarray:
    """Which of `count` frames are taken: the middles of `wanted` equal parts."""
    return ((2 * np.arange(wanted) + 1) * count // (2 * wanted)).astype(np.int64)


def _gif_frames(content: bytes, name: str, wanted: int) -> Iterator[np.ndarray]:
    """The frames of a GIF as they are seen, uint8 [h, w, 3]."""
    from PIL import Image

    if not content.rstrip(b"\0").endswith(b";"):  # Pillow shows what there is
        raise ValueError("the end of the GIF is missing")
    with Image.open(io.BytesIO(content), formats=["GIF"]) as image:
        _limit(name, image.size, image.n_frames)
        for number in middles(image.n_frames, wanted):
            image.seek(int(number))
            yield np.asarray(image.convert("RGB"))


def _film_frames(content: bytes, name: str, wanted: int) -> Iterator[np.ndarray]:
    """The frames of what FFmpeg's libraries read, uint8 [h, w, 3]."""
    try:
        import av
    except ImportError as error:
        raise needed("PyAV", "video", name) from error
    with av.open(io.BytesIO(content)) as film:
        if not film.streams.video:
            raise UserError(f"{name}: expected a video. Received: a file without pictures.")
        count = sum(packet.size > 0 for packet in film.demux(video=0))
    with av.open(io.BytesIO(content)) as film:
        codec = film.streams.video[0].codec_context
        _limit(name, (codec.width, codec.height), count)
        numbers = iter(middles(count, wanted))
        frame = None
        place = 0
        wanted_now = next(numbers, None)
        for place, frame in enumerate(film.decode(video=0)):
            while wanted_now is not None and wanted_now <= place:
                yield frame.to_ndarray(format="rgb24")
                wanted_now = next(numbers, None)
        if frame is None:
            raise UserError(f"{name}: expected a video. Received: no frames.")
        while wanted_now is not None:  # packets without a picture were counted too
            yield frame.to_ndarray(format="rgb24")
            wanted_now = next(numbers, None)


def _limit(name: str, size: tuple[int, int], frames: int) -> None:
    if size[0] * size[1] > MOST_PIXELS or frames > MOST_FRAMES:
        raise UserError(
            f"{name}: expected at most {MOST_FRAMES:,} frames of {MOST_PIXELS:,} pixels. Received:"
            f" {frames:,} frames of {size[0]:,} x {size[1]:,}. Make it smaller or cut it."
        )


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
