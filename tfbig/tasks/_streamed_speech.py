"""A recogniser of convolutions as a program that hears a recording in portions.

    stream    samples float32 [b, n], samples_count int32 [b] (n until the recording ends, then
              what is left, then 0), heard int32 [b], portions int32 [b], sound and state_0 ... (all
              zeros at the beginning) -> logits [b, places, values], place int32 [b, places],
              is_real bool [b, places]; heard, portions, sound, state_0 ... for the next portion

A place that is real has the logits that `Task.predict` gives at this place of the whole recording.
They come a fixed time later: after the end, portions without samples bring the last ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tfbig.core.contracts import Task
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Program, Trial
from tfbig.prep.sound import scaled

TRIED = 4  # recordings of a split that the program must answer


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """The program of a bound recogniser and its model.

    Attributes:
        portion_s: seconds of a portion, made a whole number of the model's places.
    """

    task: Task
    model: object
    portion_s: float

    @staticmethod
    def of(task: Task, model, portion_s: float) -> Streamed | None:
        """None where the model looks at a whole recording, or its frames are normalised by it."""
        if not getattr(task.model, "streams", False) or task.normalize != "training":
            return None
        return Streamed(task=task, model=model, portion_s=portion_s)

    @cached_property
    def frames(self) -> int:
        """Of a portion."""
        stride = round(self.task.samples_of_place / self.task.front.hop)
        return stride * max(1, round(self.portion_s / (stride * self.task.hop_s)))

    @property
    def samples(self) -> int:
        """Of a portion."""
        return self.frames * self.task.front.hop

    @cached_property
    def _behind(self) -> int:
        """Frames that come later, because their windows reach ahead."""
        front = self.task.front
        return max(0, -(-(front.window - front.before - front.hop) // front.hop))

    @property
    def _kept(self) -> int:
        """Samples of earlier portions that windows reach back to."""
        return self.task.front.hop * self._behind + self.task.front.before

    @cached_property
    def _network(self) -> tuple:
        return self.task.model.streamed(self.model, self.frames, self._behind)

    @property
    def look_ahead_s(self) -> float:
        """Seconds of sound behind a place that must have been heard, but for a portion's length."""
        return self._network[1] * self.task.hop_s

    @cached_property
    def _states(self) -> list[str]:
        return [name for name in self._network[0].input if name.startswith("state_")]

    def program(self) -> Program:
        given = self._network[0].input
        inputs = {
            "samples": tf.TensorSpec((None, self.samples), tf.float32),
            "sound": tf.TensorSpec((None, self._kept), tf.float32),
            **{
                name: tf.TensorSpec((None,), tf.int32)
                for name in ("samples_count", "heard", "portions")
            },
            **{
                name: tf.TensorSpec((None, *given[name].shape[1:]), given[name].dtype)
                for name in self._states
            },
        }
        return Program(function=self.step, inputs=inputs)

    def step(self, samples, samples_count, heard, portions, sound, **states):
        """One portion; see above."""
        network, _ = self._network
        front = self.task.front
        real = tf.sequence_mask(samples_count, self.samples, tf.float32)
        joined = tf.concat([sound, samples * real], 1)
        starts = np.arange(self.frames)[:, None] * front.hop
        windows = tf.gather(joined, starts + np.arange(front.window), axis=1)
        heard += samples_count
        frames = scaled(front.of_windows(windows), self.task.facts["frames"])
        outputs = network(
            {
                "frames": tf.cast(frames, network.input["frames"].dtype),
                "seen": portions * self.frames,
                "count": front.frames(heard),
                **states,
            },
            training=False,
        )
        logits = self.model.get_layer("head")(outputs["sequence"])
        return {
            "logits": tf.cast(logits, tf.float32),
            "place": outputs["number"],
            "is_real": outputs["is_real"],
            "heard": heard,
            "portions": portions + 1,
            "sound": joined[:, -self._kept :],
            **{name: outputs[name] for name in self._states},
        }

    def start(self, rows: int) -> dict:
        """What is carried, at a beginning."""
        return {
            name: np.zeros((rows, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
            for name, spec in self.program().inputs.items()
            if name not in ("samples", "samples_count")
        }

    @cached_property
    def _traced(self):
        return tf.function(self.step, autograph=False)

    def run(self, samples: np.ndarray) -> np.ndarray:
        """Logits of one recording, portion by portion, [places, values]."""
        carried, kept = self.start(1), []
        ahead = round((self.look_ahead_s + self.task.window_s) * self.task.data.rate_hz)
        for first in range(0, len(samples) + ahead + self.samples, self.samples):
            own = samples[first : first + self.samples]
            padded = np.pad(own, (0, self.samples - len(own)))[None]
            outputs = self._traced(samples=padded, samples_count=np.int32([len(own)]), **carried)
            carried = {name: outputs[name] for name in carried}
            kept.append(outputs["logits"][0][outputs["is_real"][0]].numpy())
        return np.concatenate(kept)

    def trials(self, split: str) -> list[Trial]:
        """The first portions of some recordings."""
        data = self.task.data
        rows = [data.samples(split, i)[: self.samples] for i in range(min(TRIED, data.size(split)))]
        inputs = {
            "samples": np.stack([np.pad(row, (0, self.samples - len(row))) for row in rows]),
            "samples_count": np.array([len(row) for row in rows], np.int32),
            **self.start(len(rows)),
        }
        outputs = self.step(**{name: tf.constant(value) for name, value in inputs.items()})
        expected = {name: value.numpy() for name, value in outputs.items()}
        return [Trial(program="stream", inputs=inputs, expected=expected, unit="portion")]

    def remark(self) -> str:
        rate = self.task.data.rate_hz
        return (
            f"`stream` takes portions of {self.samples:,} samples ({self.samples / rate:g} s) and"
            " gives the logits that the whole recording would have, where `is_real`; a place needs"
            f" {self.look_ahead_s:g} s of sound behind it. What is carried begins as zeros. After"
            " the end, portions with samples_count 0 bring the last places."
        )
