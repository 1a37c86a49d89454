"""What rewards along episodes come to: generalised advantages."""

from __future__ import annotations

from tfbig.core.lazy import np


def advantages(
    reward_tn: np.ndarray,
    ended_tn: np.ndarray,
    value_tn: np.ndarray,
    following_tn: np.ndarray,
    discount: float,
    trace: float,
) -> np.ndarray:
    """Generalised advantages (Schulman et al. 2016), float32 [t, n].

    Args:
        reward_tn: of each step.
        ended_tn: whether the episode ended with the step, for whatever reason; nothing is carried
            over to the next one.
        value_tn: what the state before the step was thought to be worth.
        following_tn: what the state behind the step is thought to be worth: 0 behind a termination,
            which nothing follows; of a truncation, the last state's.
        discount: of a step (gamma).
        trace: how far differences are followed (lambda): 0 one step, 1 to the end.

    Example:
        advantages(r, ended, v, following, 0.99, 0.95) + v  # what values are drawn to
    """
    difference = reward_tn + discount * following_tn - value_tn
    carried = discount * trace * ~ended_tn
    result = np.zeros_like(difference, dtype=np.float32)
    last = np.zeros(difference.shape[1:], np.float64)
    for t in reversed(range(len(difference))):
        last = difference[t] + carried[t] * last
        result[t] = last
    return result
