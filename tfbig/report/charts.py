"""Charts as inline SVG. Their text stays text: the reader's browser draws it, whatever its script.

What a chart shows is a panel's: see tfbig/report/panels.py.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator

# Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, LINE, FILL = "#333333", "#b0b0b0", "#dddddd"
VARIABLES = {INK: "--ink", LINE: "--line", FILL: "--fill"} | {
    colour: f"--c{i}" for i, colour in enumerate(COLOURS)
}
MOST_POINTS = 1000
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tfbig",
    "text.parse_math": False,  # a $ in a name is a $
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.alpha": 0.4,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.5,
}


def draw(panel: dict) -> list[str]:
    """A chart's SVGs: one, or one for each of the panel's parts."""
    with _style():
        return [_svg(CHARTS[panel["kind"]](part)) for part in _parts(panel)]


def _parts(panel: dict) -> list[dict]:
    """Each part as a panel of its own, all with the same limits of y."""
    if "parts" not in panel:
        return [panel]
    values = [y for part in panel["parts"] for y in part["y"]]
    low, high = min(values), max(values) if values else (0, 1)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1
    return [{**panel, **part, "limits": (low - margin, high + margin)} for part in panel["parts"]]


def legend(panel: dict) -> list[tuple[str, str, bool]]:
    """What a chart's colours mean: (variable of the style, name, whether it is a dashed line).

    It is shown beside the chart as HTML, where names may be long.
    """
    if panel["kind"] == "calibration":
        return [
            ("--c0", "measured", False),
            ("--line", "perfect", True),
            ("--fill", "share of examples", False),
        ]
    names = [(series["name"], False) for series in panel.get("series", ())]
    names += [(level["name"], True) for level in panel.get("levels", ())]
    entries = [
        (f"--c{number % len(COLOURS)}", name, dashed) for number, (name, dashed) in enumerate(names)
    ]
    return entries if len(entries) > 1 else []


@contextlib.contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Only the browser's fonts matter; matplotlib's are used to estimate how wide a text is.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support .* natively")
        yield


def _figure(width: float, height: float):
    """A figure and its axes, drawn without a display."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _svg(figure) -> str:
    """The figure as SVG whose colours are variables of the page's style, for dark pages too."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in VARIABLES.items():
        text = text.replace(f": {colour}", f": var({variable})")
    return text


def _thinned(series: dict) -> tuple[list, list]:
    """A series without its gaps, thinned to what can be seen."""
    pairs = [
        (x, y)
        for x, y in zip(series["x"], series["y"], strict=True)
        if y is not None and math.isfinite(y)
    ]
    every = max(1, math.ceil(len(pairs) / MOST_POINTS))
    kept = pairs[::every] + ([pairs[-1]] if pairs and (len(pairs) - 1) % every else [])
    return [x for x, _ in kept], [y for _, y in kept]


def _plain_axis(axis, values: list, most: int = 6) -> None:
    """Sets at most `most` spaces between ticks, at whole numbers where all values are whole."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    whole = bool(values) and all(isinstance(value, int) for value in values)
    axis.set_major_locator(
        MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1 if whole else 2)
    )
    axis.set_major_formatter(FuncFormatter(_tick))


def _log_axis(axes, name: str, values: list, most: int = 6) -> None:
    """A logarithmic axis with few ticks, at plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axes.set(**{f"{name}scale": "log"})
    axis = getattr(axes, f"{name}axis")
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low * 0.95 <= tick <= high * 1.05]
        if len(ticks) >= 3:
            break
    else:
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if tick > 0]
    axis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // most)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_tick))


def _tick(value: float, _position) -> str:
    if abs(value) < 10_000:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
    return f"{value / 1000:,.6g}k" if abs(value) < 1_000_000 else f"{value / 1_000_000:,.6g}M"


def curves(panel: dict):
    """Lines through the points of each series, with marks where there are few."""
    figure, axes = _figure(4.4, 2.6)
    drawn = [_thinned(series) for series in panel["series"]]
    for number, (x, y) in enumerate(drawn):
        axes.plot(
            x,
            y,
            color=COLOURS[number % len(COLOURS)],
            marker="o" if len(x) < 30 else None,
            markersize=3,
        )
    values = [value for _, y in drawn for value in y]
    _plain_axis(axes.xaxis, [value for x, _ in drawn for value in x])
    _plain_axis(axes.yaxis, [])
    if panel.get("log_y") and values and min(values) > 0 and max(values) > 5 * min(values):
        _log_axis(axes, "y", values)
    if panel.get("from_zero") and values and max(values) > 0:
        axes.set_ylim(0, 1.06 * max(values))
    axes.set(xlabel=panel.get("x_label", ""), ylabel=panel.get("y_label", ""))
    return figure


def points(panel: dict):
    """Points of each series, joined where it says so, and horizontal lines at reference levels."""
    figure, axes = _figure(4.4, 3.0)
    for number, series in enumerate(panel["series"]):
        style = "-" if series.get("line") else "none"
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            series["x"],
            series["y"],
            color=colour,
            linestyle=style,
            linewidth=1,
            marker="o",
            markersize=4,
        )
        for x, y, label in zip(series["x"], series["y"], series.get("labels", ()), strict=False):
            axes.annotate(label, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
    for number, level in enumerate(panel.get("levels", ()), len(panel["series"])):
        axes.axhline(
            level["y"], color=COLOURS[number % len(COLOURS)], linestyle="--", linewidth=1.2
        )
    values = [x for series in panel["series"] for x in series["x"]]
    _plain_axis(axes.xaxis, values)
    _plain_axis(axes.yaxis, [])
    if panel.get("log_x") and values and min(values) > 0 and max(values) > 3 * min(values):
        _log_axis(axes, "x", values)
    axes.set(xlabel=panel.get("x_label", ""), ylabel=panel.get("y_label", ""))
    return figure


def calibration(panel: dict):
    """Accuracy by confidence, against perfect calibration, and the share of examples."""
    figure, axes = _figure(4.4, 3.4)
    full = [bar for bar in panel["bins"] if bar["count"]]
    total = sum(bar["count"] for bar in full) or 1
    middles = [(bar["low"] + bar["high"]) / 2 for bar in full]
    widths = [0.9 * (bar["high"] - bar["low"]) for bar in full]
    axes.bar(middles, [bar["count"] / total for bar in full], width=widths, color=FILL)
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1.2, linestyle="--")
    measured = [bar["accuracy"] for bar in full]
    axes.plot(
        [bar["confidence"] for bar in full], measured, color=COLOURS[0], marker="o", markersize=4
    )
    axes.set(xlabel="confidence", ylabel="accuracy, share of examples", xlim=(0, 1), ylim=(0, 1.02))
    return figure


def heat(panel: dict):
    """A matrix too large for a table: the shares of each row."""
    figure, axes = _figure(6.0, 6.0)
    # Errors are far rarer than hits: the root of the share makes both visible.
    shares = [[math.sqrt(count / max(1, sum(row))) for count in row] for row in panel["counts"]]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted, by number", ylabel="true, by number")
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return figure


def slices(panel: dict):
    """The points of one part: a value for each trial, by one setting."""
    figure, axes = _figure(2.6, 2.1)
    axes.plot(
        panel["x"],
        panel["y"],
        linestyle="none",
        marker="o",
        markersize=3.5,
        alpha=0.7,
        color=COLOURS[0],
    )
    if panel.get("ticks"):
        turned = {"rotation": 30, "ha": "right"} if max(map(len, panel["ticks"])) > 4 else {}
        axes.set_xticks(range(len(panel["ticks"])), panel["ticks"], **turned)
        axes.set_xlim(-0.5, len(panel["ticks"]) - 0.5)
    elif panel.get("log") and panel["x"]:
        _log_axis(axes, "x", panel["x"], most=4)
    else:
        _plain_axis(axes.xaxis, panel["x"], most=4)
    _plain_axis(axes.yaxis, [], most=5)
    axes.set_ylim(panel["limits"])
    axes.set_title(panel["label"], fontsize=8.5)
    axes.set_ylabel(panel["y_label"])
    return figure


def parallel(panel: dict):
    """A line for each trial, from setting to setting, coloured by its value."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, axes = _figure(9.0, 3.4)
    smaller = panel.get("better") == "min"
    ordered = sorted((line["value"] for line in panel["lines"]), reverse=smaller)  # the worst first
    # Colours tell the better half apart: the worst trials would take the whole scale otherwise.
    middle = ordered[len(ordered) // 2]
    best = ordered[-1]
    limits = (middle, best) if middle != best else (ordered[0], best)
    norm = Normalize(*sorted(limits), clip=True)
    colours = colormaps["viridis_r" if smaller else "viridis"]
    for rank, line in enumerate(
        sorted(panel["lines"], key=lambda line: line["value"], reverse=smaller)
    ):
        shown = [(x, y) for x, y in enumerate(line["values"]) if y is not None]
        if rank == len(ordered) - 1:
            style = {"color": COLOURS[1], "linewidth": 2.2}
        else:
            style = {"color": colours(norm(line["value"])), "linewidth": 1.0, "alpha": 0.55}
        axes.plot(*zip(*shown, strict=True), **style)
    for x, axis in enumerate(panel["axes"]):
        axes.axvline(x, color=LINE, linewidth=0.8)
        for position, text in axis["ticks"]:
            place = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(text, (x, position), fontsize=7, **place)
    axes.set_xticks(
        range(len(panel["axes"])),
        [axis["label"] for axis in panel["axes"]],
        rotation=20,
        ha="right",
        fontsize=7,
    )
    axes.set(yticks=[], ylim=(-0.05, 1.05), xlim=(-0.15, len(panel["axes"]) - 0.45))
    axes.spines[:].set_visible(False)
    axes.grid(False)
    bar = figure.colorbar(
        ScalarMappable(norm, colours),
        ax=axes,
        pad=0.01,
        aspect=30,
        extend="max" if smaller else "min",
    )
    bar.set_label(panel["label"])
    return figure


CHARTS = {
    "curves": curves,
    "points": points,
    "calibration": calibration,
    "heat": heat,
    "slices": slices,
    "parallel": parallel,
}
