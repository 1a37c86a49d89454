"""Recordings as pictures of sound: log-mel spectrograms from matrix products alone.

TensorFlow's own short-time Fourier transform does not convert to ONNX, and its convolutions are
slow in XLA on CPUs. Frames cut out by slices and two constant matrices do the same everywhere.

Shapes: b recordings, n samples, t frames, f frequencies, m mel bands.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from tfbig.core.lazy import np, tf

FLOOR = 1e-10  # power below which a logarithm says nothing
SLANEY_STEP, SLANEY_BREAK = 200 / 3, 1000.0  # hertz a mel below the break, and the break
SLANEY_LOG = math.log(6.4) / 27  # a mel above it


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Log-mel spectrogram: natural logarithm of the power in mel bands, hop by hop.

    Frames are centred on samples 0, hop, 2 hop, ...; zeros stand around the recording, so one of n
    samples has 1 + n // hop frames, and what it is padded with changes none of them. Windows are
    Hann's (periodic); each has its transform of as many points as the next power of two. Mel is
    Slaney's scale with triangles of equal area, or HTK's with triangles of height 1. The figures
    are those of librosa's `melspectrogram` with `center=True, pad_mode="constant"`.

    Attributes:
        rate_hz: samples a second.
        bands: m.
        window_s, hop_s: seconds of a frame, and from one to the next.
        low_hz, high_hz: where the bands begin and end; 0: high_hz is half the rate.
        scale: "slaney" or "htk".

    Example:
        frames = LogMel(rate_hz=16_000)(samples)  # [b, n] -> [b, 1 + n // 160, 80]
    """

    rate_hz: int
    bands: int = 80
    window_s: float = 0.025
    hop_s: float = 0.01
    low_hz: float = 0.0
    high_hz: float = 0.0
    scale: str = "slaney"

    @property
    def window(self) -> int:
        """Samples of a frame."""
        return max(2, round(self.window_s * self.rate_hz))

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return max(1, round(self.hop_s * self.rate_hz))

    @property
    def points(self) -> int:
        """Of the Fourier transform."""
        return 1 << (self.window - 1).bit_length()

    @property
    def before(self) -> int:
        """Samples of a frame before the one that it is centred on.

        As many as a transform of that many points centred there has.
        """
        return self.points // 2 - (self.points - self.window) // 2

    def frames(self, samples):
        """How many frames so many samples have; of whole numbers, arrays or tensors."""
        return 1 + samples // self.hop

    def __call__(self, samples_bn: tf.Tensor) -> tf.Tensor:
        """Samples float32 [b, n] to float32 [b, 1 + n // hop, m]."""
        return self.of_windows(self._framed(samples_bn))

    def of_windows(self, windows):
        """Samples of each frame, [b, t, window], to float32 [b, t, m]."""
        both = tf.matmul(windows, tf.constant(_transform(self.window, self.points)))
        real, imaginary = tf.split(both, 2, -1)
        power = tf.square(real) + tf.square(imaginary)
        mel = tf.matmul(power, tf.constant(_filters(self)))
        return tf.math.log(tf.maximum(mel, FLOOR))

    def _framed(self, samples: tf.Tensor) -> tf.Tensor:
        """Overlapping frames [b, t, window]: parts of a hop's length, side by side."""
        hop = self.hop
        parts = -(-self.window // hop)
        count = 1 + tf.shape(samples)[1] // hop
        if samples.shape[1] is not None:
            count = 1 + samples.shape[1] // hop
        whole = (count + parts - 1) * hop
        padded = tf.pad(samples, [[0, 0], [self.before, parts * hop]])[:, :whole]
        cut = tf.reshape(padded, [-1, count + parts - 1, hop])
        framed = tf.concat([cut[:, i : count + i] for i in range(parts)], -1)
        return framed[:, :, : self.window]


@functools.lru_cache(maxsize=8)
def _transform(window: int, points: int) -> np.ndarray:
    """Window and Fourier transform as one matrix, float32 [window, 2 f]: cosines, then sines."""
    place = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * place / window)
    angle = 2 * np.pi * np.outer(place, np.arange(points // 2 + 1)) / points
    matrix = np.concatenate([np.cos(angle), np.sin(angle)], 1) * hann[:, None]
    return matrix.astype(np.float32)


@functools.lru_cache(maxsize=8)
def _filters(front: LogMel) -> np.ndarray:
    """Triangles over frequencies, float32 [f, m]."""
    high_hz = front.high_hz or front.rate_hz / 2
    edges = np.linspace(
        _mel(front.low_hz, front.scale), _mel(high_hz, front.scale), front.bands + 2
    )
    edges = _hertz(edges, front.scale)
    frequency = np.arange(front.points // 2 + 1) * front.rate_hz / front.points
    width = np.diff(edges)
    rising = (frequency[:, None] - edges[:-2]) / width[:-1]
    falling = (edges[2:] - frequency[:, None]) / width[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    if front.scale == "slaney":
        triangles *= 2 / (edges[2:] - edges[:-2])
    return triangles.astype(np.float32)


def _mel(hertz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    if hertz < SLANEY_BREAK:
        return hertz / SLANEY_STEP
    return SLANEY_BREAK / SLANEY_STEP + math.log(hertz / SLANEY_BREAK) / SLANEY_LOG


def _hertz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    above = mel - SLANEY_BREAK / SLANEY_STEP
    curved = SLANEY_BREAK * np.exp(SLANEY_LOG * np.maximum(above, 0))
    return np.where(above < 0, mel * SLANEY_STEP, curved)


def normalized(frames_btm: tf.Tensor, count_b: tf.Tensor, together: bool = False) -> tf.Tensor:
    """Each band of each recording with mean 0 and deviation 1 over its real frames; zeros behind.

    A recording's frames depend on no other one's.

    Args:
        frames_btm: log-mel frames.
        count_b: real frames, int32.
        together: one mean and deviation for all bands of a recording: how loud it is changes
            nothing, but the colour of a short sound stays.
    """
    length = frames_btm.shape[1] or tf.shape(frames_btm)[1]
    real = tf.cast(tf.range(length)[None] < count_b[:, None], tf.float32)[:, :, None]
    number = tf.cast(tf.maximum(count_b, 1), tf.float32)[:, None, None]

    def mean(values):
        each = tf.reduce_sum(values * real, 1, keepdims=True) / number
        return tf.reduce_mean(each, 2, keepdims=True) if together else each

    centred = (frames_btm - mean(frames_btm)) * real
    return centred / tf.sqrt(mean(tf.square(centred)) + 1e-3)


def scaled(frames_btm: tf.Tensor, measured: dict) -> tf.Tensor:
    """Frames less the mean of each band, over its deviation, as they were measured."""
    mean, deviation = (tf.constant(measured[name]) for name in ("mean", "deviation"))
    return (frames_btm - mean) / deviation
