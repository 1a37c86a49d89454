"""Connect Four against a fixed opponent, who plays at random or sees one move ahead."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.environments import Environments
from tfbig.core.errors import UserError
from tfbig.core.features import Feature
from tfbig.core.lazy import np
from tfbig.data._games import Game
from tfbig.prep.streams import Streams

HEIGHT, WIDTH, ROW = 6, 7, 4  # rows, columns, stones in a row that win
PLANES = ("own", "other")
COLOURS = ((0.98, 0.55, 0.38), (1.0, 0.85, 0.2))
PIXELS = 16  # a cell's side in pictures


@dataclass(frozen=True, kw_only=True)
class ConnectFour(Game):
    """Connect Four against a fixed opponent, who plays at random or sees one move ahead.

    A win is worth 1, a loss -1, a draw 0. Who begins is random. "one_ply" wins where it can at
    once, else keeps the agent from winning at once, else plays at random.
    """

    opponent: str = knob("one_ply", "who is played against", choices=("one_ply", "random"))

    most_steps = HEIGHT * WIDTH // 2
    action_names = tuple(str(column) for column in range(1, WIDTH + 1))
    has_legal = True

    @property
    def observation(self):
        return Feature(shape=(HEIGHT, WIDTH, 2), dtype="uint8", unit="1: is there")

    @property
    def settings(self):
        return {"opponent": self.opponent}

    def legal(self, observation):
        return 1 - (np.asarray(observation)[:, 0] > 0).any(-1).astype(np.uint8)

    def environments(self, seeds):
        return _Boards(self, seeds)

    def card(self):
        return {
            "title": f"Connect Four against an opponent that plays {self.opponent}",
            "source": "made here, by the rules of the game",
            "licence": "Apache-2.0, as this package",
            "citation": (
                "Allis, V. (1988). A knowledge-based approach of Connect-Four. The game is solved:"
                " white wins. Master's thesis, Vrije Universiteit Amsterdam."
            ),
        }


def has_four(stones: np.ndarray) -> np.ndarray:
    """Whether four stand in a row, bool [n], of stones bool [n, height, width]."""
    found = np.zeros(len(stones), bool)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        parts = []
        for i in range(ROW):
            top, tail = i * down, HEIGHT - (ROW - 1 - i) * down
            left, end = i * right, WIDTH - (ROW - 1 - i) * right
            if right < 0:
                left, end = ROW - 1 - i, WIDTH - i
            parts.append(stones[:, top:tail, left:end])
        found |= np.logical_and.reduce(parts).any((1, 2))
    return found


class _Boards(Environments):
    """n boards; `stones` bool [n, 2, height, width] are the agent's and its opponent's."""

    def __init__(self, data: ConnectFour, seeds: np.ndarray):
        self.data, n = data, len(seeds)
        self.rows = np.arange(n)
        self.stones = np.zeros((n, 2, HEIGHT, WIDTH), bool)
        self.over = np.zeros(n, bool)
        self.streams = Streams(seeds)
        self.restart(np.ones(n, bool), seeds)

    def restart(self, which, seeds):
        self.streams.restart(which, seeds)
        self.stones[which], self.over[which] = False, False
        if which.any():
            first = Streams(seeds)  # of their own, so that others' episodes stay as they are
            begins = first.integers(2) == 0
            self._drop(1, first.integers(WIDTH), which & ~begins)

    def observe(self):
        observation = np.moveaxis(self.stones, 1, -1).astype(np.uint8)
        return {"observation": observation, "legal": self.data.legal(observation)}

    @property
    def _open(self) -> np.ndarray:
        """Columns that are not full, bool [n, width]."""
        return ~self.stones[:, :, 0].any(1)

    def _drop(self, player: int, column: np.ndarray, which: np.ndarray) -> None:
        """Lets stones fall where `which` says so; their columns are open there."""
        fallen = self.stones.any(1).sum(1)[self.rows, column]
        row = np.maximum(HEIGHT - 1 - fallen, 0)
        self.stones[self.rows[which], player, row[which], column[which]] = True

    def _winning(self, player: int) -> np.ndarray:
        """Columns in which a player wins at once, bool [n, width]."""
        wins = np.zeros((len(self.rows), WIDTH), bool)
        for column in range(WIDTH):
            row = HEIGHT - 1 - self.stones[:, :, :, column].any(1).sum(1)
            stones = self.stones[:, player].copy()
            stones[self.rows, np.maximum(row, 0), column] = True
            wins[:, column] = (row >= 0) & has_four(stones)
        return wins

    def _answer(self) -> np.ndarray:
        """The opponent's column, int64 [n]."""
        column = self.streams.choice(self._open)
        if self.data.opponent == "one_ply":
            for wins in (self._winning(0), self._winning(1)):  # its own win comes before a block
                column = np.where(wins.any(1), wins.argmax(1), column)
        return column

    def step(self, action):
        column, going = np.asarray(action).astype(np.int64), ~self.over
        wrong = going & ~self._open[self.rows, np.clip(column, 0, WIDTH - 1)]
        wrong |= going & ((column < 0) | (column >= WIDTH))
        if wrong.any():
            raise UserError(
                f"action: expected a column from 0 to {WIDTH - 1} that is not full. Received:"
                f" {column[wrong][0]}."
            )
        self._drop(0, column, going)
        won = going & has_four(self.stones[:, 0])
        going = going & ~won & self._open.any(1)
        answer = self._answer()
        self._drop(1, answer, going)
        lost = going & has_four(self.stones[:, 1])
        ended = self.over | won | lost | ~self._open.any(1)
        reward = won.astype(np.float32) - lost
        self.over = ended
        return reward, ended.copy(), np.zeros_like(ended)

    def frame(self, place):
        picture = np.full((HEIGHT, WIDTH, 3), 0.08)
        for stones, colour in zip(self.stones[place], COLOURS, strict=True):
            picture = np.where(stones[..., None], colour, picture)
        return np.kron((255 * picture).astype(np.uint8), np.ones((PIXELS, PIXELS, 1), np.uint8))

    def state(self):
        return {"stones": self.stones, "over": self.over, "stream": self.streams.state}

    def restore(self, state):
        self.stones, self.over = np.array(state["stones"]), np.array(state["over"])
        self.streams.state = state["stream"]
