"""Speech recognition: what is said in a recording, by connectionist temporal classification."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import SPLITS
from tfbig.core.lazy import keras, np, tf
from tfbig.data.speech_folder import SpeechFolder
from tfbig.decoding import ctc as decoding
from tfbig.media.audio import Audio, alike, spectrogram
from tfbig.metrics import word_errors
from tfbig.models.crnn import CRNN
from tfbig.nn.ctc import ctc_loss, needed_frames
from tfbig.nn.heads import exact_dtype
from tfbig.prep import tokenizers, vocabularies
from tfbig.tasks import _served_speech, _speech_search
from tfbig.tasks._heard import PICTURE, SIDE_PX, Heard
from tfbig.tasks._streamed_speech import Streamed

SHOWN = 10  # utterances in a panel of the report
LENGTHS = 6  # parts of equal size that utterances are sorted into by their lengths
MOST_S = 600.0  # seconds of a recording that is transcribed
SAID = ("tokens", "tokens_count")


@dataclass(frozen=True, kw_only=True)
class Search(Component):
    """How what is said is looked for."""

    beams: int = knob(
        1, "prefixes of the search; 1: the likeliest value of each frame", low=1, high=512
    )
    lexicon: str = knob(
        "", "words that may be written: train (the training words) or a text file; empty: any"
    )
    language: str = knob(
        "", "lexicon: n-grams of train (the training transcripts) or of a text file; empty: none"
    )
    order: int = knob(2, "language: words looked at together", low=1, high=5)
    weight: float = knob(0.5, "language: of its log-probability", low=0)
    bonus: float = knob(0.0, "lexicon: added for each word, in nats")


@dataclass(frozen=True, kw_only=True)
class SpeechRecognition(Heard):
    """Speech recognition by connectionist temporal classification (Graves et al. 2006)."""

    takes = frozenset({"samples", "transcript"})
    primary = ("wer", "min")
    metric_units = dict.fromkeys(("wer", "cer", *word_errors.KINDS), "%")
    evaluation = Search
    request = Search
    service = _served_speech.Service

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(bands=16, noise=0.1),
            model=CRNN(channels=16, blocks=1, kernel=3, units=(), normalization="layer"),
            data=SpeechFolder.smallest(folder),
            train=Train(length="100", batch_size=12, shapes=2, evaluate_every="25"),
            optim=Optim(optimizer="adam", learning_rate=0.05, epsilon=1e-3, clip_norm=5.0),
        )

    def measure(self, data):
        """The tokenizer that transcripts are written in."""
        return {**super().measure(data), "tokenizer": data.read_tokenizer().to_json()}

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        if not hasattr(self, "_tokenizer"):
            object.__setattr__(self, "_tokenizer", vocabularies.from_json(self.facts["tokenizer"]))
        return self._tokenizer

    def preprocess(self, raw, training):
        """Recordings to normalised log-mel frames; changed at random while training.

        None is played so fast that its transcript would not fit its frames.
        """
        if "text" not in raw:
            return self.framed(raw, training)
        least = None
        if training:
            places = needed_frames(raw["text"], raw["text_count"])
            least = tf.cast(places, tf.float32) * self.samples_of_place
            least = tf.cast(tf.math.ceil(least), tf.int32)
        text = {name: raw[name] for name in ("text", "text_count")}
        return {**self.framed(raw, training, least), **text}

    def build(self):
        """Frames to {"logits" [b, t, values], "logits_count" [b]}; value 0 is the blank."""
        body = self.model.build(self.frames_spec)
        head = keras.layers.Dense(self.tokenizer.size + 1, dtype=exact_dtype(), name="head")
        outputs = {
            "logits": head(body.output["sequence"]),
            "logits_count": body.output["sequence_count"],
        }
        model = keras.Model(body.input, outputs, name=type(self.model).__name__.lower())
        many = 1 << 16
        stride = many / float(self.places(model, np.array([many]))[0])
        object.__setattr__(self, "samples_of_place", stride * self.front.hop)
        return model

    samples_of_place = 0.0
    """Samples from one place of the model's outputs to the next, once it is built."""

    @staticmethod
    def places(model, frames_count: np.ndarray) -> np.ndarray:
        """How many places of outputs so many frames have, int32 [n]."""
        count = model.input["frames_count"]
        counted = keras.Model(count, model.output["logits_count"])
        return np.asarray(counted(tf.constant(frames_count, tf.int32)))

    def preview(self, model):
        """Refuses transcripts that are longer than what the model says of their recordings.

        Raises:
            UserError: it names the recording.
        """
        word_errors.check()
        for split in SPLITS:
            counts = self.data.lengths(split)["samples"]
            places = self.places(model, self.front.frames(counts))
            texts = [self.tokenizer.encode(text) for text in self.data.texts(split)]
            for number, tokens in enumerate(texts):
                repeats = int((tokens[1:] == tokens[:-1]).sum()) if len(tokens) else 0
                if len(tokens) + repeats > places[number]:
                    name = self.data.recordings(split)[number].name
                    seconds = counts[number] / self.data.rate_hz
                    raise UserError(
                        f"data: {name}: expected a transcript of at most {places[number]} tokens,"
                        f" one for each {self.samples_of_place / self.data.rate_hz:.3f} s of"
                        f" {seconds:.2f} s, and a blank between equal ones. Received: {len(tokens)}"
                        f" tokens, {repeats} repeated. Mend it or leave it out, or take a smaller"
                        " task.hop_s or data.tokenizer=bpe."
                    )
        ratio = self.samples_of_place / self.data.rate_hz
        return [f"a value each {ratio:g} s; every transcript fits its recording"]

    def _logits(self, model, inputs, training: bool):
        given = {name: inputs[name] for name in ("frames", "frames_count")}
        outputs = model(given, training=training)
        return tf.cast(outputs["logits"], tf.float32), outputs["logits_count"]

    @staticmethod
    def _losses(logits, count, batch):
        return ctc_loss(logits, count, batch["text"] + 1, batch["text_count"])

    def loss(self, model, batch, training):
        """Per recording: the negative log-probability of its transcript, in nats."""
        losses = self._losses(*self._logits(model, batch, training), batch)
        return {"loss": (losses, tf.ones_like(losses))}

    def predict(self, model, inputs):
        """Logits [b, t, values] and their count, and what they say: see `decoding.ctc.greedy`."""
        logits, count = self._logits(model, inputs, False)
        return {"logits": logits, "logits_count": count, **decoding.greedy(logits, count)}

    def conclude(self, model, inputs, options):
        """What a search finds, in place of the likeliest value of each frame."""
        if options == Search():
            return {}
        logits, count = self._logits(model, inputs, False)
        find = functools.partial(_speech_search.found, self, options)
        log_p = tf.nn.log_softmax(logits)
        tokens, number = tf.numpy_function(find, [log_p, count], [tf.int32, tf.int32])
        tokens = tf.ensure_shape(tokens, (logits.shape[0], logits.shape[1]))
        return {"tokens": tokens, "tokens_count": tf.ensure_shape(number, logits.shape[:1])}

    def measured_by(self, options):
        how = "greedy"
        if options != Search():
            how = ", ".join(f"{name} {value}" for name, value in vars(options).items() if value)
        words = f"{word_errors.signature(self.data.normalize)}, {how}"
        return {"wer": words, "cer": words}

    def metrics(self, outputs, batch):
        losses = self._losses(outputs["logits"], outputs["logits_count"], batch)
        return {"loss": (losses, tf.ones_like(losses))}

    def records(self, outputs, batch):
        """What was said and the transcript as tokens, and the frames of each recording [batch]."""
        most = self.frames_spec["frames"].most
        return {
            "tokens": _padded(outputs["tokens"], most),
            "tokens_count": outputs["tokens_count"],
            "text": _padded(batch["text"], self.data.most_tokens),
            "text_count": batch["text_count"],
            "frames": batch["frames_count"],
        }

    def examine(self, records):
        """Counts of errors of each text: see `metrics.word_errors`."""
        references = self.texts_of(records["text"], records["text_count"])
        said = self.texts_of(records["tokens"], records["tokens_count"])
        return {
            "words": word_errors.word_counts(references, said),
            "characters": word_errors.character_counts(references, said),
        }

    def score(self, statistics):
        return {
            "wer": word_errors.rate(statistics["words"]),
            "cer": word_errors.rate(statistics["characters"]),
            **word_errors.shares(statistics["words"]),
        }

    def texts_of(self, tokens, counts) -> list[str]:
        """Tokens int [n, most] and how many of each are real as texts."""
        decode = self.tokenizer.decode
        return [
            " ".join(decode(row[:count]).split())
            for row, count in zip(np.asarray(tokens), np.asarray(counts), strict=True)
        ]

    def serving(self, model, options):
        return _served_speech.serving(self, model, options)

    def streamed(self, model, portion_s: float = 0.32) -> Streamed | None:
        """The model as it hears a recording in portions; None where it looks at whole ones."""
        return Streamed.of(self, model, portion_s)

    def respond(self, trained, inputs, request, write):
        """What is said: [{"input", "text", "score", "words": [{"word", "start_s", "end_s"}]}].

        Recordings of up to ten minutes are taken. Words have times where nothing is searched.
        """
        audio = Audio(rate_hz=self.data.rate_hz, most=int(MOST_S * self.data.rate_hz))
        taken = audio.take(inputs)
        results = []
        for source, samples in zip(taken.names, taken.values, strict=True):
            outputs = self.heard(trained.model, samples)
            if request == Search():
                text = self.texts_of(outputs["tokens"], outputs["tokens_count"])[0]
                words = {"words": self.words_of(outputs)}
            else:
                log_p = tf.nn.log_softmax(outputs["logits"]).numpy()
                tokens, count = _speech_search.found(self, request, log_p, outputs["logits_count"])
                text, words = self.texts_of(tokens, count)[0], {}
            score = round(float(outputs["score"][0]), 6)
            results.append({"input": source, "text": text, "score": score, **words})
            write(f"{source}: {text}\n")
        return taken.answered(results)

    def heard(self, model, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of `predict` for one recording."""
        if not hasattr(self, "_programs") or self._programs[0] is not model:
            spec = tf.TensorSpec((1, None), tf.float32)

            def predict(row):
                raw = {"samples": row, "samples_count": tf.shape(row)[1][None]}
                return self.predict(model, self.preprocess(raw, False))

            program = tf.function(predict, input_signature=[spec], autograph=False)
            object.__setattr__(self, "_programs", (model, program))
        outputs = self._programs[1](tf.constant(samples[None]))
        return {name: value.numpy() for name, value in outputs.items()}

    def words_of(self, outputs: dict[str, np.ndarray]) -> list[dict]:
        """The words of one recording with their times, in seconds."""
        count = int(outputs["tokens_count"][0])
        tokens = outputs["tokens"][0, :count]
        step = self.samples_of_place / self.data.rate_hz
        starts, ends = (outputs[f"token_{edge}"][0, :count] * step for edge in ("starts", "ends"))
        begins, finishes = _served_speech.word_edges(self.tokenizer, tokens)
        return [
            {
                "word": self.tokenizer.decode(tokens[first : last + 1]).strip(),
                "start_s": round(float(starts[first]), 3),
                "end_s": round(float(ends[last]), 3),
            }
            for first, last in zip(np.flatnonzero(begins), np.flatnonzero(finishes), strict=True)
        ]

    def panels(self, split, positions, records):
        """Errors by length, by speaker and by word; the worst utterances, to be listened to."""
        statistics = self.examine(records)
        words = statistics["words"]
        references = self.texts_of(records["text"], records["text_count"])
        said = self.texts_of(records["tokens"], records["tokens_count"])
        wrong = words[:, :3].sum(1)
        worst = np.argsort(-wrong / np.maximum(words[:, 3], 1) - wrong * 1e-6, kind="stable")
        worst = worst[wrong[worst] > 0][:SHOWN]
        audio = self.audio.panel(
            "Worst utterances",
            [self.data.samples(split, int(positions[i])) for i in worst],
            [f"= {references[i]}\n→ {said[i]}\n({wrong[i]} of {words[i, 3]} words)" for i in worst],
            "= what was said, → what was understood.",
        )
        return [
            self._by_length(words, records["frames"]),
            *self._by_speaker(words, split, positions),
            *([audio] if len(worst) else []),
        ]

    def _by_length(self, counts, frames) -> dict:
        order = np.argsort(frames, kind="stable")
        labels, values = [], []
        for part in np.array_split(order, min(LENGTHS, len(order))):
            rate = word_errors.rate(counts[part])
            if rate is not None:
                low, high = ((frames[part[i]] - 1) * self.hop_s for i in (0, -1))
                labels.append(f"{low:.1f} to {high:.1f} s ({len(part):,})")
                values.append(round(100 * rate, 2))
        title = "Word error rate by length, %"
        return {"kind": "bars", "title": title, "labels": labels, "values": values}

    def _by_speaker(self, counts, split, positions) -> list[dict]:
        groups = self.data.groups(split)
        if groups is None:
            return []
        own = groups[positions]
        rows = []
        for speaker in np.unique(own):
            part = counts[own == speaker]
            rate = word_errors.rate(part)
            if rate is not None:
                rows.append((rate, str(speaker), part))
        rows = sorted(rows, key=lambda row: -row[0])
        return [
            {
                "kind": "table",
                "title": "Each speaker, the worst first",
                "headers": ["speaker", "utterances", "words", "word error rate"],
                "rows": [
                    [name, f"{len(part):,}", f"{part[:, 3].sum():,}", f"{rate:.1%}"]
                    for rate, name, part in rows
                ],
            }
        ]

    def samples(self, model, jit):
        """Spectrograms of some recordings, each with what the model writes, where it writes it."""
        size = self.data.size("validation")
        shown, captions = [], []
        for position in np.unique(np.linspace(0, size - 1, 6).astype(int)):
            samples = self.data.samples("validation", int(position))
            outputs = self.heard(model, samples)
            words = self.words_of(outputs)
            raw = {"samples": samples[None], "samples_count": np.array([len(samples)])}
            frames = self.framed(raw, False)["frames"][0].numpy()
            edges = [
                round(word[edge] / self.hop_s) for word in words for edge in ("start_s", "end_s")
            ]
            shown.append(_marked(spectrogram(frames), edges))
            told = "  ".join(
                f"{word['word']} {word['start_s']:.2f}-{word['end_s']:.2f}" for word in words
            )
            captions.append(f"= {self.data.texts('validation')[position]}\n→ {told or 'nothing'}")
        title = "What is written where"
        caption = (
            "Lines: where words begin and end, in seconds. = what was said, → what was understood."
        )
        return [PICTURE.panel(title, alike(shown), captions, caption, side=SIDE_PX)]


def _marked(picture: np.ndarray, columns: list[int]) -> np.ndarray:
    """A picture with lines from top to bottom."""
    marked = picture.copy()
    marked[:, [min(column, picture.shape[1] - 1) for column in columns]] = (0, 255, 160)
    return marked


def _padded(tokens, most: int):
    """Tokens [b, n] with zeros behind them, int32 [b, most]."""
    tokens = tokens[:, :most]
    padded = tf.pad(tokens, [[0, 0], [0, most - tf.shape(tokens)[1]]])
    return tf.ensure_shape(padded, (None, most))
