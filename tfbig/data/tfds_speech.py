"""Any transcribed speech of TensorFlow Datasets, such as LibriSpeech."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.data._tfds_recordings import TFDSRecordings, made_up, opened
from tfbig.data._transcribed import Transcribed


@dataclass(frozen=True, kw_only=True)
class TFDSSpeech(TFDSRecordings, Transcribed):
    """Any transcribed speech of TensorFlow Datasets: librispeech, ljspeech, ..."""

    builder: str = knob("librispeech", "TensorFlow Datasets' name, or name/configuration")
    audio_key: str = knob("speech", "the feature that holds the recording")
    text_key: str = knob("text", "the feature that holds the transcript")
    train_part: str = knob("train_clean100", "published part used as training split")
    validation_part: str = knob(
        "dev_clean", "published part used as validation split; empty: held out from train"
    )
    test_part: str = knob(
        "test_clean", "published part used as test split; empty: held out from train"
    )
    most_s: float = knob(36.0, "seconds of the longest recording", above=0)

    gives = frozenset({"samples", "transcript"})

    @classmethod
    def smallest(cls, folder):
        from tensorflow_datasets import features

        names = {"train_part": "train", "validation_part": "validation", "test_part": "test"}
        more = {"text": features.Text(), "speaker_id": features.Text()}
        made_up(
            folder,
            "spoken_tones",
            2000,
            more,
            lambda number: {"text": "AB"[number % 2], "speaker_id": str(number % 5)},
        )
        return cls(builder="spoken_tones", audio_key="audio", rate_hz=2000, most_s=0.4, **names)

    def described(self, record, features):
        text = record.get(self.text_key)
        if not isinstance(text, bytes):
            known = ", ".join(sorted(opened(self).info.features))
            raise UserError(
                f"data.text_key: expected a feature that holds text. Received: {self.text_key!r}."
                f" {self.builder} has {known}."
            )
        return {"text": text.decode("utf-8", "replace")}
