"""Text generation: a language model that predicts each next token, and writes on from a prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import tf
from tfbig.data.text_files import TextFiles
from tfbig.decoding.generation import Generator
from tfbig.decoding.text_stream import TextStream
from tfbig.media.text import Text
from tfbig.models.gpt import GPT
from tfbig.prep import graph_text, tokenizers, vocabularies
from tfbig.prep.text import plain, refuse_surrogates, unescape
from tfbig.tasks import _served_text

SAMPLES, SAMPLE_LENGTH = 3, 300  # texts in the report, and tokens of each
TEMPERATURE = 0.8  # of choices, unless another one is asked for
LARGEST_EXPONENT = 700.0  # exp of more is no float


@dataclass(frozen=True, kw_only=True)
class Generation(Component):
    """How text is written."""

    length: int = knob(200, "most tokens to write", low=1)
    temperature: float | None = knob(
        None, f"of the choice; 0: always the most probable token; none: {TEMPERATURE}", low=0
    )
    top_k: int | None = knob(None, "choose among so many most probable tokens", low=1)
    top_p: float | None = knob(
        None, "choose among the fewest tokens with this probability together", above=0, high=1
    )
    beams: int = knob(
        1,
        "hypotheses of a beam search, for the most probable text, without any choice; 1: none",
        low=1,
    )
    stop: str = knob("", r"text at which to stop, such as \n; left out of the result")
    seed: int | None = knob(
        None, "of the choices; the same seed writes the same text; none: 0", low=0
    )

    def problems(self):
        given = [
            f"{name}={value}"
            for name in ("temperature", "top_k", "top_p", "seed")
            if (value := getattr(self, name)) is not None
        ]
        if self.beams > 1 and given:
            yield (
                "beams",
                (
                    "a beam search chooses nothing, so neither temperature, top_k, top_p nor seed"
                    f" can be given. Received: {self.beams} with {', '.join(given)}. Leave out one"
                    " or the other."
                ),
            )


@dataclass(frozen=True, kw_only=True)
class TextGeneration(Task):
    """Text generation: next-token cross-entropy, perplexity and bits per byte."""

    z_loss: float = knob(
        0.0,
        "weight of the squared log-normaliser, which keeps scores from drifting (Chowdhery et al."
        " 2022)",
        low=0,
    )
    prompt: str = knob(
        "", "start of the report's samples; empty: the start of a document, or a new line"
    )

    primary = ("loss", "min")
    asked_with = "PROMPT"
    preprocess_on = "device"
    takes = frozenset({"tokens"})
    feeds = frozenset({"tokens"})
    needs = frozenset({"logits"})
    metric_units = {"accuracy": "%"}
    derived = {"perplexity": ("loss", lambda loss: math.exp(min(loss, LARGEST_EXPONENT)))}
    request = Generation
    service = _served_text.Service

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(),
            model=GPT.smallest(),
            data=TextFiles.smallest(folder),
            train=Train(length="60", batch_size=8, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.01),
        )

    def measure(self, data):
        """The tokenizer, the number of training tokens, and whether separators are among them.

        A run carries its own tokenizer.
        """
        tokenizer = data.read_tokenizer()
        if not tokenizer.lossless:
            raise UserError(
                "data.tokenizer: expected one that gives every text back, since text is written"
                f" with it. Received: {tokenizer.kind}. Set data.tokenizer=bpe."
            )
        return {
            "tokenizer": tokenizer.to_json(),
            "tokens": len(data.tokens("train")),
            "separated": data.separated,
        }

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        if not hasattr(self, "_tokenizer"):
            object.__setattr__(self, "_tokenizer", vocabularies.from_json(self.facts["tokenizer"]))
        return self._tokenizer

    @property
    def context(self) -> int:
        return self.data.spec["tokens"].shape[0] - 1

    def preprocess(self, raw, training):
        """Windows of context + 1 tokens to inputs and, one place further, targets."""
        return {
            "tokens": raw["tokens"][:, :-1],
            "target": raw["tokens"][:, 1:],
            "length": raw["length"],
        }

    def build(self):
        return self.model.build(
            {"tokens": Feature(shape=(self.context,), dtype="int32", values=self.tokenizer.size)}
        )

    def _real(self, batch):
        """1 for targets that are real, 0 for padding, float32 [batch, context]."""
        return tf.cast(tf.range(self.context)[None] < batch["length"][:, None], tf.float32)

    def loss(self, model, batch, training):
        """Per text: the cross-entropies of its tokens in nats, weighed by how many are real."""
        logits = tf.cast(model(batch["tokens"], training=training), tf.float32)
        real = self._real(batch)
        count = tf.reduce_sum(real, -1)
        surprise = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["target"], logits)
        entropy = tf.reduce_sum(surprise * real, -1)
        if not self.z_loss:
            return {"loss": (entropy, count)}
        penalty = self.z_loss * tf.reduce_sum(tf.reduce_logsumexp(logits, -1) ** 2 * real, -1)
        return {"loss": (entropy + penalty, count), "cross_entropy": (entropy, count)}

    def predict(self, model, inputs):
        """Of each target [batch, context]: its log_probability in nats, and whether it is right.

        A target is right where it is the likeliest token.
        """
        logits = tf.cast(model(inputs["tokens"], training=False), tf.float32)
        right = tf.equal(tf.argmax(logits, -1, tf.int32), inputs["target"])
        # Not TensorFlow's own cross-entropy, an operation that other formats lack.
        return {
            "log_probability": tf.gather(tf.nn.log_softmax(logits), inputs["target"], batch_dims=2),
            "right": right,
        }

    def metrics(self, outputs, batch):
        """Cross-entropy in nats per token, accuracy, and bits per byte of UTF-8.

        Accuracy is the share of targets that were the likeliest token. Bits per byte compares
        models whatever their tokenizers; separators count neither as bits nor as bytes.
        """
        real = self._real(batch)
        surprise = -outputs["log_probability"]
        written = tf.constant(self.tokenizer.byte_lengths() > 0, tf.float32)
        text = tf.gather(written, batch["target"]) * real
        size = graph_text.byte_counts(self.tokenizer, batch["tokens"], batch["target"])
        size = tf.cast(size, tf.float32) * real
        count = tf.reduce_sum(real, -1)
        return {
            "loss": (tf.reduce_sum(surprise * real, -1), count),
            "accuracy": (tf.reduce_sum(tf.cast(outputs["right"], tf.float32) * real, -1), count),
            "bits_per_byte": (
                tf.reduce_sum(surprise * text, -1) / math.log(2),
                tf.reduce_sum(size, -1),
            ),
        }

    def records(self, outputs, batch):
        """Each target's log-probability [batch, context]."""
        return {"log_probability": outputs["log_probability"]}

    def serving(self, model, options):
        return _served_text.serving(self, model, options)

    def panels(self, split, positions, records):
        """The loss at each place of the context: how much what came before helps."""
        size = len(positions)
        # Only the last window can be short
        length = self.data.examples(split, positions[-1:])["length"]
        full = records["log_probability"]
        full = full[: size - 1] if length.size and length[0] < self.context else full
        if not len(full):
            return []
        curve = {
            "name": split,
            "x": list(range(1, self.context + 1)),
            "y": [round(float(y), 5) for y in -full.mean(0)],
        }
        return [
            {
                "kind": "curves",
                "title": "Loss by place in the context",
                "series": [curve],
                "x_label": "place",
                "y_label": "nats per token",
            }
        ]

    def training_panels(self, batch):
        """The first windows of training, token by token."""
        windows = [
            tokens[: min(length, SAMPLE_LENGTH)]
            for tokens, length in zip(batch["tokens"], batch["length"], strict=True)
        ]
        items = [
            "│".join(self.tokenizer.continuation([int(token)]) for token in tokens)
            for tokens in windows[:SAMPLES]
        ]
        caption = f"The first {SAMPLE_LENGTH} tokens at most; │ stands between two of them."
        return [
            {
                "kind": "texts",
                "title": "Windows of the first training batch",
                "items": items,
                "caption": caption,
            }
        ]

    def samples(self, model, jit):
        """Texts that the model writes."""
        request = Generation(length=SAMPLE_LENGTH)
        prompt = self.prompt
        try:
            self._encode(prompt, 1)
        except UserError:
            # The data is another one than the prompt was written for; a report should not fail.
            prompt = ""
        texts = [prompt + text for text in self.write(model, [prompt] * SAMPLES, request, jit)]
        return [{"kind": "texts", "title": f"Samples (temperature {TEMPERATURE})", "items": texts}]

    def respond(self, trained, inputs, request, write):
        """Prompts to their continuations: [{"input", "text"}]; "-" is the text on stdin."""
        prompts = Text().take(inputs).values
        texts = self.write(trained.model, prompts, request, trained.jit, write)
        return [
            {"input": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)
        ]

    def write(
        self, model, prompts: list[str], request: Generation, jit: bool, write=lambda text: None
    ) -> list[str]:
        """The continuation of each prompt.

        All are written together, the first appears as it is written.
        """
        rows = [self._encode(prompt, number) for number, prompt in enumerate(prompts, 1)]
        temperature = TEMPERATURE if request.temperature is None else request.temperature
        choice = {"temperature": temperature, "top_k": request.top_k, "top_p": request.top_p}
        generator = Generator(self.model, model, jit=jit, seed=request.seed or 0, **choice)
        stop = plain(unescape(request.stop), self.data.normalize)
        streams = [TextStream(self.tokenizer, stop, begins=not prompt) for prompt in prompts]
        if request.beams > 1:
            return self._search(generator, rows, prompts, request, streams, write)
        write(prompts[0])

        def show(fresh) -> bool:
            for number, (stream, tokens) in enumerate(zip(streams, fresh.T, strict=True)):
                piece = stream.add(tokens.tolist())
                if number == 0:
                    write(piece)
            return not all(stream.done for stream in streams)

        generator.generate(rows, request.length, show)
        write(streams[0].end() + "\n")
        for prompt, stream in zip(prompts[1:], streams[1:], strict=True):
            stream.end()
            write(f"\n{prompt}{stream.text}\n")
        return [stream.text for stream in streams]

    def _search(self, generator, rows, prompts, request, streams, write) -> list[str]:
        longest = max(map(len, rows))
        if longest + request.length > self.context:
            left = self.context - longest
            raise UserError(
                "length: a beam search expects prompt and text within the context of"
                f" {self.context} tokens, so at most {left}. Received: {request.length}."
            )
        hypotheses, _ = generator.beam(
            rows, request.length, request.beams, self.tokenizer.separator
        )
        for prompt, stream, tokens in zip(prompts, streams, hypotheses, strict=True):
            stream.add(tokens)
            stream.end()
            write(f"{prompt}{stream.text}\n")
        return [stream.text for stream in streams]

    @property
    def start(self) -> list[int]:
        """What stands before a document's tokens.

        Its opener, if training has shown that to the model.
        """
        known = self.tokenizer.opener is not None and self.facts.get("separated", True)
        return [self.tokenizer.opener] if known else []

    @property
    def opening(self) -> list[int]:
        """What text without a start begins behind.

        The start of a document, else a new line, or the first token if there is none.
        """
        if self.start:
            return self.start
        try:
            return self.tokenizer.encode("\n").tolist()[:1] or [0]
        except UserError:
            return [0]

    def opened(self, tokens: list[int]) -> list[int]:
        """A prompt's tokens as the model reads them.

        Behind the start of a document, if it knows one and there is room.
        """
        return (
            [*self.start, *tokens][-self.context :]
            if len(tokens) == self.context
            else [*self.start, *tokens] or self.opening
        )

    def _encode(self, prompt: str, number: int):
        refuse_surrogates(prompt, f"prompt {number}")
        try:
            tokens = self.tokenizer.encode(plain(prompt, self.data.normalize)).tolist()
        except UserError as error:
            raise UserError(f"prompt {number}: {error}") from error
        if len(tokens) > self.context:
            raise UserError(
                f"prompt {number}: expected at most the model's context of {self.context} tokens."
                f" Received: {len(tokens)}. Shorten it."
            )
        return self.opened(tokens)
