"""Generation of tokens one after another, with a cache, in compiled programs of static shapes.

Shapes: b rows, v tokens of the vocabulary, k beams. A row's window is what its next token is
predicted from; one that has outgrown the context goes on from its last half, so that text can be
longer than the context.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tfbig.core.contracts import Model
from tfbig.core.lazy import np, tf
from tfbig.prep import random

CHUNK = 64  # most tokens per call into the compiled program
CALL_SECONDS = 0.1  # wanted length of one call, so that text appears as it is made


def choose(logits_bv, key_b2, *, temperature, top_k=None, top_p=None):
    """One token of each row's distribution, int32 [b].

    Options are numbers, or scalar tensors where a program takes them.

    Args:
        logits_bv: scores.
        key_b2: uint32, unique for each row and token; the choice is a function of it (Gumbel's
            trick, no state).
        temperature: scores are divided by it; 0 takes the most probable token.
        top_k: only the so many most probable tokens (Fan et al. 2018); None, or a tensor of 0: all.
        top_p: only the fewest tokens that together have this probability (Holtzman et al. 2020);
            None or 1: all.
    """
    likeliest = tf.argmax(logits_bv, -1, tf.int32)
    if not tf.is_tensor(temperature) and temperature == 0:
        return likeliest
    smallest = np.finfo(np.float32).tiny  # what is smaller may count as 0
    warmth = (
        tf.where(temperature > 0, tf.maximum(temperature, smallest), 1.0)
        if tf.is_tensor(temperature)
        else max(temperature, smallest)
    )
    logits_bv = tf.cast(logits_bv, tf.float32)
    # A tiny temperature leaves 0 and -inf
    logits_bv = (logits_bv - tf.reduce_max(logits_bv, -1, keepdims=True)) / warmth
    size = logits_bv.shape[-1]
    if tf.is_tensor(top_k):
        place = tf.where((top_k > 0) & (top_k < size), top_k, size) - 1
        logits_bv = tf.where(
            logits_bv
            < tf.gather(tf.sort(logits_bv, direction="DESCENDING"), place, axis=1)[:, None],
            -np.inf,
            logits_bv,
        )
    elif top_k is not None and top_k < size:
        logits_bv = tf.where(
            logits_bv < tf.math.top_k(logits_bv, top_k)[0][:, -1:], -np.inf, logits_bv
        )
    if tf.is_tensor(top_p) or (top_p is not None and top_p < 1):
        ordered = tf.sort(logits_bv, direction="DESCENDING")
        share = tf.nn.softmax(ordered)
        before = tf.cumsum(share, axis=-1) - share  # of all that are more probable
        least = tf.reduce_min(
            tf.where((before < top_p) | (top_p >= 1), ordered, np.inf), -1, keepdims=True
        )
        logits_bv = tf.where(logits_bv < least, -np.inf, logits_bv)
    uniform = tf.maximum(random.uniform(key_b2, 0, (size,)), 1e-9)
    chosen = tf.argmax(logits_bv - tf.math.log(-tf.math.log(uniform)), -1, tf.int32)
    return tf.where(temperature > 0, chosen, likeliest) if tf.is_tensor(temperature) else chosen


def keys(seed, rows, number):
    """The key of each row's token `number`, uint32 [b, 2]."""
    seed = tf.cast(seed, tf.uint32) if tf.is_tensor(seed) else tf.constant(seed % 2**32, tf.uint32)
    first = tf.cast(tf.range(rows), tf.uint32) + seed * tf.constant(0x9E3779B1, tf.uint32)
    return tf.stack([first, tf.fill(tf.shape(first), tf.cast(number, tf.uint32))], axis=1)


class Generator:
    """Generates by one way of choosing; its programs are compiled at their first use and kept.

    Args:
        config: the architecture.
        model: its built model, tokens [b, context] to logits.
        jit: whether XLA compiles.
        seed: of the choices.
        choice: options of `choose`.
    """

    def __init__(self, config: Model, model, *, jit: bool, seed: int = 0, **choice):
        self.context, self.seed, self.choice = model.input.shape[1], seed, choice
        self.prefill, self.step = config.cached(model)
        compiled = tf.function(jit_compile=jit or None, autograph=False)
        self._start, self._go_on, self._beams = (
            compiled(self._start),
            compiled(self._go_on),
            compiled(self._beams),
        )

    def _pick(self, logits, number):
        return choose(logits, keys(self.seed, logits.shape[0], number), **self.choice)

    def _start(self, tokens, count, number):
        logits, *cache = self.prefill([tokens, count])
        return self._pick(logits, number), cache

    def _go_on(self, token, position, cache, number, steps):
        made = tf.TensorArray(tf.int32, CHUNK, element_shape=token.shape)

        def body(i, token, made, *cache):
            logits, *cache = self.step([token, position + i, *cache])
            token = self._pick(logits, number + i)
            return i + 1, token, made.write(i, token), *cache

        _, token, made, *cache = tf.while_loop(
            lambda i, *_: i < steps,
            body,
            (tf.constant(0), token, made, *cache),
            parallel_iterations=1,
        )
        return made.stack(), token, cache

    def windows(self, rows: list[list[int]]):
        """The rows as padded tokens [b, context] and their lengths [b]."""
        tokens = np.zeros((len(rows), self.context), np.int32)
        for place, row in zip(tokens, rows, strict=True):
            place[: len(row)] = row
        return tf.constant(tokens), tf.constant([len(row) for row in rows], tf.int32)

    def generate(
        self, prompts: list, length: int, told: Callable = lambda tokens: True
    ) -> list[list[int]]:
        """The tokens that follow each prompt.

        Args:
            prompts: tokens of each row, at least one and at most `context`.
            length: tokens to make.
            told: gets new tokens int32 [n, b] as soon as there are some; false stops.
        """
        rows, results, chunk, token = (
            [list(map(int, prompt)) for prompt in prompts],
            [[] for _ in prompts],
            1,
            None,
        )
        while len(results[0]) < length:
            made = len(results[0])
            longest = max(map(len, rows))
            if token is None or longest > self.context:
                rows = [
                    row if len(row) <= self.context else row[-max(1, self.context // 2) :]
                    for row in rows
                ]
                token, cache = self._start(*self.windows(rows), tf.constant(made))
                fresh = token.numpy()[None]
            else:
                steps = min(chunk, length - made, self.context - longest + 1)
                position, started = (
                    tf.constant([len(row) - 1 for row in rows], tf.int32),
                    time.monotonic(),
                )
                fresh, token, cache = self._go_on(
                    token, position, cache, tf.constant(made), tf.constant(steps)
                )
                fresh = fresh.numpy()[:steps]
                seconds = (time.monotonic() - started) / steps
                chunk = max(1, min(CHUNK, 2 * chunk, int(CALL_SECONDS / max(seconds, 1e-6))))
            for row, result, new in zip(rows, results, fresh.T, strict=True):
                row.extend(new.tolist())
                result.extend(new.tolist())
            if not told(fresh):
                break
        return results

    def generate_uncached(self, model, prompts: list, length: int) -> list[list[int]]:
        """The same tokens without a cache.

        The whole window is computed for each token. For comparison.
        """
        rows, results = [list(map(int, prompt)) for prompt in prompts], [[] for _ in prompts]
        for number in range(length):
            rows = [
                row if len(row) <= self.context else row[-max(1, self.context // 2) :]
                for row in rows
            ]
            tokens, count = self.windows(rows)
            logits = tf.gather(model(tokens, training=False), count - 1, axis=1, batch_dims=1)
            for row, result, token in zip(
                rows, results, self._pick(logits, number).numpy().tolist(), strict=True
            ):
                row.append(token)
                result.append(token)
        return results

    def beam(
        self, prompts: list, length: int, beams: int, end: int | None
    ) -> tuple[list[list[int]], np.ndarray]:
        """The most probable continuations that a beam search finds, and their log-probabilities
        [b].

        Args:
            prompts: tokens of each row; prompt and continuation fit in the context.
            length: tokens to make.
            beams: hypotheses kept for each row.
            end: a token behind which nothing more is said.
        """
        tokens, count = self.windows([list(map(int, prompt)) for prompt in prompts])
        history, score = self._beams(tokens, count, length, beams, -1 if end is None else end)
        best = tf.argmax(score, -1).numpy()
        return [
            row[i].tolist() for row, i in zip(history.numpy(), best, strict=True)
        ], score.numpy().max(-1)

    def _beams(self, tokens, count, length: int, beams: int, end: int):
        logits, *cache = self.prefill([tokens, count])
        rows, size = logits.shape
        logits, cache = tf.repeat(logits, beams, 0), [tf.repeat(part, beams, 0) for part in cache]
        position = tf.repeat(count, beams)
        # All beams start alike, so only one counts
        score = tf.tile(tf.constant([[0.0] + [-np.inf] * (beams - 1)]), (rows, 1))
        history, first = tf.zeros((rows, beams, length), tf.int32), tf.range(rows)[:, None] * beams
        silent = tf.where(tf.range(size) == max(end, 0), 0.0, -np.inf)

        def body(i, logits, score, history, done, *cache):
            gain = tf.reshape(tf.nn.log_softmax(logits), (rows, beams, size))
            gain = tf.where(done[..., None], silent, gain)
            score, index = tf.math.top_k(
                tf.reshape(score[..., None] + gain, (rows, beams * size)), beams
            )
            parent, token = index // size, index % size
            history = tf.gather(history, parent, axis=1, batch_dims=1)
            history = tf.where(tf.range(length) == i, token[..., None], history)
            done = tf.gather(done, parent, axis=1, batch_dims=1) | (token == end)
            flat = tf.reshape(first + parent, (-1,))
            logits, *cache = self.step(
                [tf.reshape(token, (-1,)), position + i, *(tf.gather(part, flat) for part in cache)]
            )
            return i + 1, logits, score, history, done, *cache

        state = (tf.constant(0), logits, score, history, tf.zeros((rows, beams), tf.bool), *cache)
        _, _, score, history, *_ = tf.while_loop(
            lambda i, *_: i < length, body, state, parallel_iterations=1
        )
        return history, score
