"""The report of a run: one self-contained HTML file, made from the files in the run directory."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.core.run import Run
from tfbig.report import learning, page
from tfbig.report.console import duration_text, metric_value, number
from tfbig.report.page import Headline, Section, section

SPLIT_ORDER = tuple(reversed(SPLITS))  # what counts comes first: test, validation, train
EVALUATED = {split: f"On the {split} split" for split in SPLIT_ORDER}
UNNOTED = (
    "Written by an earlier version, which did not note the split; python -m tfbig.evaluate draws it"
    " again."
)


def write(folder: Path) -> Path:
    """Writes RUN/report.html from whatever the run directory holds by now, and returns its path.

    A file that was damaged or changed by hand costs its part of the page, and the page says so.
    """
    run = Run(Path(folder))

    def read(name: str):
        with contextlib.suppress(UserError):
            return run.read_json(name) or {}
        damaged.append(name)
        return {}

    damaged: list[str] = []
    config = read("config.json")
    summary = read("summary.json")
    metrics = read("metrics.json")
    panels = read("panels.json") or []
    units = _units(run)
    headline = None
    with contextlib.suppress(*page.MISFITS):
        headline = _headline(run, config, summary, metrics, units)
    sections = [
        *section("Metrics", _metrics, metrics, units),
        *section("What the network sees", _panels, panels, "inputs"),
        *section("Learning", learning.panels, run, summary),
        *section("What the model makes", _panels, panels, "samples"),
        *_evaluations(panels, metrics),
        *section("Data", _data, read("data.json")),
        *section("Deployment", _deployment, read("export.json")),
        *section("Configuration", _configuration, config),
        *section("Time and machine", _machine, summary, read("env.json")),
        *section("Do it again", _commands, config, run),
    ]
    warning = (
        f"Left out, since they do not hold what was written there: {', '.join(damaged)}."
        if damaged
        else ""
    )
    path = run.path / "report.html"
    page.write(path, run.path.resolve().name, headline, sections, warning)
    return path


def _units(run: Run) -> dict[str, str]:
    """The units of the metrics; unknown if the experiment cannot be read."""
    with contextlib.suppress(UserError):
        return run.experiment.task.metric_units
    return {}


def _headline(run: Run, config: dict, summary: dict, metrics: dict, units: dict) -> Headline:
    experiment = config.get("experiment", {})
    primary = summary.get("primary")
    final = next((metrics[split] for split in SPLIT_ORDER if split in metrics), None)
    headline = Headline()
    if final and primary in final["metrics"]:
        metric = final["metrics"][primary]
        unit = units.get(primary, "")
        headline.value = metric_value(metric["value"], unit)
        spread = ""
        if metric["low"] is not None:
            spread = f"95 % interval {_interval(metric, unit)}, "
        headline.text = f"{final['split']} {primary}, {spread}{final['count']:,} examples"
    parts = [str(experiment.get(key, {}).get("name", "?")) for key in ("task", "model", "data")]
    line = (
        f"{experiment.get('name', 'run')}: {' · '.join(parts)} · seed {experiment.get('seed', '?')}"
    )
    if summary:
        length = f"{summary['epochs']:g} epochs"
        if summary["epochs"] is None:  # an agent made the examples
            length = f"{summary['steps']:,} steps"
        trained = f"{length} in {duration_text(summary['seconds'])}"
        line += f" · {summary['parameters']:,} parameters · {trained}"
    headline.lines.append(line)
    if not run.is_done:
        headline.lines.append("Training has not finished.")
    return headline


def _metrics(metrics: dict, units: dict) -> list[dict]:
    """Metrics down, splits across; beside a split what was asked of it otherwise than usual."""
    splits = [
        key
        for split in SPLIT_ORDER
        for key in metrics
        if key == split or key.startswith(f"{split} ")
    ]
    names = list(dict.fromkeys(name for split in splits for name in metrics[split]["metrics"]))
    if not names:
        return []
    rows = [
        [
            name,
            *(
                _with_interval(metrics[split]["metrics"].get(name), units.get(name, ""))
                for split in splits
            ),
        ]
        for name in names
    ]
    rows.append(["examples", *(f"{metrics[split]['count']:,}" for split in splits)])
    rows.append(["checkpoint of step", *(f"{metrics[split]['step']:,}" for split in splits)])
    sentences = ["Below each value, its 95 % confidence interval."]
    for split in splits:
        for name, words in metrics[split].get("measured_by", {}).items():
            sentences.append(f"{split}, {name}: {words}.")
    caption = " ".join(sentences)
    return [
        {"kind": "table", "title": "", "headers": ["", *splits], "rows": rows, "caption": caption}
    ]


def _with_interval(metric: dict | None, unit: str) -> str | list[str]:
    if metric is None:
        return "-"
    value = metric_value(metric["value"], unit)
    return value if metric["low"] is None else [value, _interval(metric, unit)]


def _interval(metric: dict, unit: str) -> str:
    return " to ".join(metric_value(metric[end], unit) for end in ("low", "high"))


def _panels(panels: list[dict], name: str | None) -> list[dict]:
    """The panels of a section, each with a badge of its split if it has one."""
    own = [panel for panel in panels if panel.get("section") == name]
    return [{**panel, "badge": name if name in SPLITS else ""} for panel in own]


def _evaluations(panels: list[dict], metrics: dict) -> list[Section]:
    """A section for each split that was evaluated."""
    sections = []
    for split, title in EVALUATED.items():
        steps = {panel.get("step") for panel in panels if panel.get("section") == split}
        count = (
            metrics.get(split, {}).get("count") if isinstance(metrics.get(split), dict) else None
        )
        of = f"{count:,} examples, " if isinstance(count, int) else ""
        lines = [f"{of}checkpoint of step {', '.join(map(str, steps))}."] if steps else []
        sections += section(title, _panels, panels, split, lines=lines)
    unnoted = any("section" not in panel for panel in panels)
    return sections + section(
        "Predictions", _panels, panels, None, lines=[UNNOTED] if unnoted else []
    )


def _data(data: dict) -> list[dict]:
    if not data:
        return []
    card = data.get("card", {})
    splits = data.get("splits", {})
    facts = data.get("facts", {})
    rows = [[key, value] for key, value in card.items()]
    rows += [["note", note] for note in data.get("notes", [])]
    rows += [[f"{split} examples", f"{entry['size']:,}"] for split, entry in splits.items()]
    plain = {
        key: _words(value) for key, value in facts.items() if isinstance(value, (list, int, float))
    }
    rows += [[f"training {key}", text] for key, text in plain.items() if len(text) < 200]
    panels = [{"kind": "table", "title": "Data card", "headers": ["", ""], "rows": rows}]
    classes = splits.get("train", {}).get("classes") or {}
    if classes:
        bars = {"labels": list(classes), "values": list(classes.values())}
        panels.append({"kind": "bars", "title": "Training examples of each class", **bars})
    return panels


def _words(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, float):
        return f"{value:,g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _deployment(export: dict) -> list[dict]:
    """The last export's formats side by side.

    Metrics against latency against size, all through the artefact itself.
    """
    if not export:
        return []
    entries = export["verification"]
    heads = [
        "format",
        "metrics",
        "difference",
        "ms, batch 1",
        "batch 8",
        "batch 32",
        "rate",
        "MB",
        "memory MB",
        "start s",
    ]
    title = (
        f"Version {export['version']}, {export['created']}; {len(export['checks'])} checks passed;"
        f" {export['path']}"
    )
    rows = [_format_row(name, entry) for name, entry in entries.items()]
    caption = "Milliseconds: the median, and below it the 99th percentile."
    caption += " Difference: the largest from the evaluated model's outputs."
    panels = [{"kind": "table", "title": title, "headers": heads, "rows": rows, "caption": caption}]
    trials = [
        [trial["program"], f"{trial['rows']:,}", f"{trial['per_s']:,.0f} {trial['unit']}s/s"]
        for trial in export.get("trials", [])
    ]
    if trials:
        title = "Signatures that answered as the evaluated model does"
        panels.append(
            {
                "kind": "table",
                "title": title,
                "headers": ["signature", "rows together", "rate"],
                "rows": trials,
            }
        )
    latency = [entry["latency"]["1"]["p50_ms"] for entry in entries.values()]
    size = [entry["size"] / 1e6 for entry in entries.values()]
    return [
        *panels,
        {
            "kind": "bars",
            "title": "Latency at batch 1",
            "labels": list(entries),
            "values": latency,
            "x_label": "ms, median",
        },
        {"kind": "bars", "title": "Size", "labels": list(entries), "values": size, "x_label": "MB"},
    ]


def _format_row(name: str, entry: dict) -> list:
    metrics = ", ".join(
        f"{metric} {number(measured['value'])}" for metric, measured in entry["metrics"].items()
    )
    times = [entry["latency"][size] for size in ("1", "8", "32")]
    return [
        name,
        metrics,
        (
            "not finite"
            if entry["largest_difference"] is None
            else f"{entry['largest_difference']:.1e}"
        ),
        *([f"{time['p50_ms']:.2f}", f"{time['p99_ms']:.2f}"] for time in times),
        f"{entry['latency']['32']['examples_per_s']:,.0f} {entry.get('unit', 'example')}s/s",
        f"{entry['size'] / 1e6:.2f}",
        f"{entry['peak_memory_mb']:.0f}",
        f"{entry['cold_start_s']:.1f}",
    ]


def _configuration(config: dict) -> list[dict]:
    changed = config.get("changed", {})
    general = []
    groups = []
    for key, value in config.get("experiment", {}).items():
        if isinstance(value, dict):
            items = [
                _setting(f"{key}.{name}", name, item, changed)
                for name, item in value.items()
                if name != "name"
            ]
            own = _setting(key, "", value.get("name", ""), changed)
            title = f"{key}={value['name']}" if "name" in value else key
            groups.append(
                {"name": f"{title} (recipe: {own[2]})" if own[2] else title, "items": items}
            )
        else:
            general.append(_setting(key, key, value, changed))
    groups = [{"name": "experiment", "items": general}] * bool(general) + groups
    return [{"kind": "settings", "title": "", "groups": groups}] if groups else []


def _setting(path: str, name: str, value, changed: dict) -> list[str]:
    """A setting's name, its value in words, and the recipe's value if it differs."""
    shown = "none" if value is None else str(value)
    if isinstance(value, list):
        shown = ", ".join(map(str, value))
    return [name, shown, str(changed[path][0]) if path in changed else ""]


def _machine(summary: dict, env: dict) -> list[dict]:
    rows = []
    if summary:
        parts = f", in {summary['parts']} parts" if summary.get("parts", 1) > 1 else ""
        waited = [
            f"{summary[f'waited_for_{cause}']:.1%} of the time for {cause}"
            for cause in ("data", "checkpoints")
        ]
        rows += [
            ["training time", duration_text(summary["seconds"]) + parts],
            ["examples per second", number(summary["examples_per_s"])],
            ["forward operations per example", f"{summary['forward_flops']:,}"],
            ["compiled with XLA", f"{'yes' if summary['jit'] else 'no'} ({summary['jit_reason']})"],
            [
                "steps",
                (
                    f"{summary['steps']:,}, stopped {summary['stopped']}; best at"
                    f" {summary['best_step'] or 0:,}"
                ),
            ],
            ["checkpoint", f"{summary['checkpoint_mb']} MB"],
            ["training stood still", ", ".join(waited)],
            ["device", summary["device"]],
        ]
    if summary.get("skipped"):
        counts = ", ".join(f"{count:,} of {split}" for split, count in summary["skipped"].items())
        rows.append(["unreadable records left out", counts])
    rows += [[key, str(env[key])] for key in ("started", "python", "platform") if key in env]
    packages = ", ".join(f"{name} {version}" for name, version in env.get("packages", {}).items())
    rows += [["packages", packages]] if packages else []
    return [{"kind": "table", "title": "", "headers": ["", ""], "rows": rows}] if rows else []


def _commands(config: dict, run: Run) -> list[dict]:
    changed = " ".join(
        shlex.quote(f"{key}={pair[1]}") for key, pair in config.get("changed", {}).items()
    )
    name = config.get("experiment", {}).get("name", "RECIPE")
    path = shlex.quote(str(run.path))
    inputs = "INPUT"
    with contextlib.suppress(
        UserError
    ):  # of another version, or a component that is not there: the rest is shown all the same
        inputs = run.experiment.task.asked_with
    lines = [f"python -m tfbig.train {name} {changed}".strip(), f"python -m tfbig.evaluate {path}"]
    return [
        {
            "kind": "texts",
            "title": "",
            "items": ["\n".join([*lines, f"python -m tfbig.predict {path} {inputs}"])],
        }
    ]
