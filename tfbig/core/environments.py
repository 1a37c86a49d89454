"""Games, or other worlds, in which agents act: several of one kind side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Environments:
    """n environments of one kind, each with its own episode, that step together.

    An episode is a pure function of its seed and of the actions taken in it, whatever stands beside
    it. Nothing begins by itself: who steps them says which are restarted, so that no step is lost
    between two episodes, and the last observation of an episode can be seen.
    """

    def restart(self, which: np.ndarray, seeds: np.ndarray) -> None:
        """Begins new episodes where `which` (bool [n]) says so, by `seeds` (int64 [n])."""
        raise NotImplementedError

    def observe(self) -> dict[str, np.ndarray]:
        """What is seen now: name -> [n, ...].

        "observation" and, where some actions are not allowed, "legal" (uint8 [n, actions]): 1 for
        those that are.
        """
        raise NotImplementedError

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Acts in each; what comes behind an episode's end means nothing.

        Args:
            action: int32 [n], or float32 [n, ...] where actions are continuous.

        Returns:
            (reward float32 [n], terminated bool [n], truncated bool [n]). A terminated episode has
            nothing behind it that could be worth something; a truncated one was only cut off.
        """
        raise NotImplementedError

    def frame(self, place: int) -> np.ndarray:
        """A picture of one of them as it is now, uint8 [height, width, 3]."""
        raise NotImplementedError

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next steps depend on, as arrays of numbers under any names."""
        raise NotImplementedError

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continues from what `state` returned."""
        raise NotImplementedError
