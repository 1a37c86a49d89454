"""Beam search in a graph: the most probable choices, one after another.

Shapes: b rows, v values to choose from, k beams.
"""

from __future__ import annotations

from collections.abc import Callable

from tfbig.core.lazy import np, tf


def search(
    step: Callable,
    carried: dict,
    fixed: dict,
    *,
    length: int,
    beams: int,
    first: int = 0,
    end: int,
    scores=None,
    place=1,
):
    """Hypotheses int32 [b, k, length] and their log-probabilities float32 [b, k].

    Behind its end a hypothesis holds the end again. A beam of one is a greedy search.

    Args:
        step: from the last choice and its place, int32 [n], and what is carried over and fixed by
            name, to (scores [n, v], what is carried on by name).
        carried: what the next step is given and each renews, name -> [b, ...].
        fixed: what each step is given unchanged, name -> [b, ...].
        length: choices to make.
        beams: hypotheses kept for each row.
        first: what stands for a last choice in the first step, at place 0.
        end: the choice behind which nothing more is chosen; -1: none.
        scores: of the first choice, [b, v], where a start has made them; None: a step makes them.
        place: of the first choice, a number or int32 [b].
    """
    if scores is None:
        rows = tf.shape(next(iter({**carried, **fixed}.values())))[0]
        last = tf.fill([rows], first), tf.zeros([rows], tf.int32)
        scores, carried = step(*last, {**carried, **fixed})
    rows, size = tf.shape(scores)[0], scores.shape[-1]
    scores, fixed, carried = (
        tf.nest.map_structure(lambda value: tf.repeat(value, beams, 0), each)
        for each in (scores, fixed, carried)
    )
    place = tf.repeat(tf.broadcast_to(place, [rows]), beams)
    # All beams start alike, so only one counts
    total = tf.tile(tf.constant([[0.0] + [-np.inf] * (beams - 1)]), (rows, 1))
    origin = tf.range(rows)[:, None] * beams
    silent = tf.where(tf.range(size) == max(end, 0), 0.0, -np.inf)

    def choose(i, scores, total, history, done):
        """The choice at place i of each hypothesis, and which of the old ones it goes on from."""
        gain = tf.reshape(tf.nn.log_softmax(tf.cast(scores, tf.float32)), (rows, beams, size))
        gain = tf.where(done[..., None], silent, gain)
        sums = tf.reshape(total[..., None] + gain, (rows, beams * size))
        if beams == 1:  # much faster than sorting
            total, index = tf.reduce_max(sums, -1)[:, None], tf.argmax(sums, -1, tf.int32)[:, None]
        else:
            total, index = tf.math.top_k(sums, beams)
        parent, chosen = index // size, index % size
        if beams > 1:
            history = tf.gather(history, parent, axis=1, batch_dims=1)
            done = tf.gather(done, parent, axis=1, batch_dims=1)
        history = tf.where(tf.range(length) == i, chosen[..., None], history)
        return chosen, parent, total, history, done | (chosen == end)

    def body(i, scores, total, history, done, carried):
        chosen, parent, *state = choose(i, scores, total, history, done)
        if beams > 1:
            flat = tf.reshape(origin + parent, (-1,))
            carried = {name: tf.gather(value, flat) for name, value in carried.items()}
        last = tf.reshape(chosen, (-1,)), place + i
        scores, carried = step(*last, {**carried, **fixed})
        return i + 1, scores, *state, carried

    history = tf.fill((rows, beams, length), max(end, 0))
    begun = tf.constant(0), scores, total, history, tf.zeros((rows, beams), tf.bool), carried
    # Programs leave the number of rows open, also where the first step knows it
    free = {name: tf.TensorShape((None, *value.shape[1:])) for name, value in carried.items()}
    shapes = ((), (None, size), (None, beams), (None, beams, length), (None, beams))
    *state, _ = tf.while_loop(
        lambda i, scores, total, history, done, carried: (i < length - 1) & ~tf.reduce_all(done),
        body,
        begun,
        shape_invariants=(*map(tf.TensorShape, shapes), free),
        parallel_iterations=1,
    )
    _, _, total, history, _ = choose(*state)
    return history, total


def best(history, total, *, end: int, penalty: float):
    """The best hypothesis of each row [b, length], its log-probability [b] and choices [b].

    Log-probabilities are divided by ((5 + choices) / 6) ** penalty (Wu et al. 2016), else short
    ones win. Choices count the end; behind it stand zeros.
    """
    length = history.shape[-1]
    is_end = history == end
    ends = tf.reduce_any(is_end, -1)
    choices = tf.where(ends, tf.argmax(is_end, -1, tf.int32) + 1, length)
    place = tf.argmax(total / ((5.0 + tf.cast(choices, tf.float32)) / 6.0) ** penalty, -1)
    history, total, choices = (
        tf.gather(value, place, axis=1, batch_dims=1) for value in (history, total, choices)
    )
    history = tf.where(tf.range(length)[None] < choices[:, None], history, 0)
    return history, total, choices
