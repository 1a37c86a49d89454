"""Any labelled recordings of TensorFlow Datasets, such as Speech Commands."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.data._recordings import Labelled
from tfbig.data._tfds_recordings import TFDSRecordings, made_up, opened


@dataclass(frozen=True, kw_only=True)
class TFDSAudio(TFDSRecordings, Labelled):
    """Any labelled recordings of TensorFlow Datasets: speech_commands, spoken_digit, ..."""

    builder: str = knob("speech_commands", "TensorFlow Datasets' name, or name/configuration")
    label_key: str = knob("label", "the feature that holds the label")

    gives = frozenset({"samples", "label"})

    @classmethod
    def smallest(cls, folder):
        from tensorflow_datasets import features

        more = {"label": features.ClassLabel(names=["low", "high"])}
        made_up(folder, "two_tones", 4000, more, lambda number: {"label": number % 2})
        return cls(builder="two_tones", rate_hz=2000, most_s=0.4)

    @property
    def label_names(self):
        import tensorflow_datasets as tfds

        features = dict(opened(self).info.features.items())
        feature = features.get(self.label_key)
        if not isinstance(feature, tfds.features.ClassLabel):
            raise UserError(
                f"data.label_key: expected a feature that holds labels. Received:"
                f" {self.label_key!r}. {self.builder} has {', '.join(sorted(features))}."
            )
        return tuple(feature.names)

    def described(self, record, features):
        return {"label": int(record[self.label_key])}
