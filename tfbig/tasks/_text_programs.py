"""The programs of a served language model: generation, scores of texts, and single steps.

They are graphs of core operations. Signatures (b rows, t tokens, c the context, n new tokens, v
tokens of the vocabulary):

    serving_default   prompt string [b] -> text string [b], tokens int32 [b] (how many were written)
    generate          the same with scalars: length, seed, top_k (0: all) int32, temperature
                      (0: greedy), top_p (1: all) float32
    score             text string [b] -> log_probability float32 [b] (nats), tokens, bytes int32 [b]
    tensors           tokens int32 [b, c + 1], length int32 [b] -> log_probability float32,
                      right bool [b, c]
    prefill           tokens int32 [b, t], count int32 [b] -> logits float32 [b, v], cache_0 ...
    step              token, position int32 [b], cache_0 ... -> logits float32 [b, v], cache_0 ...

Where the tokenizer cannot be a part of the graph (generation.json: "takes": "tokens"), the first
three take tokens int32 [b, t] and count int32 [b] instead of texts; generation also gives ids int32
[b, n], and text where tokens can be turned into text.

Shapes: b texts, t tokens, c the context, w windows.
"""

from __future__ import annotations

from tfbig.core.component import Component
from tfbig.core.contracts import Task
from tfbig.core.lazy import tf
from tfbig.core.serving import Program
from tfbig.decoding.generation import continuation
from tfbig.decoding.sampling import choose
from tfbig.prep import graph_text
from tfbig.tasks._requests import are_within, checked, known, require, required

WINDOWS = 32  # windows scored at once; bounds memory
MOST_WRITTEN = 1 << 14  # tokens of all rows that one request may ask for
COUNT = "count: expected 0 to the number of tokens given in each row, one for each row"


class TextPrograms:
    """A language model's programs.

    Where the tokenizer can live in a graph, texts go in; otherwise tokens int32 [b, t] and how many
    of them count [b]. Text comes out where the tokens can be turned into text in a graph, and
    `ids`, int32 [b, length], where tokens go in.

    Texts are read as they are: core operations have no Unicode normalisation, so whoever asks
    brings them to the form of `data.normalize`, as `TextGeneration.write` and the server's
    completions do.
    """

    def __init__(self, task: Task, model, service: Component):
        self.task = task
        self.model = model
        self.service = service
        self.context = task.context
        self.encode = graph_text.encoder(task.tokenizer)
        self.decode = graph_text.decoder(task.tokenizer)
        self.start = task.start
        self.end = -1 if task.tokenizer.separator is None else task.tokenizer.separator
        self.prefill, self.step = task.model.cached(model)
        self.cache = [
            tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in self.prefill.outputs[1:]
        ]

    def programs(self) -> dict[str, Program]:
        def scalar(dtype):
            return tf.TensorSpec((), dtype)

        asked = {
            "length": scalar(tf.int32),
            "seed": scalar(tf.int32),
            "temperature": scalar(tf.float32),
            "top_k": scalar(tf.int32),
            "top_p": scalar(tf.float32),
        }
        prompt, text = (self._given(name) for name in ("prompt", "text"))
        row = tf.TensorSpec((None,), tf.int32)
        matrix = tf.TensorSpec((None, None), tf.int32)
        cache = {f"cache_{i}": spec for i, spec in enumerate(self.cache)}
        return {
            "serving_default": Program(function=self._complete, inputs=prompt),
            "generate": Program(function=self._generate, inputs={**prompt, **asked}),
            "score": Program(function=self._score, inputs=text),
            "prefill": Program(function=self._prefill, inputs={"tokens": matrix, "count": row}),
            "step": Program(function=self._step, inputs={"token": row, "position": row, **cache}),
        }

    def _given(self, name: str) -> dict[str, tf.TensorSpec]:
        if self.encode:
            return {name: tf.TensorSpec((None,), tf.string)}
        return {
            "tokens": tf.TensorSpec((None, None), tf.int32),
            "count": tf.TensorSpec((None,), tf.int32),
        }

    def _tokens(self, given: dict):
        """The tokens of texts as the model reads them, ragged [b, None].

        They stand behind the start of a document, if the model knows one.
        """
        if "tokens" in given:
            numbers, count = given["tokens"], given["count"]
            require(are_within(count, 0, tf.shape(numbers)[1]), COUNT)
            require(tf.equal(tf.shape(count)[0], tf.shape(numbers)[0]), COUNT)
            require(*self._known(numbers, "tokens"))
            tokens = tf.RaggedTensor.from_tensor(numbers, count)
        else:
            (texts,) = given.values()
            tokens = self.encode(texts)
        if not self.start:
            return tokens
        rows = tokens.nrows(out_type=tf.int32)
        return tf.concat(
            [
                tf.RaggedTensor.from_tensor(
                    tf.tile(tf.constant([self.start]), (rows, 1)),
                    row_splits_dtype=tokens.row_splits.dtype,
                ),
                tokens,
            ],
            1,
        )

    def _prompts(self, given: dict):
        """Prompts as padded tokens [b, c] and their lengths [b]; see `TextGeneration._encode`."""
        tokens = self._tokens(given)
        length = tf.cast(tokens.row_lengths(), tf.int32)
        # Full without the document's start
        drop = tf.where(length == self.context + 1, len(self.start), 0)
        length -= drop
        lengths = tf.concat([length, [0]], 0)  # of no prompts, too
        longest = tf.reduce_max(lengths)
        number = tf.argmax(lengths, output_type=tf.int32) + 1
        message = tf.strings.join(
            [
                "prompt ",
                tf.strings.as_string(number),
                f": expected at most the context of {self.context} tokens. Received: ",
                tf.strings.as_string(longest - len(self.start)),
            ]
        )
        require(longest <= self.context, message)
        dense = tokens.to_tensor(shape=(None, self.context + 1))
        dense = tf.where(drop[:, None] > 0, tf.roll(dense, -1, 1), dense)
        opening = tf.pad(
            tf.constant(self.task.opening[: self.context]),
            [[0, max(0, self.context + 1 - len(self.task.opening))]],
        )
        # Nothing is given: what a text begins behind
        dense = tf.where(length[:, None] == 0, opening[None], dense)
        length = tf.where(length == 0, min(self.context, len(self.task.opening)), length)
        return dense[:, : self.context], length

    def _complete(self, **given):
        service = self.service
        choice = {
            "temperature": service.temperature,
            "top_k": service.top_k,
            "top_p": service.top_p,
        }
        return self._written(given, service.length, service.seed, choice)

    def _generate(self, *, length, seed, temperature, top_k, top_p, **given):
        limit = self.service.limit
        require((length >= 1) & (length <= limit), f"length: expected 1 to {limit}")
        most = max(limit, MOST_WRITTEN)  # nothing stops the loop, not even that its client has gone
        rows = tf.shape(next(iter(given.values())))[0]
        message = f"length: expected at most {most:,} tokens together, rows times length"
        require(tf.cast(rows, tf.int64) * tf.cast(length, tf.int64) <= most, message)
        require(temperature >= 0, "temperature: expected at least 0")
        require(top_k >= 0, "top_k: expected at least 1, or 0 for all tokens")
        require((top_p > 0) & (top_p <= 1), "top_p: expected more than 0, at most 1")
        require(seed >= 0, "seed: expected at least 0")
        return self._written(
            given, length, seed, {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        )

    def _written(self, given, length, seed, choice: dict):
        tokens, count = self._prompts(given)
        texts = given.get("prompt")
        begins = given["count"] == 0 if texts is None else tf.equal(texts, "")
        tokens_bn = continuation(
            self.prefill,
            self.step,
            tokens,
            count,
            length=length,
            pick=lambda logits, number: choose(logits, seed, number, **choice),
            end=self.end,
        )
        ended = tf.equal(tokens_bn, self.end)
        written = tf.where(tf.reduce_any(ended, 1), tf.argmax(ended, 1, tf.int32), length)
        answer = {"tokens": written}
        if self.decode:
            answer["text"] = self.decode(tokens_bn, written, begins)
        if not self.encode:
            answer["ids"] = tf.where(tf.range(length)[None] < written[:, None], tokens_bn, 0)
        return answer

    def _score(self, **given):
        """Log-probability of each text in windows side by side, as a split is evaluated.

        Its first token is a target of none.
        """
        tokens = self._tokens(given)
        context = self.context
        length = tf.cast(tokens.row_lengths(), tf.int32)
        targets = tf.maximum(length - 1, 0)
        windows = -(-targets // context)
        row = tf.repeat(tf.range(tf.shape(length)[0]), windows)
        start = (
            tf.range(tf.shape(row)[0]) - tf.gather(tf.cumsum(windows, exclusive=True), row)
        ) * context
        inside = tf.minimum(
            start[:, None] + tf.range(context + 1)[None], tf.gather(length, row)[:, None] - 1
        )
        first = tf.cast(tf.gather(tokens.row_starts(), row), tf.int32)
        raw = {
            "tokens": tf.gather(tokens.values, first[:, None] + inside),
            "length": tf.minimum(context, tf.gather(targets, row) - start),
        }
        sums = self._log_probability(raw)
        real = tf.range(context)[None] < raw["length"][:, None]
        before = raw["tokens"][:, :-1]
        targets_wc = raw["tokens"][:, 1:]
        size = tf.where(real, graph_text.byte_counts(self.task.tokenizer, before, targets_wc), 0)

        def total(value):
            return tf.math.unsorted_segment_sum(value, row, tf.shape(length)[0])

        return {
            "log_probability": total(sums),
            "tokens": targets,
            "bytes": total(tf.reduce_sum(size, 1)),
        }

    def _log_probability(self, raw: dict):
        """The sum of each window's real targets, float32 [w], some windows at a time."""

        def body(i, done):
            ready = self.task.preprocess(
                {name: value[i : i + WINDOWS] for name, value in raw.items()}, False
            )
            real = tf.cast(tf.range(self.context)[None] < ready["length"][:, None], tf.float32)
            sums = tf.reduce_sum(self.task.predict(self.model, ready)["log_probability"] * real, 1)
            return i + WINDOWS, tf.concat([done, sums], 0)

        size = tf.shape(raw["length"])[0]
        shapes = (tf.TensorShape(()), tf.TensorShape((None,)))
        return tf.while_loop(
            lambda i, done: i < size,
            body,
            (tf.constant(0), tf.zeros((0,))),
            shape_invariants=shapes,
            parallel_iterations=1,
        )[1]

    def _known(self, tokens, name: str) -> tuple:
        return known(tokens, self.task.tokenizer.size, name)

    def _prefill(self, tokens, count):
        rows, given = tf.unstack(tf.shape(tokens))
        are_known = self._known(tokens, "tokens")
        fits = are_within(count, 1, given) & (given <= self.context)
        fits &= tf.equal(tf.shape(count)[0], rows)
        message = f"count: expected 1 to the number of tokens given, at most {self.context}"
        count = required(count, fits, f"{message}, for each row")
        count = required(count, *are_known)
        tokens = checked(tokens, *are_known)
        filled = tf.concat([tokens, tf.zeros((rows, self.context - given), tf.int32)], 1)
        return self._named(self.prefill([tf.reshape(filled, (-1, self.context)), count]))

    def _step(self, token, position, **cache):
        last = self.context - 1
        fits = are_within(position, 0, last)
        message = f"position: expected numbers from 0 to {last}"
        position = required(position, fits, message)
        token = required(token, fits, message)  # too: not every model reads the position
        token = required(token, *self._known(token, "token"))
        return self._named(
            self.step([token, position, *(cache[f"cache_{i}"] for i in range(len(self.cache)))])
        )

    def windows(self, given: dict) -> dict:
        """Windows of tokens [b, context + 1] and how many targets are real, if they can be that."""
        fits = are_within(given["length"], 0, self.context)
        fits &= tf.equal(tf.shape(given["length"])[0], tf.shape(given["tokens"])[0])
        message = f"length: expected a number from 0 to {self.context} for each row"
        return {
            "tokens": checked(given["tokens"], *self._known(given["tokens"], "tokens")),
            "length": checked(given["length"], fits, message),
        }

    def _named(self, outputs) -> dict:
        logits, *cache = outputs
        return {"logits": logits, **{f"cache_{i}": tensor for i, tensor in enumerate(cache)}}
