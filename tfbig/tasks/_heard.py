"""What tasks on recordings share: their front end, its random changes, and how they are served."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Task
from tfbig.core.features import Feature, Spec
from tfbig.core.lazy import np, tf
from tfbig.media.audio import Audio, alike, spectrogram
from tfbig.media.picture import Picture
from tfbig.prep import sound_changes
from tfbig.prep.sound import LogMel, normalized, scaled

SHOWN_INPUTS, SIDE_PX = 8, 400  # in a panel of the report
MEASURED = 500  # recordings that bands are measured on
LEAST_VARIANCE = 1e-3  # of a band
PICTURE = Picture(shape=(0, 0, 3))  # of any size, to show spectrograms


@dataclass(frozen=True, kw_only=True)
class Heard(Task):
    """A task on recordings, which a model sees as log-mel frames."""

    bands: int = knob(80, "mel bands of a frame", low=1, high=512)
    window_s: float = knob(0.025, "seconds that a frame looks at", above=0, high=1)
    hop_s: float = knob(0.01, "seconds from one frame to the next", above=0, high=1)
    mel: str = knob("slaney", "scale of the bands", choices=("slaney", "htk"))
    normalize: str = knob(
        "bands",
        "log-mel has mean 0 and deviation 1 over a recording: each band, or the whole recording,"
        " which keeps the colour of short sounds; or each band over the training split, so that"
        " nothing waits for a recording's end",
        choices=("bands", "recording", "training"),
    )
    speed: float = knob(
        0.0, "training: recordings are played faster or slower by up to this share", low=0, high=0.5
    )
    shift_s: float = knob(0.0, "training: seconds of silence before them, up to", low=0)
    gain_db: float = knob(0.0, "training: louder or quieter by up to, in dB", low=0, high=40)
    noise: float = knob(
        0.0, "training: share of recordings with white noise, 10 to 40 dB below", low=0, high=1
    )
    masks: int = knob(
        0, "training: stripes of bands, and of times, that are masked (SpecAugment)", low=0
    )
    mask_bands: int = knob(10, "masks: bands of a stripe, fewer than", low=1)
    mask_share: float = knob(0.05, "masks: share of the time of a stripe, less than", low=0, high=1)

    feeds = frozenset({"frames"})
    needs = frozenset({"sequence"})
    asked_with = "RECORDING"
    preprocess_on = "device"

    def measure(self, data):
        """Mean and deviation of each band over the training split, where frames are scaled by it.

        Of at most MEASURED recordings, evenly spread.
        """
        if self.normalize != "training":
            return {}
        front = self._front(data.rate_hz)
        total = squares = count = 0
        size = data.size("train")
        for row in np.unique(np.linspace(0, size - 1, min(size, MEASURED)).astype(int)):
            frames = front(data.samples("train", int(row))[None])[0].numpy().astype(np.float64)
            total, squares = total + frames.sum(0), squares + (frames**2).sum(0)
            count += len(frames)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, LEAST_VARIANCE))
        rounded = {"mean": mean.tolist(), "deviation": deviation.tolist()}
        return {"frames": {name: [round(v, 6) for v in own] for name, own in rounded.items()}}

    @property
    def front(self) -> LogMel:
        return self._front(self.data.rate_hz)

    def _front(self, rate_hz: int) -> LogMel:
        return LogMel(
            rate_hz=rate_hz,
            bands=self.bands,
            window_s=self.window_s,
            hop_s=self.hop_s,
            scale=self.mel,
        )

    @property
    def audio(self) -> Audio:
        """Recordings as users give them."""
        return Audio(rate_hz=self.data.rate_hz, most=self.data.most)

    @property
    def changes(self) -> sound_changes.Changes:
        return sound_changes.Changes(
            speed=self.speed, shift_s=self.shift_s, gain_db=self.gain_db, noise=self.noise
        )

    @property
    def frames_spec(self) -> Spec:
        """What the model is built on."""
        longest = self.changes.longest(self.data.most, self.data.rate_hz)
        most = self.front.frames(longest)
        return {
            "frames": Feature(shape=(None, self.bands), dtype="float32", most=most),
            "frames_count": Feature(shape=(), dtype="int32"),
        }

    def framed(self, raw, training: bool, least=None) -> dict[str, tf.Tensor]:
        """Samples to normalised log-mel frames and how many are real; changed while training.

        `least`: samples that each recording must still have, however fast it is played.
        """
        samples, count = raw["samples"], raw["samples_count"]
        if training:
            samples, count = self.changes(samples, count, raw["key"], self.data.rate_hz, least)
        count = self.front.frames(count)
        frames = self._normal(self.front(samples), count)
        if training and self.masks:
            frames = sound_changes.masked(
                frames,
                count,
                raw["key"],
                masks=self.masks,
                bands=self.mask_bands,
                share=self.mask_share,
            )
        return {"frames": frames, "frames_count": count}

    def _normal(self, frames, count):
        if self.normalize == "training":
            real = tf.range(tf.shape(frames)[1])[None] < count[:, None]
            return tf.where(real[:, :, None], scaled(frames, self.facts["frames"]), 0.0)
        return normalized(frames, count, self.normalize == "recording")

    @property
    def frames_unit(self) -> str:
        """What the numbers of frames are, in words."""
        if self.normalize == "training":
            return "log-mel, each band with mean 0 and deviation 1 over the training split"
        what = "each band" if self.normalize == "bands" else "a recording"
        return f"log-mel, {what} with mean 0 and deviation 1"

    def decode(self, served):
        """WAV to samples float32 [b, n] and how many are real."""
        samples, count = self.audio.decode(served["wav_bytes"])
        return {"samples": samples, "samples_count": count}

    def encode(self, raw):
        return {"wav_bytes": self.audio.encode(raw["samples"])}

    def check_inputs(self, inputs):
        Audio.check(inputs)

    @property
    def heard_as(self) -> str:
        """How recordings are taken, in a sentence."""
        return (
            f"Recordings are taken as WAV of 16 bits, of at most {self.data.most_s:g} s;"
            f" channels are averaged, other rates than {self.data.rate_hz:,} Hz are resampled."
            f" `samples` are from -1 to 1, at {self.data.rate_hz:,} Hz."
        )

    def training_panels(self, batch):
        """The first recordings as the network sees them: low bands below, time to the right."""
        shown, captions = [], []
        counts = batch["frames_count"][:SHOWN_INPUTS]
        for frames, count in zip(batch["frames"], counts, strict=False):
            shown.append(spectrogram(frames[:count]))
            captions.append(f"{count * self.hop_s:.2f} s")
        title = "Training recordings as the network sees them"
        caption = "Time to the right, mel bands from low to high."
        return [PICTURE.panel(title, alike(shown), captions, caption, side=SIDE_PX)]
