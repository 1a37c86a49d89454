"""Files of sound: how they are read, how long they are, and how their rate is changed."""

from __future__ import annotations

import io
import math
import wave
from pathlib import Path

from tfbig.core.errors import UserError, package_needed
from tfbig.core.lazy import np

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3")
OTHERS = (".m4a", ".aac", ".wma", ".opus", ".amr")  # of recordings that are not read
KINDS = "WAV, FLAC, OGG or MP3"
ERRORS = (ValueError, RuntimeError, EOFError, wave.Error)  # of files that cannot be read
LEVELS = 1 << 15  # of 16 bits, on either side of zero
RATES_HZ = 100, 1_000_000  # of files; what else a header says is none
LOUDEST = 64.0  # times full scale: louder samples are counted in other units
MOST_CHUNKS = 1 << 10  # of a WAV before its samples
UNTOLD = 0x7FFF0000  # bytes from which on a WAV that was written to a pipe does not know its size


def read(content: bytes, name: str, rate_hz: int, most: int) -> np.ndarray:
    """A file's content as one channel of samples, float32 [n] from -1 to 1, at `rate_hz`.

    Channels are averaged, other rates are resampled, what is louder than full scale is cut off, and
    all is rounded to 16 bits, as recordings are learnt and served.

    Args:
        content: WAV, FLAC, OGG or MP3; without soundfile only WAV of whole numbers.
        name: what messages call it.
        rate_hz: samples a second that are wanted.
        most: samples that there is room for.

    Raises:
        UserError: it is no recording, is empty, is longer, or holds what is no number.
    """
    try:
        _refuse_torn(io.BytesIO(content), name)
        with _open(io.BytesIO(content), name) as file:
            rate, count = _told(file, name)
            # As many as there is room for, whatever the file claims to hold
            room = math.ceil(most * rate / rate_hz)
            channels = file.read(room + 1, dtype="float32", always_2d=True)
    except ERRORS as error:
        raise _unreadable(name, error) from error
    if not len(channels):
        raise UserError(f"{name}: expected a recording. Received: no samples.")
    if len(channels) > room:
        raise UserError(
            f"{name}: expected at most {most / rate_hz:g} s. Received: {_seconds(count, rate)}. Cut"
            " it."
        )
    return checked(resampled(channels.mean(1), rate, rate_hz)[:most], name)


def checked(samples: np.ndarray, name: str) -> np.ndarray:
    """Samples in 16 bits, float32 from -1 to 1.

    What is no number, or so loud that it is counted in other units, is refused.
    """
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: expected finite samples. Received: some that are not.")
    loudest = float(np.abs(samples).max(initial=0))
    if loudest > LOUDEST:
        raise UserError(
            f"{name}: expected samples from -1 to 1. Received: up to {loudest:g}. Divide them by"
            f" full scale, which is {LEVELS:,} for 16 bits."
        )
    return to_levels(samples).astype(np.float32) / LEVELS


def length(path: Path, rate_hz: int) -> int:
    """Samples that a file has at `rate_hz`, from its header."""
    try:
        with path.open("rb") as stream:
            _refuse_torn(stream, str(path))
            with _open(stream, str(path)) as file:
                rate, count = _told(file, str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except ERRORS as error:
        raise _unreadable(str(path), error) from error
    if count < 1:
        raise UserError(f"{path}: expected a recording. Received: no samples.")
    return resampled_length(count, rate, rate_hz)


def _told(file, name: str) -> tuple[int, int]:
    """The rate of an open file and how many samples it says that it has."""
    low, high = RATES_HZ
    if not low <= file.samplerate <= high:
        raise UserError(
            f"{name}: expected {low:,} to {high:,} samples a second. Received:"
            f" {file.samplerate:,}. Its header is broken: mend it or take it out."
        )
    if file.frames >= 1 << 40:
        raise UserError(
            f"{name}: expected a header that says how long it is. Received: none, as of what was"
            " written to a pipe. Write it to a file again."
        )
    return file.samplerate, file.frames


def _refuse_torn(stream, name: str) -> None:
    """Refuses a WAV that says to hold more than it does: what is there would be taken as all."""
    stream.seek(0, io.SEEK_END)
    size, place = stream.tell(), 12
    stream.seek(0)
    chunks = MOST_CHUNKS if stream.read(4) == b"RIFF" else 0
    for _ in range(chunks):
        stream.seek(place)
        head = stream.read(8)
        length = int.from_bytes(head[4:], "little")
        place += 8 + length
        if head[:4] == b"data" or len(head) < 8:
            missing = place - size
            if len(head) == 8 and length < UNTOLD and missing > length // 100:
                raise UserError(
                    f"{name}: expected {length:,} bytes of samples, as its header says. Received:"
                    f" {max(0, length - missing):,}. The file is torn: mend it or take it out."
                )
            break
        place += length % 2
    stream.seek(0)


def resampled_length(count: int, rate_hz: int, wanted_hz: int) -> int:
    """Samples that `resampled` makes of so many."""
    shared = math.gcd(rate_hz, wanted_hz)
    return -(-count * (wanted_hz // shared) // (rate_hz // shared))


def resampled(samples: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """A recording float32 [n] of one rate as one of another, by a polyphase filter.

    What the lower rate cannot hold is filtered out (scipy.signal.resample_poly).
    """
    if rate_hz == wanted_hz:
        return samples
    from scipy.signal import resample_poly

    shared = math.gcd(rate_hz, wanted_hz)
    samples = resample_poly(samples, wanted_hz // shared, rate_hz // shared)
    return samples.astype(np.float32)


def wav(samples: np.ndarray, rate_hz: int) -> bytes:
    """Samples (float32, -1 to 1) as WAV, PCM of 16 bits, one channel."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(to_levels(samples).astype("<i2").tobytes())
    return buffer.getvalue()


def to_levels(samples: np.ndarray) -> np.ndarray:
    """Samples from -1 to 1 rounded to 16 bits, int16."""
    rounded = np.rint(np.asarray(samples, np.float64) * LEVELS)
    return np.clip(rounded, -LEVELS, LEVELS - 1).astype(np.int16)


def _open(stream, name: str):
    """An open file with samplerate, frames, and a read like soundfile's."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its library in C is missing
        start = stream.read(4)
        stream.seek(0)
        if start == b"RIFF":
            return _Wave(stream)
        raise package_needed("soundfile", "audio", name) from error
    return soundfile.SoundFile(stream)


def _unreadable(name: str, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    reason = str(error).rpartition(": ")[2].rstrip(".")
    return UserError(
        f"{name}: is no recording that can be read. Expected {KINDS}. Found: {reason}."
    )


def _seconds(count: int, rate_hz: int) -> str:
    return f"{count / rate_hz:,.1f} s" if 0 < count < 1 << 40 else "a longer recording"


class _Wave:
    """A WAV of whole numbers, read by Python's own library as soundfile reads it."""

    def __init__(self, stream):
        self._file = wave.open(stream, "rb")  # noqa: SIM115 - closed by `__exit__`
        self.samplerate, self.frames = self._file.getframerate(), self._file.getnframes()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def read(self, count: int, dtype: str, always_2d: bool) -> np.ndarray:
        width, channels = self._file.getsampwidth(), self._file.getnchannels()
        content = self._file.readframes(count)
        values = np.frombuffer(content, np.uint8).reshape(-1, width)
        if width == 1:  # of 8 bits, WAV has no sign
            whole = values[:, 0].astype(np.int64) - 128
        else:
            whole = values[:, -1].astype(np.int8).astype(np.int64)
            for column in range(width - 2, -1, -1):
                whole = whole * 256 + values[:, column]
        return (whole / (1 << (8 * width - 1))).astype(dtype).reshape(-1, channels)
