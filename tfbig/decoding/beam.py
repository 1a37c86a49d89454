"""Beam search in a graph: the most probable text, without any choice.

Shapes: b rows, v tokens of the vocabulary, k beams.
"""

from __future__ import annotations

from tfbig.core.lazy import np, tf


def search(prefill, step, tokens, count, *, length: int, beams: int, end: int):
    """Continuations int32 [b, k, length] and their log-probabilities float32 [b, k].

    Args:
        prefill, step: the programs of `Model.cached`.
        tokens: prompts, int32 [b, context]; prompt and continuation fit in the context.
        count: how many tokens of each count, int32 [b].
        length: tokens to make.
        beams: hypotheses kept for each row.
        end: the token that ends a text; -1: none.
    """
    logits, *cache = prefill([tokens, count])
    rows, size = logits.shape
    logits = tf.repeat(logits, beams, 0)
    cache = [tf.repeat(tensor, beams, 0) for tensor in cache]
    position = tf.repeat(count, beams)
    # All beams start alike, so only one counts
    score = tf.tile(tf.constant([[0.0] + [-np.inf] * (beams - 1)]), (rows, 1))
    history = tf.zeros((rows, beams, length), tf.int32)
    first = tf.range(rows)[:, None] * beams
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
        logits, *cache = step(
            [tf.reshape(token, (-1,)), position + i, *(tf.gather(tensor, flat) for tensor in cache)]
        )
        return i + 1, logits, score, history, done, *cache

    state = (tf.constant(0), logits, score, history, tf.zeros((rows, beams), tf.bool), *cache)
    _, _, score, history, *_ = tf.while_loop(
        lambda i, *_: i < length, body, state, parallel_iterations=1
    )
    return history, score
