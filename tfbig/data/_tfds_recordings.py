"""Recordings of TensorFlow Datasets, read at random."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.core.lazy import np
from tfbig.data import _tfds, _tfds_folders
from tfbig.data._recordings import Recording, Recordings, split_by_speaker
from tfbig.data._tfds_records import check_records, source
from tfbig.prep.recordings import LEVELS, resampled, resampled_length

SPEAKERS = ("speaker_id", "speaker")


@dataclass(frozen=True, kw_only=True)
class TFDSRecordings(Recordings):
    """What datasets of recordings of TensorFlow Datasets share.

    Each is read whole once at the start, to know how long recordings are and what belongs to them.
    """

    builder: str = knob("", "TensorFlow Datasets' name, or name/configuration")
    audio_key: str = knob("audio", "the feature that holds the recording")
    train_part: str = knob("train", "published part used as training split")
    validation_part: str = knob(
        "validation", "published part used as validation split; empty: held out from train"
    )
    test_part: str = knob("test", "published part used as test split; empty: held out from train")
    held_out: float = knob(
        0.1, "share held out for each split that is not named", above=0, high=0.45
    )
    split_seed: int = knob(0, "of the choice of held-out recordings", low=0, high=2**32 - 1)

    def described(self, record: dict, features) -> dict:
        """The label or the transcript of a record, as `Recording` has it."""
        raise NotImplementedError

    def check(self):
        _tfds_folders.find(self.builder, random_access=True)

    def parts(self) -> dict[str, str]:
        named = (self.train_part, self.validation_part, self.test_part)
        return {split: part for split, part in zip(SPLITS, named, strict=True) if part}

    def divided(self):
        listed = [one for split, part in self.parts().items() for one in _listed(self, split, part)]
        shares = dict.fromkeys(("test", "validation"), self.held_out)
        return split_by_speaker(listed, shares, self.split_seed)

    def content(self):
        info = opened(self).info
        return f"{info.full_name} {self.audio_key}"

    def source_card(self):
        info = opened(self).info
        redistribution = info.redistribution_info
        return {
            "title": info.full_name,
            "source": f"{info.homepage or ''} through TensorFlow Datasets".strip(),
            "licence": (redistribution.license if redistribution else "") or "see the source",
            "citation": info.citation or "see the source",
        }


@functools.lru_cache(maxsize=4)
def opened(data: TFDSRecordings):
    """The dataset, if its recordings can be read."""
    import tensorflow_datasets as tfds

    builder = _tfds.open_builder(data.builder, random_access=True)
    info = builder.info
    features = dict(info.features.items())
    if not isinstance(features.get(data.audio_key), tfds.features.Audio):
        raise UserError(
            f"data.audio_key: expected a feature that holds recordings. Received:"
            f" {data.audio_key!r}. {info.full_name} has {', '.join(sorted(features))}."
        )
    _tfds.check_parts(info, data.parts())
    for part in data.parts().values():
        check_records(builder, part)
    return builder


@functools.lru_cache(maxsize=12)
def _source(data: TFDSRecordings, part: str):
    return source(opened(data), part, {})


def _rate(data: TFDSRecordings) -> int:
    return opened(data).info.features[data.audio_key].sample_rate or data.rate_hz


@functools.lru_cache(maxsize=12)
def _listed(data: TFDSRecordings, split: str, part: str) -> list[Recording]:
    features = opened(data).info.features
    rate = _rate(data)
    listed = []
    for row, record in enumerate(_source(data, part)):
        speaker = next((record[key] for key in SPEAKERS if key in record), "")
        speaker = speaker.decode() if isinstance(speaker, bytes) else str(speaker)
        name = f"recording {row} of {part} of {data.builder}"
        count = len(record[data.audio_key])
        if not count:
            raise UserError(f"data: {name}: expected a recording. Received: no samples.")
        listed.append(
            Recording(
                name=name,
                count=resampled_length(count, rate, data.rate_hz),
                speaker=speaker,
                split=split,
                load=_loader(data, part, row),
                **data.described(record, features),
            )
        )
    return listed


def _loader(data: TFDSRecordings, part: str, row: int) -> Callable[[], np.ndarray]:
    return functools.partial(_load, data, part, row)


def _load(data: TFDSRecordings, part: str, row: int) -> np.ndarray:
    levels = np.asarray(_source(data, part)[row][data.audio_key]).reshape(-1)
    samples = levels.astype(np.float32)
    if levels.dtype.kind == "i":
        samples = samples / LEVELS
    return np.clip(resampled(samples, _rate(data), data.rate_hz), -1, 1)


def made_up(folder, name: str, rate_hz: int, more: dict, rows: Callable[[int], dict]) -> None:
    """Prepares tones of a few lengths as published recordings are; `rows`: what else row i has."""
    from tensorflow_datasets import features

    kinds = {"audio": features.Audio(sample_rate=rate_hz, dtype=np.int64), **more}
    random = np.random.RandomState(0)

    def tone(number: int) -> dict:
        time = np.arange(int(rate_hz * random.uniform(0.1, 0.3))) / rate_hz
        sound = 9000 * np.sin(2 * np.pi * (200 + 300 * (number % 2)) * time)
        return {"audio": sound.astype(np.int64), **rows(number)}

    parts = {"train": range(60), "validation": range(20), "test": range(20)}
    examples = {part: [tone(number) for number in own] for part, own in parts.items()}
    _tfds.prepare_made_up(name, folder, kinds, examples, random_access=True)
