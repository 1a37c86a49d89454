"""Pictures from noise, step by step: DDIM and DDPM, with guidance, from the start or from halfway.

A row's picture is a function of the model, its label, its key and the settings alone, whatever
stands beside it. Shapes: b rows, h height, w width, c channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tfbig.core.lazy import tf
from tfbig.nn import diffusion
from tfbig.prep import random

BEGINNING, FRESH = 40, 41  # streams of a key's random numbers


@dataclass(frozen=True)
class Sampler:
    """Writes pictures with a network that says velocities.

    Attributes:
        said: (noisy [b, h, w, c], time [b]) -> velocity [b, h, w, c], guidance included.
        shape: height, width, channels.
    """

    said: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    shape: tuple[int, int, int]

    def write(self, key_b, steps, freshness=0.0, first=1.0, picture=None, keep=None):
        """Pictures, float32 [b, h, w, c], -1 to 1.

        Args:
            key_b: of the noise, uint32 [b, 2].
            steps: from noise to picture, int32.
            freshness: 0: nothing is random but the beginning (DDIM, Song et al. 2021); 1: noise
                comes new at each step (DDPM, Ho et al. 2020); or between.
            first: the time that it begins at, 0 to 1, a number or [b]: 1 is nothing but noise.
            picture: what noise covers at that time, [b, h, w, c]; None: nothing.
            keep: float32 [b, h, w, 1], 1 where the picture is known and stays, 0 where it is
                written anew; None: everywhere anew.
        """
        draw = random.normal(key_b, BEGINNING, self.shape)
        rows = tf.shape(draw)[0]
        first = tf.broadcast_to(tf.cast(first, tf.float32) * diffusion.LAST, [rows])
        seen = draw if picture is None else diffusion.covered(picture, draw, first)

        def time_of(step):
            gone = tf.cast(step, tf.float32) / tf.cast(steps, tf.float32)
            return first * (1 - gone)

        def step(number, seen):
            now, after = time_of(number), time_of(number + 1)
            clean, _ = diffusion.uncovered(seen, self.said(seen, now), now)
            clean = tf.clip_by_value(clean, -1.0, 1.0)
            covering = _rest(seen, clean, now)
            if keep is not None:
                clean = keep * picture + (1 - keep) * clean
            new = random.normal(_mixed(key_b, number), FRESH, self.shape)
            renewed = freshness * _renewable(now, after)
            kept = tf.sqrt(tf.maximum(1 - renewed**2, 0.0))
            mixed = kept[:, None, None, None] * covering + renewed[:, None, None, None] * new
            if keep is not None:  # what is known is covered as at the beginning
                mixed = keep * draw + (1 - keep) * mixed
            return number + 1, diffusion.covered(clean, mixed, after)

        _, seen = tf.while_loop(
            lambda number, seen: number < steps,
            step,
            (tf.constant(0), seen),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, *self.shape])),
        )
        return tf.clip_by_value(seen, -1.0, 1.0)


def _rest(seen, clean, time_b):
    """The noise that covers a picture so that this is seen."""
    share = diffusion.noise(time_b)[:, None, None, None]
    return (seen - diffusion.signal(time_b)[:, None, None, None] * clean) / tf.maximum(share, 1e-4)


def _renewable(now_b, after_b):
    """The share of the noise that DDPM makes anew from one time to the next, as a deviation.

    Song et al. 2021, equation 16, over the noise that there is afterwards.
    """
    alpha = (diffusion.signal(now_b) / diffusion.signal(after_b)) ** 2
    return tf.sqrt(tf.maximum(1 - alpha, 0.0)) / tf.maximum(diffusion.noise(now_b), 1e-4)


def _mixed(key_b, number):
    """Keys of one step."""
    number = tf.cast(number + 1, tf.uint32)
    return tf.stack([key_b[:, 0], tf.bitwise.bitwise_xor(key_b[:, 1], number * 0x9E3779B9)], 1)


def guided(conditional, unconditional, guidance_b):
    """Away from what is said without the label, by so much (Ho and Salimans 2022).

    1: what is said with the label; 0: without; more: what the label makes likely, more so.
    """
    return unconditional + guidance_b[:, None, None, None] * (conditional - unconditional)
