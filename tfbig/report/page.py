"""A report's page: a headline and sections of panels, in one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tfbig.core.files import write_atomic
from tfbig.report.panels import render, templates

BROKEN = "Cannot be shown: a file does not hold what was written there."
MISFITS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)  # what values of another form lead to


@dataclass
class Headline:
    """What stands at the top: the value that counts, what it is, and what was done."""

    value: str = ""
    text: str = ""
    lines: list[str] = field(default_factory=list)


@dataclass
class Section:
    """A part of the page: a few lines of text, then panels as HTML; None: they cannot be shown."""

    title: str
    panels: list[str] | None
    lines: list[str] = field(default_factory=list)


def section(
    title: str, panels_of: Callable[..., list[dict]], *given, lines: list[str] = ()
) -> list[Section]:
    """The section of these panels, as a list of one; of none if there is nothing to show."""
    try:
        drawn = [render(panel) for panel in panels_of(*given)]
    except MISFITS:
        return [Section(title, None)]
    return [Section(title, drawn, list(lines))] if drawn or lines else []


def write(
    path: Path, title: str, headline: Headline | None, sections: list[Section], warning: str = ""
) -> None:
    """Writes the page; a headline of None cannot be shown."""
    page = templates().get_template("page.html")
    values = {"headline": headline, "sections": sections, "warning": warning, "broken": BROKEN}
    write_atomic(path, page.render(title=title, **values))
