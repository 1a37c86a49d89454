"""Tokens that are hidden from models of texts: masks to be guessed, and words that are dropped.

Shapes: b texts, l places of a frame, m places that may be hidden.
"""

from __future__ import annotations

import math

from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.prep import random
from tfbig.prep.tokenizers import Tokenizer
from tfbig.prep.wordpiece import WordPiece

WORDS, ACTIONS, TOKENS, DROPPED = 1, 2, 3, 4  # streams of random numbers
SLACK = 8  # tokens of a word that goes on behind the share of hidden ones
MASKED, OTHER = 0.8, 0.1  # shares of hidden tokens that are masked, and that are others


def most(length: int, share: float) -> int:
    """How many places of a frame may be hidden at most."""
    return min(length, math.ceil(share * length) + SLACK)


def key_of(tokens, count, seed: int):
    """A key that is a text's own, uint32 [b, 2]: the same whatever stands beside or behind it."""
    place = tf.range(tf.shape(tokens)[1], dtype=tf.int64)[None]
    # The primes of SplitMix64's and xxHash's kind; sums of products are mixed by what uses the key
    word = (tf.cast(tokens, tf.int64) + 1) * (2654435761 * (place + 1) % 4294967291)
    real = place < tf.cast(count, tf.int64)[:, None]
    total = tf.reduce_sum(tf.where(real, word % 4294967291, 0), 1) % 4294967291
    own = tf.cast(total, tf.uint32)
    return tf.stack([own, tf.fill(tf.shape(own), np.uint32(seed))], 1)


def masked(tokenizer: WordPiece, frame: dict, key, share: float, *, whole_words: bool) -> dict:
    """A frame with a share of its tokens hidden.

    Args:
        tokenizer: the one that made the tokens.
        frame: tokens int32 [b, l], count int32 [b].
        key: uint32 [b, 2], what the choice depends on.
        share: of the tokens that are no special ones, at least one.
        whole_words: hides all pieces of a word together; the last word that is begun is hidden
            whole.

    Returns:
        tokens with hidden ones masked (80 %), others (10 %) or as they were (Devlin et al. 2019);
        count; places int32 [b, m] of the hidden ones, target int32 [b, m], and weight [b, m], 1
        where a place is a hidden one.
    """
    tokens, count = frame["tokens"], frame["count"]
    length = tokens.shape[1]
    size = most(length, share)
    place = tf.range(length)[None]
    special = tf.gather(tf.constant(tokenizer.is_special), tokens)
    unknown = tf.equal(tokens, tokenizer.unknown)
    free = (place < count[:, None]) & (~special | unknown)
    word = tf.broadcast_to(place, tf.shape(tokens))
    if whole_words:
        continues = tf.gather(tf.constant(tokenizer.continues), tokens)
        word = tf.cumsum(tf.cast(~continues, tf.int32), axis=1)
        word = tf.minimum(word, length - 1)
    score = tf.gather(random.uniform(key, WORDS, (length,)), word, batch_dims=1)
    order = tf.argsort(tf.where(free, score, 2.0), axis=1, stable=True)
    number = tf.reduce_sum(tf.cast(free, tf.float32), 1)
    wanted = tf.maximum(tf.cast(tf.round(share * number), tf.int32), 1)
    words = tf.gather(word, order, batch_dims=1)
    last = tf.gather(words, (wanted - 1)[:, None], batch_dims=1)
    hidden = (place < wanted[:, None]) | tf.equal(words, last)
    hidden &= tf.gather(free, order, batch_dims=1)
    places, weight = order[:, :size], hidden[:, :size]
    target = tf.gather(tokens, places, batch_dims=1)
    action = random.uniform(key, ACTIONS, (size,))
    drawn = random.uniform(key, TOKENS, (size,)) * float(tokenizer.size)
    other = tf.cast(drawn, tf.int32)
    new = tf.where(
        action < MASKED, tokenizer.mask, tf.where(action < MASKED + OTHER, other, target)
    )
    new = tf.where(weight, new, target)
    row = tf.broadcast_to(tf.range(tf.shape(tokens)[0])[:, None], tf.shape(places))
    changed = tf.tensor_scatter_nd_update(tokens, tf.stack([row, places], 2), new)
    ready = {"tokens": changed, "count": count, "places": places, "target": target}
    return {**ready, "weight": tf.cast(weight, tf.float32)}


def dropped(tokenizer: Tokenizer, tokens, key, share: float):
    """Tokens int32 [b, l] with a share of them unknown; special ones and padding stay.

    `key`: uint32 [b, 2], what the choice depends on.
    """
    unknown = getattr(tokenizer, "unknown", None)
    if unknown is None:
        raise UserError(
            "task.word_dropout: expected a tokenizer with an unknown token. Received:"
            f" {tokenizer.kind}. Set data.tokenizer=wordpiece, or task.word_dropout=0."
        )
    special = {tokenizer.begin, tokenizer.separator, getattr(tokenizer, "pad", 0)} - {None}
    stays = tf.reduce_any(tf.equal(tokens[..., None], tf.constant(sorted(special))), -1)
    is_kept = random.uniform(key, DROPPED, (tokens.shape[1],)) >= share
    return tf.where(stays | is_kept, tokens, unknown)
