"""Connectionist temporal classification (Graves et al. 2006): the loss of unaligned labels.

TensorFlow's own has two forms: of sparse labels, for which XLA is not known to have a kernel, and
of dense ones, which took 8 to 26 times as long on a CPU (LOG.md has the figures). This is a single
form for both. Forward and backward variables are the same recursion, on a sequence and on
its reverse, so both run side by side in one loop.

Shapes: b examples, t frames, u labels, v values, s = 2 u + 1 states: labels with blanks around.
"""

from __future__ import annotations

from tfbig.core.lazy import tf

BLANK = 0
NEVER = (
    -1e30
)  # log-probability of what cannot be; infinities would give gradients that are no number


def ctc_loss(logits_btv, frames_b, labels_bu, count_b):
    """The negative log-probability of each row's labels, in nats, float32 [b].

    A row's loss depends on its own frames and labels alone, however far they are padded.

    Args:
        logits_btv: scores of values in each frame; value 0 is the blank.
        frames_b: frames of each row that are real, int32, at least 1.
        labels_bu: 1 ... v - 1, int32; what stands behind the count does not matter.
        count_b: labels of each row, int32. A row needs as many frames as labels, and one more for
            each that equals the one before it; what has fewer loses about 1e30.

    Returns:
        Losses; their gradient is softmax minus the labels' posterior, zero at padding.
    """

    @tf.custom_gradient
    def loss(logits):
        log_p = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        total, posterior = _aligned(log_p, frames_b, labels_bu, count_b)
        real = tf.sequence_mask(frames_b, tf.shape(logits)[1], tf.float32)[:, :, None]

        def gradient(upstream):
            own = (tf.exp(log_p) - posterior) * real
            return tf.cast(own * upstream[:, None, None], logits.dtype)

        return -total, gradient

    return loss(logits_btv)


def needed_frames(labels, count):
    """Frames that labels need at least: one each, and a blank between equal ones; int32 [b].

    Args:
        labels: int32 [b, u].
        count: of each row, int32 [b].
    """
    pair = tf.range(1, tf.shape(labels)[1])[None] < count[:, None]
    repeats = tf.equal(labels[:, 1:], labels[:, :-1]) & pair
    return count + tf.reduce_sum(tf.cast(repeats, tf.int32), 1)


def _aligned(log_p, frames, labels, count):
    """The labels' log-probability [b], and how likely each value is in each frame, [b, t, v]."""
    states = _states(labels, count)
    back = _states(tf.reverse_sequence(labels, count, 1, 0), count)
    reversed_p = tf.reverse_sequence(log_p, frames, 1, 0)
    emitted = _emitted(log_p, states)
    both = tf.concat([emitted, _emitted(reversed_p, back)], 1)
    variables, scales = _forward(both, tf.concat([states, back], 0))
    rows = tf.shape(states)[0]
    lengths = 2 * count + 1
    forward, backward = variables[:, :rows], variables[:, rows:]
    backward = tf.reverse_sequence(backward, frames, 0, 1)
    backward = tf.reverse_sequence(backward, lengths, 2, 1)
    inside = tf.sequence_mask(lengths, tf.shape(states)[1])
    # Of all paths through a state at a frame, but for a factor of the frame
    through = tf.where(inside[None], forward + backward - emitted, NEVER)
    real = tf.sequence_mask(frames, tf.shape(log_p)[1], tf.float32)
    scale = scales[0, :rows] + tf.reduce_sum(tf.transpose(scales)[rows:] * real, 1)
    total = tf.reduce_logsumexp(through[0], 1) + scale
    share = tf.transpose(tf.nn.softmax(through), [1, 0, 2])
    values = tf.one_hot(states, log_p.shape[2], dtype=share.dtype)
    return total, tf.matmul(share, values)


def _states(labels, count):
    """Labels with blanks around each, int32 [b, s]; behind the count all are blanks."""
    labels = tf.where(tf.sequence_mask(count, tf.shape(labels)[1]), labels, BLANK)
    pairs = tf.stack([labels, tf.zeros_like(labels)], 2)
    pairs = tf.reshape(pairs, [tf.shape(labels)[0], 2 * tf.shape(labels)[1]])
    return tf.pad(pairs, [[0, 0], [1, 0]], constant_values=BLANK)


def _emitted(log_p, states):
    """The log-probability of each state's value in each frame, [t, b, s]."""
    own = tf.gather(tf.transpose(log_p, [0, 2, 1]), states, batch_dims=1)
    return tf.transpose(own, [2, 0, 1])


def _forward(emitted, states):
    """Log-probability of all paths to each state, relative to the frame's best one, [t, b, s].

    And by how much the best one fell from frame to frame, [t, b]: sums of large numbers would
    leave little of small differences.
    """
    place = tf.range(tf.shape(states)[1])
    before = tf.pad(states, [[0, 0], [2, 0]], constant_values=-1)[:, :-2]
    may_skip = (states != BLANK) & (states != before)
    skip = tf.where(may_skip, 0.0, NEVER)

    def scaled(paths):
        best = tf.reduce_max(paths, 1)
        return tf.maximum(paths - best[:, None], NEVER), best

    def step(previous, own):
        paths, _ = previous
        moved = tf.pad(paths, [[0, 0], [2, 0]], constant_values=NEVER)
        arriving = tf.stack([paths, moved[:, 1:-1], moved[:, :-2] + skip])
        return scaled(tf.reduce_logsumexp(arriving, 0) + own)

    first = scaled(tf.where(place[None] < 2, emitted[0], NEVER))
    others = tf.scan(step, emitted[1:], first)
    return tuple(tf.concat([a[None], b], 0) for a, b in zip(first, others, strict=True))
