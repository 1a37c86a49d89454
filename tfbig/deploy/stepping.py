"""A model that runs by its stepwise programs, measured as its whole prediction is.

Part of `worker.py`'s process.

Shapes: b rows, s steps, v values to choose from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

KEPT_BYTES = 512 * 2**20  # of the rows handled together
TIE = 1e-4  # scores closer than this, relative to 1 + |score|, may change places

Call = Callable[[dict], dict]


class Stepping:
    """The stepwise programs of an artefact, as functions of arrays by name.

    Called with unrolled examples (start__NAME [b, ...], given__NAME [b, s, ...], choices [b, s]),
    it gives what `Task.predict` gives for them, one step after another.

    Args:
        plan: what the artefact declares; "outputs" as `Stepwise.outputs`, and "zeros": type and
            shape of what is carried where there is no start, name -> [dtype, sizes of a row].
        state: the class `State` of steps.py.
        step, start: the programs.
    """

    def __init__(self, plan: dict, state: type, step: Call, start: Call | None):
        self.plan, self.state, self.step, self.start = plan, state, step, start

    def __call__(self, rows: dict) -> dict:
        size = len(next(iter(rows.values())))
        state, _ = self._begin({name: value[:1] for name, value in rows.items()})
        most = max(1, KEPT_BYTES // max(1, sum(kept.nbytes for kept in state.kept.values())))
        chunks = [
            self._unrolled({name: value[i : i + most] for name, value in rows.items()})
            for i in range(0, size, most)
        ]
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def _begin(self, rows: dict) -> tuple:
        """The state before the first step, and what the start gave."""
        size = len(next(iter(rows.values())))
        start = _without_prefix(rows, "start__")
        place = np.zeros(size, np.int32)
        if self.plan["count"]:
            place = np.asarray(start[self.plan["count"]], np.int32)
        if self.start is None:
            zeros = {
                name: np.zeros((size, *sizes), dtype)
                for name, (dtype, sizes) in self.plan["zeros"].items()
            }
            return self.state(self.plan, place, zeros), {}
        outputs = self.start(start)
        return self.state(self.plan, place, outputs), outputs

    def _unrolled(self, rows: dict) -> dict:
        state, outputs = self._begin(rows)
        given = _without_prefix(rows, "given__")
        choices = rows.get("choices")
        measured: dict[str, list] = {name: [] for name in self.plan["outputs"]}
        total = next(iter(given.values())).shape[1] if choices is None else choices.shape[1]
        step = 0
        for number in range(total):
            if number or state.scores is None:
                chosen = self._chosen(rows, number)
                outputs = self.step(
                    state.inputs({name: _at(value, step) for name, value in given.items()}, chosen)
                )
                state.take(outputs)
                step += 1
            choice = None if choices is None else choices[:, number]
            for name, (source, measure) in self.plan["outputs"].items():
                if measure != "greedy":
                    measured[name].append(MEASURES[measure](outputs[source], choice))
        return {
            name: np.stack(values, 1) if values else self._chosen_freely(rows)
            for name, values in measured.items()
        }

    def _chosen_freely(self, rows: dict) -> np.ndarray:
        """The likeliest choices one after another, int32 [b, s], with zeros behind the end."""
        choices = np.zeros_like(rows["choices"], np.int32)
        free = {**rows, "choices": choices}
        state, _ = self._begin(rows)
        for number in range(choices.shape[1]):
            if number or state.scores is None:
                state.take(self.step(state.inputs({}, self._chosen(free, number))))
            choices[:, number] = state.scores.argmax(-1)
        is_end = choices == self.plan["end"]
        return np.where(is_end.cumsum(1) > is_end, np.int32(0), choices)

    def _chosen(self, rows: dict, number: int) -> np.ndarray | None:
        """What stands before the choice of this number."""
        if not self.plan["chosen"]:
            return None
        if number:
            return _at(rows["choices"], number - 1)
        return np.full(len(rows["choices"]), self.plan["first"], np.int32)

    def greedy(self, choices: np.ndarray, **start: np.ndarray) -> dict:
        """How many of the likeliest choices are not those expected, int [b, s].

        Where another one has practically the same score it is a tie: it is counted, and the
        expected one is gone on with.

        Args:
            choices: what is expected.
            start: inputs of the program that starts, start__NAME -> [b, ...].
        """
        rows = {**start, "choices": choices}
        state, _ = self._begin(rows)
        row = np.arange(len(choices))
        changed = ties = 0
        for number, wanted in enumerate(choices.T):
            if number or state.scores is None:
                state.take(self.step(state.inputs({}, self._chosen(rows, number))))
            best = state.scores.max(-1)
            other = state.scores.argmax(-1) != wanted
            near = best - state.scores[row, wanted] <= TIE * (1 + np.abs(best))
            ties += int((other & near).sum())
            changed += int((other & ~near).sum())
        return {"choices": int(choices.size), "changed": changed, "ties": ties}

    def first_inputs(self, rows: dict) -> dict:
        """Inputs of the first step of these rows."""
        state, _ = self._begin(rows)
        given = {name: _at(value, 0) for name, value in _without_prefix(rows, "given__").items()}
        return state.inputs(given, self._chosen(rows, 0 if state.scores is None else 1))


def _log_probability(scores_bv: np.ndarray, choice_b: np.ndarray) -> np.ndarray:
    scores = scores_bv.astype(np.float64)
    scores -= scores.max(-1, keepdims=True)
    own = scores[np.arange(len(scores)), choice_b]
    return (own - np.log(np.exp(scores).sum(-1))).astype(np.float32)


def _likeliest(scores_bv: np.ndarray, choice_b: np.ndarray) -> np.ndarray:
    return scores_bv.argmax(-1) == choice_b


def _same(output: np.ndarray, choice_b: np.ndarray | None) -> np.ndarray:
    return output


MEASURES = {"same": _same, "log_probability": _log_probability, "likeliest": _likeliest}


def _without_prefix(rows: dict, prefix: str) -> dict:
    return {name[len(prefix) :]: value for name, value in rows.items() if name.startswith(prefix)}


def _at(values: np.ndarray, step: int) -> np.ndarray:
    return np.ascontiguousarray(values[:, step])
