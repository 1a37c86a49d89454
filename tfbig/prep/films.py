"""Frames of videos in files, read at random by time: GIF, films, arrays.

Of a film no more is decoded than from the key frame before each frame that is wanted.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path

from tfbig.core.errors import UserError, package_needed
from tfbig.core.lazy import np, tf
from tfbig.core.pictures import MOST_PIXELS
from tfbig.prep import image, pictures

FILMS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
SUFFIXES = (".gif", *FILMS, ".npy")
MOST_FRAMES = 100_000  # of a video that is looked through
NUMPY = b"\x93NUMPY"


def middles(count: int, wanted: int) -> np.ndarray:
    """Which of `count` frames are taken: the middles of `wanted` equal parts."""
    return ((2 * np.arange(wanted) + 1) * count // (2 * wanted)).astype(np.int64)


def load(path: Path, wanted: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Frames of a video file, the `middles`, as uint8 [wanted, *shape].

    Args:
        path: of a GIF, a film or a .npy file, uint8 [frames, height, width, channels].
        wanted: number of frames.
        shape: height, width, channels: the centre of these proportions, resized.

    Raises:
        UserError: it is no such file, or too large.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(NUMPY))
            if head == NUMPY:
                return of_array(np.load(path, mmap_mode="r", allow_pickle=False), wanted, shape)
            file.seek(0)
            return read(file, name, wanted, shape)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # of NumPy's many
        raise _unreadable(name, error) from error


def read(file, name: str, wanted: int, shape: tuple[int, int, int]) -> np.ndarray:
    """As `load`, of an open file of a GIF or a film; `name` is what messages call it."""
    is_gif = file.read(4) == b"GIF8"
    file.seek(0)
    frames = _gif_frames if is_gif else _film_frames
    try:
        return np.stack([fitted(frame, shape) for frame in frames(file, name, wanted)])
    except UserError:
        raise
    except Exception as error:  # decoders have many errors of their own
        raise _unreadable(name, error) from error


def fitted(frame: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A frame (uint8 [h, w, 3]) in these channels and this size, as pictures are."""
    height, width, channels = shape
    coloured = pictures.in_channels(tf.constant(frame), channels)
    return image.resize(image.centre(coloured, height, width), height, width).numpy()


def of_array(array: np.ndarray, wanted: int, shape: tuple[int, int, int]) -> np.ndarray:
    """As `load`, of the frames in an array.

    Raises:
        ValueError: it is not uint8 [frames, height, width, channels] with 1, 3 or the channels of
            `shape`.
    """
    channels = shape[-1]
    is_shaped = array.ndim == 4 and array.shape[-1] in (channels, 1, 3)
    if array.dtype != np.uint8 or not is_shaped or not array.size:
        received = f"{array.dtype} {list(array.shape)}"
        expected = f"uint8 [frames, height, width, {channels}]"
        raise ValueError(f"expected {expected}; received {received}")
    chosen = np.asarray(array[middles(len(array), wanted)])
    if chosen.shape[1:] == shape:
        return chosen
    coloured = np.repeat(chosen, 3, -1) if chosen.shape[-1] == 1 else chosen
    return np.stack([fitted(frame, shape) for frame in coloured])


def _gif_frames(file, name: str, wanted: int) -> Iterator[np.ndarray]:
    """The frames of a GIF as they are seen, uint8 [h, w, 3]."""
    from PIL import Image

    if not file.read().rstrip(b"\0").endswith(b";"):  # Pillow shows what there is
        raise ValueError("the end of the GIF is missing")
    file.seek(0)
    with Image.open(file, formats=["GIF"]) as pictures:
        _limit(name, pictures.size, pictures.n_frames)
        for number in middles(pictures.n_frames, wanted):
            pictures.seek(int(number))
            yield np.asarray(pictures.convert("RGB"))


def _film_frames(file, name: str, wanted: int) -> Iterator[np.ndarray]:
    """The frames of what FFmpeg's libraries read, uint8 [h, w, 3]."""
    try:
        import av
    except ImportError as error:
        raise package_needed("PyAV", "video", name) from error
    with av.open(file) as film:
        if not film.streams.video:
            raise UserError(f"{name}: expected a video. Received: a file without pictures.")
        codec = film.streams.video[0].codec_context
        times, keys = [], []
        for packet in film.demux(video=0):  # not kept: they hold all of the film
            if packet.size > 0:
                times.append(packet.pts)
                _limit(name, (codec.width, codec.height), len(times))
                if packet.is_keyframe and None not in (packet.pts, packet.dts):
                    keys.append((packet.pts, packet.dts))
        keys.sort()
        if None in times or not keys:
            yield from _in_order(film, name, middles(len(times), wanted))
        else:
            times.sort()
            yield from _at_times(film, name, [times[i] for i in middles(len(times), wanted)], keys)


def _at_times(
    film, name: str, times: list[int], keys: list[tuple[int, int]]
) -> Iterator[np.ndarray]:
    """The frames at some times, sorted, each from the last key frame before it.

    `keys`: when each key frame is shown and decoded; some formats are sought by the one, some by
    the other, and what is decoded is never shown earlier.
    """
    (stream,) = film.streams.video[:1]
    decoded, frame = iter(()), None

    def begin(place: int):
        film.seek(place, stream=stream)
        frames = film.decode(stream)
        return frames, next(frames, None)

    for time in times:
        shown, decoded_at = keys[max(0, bisect.bisect_right(keys, (time, time)) - 1)]
        if frame is None or shown > frame.pts:
            decoded, frame = begin(decoded_at)
            if frame is None or frame.pts is None or frame.pts > time:  # sought in vain
                decoded, frame = begin(0)
        while frame is not None and frame.pts < time:
            following = next(decoded, None)
            if following is None:  # packets without a picture were counted too
                break
            frame = following
        if frame is None:
            raise UserError(f"{name}: expected a video. Received: no frames.")
        yield _upright(frame)


def _in_order(film, name: str, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The frames of some numbers, sorted, of a film that does not say its frames' times."""
    film.seek(0)
    wanted, frame = list(numbers), None
    for place, frame in enumerate(film.decode(video=0)):
        while wanted and wanted[0] <= place:
            wanted.pop(0)
            yield _upright(frame)
    if frame is None:
        raise UserError(f"{name}: expected a video. Received: no frames.")
    for _ in wanted:  # packets without a picture were counted too
        yield _upright(frame)


def _upright(frame) -> np.ndarray:
    """A frame turned as a telephone says that it was held, uint8 [h, w, 3]."""
    turns = round(frame.rotation / 90) % 4  # anticlockwise, as NumPy's
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def _limit(name: str, size: tuple[int, int], frames: int) -> None:
    if size[0] * size[1] > MOST_PIXELS or frames > MOST_FRAMES:
        raise UserError(
            f"{name}: expected at most {MOST_FRAMES:,} frames of {MOST_PIXELS:,} pixels. Received:"
            f" {frames:,} frames of {size[0]:,} x {size[1]:,}. Make it smaller or cut it."
        )


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(
        f"{name}: is no video that can be read. Expected GIF, MP4, .npy or a folder of pictures."
        f" Found: {str(error)[:200] or type(error).__name__}."
    )
