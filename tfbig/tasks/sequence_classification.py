"""Sequence classification: a label for each sequence of DNA or RNA."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np, tf
from tfbig.core.serving import Media, Serving
from tfbig.data.sequence_table import SequenceTable
from tfbig.decoding import motifs
from tfbig.media.sequence import Sequence
from tfbig.metrics import classification
from tfbig.models.motif_cnn import MotifCNN
from tfbig.prep import nucleotides, random
from tfbig.prep.nucleotides import BASES, NUCLEOTIDES
from tfbig.tasks._classes import curves
from tfbig.tasks._classifier import Classifier
from tfbig.tasks._sequence_programs import LONGEST, SequencePrograms

SHOWN = 24  # sequences in a panel of the report
LOGOS = 12
LOGO_LETTERS = 1 << 17  # of training sequences that the logos are drawn from
TOGETHER = 256  # sequences that are answered at once
NAMED = 20  # classes whose F1 is a metric of its own
ACROSS = 1  # stream of random numbers


@dataclass(frozen=True, kw_only=True)
class Asked(Component):
    """What is asked about sequences."""

    top: int = knob(1, "labels for each sequence, the most probable first", low=1)
    scan: int = knob(
        0, "letters from one window to the next along longer sequences; 0: they are none", low=0
    )
    mutate: bool = knob(False, "also the effect of each single-base substitution")
    effect_of: str = knob("", "class that effects are of; empty: the one said of each sequence")


@dataclass(frozen=True, kw_only=True)
class Service(Component):
    """How a served model answers."""

    effect_of: str = knob("", "class that effects are of; empty: the one said of each sequence")


@dataclass(frozen=True, kw_only=True)
class SequenceClassification(Classifier):
    """Sequence classification: a label for each sequence of DNA or RNA.

    Two classes: the last one counts as positive. The effect of a substitution, as `mutate` has it,
    is the difference that it makes to the log odds of a class against all others: ln(p / (1 - p))
    of the sequence with the other base, less that of the sequence as given, in nats. It is read on
    the strand that is given; a model with strands=both reads either.
    """

    metric: str = knob(
        "accuracy",
        "what picks the best checkpoint",
        choices=("accuracy", "matthews", "macro_f1", "f1", "auroc", "auprc", "loss"),
    )
    other_strand: float = knob(
        0.0,
        "training: share of sequences that are read as the strand across; 0 where direction means"
        " something",
        low=0,
        high=1,
    )

    takes = frozenset({"nucleotides", "label"})
    feeds = frozenset({"nucleotides"})
    read = ("sequence", "count")
    needs = frozenset({"features"})
    metric_units = dict.fromkeys(("accuracy", "macro_f1", "f1", "sensitivity", "specificity"), "%")
    asked_with = "SEQUENCE"
    preprocess_on = "device"
    request = Asked
    service = Service

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(other_strand=0.1),
            model=MotifCNN.smallest(),
            data=SequenceTable.smallest(folder),
            train=Train(length="60", batch_size=12, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.02),
        )

    @property
    def primary(self):
        return self.metric, "min" if self.metric == "loss" else "max"

    def measure(self, data):
        """The names of the classes, and how long sequences are: a run carries them."""
        letters = data.spec["sequence"]
        facts = {
            "labels": list(data.label_names),
            "letters": letters.longest[0],
            "fixed": letters.most is None,
        }
        if self.metric == "f1" and len(facts["labels"]) != 2:
            raise UserError(
                "task.metric: expected another than f1, which is of two classes. Received: f1 for"
                f" {len(facts['labels'])}. Set task.metric=macro_f1."
            )
        return facts

    @property
    def letters(self) -> int:
        """Letters of the longest sequence; of all, where they are of one length."""
        return self.facts["letters"]

    def medium(self, most: int) -> Sequence:
        """Sequences of at most so many letters."""
        return Sequence(
            letters=NUCLEOTIDES.letters,
            aliases=NUCLEOTIDES.aliases,
            least=self.letters if self.facts["fixed"] else 1,
            most=most,
            remedy="Longer ones are scanned: --scan STEP." if most == self.letters else "",
        )

    def preprocess(self, raw, training):
        """Letters to fractions of bases [batch, letters, 4]; zeros behind the end."""
        numbers, count = raw["sequence"], raw.get("sequence_count")
        if training and self.other_strand:
            is_across = random.uniform(raw["key"], ACROSS) < self.other_strand
            across = tf.cast(nucleotides.turned(numbers, count), numbers.dtype)
            numbers = tf.where(is_across[:, None], across, numbers)
        ready = {"sequence": nucleotides.read(numbers, count)}
        if count is not None:
            ready["count"] = count
        return {**ready, "label": raw["label"]} if "label" in raw else ready

    def build(self):
        if self.facts["fixed"]:
            spec = {"sequence": Feature(shape=(self.letters, len(BASES)), dtype="float32")}
        else:
            shape = (None, len(BASES))
            spec = {"sequence": Feature(shape=shape, dtype="float32", most=self.letters)}
            spec["count"] = Feature(shape=(), dtype="int32")
        body = self.model.build(spec)
        return self.headed(body, body.output)

    def records(self, outputs, batch):
        """What was said and what is true [batch], and the probability of each class."""
        records = self.answers.records(outputs, batch["label"])
        return {**records, "probability": outputs["probability"]}

    def score(self, statistics):
        """Matthews' correlation, F1, and areas below the curves.

        Of two classes also sensitivity and specificity; of more the areas are means over classes,
        each against the others, and each class has its F1.
        """
        true, said = statistics["true"], statistics["label"]
        metrics = super().score(statistics)
        if self.answers.width == 2:
            metrics["auprc"] = classification.auprc(statistics["last"], true == 1)
            metrics["sensitivity"] = _share(said == 1, true == 1)
            metrics["specificity"] = _share(said == 0, true == 0)
            return metrics
        for name in ("auroc", "auprc"):
            area = getattr(classification, name)
            each = [area(p, true == i) for i, p in enumerate(statistics["probability"].T)]
            known = [value for value in each if value is not None]
            metrics[name] = float(np.mean(known)) if known else None
        if self.answers.width <= NAMED:
            counts = np.zeros((self.answers.width, self.answers.width), np.int64)
            np.add.at(counts, (true, said), 1)
            for name, value in zip(self.answers.names, classification.f1(counts), strict=True):
                metrics["f1_" + re.sub(r"\W+", "_", name)] = float(value)
        return metrics

    def measured_by(self, options):
        names = self.answers.names
        if len(names) == 2:
            words = f"positive: {names[1]}"
            return dict.fromkeys(("sensitivity", "specificity", "f1", "auroc", "auprc"), words)
        words = f"mean over {len(names)} classes, each against the others"
        return dict.fromkeys(("auroc", "auprc"), words)

    # Serving

    def serving(self, model, options):
        """Sequences in, letters [batch]; label, score, and all labels with their scores out.

        scan: sequence string [batch], step int32 [] -> probability float32 [batch, windows,
        labels], zeros behind the last window; windows int32 [batch]. A window is as long as the
        longest sequence of the training data, and begins `step` letters behind the one before.

        mutate: sequence string [batch] -> what serving_default gives, and effect float32 [batch,
        letters, 4] of A, C, G and T in each place; zeros behind the end. See the class.
        """
        programs = SequencePrograms(self, model, self.number_of(options.effect_of))
        is_quick = programs.can_mutate
        media = Media(
            takes={"sequence": "sequence"},
            gives={**self.answers.gives, **({"effect": "effects"} if is_quick else {})},
            forms={"sequence": self.medium(self.letters).form()},
            signature="mutate" if is_quick else "serving_default",
        )
        size = f"{self.letters:,}" if self.facts["fixed"] else f"1 to {self.letters:,}"
        return Serving(
            signature={"sequence": self.medium(self.letters).served("sequence")},
            decode=self.decode,
            encode=self.encode,
            answer=self.answers.answer,
            grade=self.grade,
            records=self._answered_records,
            programs=programs.programs(),
            by_place=("scan", "mutate"),
            trials=programs.trials,
            media=media,
            assets={"labels": list(self.answers.names)},
            remarks=(
                f"It reads {size} letters of DNA or RNA, upper or lower case:"
                f" {NUCLEOTIDES.accepted}; several bases count as equal shares, gaps as nothing.",
                "The signature scan goes along longer sequences; mutate gives the difference that"
                " each single base makes to the log odds of the class, in nats.",
            ),
        )

    def number_of(self, name: str) -> int:
        """The number of a class; -1 for none."""
        if name and name not in self.answers.names:
            raise UserError(
                f"effect_of: expected one of {', '.join(self.answers.names)}. Received: {name}."
            )
        return self.answers.names.index(name) if name else -1

    def decode(self, served):
        """Letters to numbers [batch, letters], and counts where lengths differ."""
        numbers, count = self.medium(self.letters).decode(served["sequence"])
        if self.facts["fixed"]:
            return {"sequence": tf.reshape(numbers, [-1, self.letters])}
        return {"sequence": numbers, "sequence_count": count}

    def encode(self, raw):
        return {"sequence": self.medium(self.letters).encode(raw["sequence"])}

    def _answered_records(self, answers, batch):
        records = self.answers.answered_records(answers, batch["label"])
        is_name = tf.equal(answers["labels"][:, None], tf.constant(self.answers.names)[:, None])
        scores = tf.where(is_name, answers["scores"][:, None], 0.0)
        return {**records, "probability": tf.reduce_sum(scores, -1)}

    # Predictions

    def check_inputs(self, inputs):
        Sequence.check(inputs)

    def respond(self, trained, inputs, request, write):
        """Labels for sequences: [{"input", "label", "score", "top": [[label, probability], ...]}].

        With mutate also "effect_of" and "effects", for each place those of A, C, G and T. With scan
        instead "labels" and "windows": [{"start", "end", "label", "score", "scores"}], counted from
        0, the end not included, as in BED.
        """
        programs = SequencePrograms(self, trained.model, self.number_of(request.effect_of))
        if request.scan:
            taken = self.medium(LONGEST).take(inputs)
            results = [
                programs.track(name, numbers, request.scan, write)
                for name, numbers in zip(taken.names, taken.values, strict=True)
            ]
            return taken.answered(results)
        taken = self.medium(self.letters).take(inputs)
        results = []
        for first in range(0, len(taken.values), TOGETHER):
            values = taken.values[first : first + TOGETHER]
            sequences = np.stack(values) if self.facts["fixed"] else values
            outputs = trained.predict({"sequence": sequences})
            for i, name in enumerate(taken.names[first : first + TOGETHER]):
                said = self.answers.said(outputs, i, request.top)
                listed = ", ".join(f"{label} {share:.1%}" for label, share in said["top"])
                write(f"{name}: {listed}\n")
                if request.mutate:
                    said |= programs.effects(values[i], said["label"], write)
                results.append({"input": name, **said})
        return taken.answered(results)

    # Reports

    def panels(self, split, positions, records):
        """What the answers are like, ROC and precision over recall, and the worst mistakes."""
        places, words = self.answers.wrong(records)
        places, words = places[:SHOWN], words[:SHOWN]
        sequences = self.data.examples(split, positions[places])["sequence"]
        titles = self.data.titles(split, positions[places])
        captions = [f"{title}: {said}" for title, said in zip(titles, words, strict=True)]
        return [
            *self.answers.panels(records),
            *curves(self.answers.names, records["true"], records["probability"]),
            self.medium(self.letters).panel("Worst mistakes", sequences, captions),
        ]

    def training_panels(self, batch):
        """The first sequences of training with their labels."""
        count = batch.get("count", [self.letters] * SHOWN)
        letters = [
            nucleotides.spelled(given[:real])
            for given, real in zip(batch["sequence"][:SHOWN], count, strict=False)
        ]
        items = [
            f"{self.answers.names[label]}\n{text}"
            for label, text in zip(batch["label"], letters, strict=False)
        ]
        return [{"kind": "texts", "title": "Sequences of the first training batch", "items": items}]

    def samples(self, model, jit):
        """What the first filters look for in training sequences; models call them motifs."""
        if "motifs" not in {layer.name for layer in model.layers}:
            return []
        layer = model.get_layer("motifs")
        size = min(self.data.size("train"), max(1, LOGO_LETTERS // self.letters))
        numbers = self.data.examples("train", np.arange(size))["sequence"]
        given = np.zeros((size, self.letters, len(BASES)), np.float32)
        for row, letters in zip(given, numbers, strict=True):
            row[: len(letters)] = nucleotides.fractions()[letters]
        kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in layer.weights)
        kernel = kernel.reshape(-1, len(BASES), len(bias))
        items = motifs.logos(kernel, bias, given, BASES, LOGOS)
        caption = (
            "Letters at the places of training sequences where a filter answers at least half as"
            " much as anywhere, as high as the bits that they hold; the sharpest first."
        )
        title = "What the first filters look for"
        return [{"kind": "logos", "title": title, "items": items, "caption": caption}]


def _share(hits, of) -> float | None:
    """The share of some that are hit; None of none."""
    return float(np.mean(hits[of])) if of.any() else None
