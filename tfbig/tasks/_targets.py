"""What a classifier answers with, whatever it reads: one label, several labels, or a number.

A target knows the loss of a head's outputs, what they mean, how they are measured, and how people
are answered. Metrics of all examples together are those of scikit-learn and SciPy by the same
names, from counts and ranks, so that hundreds of resamples cost little.

Shapes: b examples, k labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tfbig.core.lazy import np, tf
from tfbig.metrics import classification
from tfbig.tasks._classes import panels

SERVED_LABELS = 20  # in an answer, the likeliest first
THRESHOLD = 0.5  # probability from which one of several labels is said


@dataclass(frozen=True)
class OneLabel:
    """One of k labels: softmax, cross-entropy in nats."""

    names: tuple[str, ...]
    kind: ClassVar[str] = "label"
    gives: ClassVar[dict] = {
        "label": "label",
        "score": "number",
        "labels": "label",
        "scores": "probabilities",
    }

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def metrics_known(self) -> dict[str, str]:
        """Metrics, and whether "max" or "min" is better."""
        names = ("accuracy", "matthews", "macro_f1", *(("auroc", "f1") if self.width == 2 else ()))
        return {"loss": "min", **dict.fromkeys(names, "max")}

    def loss(self, logits, label, smoothing: float = 0.0):
        exact = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
        if not smoothing:
            return exact
        uniform = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
        return (1 - smoothing) * exact + smoothing * uniform

    def outputs(self, logits) -> dict:
        probability = tf.nn.softmax(logits)
        return {
            "logits": logits,
            "probability": probability,
            "label": tf.argmax(logits, -1, tf.int32),
        }

    def metrics(self, outputs, label) -> dict:
        ones = tf.ones_like(outputs["logits"][:, 0])
        right = tf.cast(tf.equal(outputs["label"], label), tf.float32)
        return {"accuracy": (right, ones), "loss": (self.loss(outputs["logits"], label), ones)}

    def records(self, outputs, label) -> dict:
        """The label said, the true one, and the probabilities of the said one and of the last."""
        probability = outputs["probability"]
        return {
            "label": outputs["label"],
            "true": label,
            "confidence": tf.reduce_max(probability, -1),
            "last": probability[:, -1],
        }

    def score(self, statistics) -> dict:
        """Matthews' correlation and macro F1; of two labels also AUROC and F1 of the second."""
        true, said = statistics["true"], statistics["label"]
        counts = np.zeros((self.width, self.width), np.int64)
        np.add.at(counts, (true, said), 1)
        f1 = classification.f1(counts)
        seen = counts.sum(0) + counts.sum(1) > 0  # as scikit-learn: labels that occur
        metrics = {"matthews": classification.matthews(counts), "macro_f1": float(f1[seen].mean())}
        if self.width == 2:
            metrics["auroc"] = classification.auroc(statistics["last"], true == 1)
            metrics["f1"] = float(f1[1])
        return metrics

    def answer(self, outputs) -> dict:
        scores, index = tf.math.top_k(outputs["probability"], min(SERVED_LABELS, self.width))
        labels = tf.gather(tf.constant(self.names), index)
        answer = {"label": labels[:, 0], "score": scores[:, 0]}
        return {**answer, "labels": labels, "scores": scores}

    def graded(self, answers, label) -> dict:
        true = tf.gather(tf.constant(self.names), label)
        right = tf.cast(tf.equal(answers["label"], true), tf.float32)
        return {"accuracy": (right, tf.ones_like(right))}

    def answered_records(self, answers, label) -> dict:
        """As `records`, from nothing but answers."""
        names = tf.constant(self.names)
        said = tf.argmax(tf.equal(answers["label"][:, None], names), -1, tf.int32)
        is_last = tf.equal(answers["labels"], self.names[-1])
        return {
            "label": said,
            "true": label,
            "confidence": answers["score"],
            "last": tf.reduce_sum(tf.where(is_last, answers["scores"], 0.0), 1),
        }

    def said(self, outputs: dict[str, np.ndarray], i: int, top: int) -> dict[str, Any]:
        """The answer for an example as JSON values."""
        row = outputs["probability"][i]
        best = [[self.names[j], float(row[j])] for j in np.argsort(-row, kind="stable")[:top]]
        return {"label": best[0][0], "score": best[0][1], "top": best}

    def wrong(self, records) -> tuple[np.ndarray, list[str]]:
        """Mistakes, the surest first: their places, and what to say of each."""
        places = np.flatnonzero(records["label"] != records["true"])
        places = places[np.argsort(-records["confidence"][places], kind="stable")]
        words = [
            f"true {self.names[records['true'][i]]}, said {self.names[records['label'][i]]},"
            f" {records['confidence'][i]:.1%}"
            for i in places
        ]
        return places, words

    def right(self, records) -> np.ndarray:
        return records["label"] == records["true"]

    def panels(self, records) -> list[dict]:
        """Confusion matrix, measures of each class, reliability."""
        return panels(self.names, records["true"], records["label"], records["confidence"])


@dataclass(frozen=True)
class SeveralLabels:
    """Any of k labels: a sigmoid each, binary cross-entropy, the mean over labels in nats."""

    names: tuple[str, ...]
    kind: ClassVar[str] = "labels"
    gives: ClassVar[dict] = {"label": "label", "labels": "label", "scores": "probabilities"}

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def metrics_known(self) -> dict[str, str]:
        return {"loss": "min", "accuracy": "max", "macro_f1": "max", "micro_f1": "max"}

    def loss(self, logits, label, smoothing: float = 0.0):
        target = tf.cast(label, logits.dtype) * (1 - smoothing) + smoothing / 2
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(target, logits), -1)

    def outputs(self, logits) -> dict:
        return {"logits": logits, "probability": tf.nn.sigmoid(logits)}

    def metrics(self, outputs, label) -> dict:
        ones = tf.ones_like(outputs["logits"][:, 0])
        said = outputs["probability"] >= THRESHOLD
        right = tf.reduce_all(tf.equal(said, tf.equal(label, 1)), -1)
        loss = self.loss(outputs["logits"], label)
        return {"accuracy": (tf.cast(right, tf.float32), ones), "loss": (loss, ones)}

    def records(self, outputs, label) -> dict:
        return {"probability": outputs["probability"], "true": label}

    def score(self, statistics) -> dict:
        """F1 as the mean over labels, and of all labels' decisions together."""
        said, true = statistics["probability"] >= THRESHOLD, statistics["true"] == 1
        hits = (said & true).sum(0)
        total = said.sum(0) + true.sum(0)
        each = np.where(total > 0, 2 * hits / np.maximum(total, 1), 0.0)
        whole = total.sum()
        return {
            "macro_f1": float(each.mean()),
            "micro_f1": float(2 * hits.sum() / whole) if whole else 0.0,
        }

    def answer(self, outputs) -> dict:
        """All labels, the likeliest first, and those that are said, in the order of their names."""
        names = tf.constant(self.names)
        probability = outputs["probability"]
        scores, index = tf.math.top_k(probability, self.width)
        words = tf.where(probability >= THRESHOLD, tf.strings.join([names, ", "])[None], "")
        label = tf.strings.regex_replace(tf.strings.reduce_join(words, axis=1), r", \z", "")
        return {"label": label, "labels": tf.gather(names, index), "scores": scores}

    def graded(self, answers, label) -> dict:
        said = self.answered_records(answers, label)["probability"] >= THRESHOLD
        right = tf.cast(tf.reduce_all(tf.equal(said, tf.equal(label, 1)), -1), tf.float32)
        return {"accuracy": (right, tf.ones_like(right))}

    def answered_records(self, answers, label) -> dict:
        is_name = tf.equal(answers["labels"][:, :, None], tf.constant(self.names))
        scores = tf.where(is_name, answers["scores"][:, :, None], 0.0)
        return {"probability": tf.reduce_sum(scores, 1), "true": label}

    def said(self, outputs, i, top):
        row = outputs["probability"][i]
        best = [[self.names[j], float(row[j])] for j in np.argsort(-row, kind="stable")[:top]]
        chosen = [name for name, share in zip(self.names, row, strict=True) if share >= THRESHOLD]
        return {"label": chosen, "top": best}

    def wrong(self, records):
        said = records["probability"] >= THRESHOLD
        places = np.flatnonzero(~self.right(records))
        surprise = np.abs(records["probability"] - records["true"]).max(1)
        places = places[np.argsort(-surprise[places], kind="stable")]
        words = [
            f"true {self._listed(records['true'][i] == 1)}, said {self._listed(said[i])}"
            for i in places
        ]
        return places, words

    def _listed(self, chosen) -> str:
        names = [name for name, is_chosen in zip(self.names, chosen, strict=True) if is_chosen]
        return ", ".join(names) or "none"

    def right(self, records):
        return ((records["probability"] >= THRESHOLD) == (records["true"] == 1)).all(1)

    def panels(self, records):
        said, true = records["probability"] >= THRESHOLD, records["true"] == 1
        rows = []
        for j, name in enumerate(self.names):
            hits = int((said[:, j] & true[:, j]).sum())
            shares = [_share(hits, int(said[:, j].sum())), _share(hits, int(true[:, j].sum()))]
            f1 = _share(2 * hits, int(said[:, j].sum() + true[:, j].sum()))
            rows.append([name, f"{int(true[:, j].sum()):,}", *shares, f1])
        headers = ["label", "examples", "precision", "recall", "F1"]
        return [{"kind": "table", "title": "Each label", "headers": headers, "rows": rows}]


@dataclass(frozen=True)
class Number:
    """A number: squared error in standard deviations of the training split."""

    mean: float
    deviation: float
    kind: ClassVar[str] = "number"
    gives: ClassVar[dict] = {"value": "number"}
    names: ClassVar[tuple] = ()
    width: ClassVar[int] = 1

    @property
    def metrics_known(self) -> dict[str, str]:
        return {"loss": "min", "absolute_error": "min", "pearson": "max", "spearman": "max"}

    def loss(self, logits, label, smoothing: float = 0.0):
        return (logits[:, 0] - (label - self.mean) / self.deviation) ** 2

    def outputs(self, logits) -> dict:
        return {"value": logits[:, 0] * self.deviation + self.mean}

    def metrics(self, outputs, label) -> dict:
        error = outputs["value"] - label
        ones = tf.ones_like(error)
        return {
            "loss": ((error / self.deviation) ** 2, ones),
            "absolute_error": (tf.abs(error), ones),
        }

    def records(self, outputs, label) -> dict:
        return {"value": outputs["value"], "true": label}

    def score(self, statistics) -> dict:
        said, true = statistics["value"], statistics["true"]
        spearman = classification.spearman(said, true)
        return {"pearson": classification.pearson(said, true), "spearman": spearman}

    def answer(self, outputs) -> dict:
        return {"value": outputs["value"]}

    def graded(self, answers, label) -> dict:
        return self.metrics(answers, label)

    def answered_records(self, answers, label) -> dict:
        return self.records(answers, label)

    def said(self, outputs, i, top):
        return {"value": float(outputs["value"][i])}

    def wrong(self, records):
        error = np.abs(records["value"] - records["true"])
        places = np.argsort(-error, kind="stable")
        words = [f"true {records['true'][i]:.3g}, said {records['value'][i]:.3g}" for i in places]
        return places, words

    def right(self, records):
        return -np.abs(records["value"] - records["true"])

    def panels(self, records):
        points = {name: [round(float(v), 4) for v in records[name]] for name in ("true", "value")}
        labels = [""] * len(points["true"])
        series = [{"name": "", "x": points["true"], "y": points["value"], "labels": labels}]
        axes = {"x_label": "true", "y_label": "said", "series": series}
        return [{"kind": "points", "title": "True and said numbers", **axes}]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
