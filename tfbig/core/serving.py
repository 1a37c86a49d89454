"""What leaves with a trained model, and how it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

MEDIA = ("picture", "text", "tokens", "samples", "video", "sequence", "state")
"""What people can give: "samples" of a recording, a "sequence" such as DNA, the "state" of a
game."""

KINDS = ("label", "probabilities", "text", "tokens", "number", "picture", "boxes", "audio", "state")
"""What people are answered: labels, the likeliest first, and their probabilities in that order;
text; numbers; ..."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """What people give a served model and are answered, by the names of its default signature.

    Attributes:
        takes: input -> one of MEDIA; inputs that no person gives are left out.
        gives: output -> one of KINDS; outputs that no person reads are left out.
    """

    takes: dict[str, str] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for side, known in (("takes", MEDIA), ("gives", KINDS)):
            for name, kind in getattr(self, side).items():
                if kind not in known:
                    raise ValueError(
                        f"media.{side}.{name}: expected one of {', '.join(known)}. Received:"
                        f" {kind!r}."
                    )

    def to_json(self) -> dict[str, dict[str, str]]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One function that leaves with a trained model, as a signature of the served model.

    Attributes:
        function: keyword arguments, tensors by name -> tensors by name; core TensorFlow operations
            only.
        inputs: name -> tensor specification with a batch axis, or a scalar's.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a program must answer, wherever it runs.

    Texts and whole numbers exactly, others but for rounding.

    Attributes:
        program: its name.
        inputs: name -> array; those with rows are given in calls of at most 256.
        expected: output name -> array.
            Of the program "step": inputs are the tokens and count of prompts, and "ids" the most
                probable tokens behind them.
        unit, counts: what is made, such as a token, and the output that says how much of it: for
            the speed that is told.
    """

    program: str
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    unit: str = "example"
    counts: str | None = None
