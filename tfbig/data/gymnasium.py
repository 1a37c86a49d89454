"""Gymnasium's environments, such as CartPole-v1, Acrobot-v1, LunarLander-v3 (extra `games`)."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.environments import Environments
from tfbig.core.errors import NoData, UserError, package_needed
from tfbig.core.features import Feature
from tfbig.core.lazy import np
from tfbig.data._games import Game

UNLIMITED = 10_000  # steps of an episode where the environment names no limit
ACTIONS = {
    "CartPole-v1": ("left", "right"),
    "Acrobot-v1": ("-1", "0", "+1"),
    "MountainCar-v0": ("left", "none", "right"),
    "LunarLander-v3": ("nothing", "left engine", "main engine", "right engine"),
}


@dataclass(frozen=True, kw_only=True)
class Gymnasium(Game):
    """Gymnasium's environments, of observations of one shape and discrete or continuous actions.

    Each episode has a seed of its own, so it is restored exactly by what was done in it: a resumed
    run does that again, and refuses if it does not see what it saw. Nothing resets by itself
    (AutoresetMode.DISABLED), so no step between two episodes has to be masked.
    """

    environment: str = knob("CartPole-v1", "an environment's registered name")

    @classmethod
    def smallest(cls, folder):
        return cls(episodes=4)

    def check(self):
        _registered(self.environment)

    @property
    def _one(self):
        return _opened(self.environment)

    @property
    def most_steps(self) -> int:
        return _registered(self.environment).max_episode_steps or UNLIMITED

    @property
    def action_names(self):
        space = self._one.action_space
        if not hasattr(space, "n"):
            return ()
        return ACTIONS.get(self.environment, tuple(str(i) for i in range(int(space.n))))

    @property
    def action(self):
        space = self._one.action_space
        if hasattr(space, "n"):
            return Feature(shape=(), dtype="int32", values=int(space.n))
        return Feature(shape=tuple(space.shape), dtype="float32")

    @property
    def bounds(self):
        space = self._one.action_space
        return None if hasattr(space, "n") else (space.low, space.high)

    @property
    def observation(self):
        space = self._one.observation_space
        is_bytes = space.dtype == np.uint8
        dtype, unit = ("uint8", "intensity 0-255") if is_bytes else ("float32", "")
        return Feature(shape=tuple(space.shape), dtype=dtype, unit=unit)

    def environments(self, seeds):
        return _Replayed(self, seeds)

    def card(self):
        return {
            "title": f"{self.environment} of Gymnasium",
            "source": "https://gymnasium.farama.org",
            "licence": "MIT",
            "citation": (
                "Towers, M. et al. (2024). Gymnasium: A standard interface for reinforcement"
                " learning environments. arXiv 2407.17032."
            ),
        }


def _library():
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise package_needed("gymnasium", "games", "data") from error


@functools.cache
def _registered(name: str):
    """What Gymnasium's registry says of an environment."""
    from tfbig.core.registry import nearest

    library = _library()
    try:
        return library.spec(name)
    except library.error.Error as error:
        known = nearest(name, library.registry)
        raise UserError(
            f"data.environment: expected one that Gymnasium knows. Received: {name!r}.{known}"
        ) from error


def _made(name: str):
    library = _library()
    try:
        return library.make(name, disable_env_checker=True)
    except (library.error.Error, ImportError) as error:
        raise NoData(f"data.environment: {name} cannot be made: {str(error)[:200]}.") from error


@functools.cache
def _opened(name: str):
    """One environment, to be asked of its spaces; refuses those of other kinds."""
    one = _made(name)
    observed, acted = one.observation_space, one.action_space
    is_known = hasattr(acted, "n") or (hasattr(acted, "low") and len(acted.shape) == 1)
    if not is_known or not hasattr(observed, "low") or getattr(acted, "start", 0) != 0:
        raise UserError(
            "data.environment: expected one that is seen as one array and acted in by a number or a"
            f" vector. Received: {name}, with {observed} and {acted}."
        )
    return one


class _Replayed(Environments):
    """n environments of Gymnasium, each restored by its seed and by what was done since."""

    def __init__(self, data: Gymnasium, seeds: np.ndarray):
        self.data, self.action, n = data, data.action, len(seeds)
        self.observation, self.bounds = data.observation, data.bounds
        self.games = [_made(data.environment) for _ in range(n)]
        self.seen = np.zeros((n, *self.observation.shape), self.observation.dtype)
        self.seeds, self.steps = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.done = np.zeros((n, data.most_steps, *self.action.shape), self.action.dtype)
        self.over = np.zeros(n, bool)
        self.restart(np.ones(n, bool), seeds)

    def restart(self, which, seeds):
        for i in np.flatnonzero(which):
            self.seen[i], _ = self.games[i].reset(seed=int(seeds[i]))
        self.seeds = np.where(which, seeds, self.seeds)
        self.steps = np.where(which, 0, self.steps)
        self.over &= ~which

    def observe(self):
        return {"observation": self.seen.copy()}

    def step(self, action):
        n = len(self.games)
        reward, terminated, truncated = np.zeros(n, np.float32), self.over.copy(), np.zeros(n, bool)
        if self.bounds is not None:
            action = np.clip(action, *self.bounds)
        for i in np.flatnonzero(~self.over):
            own = action[i] if self.action.shape else int(action[i])
            self.done[i, self.steps[i]] = own
            self.seen[i], reward[i], terminated[i], truncated[i], _ = self.games[i].step(own)
        self.steps = self.steps + ~self.over
        truncated |= self.steps >= self.data.most_steps
        self.over |= terminated | truncated
        return reward, terminated, truncated

    def frame(self, place):
        return None

    def state(self):
        longest = int(self.steps.max())
        kept = {"seeds": self.seeds, "steps": self.steps, "over": self.over, "seen": self.seen}
        return {**kept, "done": self.done[:, :longest]}

    def restore(self, state):
        self.seeds, self.steps, self.over = (
            state[name].copy() for name in ("seeds", "steps", "over")
        )
        self.done[:, : state["done"].shape[1]] = state["done"]
        for i, game in enumerate(self.games):
            self.seen[i], _ = game.reset(seed=int(self.seeds[i]))
            for own in self.done[i, : self.steps[i]]:
                self.seen[i] = game.step(own if self.action.shape else int(own))[0]
        if not np.array_equal(self.seen, state["seen"]):
            raise UserError(
                f"data: {self.data.environment} does not do again what it did by the same seed and"
                " actions, so this run cannot be resumed exactly. Start a new one."
            )
