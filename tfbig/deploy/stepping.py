"""Runs a language model by its `prefill` and `step` programs, as a server of streams does.

Part of `worker.py`'s process.

Shapes: b rows, c the context, n new tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CACHE_BYTES = 512 * 2**20  # of the rows handled together
TIE = 1e-4  # scores closer than this, relative to 1 + |score|, may change places

Call = Callable[[dict], dict]


class Stepping:
    """Both programs, as functions of arrays by name.

    Called with {"tokens": int32 [b, c + 1], "length"}, it gives what `Task.predict` gives for such
    windows, one token after
    another: the `log_probability` of each target and whether it was the likeliest (`right`), [b,
        c].
    """

    def __init__(self, prefill: Call, step: Call):
        self.prefill, self.step = prefill, step

    def __call__(self, rows: dict) -> dict:
        tokens = rows["tokens"]
        first = self.prefill({"tokens": tokens[:1, :1], "count": np.ones(1, np.int32)})
        most = max(1, CACHE_BYTES // max(1, sum(part.nbytes for part in _cache(first).values())))
        parts = [self._windows(tokens[i : i + most]) for i in range(0, len(tokens), most)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _windows(self, tokens: np.ndarray) -> dict:
        size, context = len(tokens), tokens.shape[1] - 1
        found = {
            "log_probability": np.zeros((size, context), np.float32),
            "right": np.zeros((size, context), bool),
        }
        state = self.prefill(
            {"tokens": np.ascontiguousarray(tokens[:, :1]), "count": np.ones(size, np.int32)}
        )
        for i in range(context):
            logits, target = state["logits"].astype(np.float64), tokens[:, i + 1]
            logits -= logits.max(-1, keepdims=True)
            found["log_probability"][:, i] = logits[np.arange(size), target] - np.log(
                np.exp(logits).sum(-1)
            )
            found["right"][:, i] = logits.argmax(-1) == target
            if i + 1 < context:
                state = self.step(
                    {
                        "token": np.ascontiguousarray(target),
                        "position": np.full(size, i + 1, np.int32),
                        **_cache(state),
                    }
                )
        return found

    def greedy(self, tokens: np.ndarray, count: np.ndarray, expected: np.ndarray) -> dict:
        """How many of the most probable tokens behind some prompts are not those expected, [b, n].

        Where another token has practically the same score it is a tie: it is counted, and the
        expected one is gone on with.
        """
        state, rows, changed, ties = (
            self.prefill({"tokens": tokens, "count": count}),
            np.arange(len(tokens)),
            0,
            0,
        )
        for i, wanted in enumerate(expected.T):
            logits = state["logits"]
            best = logits.max(-1)
            other = logits.argmax(-1) != wanted
            near = best - logits[rows, wanted] <= TIE * (1 + np.abs(best))
            ties, changed = ties + int((other & near).sum()), changed + int((other & ~near).sum())
            if i + 1 < expected.shape[1]:
                position = (count + i).astype(np.int32)
                state = self.step(
                    {"token": np.ascontiguousarray(wanted), "position": position, **_cache(state)}
                )
        return {"tokens": int(expected.size), "changed": changed, "ties": ties}

    def one(self, size: int) -> dict:
        """Inputs of one step of so many rows."""
        state = self.prefill(
            {"tokens": np.zeros((size, 1), np.int32), "count": np.ones(size, np.int32)}
        )
        return {
            "token": np.zeros(size, np.int32),
            "position": np.ones(size, np.int32),
            **_cache(state),
        }


def _cache(state: dict) -> dict:
    return {name: value for name, value in state.items() if name != "logits"}
