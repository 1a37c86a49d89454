"""Generation of tokens one after another, with a cache.

`Generator` drives compiled programs of static shapes from the host and gives tokens as they are
made; `continuation` is the same loop as a part of one graph, for exports.

Shapes: b rows, v tokens of the vocabulary, n new tokens.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from tfbig.core.lazy import np, tf
from tfbig.core.model import Model
from tfbig.decoding import beam
from tfbig.decoding.sampling import choose
from tfbig.decoding.window import num_dropped

CHUNK = 64  # most tokens per call into the compiled program
CALL_SECONDS = 0.1  # target length of one call, so that text appears as it is made


class Generator:
    """A generator with one way of choosing; programs are compiled at their first use and kept.

    Args:
        config: the architecture.
        model: its built model, tokens [b, context] to logits.
        jit: whether XLA compiles.
        seed: of the choices.
        choice: options of `choose`.
    """

    def __init__(self, config: Model, model, *, jit: bool, seed: int = 0, **choice):
        self.context = model.input.shape[1]
        self.seed = seed
        self.choice = choice
        self.prefill, self.step = config.cached(model)
        compiled = tf.function(jit_compile=jit or None, autograph=False)
        self._start = compiled(self._start)
        self._go_on = compiled(self._go_on)
        self._search = compiled(functools.partial(hypotheses, self.prefill, self.step))

    def _pick(self, logits_bv, number):
        return choose(logits_bv, self.seed, number, **self.choice)

    def _start(self, tokens, count, number):
        logits, *cache = self.prefill([tokens, count])
        return self._pick(logits, number), cache

    def _go_on(self, token, position, cache, number, steps):
        chosen = tf.TensorArray(tf.int32, CHUNK, element_shape=token.shape)

        def body(i, token, chosen, *cache):
            logits, *cache = self.step([token, position + i, *cache])
            token = self._pick(logits, number + i)
            return i + 1, token, chosen.write(i, token), *cache

        _, token, chosen, *cache = tf.while_loop(
            lambda i, *_: i < steps,
            body,
            (tf.constant(0), token, chosen, *cache),
            parallel_iterations=1,
        )
        return chosen.stack(), token, cache

    def padded(self, rows: list[list[int]]):
        """The rows as padded tokens [b, context] and their lengths [b]."""
        tokens = np.zeros((len(rows), self.context), np.int32)
        for place, row in zip(tokens, rows, strict=True):
            place[: len(row)] = row
        return tf.constant(tokens), tf.constant([len(row) for row in rows], tf.int32)

    def _windows(self, rows: list[list[int]]) -> list[list[int]]:
        return [row[num_dropped(len(row), self.context) :] for row in rows]

    def generate(
        self, prompts: list, length: int, receive: Callable = lambda tokens: True
    ) -> list[list[int]]:
        """The tokens that follow each prompt.

        Args:
            prompts: tokens of each row, at least one and at most `context`.
            length: tokens to make.
            receive: gets new tokens int32 [n, b] as soon as there are some; false stops.
        """
        rows = [list(map(int, prompt)) for prompt in prompts]
        results = [[] for _ in prompts]
        chunk, token = 1, None
        while len(results[0]) < length:
            number = len(results[0])
            longest = max(map(len, rows))
            if token is None or longest > self.context:
                rows = self._windows(rows)
                token, cache = self._start(*self.padded(rows), tf.constant(number))
                fresh = token.numpy()[None]
            else:
                steps = min(chunk, length - number, self.context - longest + 1)
                position = tf.constant([len(row) - 1 for row in rows], tf.int32)
                started = time.monotonic()
                fresh, token, cache = self._go_on(
                    token, position, cache, tf.constant(number), tf.constant(steps)
                )
                fresh = fresh.numpy()[:steps]
                seconds = (time.monotonic() - started) / steps
                chunk = max(1, min(CHUNK, 2 * chunk, int(CALL_SECONDS / max(seconds, 1e-6))))
            for row, result, new in zip(rows, results, fresh.T, strict=True):
                row.extend(new.tolist())
                result.extend(new.tolist())
            if not receive(fresh):
                break
        return results

    def generate_uncached(self, model, prompts: list, length: int) -> list[list[int]]:
        """The same tokens without a cache, for comparison.

        The whole window is computed for each token.
        """
        rows = [list(map(int, prompt)) for prompt in prompts]
        results = [[] for _ in prompts]
        for number in range(length):
            rows = self._windows(rows)
            tokens, count = self.padded(rows)
            logits = tf.gather(model(tokens, training=False), count - 1, axis=1, batch_dims=1)
            chosen = self._pick(logits, number).numpy().tolist()
            for row, result, token in zip(rows, results, chosen, strict=True):
                row.append(token)
                result.append(token)
        return results

    def beam(
        self, prompts: list, length: int, beams: int, end: int | None
    ) -> tuple[list[list[int]], np.ndarray]:
        """The most probable continuations by beam search, and their log-probabilities [b].

        Args:
            prompts: tokens of each row; prompt and continuation fit in the context.
            length: tokens to make.
            beams: hypotheses kept for each row.
            end: the token that ends a text; None: there is none.
        """
        tokens, count = self.padded([list(map(int, prompt)) for prompt in prompts])
        end = -1 if end is None else end
        history, score = self._search(tokens, count, length=length, beams=beams, end=end)
        history = history.numpy()
        score = score.numpy()
        best = [row[i].tolist() for row, i in zip(history, score.argmax(-1), strict=True)]
        return best, score.max(-1)


def hypotheses(prefill, step, tokens, count, *, length: int, beams: int, end: int):
    """Continuations by beam search, int32 [b, k, length], and their log-probabilities [b, k].

    Args:
        prefill, step: the programs of `Model.cached`.
        tokens: prompts, int32 [b, context]; prompt and continuation fit in the context.
        count: how many tokens of each count, int32 [b].
        length, beams, end: as of `beam.search`.
    """
    logits, *cache = prefill([tokens, count])
    names = [f"cache_{i}" for i in range(len(cache))]

    def go_on(token, place, kept):
        logits, *cache = step([token, place, *(kept[name] for name in names)])
        return logits, dict(zip(names, cache, strict=True))

    carried = dict(zip(names, cache, strict=True))
    options = {"length": length, "beams": beams, "end": end}
    return beam.search(go_on, carried, {}, scores=logits, place=count, **options)


def continuation(prefill, step, tokens, count, *, length, pick: Callable, end: int):
    """The tokens that follow, int32 [b, length], as one loop with a free number of rows.

    The same tokens as `Generator.generate` gives; behind the end of all texts there are zeros.

    Args:
        prefill, step: the programs of `Model.cached`.
        tokens: prompts, int32 [b, context].
        count: how many tokens of each count, int32 [b], at least one.
        length: tokens to make.
        pick: from logits [b, v] and the number of the token to its choice, int32 [b].
        end: the token that ends a text; -1: none.
    """
    context = prefill.inputs[0].shape[1]
    rows = tf.shape(tokens)[0]
    place = tf.range(context + 1)[None]

    def refill(text, count):
        drop = num_dropped(count, context)
        text = tf.gather(text, tf.minimum(place + drop[:, None], context), axis=1, batch_dims=1)
        logits, *cache = prefill([text[:, :context], count - drop])
        return text, count - drop, logits, *cache

    def go_on(text, count, cache):
        token = tf.gather(text, count - 1, axis=1, batch_dims=1)
        logits, *cache = step([token, count - 1, *cache])
        return text, count, logits, *cache

    def body(i, text, count, chosen, done, *cache):
        full = tf.reduce_any(count > context)
        text, count, logits, *cache = tf.cond(
            (i == 0) | full, lambda: refill(text, count), lambda: go_on(text, count, cache)
        )
        token = pick(logits, i)
        text = tf.where(place == count[:, None], token[:, None], text)
        chosen = tf.where(tf.range(length)[None] == i, token[:, None], chosen)
        return i + 1, text, count + 1, chosen, done | (token == end), *cache

    def going(i, text, count, chosen, done, *cache):
        return (i < length) & ~tf.reduce_all(done)

    parts = prefill.outputs[1:]
    text = tf.concat([tokens, tf.zeros((rows, 1), tf.int32)], 1)
    chosen = tf.zeros((rows, length), tf.int32)
    done = tf.zeros((rows,), tf.bool)
    cache = [tf.zeros((rows, *tensor.shape[1:]), tensor.dtype) for tensor in parts]
    shapes = [(), (None, context + 1), (None,), (None, None), (None,)]
    shapes += [(None, *tensor.shape[1:]) for tensor in parts]
    return tf.while_loop(
        going,
        body,
        (tf.constant(0), text, count, chosen, done, *cache),
        shape_invariants=tuple(map(tf.TensorShape, shapes)),
        parallel_iterations=1,
    )[3]
