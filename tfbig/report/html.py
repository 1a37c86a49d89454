"""The report of a run: one self-contained HTML file, made from the files in the run directory."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from html import escape
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.files import write_atomic
from tfbig.core.run import Run
from tfbig.report.console import duration_text, metric_text, number
from tfbig.report.panels import render

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; color: #222; background: #fff; max-width: 960px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
.headline { display: flex; flex-wrap: wrap; gap: .4rem 2rem; align-items: baseline; margin: .8rem 0; }
.headline b { font-size: 2.4rem; font-weight: 600; color: #0072B2; } .muted, .caption { color: #666; font-size: .9rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 1rem 1.4rem; }
figure { margin: 0 0 .6rem; break-inside: avoid; } figcaption { font-weight: 600; margin-bottom: .2rem; }
svg { width: 100%; height: auto; max-width: 560px; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .18rem .9rem .18rem 0; border-bottom: 1px solid #eee; vertical-align: top; } td { overflow-wrap: break-word; } td:first-child { white-space: nowrap; } th { font-weight: 600; }
tr.changed td { background: #FFF6E0; } .pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: .7rem; }
.pictures img { width: 84px; height: 84px; image-rendering: pixelated; border: 1px solid #ddd; display: block; object-fit: contain; }
.pictures span { font-size: .78rem; line-height: 1.25; display: block; margin-top: .15rem; } pre { background: #f6f6f6; padding: .7rem .9rem; white-space: pre-wrap; font-size: .88rem; }
.wide { grid-column: 1 / -1; }
@media (max-width: 700px) { .grid { grid-template-columns: minmax(0, 1fr); } table { display: block; overflow-x: auto; } }
@media print { @page { size: A4; margin: 14mm; } body { margin: 0; max-width: none; font-size: 11px; } h2 { break-after: avoid; } .grid { grid-template-columns: 1fr 1fr; } svg { max-width: 100%; }
 h2 { margin-top: 1.3rem; } th, td { padding-top: .1rem; padding-bottom: .1rem; } .muted, .caption, pre { font-size: 10px; } .wide figure { break-inside: auto; }
 .pictures { grid-template-columns: repeat(8, 1fr); gap: .4rem; } .pictures > * { break-inside: avoid; } .pictures img { width: 60px; height: 60px; } .pictures span { font-size: 9px; } }
"""


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
    config, summary, metrics = read("config.json"), read("summary.json"), read("metrics.json")
    sections = [
        _drawn(_headline, config, summary, metrics),
        _section("Metrics", _metrics, metrics),
        _section("Learning", _learning, run, summary),
        _section("Predictions", _panels, read("panels.json")),
        _section("Data", _data, read("data.json")),
        _section("Deployment", _deployment, read("export.json")),
        _section("Configuration", _configuration, config),
        _section("Time and machine", _machine, summary, read("env.json")),
        _section("Do it again", _commands, config, run),
    ]
    if damaged:
        sections.insert(1, f"<p class='caption'>Left out, since they do not hold what was written there: {', '.join(damaged)}.</p>")
    name = escape(str(config.get("experiment", {}).get("name", "run")))
    page = f"<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{name}</title><style>{STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    path = run.path / "report.html"
    write_atomic(path, page)
    return path


def _drawn(draw: Callable[..., str], *given) -> str:
    try:
        return draw(*given)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # what values of another form lead to
        return "<p class='caption'>Cannot be shown: a file does not hold what was written there.</p>"


def _section(title: str, draw: Callable[..., str], *given) -> str:
    body = _drawn(draw, *given)
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _headline(config: dict, summary: dict, metrics: dict) -> str:
    experiment = config.get("experiment", {})
    final = metrics.get("test") or next(iter(metrics.values()), None)
    big, primary = "", summary.get("primary")
    if final and primary in final["metrics"]:
        metric = final["metrics"][primary]
        percent = primary.endswith("accuracy")
        show = (lambda x: f"{x:.2%}") if percent else number
        spread = ""
        if metric["low"] is not None:
            spread = f", 95 % interval {show(metric['low'])} to {show(metric['high'])}"
        big = (
            f"<b>{show(metric['value'])}</b><span>{escape(final['split'])} {escape(primary)}{spread}, "
            f"{final['count']:,} examples</span>"
        )
    parts = [f"{experiment.get(key, {}).get('name', '?')}" for key in ("task", "model", "data")]
    line = f"{' · '.join(map(escape, parts))} · seed {experiment.get('seed', '?')}"
    if summary:
        line += f" · {summary['parameters']:,} parameters · {summary['epochs']:g} epochs in {duration_text(summary['seconds'])}"
    return f"<h1>{escape(str(experiment.get('name', 'run')))}</h1><div class='headline'>{big}</div><p class='muted'>{line}</p>"


def _metrics(metrics: dict) -> str:
    rows = [
        [entry["split"], name, metric_text("", metric).strip() if not name.endswith("accuracy") else metric_text(name, metric)[len(name) + 1 :], f"{entry['count']:,}", f"{entry['step']:,}"]
        for entry in metrics.values()
        for name, metric in entry["metrics"].items()
    ]
    return render({"kind": "table", "title": "", "headers": ["split", "metric", "value [95 % interval]", "examples", "checkpoint step"], "rows": rows}) if rows else ""


def _learning(run: Run, summary: dict) -> str:
    trained, evaluated = run.history("train"), run.history("evaluation")
    if not trained:
        return ""
    steps = [line["step"] for line in trained]
    series = lambda key: {"name": "training", "x": steps, "y": [line.get(key) for line in trained]}  # noqa: E731
    checked = lambda name: {  # noqa: E731
        "name": "validation",
        "x": [line["step"] for line in evaluated],
        "y": [line.get("metrics", {}).get(name, {}).get("value") for line in evaluated],
    }
    draw = lambda title, found, **more: render({"kind": "curves", "title": title, "x_label": "step", "series": found, **more})  # noqa: E731
    figures = [draw("Loss", [series("loss"), checked("loss")], log_y=True)]
    primary = summary.get("primary", "loss")
    if primary != "loss":
        own = [series(primary)] if primary in trained[0] else []
        figures.append(draw(primary.capitalize(), [*own, checked(primary)]))
    figures.append(draw("Learning rate", [series("learning_rate")], from_zero=True))
    speed = {name: values[1:] or values for name, values in series("examples_per_s").items() if name != "name"}  # the first includes compiling
    figures.append(draw("Examples per second", [{"name": "training", **speed}], from_zero=True))
    return f"<div class='grid'>{''.join(figures)}</div>"


def _panels(panels: list[dict]) -> str:
    drawn = [f"<div class='{'wide' if panel['kind'] in ('pictures', 'table', 'texts') else ''}'>{render(panel)}</div>" for panel in panels]
    return f"<div class='grid'>{''.join(drawn)}</div>" if drawn else ""


def _data(data: dict) -> str:
    if not data:
        return ""
    card, splits, facts = data.get("card", {}), data.get("splits", {}), data.get("facts", {})
    rows = [[key, value] for key, value in card.items()]
    rows += [[f"{split} examples", f"{entry['size']:,}"] for split, entry in splits.items()]
    words = lambda value: ", ".join(words(v) for v in value) if isinstance(value, list) else f"{value:,g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)  # noqa: E731
    rows += [[f"training {key}", words(value)] for key, value in facts.items() if isinstance(value, (list, int, float)) and len(words(value)) < 200]
    parts = [render({"kind": "table", "title": "Data card", "headers": ["", ""], "rows": rows})]
    classes = splits.get("train", {}).get("classes") or {}
    if 0 < len(classes) <= 100:
        parts.append(render({"kind": "bars", "title": "Training examples of each class", "labels": list(classes), "values": list(classes.values()), "x_label": "examples"}))
    return f"<div class='grid'>{''.join(f'<div>{part}</div>' for part in parts)}</div>"


def _deployment(export: dict) -> str:
    """The last export's formats side by side: metrics against latency against size, all through the artefact itself."""
    if not export:
        return ""
    entries, rows = export["verification"], []
    for name, entry in entries.items():
        metrics = ", ".join(f"{metric} {number(found['value'])}" for metric, found in entry["metrics"].items())
        times = [f"{entry['latency'][size]['p50_ms']:.2f} / {entry['latency'][size]['p99_ms']:.2f}" for size in ("1", "8", "32")]
        gap = "not finite" if entry["largest_difference"] is None else f"{entry['largest_difference']:.1e}"
        rows.append([name, metrics, gap, *times, f"{entry['latency']['32']['examples_per_s']:,.0f} {entry.get('unit', 'example')}s/s", f"{entry['size'] / 1e6:.2f}", f"{entry['peak_memory_mb']:.0f}", f"{entry['cold_start_s']:.1f}"])
    heads = ["format", "metrics", "difference", "ms p50 / p99, batch 1", "batch 8", "batch 32", "rate", "MB", "memory MB", "start s"]
    title = f"Version {export['version']}, {export['created']}; {len(export['checks'])} checks passed; {export['path']}"
    table = render({"kind": "table", "title": title, "headers": heads, "rows": rows})
    trials = [[trial["program"], f"{trial['rows']:,}", f"{trial['per_s']:,.0f} {trial['unit']}s/s"] for trial in export.get("trials", [])]
    if trials:
        table += render({"kind": "table", "title": "Signatures that answered as the evaluated model does", "headers": ["signature", "rows together", "rate"], "rows": trials})
    draw = lambda title, unit, value: render({"kind": "bars", "title": title, "labels": list(entries), "values": [value(entry) for entry in entries.values()], "x_label": unit})  # noqa: E731
    figures = [draw("Latency at batch 1", "ms, median", lambda entry: entry["latency"]["1"]["p50_ms"]), draw("Size", "MB", lambda entry: entry["size"] / 1e6)]
    return f"{table}<div class='grid'>{''.join(figures)}</div>"


def _configuration(config: dict) -> str:
    rows, changed = [], config.get("changed", {})
    for key, value in config.get("experiment", {}).items():
        for inner, item in value.items() if isinstance(value, dict) else [("", value)]:
            path = f"{key}.{inner}" if inner and inner != "name" else key
            was = f"recipe: {changed[path][0]}" if path in changed else ""
            shown = ", ".join(map(str, item)) if isinstance(item, list) else "none" if item is None else str(item)
            rows.append(f"<tr{' class=changed' if was else ''}><td>{escape(path)}</td><td>{escape(shown)}</td><td class='muted'>{escape(was)}</td></tr>")
    half = -(-len(rows) // 2)
    tables = (f"<table><tbody>{''.join(part)}</tbody></table>" for part in (rows[:half], rows[half:]))
    return f"<div class='grid'>{''.join(tables)}</div>" if rows else ""


def _machine(summary: dict, env: dict) -> str:
    rows = []
    if summary:
        rows += [
            ["training time", duration_text(summary["seconds"]) + (f", in {summary['parts']} parts" if summary.get("parts", 1) > 1 else "")],
            ["examples per second", number(summary["examples_per_s"])],
            ["forward operations per example", f"{summary['forward_flops']:,}"],
            ["compiled with XLA", f"{'yes' if summary['jit'] else 'no'} ({summary['jit_reason']})"],
            ["steps", f"{summary['steps']:,}, stopped {summary['stopped']}; best at {summary['best_step'] or 0:,}"],
            ["checkpoint", f"{summary['checkpoint_mb']} MB"],
            ["training stood still", f"{summary['waited_for_data']:.1%} of the time for data, {summary['waited_for_checkpoints']:.1%} for checkpoints"],
            ["device", summary["device"]],
            *([["unreadable records left out", ", ".join(f"{count:,} of {split}" for split, count in summary["skipped"].items())]] if summary.get("skipped") else []),
        ]
    packages = ", ".join(f"{name} {version}" for name, version in env.get("packages", {}).items())
    rows += [[key, str(env[key])] for key in ("started", "python", "platform") if key in env] + ([["packages", packages]] if packages else [])
    return render({"kind": "table", "title": "", "headers": ["", ""], "rows": rows}) if rows else ""


def _commands(config: dict, run: Run) -> str:
    changed = " ".join(shlex.quote(f"{key}={pair[1]}") for key, pair in config.get("changed", {}).items())
    name = config.get("experiment", {}).get("name", "RECIPE")
    path, given = shlex.quote(str(run.path)), "INPUT"
    with contextlib.suppress(UserError):  # of another version, or a component that is not there: the rest is shown all the same
        given = run.experiment.task.asked_with
    text = f"python -m tfbig.train {name} {changed}".strip() + f"\npython -m tfbig.evaluate {path}\npython -m tfbig.predict {path} {given}"
    return f"<pre>{escape(text)}</pre>"
