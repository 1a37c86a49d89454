"""The report of a search.

One self-contained HTML file, made from the files in the search directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tfbig.report import page, search_charts
from tfbig.report.console import duration_text, metric_value
from tfbig.report.page import Headline, section
from tfbig.report.search_story import RECIPE, Story

if TYPE_CHECKING:
    from tfbig.tuning.search import Search


def write(search: Search) -> Path:
    """Writes DIR/report.html from whatever the search directory holds by now.

    Returns its path.
    """
    story = Story(search)
    sections = [
        *section("Settings that won", _winner, story, lines=_gain(story)),
        *section("Finalists, trained again", _finalists, story),
        *section("Progress and time", _progress_and_time, story),
        *section("What mattered", _what_mattered, story, lines=_too_few(story)),
        *section("All settings together", search_charts.parallel, story),
        *section(f"{story.primary.capitalize()} against cost", search_charts.front, story),
        *section("Trials", _trials, story),
    ]
    path = search.path / "report.html"
    page.write(path, search.path.resolve().name, _headline(story), sections)
    return path


def _headline(story: Story) -> Headline:
    """What the winner reached, on the test split once that has been read."""
    tune = story.search.tune
    failed = sum(outcome["status"] == "failed" for outcome in story.outcomes.values())
    line = (
        f"Search of {story.search.saved['recipe']}: {tune.algorithm}, seed {tune.seed},"
        f" {len(story.done)} trials completed, {failed} failed"
    )
    if not story.best:
        return Headline(lines=[line])
    metric = story.best.get("test", {}).get(story.primary)
    split = "test"
    if not metric:
        validation = story.best["validation"]
        split = "validation"
        metric = {**validation, "mean": validation["mean"] or validation["searched"]}
    text = f"{split} {story.primary} of the winner"
    if metric["low"] is not None:
        interval = story.spread(metric["low"], metric["high"])
        seeds = len(metric["values"])
        text += f", 95 % interval {interval} over {seeds} seeds"
    return Headline(story.show(metric["mean"]), text, [line])


def _gain(story: Story) -> list[str]:
    """What the winner gains, in words."""
    if not story.best:
        return ["No trial has won yet."]
    gain = story.best["gain"]
    test_gain = story.best.get("test_gain")
    if story.best["trial"] == "baseline":
        return [f"Nothing that was tried is better than {RECIPE}."]
    if gain is None:
        return []
    line = f"Against {RECIPE}: {story.gained(gain)} of validation {story.primary}"
    if test_gain:
        line += f", {story.gained(test_gain)} of test {story.primary}"
    return [f"{line}."]


def _winner(story: Story) -> list[dict]:
    """The line that trains the winner, and a table of winner and recipe on the test split."""
    if not story.best:
        return []
    caption = f"trial {story.best['trial']}, run {story.best['run']}"
    panels = [{"kind": "texts", "title": "", "items": [story.best["line"]], "caption": caption}]
    test = {"the winner": story.best.get("test"), RECIPE: story.best.get("test_baseline")}
    test = {candidate: metrics for candidate, metrics in test.items() if metrics}
    names = list(dict.fromkeys(name for metrics in test.values() for name in metrics))
    rows = [
        [name, *(story.mean(metrics[name], name) for metrics in test.values())] for name in names
    ]
    caption = (
        "Means over seeds with their 95 % interval, and each seed. The test split was read once"
        " the search was over, for these runs alone; what was gained is counted over the seeds"
        " that both have."
    )
    table = {
        "kind": "table",
        "title": "On the test split",
        "headers": ["", *test],
        "rows": rows,
        "caption": caption,
    }
    return [*panels, table] if rows else panels


def _finalists(story: Story) -> list[dict]:
    """What the search saw of the finalists, and what other seeds say."""
    finalists = story.best.get("finalists", [])
    if not any(finalist["values"] for finalist in finalists):
        return []
    rows = [
        [
            finalist["trial"],
            story.show(finalist["searched"]),
            story.mean(finalist, story.primary),
        ]
        for finalist in finalists
    ]
    headers = ["trial", "in the search", "with other seeds"]
    caption = (
        "The best of many noisy trials owes part of its value to luck: the mean over seeds that"
        " the search did not see decides. Below it, its 95 % interval and each seed."
    )
    return [{"kind": "table", "title": "", "headers": headers, "rows": rows, "caption": caption}]


def _too_few(story: Story) -> list[str]:
    if story.search.read_json("importance.json"):
        return []
    return ["Too few trials to say which settings mattered."]


def _what_mattered(story: Story) -> list[dict]:
    return search_charts.importance(story) + search_charts.slices(story)


def _progress_and_time(story: Story) -> list[dict]:
    return search_charts.progress(story) + [_time(story)]


def _time(story: Story) -> dict:
    """A table: how long was trained for what, and what stopped early."""
    groups = {
        "searching": [t for t in story.outcomes if t.isdigit()],
        RECIPE: [t for t in story.outcomes if t.startswith("baseline")],
        "finalists again": [
            t for t in story.outcomes if "_seed_" in t and not t.startswith("baseline")
        ],
    }
    rows = [
        [name, str(len(trials)), duration_text(sum(story.outcomes[t]["seconds"] for t in trials))]
        for name, trials in groups.items()
        if trials
    ]
    stopped = {trial: outcome.get("stopped") for trial, outcome in story.outcomes.items()}
    if early := [trial for trial, ending in stopped.items() if ending == "early"]:
        rows.append(["stopped early by train.patience", str(len(early)), ", ".join(early)])
    if story.search.tune.algorithm == "hyperband":
        promoted = story.promoted(list(story.values))
        dropped = [t for t, ending in stopped.items() if ending == "paused" and t not in promoted]
        rows.append(
            ["paused by hyperband and not continued", str(len(dropped)), ", ".join(dropped)]
        )
    title = "Time spent training, and what stopped early"
    return {"kind": "table", "title": title, "headers": ["", "trials", ""], "rows": rows}


def _trials(story: Story) -> list[dict]:
    """A table of all trials, the best first and those that failed last."""
    sign = -1 if story.better == "max" else 1

    def rank(trial: str) -> tuple:
        outcome = story.outcomes[trial]
        return outcome["status"] == "failed", sign * outcome["metrics"].get(story.primary, 0.0)

    trials = sorted(story.outcomes, key=rank)
    costs = list(story.search.objectives)[1:]
    if not trials:
        return []
    headers = ["trial", story.primary, *costs, "evaluations", "ended", "time"]
    rows = [_row(story, trial, costs) for trial in trials]
    marks = [_mark(story, trial) for trial in trials]
    return [{"kind": "table", "title": "", "headers": headers, "rows": rows, "marks": marks}]


def _mark(story: Story, trial: str) -> str:
    if story.outcomes[trial]["status"] == "failed":
        return "failed"
    return "best" if trial == story.best.get("trial") else ""


def _row(story: Story, trial: str, costs: list[str]) -> list:
    """A row of the table of all trials."""
    outcome = story.outcomes[trial]
    fixed = set(story.search.space.fixed)
    metrics = outcome["metrics"]
    values = [metric_value(metrics.get(name), story.unit(name)) for name in (story.primary, *costs)]
    failed = outcome["status"] == "failed"
    ended = f"failed: {outcome['reason']}" if failed else outcome["stopped"]
    own = " ".join(text for text in outcome["settings"] if text not in fixed) or RECIPE
    time = duration_text(outcome["seconds"])
    return [[trial, own], *values, str(outcome["evaluations"]), ended, time]
