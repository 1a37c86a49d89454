"""What models that read nucleotides share: inputs, which places are real, summaries of places.

They take `sequence` float32 [batch, length, 4], fractions of A, C, G and T, and, where lengths
differ, `count` int32 [batch]: places behind it are zeros, and change nothing.

Shapes: b sequences, t places, d values.
"""

from __future__ import annotations

from tfbig.core.component import knob
from tfbig.core.features import Spec
from tfbig.core.lazy import keras
from tfbig.models import _text
from tfbig.nn.attention import positions

SUMMARIES = ("largest", "average", "places")


def summary_knob():
    return knob(
        "largest",
        "of places: the largest value of each feature; its mean; or all places side by side, where"
        " places mean something, such as around a junction",
        choices=SUMMARIES,
    )


def inputs_of(spec: Spec) -> dict:
    """Symbolic inputs, by name."""
    return _text.inputs_of({name: spec[name] for name in ("sequence", "count") if name in spec})


def real_of(inputs: dict):
    """1 where a place holds a letter, 0 behind the end, [b, t, 1]."""
    ops = keras.ops
    x_btd = inputs["sequence"]
    if "count" not in inputs:
        return ops.ones_like(x_btd[..., :1])
    is_real = positions(x_btd[..., 0]) < inputs["count"][:, None]
    return ops.cast(is_real, x_btd.dtype)[:, :, None]


def read(spec: Spec, inputs: dict, summary: str):
    """Fractions and real places, (x_btd, real_bt1).

    Where all places are to be side by side, always as many as the longest sequence has.
    """
    x, real = inputs["sequence"], real_of(inputs)
    most = spec["sequence"].most
    if summary == "places" and most is not None:
        x, real = (keras.ops.pad(v, ((0, 0), (0, most), (0, 0)))[:, :most] for v in (x, real))
    return x, real


def summarised(spec: Spec, summary: str, x_btd, real_bt1):
    """Features of a sequence from those of its places, [b, d] or [b, t * d]."""
    if summary == "largest":
        return _text.largest(x_btd, real_bt1)
    if summary == "average":
        return _text.average(x_btd, real_bt1)
    length, _ = spec["sequence"].longest
    return keras.ops.reshape(x_btd, (-1, length * x_btd.shape[-1]))
