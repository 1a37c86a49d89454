"""Batches that an agent makes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfbig.core.features import Spec

if TYPE_CHECKING:
    import numpy as np


class Source:
    """Batches that an agent makes itself, one after another, with the weights of the moment.

    Each is a pure function of the weights, the source's state, its seed and the batch's number. All
    of its state is in the checkpoint, so that a resumed run makes the same batches.

    Attributes:
        spec: the raw examples of a batch: name -> shape and type, without the batch axis.
        block: so many batches in a row, the first of a number that it divides, are made with the
            same weights, before any of them is trained on. They then are one call into the
            compiled program.
    """

    spec: Spec
    block: int = 1

    def batch(self, number: int) -> dict[str, np.ndarray]:
        """The batch of a step: name -> [batch, ...]. Called once for each step, in order."""
        raise NotImplementedError

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next batches depend on besides the weights.

        Environments, replay, counters, random states, as arrays of numbers under any names.
        """
        raise NotImplementedError

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continues from what `state` returned."""
        raise NotImplementedError
