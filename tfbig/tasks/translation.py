"""Translation: from a text to one in another language, token by token."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Spec
from tfbig.core.lazy import np, tf
from tfbig.data.parallel_text import ParallelText
from tfbig.decoding.transduction import Transducer
from tfbig.media.text import Text
from tfbig.metrics import bleu
from tfbig.models.encoder_decoder import EncoderDecoder
from tfbig.prep import tokenizers, vocabularies
from tfbig.prep.text import plain, refuse_surrogates
from tfbig.tasks import _served_translation

LARGEST_EXPONENT = 700.0  # exp of more is no float
SHOWN = 8  # best and worst translations of a report
ALIGNED = 3  # translations whose alignments are shown
SHORTEST = 4  # words of a reference that is shown as one of them: n-grams of fewer say little
TOGETHER = 64  # texts translated in one call


@dataclass(frozen=True, kw_only=True)
class Search(Component):
    """How translations are looked for."""

    beams: int = knob(
        1, "hypotheses of the beam search; 1: the likeliest token each time", low=1, high=64
    )
    penalty: float = knob(
        1.0,
        "beams: exponent of the length that log-probabilities are divided by (Wu et al. 2016);"
        " 0: short translations win",
        low=0,
    )


@dataclass(frozen=True, kw_only=True)
class Translation(Task):
    """Translation: smoothed cross-entropy of each next token; BLEU and chrF of whole texts.

    The loss on the validation split picks the best checkpoint; texts are translated and compared
    only at the end, and by the evaluate command.
    """

    label_smoothing: float = knob(
        0.1, "share of the target spread over all tokens (Szegedy et al. 2016)", low=0, high=0.9
    )
    bleu_words: str = knob(
        "13a",
        "how BLEU divides texts into words: as WMT does, Chinese by characters, all by characters,"
        " or at spaces",
        choices=bleu.TOKENIZERS,
    )

    primary = ("loss", "min")
    asked_with = "TEXT"
    preprocess_on = "device"
    takes = feeds = frozenset({"source_tokens", "target_tokens"})
    needs = frozenset({"logits"})
    metric_units = {"accuracy": "%"}
    derived = {"perplexity": ("loss", lambda loss: math.exp(min(loss, LARGEST_EXPONENT)))}
    evaluation = request = Search
    service = _served_translation.Service

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(),
            model=EncoderDecoder.smallest(),
            data=ParallelText.smallest(folder),
            train=Train(length="60", batch_size=16, shapes=2, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.01),
        )

    def measure(self, data):
        """The tokenizer, how many of its numbers are scored, and the sources' letters."""
        tokenizer = data.read_tokenizer()
        used = np.zeros(tokenizer.size, bool)
        size = data.size("train")
        for first in range(0, size, 10_000):
            positions = np.arange(first, min(size, first + 10_000))
            used[np.concatenate(data.examples("train", positions)["source"])] = True
        return {
            "tokenizer": tokenizer.to_json(),
            "scored": data.num_scored,
            "sources": np.flatnonzero(used).tolist(),
        }

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        if not hasattr(self, "_tokenizer"):
            object.__setattr__(self, "_tokenizer", vocabularies.from_json(self.facts["tokenizer"]))
        return self._tokenizer

    @property
    def end(self) -> int:
        """What ends each text, and stands before the first token of a target."""
        return self.tokenizer.separator

    @property
    def spec(self) -> Spec:
        """What the model is built on: of targets, only numbers that are scored."""
        source, target = self.data.spec["source"], self.data.spec["target"]
        return {
            "source": dataclasses.replace(source, values=self.tokenizer.size),
            "target": dataclasses.replace(target, values=self.facts["scored"]),
        }

    def preprocess(self, raw, training):
        """Pairs to the source, the target, and the target one place later behind the end token.

        Target tokens that training targets lack become one number, which is never written.
        """
        ready = {name: raw[name] for name in ("source", "source_count")}
        target = tf.minimum(raw["target"], self.facts["scored"] - 1)
        before = tf.pad(target[:, :-1], [(0, 0), (1, 0)], constant_values=self.end)
        return {**ready, "before": before, "target": target, "target_count": raw["target_count"]}

    def build(self):
        return self.model.build(self.spec)

    def _logits(self, model, inputs, training):
        given = {name: inputs[name] for name in ("source", "source_count", "before")}
        return tf.cast(model(given, training=training), tf.float32)

    def _real(self, batch):
        """1 for target tokens, 0 for padding, float32 [batch, length]."""
        place = tf.range(tf.shape(batch["target"])[1])[None]
        return tf.cast(place < batch["target_count"][:, None], tf.float32)

    def loss(self, model, batch, training):
        """Per text: the cross-entropies of its tokens in nats, weighed by how many they are."""
        logits = self._logits(model, batch, training)
        real = self._real(batch)
        count = tf.reduce_sum(real, -1)
        normalizer = tf.reduce_logsumexp(logits, -1)
        own = tf.gather(logits, batch["target"], batch_dims=2)
        entropy = tf.reduce_sum((normalizer - own) * real, -1)
        if not self.label_smoothing:
            return {"loss": (entropy, count)}
        spread = tf.reduce_sum((normalizer - tf.reduce_mean(logits, -1)) * real, -1)
        smooth = self.label_smoothing
        total = (1 - smooth) * entropy + smooth * spread
        return {"loss": (total, count), "cross_entropy": (entropy, count)}

    def predict(self, model, inputs):
        """Of each target token [batch, length]: its log_probability in nats, and if it is right.

        A token is right where it is the likeliest one.
        """
        logits = self._logits(model, inputs, False)
        target = inputs["target"]
        # Not TensorFlow's own cross-entropy, an operation that other formats lack.
        return {
            "log_probability": tf.gather(tf.nn.log_softmax(logits), target, batch_dims=2),
            "right": tf.equal(tf.argmax(logits, -1, tf.int32), target),
        }

    def transducer(self, model) -> Transducer:
        """What writes translations."""
        encode, step = self.model.transducer(model, self.spec)
        return Transducer(encode, step, length=self.spec["target"].most, end=self.end)

    def conclude(self, model, inputs, options):
        """Translations, int32 [batch, most], with zeros behind the end."""
        source = inputs["source"], inputs["source_count"]
        written, _, count = self.transducer(model).write(*source, **vars(options))
        return {"written": written, "written_count": count}

    def measured_by(self, options):
        search = f"beams:{options.beams}"
        if options.beams > 1:
            search += f"|penalty:{options.penalty:g}"
        return {
            "bleu": f"{bleu.bleu_signature(self.bleu_words)}|{search}",
            "chrf": f"{bleu.chrf_signature()}|{search}",
        }

    def metrics(self, outputs, batch):
        """Cross-entropy in nats per token, and the share of tokens that were the likeliest."""
        real = self._real(batch)
        count = tf.reduce_sum(real, -1)
        right = tf.cast(outputs["right"], tf.float32)
        return {
            "loss": (-tf.reduce_sum(outputs["log_probability"] * real, -1), count),
            "accuracy": (tf.reduce_sum(right * real, -1), count),
        }

    def preview(self, model):
        bleu.check()  # rather than when a long training is to be measured
        return []

    def records(self, outputs, batch):
        """Translation and reference as tokens [batch, most], where there are translations."""
        if "written" not in outputs:
            return {}
        most = self.spec["target"].most
        missing = most - tf.shape(batch["target"])[1]
        return {
            "written": outputs["written"],
            "written_count": outputs["written_count"],
            "target": tf.pad(batch["target"], [(0, 0), (0, missing)]),
            "target_count": batch["target_count"],
        }

    def examine(self, records):
        """Counts of n-grams of each text: see `metrics.bleu`."""
        if not records:
            return {}
        texts = self._texts(records)
        return {
            "bleu": bleu.bleu_counts(*texts, self.bleu_words),
            "chrf": bleu.chrf_counts(*texts),
        }

    def score(self, statistics):
        if not statistics:
            return {}
        return {"bleu": bleu.bleu(statistics["bleu"]), "chrf": bleu.chrf(statistics["chrf"])}

    def _texts(self, records) -> tuple[list[str], list[str]]:
        """Translations and references as texts."""
        return tuple(
            [
                self.tokenizer.decode(tokens[:count])
                for tokens, count in zip(records[name], records[f"{name}_count"], strict=True)
            ]
            for name in ("written", "target")
        )

    def panels(self, split, positions, records):
        """BLEU by length, and the translations that are most and least like their references."""
        if not records:
            return []
        statistics = self.examine(records)
        each = np.array([bleu.chrf(counts[None]) for counts in statistics["chrf"]])
        lengths = statistics["bleu"][:, 1]
        order = np.argsort(-each, kind="stable")
        order = order[lengths[order] >= SHORTEST] if (lengths >= SHORTEST).any() else order
        shown = {
            "Translations that are most like their references": order[:SHOWN],
            "Translations that are least like their references": order[::-1][:SHOWN],
        }
        return [
            bleu.by_length(statistics["bleu"], lengths),
            *(
                self._compared(title, split, rows, positions, records, each)
                for title, rows in shown.items()
            ),
        ]

    def samples(self, model, jit):
        """What each token of some translations looked at."""
        positions = self._spread("validation", ALIGNED)
        sources = self.data.examples("validation", positions)["source"]
        written = [tokens for tokens, _ in self.translate(model, sources, Search())]
        items = [
            {"source": source, "target": target, "shares": np.round(shares, 3).tolist()}
            for source, target, shares in self.alignments(model, sources, written)
        ]
        caption = "Rows: tokens as they were written; columns: tokens of the source."
        title = "What a token looked at"
        return [{"kind": "alignments", "title": title, "items": items, "caption": caption}]

    def alignments(self, model, sources: list, translations: list):
        """Of each pair: the words of both, and how much each of the latter looked at the former.

        Yields (source words, n written words, float32 [n, source words]); the end is ∎, where a
        translation has one.
        """
        aligner = self.model.aligner(model, self.spec)
        for source, written in zip(sources, translations, strict=True):
            # One without an end fills all places
            written = np.append(written, self.end)[: self.spec["target"].most]
            before = np.insert(written[:-1], 0, self.end)
            rows = {"source": source, "source_count": len(source), "before": before}
            given = {name: tf.constant([value], tf.int32) for name, value in rows.items()}
            shares = aligner(given, training=False)[0].numpy()
            yield self._words(source), self._words(written), shares

    def _spread(self, split: str, count: int) -> np.ndarray:
        """Positions of examples of middling length, spread over a split."""
        lengths = self.data.lengths(split)["source"]
        near = np.argsort(np.abs(lengths - np.median(lengths)), kind="stable")
        return np.sort(near[: max(1, len(near) // 4)])[:: max(1, len(near) // 4 // count)][:count]

    def _words(self, tokens: np.ndarray) -> list[str]:
        """Each token as text; the end as ∎."""
        return [
            _served_translation.END_SIGN
            if token == self.end
            else self.tokenizer.continuation([int(token)])
            for token in tokens
        ]

    def _compared(self, title, split, rows, positions, records, each) -> dict:
        """A panel of sources, translations and references."""
        sources = self.data.examples(split, positions[rows])["source"]
        some = {name: values[rows] for name, values in records.items()}
        items = [
            f"{self.tokenizer.decode(source)}\n→ {written}\n= {reference}\n(chrF {value:.1f})"
            for source, written, reference, value in zip(
                sources, *self._texts(some), each[rows], strict=True
            )
        ]
        caption = "Source, → translation, = reference."
        return {"kind": "texts", "title": title, "items": items, "caption": caption}

    def serving(self, model, options):
        return _served_translation.serving(self, model, options)

    def respond(self, trained, inputs, request, write):
        """Texts to their translations: [{"input", "text", "score"}]; "-" is the text on stdin."""
        texts = Text().take(inputs).values
        sources = [self.encode(text, number) for number, text in enumerate(texts, 1)]
        translations = self.translate(trained.model, sources, request)
        answers = []
        for text, (tokens, score) in zip(texts, translations, strict=True):
            translation = self.tokenizer.decode(tokens)
            write(f"{translation}\n")
            answers.append({"input": text, "text": translation, "score": round(score, 6)})
        return answers

    def translate(self, model, sources: list, request: Search) -> list[tuple[np.ndarray, float]]:
        """The translation of each source, both as tokens, and its log-probability in nats."""
        program = self._program(model, request)
        answers = []
        for first in range(0, len(sources), TOGETHER):
            some = sources[first : first + TOGETHER]
            padded = np.zeros((len(some), max(map(len, some))), np.int32)
            for row, tokens in zip(padded, some, strict=True):
                row[: len(tokens)] = tokens
            counts = np.array([len(tokens) for tokens in some], np.int32)
            written, score, count = (value.numpy() for value in program(padded, counts))
            answers += [
                (tokens[:own][tokens[:own] != self.end], float(value))
                for tokens, own, value in zip(written, count, score, strict=True)
            ]
        return answers

    def _program(self, model, request: Search):
        """The compiled search of a model, kept for the next texts."""
        if not hasattr(self, "_programs"):
            object.__setattr__(self, "_programs", {})
        known, program = self._programs.get(request, (None, None))
        if known is not model:
            transducer = self.transducer(model)
            program = tf.function(
                lambda source, count: transducer.write(source, count, **vars(request)),
                input_signature=[
                    tf.TensorSpec((None, None), tf.int32),
                    tf.TensorSpec((None,), tf.int32),
                ],
                autograph=False,
            )
            self._programs[request] = model, program
        return program

    def encode(self, text: str, number: int) -> np.ndarray:
        """A source's tokens, its end behind them; what cannot be translated is refused."""
        name = f"text {number}"
        refuse_surrogates(text, name)
        text = plain(text, self.data.normalize).strip()
        if not text:
            raise UserError(f"{name}: expected something to translate. Received: an empty text.")
        try:
            tokens = self.tokenizer.encode(text)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        most = self.spec["source"].most - 1
        if len(tokens) > most:
            raise UserError(
                f"{name}: expected at most {most} tokens. Received: {len(tokens)}, of"
                f" {len(text.split())} words. Translate it sentence by sentence, or train with a"
                " larger data.max_source."
            )
        unknown = ~np.isin(tokens, self.facts["sources"])
        if unknown.mean() > 0.5:
            raise UserError(
                f"{name}: expected text like that of the training sources. Received:"
                f" {text[:40]!r}, of whose {len(tokens)} tokens they lack {unknown.sum()}."
            )
        return np.append(tokens, np.int32(self.end))
