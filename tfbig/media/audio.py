"""Recordings: WAV, FLAC, OGG, MP3, or arrays of samples; one channel of samples from -1 to 1."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.media._medium import Medium, shown
from tfbig.prep import recordings, resampling

PEAKS = 160  # columns of a waveform
BEYOND = 225  # grey level behind the end of a spectrogram
SHOWN_S = 20  # seconds of a recording that a report plays at most


@dataclass(frozen=True, kw_only=True)
class Audio(Medium):
    """Recordings of one rate, float32 [samples] of at most `most` samples.

    Files of other rates are resampled, channels are averaged, and what is louder than full scale is
    cut off; see `tfbig.prep.recordings.read`. A served model takes WAV of any rate in 16 bits, and
    resamples it as files are: the same but for what rounding to 16 bits tips over, 1 / 32768.
    Samples that come from 16 bits at the model's rate are served without loss.

    Attributes:
        rate_hz: samples a second.
        most: samples of the longest recording.
    """

    medium, noun = "samples", "recording"
    suffixes = (*recordings.SUFFIXES, ".npy")
    unreadable = recordings.OTHERS
    array = "float32 [n, samples]"

    rate_hz: int
    most: int

    def decode(self, served: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """WAV bytes (string [b]) to samples float32 [b, longest] and how many are real, int32 [b].

        Other rates, as the header tells them, are resampled. Refused with an InvalidArgumentError:
        other kinds than PCM of 16 bits, rates beyond `resampling.RATES_HZ`, more samples than
        `most`, and what is torn.
        """
        with tf.device("CPU"):
            count = tf.map_fn(self._count, served, fn_output_signature=tf.int32)
            longest = tf.reduce_max(tf.concat([count, [0]], 0))

            # Decoded twice, which costs little: a batch is as long as its longest, not as `most`
            def padded(content):
                channels, rate = tf.audio.decode_wav(content)
                rate = tf.clip_by_value(rate, *self._rates_hz)  # others are refused anyway
                mono = resampling.resampled(tf.reduce_mean(channels, -1), rate, self.rate_hz)
                # Rounded to 16 bits again, as in files
                levels = tf.round(mono * recordings.LEVELS)
                levels = tf.clip_by_value(levels, -recordings.LEVELS, recordings.LEVELS - 1)
                mono = levels / recordings.LEVELS
                # Never negative, so that a refusal is what is told, whichever runs first
                return tf.pad(mono, [[0, tf.maximum(longest - tf.shape(mono)[0], 0)]])

            spec = tf.TensorSpec([None], tf.float32)
            samples = tf.map_fn(padded, served, fn_output_signature=spec)
        return tf.reshape(samples, [-1, longest]), count

    @property
    def _rates_hz(self) -> tuple[int, int]:
        """The lowest and highest rate of what is served."""
        low, high = resampling.RATES_HZ
        return min(low, self.rate_hz), max(high, self.rate_hz)

    def _count(self, content: tf.Tensor) -> tf.Tensor:
        channels, rate = tf.audio.decode_wav(content)
        low, high = self._rates_hz
        _require((rate >= low) & (rate <= high), f"a WAV of {low} to {high} Hz", rate)
        count = resampling.resampled_length(tf.shape(channels)[0], rate, self.rate_hz)
        fits = (count > 0) & (count <= self.most)
        _require(fits, f"a WAV of 1 to {self.most} samples at {self.rate_hz} Hz", count)
        return tf.identity(count)

    def encode(self, values, counts=None) -> np.ndarray:
        """Samples to WAV of 16 bits, bytes [n]; see the class for what is lost."""
        rows = values if counts is None else [v[:n] for v, n in zip(values, counts, strict=True)]
        encoded = np.empty(len(rows), object)
        encoded[:] = [recordings.wav(samples, self.rate_hz) for samples in rows]
        return encoded

    def panel(self, title, values, captions, caption=""):
        """The recordings, to be listened to, with their waveforms."""
        items = []
        for samples, words in zip(values, captions, strict=True):
            played = recordings.wav(samples[: SHOWN_S * self.rate_hz], self.rate_hz)
            items.append(
                {
                    "wav": base64.b64encode(played).decode(),
                    "peaks": peaks(samples),
                    "seconds": round(len(samples) / self.rate_hz, 3),
                    "caption": words,
                }
            )
        return shown({"kind": "recordings", "title": title, "items": items}, caption)

    def form(self):
        return {"rate_hz": self.rate_hz, "most": self.most}

    def _of_bytes(self, content, name, count):
        return [(name, recordings.read(content, name, self.rate_hz, self.most))]

    def _of_array(self, array, name):
        """An array of samples [n, samples], or of one recording, at the model's own rate."""
        rows = array[None] if array.ndim == 1 else array
        if array.dtype != np.float32 or rows.ndim != 2 or not rows.size:
            raise UserError(
                f"{name}: expected {self.array} from -1 to 1, at {self.rate_hz:,} Hz. Received:"
                f" {array.dtype} {list(array.shape)}."
            )
        return [self._checked(row, name) for row in rows]

    def _checked(self, samples: np.ndarray, name: str) -> np.ndarray:
        if len(samples) > self.most:
            raise UserError(
                f"{name}: expected at most {self.most:,} samples. Received: {len(samples):,}. Cut"
                " it."
            )
        return recordings.checked(samples, name)


def peaks(samples: np.ndarray) -> list[list[float]]:
    """The lowest and highest sample of each of some equal parts of a recording."""
    parts = np.array_split(samples, min(PEAKS, max(1, len(samples))))
    return [
        [round(float(part.min()), 3), round(float(part.max()), 3)] for part in parts if len(part)
    ]


def spectrogram(frames: np.ndarray) -> np.ndarray:
    """Normalised frames [t, m] as a picture uint8 [m, t, 3], low bands below."""
    from matplotlib import colormaps

    share = np.clip((frames.T[::-1] + 2) / 4, 0, 1)
    return (colormaps["magma"](share)[:, :, :3] * 255).astype(np.uint8)


def alike(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Spectrograms as wide as the longest, grey behind their ends: a second is as wide in all."""
    widest = max(picture.shape[1] for picture in pictures)
    return [
        np.pad(
            picture,
            ((0, 0), (0, widest - picture.shape[1]), (0, 0)),
            constant_values=BEYOND,
        )
        for picture in pictures
    ]


def _require(condition: tf.Tensor, expected: str, received: tf.Tensor) -> None:
    """Refuses what is served unless the condition holds."""
    words = [f"expected {expected}. Received: ", tf.strings.as_string(received)]
    tf.debugging.Assert(condition, [tf.strings.join(words)])
