"""Keys and doors: a grid of rooms, each behind a locked door, and a goal in the last one."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.environments import Environments
from tfbig.core.features import Feature
from tfbig.core.lazy import np
from tfbig.data._games import Game
from tfbig.prep.streams import Streams

PLANES = ("wall", "agent", "key", "door", "goal", "carried")
COLOURS = ((0.35, 0.35, 0.4), (0.98, 0.55, 0.38), (1.0, 0.85, 0.2), (0.6, 0.4, 0.2))
GOAL_COLOUR = (0.40, 0.76, 0.65)
PIXELS = 16  # a cell's side in pictures
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True, kw_only=True)
class KeysAndDoors(Game):
    """A grid of rooms, each behind a locked door, and a goal in the last one.

    The agent moves to a free neighbour; it picks up a key by stepping on it, and with a key it
    opens a door by stepping into it, which uses the key up. The goal is worth 1 - 0.9 x steps /
    most steps, as in MiniGrid, nothing else is worth anything. Moves into walls, and into doors
    without a key, are illegal.
    """

    side: int = knob(7, "cells of a side of the grid", low=3, high=32)
    doors: int = knob(1, "doors between the beginning and the goal", low=0, high=8)

    action_names = ("up", "down", "left", "right")
    has_legal = True

    @classmethod
    def smallest(cls, folder):
        return cls(episodes=24, side=4, doors=0)

    @property
    def most_steps(self) -> int:
        return 4 * self.side * self.side

    def problems(self):
        if self.side < 3 * self.doors + 2:
            yield (
                "doors",
                f"expected at most {max(0, (self.side - 2) // 3)} on a grid of side {self.side}."
                f" Received: {self.doors}.",
            )

    @property
    def observation(self):
        return Feature(shape=(self.side, self.side, len(PLANES)), dtype="uint8", unit="1: is there")

    @property
    def settings(self):
        return {"side": self.side, "doors": self.doors}

    def legal(self, observation):
        planes = dict(zip(PLANES, np.moveaxis(np.asarray(observation) > 0, -1, 0), strict=True))
        closed = planes["wall"] | (planes["door"] & ~planes["carried"])
        closed = np.pad(closed, ((0, 0), (1, 1), (1, 1)), constant_values=True)
        agent = np.pad(planes["agent"], ((0, 0), (1, 1), (1, 1)))
        # What is beside the agent: the board moved against the move
        beside = [np.roll(closed, (-down, -right), (1, 2)) & agent for down, right in MOVES]
        return 1 - np.stack([part.any((1, 2)) for part in beside], 1).astype(np.uint8)

    def environments(self, seeds):
        return _Grids(self, seeds)

    def card(self):
        return {
            "title": "keys and doors: rooms behind locked doors",
            "source": "made here; in the spirit of MiniGrid's DoorKey",
            "licence": "Apache-2.0, as this package",
            "citation": (
                "Chevalier-Boisvert, M. et al. (2023). Minigrid & Miniworld: Modular & customizable"
                " reinforcement learning environments for goal-oriented tasks. arXiv 2306.13831."
            ),
        }


class _Grids(Environments):
    """n grids; every part of their state is an array [n, ...]."""

    KEPT = ("walls", "keys", "doors", "goals", "place", "carried", "steps")

    def __init__(self, data: KeysAndDoors, seeds: np.ndarray):
        self.data, n, side = data, len(seeds), data.side
        self.rows = np.arange(n)
        for name in ("walls", "keys", "doors", "goals"):
            setattr(self, name, np.zeros((n, side, side), bool))
        self.place = np.zeros((n, 2), np.int64)
        self.carried, self.steps = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.restart(np.ones(n, bool), seeds)

    def restart(self, which, seeds):
        """Walls stand in equal distances; where doors and keys, agent and goal are is random."""
        if not which.any():
            return
        side, doors = self.data.side, self.data.doors
        random = Streams(seeds[which])
        rows = np.arange(which.sum())
        ends = [(side + 1) * (i + 1) // (doors + 1) - 1 for i in range(doors)]
        walls, keys, gates, goals = (np.zeros((len(rows), side, side), bool) for _ in range(4))
        walls[:, :, ends] = True
        firsts = [0, *(end + 1 for end in ends)]
        place = self._anywhere(random, firsts[0], (*ends, side)[0])
        for first, end in zip(firsts, ends, strict=False):
            row = random.integers(side)
            gates[rows, row, end], walls[rows, row, end] = True, False
            key = self._anywhere(random, first, end)
            if first == 0:  # not where the agent stands
                same = (key == place).all(1)
                key[:, 0] = np.where(same, (key[:, 0] + 1) % side, key[:, 0])
            keys[rows, key[:, 0], key[:, 1]] = True
        goal = self._anywhere(random, firsts[-1], side)
        if not ends:
            same = (goal == place).all(1)
            goal[:, 0] = np.where(same, (goal[:, 0] + 1) % side, goal[:, 0])
        goals[rows, goal[:, 0], goal[:, 1]] = True
        for name, value in (("walls", walls), ("keys", keys), ("doors", gates), ("goals", goals)):
            getattr(self, name)[which] = value
        self.place[which] = place
        self.carried[which], self.steps[which] = 0, 0

    def _anywhere(self, random: Streams, first: int, end: int) -> np.ndarray:
        """A random cell in the columns from `first` on and before `end`, int64 [n, 2]."""
        return np.stack([random.integers(self.data.side), first + random.integers(end - first)], 1)

    def observe(self):
        agent = np.zeros_like(self.walls)
        agent[self.rows, self.place[:, 0], self.place[:, 1]] = True
        carried = np.broadcast_to(self.carried[:, None, None] > 0, agent.shape)
        planes = (self.walls, agent, self.keys, self.doors, self.goals, carried)
        observation = np.stack(planes, -1).astype(np.uint8)
        return {"observation": observation, "legal": self.data.legal(observation)}

    def step(self, action):
        there = self.place + np.array(MOVES)[action]
        inside = ((there >= 0) & (there < self.data.side)).all(1)
        row, column = np.clip(there, 0, self.data.side - 1).T
        locked = self.doors[self.rows, row, column] & (self.carried == 0)
        is_open = inside & ~self.walls[self.rows, row, column] & ~locked
        self.place = np.where(is_open[:, None], there, self.place)
        row, column = self.place.T
        self.carried = self.carried + self.keys[self.rows, row, column]
        self.carried = self.carried - self.doors[self.rows, row, column]
        self.keys[self.rows, row, column] = False
        self.doors[self.rows, row, column] = False
        self.steps = self.steps + 1
        arrived = self.goals[self.rows, row, column]
        worth = 1 - 0.9 * self.steps / self.data.most_steps
        reward = np.where(arrived, worth, 0.0).astype(np.float32)
        return reward, arrived, ~arrived & (self.steps >= self.data.most_steps)

    def frame(self, place):
        planes = self.observe()["observation"][place]
        picture = np.full((*planes.shape[:2], 3), 0.08)
        for plane, colour in ((0, COLOURS[0]), (3, COLOURS[3]), (4, GOAL_COLOUR), (2, COLOURS[2])):
            picture = np.where(planes[..., plane, None] > 0, colour, picture)
        picture = np.where(planes[..., 1, None] > 0, COLOURS[1], picture)
        return np.kron((255 * picture).astype(np.uint8), np.ones((PIXELS, PIXELS, 1), np.uint8))

    def state(self):
        return {name: getattr(self, name) for name in self.KEPT}

    def restore(self, state):
        for name in self.KEPT:
            setattr(self, name, np.array(state[name]))
