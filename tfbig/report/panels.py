"""The parts of a report: each panel is a JSON value with a "kind", drawn as inline SVG or HTML.

    curves       x_label, y_label, series: [{name, x, y}], log_y, from_zero
    matrix       labels, counts: rows are true labels, columns predicted ones
    calibration  bins: [{low, high, confidence, accuracy, count}], ece
    pictures     items: [{png (base64), caption}]
    bars         labels, values, x_label
    table        headers, rows
    texts        items: [text]
    points       x_label, y_label, series: [{name, x, y, labels}], log_x; a series with "line" is joined
    slices       y_label, parts: [{label, x, y, log, ticks}]: one small plot for each setting
    parallel     axes: [{label, low, high, log, ticks}], lines: [{values: a position 0..1 or None on each axis, value}], label
"""

from __future__ import annotations

import io
import math
from html import escape

# Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#333333"
MOST_POINTS = 1000


def render(panel: dict) -> str:
    """A panel as HTML."""
    kinds = {"curves": curves, "matrix": matrix, "calibration": calibration, "pictures": pictures, "bars": bars, "table": table, "texts": texts}
    kinds |= {"points": points, "slices": slices, "parallel": parallel}
    if panel.get("kind") not in kinds:
        raise ValueError(f"kind: expected one of {', '.join(kinds)}. Received: {panel.get('kind')!r}.")
    caption = f"<p class='caption'>{escape(panel['caption'])}</p>" if panel.get("caption") else ""
    return f"<figure><figcaption>{escape(panel['title'])}</figcaption>{kinds[panel['kind']](panel)}{caption}</figure>"


def _figure(width: float, height: float):
    """A figure and its axes, drawn without a display."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", colors=INK, labelsize=8)
    return figure, axes


def _svg(figure) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "tfbig"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _points(series: dict) -> tuple[list, list]:
    """A series without its gaps, thinned to what can be seen."""
    pairs = [(x, y) for x, y in zip(series["x"], series["y"], strict=True) if y is not None and math.isfinite(y)]
    every = max(1, math.ceil(len(pairs) / MOST_POINTS))
    kept = pairs[::every] + ([pairs[-1]] if pairs and (len(pairs) - 1) % every else [])
    return [x for x, _ in kept], [y for _, y in kept]


def curves(panel: dict) -> str:
    figure, axes = _figure(4.4, 2.7)
    for colour, series in zip(COLOURS * 9, panel["series"], strict=False):
        x, y = _points(series)
        axes.plot(x, y, color=colour, label=series["name"], linewidth=1.5, marker="o" if len(x) < 30 else None, markersize=3)
    if panel.get("log_y") and any(min(_points(s)[1], default=0) > 0 for s in panel["series"]):
        axes.set_yscale("log")
    if panel.get("from_zero"):
        axes.set_ylim(bottom=0)
    axes.set_xlabel(panel.get("x_label", ""), fontsize=8)
    axes.set_ylabel(panel.get("y_label", ""), fontsize=8)
    axes.grid(alpha=0.25)
    if len(panel["series"]) > 1:
        axes.legend(fontsize=8, frameon=False)
    return _svg(figure)


def matrix(panel: dict) -> str:
    counts, labels = panel["counts"], panel["labels"]
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    few = len(labels) <= 20
    size = 4.4 if few else 6.0
    figure, axes = _figure(size, size)
    # Errors are far rarer than hits: the root of the share makes both visible.
    axes.imshow([[math.sqrt(share) for share in row] for row in shares], cmap="Blues", vmin=0, vmax=1)
    if few:
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                if count:
                    axes.text(j, i, str(count), ha="center", va="center", fontsize=7, color="white" if shares[i][j] > 0.4 else INK)
        axes.set_xticks(range(len(labels)), labels, rotation=45 if max(map(len, labels)) > 2 else 0, ha="right" if max(map(len, labels)) > 2 else "center")
        axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    axes.spines[:].set_visible(False)
    return _svg(figure)


def calibration(panel: dict) -> str:
    figure, axes = _figure(4.4, 3.4)
    full = [part for part in panel["bins"] if part["count"]]
    total = sum(part["count"] for part in full) or 1
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--", label="perfect")
    axes.bar(
        [(part["low"] + part["high"]) / 2 for part in full],
        [part["count"] / total for part in full],
        width=[0.9 * (part["high"] - part["low"]) for part in full],
        color="#DDDDDD",
        label="share of examples",
    )
    axes.plot([part["confidence"] for part in full], [part["accuracy"] for part in full], color=COLOURS[0], marker="o", markersize=4, label="measured")
    axes.set_xlabel("confidence", fontsize=8)
    axes.set_ylabel("accuracy", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return _svg(figure) + f"<p class='caption'>Expected calibration error {panel['ece']:.2%}.</p>"


def pictures(panel: dict) -> str:
    if not panel["items"]:
        return "<p class='caption'>None.</p>"
    items = (
        f"<div><img alt='{escape(item['caption'], quote=True)}' src='data:image/png;base64,{escape(item['png'], quote=True)}'><span>{escape(item['caption'])}</span></div>"
        for item in panel["items"]
    )
    return f"<div class='pictures'>{''.join(items)}</div>"


def texts(panel: dict) -> str:
    return "".join(f"<pre>{escape(text)}</pre>" for text in panel["items"])


def bars(panel: dict) -> str:
    figure, axes = _figure(4.4, max(1.2, 0.24 * len(panel["labels"]) + 0.6))
    axes.barh(panel["labels"], panel["values"], color=COLOURS[0])
    axes.invert_yaxis()
    axes.set_xlabel(panel.get("x_label", ""), fontsize=8)
    return _svg(figure)


def table(panel: dict) -> str:
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in panel["headers"])
    rows = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in panel["rows"])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def points(panel: dict) -> str:
    figure, axes = _figure(4.4, 3.0)
    for colour, series in zip(COLOURS * 9, panel["series"], strict=False):
        axes.plot(series["x"], series["y"], color=colour, label=series["name"], linestyle="-" if series.get("line") else "none", linewidth=1, marker="o", markersize=4)
        for x, y, label in zip(series["x"], series["y"], series.get("labels", ()), strict=False):
            axes.annotate(label, (x, y), fontsize=7, color=INK, xytext=(3, 3), textcoords="offset points")
    if panel.get("log_x") and all(x > 0 for series in panel["series"] for x in series["x"]):
        axes.set_xscale("log")
    axes.set_xlabel(panel.get("x_label", ""), fontsize=8)
    axes.set_ylabel(panel.get("y_label", ""), fontsize=8)
    axes.grid(alpha=0.25)
    if len(panel["series"]) > 1:
        axes.legend(fontsize=8, frameon=False)
    return _svg(figure)


def slices(panel: dict) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    columns = min(4, len(panel["parts"]))
    rows = -(-len(panel["parts"]) // columns)
    figure = Figure(figsize=(9.0, 2.1 * rows), layout="constrained")
    FigureCanvasSVG(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for number, axes in enumerate(grid.flat):
        if number >= len(panel["parts"]):
            axes.set_visible(False)
            continue
        part = panel["parts"][number]
        axes.plot(part["x"], part["y"], linestyle="none", marker="o", markersize=3.5, alpha=0.7, color=COLOURS[0])
        if part.get("log"):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())  # over less than a decade they would overlap
        if part.get("ticks"):
            axes.set_xticks(range(len(part["ticks"])), part["ticks"], rotation=30 if max(map(len, part["ticks"])) > 4 else 0, ha="right" if max(map(len, part["ticks"])) > 4 else "center")
            axes.set_xlim(-0.5, len(part["ticks"]) - 0.5)
        axes.set_title(part["label"], fontsize=8, color=INK)
        axes.tick_params(which="both", colors=INK, labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        if number % columns == 0:
            axes.set_ylabel(panel["y_label"], fontsize=8)
    return _svg(figure).replace("<svg ", '<svg style="max-width: 100%" ', 1)


def parallel(panel: dict) -> str:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, axes = _figure(9.0, 3.2)
    values = [line["value"] for line in panel["lines"]]
    low, high = min(values), max(values)
    ordered = sorted(values)  # colours by rank within the better half: the worst trials would take the whole scale otherwise
    middle = ordered[len(ordered) // 2] if panel.get("better") != "min" else low
    top = high if panel.get("better") != "min" else ordered[len(ordered) // 2]
    norm = Normalize(middle if middle < top else low, top if middle < top else high, clip=True)
    colours = colormaps["viridis_r" if panel.get("better") == "min" else "viridis"]
    worst_first = sorted(panel["lines"], key=lambda line: line["value"] if panel.get("better") != "min" else -line["value"])
    for rank, line in enumerate(worst_first):
        shown = [(x, y) for x, y in enumerate(line["values"]) if y is not None]
        best = rank == len(worst_first) - 1
        axes.plot(*zip(*shown, strict=True), color="#D55E00" if best else colours(norm(line["value"])), alpha=1.0 if best else 0.55, linewidth=2.2 if best else 1.0)
    for x, axis in enumerate(panel["axes"]):
        axes.axvline(x, color="#999999", linewidth=0.8)
        for position, text in axis["ticks"]:
            axes.annotate(text, (x, position), fontsize=7, color=INK, xytext=(3, 0), textcoords="offset points", va="center", bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7})
    axes.set_xticks(range(len(panel["axes"])), [axis["label"] for axis in panel["axes"]], rotation=20, ha="right", fontsize=7)
    axes.set_yticks([])
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlim(-0.15, len(panel["axes"]) - 0.45)
    axes.spines[["left", "bottom"]].set_visible(False)
    figure.colorbar(ScalarMappable(norm, colours), ax=axes, pad=0.01, aspect=30, extend="min" if panel.get("better") != "min" else "max").set_label(panel["label"], fontsize=8)
    return _svg(figure).replace("<svg ", '<svg style="max-width: 100%" ', 1)
