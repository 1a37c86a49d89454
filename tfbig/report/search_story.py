"""What a search directory tells: its trials, their values and how these are shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfbig.report.console import metric_value

if TYPE_CHECKING:
    from tfbig.tuning.search import Search

RECIPE = "the recipe's own settings"


class Story:
    """A search's files, read once.

    Attributes:
        values: trial -> the values proposed for it, in the order of their start.
        outcomes: trial -> its outcome, in the order of their end.
        best: what best.json holds; empty before the search is over.
        searched: the parameters with more than one value.
        done: the completed trials, without the baseline and without further seeds.
        runs: of these, each configuration once, with the most training it got.
    """

    def __init__(self, search: Search):
        self.search = search
        self.primary, self.better = search.base.task.primary
        self.values: dict[str, dict] = {}
        self.outcomes: dict[str, dict] = {}
        for line in search.journal():
            if line["event"] == "start":
                self.values[line["trial"]] = line["values"]
            elif line["event"] == "end":
                self.outcomes[line["trial"]] = line["outcome"]
        self.best = search.read_json("best.json") or {}
        self.searched = [p for p in search.space.parameters if len(p.probes) > 1]
        self.done = [
            trial
            for trial, outcome in self.outcomes.items()
            if trial.isdigit() and outcome["status"] == "completed"
        ]
        promoted = self.promoted(self.done)
        self.runs = [trial for trial in self.done if trial not in promoted]

    def promoted(self, trials: list[str]) -> set[str | None]:
        """The trials whose runs some of these continued, as hyperband does."""
        return {self.values[trial].get("tuner/trial_id") for trial in trials}

    def value(self, trial: str) -> float:
        return self.outcomes[trial]["metrics"][self.primary]

    def show(self, value: float | None) -> str:
        return metric_value(value, self.unit(self.primary))

    def unit(self, name: str) -> str:
        """The unit in which a metric is shown."""
        return self.search.base.task.metric_units.get(name, "")

    def spread(self, low: float, high: float, name: str | None = None) -> str:
        """An interval for people.

        That of a share ends at 0 and 1, which Student's does not know.
        """
        name = name or self.primary
        unit = self.unit(name)
        if unit == "%":
            low, high = max(0.0, low), min(1.0, high)
        return f"{metric_value(low, unit)} to {metric_value(high, unit)}"

    def mean(self, metric: dict, name: str) -> list[str]:
        """A cell: the mean over seeds; its interval and the values."""
        unit = self.unit(name)
        values = ", ".join(metric_value(value, unit) for value in metric["values"])
        if metric["low"] is not None:
            values = f"{self.spread(metric['low'], metric['high'], name)}; {values}"
        return [metric_value(metric["mean"], unit), values]

    def difference(self, value: float) -> str:
        if self.unit(self.primary) == "%":
            return f"{100 * value:+.2f} points"
        return f"{value:+.4g}"

    def gained(self, gain: dict) -> str:
        """A difference of two means, with its interval if it has one."""
        text = self.difference(gain["mean"])
        if gain["low"] is None:
            return text
        low, high = (self.difference(gain[limit]) for limit in ("low", "high"))
        return f"{text} (95 % interval {low} to {high})"
