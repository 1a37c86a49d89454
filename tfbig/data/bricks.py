"""Bricks: a paddle, a ball and a wall of bricks on a board of 10 x 10."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.environments import Environments
from tfbig.core.features import Feature
from tfbig.core.lazy import np
from tfbig.data._games import Game
from tfbig.prep.streams import Streams

SIDE = 10
WALL = slice(1, 4)  # rows of bricks
FIRST_ROW = 3  # of the ball
PLANES = ("paddle", "ball", "trail", "bricks")
COLOURS = ((0.40, 0.76, 0.65), (0.98, 0.55, 0.38), (0.45, 0.28, 0.22), (0.55, 0.63, 0.80))
PIXELS = 12  # a cell's side in pictures


@dataclass(frozen=True, kw_only=True)
class Bricks(Game):
    """A paddle, a ball and a wall of bricks on a board of 10 x 10, as in MinAtar's Breakout.

    Each brick is worth 1. An episode ends when the ball passes the paddle; a wall that is gone is
    built anew. The ball goes diagonally, one cell a step; where it comes from is seen as its trail.
    """

    sticky: float = knob(
        0.1, "probability that the last action is repeated instead of the new one", low=0, high=1
    )
    most_steps: int = knob(1_000, "steps after which an episode is cut off", low=1)

    action_names = ("stay", "left", "right")

    @classmethod
    def smallest(cls, folder):
        return cls(episodes=12, most_steps=60)

    @property
    def observation(self):
        return Feature(shape=(SIDE, SIDE, len(PLANES)), dtype="uint8", unit="1: is there")

    @property
    def settings(self):
        return {"sticky": self.sticky, "most_steps": self.most_steps}

    def environments(self, seeds):
        return _Boards(self, seeds)

    def card(self):
        return {
            "title": "bricks: a paddle, a ball and a wall",
            "source": "made here; rules of Breakout on a small board as MinAtar has it",
            "licence": "Apache-2.0, as this package",
            "citation": (
                "Young, K. and Tian, T. (2019). MinAtar: An Atari-inspired testbed for thorough and"
                " reproducible reinforcement learning experiments. arXiv 1903.03176."
            ),
        }


class _Boards(Environments):
    """n boards; every part of their state is an array [n, ...]."""

    KEPT = ("row", "column", "down", "right", "paddle", "trail", "bricks", "last", "steps")

    def __init__(self, data: Bricks, seeds: np.ndarray):
        self.data, n = data, len(seeds)
        self.rows = np.arange(n)
        self.streams = Streams(seeds)
        for name in self.KEPT:
            setattr(self, name, np.zeros(n, np.int64))
        self.trail = np.zeros((n, 2), np.int64)
        self.bricks = np.zeros((n, SIDE, SIDE), bool)
        self.restart(np.ones(n, bool), seeds)

    def restart(self, which, seeds):
        self.streams.restart(which, seeds)
        if not which.any():
            return
        from_left = Streams(seeds).integers(2) == 0
        self.row[which], self.paddle[which] = FIRST_ROW, SIDE // 2 - 1
        self.column = np.where(which, np.where(from_left, 0, SIDE - 1), self.column)
        self.right = np.where(which, np.where(from_left, 1, -1), self.right)
        self.down[which], self.last[which], self.steps[which] = 1, 0, 0
        self.trail[which] = np.stack([self.row, self.column], 1)[which]
        self.bricks[which] = False
        self.bricks[which, WALL] = True

    def observe(self):
        planes = np.zeros((len(self.rows), SIDE, SIDE, len(PLANES)), np.uint8)
        planes[self.rows, SIDE - 1, self.paddle, 0] = 1
        planes[self.rows, self.row, self.column, 1] = 1
        planes[self.rows, self.trail[:, 0], self.trail[:, 1], 2] = 1
        planes[..., 3] = self.bricks
        return {"observation": planes}

    def step(self, action):
        sticks = self.streams.uniform() < self.data.sticky
        action = np.where(sticks, self.last, action)
        self.last = action
        self.paddle = np.clip(self.paddle + (action == 2) - (action == 1), 0, SIDE - 1)
        self.trail = np.stack([self.row, self.column], 1)
        self.steps = self.steps + 1
        # Off the sides and the ceiling
        column = self.column + self.right
        bounces = (column < 0) | (column >= SIDE)
        self.right = np.where(bounces, -self.right, self.right)
        column = np.where(bounces, self.column, column)
        row = np.minimum(self.row + self.down, SIDE - 1)  # behind an end, too, it is on the board
        ceiling = row < 0
        row, self.down = np.where(ceiling, 0, row), np.where(ceiling, 1, self.down)
        # A brick sends the ball back, and it stays in its row
        hits = self.bricks[self.rows, row, column]
        self.bricks[self.rows, row, column] = False
        # At the bottom: above the paddle it goes back up, at its edge also sideways
        bottom = ~hits & (row == SIDE - 1)
        empty = bottom & ~self.bricks.any((1, 2))
        self.bricks[empty, WALL] = True
        straight = bottom & (self.paddle == self.column)
        edge = bottom & ~straight & (self.paddle == column)
        lost = bottom & ~straight & ~edge
        back = hits | straight | edge
        self.down = np.where(back, -self.down, self.down)
        self.right = np.where(edge, -self.right, self.right)
        self.row, self.column = np.where(back, self.row, row), column
        return hits.astype(np.float32), lost, self.steps >= self.data.most_steps

    def frame(self, place):
        planes = self.observe()["observation"][place].astype(np.float64)
        picture = np.full((SIDE, SIDE, 3), 0.08)
        for plane in (2, 3, 0, 1):  # the ball is on top
            picture = np.where(planes[..., plane, None] > 0, COLOURS[plane], picture)
        return np.kron((255 * picture).astype(np.uint8), np.ones((PIXELS, PIXELS, 1), np.uint8))

    def state(self):
        return {"stream": self.streams.state, **{name: getattr(self, name) for name in self.KEPT}}

    def restore(self, state):
        self.streams.state = state["stream"]
        for name in self.KEPT:
            setattr(self, name, np.array(state[name]))
