"""Masked language model: guesses hidden tokens from both sides, to learn a language before labels.

Shapes: b texts, l places of a frame, m places that may be hidden, v tokens of the vocabulary.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np, tf
from tfbig.core.serving import Media, Program, Serving, Trial
from tfbig.data.text_mix import TextMix
from tfbig.media.text import Text
from tfbig.models.bert import BERT
from tfbig.prep import graph_text, text_frames, text_masks
from tfbig.prep.text import plain, refuse_surrogates
from tfbig.prep.tokenizers import Tokenizer
from tfbig.prep.vocabularies import from_json
from tfbig.prep.wordpiece import INSIDE, MASK

SERVED_TOKENS = 5  # for each mask, the likeliest first
SHOWN_TEXTS = 12
FILLED = 64  # texts that `fill` is tried with


@dataclass(frozen=True, kw_only=True)
class Filling(Component):
    """How masks are filled."""

    top: int = knob(SERVED_TOKENS, "tokens for each mask, the most probable first", low=1)


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModel(Task):
    """Masked language model: cross-entropy of hidden tokens (Devlin et al. 2019)."""

    share: float = knob(
        0.15, "of the tokens that is hidden (Wettig et al. 2023 take 0.4)", above=0, high=0.8
    )
    whole_words: bool = knob(True, "hide all pieces of a word together")
    mask_seed: int = knob(0, "of the masks of an evaluation", low=0, high=2**32 - 1)

    primary = ("loss", "min")
    asked_with = "TEXT"
    preprocess_on = "host"
    feeds = frozenset({"text"})
    needs = frozenset({"sequence"})
    metric_units = {"accuracy": "%"}
    request = Filling

    @classmethod
    def wanted_data(cls, data):
        return "" if data.gives & {"tokens", "text"} else "data that gives tokens or text"

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(),
            model=BERT.smallest(),
            data=TextMix.smallest(folder),
            train=Train(length="60", batch_size=8, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.02),
        )

    def measure(self, data):
        """The tokenizer, and how long an example is. A run carries its own tokenizer."""
        tokenizer = data.read_tokenizer()
        if getattr(tokenizer, "mask", None) is None:
            raise UserError(
                f"data.tokenizer: expected one with the token {MASK}. Received: {tokenizer.kind}."
                " Set data.tokenizer=wordpiece, or ready with a vocabulary of BERT's."
            )
        column = "tokens" if "tokens" in data.gives else "text"
        return {"tokenizer": tokenizer.to_json(), "column": column}

    @property
    def tokenizer(self) -> Tokenizer:
        if not hasattr(self, "_tokenizer"):
            object.__setattr__(self, "_tokenizer", from_json(self.facts["tokenizer"]))
        return self._tokenizer

    @property
    def context(self) -> int:
        """Tokens of a text, without the special ones around it."""
        return self.data.context + int(self.facts["column"] == "tokens")

    def preprocess(self, raw, training):
        """Tokens of texts or windows to frames with hidden tokens; see `prep.text_masks`.

        While training, what is hidden is another choice each time; otherwise it depends on the text
        and `mask_seed` alone.
        """
        frame = self._frame(raw)
        key = text_masks.key_of(frame["tokens"], frame["count"], self.mask_seed)
        return text_masks.masked(
            self.tokenizer,
            frame,
            raw["key"] if training else key,
            self.share,
            whole_words=self.whole_words,
        )

    def _frame(self, raw) -> dict:
        if self.facts["column"] == "tokens":
            tokens, count = raw["tokens"], raw["length"] + 1
        else:
            tokens, count = raw["text"], raw["text_count"]
        frame = text_frames.framed(self.tokenizer, [tokens], [count])
        return {name: frame[name] for name in ("tokens", "count")}

    def build(self):
        length = self.context + text_frames.added(self.tokenizer, 1)
        tokens = Feature(shape=(None,), dtype="int32", values=self.tokenizer.size, most=length)
        body = self.model.build({"tokens": tokens, "count": Feature(shape=(), dtype="int32")})
        x_bld = body.output["sequence"] if isinstance(body.output, dict) else body.output
        places = keras.Input((None,), dtype="int32", name="places")
        # Only what is hidden is scored: most of the work is the product with the vocabulary
        x_bmd = keras.ops.take_along_axis(x_bld, places[:, :, None], axis=1)
        x_bmd = keras.layers.Dense(x_bld.shape[-1], activation="gelu", name="transform")(x_bmd)
        x_bmd = keras.layers.LayerNormalization(epsilon=1e-12, name="transform_norm")(x_bmd)
        scores = self._scores(body, x_bmd)
        inputs = {**body.input, "places": places}
        return keras.Model(inputs, scores, name=type(self.model).__name__.lower())

    def _scores(self, body, x_bmd):
        """Scores of all tokens: by the embedding's own vectors, where a model lends them."""
        names = [layer.name for layer in body.layers]
        embedding = body.get_layer("embedding") if "embedding" in names else None
        if isinstance(embedding, keras.layers.ReversibleEmbedding):
            return keras.ops.cast(embedding(x_bmd, reverse=True), "float32")
        return keras.layers.Dense(self.tokenizer.size, dtype="float32", name="head")(x_bmd)

    def _logits(self, model, inputs, training: bool):
        given = {name: inputs[name] for name in ("tokens", "count", "places")}
        return tf.cast(model(given, training=training), tf.float32)

    def loss(self, model, batch, training):
        """Per text: the cross-entropies of its hidden tokens in nats, weighed by how many."""
        logits = self._logits(model, batch, training)
        weight = batch["weight"]
        count = tf.reduce_sum(weight, 1)
        surprise = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["target"], logits)
        right = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), batch["target"]), tf.float32)
        return {
            "loss": (tf.reduce_sum(surprise * weight, 1), count),
            "accuracy": (tf.reduce_sum(right * weight, 1), count),
        }

    def predict(self, model, inputs):
        """Of each hidden token [b, m]: its log_probability in nats, and whether it is right.

        It is right where it is the likeliest token.
        """
        logits = self._logits(model, inputs, False)
        target = inputs["target"]
        # Not TensorFlow's own cross-entropy, an operation that other formats lack
        log_probability = tf.gather(tf.nn.log_softmax(logits), target, batch_dims=2)
        right = tf.equal(tf.argmax(logits, -1, tf.int32), target)
        return {"log_probability": log_probability, "right": right}

    def metrics(self, outputs, batch):
        """Cross-entropy in nats and accuracy, at hidden tokens alone."""
        weight = batch["weight"]
        count = tf.reduce_sum(weight, 1)
        right = tf.cast(outputs["right"], tf.float32)
        return {
            "loss": (-tf.reduce_sum(outputs["log_probability"] * weight, 1), count),
            "accuracy": (tf.reduce_sum(right * weight, 1), count),
        }

    def serving(self, model, options):
        """Texts with [MASK] in, bytes [batch]; the likeliest tokens out.

        serving_default and fill: text -> labels string [batch, 5], scores [batch, 5], of the first
        mask, the likeliest first; text string [batch], with each mask filled by its likeliest. The
        split is put through `score`: tokens, whose hidden ones are chosen inside.
        """
        if self.facts["column"] == "tokens":
            most = self.data.context + 1
            signature = {"tokens": [None, most], "length": [None]}
        else:
            signature = {"text": [None, self.data.context], "text_count": [None]}
        fill = Program(
            function=functools.partial(self._fill, model), inputs={"text": Text().served("text")}
        )
        return Serving(
            signature={
                name: tf.TensorSpec(shape, tf.int32, name=name) for name, shape in signature.items()
            },
            decode=dict,
            encode=self._encode,
            answer=dict,
            grade=self.metrics,
            name="score",
            programs={"serving_default": fill, "fill": fill},
            trials=functools.partial(self._trials, model),
            media=Media(
                takes={"text": "text"},
                gives={"text": "text", "labels": "label", "scores": "probabilities"},
            ),
            remarks=tuple(self._remarks()),
        )

    def _remarks(self):
        yield (
            f"It fills {MASK} in texts of at most {self.context} tokens; pieces that go on with a"
            f" word begin with {INSIDE}."
        )
        if self.data.normalize != "none":
            form = self.data.normalize.upper()
            yield f"It was trained on text in Unicode's form {form}; bring texts to it before."

    def _encode(self, raw):
        if self.facts["column"] == "tokens":
            return {name: raw[name] for name in ("tokens", "length")}
        values = raw["text"]
        if isinstance(values, np.ndarray) and values.dtype == object:  # texts
            values = self.tokenizer.encode_all([text.decode() for text in values])
        tokens, counts = text_frames.padded(values, self.data.context)
        return {"text": tokens, "text_count": counts}

    def _fill(self, model, text):
        """The likeliest tokens for masks in texts, string [b]."""
        texts = Text().decode(text)
        parts = tf.strings.split(texts, MASK)
        tokens = graph_text.encoder(self.tokenizer)(parts.values)
        masks = tf.fill([tokens.nrows(out_type=tf.int32), 1], self.tokenizer.mask)
        # Behind each part but the last stands a mask
        tokens = tf.concat([tokens, tf.RaggedTensor.from_tensor(masks)], 1)
        rows = tf.RaggedTensor.from_row_splits(tokens, parts.row_splits).merge_dims(1, 2)
        count = tf.cast(rows.row_lengths(), tf.int32) - 1
        longest = tf.reduce_max(tf.concat([count, [0]], 0))
        message = f"text: expected at most {self.context} tokens. Received: "
        tf.debugging.Assert(
            longest <= self.context, [tf.strings.join([message, tf.strings.as_string(longest)])]
        )
        tokens = rows.to_tensor(shape=(None, self.context + 1))[:, : self.context]
        tokens = tf.where(tf.range(self.context)[None] < count[:, None], tokens, 0)
        return self._filled(model, tokens, count)

    def _filled(self, model, tokens, count) -> dict:
        """The likeliest tokens for masks among tokens int32 [b, context]."""
        frame = text_frames.framed(self.tokenizer, [tokens], [count])
        is_mask = tf.equal(frame["tokens"], self.tokenizer.mask)
        number = tf.reduce_sum(tf.cast(is_mask, tf.int32), 1)
        fewest = tf.reduce_min(tf.concat([number, [1]], 0))
        tf.debugging.Assert(fewest > 0, [f"text: expected {MASK} at least once in each"])
        size = tf.reduce_max(tf.concat([number, [1]], 0))
        order = tf.argsort(tf.cast(~is_mask, tf.int32), axis=1, stable=True)
        places = order[:, :size]
        given = {"tokens": frame["tokens"], "count": frame["count"], "places": places}
        probability = tf.nn.softmax(self._logits(model, given, False))
        scores, labels = tf.math.top_k(probability, SERVED_TOKENS)
        row = tf.broadcast_to(tf.range(tf.shape(places)[0])[:, None], tf.shape(places))
        real = tf.gather(is_mask, places, batch_dims=1)
        best = tf.where(real, labels[:, :, 0], tf.gather(frame["tokens"], places, batch_dims=1))
        filled = tf.tensor_scatter_nd_update(frame["tokens"], tf.stack([row, places], 2), best)
        words = tf.constant(self.tokenizer.words)
        return {
            "labels": tf.gather(words, labels[:, 0]),
            "scores": scores[:, 0],
            "text": self._spelled(filled, frame["count"]),
        }

    def _spelled(self, tokens, count):
        """Texts of frames, as `WordPiece.decode` has them."""
        written = [
            "" if special and number != self.tokenizer.unknown else word
            for number, (word, special) in enumerate(
                zip(self.tokenizer.words, self.tokenizer.is_special, strict=True)
            )
        ]
        spaced = [
            word.removeprefix(INSIDE) if goes_on else f" {word}" if word else ""
            for word, goes_on in zip(written, self.tokenizer.continues, strict=True)
        ]
        real = tf.range(tf.shape(tokens)[1])[None] < count[:, None]
        pieces = tf.where(real, tf.gather(tf.constant(spaced), tokens), "")
        return tf.strings.strip(tf.strings.reduce_join(pieces, axis=1))

    def _trials(self, model, split: str) -> list[Trial]:
        """The first texts of the split, each with its middle token masked."""
        positions = np.arange(min(FILLED, self.data.size(split)))
        raw = self.data.examples(split, positions)
        if self.facts["column"] == "tokens":
            rows = [row[: n + 1] for row, n in zip(raw["tokens"], raw["length"], strict=True)]
        else:
            rows = raw["text"]
        special = self.tokenizer.is_special
        texts, masked = [], []
        for row in rows:
            row = row[~special[row]][: self.context]
            middle = len(row) // 2
            parts = [self.tokenizer.respelled(part) for part in (row[:middle], row[middle + 1 :])]
            text = MASK.join(parts)
            # A piece in the middle of a word leaves others behind it
            masked.append(self._masked_tokens(text))
            texts.append(text)
        kept = [i for i, row in enumerate(masked) if len(row) <= self.context]
        tokens, counts = text_frames.padded([masked[i] for i in kept], self.context)
        expected = self._filled(model, tf.constant(tokens), tf.constant(counts))
        inputs = {"text": np.array([texts[i].encode() for i in kept], object)}
        values = {name: value.numpy() for name, value in expected.items()}
        return [Trial(program="fill", inputs=inputs, expected=values)]

    def _masked_tokens(self, text: str) -> np.ndarray:
        """The tokens of a text with masks."""
        parts = self.tokenizer.encode_all(text.split(MASK))
        mask = np.array([self.tokenizer.mask], np.int32)
        return np.concatenate([part for each in parts for part in (each, mask)][:-1])

    def respond(self, trained, inputs, request, write):
        """Texts with their masks filled: [{"input", "text", "masks": [[[token, share], ...]]}]."""
        results = []
        for number, text in enumerate(Text().take(inputs).values, 1):
            refuse_surrogates(text, f"text {number}")
            tokens = self._masked_tokens(plain(text, self.data.normalize))
            received = "none" if self.tokenizer.mask not in tokens else f"{len(tokens)} tokens"
            if received == "none" or len(tokens) > self.context:
                raise UserError(
                    f"text {number}: expected {MASK} at least once, and at most {self.context}"
                    f" tokens. Received: {received}."
                )
            masks = self._shares(trained.model, tokens, request.top)
            best = tokens.copy()
            best[tokens == self.tokenizer.mask] = [row[0][0] for row in masks]
            filled = self.tokenizer.decode(best)
            words = [[[self.tokenizer.words[i], share] for i, share in row] for row in masks]
            results.append({"input": text, "text": filled, "masks": words})
            lines = (", ".join(f"{word} {share:.1%}" for word, share in row) for row in words)
            write("\n  ".join([filled, *lines]) + "\n")
        return results

    def _shares(self, model, tokens: np.ndarray, top: int) -> list[list[tuple[int, float]]]:
        """For each mask, the likeliest tokens and their probabilities."""
        padded, count = text_frames.padded([tokens], self.context)
        frame = text_frames.framed(self.tokenizer, [tf.constant(padded)], [tf.constant(count)])
        places = np.flatnonzero(tokens == self.tokenizer.mask)[None] + 1  # behind [CLS]
        given = {"tokens": frame["tokens"], "count": frame["count"]}
        given["places"] = tf.constant(places, tf.int32)
        (probability,) = tf.nn.softmax(self._logits(model, given, False)).numpy()
        order = np.argsort(-probability, axis=1, kind="stable")[:, :top]
        return [
            [(int(i), float(row[i])) for i in best]
            for row, best in zip(probability, order, strict=True)
        ]

    def training_panels(self, batch):
        """The first texts of training as the network is given them, with what is hidden."""
        items = []
        for i in range(min(SHOWN_TEXTS, len(batch["tokens"]))):
            words = [self.tokenizer.words[token] for token in batch["tokens"][i]]
            for place, target, weight in zip(
                batch["places"][i], batch["target"][i], batch["weight"][i], strict=True
            ):
                if weight:
                    words[place] = f"{words[place]}→{self.tokenizer.words[target]}"
            items.append(" ".join(words[: batch["count"][i]]).replace(f" {INSIDE}", "│"))
        caption = "→ stands before what is to be guessed; │ between pieces of a word."
        return [Text().panel("Texts of the first training batch", items, (), caption)]
