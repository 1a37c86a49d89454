"""The order of a search's trials: which are best, and which no other one dominates."""

from __future__ import annotations

from tfbig.core.lazy import np
from tfbig.tuning.oracles import PARENT
from tfbig.tuning.search import Search


def ranked(search: Search, values: dict[str, dict], outcomes: dict[str, dict]) -> list[str]:
    """The completed trials, best first, one for each configuration.

    With several objectives those of the Pareto front come first, with hyperband those that were
    trained longest.

    Args:
        search: the search directory.
        values: trial -> the values proposed for it.
        outcomes: trial -> its outcome.
    """
    objectives = search.objectives
    primary, better = search.base.task.primary
    good = {
        trial: outcome
        for trial, outcome in outcomes.items()
        if trial.isdigit() and outcome["status"] == "completed"
    }
    longest = 0
    if search.tune.algorithm == "hyperband":
        longest = max((outcome["evaluations"] for outcome in good.values()), default=0)
    points = [[outcome["metrics"][name] for name in objectives] for outcome in good.values()]
    front = dict(zip(good, pareto(points, list(objectives.values())), strict=True))
    sign = -1 if better == "max" else 1

    def rank(trial: str) -> tuple:
        outcome = good[trial]
        return (
            outcome["stopped"] == "paused" and outcome["evaluations"] < longest,
            len(objectives) > 1 and not front[trial],
            sign * outcome["metrics"][primary],
        )

    promoted = {values[trial].get(PARENT) for trial in good}
    first: dict[tuple, str] = {}
    for trial in sorted((trial for trial in good if trial not in promoted), key=rank):
        first.setdefault(tuple(good[trial]["settings"]), trial)
    return list(first.values())


def pareto(points: list[list[float]], better: list[str]) -> list[bool]:
    """Which points no other one dominates.

    A point dominates another if it is at least as good in everything and better in something.

    Args:
        points: [n][objectives].
        better: "max" or "min" for each objective.
    """
    if not points:
        return []
    signed = np.array(points, dtype=float) * [
        -1.0 if direction == "max" else 1.0 for direction in better
    ]
    at_least = (signed[:, None] <= signed[None]).all(-1)  # [i, j]: i is as good as j in everything
    return [
        not bool((at_least[:, j] & (signed < signed[j]).any(-1)).any()) for j in range(len(signed))
    ]
