"""Losses of one label among several."""

from __future__ import annotations

from tfbig.core.lazy import tf


def cross_entropy(
    logits: tf.Tensor, label: tf.Tensor, smoothing: float = 0.0, focal: float = 0.0
) -> tf.Tensor:
    """Softmax cross-entropy in nats, [batch].

    Args:
        logits: [batch, labels].
        label: whole numbers [batch].
        smoothing: share of the target spread over all labels (Szegedy et al. 2016).
        focal: exponent of 1 - the label's probability, by which each example's loss is multiplied,
            so that what is known already counts less (Lin et al. 2017); 0: none.
    """
    exact = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
    loss = exact
    if smoothing:
        uniform = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
        loss = (1 - smoothing) * exact + smoothing * uniform
    return loss * (1 - tf.exp(-exact)) ** focal if focal else loss
