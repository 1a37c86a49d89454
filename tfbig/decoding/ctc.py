"""What frames say in words: connectionist temporal classification read, greedily or by a search.

Shapes: b recordings, t frames, v values; value 0 is the blank, value 1 + n is token n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from tfbig.core.lazy import np, tf
from tfbig.nn.ctc import BLANK

FAINT = -12.0  # log-probability below which a search does not look at a value
NEVER = -math.inf


def greedy(logits_btv, count_b) -> dict[str, tf.Tensor]:
    """The likeliest value of each frame, repeats and blanks taken out.

    In plain operations, which other formats have.

    Returns:
        tokens int32 [b, t], zeros behind tokens_count [b]; token_starts, token_ends int32 [b, t],
        the frame where each begins and the one behind its last; score [b], the mean probability of
        the frames' likeliest values (geometric).
    """
    length = tf.shape(logits_btv)[1]
    place = tf.range(length)[None]
    real = place < count_b[:, None]
    best = tf.where(real, tf.argmax(logits_btv, -1, tf.int32), BLANK)
    before = tf.pad(best[:, :-1], [[0, 0], [1, 0]], constant_values=BLANK)
    behind = tf.pad(best[:, 1:], [[0, 0], [0, 1]], constant_values=BLANK)
    begins = (best != BLANK) & (best != before)
    ends = (best != BLANK) & (best != behind)
    everywhere = place + tf.zeros_like(best)
    values, starts = moved_ahead(begins, [best - 1, everywhere])
    (lasts,) = moved_ahead(ends, [everywhere + 1])
    likely = tf.reduce_max(logits_btv, -1) - tf.reduce_logsumexp(logits_btv, -1)
    number = tf.cast(tf.maximum(count_b, 1), likely.dtype)
    return {
        "tokens": values,
        "tokens_count": tf.reduce_sum(tf.cast(begins, tf.int32), 1),
        "token_starts": starts,
        "token_ends": lasts,
        "score": tf.exp(tf.reduce_sum(tf.where(real, likely, 0.0), 1) / number),
    }


def moved_ahead(kept_bt, values: list) -> list:
    """Kept values of each row in front, in their order, zeros behind them; each [b, t]."""
    length = tf.shape(kept_bt)[1]
    place = tf.range(length)[None]
    # Sorted by place, those that are not kept last: as floats, which every runtime sorts
    key = tf.cast(tf.where(kept_bt, place, place + length), tf.float32)
    _, order = tf.math.top_k(-key, length)
    shown = place < tf.reduce_sum(tf.cast(kept_bt, tf.int32), 1)[:, None]
    return [tf.where(shown, tf.gather(each, order, batch_dims=1), 0) for each in values]


@dataclass
class Lexicon:
    """Words that may be written, as a tree of their tokens.

    Attributes:
        space: the token between words.
        root: token -> node; a node that ends a word has the word under None.
    """

    space: int
    root: dict = field(default_factory=dict)

    @classmethod
    def of(cls, words: dict[str, list[int]], space: int) -> Lexicon:
        """A tree of words, each with its tokens."""
        lexicon = cls(space)
        for word, tokens in words.items():
            node = lexicon.root
            for token in tokens:
                node = node.setdefault(int(token), {})
            node[None] = word
        return lexicon


@dataclass(frozen=True)
class _Prefix:
    """What was written so far: its tokens, where in the lexicon it stands, and its words' score.

    The tokens say all of it.
    """

    tokens: tuple[int, ...]
    node: dict | None = field(compare=False)
    words: tuple[str, ...] = field(compare=False)
    score: float = field(compare=False)


def search(
    log_p_tv: np.ndarray,
    beams: int,
    lexicon: Lexicon | None = None,
    language: Callable[[tuple[str, ...]], float] | None = None,
    bonus: float = 0.0,
) -> tuple[tuple[int, ...], float]:
    """The most probable tokens, by a search over prefixes (Hannun et al. 2014).

    Args:
        log_p_tv: log-probabilities of the values in each real frame.
        beams: prefixes that are kept from frame to frame.
        lexicon: words that may be written; None: anything.
        language: the weighted log-probability of the last of some words, given those before it;
            with a lexicon, which says what words are.
        bonus: added for each word.

    Returns:
        Tokens, and their log-probability with what language and bonus add.
    """
    start = _Prefix((), lexicon.root if lexicon else None, (), 0.0)
    # prefix -> log-probability of paths that end with a blank, and with its last token
    paths = {start: (0.0, NEVER)}
    known = {start.tokens: start}
    for log_p in log_p_tv:
        following: dict[_Prefix, tuple[float, float]] = {}

        def add(prefix, blank, token, following=following):
            own = following.get(prefix, (NEVER, NEVER))
            following[prefix] = np.logaddexp(own[0], blank), np.logaddexp(own[1], token)

        values = np.flatnonzero(log_p > FAINT)
        for prefix, (blank, token) in paths.items():
            whole = np.logaddexp(blank, token)
            add(prefix, whole + log_p[BLANK], NEVER)
            last = prefix.tokens[-1] + 1 if prefix.tokens else None
            if last is not None:
                add(prefix, NEVER, token + log_p[last])
            for value in values:
                if value == BLANK:
                    continue
                arriving = blank if value == last else whole
                if arriving == NEVER:
                    continue
                longer = known.get((*prefix.tokens, int(value) - 1))
                if longer is None:
                    longer = _extended(prefix, int(value) - 1, lexicon, language, bonus)
                    if longer is None:
                        continue
                    known[longer.tokens] = longer
                add(longer, NEVER, arriving + log_p[value])
        best = sorted(following, key=lambda p: -_total(following[p], p))[:beams]
        paths = {prefix: following[prefix] for prefix in best}
    finished = []
    for prefix, own in paths.items():
        ended = _ended(prefix, lexicon, language, bonus)
        if ended is not None:
            finished.append((_total(own, ended), ended.tokens))
    if not finished:  # no path ends a word: what comes nearest, as it is
        finished = [(_total(own, prefix), prefix.tokens) for prefix, own in paths.items()]
    score, tokens = max(finished)
    return tokens, float(score)


def _total(paths: tuple[float, float], prefix: _Prefix) -> float:
    return float(np.logaddexp(*paths)) + prefix.score


def _extended(prefix, token, lexicon, language, bonus) -> _Prefix | None:
    """A prefix with one more token; None where no word goes on so."""
    tokens = (*prefix.tokens, token)
    if lexicon is None:
        return _Prefix(tokens, None, (), 0.0)
    if token == lexicon.space:
        ended = (
            _ended(prefix, lexicon, language, bonus) if prefix.node is not lexicon.root else None
        )
        return ended and _Prefix(tokens, lexicon.root, ended.words, ended.score)
    node = prefix.node.get(token)
    return None if node is None else _Prefix(tokens, node, prefix.words, prefix.score)


def _ended(prefix, lexicon, language, bonus) -> _Prefix | None:
    """A prefix whose last word has ended; None where it is no whole word."""
    if lexicon is None or prefix.node is lexicon.root:
        return prefix
    word = prefix.node.get(None)
    if word is None:
        return None
    words = (*prefix.words, word)
    score = prefix.score + bonus + (language(words) if language else 0.0)
    return _Prefix(prefix.tokens, prefix.node, words, score)
