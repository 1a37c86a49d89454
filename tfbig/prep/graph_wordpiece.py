"""WordPiece as core TensorFlow operations, token for token as `prep.wordpiece` cuts text.

So a served model takes plain sentences, and needs no library of text operations where it runs. What
becomes of each character is asked of the `tokenizers` library once, and stands in the graph as
tables.

Shapes: b texts, n characters of all texts, w words of all texts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tfbig.core.lazy import np, tf
from tfbig.prep.wordpiece import INSIDE, LONGEST, SPECIAL, WordPiece

SPACE = ord(" ")
SHIFT = 1 << 21  # above every code point
# The code points that are looked at one by one: behind them stand none that are changed, but for
# those of private use, which are dropped.
LOOKED_AT = (range(0xD800), range(0xE000, 0x32400), range(0xE0000, 0xE0200))
PRIVATE = ((0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))
BETWEEN = "|"  # stands between characters when many are cleaned at once; stays as it is
FIRST, INNER = 0, 1  # nodes of the trie where words and their continuations begin
# What becomes of a run of code points: itself, nothing, itself between spaces, as a row of a table
SAME, GONE, APART, TABLE = range(4)


def encoder(tokenizer: WordPiece):
    """A function from texts, string [b], to their tokens, ragged int32 [b, None]."""
    characters = _characters(tokenizer.lowercase, tokenizer.strip_accents, tokenizer.split_chinese)
    return functools.partial(_encode, characters, _Trie(tokenizer), tokenizer.unknown)


@dataclass(frozen=True)
class _Characters:
    """What cleaning makes of each code point, and which ones are words by themselves.

    Attributes:
        starts: where runs of code points begin that are treated alike, int32 [runs].
        kinds: of each run, one of SAME, GONE, APART, TABLE.
        rows: the row of `table` where a run of TABLE begins, int32 [runs].
        table: code points that stand for one, -1 behind them, int32 [rows, 4].
        lone_starts, lone_ends: runs of code points that are words by themselves, int32 [lone].
    """

    starts: np.ndarray
    kinds: np.ndarray
    rows: np.ndarray
    table: np.ndarray
    lone_starts: np.ndarray
    lone_ends: np.ndarray


@functools.cache
def _characters(lowercase: bool, strip_accents: bool, split_chinese: bool) -> _Characters:
    """The tables of the library's rules."""
    normalizer, cutter = WordPiece(
        list(SPECIAL),
        lowercase=lowercase,
        strip_accents=strip_accents,
        split_chinese=split_chinese,
    ).rules()
    codes = [code for codes in LOOKED_AT for code in codes if code != ord(BETWEEN)]
    cleaned = normalizer.normalize_str(BETWEEN.join(map(chr, codes))).split(BETWEEN)
    kinds = {}
    made = {}
    for code, text in zip(codes, cleaned, strict=True):
        if text == chr(code):
            continue
        kinds[code] = TABLE
        if not text:
            kinds[code] = GONE
        elif text == f" {chr(code)} ":
            kinds[code] = APART
        else:
            made[code] = [ord(character) for character in text]
    starts, run_kinds, rows, table = [0], [SAME], [0], []
    for code in range(max(codes) + 2):
        kind = kinds.get(code, SAME)
        if kind != run_kinds[-1]:
            starts.append(code)
            run_kinds.append(kind)
            rows.append(len(table))
        if kind == TABLE:
            table.append(made[code] + [-1] * (4 - len(made[code])))
    for first, last in PRIVATE:
        starts += [first, last + 1]
        run_kinds += [GONE, SAME]
        rows += [0, 0]
    lone = _lone(cutter, [ord(BETWEEN), *(code for code in codes if code not in kinds)])
    arrays = [np.array(values, np.int32) for values in (starts, run_kinds, rows, table, *lone)]
    return _Characters(*arrays)


def _lone(cutter, codes: list[int]) -> tuple[list[int], list[int]]:
    """First and last code points of runs that are words by themselves: punctuation."""
    pieces = cutter.pre_tokenize_str(" ".join(f"a{chr(code)}" for code in codes))
    # Each of three characters' width with its space: a word of one behind its "a" was cut off
    alone = {codes[start // 3] for _, (start, end) in pieces if start % 3 == 1}
    starts = sorted(code for code in alone if code - 1 not in alone)
    ends = sorted(code for code in alone if code + 1 not in alone)
    return starts, ends


class _Trie:
    """The vocabulary's words, letter by letter.

    Attributes:
        edges: node * SHIFT + code point of each edge, sorted, int64 [edges].
        targets: the node that each edge leads to, int32 [edges].
        tokens: the token that ends at each node, -1: none, int32 [nodes].
        longest: letters of the longest word.
    """

    def __init__(self, tokenizer: WordPiece):
        edges: dict[int, int] = {}
        tokens = [-1, -1]
        self.longest = 1
        for token, word in enumerate(tokenizer.words):
            if not word or word == INSIDE:
                continue
            node = INNER if word.startswith(INSIDE) else FIRST
            letters = word.removeprefix(INSIDE)
            self.longest = max(self.longest, len(letters))
            self._add(edges, tokens, node, letters, token)
        keys = np.array(list(edges), np.int64)
        order = np.argsort(keys)
        self.edges = keys[order]
        self.targets = np.array(list(edges.values()), np.int32)[order]
        self.tokens = np.array(tokens, np.int32)

    @staticmethod
    def _add(edges, tokens, node: int, letters: str, token: int) -> None:
        for letter in letters:
            key = node * SHIFT + ord(letter)
            if key not in edges:
                edges[key] = len(tokens)
                tokens.append(-1)
            node = edges[key]
        tokens[node] = token


def _encode(characters: _Characters, trie: _Trie, unknown: int, texts):
    codes, rows, starts = _words(characters, texts)
    number = tf.shape(codes)[0]
    first = tf.cast(tf.reshape(tf.where(starts), (-1,)), tf.int32)
    last = tf.concat([first[1:], [number]], 0)[: tf.shape(first)[0]]  # behind each word's end
    word = tf.cumsum(tf.cast(starts, tf.int32)) - 1
    length, token = _longest_pieces(trie, codes, starts, tf.gather(last, word))
    is_long = last - first > LONGEST
    begins, is_bad = _followed(tf.where(is_long, last, first), last, length, number)
    is_bad |= is_long
    is_bad_n = tf.gather(is_bad, word)
    kept = tf.where(is_bad_n, starts, begins)
    values = tf.boolean_mask(tf.where(is_bad_n, unknown, token), kept)
    return tf.RaggedTensor.from_value_rowids(
        values,
        tf.cast(tf.boolean_mask(rows, kept), tf.int64),
        nrows=tf.shape(texts, tf.int64)[0],
        validate=False,
    )


def _words(characters: _Characters, texts):
    """Cleaned code points without spaces int32 [n], their texts, and whether each begins a word."""
    decoded = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
    code = decoded.values
    run = tf.searchsorted(characters.starts, code, side="right") - 1
    kind = tf.gather(characters.kinds, run)
    place = tf.gather(characters.rows, run) + code - tf.gather(characters.starts, run)
    is_table = tf.equal(kind, TABLE)
    listed = tf.gather(characters.table, tf.where(is_table, place, 0))
    none = tf.fill(tf.shape(code), -1)
    space = tf.fill(tf.shape(code), SPACE)
    apart = tf.stack([space, code, space, none], 1)
    same = tf.stack([tf.where(tf.equal(kind, GONE), none, code), none, none, none], 1)
    made = tf.where(tf.equal(kind, APART)[:, None], apart, same)
    made = tf.where(is_table[:, None], listed, made)
    real = made >= 0
    codes = tf.boolean_mask(made, real)
    rows = tf.boolean_mask(
        tf.tile(tf.cast(decoded.value_rowids(), tf.int32)[:, None], (1, 4)), real
    )
    is_space = tf.equal(codes, SPACE)
    run = tf.searchsorted(characters.lone_starts, codes, side="right") - 1
    is_lone = (run >= 0) & (codes <= tf.gather(characters.lone_ends, tf.maximum(run, 0)))
    ends = is_space | is_lone
    other_text = tf.concat([[True], tf.not_equal(rows[1:], rows[:-1])], 0)[: tf.shape(rows)[0]]
    behind = tf.concat([[True], ends[:-1]], 0)[: tf.shape(rows)[0]]
    starts = is_lone | behind | other_text
    keep = ~is_space
    return tf.boolean_mask(codes, keep), tf.boolean_mask(rows, keep), tf.boolean_mask(starts, keep)


def _longest_pieces(trie: _Trie, codes, starts, last):
    """Of each place, letters of the longest piece that may begin there, int32 [n], and its token.

    0 letters: none. `last`: behind the end of each place's word.
    """
    place = tf.range(tf.shape(codes)[0])
    most = tf.maximum(tf.shape(codes)[0] - 1, 0)
    node = tf.where(starts, FIRST, INNER)

    def go_on(step, node, length, token):
        at = place + step
        letter = tf.gather(codes, tf.minimum(at, most))
        key = tf.cast(node, tf.int64) * SHIFT + tf.cast(letter, tf.int64)
        edge = tf.minimum(tf.searchsorted(trie.edges, key), len(trie.edges) - 1)
        is_there = tf.equal(tf.gather(trie.edges, edge), key) & (node >= 0) & (at < last)
        node = tf.where(is_there, tf.gather(trie.targets, edge), -1)
        ended = tf.gather(trie.tokens, tf.maximum(node, 0))
        ends = is_there & (ended >= 0)
        return step + 1, node, tf.where(ends, step + 1, length), tf.where(ends, ended, token)

    start = (tf.constant(0), node, tf.zeros_like(node), tf.fill(tf.shape(node), -1))
    _, _, length, token = tf.while_loop(
        lambda step, node, length, token: (step < trie.longest) & tf.reduce_any(node >= 0),
        go_on,
        start,
    )
    return length, token


def _followed(first, last, length, number):
    """Whether a piece begins at each place, bool [n], and whether each word has no pieces, [w].

    From a word's first letter on, behind each piece begins the next.
    """

    def go_on(at, is_bad, begins):
        here = tf.minimum(at, number - 1)
        is_open = at < last
        step = tf.gather(length, here)
        is_bad |= is_open & (step == 0)
        # What is done marks the place behind all
        begins = tf.tensor_scatter_nd_update(
            begins, tf.where(is_open, at, number)[:, None], tf.ones_like(is_open)
        )
        return tf.where(is_open & (step > 0), at + step, last), is_bad, begins

    _, is_bad, begins = tf.while_loop(
        lambda at, is_bad, begins: tf.reduce_any(at < last),
        go_on,
        (first, tf.zeros_like(first, tf.bool), tf.zeros([number + 1], tf.bool)),
    )
    return begins[:-1], is_bad
