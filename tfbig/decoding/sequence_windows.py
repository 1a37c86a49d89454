"""Long sequences window by window, and sequences with each of their letters replaced, in a graph.

Sequences are numbers of letters, [b, t], of which the first `count`, int32 [b], are real. What is
asked of the model is asked in blocks of equal size, so memory does not grow with the sequence.

Shapes: b sequences, t letters of the longest, w windows, k classes, n of a block.
"""

from __future__ import annotations

from collections.abc import Callable

from tfbig.core.lazy import tf

BLOCK = 256  # sequences that the model is asked about at once
MOST_LETTERS = 1 << 26  # that the model reads for one request
FEWER_WINDOWS = "sequence: expected fewer windows; scan parts of it, or with a larger step."
FEWER_LETTERS = "sequence: expected fewer letters; ask about parts of it."


def scanned(ask: Callable, numbers, count, classes: int, window: int, step):
    """What the model says of each window of a sequence.

    Window i begins behind i * step letters. All windows are whole, so up to step - 1 letters at
    the end may stand in none; a sequence shorter than a window is one.

    Args:
        ask: numbers [n, window] and counts int32 [n] to float32 [n, k].
        numbers: [b, t].
        count: int32 [b].
        classes: k.
        window: letters of a window.
        step: letters from one window to the next, int32 scalar.

    Returns:
        float32 [b, w, k], zeros behind the last window of each, and how many there are, int32 [b].
    """
    tf.debugging.Assert(step >= 1, ["step: expected at least 1"])
    windows = tf.maximum(0, count - window) // tf.maximum(step, 1) + 1
    most = tf.reduce_max(tf.concat([windows, [0]], 0))
    rows, places = _pairs(tf.shape(numbers)[0], most, window, FEWER_WINDOWS)

    def block(pair):
        row, place = pair
        first = place * tf.maximum(step, 1)
        letters = first[:, None] + tf.range(window)[None]
        left = tf.clip_by_value(tf.gather(count, row) - first, 0, window)
        at = tf.stack([tf.broadcast_to(row[:, None], tf.shape(letters)), letters], 2)
        inside = tf.range(window)[None] < left[:, None]
        safe = tf.where(inside[..., None], at, 0)
        values = tf.where(inside, tf.gather_nd(numbers, safe), 0)
        return ask(values, tf.maximum(left, 1))

    said = _in_blocks(block, rows, places, BLOCK, (classes,))
    said = tf.reshape(said, [tf.shape(numbers)[0], most, classes])
    real = tf.range(most)[None] < windows[:, None]
    return tf.where(real[..., None], said, 0.0), windows


def substituted(ask: Callable, numbers, count, classes: int, letters: int):
    """What the model says of each sequence with one letter replaced, for each place and letter.

    Args:
        ask: numbers [n, t] and counts int32 [n] to float32 [n, k].
        numbers: [b, t].
        count: int32 [b].
        classes: k.
        letters: they are replaced by 0 ... letters - 1.

    Returns:
        float32 [b, t, letters, k]; behind a sequence's end anything.
    """
    size, longest = tf.shape(numbers)[0], tf.shape(numbers)[1]
    rows, places = _pairs(size, longest, letters * longest, FEWER_LETTERS)

    def block(pair):
        row, place = pair
        here = tf.equal(tf.range(longest)[None, None], place[:, None, None])
        letter = tf.cast(tf.range(letters), numbers.dtype)[None, :, None]
        changed = tf.where(here, letter, tf.gather(numbers, row)[:, None])  # [n, letters, t]
        said = ask(tf.reshape(changed, [-1, longest]), tf.repeat(tf.gather(count, row), letters))
        return tf.reshape(said, [-1, letters, classes])

    said = _in_blocks(block, rows, places, BLOCK // letters, (letters, classes))
    return tf.reshape(said, [size, longest, letters, classes])


def log_odds(logits):
    """Of each class against all others, in nats: [n, k] to [n, k]."""
    classes = logits.shape[-1]
    others = tf.where(tf.eye(classes, dtype=tf.bool), logits.dtype.min, logits[:, None])
    return logits - tf.reduce_logsumexp(others, -1)


def _pairs(size, most, letters, message: str):
    """Each of `size` rows with each of `most` places, two int32 [size * most].

    Refused where more than MOST_LETTERS would be read, `letters` for each.
    """
    with tf.control_dependencies([_affordable(size, most, letters, message)]):
        size = tf.identity(size)
    return tf.repeat(tf.range(size), most), tf.tile(tf.range(most), [size])


def _affordable(*factors_and_message):
    """An operation that fails, with a message, where a product is more than MOST_LETTERS."""
    *factors, message = factors_and_message
    product = tf.reduce_prod([tf.cast(factor, tf.float32) for factor in factors])
    words = f"{message} At most {MOST_LETTERS} letters are read for a request, windows times theirs"
    return tf.debugging.Assert(product <= MOST_LETTERS, [words])


def bounded(sequences):
    """Sequences, string [b], unless they would be too many letters as a matrix."""
    longest = tf.reduce_max(tf.concat([tf.strings.length(sequences), [0]], 0))
    with tf.control_dependencies([_affordable(tf.size(sequences), longest, FEWER_LETTERS)]):
        return tf.identity(sequences)


def _in_blocks(block: Callable, rows, places, size: int, shape: tuple[int, ...]):
    """`block` of all pairs, so many at once, each of this shape.

    The last block is filled up with the first pair.
    """
    total = tf.size(rows)
    size = tf.clip_by_value(total, 1, size)
    blocks = (total + size - 1) // size
    padding = [[0, blocks * size - total]]
    pairs = tuple(tf.reshape(tf.pad(values, padding), [-1, size]) for values in (rows, places))
    said = tf.map_fn(block, pairs, fn_output_signature=tf.float32)
    return tf.reshape(said, [-1, *shape])[:total]
