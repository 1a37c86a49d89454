"""Any translation dataset of TensorFlow Datasets, such as WMT's."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.data import _tfds, _tfds_folders
from tfbig.data._pairs import TextPairs


@dataclass(frozen=True, kw_only=True)
class TFDSTranslation(TextPairs):
    """Any translation dataset of TensorFlow Datasets, such as wmt14_translate/de-en.

    Its texts are read once, to make tokens of them; some 400 bytes of memory a pair.
    """

    builder: str = knob("wmt14_translate/de-en", "TensorFlow Datasets' name, or name/configuration")
    source: str = knob("de", "the feature that holds the source texts: its language")
    target: str = knob("en", "the feature that holds the target texts")
    validation_part: str = knob(
        "validation", "published part used as validation split; empty: held out from train"
    )
    test_part: str = knob("test", "published part used as test split; empty: held out from train")

    @classmethod
    def smallest(cls, folder):
        """Numbers in two spellings, prepared as published pairs are."""
        from tensorflow_datasets import features

        kinds = {"de": features.Text(), "en": features.Text()}
        numbers = {"train": range(60), "validation": range(60, 80), "test": range(80, 100)}
        parts = {
            part: [{"de": f"Nummer {i}", "en": f"number {i}"} for i in own]
            for part, own in numbers.items()
        }
        _tfds.prepare_made_up("numbers_translate", folder, kinds, parts)
        return cls(builder="numbers_translate", tokenizer="bytes", max_source=32, max_target=32)

    def problems(self):
        yield from super().problems()
        if self.source == self.target:
            yield "target", f"expected another one than data.source. Received: {self.target}."

    def check(self):
        _tfds_folders.find(self.builder)

    def content(self):
        chosen = [*map(repr, self._parts().items()), self.source, self.target]
        lines = [*_tfds.contents(_builder(self)), *chosen]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def pairs(self) -> Iterator:
        import tensorflow_datasets as tfds

        config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        builder = _builder(self)
        for split, part in self._parts().items():
            with _tfds.reading(builder):
                records = builder.as_dataset(split=part, shuffle_files=False, read_config=config)
                for number, record in enumerate(tfds.as_numpy(records)):
                    place = f"{self.builder}, {part} {number:,}"
                    yield split, place, *(self._text(record[n], place) for n in self._names)

    @property
    def _names(self) -> tuple[str, str]:
        return self.source, self.target

    @staticmethod
    def _text(content: bytes, place: str) -> str:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"data: {place}: expected text in UTF-8. Received: {error}.") from error

    def _parts(self) -> dict[str, str]:
        named = ("train", self.validation_part, self.test_part)
        return {split: part for split, part in zip(SPLITS, named, strict=True) if part}

    def source_card(self):
        info = _builder(self).info
        redistribution = info.redistribution_info
        return {
            "title": f"{info.full_name}, {self.source}-{self.target}",
            "source": f"{info.homepage or ''} through TensorFlow Datasets".strip(),
            "licence": (redistribution.license if redistribution else "") or "see the source",
            "citation": info.citation or "see the source",
        }


@functools.lru_cache(maxsize=4)
def _builder(data: TFDSTranslation):
    import tensorflow_datasets as tfds

    builder = _tfds.open_builder(data.builder)
    features = builder.info.features
    for knob_name, name in (("source", data.source), ("target", data.target)):
        if name not in features:
            known = ", ".join(sorted(features))
            raise UserError(f"data.{knob_name}: expected one of {known}. Received: {name!r}.")
        if not isinstance(features[name], tfds.features.Text):
            received = f"{name!r}, {type(features[name]).__name__}"
            raise UserError(f"data.{knob_name}: expected a feature of texts. Received: {received}.")
    _tfds.check_parts(builder.info, data._parts())
    return builder
