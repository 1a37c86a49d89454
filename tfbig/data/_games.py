"""What games share: episodes as examples, by their seeds."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

from tfbig.core import registry
from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.environments import Environments
from tfbig.core.features import Feature
from tfbig.core.lazy import np
from tfbig.data._images import check_split
from tfbig.prep.streams import combined

SPLIT_NUMBER = {"train": 0, "validation": 1, "test": 2}
EVALUATED = 1 << 30  # seeds of evaluated episodes lie below, those of training above
SEED = Feature(shape=(), dtype="int64")


@dataclass(frozen=True, kw_only=True)
class Game(Dataset):
    """A game: its splits are episodes to be judged by, each a seed and what is seen at first.

    What is trained on are other episodes, which an agent plays by itself.
    """

    gives = frozenset({"game"})

    episodes: int = knob(100, "played in each evaluation", low=1, high=100_000)
    action_names: ClassVar[tuple[str, ...]] = ()
    """Names of discrete actions in the order of their numbers."""

    most_steps: ClassVar[int]
    """After so many, an episode is cut off."""

    @classmethod
    def smallest(cls, folder):
        return cls(episodes=12)

    @property
    def action(self) -> Feature:
        """What is done in a step: int32 [] with `values`, or float32 [n] between `bounds`."""
        return Feature(shape=(), dtype="int32", values=len(self.action_names))

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The lowest and the highest continuous action, each float32 [n]."""
        return None

    @property
    def observation(self) -> Feature:
        """What is seen in each step."""
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, float]:
        """What this game's rules depend on, for whoever plays it elsewhere."""
        return {}

    @property
    def rules(self) -> dict:
        """What a page must know to play it, as JSON values."""
        names = list(self.action_names)
        return {"name": registry.name_of(self), "settings": self.settings, "actions": names}

    has_legal: ClassVar[bool] = False
    """Whether some actions are not allowed at times."""

    @property
    def seen(self) -> dict[str, Feature]:
        """What `Environments.observe` gives."""
        if not self.has_legal:
            return {"observation": self.observation}
        legal = Feature(shape=(self.action.values,), dtype="uint8", unit="1: allowed")
        return {"observation": self.observation, "legal": legal}

    @property
    def spec(self):
        return {**self.seen, "seed": SEED}

    def legal(self, observation: np.ndarray) -> np.ndarray:
        """Which actions are allowed, uint8 [n, actions], of observations [n, ...]."""
        return np.ones((len(observation), self.action.values), np.uint8)

    def environments(self, seeds: np.ndarray) -> Environments:
        """As many environments as there are seeds (int64 [n]), each at its episode's beginning."""
        raise NotImplementedError

    def size(self, split):
        check_split(split)
        return self.episodes

    def seeds(self, split: str) -> np.ndarray:
        """The seeds of a split's episodes, int64 [n]."""
        places = np.arange(self.size(split))
        return (combined(SPLIT_NUMBER[split], places) % EVALUATED).astype(np.int64)

    def training_seeds(self, seed: int, places: np.ndarray, episode: np.ndarray) -> np.ndarray:
        """Seeds of the episodes that are trained on: the n-th one in each place, int64 [n]."""
        numbers = combined(seed, places, episode) % EVALUATED
        return numbers.astype(np.int64) + EVALUATED

    def arrays(self, split):
        check_split(split)
        return _beginnings(self, split)

    def examples(self, split, positions):
        rows = np.asarray(positions, np.int64)
        return {name: value[rows] for name, value in self.arrays(split).items()}


@functools.lru_cache(maxsize=6)
def _beginnings(data: Game, split: str) -> dict[str, np.ndarray]:
    seeds = data.seeds(split)
    return {**data.environments(seeds).observe(), "seed": seeds}
