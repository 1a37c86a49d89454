"""The report of a search.

One self-contained HTML file, made from the files in the search directory.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tfbig.report import page
from tfbig.report.console import duration_text, metric_value
from tfbig.report.page import Headline, section

if TYPE_CHECKING:
    from tfbig.tuning.parameter import Parameter
    from tfbig.tuning.search import Search

COST_UNITS = {"latency": "ms for one example", "size": "MB of weights", "parameters": "parameters"}
RECIPE = "the recipe's own settings"


def write(search: Search) -> Path:
    """Writes DIR/report.html from whatever the search directory holds by now.

    Returns its path.
    """
    story = _Story(search)
    sections = [
        *section("Settings that won", story.winner, lines=story.verdict()),
        *section("Finalists, trained again", story.finalists),
        *section("Progress and time", lambda: story.progress() + story.time()),
        *section(
            "What mattered", lambda: story.importance() + story.slices(), lines=story.too_few()
        ),
        *section("All settings together", story.parallel),
        *section(f"{story.primary.capitalize()} against cost", story.front),
        *section("Trials", story.trials),
    ]
    path = story.search.path / "report.html"
    page.write(path, story.search.path.resolve().name, story.headline(), sections)
    return path


class _Story:
    """A search's files, read once, and the panels made of them."""

    def __init__(self, search: Search):
        self.search, (self.primary, self.better) = search, search.base.task.primary
        self.values: dict[str, dict] = {}
        self.outcomes: dict[str, dict] = {}
        self.times: dict[str, list[float]] = {}
        for line in search.journal():
            if line["event"] == "start":
                self.values[line["trial"]] = line["values"]
                self.times[line["trial"]] = [line["time"]]
            elif line["event"] == "end":
                self.outcomes[line["trial"]] = line["outcome"]
                self.times[line["trial"]].append(line["time"])
        self.best = search.read_json("best.json") or {}
        self.searched = [p for p in search.space.parameters if len(p.probes) > 1]
        self.done = [
            t for t, o in self.outcomes.items() if t.isdigit() and o["status"] == "completed"
        ]
        gone_on = {self.values[t].get("tuner/trial_id") for t in self.done}
        self.runs = [
            t for t in self.done if t not in gone_on
        ]  # each configuration once, with the most training it got

    def value(self, trial: str) -> float:
        return self.outcomes[trial]["metrics"][self.primary]

    def show(self, value: float | None) -> str:
        return metric_value(self.primary, value)

    def spread(self, low: float, high: float, name: str | None = None) -> str:
        """An interval for people.

        That of a share ends at 0 and 1, which Student's does not know.
        """
        name = name or self.primary
        if name.endswith("accuracy"):
            low, high = max(0.0, low), min(1.0, high)
        return f"{metric_value(name, low)} to {metric_value(name, high)}"

    def difference(self, value: float) -> str:
        return (
            f"{100 * value:+.2f} points" if self.primary.endswith("accuracy") else f"{value:+.4g}"
        )

    def gained(self, gain: dict) -> str:
        text = self.difference(gain["mean"])
        if gain["low"] is None:
            return text
        return (
            f"{text} (95 % interval {self.difference(gain['low'])} to"
            f" {self.difference(gain['high'])})"
        )

    def headline(self) -> Headline:
        tune, failed = (
            self.search.tune,
            sum(outcome["status"] == "failed" for outcome in self.outcomes.values()),
        )
        line = f"Search of {self.search.saved['recipe']}: {tune.algorithm}, seed {tune.seed}, "
        line += f"{len(self.done)} trials completed, {failed} failed"
        if not self.best:
            return Headline(lines=[line])
        shown, what = self.best.get("test", {}).get(self.primary), "test"
        if not shown:
            validation = self.best["validation"]
            shown, what = (
                {**validation, "mean": validation["mean"] or validation["searched"]},
                "validation",
            )
        text = f"{what} {self.primary} of the winner"
        if shown["low"] is not None:
            text += (
                f", 95 % interval {self.spread(shown['low'], shown['high'])} over"
                f" {len(shown['values'])} seeds"
            )
        return Headline(self.show(shown["mean"]), text, [line])

    def verdict(self) -> list[str]:
        """What the winner gains, in words."""
        if not self.best:
            return ["No trial has won yet."]
        gain, test_gain = self.best["gain"], self.best.get("test_gain")
        if self.best["trial"] == "baseline":
            return [f"Nothing that was tried is better than {RECIPE}."]
        if gain is None:
            return []
        said = f"Against {RECIPE}: {self.gained(gain)} of validation {self.primary}"
        return [
            f"{said}, {self.gained(test_gain)} of test {self.primary}." if test_gain else f"{said}."
        ]

    def winner(self) -> list[dict]:
        """The line that trains the winner.

        The winner and the recipe on the test split, metric by metric.
        """
        if not self.best:
            return []
        caption = f"trial {self.best['trial']}, run {self.best['run']}"
        panels = [{"kind": "texts", "title": "", "items": [self.best["line"]], "caption": caption}]
        test = {"the winner": self.best.get("test"), RECIPE: self.best.get("test_baseline")}
        test = {who: metrics for who, metrics in test.items() if metrics}
        names = list(dict.fromkeys(name for metrics in test.values() for name in metrics))
        rows = [
            [name, *(self.mean(metrics[name], name) for metrics in test.values())] for name in names
        ]
        caption = (
            "Means over seeds with their 95 % interval, and each seed. The test split was read once"
            " the search was over, for"
        )
        caption += " these runs alone; what was gained is counted over the seeds that both have."
        table = {
            "kind": "table",
            "title": "On the test split",
            "headers": ["", *test],
            "rows": rows,
            "caption": caption,
        }
        return [*panels, table] if rows else panels

    def mean(self, metric: dict, name: str) -> list[str]:
        """A cell: the mean over seeds; its interval and the values."""
        spread = (
            f"{self.spread(metric['low'], metric['high'], name)}; "
            if metric["low"] is not None
            else ""
        )
        return [
            metric_value(name, metric["mean"]),
            spread + ", ".join(metric_value(name, value) for value in metric["values"]),
        ]

    def finalists(self) -> list[dict]:
        if not self.best or not any(finalist["values"] for finalist in self.best["finalists"]):
            return []
        finalists = self.best["finalists"]
        rows = [
            [each["trial"], self.show(each["searched"]), self.mean(each, self.primary)]
            for each in finalists
        ]
        headers = ["trial", "in the search", "with other seeds"]
        caption = (
            "The best of many noisy trials owes part of its value to luck: the mean over seeds that"
            " the search did not see"
        )
        caption += " decides. Below it, its 95 % interval and each seed."
        return [
            {"kind": "table", "title": "", "headers": headers, "rows": rows, "caption": caption}
        ]

    def too_few(self) -> list[str]:
        return (
            []
            if self.search.read_json("importance.json")
            else ["Too few trials to say which settings mattered."]
        )

    def importance(self) -> list[dict]:
        shares = self.search.read_json("importance.json")
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

    def position(self, parameter: Parameter, value) -> float:
        """A value's place on its axis, 0 to 1."""
        if parameter.kind == "in":
            return parameter.choices.index(self.choice(parameter, value)) / max(
                1, len(parameter.choices) - 1
            )
        if parameter.kind == "log":
            return math.log(value / parameter.low) / math.log(parameter.high / parameter.low)
        return (value - parameter.low) / (parameter.high - parameter.low)

    @staticmethod
    def choice(parameter: Parameter, value) -> str:
        """The choice that a value is, which may have become a number."""
        same = [choice for choice in parameter.choices if choice == str(value)]
        return (
            same[0]
            if same
            else next(choice for choice in parameter.choices if float(choice) == float(value))
        )

    def slices(self) -> list[dict]:
        parts = [self.slice(parameter) for parameter in self.searched]
        return (
            [
                {
                    "kind": "slices",
                    "title": "Each setting alone",
                    "y_label": self.primary,
                    "parts": parts,
                }
            ]
            if self.runs
            else []
        )

    def slice(self, parameter: Parameter) -> dict:
        shown = [trial for trial in self.runs if parameter.name in self.values[trial]]
        x, ticks = [self.values[trial][parameter.name] for trial in shown], None
        if parameter.kind == "in":
            ticks = list(parameter.choices)
            x = [ticks.index(self.choice(parameter, value)) for value in x]
        y = [self.value(trial) for trial in shown]
        return {
            "label": parameter.name,
            "x": x,
            "y": y,
            "log": parameter.kind == "log",
            "ticks": ticks,
        }

    def parallel(self) -> list[dict]:
        if len(self.searched) < 2 or len(self.runs) < 2:
            return []
        axes = []
        for parameter in self.searched:
            if parameter.kind == "in":
                last = max(1, len(parameter.choices) - 1)
                ticks = [(index / last, choice) for index, choice in enumerate(parameter.choices)]
            else:
                ticks = [(0.0, f"{parameter.low:.4g}"), (1.0, f"{parameter.high:.4g}")]
            axes.append({"label": parameter.name, "ticks": ticks})
        lines = [{"values": self.places(trial), "value": self.value(trial)} for trial in self.runs]
        colours = {"label": self.primary, "better": self.better}
        caption = (
            "One line for each configuration, the best one thick; colours tell the better half"
            " apart."
        )
        return [
            {
                "kind": "parallel",
                "title": "",
                "axes": axes,
                "lines": lines,
                **colours,
                "caption": caption,
            }
        ]

    def places(self, trial: str) -> list[float | None]:
        """Where a trial's line crosses each axis; None where it has no such setting."""
        values = self.values[trial]
        return [
            self.position(p, values[p.name]) if p.name in values else None for p in self.searched
        ]

    def front(self) -> list[dict]:
        trials = [
            t for t, o in self.outcomes.items() if o["status"] == "completed" and "_seed_" not in t
        ]
        if not trials:
            return []
        costs = list(self.search.objectives)[1:] or ["parameters"]
        panels = [self.cost(trials, cost, joined=len(costs) == 1) for cost in costs]
        if self.best.get("front"):
            headers = ["trial", *self.search.objectives]
            rows = []
            for trial in self.best["front"]:
                name = [trial["trial"], " ".join(trial["settings"]) or RECIPE]
                rows.append(
                    [
                        name,
                        *(
                            metric_value(objective, trial[objective])
                            for objective in self.search.objectives
                        ),
                    ]
                )
            title = "Pareto front: no trial is better in everything"
            panels.append({"kind": "table", "title": title, "headers": headers, "rows": rows})
        return panels

    def cost(self, trials: list[str], cost: str, joined: bool) -> dict:
        """Trials by their cost and their value, those of the Pareto front apart and by name."""

        def points(name: str, names: list[str]) -> dict:
            x = [self.outcomes[trial]["metrics"][cost] for trial in names]
            return {"name": name, "x": x, "y": [self.value(trial) for trial in names]}

        front = {trial["trial"] for trial in self.best.get("front", [])}
        rest = [trial for trial in trials if trial not in front]
        series = [points("trials", rest)] if rest else []
        if front:
            kept = sorted(front, key=lambda trial: self.outcomes[trial]["metrics"][cost])
            series.append({**points("Pareto front", kept), "labels": kept, "line": joined})
        labels = {
            "x_label": COST_UNITS[cost],
            "y_label": self.primary,
            "log_x": cost == "parameters",
        }
        return {"kind": "points", "title": f"{self.primary} and {cost}", "series": series, **labels}

    def progress(self) -> list[dict]:
        ended = sorted(self.done, key=lambda trial: self.times[trial][-1])
        if not ended:
            return []
        better, so_far = max if self.better == "max" else min, []
        for trial in ended:
            so_far.append(better([*so_far[-1:], self.value(trial)]))
        numbers = list(range(1, len(ended) + 1))
        series = [
            {"name": "best so far", "x": numbers, "y": so_far, "line": True},
            {"name": "trial", "x": numbers, "y": [self.value(t) for t in ended]},
        ]
        levels = (
            [{"name": RECIPE, "y": self.value("baseline")}]
            if self.outcomes.get("baseline", {}).get("metrics")
            else []
        )
        labels = {"x_label": "completed trials", "y_label": self.primary}
        return [
            {
                "kind": "points",
                "title": "Best value so far",
                "series": series,
                "levels": levels,
                **labels,
            }
        ]

    def time(self) -> list[dict]:
        groups = {
            "searching": [t for t in self.outcomes if t.isdigit()],
            RECIPE: [t for t in self.outcomes if t.startswith("baseline")],
            "finalists again": [
                t for t in self.outcomes if "_seed_" in t and not t.startswith("baseline")
            ],
        }
        seconds = {
            name: sum(self.outcomes[trial]["seconds"] for trial in trials)
            for name, trials in groups.items()
        }
        rows = [
            [name, str(len(groups[name])), duration_text(seconds[name])]
            for name in groups
            if groups[name]
        ]
        if early := [t for t in self.outcomes if self.outcomes[t].get("stopped") == "early"]:
            rows.append(["stopped early by train.patience", str(len(early)), ", ".join(early)])
        if self.search.tune.algorithm == "hyperband":
            gone_on = {values.get("tuner/trial_id") for values in self.values.values()}
            dropped = [
                t
                for t in self.outcomes
                if self.outcomes[t].get("stopped") == "paused" and t not in gone_on
            ]
            rows.append(
                ["paused by hyperband and not continued", str(len(dropped)), ", ".join(dropped)]
            )
        return [
            {
                "kind": "table",
                "title": "Time spent training, and what stopped early",
                "headers": ["", "trials", ""],
                "rows": rows,
            }
        ]

    def trials(self) -> list[dict]:
        sign = -1 if self.better == "max" else 1

        def rank(trial: str) -> tuple:
            outcome = self.outcomes[trial]
            return outcome["status"] == "failed", sign * outcome["metrics"].get(self.primary, 0.0)

        ordered, costs = sorted(self.outcomes, key=rank), list(self.search.objectives)[1:]
        headers = ["trial", self.primary, *costs, "evaluations", "ended", "time"]
        rows = [self.trial(trial, costs) for trial in ordered]
        marks = [self.mark(trial) for trial in ordered]
        return (
            [{"kind": "table", "title": "", "headers": headers, "rows": rows, "marks": marks}]
            if rows
            else []
        )

    def mark(self, trial: str) -> str:
        if self.outcomes[trial]["status"] == "failed":
            return "failed"
        return "best" if trial == self.best.get("trial") else ""

    def trial(self, trial: str, costs: list[str]) -> list:
        """A row of the table of all trials."""
        outcome, fixed = self.outcomes[trial], set(self.search.space.fixed)
        values = [
            metric_value(name, outcome["metrics"].get(name)) for name in (self.primary, *costs)
        ]
        ended = (
            f"failed: {outcome['reason']}" if outcome["status"] == "failed" else outcome["stopped"]
        )
        own = " ".join(text for text in outcome["settings"] if text not in fixed) or RECIPE
        return [
            [trial, own],
            *values,
            str(outcome["evaluations"]),
            ended,
            duration_text(outcome["seconds"]),
        ]
