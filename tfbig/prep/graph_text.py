"""Tokenizers as TensorFlow operations, so that a served model takes and gives text.

They do what `prep.tokenizers` does, inside a graph.

Shapes: b texts, n tokens of the longest one.
"""

from __future__ import annotations

import functools

from tfbig.core.lazy import np, tf
from tfbig.prep import graph_wordpiece
from tfbig.prep.tokenizers import UNKNOWN, Tokenizer


def encoder(tokenizer: Tokenizer):
    """A function from texts, string [b], to their tokens, ragged int32 [b, None].

    None where core operations cannot do it.
    """
    if tokenizer.kind == "bytes":
        return _encode_bytes
    if tokenizer.kind == "characters":
        return functools.partial(_encode_characters, tokenizer)
    return graph_wordpiece.encoder(tokenizer) if tokenizer.kind == "wordpiece" else None


def decoder(tokenizer: Tokenizer):
    """A function from tokens to their texts, string [b], or None.

    It takes tokens int32 [b, n], how many of them count [b], none a separator, and whether no text
    stands before them, bool [b].
    """
    words = pieces(tokenizer)
    if words is None:
        return None
    spaced = bool(tokenizer.prefix_lengths().any())

    def decode(tokens, count, begins):
        spoken = tf.where(
            tf.range(tf.shape(tokens)[1])[None] < count[:, None],
            tf.gather(tf.constant(words), tokens),
            "",
        )
        joined = tf.strings.reduce_join(spoken, axis=1)
        if spaced:
            text = tf.strings.regex_replace(joined, r"\A ", "")  # without the tokenizer's own space
            joined = tf.where(begins, text, joined)
        # Bytes that are no whole character become U+FFFD, each as Python has it.
        return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8", errors="replace")

    return decode


def pieces(tokenizer: Tokenizer) -> list[bytes] | None:
    """The bytes of each token; None for tokenizers whose tokens depend on each other."""
    if tokenizer.kind == "bytes":
        return [bytes([i]) for i in range(256)] + [b""]
    if tokenizer.kind == "characters":
        filled = [
            *tokenizer.alphabet,
            *[UNKNOWN] * (tokenizer.unknown is not None),
            *[""] * (tokenizer.separator is not None),
        ]
        return [character.encode() for character in filled]
    return tokenizer.token_bytes() if tokenizer.kind == "bpe" else None


def byte_counts(tokenizer: Tokenizer, before, tokens):
    """The UTF-8 bytes of tokens behind those `before` them, int32, as `Tokenizer.byte_counts`."""
    size = tf.gather(tf.constant(tokenizer.byte_lengths()), tokens)
    prefix = tokenizer.prefix_lengths()
    if not prefix.any() or tokenizer.opener is None:
        return size
    opened = tf.equal(before, tokenizer.opener)
    return size - tf.where(opened, tf.gather(tf.constant(prefix), tokens), 0)


def _encode_bytes(texts):
    tokens = tf.strings.bytes_split(texts)
    values = tf.cast(
        tf.reshape(tf.io.decode_raw(tf.reshape(tokens.values, (-1, 1)), tf.uint8), (-1,)), tf.int32
    )
    return tokens.with_values(values)


def _encode_characters(tokenizer, texts):
    """Unknown characters get the unknown token, or are refused where there is none.

    Bytes that are no UTF-8 count as U+FFFD.
    """
    codes = tf.strings.unicode_decode(
        texts, "UTF-8", errors="replace", replacement_char=ord(UNKNOWN)
    )
    known = np.frombuffer(tokenizer.alphabet.encode("utf-32-le"), np.uint32).astype(np.int32)
    order = np.argsort(known).astype(np.int32)
    if not len(known):  # an empty alphabet: nothing is known
        known = np.array([-1], np.int32)
        order = np.array([0], np.int32)
    place = tf.minimum(
        tf.searchsorted(tf.constant(np.sort(known)), codes.values, out_type=tf.int32),
        len(known) - 1,
    )
    right = tf.equal(tf.gather(np.sort(known), place), codes.values)
    tokens = tf.gather(order, place)
    if tokenizer.unknown is not None:
        return codes.with_values(tf.where(right, tokens, tokenizer.unknown))
    rows = tf.cast(codes.value_rowids(), tf.int32)
    wrong = tf.reshape(tf.where(~right), (-1,))[:1]  # the first

    def named(values):
        return tf.strings.reduce_join(tf.strings.as_string(tf.gather(values, wrong)))

    character = tf.strings.unicode_encode(tf.gather(codes.values, wrong)[None], "UTF-8")[0]
    message = tf.strings.join(
        [
            "text ",
            named(rows + 1),
            ": the character ",
            character,
            " (code point ",
            named(codes.values),
            (
                f") is not in the alphabet of {len(tokenizer.alphabet)} characters that this model"
                " knows"
            ),
        ]
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(right), [message])]):
        return codes.with_values(tf.identity(tokens))
