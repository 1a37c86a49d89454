"""A translator as it is served: its programs, and what they must answer.

Signatures (b rows, t tokens given, s most source tokens, m most target tokens, v scored tokens):

    serving_default   text string [b] -> text string [b], score float32 [b] (nats), tokens int32 [b]
    tensors           source int32 [b, s], source_count int32 [b], target int32 [b, m],
                      target_count int32 [b] -> log_probability float32, right bool [b, m]
    align             as serving_default, and pieces string [b, m] of the translation, source_pieces
                      string [b, s], attention float32 [b, m, s]: how much each of the former looked
                      at each of the latter; both end with an end sign, empty pieces behind it
    encode            source int32 [b, s], source_count int32 [b] -> what steps are given
    step              token, place int32 [b], what steps are given -> logits float32 [b, v], what
                      has changed of it

Where the tokenizer cannot be a part of the graph (translation.json: "takes": "tokens"),
serving_default takes tokens int32 [b, t] and count int32 [b] instead of texts; where it cannot turn
tokens into text, it gives ids int32 [b, m]. There is no align in both cases.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Greedy, Media, Program, Serving, Stepwise, Trial, Unrolled
from tfbig.media.text import Text
from tfbig.prep import graph_bpe, graph_text, text_frames
from tfbig.tasks._requests import are_within, checked, known, outside, required

TEXT = Text()
TRIED = 48  # sources of a split that are translated to verify an export
END_SIGN = "∎"


@dataclass(frozen=True, kw_only=True)
class Service(Component):
    """How a served translator looks for translations."""

    beams: int = knob(
        1, "hypotheses of the beam search; 1: the likeliest token each time", low=1, high=64
    )
    penalty: float = knob(
        1.0, "beams: exponent of the length that log-probabilities are divided by", low=0
    )


class _Programs:
    """A translator's programs."""

    def __init__(self, task: Task, model, service: Service):
        self.task, self.service = task, service
        self.transducer = task.transducer(model)
        tokenizer = task.tokenizer
        self.encoder = graph_text.encoder(tokenizer) or graph_bpe.encoder(tokenizer)
        self.decoder = graph_text.decoder(tokenizer)
        self.most = task.spec["source"].most
        self.aligner = task.model.aligner(model, task.spec)

    @property
    def reads_and_writes(self) -> bool:
        """Whether texts go in and come out."""
        return bool(self.encoder and self.decoder)

    def given(self) -> dict[str, tf.TensorSpec]:
        """What serving_default takes."""
        if self.encoder:
            return {"text": tf.TensorSpec((None,), tf.string)}
        return {
            "tokens": tf.TensorSpec((None, None), tf.int32),
            "count": tf.TensorSpec((None,), tf.int32),
        }

    def source(self) -> dict[str, tf.TensorSpec]:
        """What the encoder takes."""
        return {
            "source": tf.TensorSpec((None, self.most), tf.int32),
            "source_count": tf.TensorSpec((None,), tf.int32),
        }

    def kept(self) -> dict[str, tf.TensorSpec]:
        """What steps are given of what the encoder made."""
        outputs = self.transducer.encode.output
        free = {
            name: (self.most if size is None else size for size in value.shape[1:])
            for name, value in outputs.items()
        }
        return {
            name: tf.TensorSpec((None, *sizes), outputs[name].dtype) for name, sizes in free.items()
        }

    def translate(self, **given) -> dict:
        return self._translation(*self._written(given))

    def align(self, **given) -> dict:
        """Translations with what each piece of them looked at."""
        source, count, written, score, chosen = self._written(given)
        before = tf.concat([tf.fill((tf.shape(written)[0], 1), self.task.end), written[:, :-1]], 1)
        rows = {"source": source, "source_count": count, "before": before}
        read = tf.range(self.most)[None] < count[:, None]
        made = tf.range(written.shape[1])[None] < chosen[:, None]
        shares = self.aligner(rows, training=False)
        return {
            **self._translation(source, count, written, score, chosen),
            "pieces": self._pieces(written, made),
            "source_pieces": self._pieces(source, read),
            "attention": tf.where(made[:, :, None] & read[:, None], shares, 0.0),
        }

    def _pieces(self, tokens, real):
        """The text of each token, string [b, n]; empty where it is not real."""
        alone = tf.reshape(tokens, (-1, 1))
        is_text = tf.reshape(real & (tokens != self.task.end), (-1,))
        size = tf.cast(is_text, tf.int32)
        texts = self.decoder(tf.where(is_text[:, None], alone, 0), size, tf.zeros_like(is_text))
        texts = tf.reshape(texts, tf.shape(tokens))
        return tf.where(real & (tokens == self.task.end), END_SIGN, texts)

    def _written(self, given: dict) -> tuple:
        """Sources [b, s] and their counts; translations [b, m], their scores and counts."""
        tokens = self._tokens(given)
        count = tf.cast(tokens.row_lengths(), tf.int32)
        self._require(count, count > 0, "expected something to translate. Received: nothing.")
        limit = self.most - 1
        message = f"expected at most {limit} tokens. Translate it sentence by sentence."
        self._require(count, count <= limit, message)
        place = tf.range(self.most)[None]
        source = tokens.to_tensor(shape=(None, self.most))
        source = tf.where(place == count[:, None], self.task.end, source)
        return source, count + 1, *self.transducer.write(source, count + 1, **vars(self.service))

    def _translation(self, source, count, written, score, chosen) -> dict:
        is_end = written == self.task.end
        real = tf.range(written.shape[1])[None] < chosen[:, None]
        length = tf.reduce_sum(tf.cast(real & ~is_end, tf.int32), 1)
        answer = {"score": score, "tokens": length}
        if self.decoder:
            answer["text"] = self.decoder(written, length, tf.ones_like(length, tf.bool))
        else:
            answer["ids"] = tf.where(real & ~is_end, written, 0)
        return answer

    def _tokens(self, given: dict):
        """Sources as ragged tokens, without their ends."""
        if self.encoder:
            text = tf.strings.strip(given["text"])
            return self.encoder(tf.strings.unicode_transcode(text, "UTF-8", "UTF-8"))
        tokens, count = given["tokens"], given["count"]
        size = self.task.tokenizer.size
        fits = (count >= 0) & (count <= tf.shape(tokens)[1])
        self._require(count, fits, "count: expected 0 to the number of tokens given.")
        known = tf.reduce_all((tokens >= 0) & (tokens < size), 1)
        self._require(count, known, f"tokens: expected numbers from 0 to {size - 1}.")
        return tf.RaggedTensor.from_tensor(tokens, count)

    @staticmethod
    def _require(count, fits, words: str) -> None:
        """Ends the request with these words unless every row fits; the first other one is named."""
        number = tf.argmin(tf.concat([tf.cast(fits, tf.int32), [0]], 0), output_type=tf.int32)
        received = tf.strings.as_string(tf.concat([count, [0]], 0)[number])
        named = ["text ", tf.strings.as_string(number + 1), f": {words} It has ", received]
        tf.debugging.Assert(tf.reduce_all(fits), [tf.strings.join([*named, " tokens."])])

    def encode(self, source, source_count) -> dict:
        fits = _are_counts(source_count, 1, source)
        source_count = required(source_count, fits, f"source_count: {_counts(1, self.most)}")
        are_known = known(source, self.task.tokenizer.size, "source")
        rows = {"source": checked(source, *are_known)}
        rows["source_count"] = required(source_count, *are_known)
        return self.transducer.encode(rows, training=False)

    def step(self, token, place, **kept) -> dict:
        last = self.task.spec["target"].most - 1
        fits = are_within(place, 0, last)
        fits &= tf.equal(tf.shape(place)[0], tf.shape(token)[0])
        message = f"place: expected a number from 0 to {last} for each row"
        place = required(place, fits, message)
        token = required(token, fits, message)  # too: not every model reads the place
        scored = self.task.facts["scored"]
        are_known = tf.reduce_all(((token >= 0) & (token < scored)) | (token == self.task.end))
        token = required(token, are_known, f"token: expected numbers from 0 to {scored - 1}")
        logits, carried = self.transducer.go_on(token, place, kept)
        return {"logits": logits, **carried}


def serving(task: Task, model, service: Service) -> Serving:
    """A translator as it is served; the split is put through `tensors`."""
    programs = _Programs(task, model, service)
    signature = {
        name: spec
        for side, feature in task.spec.items()
        for name, spec in (
            (side, tf.TensorSpec((None, feature.most), tf.int32)),
            (f"{side}_count", tf.TensorSpec((None,), tf.int32)),
        )
    }
    row = tf.TensorSpec((None,), tf.int32)
    takes = {"text": "text"} if programs.encoder else {"tokens": "tokens"}
    gives = {"text": "text"} if programs.decoder else {"ids": "tokens"}
    answers = {**gives, "score": "number"}
    shown = Media(takes=takes, gives=answers)
    aligned = {}
    if programs.reads_and_writes:
        aligned = {"align": Program(function=programs.align, inputs=programs.given())}
        drawn = {"pieces": "pieces", "source_pieces": "pieces", "attention": "alignment"}
        shown = Media(takes=takes, gives={**answers, **drawn}, signature="align")
    return Serving(
        signature=signature,
        decode=functools.partial(_pairs, task),
        encode=functools.partial(_padded, task),
        answer=_same,
        grade=task.metrics,
        name="tensors",
        programs={
            "serving_default": Program(function=programs.translate, inputs=programs.given()),
            **aligned,
            "encode": Program(function=programs.encode, inputs=programs.source()),
            "step": Program(
                function=programs.step, inputs={"token": row, "place": row, **programs.kept()}
            ),
        },
        stepwise=Stepwise(
            start="encode",
            fixed=programs.transducer.fixed,
            carried=programs.transducer.carried,
            scores="logits",
            chosen="token",
            first=task.end,
            end=task.end,
            position="place",
            unit="token",
            outputs={
                "log_probability": ("logits", "log_probability"),
                "right": ("logits", "likeliest"),
            },
            unroll=functools.partial(_unrolled, task),
            greedy=lambda split: _greedy(task, model, split),
        ),
        trials=lambda split: _trials(task, model, programs, split),
        media=shown,
        assets=_assets(task, service, programs),
        remarks=tuple(_remarks(task, service, programs)),
    )


def _same(values: dict) -> dict:
    return values


def _are_counts(count, least: int, tokens):
    """Whether each row of tokens has a count of some that it can have."""
    given = tf.shape(tokens)
    return are_within(count, least, given[1]) & tf.equal(tf.shape(count)[0], given[0])


def _counts(least: int, most: int) -> str:
    return f"expected a number from {least} to {most} for each row"


def _pairs(task: Task, given: dict) -> dict:
    """Pairs of texts as `tensors` takes them, if they can be that."""
    rows = {}
    for side, least in (("source", 1), ("target", 0)):
        tokens, count = given[side], given[f"{side}_count"]
        fits = _are_counts(count, least, tokens)
        message = f"{side}_count: {_counts(least, task.spec[side].most)}"
        rows[side] = checked(tokens, *known(tokens, task.tokenizer.size, side))
        rows[f"{side}_count"] = checked(count, fits, message)
    return rows


def _padded(task: Task, raw: dict) -> dict:
    """Raw examples as the signature takes them, padded to the most there may be."""
    served = dict(raw)
    for side, feature in task.spec.items():
        if isinstance(raw[side], list):
            tokens, count = text_frames.padded(raw[side], feature.most)
            served |= {side: tokens, f"{side}_count": count}
    return served


def _unrolled(task: Task, raw: dict) -> Unrolled:
    """Targets token by token, as the decoder sees them."""
    start = {name: raw[name] for name in ("source", "source_count")}
    return Unrolled(start=start, choices=np.minimum(raw["target"], task.facts["scored"] - 1))


def _sources(task: Task, split: str) -> tuple[list, dict]:
    """Some sources of a split, and as the encoder takes them."""
    positions = np.unique(np.linspace(0, task.data.size(split) - 1, TRIED).astype(np.int64))
    examples = task.data.examples(split, positions)
    served = _padded(task, examples)
    return examples["source"], {name: served[name] for name in ("source", "source_count")}


def _greedy(task: Task, model, split: str) -> Greedy:
    """The likeliest tokens, by the whole model anew for each."""
    _, start = _sources(task, split)
    choices = task.transducer(model).write_uncached(model, *start.values())
    return Greedy(start=start, choices=choices.numpy())


def _trials(task: Task, model, programs: _Programs, split: str) -> list[Trial]:
    """Translations of some sources, as the predict command and the report give them."""
    sources, _ = _sources(task, split)
    found = task.translate(model, sources, task.request(**vars(programs.service)))
    tokens = [written for written, _ in found]
    expected = {
        "score": np.array([score for _, score in found], np.float32),
        "tokens": np.array([len(written) for written in tokens], np.int32),
    }
    if programs.decoder:
        texts = [task.tokenizer.decode(written) for written in tokens]
        expected["text"] = TEXT.encode(texts)
    else:
        expected["ids"], _ = text_frames.padded(tokens, task.spec["target"].most)
    asked = _asked(task, programs, sources)
    made = {"inputs": asked, "unit": "token", "counts": "tokens"}
    trials = [Trial(program="serving_default", expected=expected, **made)]
    if programs.reads_and_writes:
        aligned = _aligned(task, model, sources, tokens)
        trials.append(Trial(program="align", expected={**expected, **aligned}, **made))
    return trials


def _aligned(task: Task, model, sources: list, translations: list) -> dict:
    """What `align` adds to translations, one pair after another."""
    read, made = (task.spec[side].most for side in ("source", "target"))
    attention = np.zeros((len(sources), made, read), np.float32)
    shown = {"pieces": [], "source_pieces": []}
    alignments = task.alignments(model, sources, translations)
    for row, (source, written, shares) in zip(attention, alignments, strict=True):
        row[: len(written), : len(source)] = shares
        shown["pieces"].append(written + [""] * (made - len(written)))
        shown["source_pieces"].append(source + [""] * (read - len(source)))
    return {
        "attention": attention,
        **{name: np.array([TEXT.encode(row) for row in rows]) for name, rows in shown.items()},
    }


def _asked(task: Task, programs: _Programs, sources: list) -> dict:
    """Sources as serving_default takes them."""
    if programs.encoder:
        return {"text": TEXT.encode([task.tokenizer.decode(source) for source in sources])}
    served, _ = text_frames.padded(sources, programs.most)
    return {"tokens": served, "count": np.array([len(source) - 1 for source in sources], np.int32)}


def _assets(task: Task, service: Service, programs: _Programs) -> dict:
    """What asking token by token needs: the tokenizer, and how texts begin and end.

    "translation" holds: takes ("text" or "tokens": what serving_default takes), source and target
    (the most tokens, the end included), values and scored (sizes), normalize (Unicode form of the
    texts it was trained on), end (the token behind each text, and before the first one of a
    target), and the defaults of `Service`.
    """
    sizes = {side: feature.most for side, feature in task.spec.items()}
    return {
        "tokenizer": task.tokenizer.to_json(),
        "translation": {
            "takes": "text" if programs.encoder else "tokens",
            **sizes,
            "values": task.tokenizer.size,
            "scored": task.facts["scored"],
            "normalize": task.data.normalize,
            "end": task.end,
            **vars(service),
        },
    }


def _remarks(task: Task, service: Service, programs: _Programs) -> list[str]:
    """Sentences for the model card."""
    search = "the likeliest token each time"
    if service.beams > 1:
        search = f"the best of {service.beams} hypotheses, length penalty {service.penalty:g}"
    sentences = [
        (
            f"It translates texts of at most {programs.most - 1} tokens ({task.tokenizer.kind}) by"
            f" {search}; `score` is the log-probability of the translation in nats."
        ),
        "What is unlike its training texts is translated all the same, and wrongly.",
    ]
    if not programs.encoder:
        sentences.append(outside(task.tokenizer))
    if task.data.normalize != "none":
        form = task.data.normalize.upper()
        sentences.append(
            f"It was trained on text in Unicode's form {form}; bring texts to it before."
        )
    return sentences
