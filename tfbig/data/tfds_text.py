"""Labelled texts of TensorFlow Datasets: GLUE, imdb_reviews, ag_news_subset and the like."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.data import _tfds, _tfds_folders
from tfbig.data._labelled_texts import LabelledTexts, Rows

# Names of two texts that belong together, in this order, where a dataset has just these
PAIRS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
)
ALONE = ("text", "sentence", "review", "description", "content")  # of several texts, the one meant
TEST_PARTS = ("test", "validation", "validation_matched")


@dataclass(frozen=True, kw_only=True)
class TFDSText(LabelledTexts):
    """Labelled texts of TensorFlow Datasets, in memory: sentences, pairs, reviews.

    The test split is the published test part if that has labels, else the validation part, as is
    usual for GLUE; a validation split is then cut from the training part. Of SST-2 that part holds
    phrases of its sentences, so validation is too good there: compare runs by it, tell no figures.
    """

    builder: str = knob(
        "glue/sst2", "TensorFlow Datasets' name, or name/configuration, such as imdb_reviews"
    )
    text: str = knob("", "the feature that holds the text; empty: by its usual name")
    second: str = knob(
        "", "the feature that holds the second text; empty: by its usual name, if there is one"
    )
    label: str = knob("label", "the feature that holds the label")
    test_part: str = knob(
        "", "published part used as test split; empty: the first with labels of test, validation"
    )
    validation_part: str = knob(
        "", "published part used as validation split; empty: cut from train"
    )

    @classmethod
    def smallest(cls, folder):
        """Pairs of sentences, prepared as published ones are."""
        from tensorflow_datasets import features

        kinds = {
            "idx": np.int32,
            "sentence1": features.Text(),
            "sentence2": features.Text(),
            "label": features.ClassLabel(names=["other", "same"]),
        }

        def part(count: int, has_labels: bool = True) -> list[dict]:
            rows = []
            for i in range(count):
                first = f"number {i} is {'odd' if i % 2 else 'even'}"
                second = first if i % 3 else f"a film of {i} minutes"
                label = int(i % 3 > 0) if has_labels else -1
                texts = {"sentence1": first, "sentence2": second}
                rows.append({"idx": i, **texts, "label": label})
            return rows

        parts = {"train": part(60), "validation": part(20), "test": part(10, has_labels=False)}
        _tfds.prepare_made_up("made_up_pairs", folder, kinds, parts)
        return cls(builder="made_up_pairs", context=12, vocabulary=260)

    def problems(self):
        yield from super().problems()
        if self.second and not self.text:
            yield "second", f"expected beside data.text. Received: {self.second} alone."

    def check(self):
        _tfds_folders.find(self.builder)

    def rows(self):
        features = _builder(self.builder).info.features
        texts = self._columns(features)
        if self.label not in features:
            raise UserError(
                f"data.label: expected one of {', '.join(sorted(features))}. Received:"
                f" {self.label!r}."
            )
        kind = features[self.label]
        names = tuple(getattr(kind, "names", None) or ())
        if not names and (kind.shape != () or np.dtype(kind.np_dtype).kind not in "iufb"):
            received = f"{self.label!r}, {type(kind).__name__}"
            raise UserError(
                f"data.label: expected a feature of classes or of numbers. Received: {received}."
            )
        parts = self._parts()
        columns: dict[str, list] = {name: [] for name in (*texts, self.label)}
        splits = []
        for split, part in parts.items():
            arrays = _read(self.builder, part)
            for name, values in columns.items():
                values.extend(arrays[name].tolist())
            splits += [split] * len(arrays[self.label])
        labels = np.array(columns[self.label], np.int32 if names else np.float32)
        if names:
            _tfds.check_labels(labels, names, self.builder)
        if names and labels.min() < 0:
            raise UserError(
                f"data: {self.builder}: expected parts with labels. Received: one without, of"
                f" {', '.join(parts.values())}."
            )
        decoded = [[_text(value) for value in columns[name]] for name in texts]
        note = f"splits are the published parts {', '.join(parts.values())}"
        return Rows(decoded[0], labels, names, *decoded[1:], splits=splits, notes=(note,))

    def _columns(self, features) -> tuple[str, ...]:
        """The features that hold the text, and the second one of a pair."""
        known = _text_features(features)
        for knob_name in ("text", "second"):
            chosen = getattr(self, knob_name)
            if chosen and chosen not in known:
                raise UserError(
                    f"data.{knob_name}: expected one of {', '.join(known)}. Received: {chosen!r}."
                )
        if self.text:
            return (self.text, self.second) if self.second else (self.text,)
        pair = next((names for names in PAIRS if set(names) <= set(known)), None)
        if pair:
            return pair
        alone = next((name for name in ALONE if name in known), None)
        if len(known) == 1 or alone:
            return (alone or known[0],)
        raise UserError(
            f"data.text: expected the feature that holds the text, one of {', '.join(known)}."
            f" Received: nothing, for {self.builder}."
        )

    def _parts(self) -> dict[str, str]:
        """The published part of each split that has one."""
        info = _builder(self.builder).info
        parts = {"train": "train", "validation": self.validation_part, "test": self.test_part}
        _tfds.check_parts(info, parts)
        others = [
            part for part in TEST_PARTS if part in info.splits and part != parts["validation"]
        ]
        if not parts["test"]:
            labelled = (part for part in others if self._has_labels(part))
            parts["test"] = next(labelled, "")
        return {split: part for split, part in parts.items() if part}

    def _has_labels(self, part: str) -> bool:
        labels = _read(self.builder, part).get(self.label)
        return labels is not None and len(labels) > 0 and not bool(np.all(labels == -1))

    def content(self):
        names = ("text", "second", "label", "test_part", "validation_part")
        lines = [*_tfds.contents(_builder(self.builder)), *(getattr(self, name) for name in names)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def source_card(self):
        info = _builder(self.builder).info
        licence = info.redistribution_info.license if info.redistribution_info else ""
        return {
            "title": info.full_name,
            "source": f"{info.homepage or ''} through TensorFlow Datasets".strip(),
            "licence": licence or "see the source",
            "citation": info.citation or "see the source",
        }


@functools.lru_cache(maxsize=2)
def _builder(name: str):
    builder = _tfds.open_builder(name)
    _tfds.check_parts(builder.info, {"train": "train"})
    if not _text_features(builder.info.features):
        features = ", ".join(sorted(builder.info.features))
        raise UserError(
            f"data.builder: expected a dataset of texts. Received: {name} ({features})."
        )
    return builder


def _text_features(features) -> list[str]:
    """The names of the features that hold texts, in the order of the alphabet.

    A prepared set's own order is another one each time it is read.
    """
    import tensorflow_datasets as tfds

    return sorted(name for name, kind in features.items() if isinstance(kind, tfds.features.Text))


@functools.lru_cache(maxsize=4)
def _read(name: str, part: str) -> dict[str, np.ndarray]:
    return _tfds.read_all(name, part)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").strip()
