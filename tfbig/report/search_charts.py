"""The charts of a search's report: how it went, which settings mattered, what the best cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tfbig.report.console import metric_value
from tfbig.report.search_story import RECIPE, Story

if TYPE_CHECKING:
    from tfbig.tuning.parameter import Parameter

COST_UNITS = {"latency": "ms for one example", "size": "MB of weights", "parameters": "parameters"}


def progress(story: Story) -> list[dict]:
    """The best value so far, over the completed trials in the order of their end."""
    if not story.done:
        return []
    better = max if story.better == "max" else min
    best = []
    for trial in story.done:
        best.append(better([*best[-1:], story.value(trial)]))
    numbers = list(range(1, len(story.done) + 1))
    series = [
        {"name": "best so far", "x": numbers, "y": best, "line": True},
        {"name": "trial", "x": numbers, "y": [story.value(trial) for trial in story.done]},
    ]
    levels = []
    if story.outcomes.get("baseline", {}).get("metrics"):
        levels = [{"name": RECIPE, "y": story.value("baseline")}]
    labels = {"x_label": "completed trials", "y_label": story.primary}
    chart = {"kind": "points", "title": "Best value so far"}
    return [{**chart, "series": series, "levels": levels, **labels}]


def importance(story: Story) -> list[dict]:
    """How much of what the search saw each setting explains."""
    shares = story.search.read_json("importance.json")
    if not shares:
        return []
    bars = {
        "labels": list(shares),
        "values": list(shares.values()),
        "x_label": "share of the explained variance",
    }
    caption = (
        "Permutation importance of a random forest fitted to the ranks of all completed trials."
    )
    return [{"kind": "bars", "title": "Importance of each setting", **bars, "caption": caption}]


def slices(story: Story) -> list[dict]:
    """The trials' values over each setting alone."""
    if not story.runs:
        return []
    chart = {"kind": "slices", "title": "Each setting alone", "y_label": story.primary}
    return [{**chart, "parts": [_slice(story, parameter) for parameter in story.searched]}]


def _slice(story: Story, parameter: Parameter) -> dict:
    trials = [trial for trial in story.runs if parameter.name in story.values[trial]]
    x = [story.values[trial][parameter.name] for trial in trials]
    ticks = None
    if parameter.kind == "in":
        ticks = list(parameter.choices)
        x = [ticks.index(_choice(parameter, value)) for value in x]
    return {
        "label": parameter.name,
        "x": x,
        "y": [story.value(trial) for trial in trials],
        "log": parameter.kind == "log",
        "ticks": ticks,
    }


def parallel(story: Story) -> list[dict]:
    """All settings together: an axis for each, a line for each configuration."""
    if len(story.searched) < 2 or len(story.runs) < 2:
        return []
    axes = [{"label": p.name, "ticks": _ticks(p)} for p in story.searched]
    lines = [{"values": _places(story, trial), "value": story.value(trial)} for trial in story.runs]
    colours = {"label": story.primary, "better": story.better}
    caption = (
        "One line for each configuration, the best one thick; colours tell the better half apart."
    )
    chart = {"kind": "parallel", "title": "", "axes": axes, "lines": lines}
    return [{**chart, **colours, "caption": caption}]


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    """What stands along a parameter's axis: (place from 0 to 1, text)."""
    if parameter.kind == "in":
        last = max(1, len(parameter.choices) - 1)
        return [(index / last, choice) for index, choice in enumerate(parameter.choices)]
    return [(0.0, f"{parameter.low:.4g}"), (1.0, f"{parameter.high:.4g}")]


def _places(story: Story, trial: str) -> list[float | None]:
    """Where a trial's line crosses each axis; None where it has no such setting."""
    values = story.values[trial]
    return [_place(p, values[p.name]) if p.name in values else None for p in story.searched]


def _place(parameter: Parameter, value) -> float:
    """A value's place on its axis, 0 to 1."""
    if parameter.kind == "in":
        index = parameter.choices.index(_choice(parameter, value))
        return index / max(1, len(parameter.choices) - 1)
    if parameter.kind == "log":
        return math.log(value / parameter.low) / math.log(parameter.high / parameter.low)
    return (value - parameter.low) / (parameter.high - parameter.low)


def _choice(parameter: Parameter, value) -> str:
    """The choice that a value is, which may have become a number."""
    if str(value) in parameter.choices:
        return str(value)
    return next(choice for choice in parameter.choices if float(choice) == float(value))


def front(story: Story) -> list[dict]:
    """The trials against what they cost, and a table of the Pareto front."""
    trials = [
        trial
        for trial, outcome in story.outcomes.items()
        if outcome["status"] == "completed" and "_seed_" not in trial
    ]
    if not trials:
        return []
    objectives = list(story.search.objectives)
    costs = objectives[1:] or ["parameters"]
    panels = [_cost(story, trials, cost, joined=len(costs) == 1) for cost in costs]
    if story.best.get("front"):
        rows = [
            [
                [trial["trial"], " ".join(trial["settings"]) or RECIPE],
                *(metric_value(trial[name], story.unit(name)) for name in objectives),
            ]
            for trial in story.best["front"]
        ]
        title = "Pareto front: no trial is better in everything"
        headers = ["trial", *objectives]
        panels.append({"kind": "table", "title": title, "headers": headers, "rows": rows})
    return panels


def _cost(story: Story, trials: list[str], cost: str, joined: bool) -> dict:
    """Trials by their cost and their value, those of the Pareto front apart and by name."""

    def cost_of(trial: str) -> float:
        return story.outcomes[trial]["metrics"][cost]

    def points(name: str, names: list[str]) -> dict:
        x, y = [cost_of(trial) for trial in names], [story.value(trial) for trial in names]
        return {"name": name, "x": x, "y": y}

    on_front = [trial["trial"] for trial in story.best.get("front", [])]
    others = [trial for trial in trials if trial not in on_front]
    series = [points("trials", others)] if others else []
    if on_front:
        names = sorted(on_front, key=cost_of)
        series.append({**points("Pareto front", names), "labels": names, "line": joined})
    labels = {"x_label": COST_UNITS[cost], "y_label": story.primary, "log_x": cost == "parameters"}
    return {"kind": "points", "title": f"{story.primary} and {cost}", "series": series, **labels}
