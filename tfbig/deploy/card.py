"""The model card (Mitchell et al. 2019), written from what the run and the verification left."""

from __future__ import annotations


def text(record: dict) -> str:
    """card.md of an artefact, from its record."""
    config = record["config"]
    data = record["data"]
    metrics = record["metrics"]
    kinds = {key: config[key]["name"] for key in ("task", "model", "data")}
    lines = [
        f"# {record['name']}, version {record['version']}",
        "",
        (
            f"{record['purpose']} Model: `{kinds['model']}`, {record['parameters']:,} parameters,"
            f" trained on `{kinds['data']}`."
        ),
        "",
        "## Metrics",
        "",
        (
            f"Of the {metrics['split']} split, {metrics['count']:,} examples the model was not"
            " trained on; 95 % intervals."
        ),
        "",
        "| metric | value | interval |",
        "|---|---|---|",
        *(
            f"| {name} | {m['value']:.4f} | {_interval(m)} |"
            for name, m in metrics["metrics"].items()
            if m["value"] is not None  # of nothing that it counts
        ),
        "",
        "The same split through each exported file, in a process of its own:",
        "",
        (
            "| file | size | metrics | largest difference | p50, batch 1 | rate at batch 32 | peak"
            " memory | cold start |"
        ),
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, entry, metrics["count"]) for name, entry in record["verification"].items()),
        "",
        *_trials(record.get("trials", [])),
        "## Data",
        "",
        *(f"- {key}: {value}" for key, value in data["card"].items()),
        *(f"- {note}" for note in data.get("notes", [])),
        "",
        "## Use",
        "",
        *(
            f"- `{name}`: takes {_named(entry['inputs'])}; answers {_named(entry['outputs'])}"
            for name, entry in record["signatures"].items()
        ),
        "",
        *_limits(record, kinds["data"]),
        "## Licence",
        "",
        (
            f"Data: {data['card'].get('licence', 'not stated')}. Of the model itself: as its maker"
            f" decides; made with tfbig {record['environment']['tfbig']} (Apache-2.0)."
        ),
        "",
    ]
    return "\n".join(lines)


def _limits(record: dict, data: str) -> list[str]:
    """What the model was not measured for; `data` is what it was trained on."""
    labels = record["labels"]
    known = ""
    if labels:
        more = ", ..." if len(labels) > 20 else ""
        known = f" ({len(labels)} labels: {', '.join(labels[:20])}{more})"
    return [
        "## Limits",
        "",
        *(line for remark in record.get("remarks", []) for line in (remark, "")),
        (
            f"It was measured on examples like those of `{data}` and on no others: inputs"
            " of another origin, size or style may be"
        ),
        (
            "answered wrongly and with high confidence, since it knows only what it was trained on"
            f"{known}."
        ),
        (
            "Its behaviour for groups of people, under deliberate attack and over time was not"
            " examined."
        ),
        "",
    ]


def _interval(metric: dict) -> str:
    if metric["low"] is None:
        return "too few examples"
    return f"{metric['low']:.4f} to {metric['high']:.4f}"


def _row(name: str, entry: dict, count: int) -> str:
    metrics = ", ".join(f"{key} {m['value']:.4f}" for key, m in entry["metrics"].items())
    metrics += f" (first {entry['count']:,} examples)" if entry["count"] != count else ""
    single = entry["latency"]["1"]
    batched = entry["latency"]["32"]
    gap = (
        f"{entry['largest_difference']:.2g}"
        if entry["largest_difference"] is not None
        else "not finite"
    )
    return (
        f"| {name} | {entry['size'] / 1e6:.2f} MB | {metrics} | {gap} | {single['p50_ms']:.2f} ms |"
        f" {batched['examples_per_s']:,.0f} {entry.get('unit', 'example')}s/s |"
        f" {entry['peak_memory_mb']:.0f} MB | {entry['cold_start_s']:.1f} s |"
    )


def _trials(trials: list[dict]) -> list[str]:
    """Programs whose answers were compared with the evaluated model's, and their speed."""
    if not trials:
        return []
    rows = (
        f"| {trial['program']} | {trial['rows']:,} | {trial['per_s']:,.0f} {trial['unit']}s/s |"
        for trial in trials
    )
    return [
        "Signatures that were asked the same as the evaluated model, and answered the same:",
        "",
        "| signature | rows together | rate |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _named(parts: dict) -> str:
    return ", ".join(
        f"`{name}` ({part['dtype']} {part['shape']}{', ' + part['unit'] if 'unit' in part else ''})"
        for name, part in parts.items()
    )
