"""The choice of a next token, written once for tasks, exported graphs and the server.

Tensors are computed by Keras, NumPy arrays by NumPy (a server of ONNX files has no TensorFlow), and
the same seed chooses the same tokens in both.

Shapes: b rows, v tokens of the vocabulary, k most probable ones.
"""

from __future__ import annotations

from tfbig.core.lazy import np, ops_of, tf
from tfbig.prep import random

SMALLEST = 1.1754944e-38  # the least normal float32: what is smaller may count as 0


def choose(logits_bv, seed, number, *, temperature, top_k=None, top_p=None):
    """One token of each row's distribution, int32 [b].

    The choice is a function of seed, row and `number` alone (Gumbel's trick, no state). Options are
    numbers, or scalar tensors where a program takes them.

    Args:
        logits_bv: scores, a tensor or a NumPy array.
        seed: of all choices; it counts modulo 2**32.
        number: which of the text's tokens it is.
        temperature: scores are divided by it; 0 takes the most probable token.
        top_k: only so many of the most probable tokens (Fan et al. 2018); None or 0: all.
        top_p: only the fewest tokens that together have this probability (Holtzman et al. 2020);
            None or 1: all.
    """
    ops = ops_of(logits_bv)
    likeliest_b = _argmax(logits_bv)
    known = isinstance(temperature, (int, float))
    if known and temperature == 0:
        return likeliest_b
    warmth = max(temperature, SMALLEST) if known else ops.maximum(temperature, SMALLEST)
    scores_bv = ops.array(logits_bv, "float32")
    with np.errstate(over="ignore"):  # a tiny temperature leaves 0 and -inf
        scores_bv = (scores_bv - ops.max(scores_bv, axis=-1, keepdims=True)) / warmth
    scores_bv = _only_top_p(_only_top_k(scores_bv, top_k), top_p)
    uniform_bv = random.uniform(_keys(logits_bv, seed, number), 0, (logits_bv.shape[-1],))
    noise_bv = -ops.log(-ops.log(ops.maximum(uniform_bv, 1e-9)))
    chosen_b = _argmax(scores_bv + noise_bv)
    return chosen_b if known else ops.where(temperature > 0, chosen_b, likeliest_b)


def _only_top_k(scores_bv, top_k):
    """-inf for all but the k greatest, and what equals the least of them."""
    ops = ops_of(scores_bv)
    size = scores_bv.shape[-1]
    if top_k is None or (isinstance(top_k, int) and not 0 < top_k < size):
        return scores_bv
    if isinstance(top_k, int):
        least_b1 = _descending(scores_bv, top_k)[:, -1:]
    else:
        ordered_bv = _descending(scores_bv, size)
        kept_v = (ops.arange(size, dtype="int32") < top_k) | (top_k < 1)
        least_b1 = ops.min(ops.where(kept_v, ordered_bv, np.inf), axis=-1, keepdims=True)
    return ops.where(scores_bv < least_b1, -np.inf, scores_bv)


def _only_top_p(scores_bv, top_p):
    """-inf for all but the greatest that together have this probability; the greatest is 0."""
    ops = ops_of(scores_bv)
    if top_p is None or (isinstance(top_p, (int, float)) and top_p >= 1):
        return scores_bv
    ordered_bv = _descending(scores_bv, scores_bv.shape[-1])
    weight_bv = ops.exp(ordered_bv)
    share_bv = weight_bv / ops.sum(weight_bv, axis=-1, keepdims=True)
    before_bv = ops.cumsum(share_bv, axis=-1) - share_bv  # of all that are more probable
    known = isinstance(top_p, (int, float))
    share = max(top_p, SMALLEST) if known else ops.maximum(top_p, SMALLEST)
    kept_bv = (before_bv < share) | (share >= 1)
    least_b1 = ops.min(ops.where(kept_bv, ordered_bv, np.inf), axis=-1, keepdims=True)
    return ops.where(scores_bv < least_b1, -np.inf, scores_bv)


def _keys(logits_bv, seed, number):
    """The key of each row's token `number`, uint32 [b, 2]."""
    ops = ops_of(logits_bv)
    seed = seed % 2**32 if isinstance(seed, int) else seed
    rows_b = ops.array(ops.arange(ops.shape(logits_bv)[0], dtype="int32"), "uint32")
    first_b = rows_b + ops.array(seed, "uint32") * np.uint32(0x9E3779B1)
    return ops.stack([first_b, ops.full_like(first_b, ops.array(number, "uint32"))], axis=1)


# What both libraries have by other names, or Keras in operations that other formats lack


def _argmax(values_bv):
    if isinstance(values_bv, np.ndarray):
        return values_bv.argmax(-1).astype(np.int32)
    return tf.argmax(values_bv, -1, tf.int32)


def _descending(values_bv, most: int):
    """The greatest values of each row in descending order, [b, most]."""
    if isinstance(values_bv, np.ndarray):
        rest = values_bv.shape[-1] - most
        return np.sort(np.partition(values_bv, rest, axis=-1)[:, rest:], axis=-1)[:, ::-1]
    return tf.math.top_k(values_bv, most)[0]
