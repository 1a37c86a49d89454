"""Audio classification: a label for each recording, such as a keyword, a speaker, a sound."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.lazy import keras, np
from tfbig.core.serving import Media, Serving
from tfbig.data.audio_folder import AudioFolder
from tfbig.models.crnn import CRNN
from tfbig.tasks._classifier import Classifier
from tfbig.tasks._heard import Heard

SHOWN_MISTAKES = 12  # recordings in a panel of the report
LENGTHS = 6  # parts of equal size that recordings are sorted into by their lengths


@dataclass(frozen=True, kw_only=True)
class Labels(Component):
    """How labels are asked for."""

    top: int = knob(1, "labels for each recording, the most probable first", low=1)


@dataclass(frozen=True, kw_only=True)
class AudioClassification(Classifier, Heard):
    """Audio classification: keywords, speakers, sounds, by the mean of a sequence's features."""

    takes = frozenset({"samples", "label"})
    read = ("frames", "frames_count")
    primary = ("accuracy", "max")
    metric_units = dict.fromkeys(("accuracy", "macro_f1", "f1"), "%")
    request = Labels

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(bands=16, speed=0.05, noise=0.2),
            model=CRNN(channels=8, blocks=1, units=(), normalization="layer", dropout=0.02),
            data=AudioFolder.smallest(folder),
            train=Train(length="60", batch_size=12, shapes=2, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.05, epsilon=1e-3),
        )

    def measure(self, data):
        return {**super().measure(data), "labels": list(data.label_names)}

    def preprocess(self, raw, training):
        """Recordings to normalised log-mel frames; changed at random while training."""
        ready = self.framed(raw, training)
        return {**ready, "label": raw["label"]} if "label" in raw else ready

    def build(self):
        body = self.model.build(self.frames_spec)
        sequence, count = (body.output[name] for name in ("sequence", "sequence_count"))
        ops = keras.ops
        number = ops.maximum(ops.cast(count, sequence.dtype), 1)[:, None]
        features = ops.sum(sequence, axis=1) / number  # behind the real places are zeros
        return self.headed(body, features)

    def records(self, outputs, batch):
        """What was said and what is true, and the frames of each recording [batch]."""
        records = self.answers.records(outputs, batch["label"])
        return {**records, "frames": batch["frames_count"]}

    def serving(self, model, options):
        """WAV in, bytes [batch]; label, score, and all labels with their scores out."""

        def records(answers, batch):
            own = self.answers.answered_records(answers, batch["label"])
            return {**own, "frames": batch["frames_count"]}

        return Serving(
            signature={"wav_bytes": self.audio.served("wav_bytes")},
            decode=self.decode,
            encode=self.encode,
            answer=self.answers.answer,
            grade=self.grade,
            records=records,
            units={"frames": self.frames_unit},
            media=Media(
                takes={"wav_bytes": "samples"},
                gives=dict(self.answers.gives),
                forms={"wav_bytes": self.audio.form()},
            ),
            remarks=(self.heard_as,),
        )

    def respond(self, trained, inputs, request, write):
        """Labels of recordings: [{"input", "label", "score", "top": [[label, probability]]}]."""
        taken = self.audio.take(inputs)
        if not taken.names:
            return taken.answered([])
        outputs = trained.predict({"samples": list(taken.values)})
        results = []
        for row, source in enumerate(taken.names):
            said = self.answers.said(outputs, row, request.top)
            results.append({"input": source, **said})
            words = ", ".join(f"{label} {share:.1%}" for label, share in said["top"])
            write(f"{source}: {words}\n")
        return taken.answered(results)

    def panels(self, split, positions, records):
        """What the answers are like, how that depends on length, and the surest mistakes."""
        places, words = self.answers.wrong(records)
        shown = [self.data.samples(split, int(i)) for i in positions[places[:SHOWN_MISTAKES]]]
        return [
            *self.answers.panels(records),
            self._by_length(records),
            self.audio.panel("Surest mistakes", shown, words[:SHOWN_MISTAKES]),
        ]

    def _by_length(self, records) -> dict:
        """How good answers to short and long recordings are."""
        order = np.argsort(records["frames"], kind="stable")
        right = self.answers.right(records)
        labels, values = [], []
        for part in np.array_split(order, min(LENGTHS, len(order))):
            low, high = ((records["frames"][part[i]] - 1) * self.hop_s for i in (0, -1))
            labels.append(f"{low:.2f} to {high:.2f} s")
            values.append(round(float(right[part].mean()), 4))
        title = "Accuracy by length"
        return {"kind": "bars", "title": title, "labels": labels, "values": values}
