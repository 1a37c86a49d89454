"""The report of a search: one self-contained HTML file, made from the files in the search directory."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from tfbig.core.files import write_atomic
from tfbig.core.search import Search
from tfbig.core.search_space import Parameter
from tfbig.report.console import duration_text
from tfbig.report.html import STYLE
from tfbig.report.panels import render
from tfbig.report.tuning import metric_value

MORE_STYLE = "body { max-width: 1080px; } .scroll { overflow-x: auto; } .scroll table { font-size: .82rem; } tr.best td { background: #E6F4EE; } tr.failed td { color: #A33; }"
COST_UNITS = {"latency": "ms for one example", "size": "MB of weights", "parameters": "parameters"}


def write(folder: Path) -> Path:
    """Writes DIR/report.html from whatever the search directory holds by now, and returns its path."""
    page = _Page(Search(Path(folder)))
    sections = [
        page.headline(),
        _section("Settings that won", page.winner()),
        _section("Finalists, trained again", page.finalists()),
        _section("What mattered", page.importance() + page.slices()),
        _section("All settings together", page.parallel()),
        _section("Accuracy against cost" if page.primary == "accuracy" else f"{page.primary} against cost", page.front()),
        _section("Progress and time", page.progress() + page.time()),
        _section("Trials", page.trials()),
    ]
    name = escape(f"search of {page.search.saved['recipe']}")
    head = f"<head><meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{name}</title><style>{STYLE}{MORE_STYLE}</style></head>"
    path = page.search.path / "report.html"
    write_atomic(path, f"<!doctype html><html lang='en'>{head}<body>{''.join(sections)}</body></html>\n")
    return path


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


class _Page:
    """A search's files, read once, and the sections made of them."""

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
        self.done = [t for t, o in self.outcomes.items() if t.isdigit() and o["status"] == "completed"]
        gone_on = {self.values[t].get("tuner/trial_id") for t in self.done}
        self.runs = [t for t in self.done if t not in gone_on]  # each configuration once, with the most training it got

    def value(self, trial: str) -> float:
        return self.outcomes[trial]["metrics"][self.primary]

    def show(self, value: float | None) -> str:
        return metric_value(self.primary, value)

    def spread(self, low: float, high: float, name: str | None = None) -> str:
        """An interval for people, of the primary metric or a named one; that of a share ends at 0 and 1, which Student's does not know."""
        name = name or self.primary
        if name.endswith("accuracy"):
            low, high = max(0.0, low), min(1.0, high)
        return f"{metric_value(name, low)} to {metric_value(name, high)}"

    def difference(self, value: float) -> str:
        return f"{100 * value:+.2f} points" if self.primary.endswith("accuracy") else f"{value:+.4g}"

    def gained(self, gain: dict) -> str:
        spread = f" (95 % interval {self.difference(gain['low'])} to {self.difference(gain['high'])})" if gain["low"] is not None else ""
        return f"{self.difference(gain['mean'])}{spread}"

    def headline(self) -> str:
        failed = sum(outcome["status"] == "failed" for outcome in self.outcomes.values())
        line = f"{self.search.tune.algorithm} search · {len(self.done)} trials completed, {failed} failed · seed {self.search.tune.seed}"
        big = ""
        if self.best:
            found, test = self.best["validation"], self.best.get("test", {}).get(self.primary)
            shown, what = (test, "test") if test else ({**found, "mean": found["mean"] or found["searched"]}, "validation")
            spread = (
                f", 95 % interval {self.spread(shown['low'], shown['high'])} over {len(shown['values'])} seeds"
                if shown["low"] is not None
                else ""
            )
            big = f"<b>{self.show(shown['mean'])}</b><span>{what} {escape(self.primary)} of the winner{spread}</span>"
        return (
            f"<h1>Search of {escape(self.search.saved['recipe'])}</h1><div class='headline'>{big}</div><p class='muted'>{line}</p>"
        )

    def winner(self) -> str:
        if not self.best:
            return "<p>No trial has won yet.</p>"
        gain, test_gain = self.best["gain"], self.best.get("test_gain")
        said = ""
        if self.best["trial"] == "baseline":
            said = "<p>Nothing that was tried is better than the recipe's own settings.</p>"
        elif gain is not None:
            said = f"<p>Against the recipe's own settings: <strong>{self.gained(gain)}</strong> of validation {escape(self.primary)}"
            said += f", <strong>{self.gained(test_gain)}</strong> of test {escape(self.primary)}.</p>" if test_gain else ".</p>"
        return f"{said}{self.test()}<pre>{escape(self.best['line'])}</pre><p class='muted'>trial {escape(self.best['trial'])}, run {escape(self.best['run'])}</p>"

    def test(self) -> str:
        """The winner and the recipe on the test split, metric by metric."""
        rows = []
        for who, found in (("the winner", self.best.get("test")), ("the recipe's own settings", self.best.get("test_baseline"))):
            for name, one in (found or {}).items():
                spread = self.spread(one["low"], one["high"], name) if one["low"] is not None else "-"
                rows.append([who, name, metric_value(name, one["mean"]), spread, ", ".join(metric_value(name, v) for v in one["values"])])
        headers = ["", "metric", "mean", "95 % interval", "each seed"]
        caption = "The test split was read once the search was over, for these runs alone; what was gained is counted over the seeds that both have."
        return render({"kind": "table", "title": "On the test split", "headers": headers, "rows": rows, "caption": caption}) if rows else ""

    def finalists(self) -> str:
        if not self.best or not any(one["values"] for one in self.best["finalists"]):
            return ""
        rows = []
        for one in self.best["finalists"]:
            spread = self.spread(one["low"], one["high"]) if one["low"] is not None else "-"
            rows.append(
                [one["trial"], self.show(one["searched"]), self.show(one["mean"]), spread, ", ".join(map(self.show, one["values"]))]
            )
        headers = ["trial", "in the search", "mean over other seeds", "95 % interval", "each seed"]
        caption = (
            "The best of many noisy trials owes part of its value to luck: the mean over seeds that the search did not see decides."
        )
        return render({"kind": "table", "title": "", "headers": headers, "rows": rows, "caption": caption})

    def importance(self) -> str:
        found = self.search.read_json("importance.json") or {}
        if not found:
            return "<p class='muted'>Too few trials to say which settings mattered.</p>"
        caption = "Permutation importance of a random forest fitted to the ranks of all completed trials."
        return render(
            {
                "kind": "bars",
                "title": "Importance of each setting",
                "labels": list(found),
                "values": list(found.values()),
                "x_label": "share of the explained variance",
                "caption": caption,
            }
        )

    def position(self, parameter: Parameter, value) -> float:
        """A value's place on its axis, 0 to 1."""
        if parameter.kind == "in":
            return parameter.choices.index(self.choice(parameter, value)) / max(1, len(parameter.choices) - 1)
        if parameter.kind == "log":
            return math.log(value / parameter.low) / math.log(parameter.high / parameter.low)
        return (value - parameter.low) / (parameter.high - parameter.low)

    @staticmethod
    def choice(parameter: Parameter, value) -> str:
        """The choice that a value is, which may have become a number."""
        same = [choice for choice in parameter.choices if choice == str(value)]
        return same[0] if same else next(choice for choice in parameter.choices if float(choice) == float(value))

    def slices(self) -> str:
        if not self.runs:
            return ""
        parts = []
        for parameter in self.searched:
            shown = [trial for trial in self.runs if parameter.name in self.values[trial]]
            raw = [self.values[trial][parameter.name] for trial in shown]
            listed = parameter.kind == "in"
            x = [parameter.choices.index(self.choice(parameter, value)) for value in raw] if listed else raw
            parts.append(
                {
                    "label": parameter.name,
                    "x": x,
                    "y": [self.value(t) for t in shown],
                    "log": parameter.kind == "log",
                    "ticks": list(parameter.choices) if listed else None,
                }
            )
        return render({"kind": "slices", "title": "Each setting alone", "y_label": self.primary, "parts": parts})

    def parallel(self) -> str:
        if len(self.searched) < 2 or len(self.runs) < 2:
            return ""
        axes = []
        for parameter in self.searched:
            if parameter.kind == "in":
                ticks = [(index / max(1, len(parameter.choices) - 1), choice) for index, choice in enumerate(parameter.choices)]
            else:
                ticks = [(0.0, f"{parameter.low:.4g}"), (1.0, f"{parameter.high:.4g}")]
            axes.append({"label": parameter.name, "ticks": ticks})
        place = lambda trial, p: self.position(p, self.values[trial][p.name]) if p.name in self.values[trial] else None  # noqa: E731
        lines = [{"values": [place(trial, p) for p in self.searched], "value": self.value(trial)} for trial in self.runs]
        caption = "One line for each configuration, the best one thick; colours tell the better half apart."
        return render(
            {
                "kind": "parallel",
                "title": "",
                "axes": axes,
                "lines": lines,
                "label": self.primary,
                "better": self.better,
                "caption": caption,
            }
        )

    def front(self) -> str:
        trials = [t for t, o in self.outcomes.items() if o["status"] == "completed" and "_seed_" not in t]
        if not trials:
            return ""
        figures = []
        costs = [name for name in list(self.search.objectives)[1:]] or ["parameters"]
        front = {one["trial"] for one in self.best.get("front", [])}
        for cost in costs:
            at = lambda trial, cost=cost: self.outcomes[trial]["metrics"][cost]  # noqa: E731
            rest = [t for t in trials if t not in front]
            series = [{"name": "trials", "x": [at(t) for t in rest], "y": [self.value(t) for t in rest]}] if rest else []
            if front:
                kept = sorted(front, key=at)
                series.append(
                    {
                        "name": "Pareto front",
                        "x": [at(t) for t in kept],
                        "y": [self.value(t) for t in kept],
                        "labels": kept,
                        "line": len(costs) == 1,
                    }
                )
            figures.append(
                render(
                    {
                        "kind": "points",
                        "title": f"{self.primary} and {cost}",
                        "x_label": COST_UNITS[cost],
                        "y_label": self.primary,
                        "series": series,
                        "log_x": cost == "parameters",
                    }
                )
            )
        table = ""
        if front:
            headers = ["trial", *self.search.objectives, "settings"]
            rows = [
                [
                    one["trial"],
                    *(metric_value(name, one[name]) for name in self.search.objectives),
                    " ".join(one["settings"]) or "the recipe's own",
                ]
                for one in self.best["front"]
            ]
            table = render(
                {"kind": "table", "title": "Pareto front: no trial is better in everything", "headers": headers, "rows": rows}
            )
        return f"<div class='grid'>{''.join(f'<div>{figure}</div>' for figure in figures)}</div>{table}"

    def progress(self) -> str:
        ended = sorted(self.done, key=lambda trial: self.times[trial][-1])
        if not ended:
            return ""
        better, so_far = max if self.better == "max" else min, []
        for trial in ended:
            so_far.append(better([*so_far[-1:], self.value(trial)]))
        numbers = list(range(1, len(ended) + 1))
        series = [
            {"name": "trial", "x": numbers, "y": [self.value(t) for t in ended]},
            {"name": "best so far", "x": numbers, "y": so_far, "line": True},
        ]
        return render(
            {
                "kind": "points",
                "title": "Best value so far",
                "x_label": "completed trials",
                "y_label": self.primary,
                "series": series,
            }
        )

    def time(self) -> str:
        seconds = lambda names: sum(self.outcomes[name]["seconds"] for name in names)  # noqa: E731
        groups = {
            "searching": [t for t in self.outcomes if t.isdigit()],
            "the recipe's own settings": [t for t in self.outcomes if t.startswith("baseline")],
            "finalists again": [t for t in self.outcomes if "_seed_" in t and not t.startswith("baseline")],
        }
        rows = [[name, str(len(trials)), duration_text(seconds(trials))] for name, trials in groups.items() if trials]
        paused = [t for t in self.outcomes if self.outcomes[t].get("stopped") == "paused"]
        early = [t for t in self.outcomes if self.outcomes[t].get("stopped") == "early"]
        rows += [["stopped early by train.patience", str(len(early)), ", ".join(early)]] if early else []
        gone_on = {values.get("tuner/trial_id") for values in self.values.values()}
        dropped = [t for t in paused if t not in gone_on]
        rows += (
            [["paused by hyperband and not continued", str(len(dropped)), ", ".join(dropped)]]
            if self.search.tune.algorithm == "hyperband"
            else []
        )
        return render(
            {"kind": "table", "title": "Time spent training, and what stopped early", "headers": ["", "trials", ""], "rows": rows}
        )

    def trials(self) -> str:
        sign = -1 if self.better == "max" else 1
        order = sorted(
            self.outcomes,
            key=lambda t: (self.outcomes[t]["status"] == "failed", sign * self.outcomes[t]["metrics"].get(self.primary, 0.0)),
        )
        costs = list(self.search.objectives)[1:]
        headers = ["trial", self.primary, *costs, "evaluations", "ended", "time", "settings"]
        rows = []
        for trial in order:
            outcome = self.outcomes[trial]
            fixed = set(self.search.space.fixed)
            own = " ".join(text for text in outcome["settings"] if text not in fixed) or "the recipe's own"
            ended = f"failed: {outcome['reason']}" if outcome["status"] == "failed" else outcome["stopped"]
            cells = [
                trial,
                self.show(outcome["metrics"].get(self.primary)),
                *(metric_value(c, outcome["metrics"].get(c)) for c in costs),
            ]
            cells += [outcome["evaluations"], ended, duration_text(outcome["seconds"]), own]
            kind = "failed" if outcome["status"] == "failed" else "best" if trial == self.best.get("trial") else ""
            rows.append(f"<tr class='{kind}'>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>")
        head = "".join(f"<th>{escape(cell)}</th>" for cell in headers)
        return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
