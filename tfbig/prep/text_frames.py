"""Texts' tokens between their special ones, as models of texts read them, in a graph.

    [CLS] text [SEP]            or, of pairs,            [CLS] text [SEP] second [SEP]

Shapes: b texts, t tokens of the longest one, l tokens of the longest frame.
"""

from __future__ import annotations

from tfbig.core.lazy import np, tf
from tfbig.prep import graph_text
from tfbig.prep.tokenizers import Tokenizer


def added(tokenizer: Tokenizer, num_texts: int) -> int:
    """How many special tokens stand around so many texts."""
    ends = num_texts if tokenizer.separator is not None else 0
    return int(tokenizer.begin is not None) + ends


def framed(tokenizer: Tokenizer, tokens: list, counts: list) -> dict:
    """One or two texts behind each other.

    Args:
        tokenizer: begin stands before all, separator behind each, if it has them.
        tokens: of each text, int32 [b, t], padded.
        counts: how many of them are real, int32 [b].

    Returns:
        tokens, segments (the number of the text) int32 [b, l], count int32 [b].
    """
    pad = getattr(tokenizer, "pad", 0)
    begin = int(tokenizer.begin is not None)
    end = int(tokenizer.separator is not None)
    length = added(tokenizer, len(tokens)) + sum(_length(values) for values in tokens)
    place = tf.range(length)[None]
    first = begin
    framed_bl = pad
    segment_bl = 0
    for number, (values, count) in enumerate(zip(tokens, counts, strict=True)):
        if number == 0:
            shifted = tf.pad(values, [(0, 0), (begin, length - begin - _length(values))])
        else:
            at = tf.clip_by_value(place - first, 0, _length(values) - 1)
            shifted = tf.gather(values, at, batch_dims=1)
        last = first + count[:, None]
        framed_bl = tf.where((place >= first) & (place < last), shifted, framed_bl)
        if end:
            framed_bl = tf.where(tf.equal(place, last), tokenizer.separator, framed_bl)
        segment_bl = tf.where((place >= first) & (place < last + end), number, segment_bl)
        first = last + end
    if begin:
        framed_bl = tf.where(tf.equal(place, 0), tokenizer.begin, framed_bl)
    return {"tokens": framed_bl, "segments": segment_bl, "count": first[:, 0]}


def _length(values):
    """The length of a text's axis, a number wherever it is known."""
    return tf.shape(values)[1] if values.shape[1] is None else values.shape[1]


def cut(tokenizer: Tokenizer, texts, most: int):
    """Texts, string [b], as tokens int32 [b, most] and how many are real, int32 [b].

    Of longer texts the first `most` tokens are kept.
    """
    tokens = graph_text.encoder(tokenizer)(texts)[:, :most]
    return tokens.to_tensor(shape=(None, most)), tf.cast(tokens.row_lengths(), tf.int32)


def spelled(tokenizer: Tokenizer, values) -> np.ndarray:
    """Texts as UTF-8 bytes [n] that `cut` makes the given tokens of.

    Args:
        tokenizer: the one that made the tokens.
        values: token arrays, a list; or UTF-8 bytes [n], which stay as they are.
    """
    if isinstance(values, np.ndarray) and values.dtype == object:
        return values
    spell = getattr(tokenizer, "respelled", tokenizer.decode)
    texts = np.empty(len(values), object)
    texts[:] = [spell(np.asarray(tokens).tolist()).encode() for tokens in values]
    return texts


def padded(values, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Token arrays of any length as int32 [n, most], cut, and how many are real, int32 [n]."""
    counts = np.array([min(len(tokens), most) for tokens in values], np.int32)
    tokens_nt = np.zeros((len(values), most), np.int32)
    for row, tokens, count in zip(tokens_nt, values, counts, strict=True):
        row[:count] = tokens[:count]
    return tokens_nt, counts
