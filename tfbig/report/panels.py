"""The parts of a report.

Each panel is a JSON value with a "kind", drawn as HTML by panel.html, or as a chart (charts.py).

    curves       x_label, y_label, series: [{name, x, y}], log_y, from_zero
    matrix       labels, counts: rows are true labels, columns predicted ones
    calibration  bins: [{low, high, confidence, accuracy, count}], ece
    pictures     items: [{png (base64), caption}]; large: shown in fewer columns
    recordings   items: [{wav (base64), seconds, peaks: [[lowest, highest]] from -1 to 1, caption}]
    bars         labels, values, x_label
    table        headers, rows: a cell is a value, or [value, a note to it]; marks: "best",
                 "failed" or "" for each row
    texts        items: [text]
    alignments   items: [{source: [word], target: [word], shares: for each target word how much it
                 looked at each source word, 0 ... 1}]
    logos        items: [{columns: for each place [[letter, height in bits]], caption}]
    settings     groups: [{name, items: [[setting, value, what the recipe has instead, or ""]]}]
    points       x_label, y_label, series: [{name, x, y, labels}], log_x; one with "line" is joined;
                 levels: [{name, y}], horizontal lines
    slices       y_label, parts: [{label, x, y, log, ticks}]: one small plot for each setting
    parallel     axes: [{label, ticks: [(position 0..1, text)]}],
                 lines: [{values: a position 0..1 or None on each axis, value}],
                 label, better: "min" or "max"

All have a title, which may be empty, and may have a caption; `badge`, if there is one, stands
beside the title.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from tfbig.report import charts

if TYPE_CHECKING:
    from jinja2 import Environment

KINDS = (
    "curves",
    "matrix",
    "calibration",
    "pictures",
    "recordings",
    "bars",
    "table",
    "texts",
    "alignments",
    "logos",
    "settings",
    "points",
    "slices",
    "parallel",
)
# They take the page's whole width
WIDE = (
    *("pictures", "recordings", "texts", "alignments", "logos", "settings", "slices"),
    "parallel",
)
MOST_CELLS = (
    20  # labels of a matrix that is shown as a table; of a larger one, its worst cells are named
)
NAMED = 20
LEAST_BITS = 0.02  # of a letter that is drawn in a logo
LETTERS = {"A": "#109648", "C": "#255c99", "G": "#f7a500", "T": "#d62839"}  # colours in logos
NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]?\d+)?( ?%)?|-|")


@functools.cache
def templates() -> Environment:
    """The report's templates; all that they show is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("tfbig.report", "")
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(panel: dict) -> str:
    """A panel as HTML."""
    kind = panel.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}. Received: {kind!r}.")
    panel = {"title": "", "caption": "", "badge": "", "x_label": "", "large": False, **panel}
    view = VIEWS[kind](panel) if kind in VIEWS else {}
    if kind in charts.CHARTS:
        view = {"charts": charts.draw(panel), "legend": charts.legend(panel), **view}
    return templates().get_template("panel.html").render(panel=panel, wide=is_wide(panel), **view)


def is_wide(panel: dict) -> bool:
    """Whether a panel takes the page's whole width."""
    if panel["kind"] == "table":
        return len(panel["headers"]) > 5
    if panel["kind"] == "matrix":
        return len(panel["labels"]) > 10
    return panel["kind"] in WIDE


def _matrix(panel: dict) -> dict[str, Any]:
    """Each cell with its share of the row: the row's label is the true one."""
    counts = panel["counts"]
    labels = panel["labels"]
    rows = []
    for label, row in zip(labels, counts, strict=True):
        total = sum(row)
        cells = [{"count": count, "share": count / total if total else 0.0} for count in row]
        rows.append({"label": label, "total": total, "cells": cells})
    if len(labels) <= MOST_CELLS:
        width = max(map(_width, labels), default=0)
        return {"rows": rows, "turned": width > 2, "width": f"{width:.1f}"}
    return {"rows": None, "charts": charts.draw({**panel, "kind": "heat"}), "worst": _worst(rows)}


def _width(text: str) -> float:
    """About how wide a text is, in units of its height."""
    return sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.62 for letter in text)


def _worst(rows: list[dict]) -> list[tuple[str, list]]:
    """The most frequent mistakes of a matrix, as the rows of a table."""
    wrong = [
        (cell["count"], cell["share"], row["label"], rows[j]["label"])
        for i, row in enumerate(rows)
        for j, cell in enumerate(row["cells"])
        if i != j and cell["count"]
    ]
    worst = sorted(wrong, key=lambda mistake: -mistake[0])[:NAMED]
    return [
        ("", _cells([true, predicted, f"{count:,}", f"{share:.1%}"]))
        for count, share, true, predicted in worst
    ]


def _bars(panel: dict) -> dict[str, Any]:
    top = max([*panel["values"], 0]) or 1
    rows = [
        (label, value, 100 * max(0, value) / top)
        for label, value in zip(panel["labels"], panel["values"], strict=True)
    ]
    return {"rows": rows}


def _cells(row: list) -> list[tuple[str, str]]:
    """A table's row as (text, note)."""
    return [
        (str(cell[0]), str(cell[1])) if isinstance(cell, list) else (str(cell), "") for cell in row
    ]


def _table(panel: dict) -> dict[str, Any]:
    """Cells as (text, note), and which columns hold numbers."""
    rows = [_cells(row) for row in panel["rows"]]
    columns = range(len(panel["headers"]))
    numeric = [
        any(row[i][0] for row in rows) and all(NUMBER.fullmatch(row[i][0]) for row in rows)
        for i in columns
    ]
    marks = panel.get("marks") or [""] * len(rows)
    return {"rows": list(zip(marks, rows, strict=True)), "numeric": numeric}


def _recordings(panel: dict) -> dict[str, Any]:
    """Each waveform as a polygon: along the highest samples, back along the lowest."""
    outlines = []
    for item in panel["items"]:
        columns = list(enumerate(item["peaks"]))
        top = [f"{x},{-high:.3f}" for x, (_, high) in columns]
        bottom = [f"{x},{-low:.3f}" for x, (low, _) in reversed(columns)]
        outlines.append(" ".join([*top, *bottom]))
    return {"outlines": outlines}


def _logos(panel: dict) -> dict[str, Any]:
    """Each logo's letters as (letter, column, height, lower edge), the highest on top."""
    stacks = []
    for item in panel["items"]:
        letters = []
        for column, heights in enumerate(item["columns"]):
            edge = 0.0
            for letter, height in sorted(heights, key=lambda pair: pair[1]):
                if height >= LEAST_BITS:
                    letters.append((letter, column, height, edge))
                edge += height
        stacks.append(letters)
    return {"stacks": stacks, "colours": LETTERS}


VIEWS = {
    "matrix": _matrix,
    "bars": _bars,
    "table": _table,
    "recordings": _recordings,
    "logos": _logos,
}
