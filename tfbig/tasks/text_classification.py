"""Text classification: a label, several labels or a number for each text or pair of texts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import Component, knob
from tfbig.core.errors import LeftOut, UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Media, Serving
from tfbig.data.text_table import TextTable
from tfbig.media.text import Text
from tfbig.models.bag_of_embeddings import BagOfEmbeddings
from tfbig.prep import graph_text, text_frames, text_masks, tokenizers, vocabularies
from tfbig.prep.text import plain
from tfbig.tasks._classifier import Classifier
from tfbig.tasks._requests import outside
from tfbig.tasks._targets import Number, OneLabel, SeveralLabels

SHOWN_TEXTS = 24  # in a panel of the report
LENGTHS = 8  # parts of equal size that texts are sorted into by their lengths
TOGETHER = 64  # texts that are answered at once


@dataclass(frozen=True, kw_only=True)
class Labels(Component):
    """How labels are asked for."""

    top: int = knob(1, "labels for each text, the most probable first", low=1)


@dataclass(frozen=True, kw_only=True)
class TextClassification(Classifier):
    """Text classification: labels, sets of labels or numbers for texts and pairs of texts."""

    metric: str = knob(
        "accuracy",
        "what picks the best checkpoint; of numbers: spearman",
        choices=(
            "accuracy",
            "matthews",
            "macro_f1",
            "micro_f1",
            "f1",
            "auroc",
            "spearman",
            "pearson",
            "absolute_error",
            "loss",
        ),
    )
    word_dropout: float = knob(
        0.0,
        "training: share of tokens that are read as unknown ones (Iyyer et al. 2015)",
        low=0,
        high=0.9,
    )

    takes = frozenset({"text", "label"})
    feeds = frozenset({"text"})
    read = ("tokens", "count", "segments")
    needs = frozenset({"features"})
    metric_units = {name: "%" for name in ("accuracy", "macro_f1", "micro_f1", "f1")}
    asked_with = "TEXT"
    preprocess_on = "device"
    request = Labels

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(word_dropout=0.05),
            model=BagOfEmbeddings.smallest(),
            data=TextTable.smallest(folder),
            train=Train(length="60", batch_size=12, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.02),
        )

    @property
    def primary(self):
        better = "min" if self.metric in ("loss", "absolute_error") else "max"
        return self.metric, better

    def measure(self, data):
        """The tokenizer, whether texts come in pairs, and what the labels are.

        A run carries its own tokenizer and the names of its labels.
        """
        tokenizer = data.read_tokenizer()
        if data.is_pair and tokenizer.separator is None:
            raise UserError(
                "data.tokenizer: expected one with a separator, which stands between two texts."
                f" Received: {tokenizer.kind} without one. Set data.tokenizer=wordpiece."
            )
        facts = {
            "tokenizer": tokenizer.to_json(),
            "pair": data.is_pair,
            "labels": list(data.label_names),
            "target": OneLabel.kind,
        }
        label = data.spec["label"]
        if label.shape:
            facts["target"] = SeveralLabels.kind
        elif label.dtype == "float32":
            values = data.examples("train", np.arange(data.size("train")))["label"]
            values = values.astype(np.float64)
            spread = max(float(values.std()), 1e-6)
            facts |= {"target": Number.kind, "mean": float(values.mean()), "deviation": spread}
        self._check_metric(facts)
        return facts

    def _check_metric(self, facts: dict) -> None:
        known = _target(facts).metrics_known
        if self.metric not in known:
            kind = {"label": "one label", "labels": "several labels", "number": "a number"}
            raise UserError(
                f"task.metric: expected one of {', '.join(known)}, since each text has"
                f" {kind[facts['target']]}. Received: {self.metric}."
            )

    @property
    def answers(self) -> OneLabel | SeveralLabels | Number:
        """What is answered, as the run learnt it."""
        return _target(self.facts)

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        if not hasattr(self, "_tokenizer"):
            object.__setattr__(self, "_tokenizer", vocabularies.from_json(self.facts["tokenizer"]))
        return self._tokenizer

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the texts of an example."""
        return ("text", "text_pair") if self.facts["pair"] else ("text",)

    @property
    def context(self) -> int:
        """Tokens that are read of each text."""
        return self.data.context

    def preprocess(self, raw, training):
        """Tokens of texts to tokens between special ones, and how many are real.

        While training, some are read as unknown ones.
        """
        counts = [raw[f"{name}_count"] for name in self.columns]
        ready = text_frames.framed(self.tokenizer, [raw[name] for name in self.columns], counts)
        if training and self.word_dropout:
            ready["tokens"] = text_masks.dropped(
                self.tokenizer, ready["tokens"], raw["key"], self.word_dropout
            )
        if len(self.columns) == 1:
            del ready["segments"]
        return {**ready, "label": raw["label"]} if "label" in raw else ready

    def build(self):
        texts = len(self.columns)
        length = texts * self.context + text_frames.added(self.tokenizer, texts)
        tokens = Feature(shape=(None,), dtype="int32", values=self.tokenizer.size, most=length)
        spec = {"tokens": tokens, "count": Feature(shape=(), dtype="int32")}
        if texts > 1:
            spec["segments"] = Feature(shape=(None,), dtype="int32", values=texts, most=length)
        body = self.model.build(spec)
        features = body.output
        features = features["features"] if isinstance(features, dict) else features
        return self.headed(body, features)

    def records(self, outputs, batch):
        """What was said and what is true, and the tokens of each text [batch]."""
        return {**self.answers.records(outputs, batch["label"]), "count": batch["count"]}

    def serving(self, model, options):
        """Texts in, bytes [batch]; label, score, and all labels with their scores out.

        Where the tokenizer cannot be a part of the graph, tokens int32 [batch, context] and how
        many of them are real.
        """
        in_graph = graph_text.encoder(self.tokenizer) is not None
        signature = {}
        for name in self.columns:
            tokens = tf.TensorSpec([None, self.context], tf.int32, name=name)
            signature[name] = Text().served(name) if in_graph else tokens
            if not in_graph:
                count = f"{name}_count"
                signature[count] = tf.TensorSpec([None], tf.int32, name=count)
        kind = "text" if in_graph else "tokens"
        return Serving(
            signature=signature,
            decode=self.decode if in_graph else dict,
            encode=self.encode if in_graph else self._encode_tokens,
            answer=self.answers.answer,
            grade=self.grade,
            records=self._answered_records,
            media=Media(takes=dict.fromkeys(self.columns, kind), gives=dict(self.answers.gives)),
            assets={} if in_graph else {"tokenizer": self.tokenizer.to_json()},
            remarks=tuple(self._remarks(in_graph)),
        )

    def _remarks(self, in_graph: bool):
        yield (
            f"It reads the first {self.context} tokens ({self.tokenizer.kind}) of each text; what"
            " stands behind them changes nothing."
        )
        if self.data.normalize != "none":
            form = self.data.normalize.upper()
            yield f"It was trained on text in Unicode's form {form}; bring texts to it before."
        if not in_graph:
            yield outside(self.tokenizer)

    def decode(self, served):
        """Texts to their tokens int32 [batch, context] and counts."""
        raw = {}
        for name in self.columns:
            texts = Text().decode(served[name])
            raw[name], raw[f"{name}_count"] = text_frames.cut(self.tokenizer, texts, self.context)
        return raw

    def encode(self, raw):
        """Tokens to a text that is cut into them; texts stay as they are."""
        return {name: text_frames.spelled(self.tokenizer, raw[name]) for name in self.columns}

    def _encode_tokens(self, raw):
        served = {}
        for name in self.columns:
            values = raw[name]
            if isinstance(values, np.ndarray) and values.dtype == object:  # texts
                values = self.tokenizer.encode_all([text.decode() for text in values])
            served[name], served[f"{name}_count"] = text_frames.padded(values, self.context)
        return served

    def _answered_records(self, answers, batch):
        records = self.answers.answered_records(answers, batch["label"])
        return {**records, "count": batch["count"]}

    def respond(self, trained, inputs, request, write):
        """Answers for texts: [{"input", "label", "score", "top": [[label, probability], ...]}].

        A pair of texts is given with a tab between them, from Python also as a tuple. Of several
        labels "label" is a list; a number is "value".
        """
        rows = self._taken(inputs)
        results = []
        for first in range(0, len(rows), TOGETHER):
            outputs = self._answered(trained, rows[first : first + TOGETHER])
            for i, row in enumerate(rows[first : first + TOGETHER]):
                said = self.answers.said(outputs, i, request.top)
                results.append({"input": "\t".join(row), **said})
                write(f"{results[-1]['input']}: {_in_words(said)}\n")
        return results

    def _taken(self, inputs) -> list[tuple[str, ...]]:
        """What a user gave, as texts or pairs of them."""
        alone = isinstance(inputs, (str, Path))
        words = [inputs] if alone else list(inputs)
        pairs = [word for word in words if isinstance(word, (tuple, list))]
        if pairs and len(pairs) == len(words):
            rows = [tuple(pair) for pair in words]
        else:
            texts = Text().take(words).values
            rows = [tuple(text.split("\t")) if len(self.columns) > 1 else (text,) for text in texts]
        wrong = next((row for row in rows if len(row) != len(self.columns)), None)
        if wrong is not None:
            expected = "two texts with a tab between them" if len(self.columns) > 1 else "one text"
            raise UserError(
                f"inputs: expected {expected}. Received: {len(wrong)} in {str(wrong)[:100]}."
            )
        if not all(text.strip() for row in rows for text in row):
            raise UserError("inputs: expected a text. Received: an empty one.")
        return rows

    def _answered(self, trained, rows: list[tuple[str, ...]]) -> dict[str, np.ndarray]:
        """Outputs of `predict` for texts; says how many are longer than what is read of them."""
        raw = {}
        long = 0
        for name, texts in zip(self.columns, zip(*rows, strict=True), strict=True):
            Text().encode(texts)  # refuses what is no Unicode
            tokens = self.tokenizer.encode_all([plain(text, self.data.normalize) for text in texts])
            long += sum(len(row) > self.context for row in tokens)
            raw[name], raw[f"{name}_count"] = map(
                tf.constant, text_frames.padded(tokens, self.context)
            )
        if long:
            message = f"{long:,} texts are longer than the {self.context} tokens that are read"
            warnings.warn(message, LeftOut, stacklevel=2)
        outputs = self.predict(trained.model, self.preprocess(raw, False))
        return {name: value.numpy() for name, value in outputs.items()}

    def panels(self, split, positions, records):
        """What the answers are like, how that depends on length, and the worst mistakes."""
        places, words = self.answers.wrong(records)
        places, words = places[:SHOWN_TEXTS], words[:SHOWN_TEXTS]
        texts = self.data.texts(split, positions[places])
        shown = [" | ".join(row) for row in zip(*texts.values(), strict=True)]
        return [
            *self.answers.panels(records),
            self._by_length(records),
            Text().panel("Worst mistakes", shown, words),
        ]

    def _by_length(self, records) -> dict:
        """How good answers to short and long texts are."""
        order = np.argsort(records["count"], kind="stable")
        right = self.answers.right(records).astype(np.float64)
        rows = []
        for part in np.array_split(order, min(LENGTHS, len(order))):
            count = records["count"][part]
            rows.append((f"{count.min()} to {count.max()}", float(right[part].mean())))
        title = "Accuracy" if self.answers.kind != Number.kind else "Negative absolute error"
        return {
            "kind": "table",
            "title": f"{title} by length",
            "headers": ["tokens, special ones included", title.lower()],
            "rows": [[words, f"{value:.3f}"] for words, value in rows],
        }

    def training_panels(self, batch):
        """The first texts of training with their labels."""
        items = [
            "│".join(self.tokenizer.decode([int(token)]) for token in tokens[:count])
            for tokens, count in zip(batch["tokens"], batch["count"], strict=True)
        ]
        labels = [self._label_words(label) for label in batch["label"][:SHOWN_TEXTS]]
        caption = "As the network is given them; │ stands between two tokens."
        title = "Texts of the first training batch"
        return [Text().panel(title, items[:SHOWN_TEXTS], labels, caption)]

    def _label_words(self, label) -> str:
        names = self.answers.names
        if self.answers.kind == OneLabel.kind:
            return names[label]
        if self.answers.kind == Number.kind:
            return f"{label:.3g}"
        return (
            ", ".join(name for name, is_set in zip(names, label, strict=True) if is_set) or "none"
        )


def _target(facts: dict) -> OneLabel | SeveralLabels | Number:
    if facts["target"] == Number.kind:
        return Number(facts["mean"], facts["deviation"])
    kind = OneLabel if facts["target"] == OneLabel.kind else SeveralLabels
    return kind(tuple(facts["labels"]))


def _in_words(said: dict) -> str:
    if "value" in said:
        return f"{said['value']:.4g}"
    return ", ".join(f"{label} {share:.1%}" for label, share in said["top"])
