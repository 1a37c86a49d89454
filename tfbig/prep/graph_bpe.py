"""Byte-level byte-pair encoding as TensorFlow operations, so that a served model takes text.

It gives the tokens that the `tokenizers` library gives for GPT-2's way of cutting text into pieces,
and needs neither lookahead, which RE2 lacks, nor tables.

Shapes: b texts, p pieces of all texts, n bytes of the longest piece.
"""

from __future__ import annotations

import json

from tfbig.core.lazy import np, tf
from tfbig.prep.bpe import BYTES, parts
from tfbig.prep.tokenizers import Tokenizer

LONGEST = 2048  # bytes of a piece, such as a word; longer ones would take long
CUT = "\x00"  # stands between pieces; a text that holds it is refused
# What Unicode calls white space: RE2's \s is that of ASCII
SPACE = r"\t\n\v\f\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
PIECE = (
    r"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+"
    rf"| ?[^{SPACE}\p{{L}}\p{{N}}\x00]+|[{SPACE}]+)"
)


def encoder(tokenizer: Tokenizer):
    """A function from texts, string [b], to their tokens, ragged int32 [b, None].

    None where the tokenizer is another one than byte-level BPE as GPT-2 has it.
    """
    if tokenizer.kind != "bpe":
        return None
    definition = json.loads(tokenizer.to_json()["definition"])
    if not _is_plain(definition):
        return None
    vocabulary = definition["model"]["vocab"]
    if not BYTES.keys() <= vocabulary.keys():
        return None
    first = np.array([vocabulary[name] for name, _ in sorted(BYTES.items(), key=_byte)], np.int32)
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in _merges(definition)]
    size = max(vocabulary.values()) + 1
    keys = np.array([vocabulary[a] * size + vocabulary[b] for a, b in pairs], np.int64)
    merged = np.array([vocabulary[a + b] for a, b in pairs], np.int32)
    order = np.argsort(keys)
    merges = _Merges(size, keys[order], order.astype(np.int32), merged[order])

    def encode(texts):
        pieces = _pieces(texts)
        tokens = merges.apply(_bytes(pieces.values, first))
        joined = pieces.with_values(tokens).merge_dims(1, 2)
        return tf.cast(joined, tf.int32)

    return encode


def _byte(named) -> int:
    return named[1]


def _merges(definition: dict) -> list:
    return definition["model"]["merges"]


def _is_plain(definition: dict) -> bool:
    """Whether a definition is GPT-2's pipeline, around any vocabulary."""
    steps = parts(definition.get("pre_tokenizer"))
    is_cut = len(steps) == 1 and steps[0]["type"] == "ByteLevel"
    if not is_cut or steps[0].get("add_prefix_space") or steps[0].get("use_regex") is False:
        return False
    model = definition["model"]
    odd = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    has_odd = any(model.get(name) for name in (*odd, "ignore_merges"))
    return bool(_merges(definition)) and not (
        has_odd or definition.get("normalizer") or definition.get("added_tokens")
    )


def _pieces(texts):
    """The pieces of each text that merges stay within, ragged string [b, None]."""
    plain = tf.reduce_all(tf.strings.regex_full_match(texts, r"[^\x00]*"))
    message = "text: expected text without the character U+0000"
    with tf.control_dependencies([tf.debugging.Assert(plain, [message])]):
        texts = tf.identity(texts)
    # Of several white spaces before a word only the last one may belong to it
    cut = tf.strings.regex_replace(
        texts, rf"([{SPACE}]+)([{SPACE}][^{SPACE}\x00])", rf"\1{CUT}\2", replace_global=True
    )
    cut = tf.strings.regex_replace(cut, PIECE, rf"\1{CUT}", replace_global=True)
    pieces = tf.strings.split(cut, CUT)
    return tf.ragged.boolean_mask(pieces, pieces != "")


def _bytes(pieces, first):
    """The tokens of each piece's bytes, ragged int32 [p, None]."""
    split = tf.strings.bytes_split(pieces)
    values = tf.io.decode_raw(tf.reshape(split.values, (-1, 1)), tf.uint8)
    return split.with_values(tf.gather(first, tf.cast(tf.reshape(values, (-1,)), tf.int32)))


class _Merges:
    """Pairs of tokens that become one, in the order in which they are merged.

    Attributes:
        size: numbers of tokens are below it.
        keys: first token * size + second, sorted, int64 [m].
        rank: which merge it is, int32 [m].
        merged: the token that it becomes, int32 [m].
    """

    def __init__(self, size: int, keys, rank, merged):
        self.size, self.keys, self.rank, self.merged = size, keys, rank, merged
        self.never = np.int32(len(keys))

    def apply(self, tokens):
        """Merges as long as there is something to merge; ragged int32 [p, None] to the same."""
        longest = tf.reduce_max(tf.concat([tokens.row_lengths(), [0]], 0))
        message = f"text: expected words of at most {LONGEST} bytes"
        with tf.control_dependencies([tf.debugging.Assert(longest <= LONGEST, [message])]):
            dense = tokens.to_tensor(-1)  # behind a piece's end
        _, dense = tf.while_loop(
            lambda going, dense: going,
            lambda going, dense: self._merge_once(dense),
            (tf.constant(True), dense),
            shape_invariants=(tf.TensorShape(()), tf.TensorShape((None, None))),
            parallel_iterations=1,
        )
        return tf.RaggedTensor.from_tensor(dense, tf.reduce_sum(tf.cast(dense >= 0, tf.int64), 1))

    def _merge_once(self, dense):
        """The first of the pairs of lowest rank in each piece becomes one token."""
        width = tf.shape(dense)[1]
        following = tf.pad(dense[:, 1:], [(0, 0), (0, 1)], constant_values=-1)
        following = following[:, :width]
        key = tf.cast(dense, tf.int64) * self.size + tf.cast(following, tf.int64)
        place = tf.searchsorted(tf.constant(self.keys), tf.reshape(key, (-1,)), out_type=tf.int32)
        place = tf.reshape(tf.minimum(place, self.never - 1), tf.shape(key))
        is_pair = (dense >= 0) & (following >= 0) & (tf.gather(self.keys, place) == key)
        rank = tf.where(is_pair, tf.gather(self.rank, place), self.never)
        # A column without a pair lets texts without a piece be of any width
        rank = tf.pad(rank, [(0, 0), (0, 1)], constant_values=self.never)
        at = tf.argmin(rank, 1, tf.int32)[:, None]
        found = tf.reduce_min(rank, 1, keepdims=True) < self.never
        column = tf.range(width)[None]
        shifted = tf.where(found & (column > at), following, dense)
        become = tf.gather(self.merged, place)
        return tf.reduce_any(found), tf.where(found & (column == at), become, shifted)
