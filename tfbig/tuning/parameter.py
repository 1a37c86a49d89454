"""One searched setting: which values it may take, as they are written on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tfbig.core import knobs, registry

KINDS = ("log", "lin", "int", "in")
FORM = "log:LOW..HIGH, lin:LOW..HIGH, int:LOW..HIGH or in:A,B,C"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One searched setting.

    Attributes:
        name: as it was written, such as "mlp.units"; unique in a space.
        key: the setting it decides, such as "model.units".
        kind: "log", "lin", "int" or "in".
        choices: the values of "in", as text.
        low, high: the limits of the other kinds, both included.
        whole: whether only whole numbers are drawn.
        when: (name of another parameter, its values) pairs; searched only while all of them hold.
    """

    name: str
    key: str
    kind: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def text(self, value: Any) -> str:
        """A drawn value as it is written on the command line.

        Numbers with four significant digits, within the limits.
        """
        if self.kind == "in":
            return str(value)
        return (
            str(int(value))
            if self.whole
            else str(min(self.high, max(self.low, float(f"{value:.4g}"))))
        )

    @property
    def probes(self) -> tuple[str, ...]:
        """The values that are validated: all choices, or both limits."""
        return self.choices or (self.text(self.low), self.text(self.high))

    def __str__(self) -> str:
        if self.kind == "in":
            return f"{self.name}=in:{','.join(f'[{c}]' if ',' in c else c for c in self.choices)}"
        low, high = (
            str(int(limit)) if self.whole else repr(float(limit)) for limit in (self.low, self.high)
        )
        return f"{self.name}={self.kind}:{low}..{high}"


def is_searched(setting: str) -> bool:
    """Whether a "key=value" setting names values to search instead of one value."""
    kind, colon, _ = setting.partition("=")[2].partition(":")
    return bool(colon) and kind in KINDS


def mistyped_kind(text: str) -> str:
    """What is wrong with a "key=value" setting that looks like a search of an unknown kind."""
    kind, colon, rest = text.partition("=")[2].partition(":")
    if colon and re.fullmatch(r"[a-z]+", kind) and (".." in rest or "," in rest):
        return (
            f"expected {FORM}. Received: {text.partition('=')[2]!r}.{registry.nearest(kind, KINDS)}"
        )
    return ""


def parse(text: str, problems: list[str]) -> Parameter | None:
    """The parameter of one "key=kind:values" setting; its mistakes are added to `problems`."""
    name, _, rest = text.partition("=")
    kind, _, body = rest.partition(":")
    if not name:
        problems.append(f"{text}: expected a setting's name before the =.")
        return None
    if kind == "in":
        values = [value.strip() for value in re.split(r",(?![^\[(]*[\])])", body)]
        choices = tuple(
            value[1:-1] if value[:1] in "[(" and value[-1:] in "])" and value else value
            for value in values
        )
        if not all(choices) or len(set(choices)) < len(choices):
            problems.append(f"{name}: expected different values, in:A,B,C. Received: {rest!r}.")
            return None
        return Parameter(name=name, key=name, kind=kind, choices=choices)
    low, dots, high = body.partition("..")
    number = int if kind == "int" else float
    limits = None
    try:
        if dots:
            limits = [knobs.parse(limit, number) for limit in (low, high)]
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return None
    if limits is None or limits[0] >= limits[1]:
        problems.append(
            f"{name}: expected {kind}:LOW..HIGH with LOW below HIGH. Received: {rest!r}."
        )
        return None
    if kind == "log" and limits[0] <= 0:
        problems.append(
            f"{name}: expected a lower limit above 0 on a logarithmic scale. Received: {rest!r}."
        )
        return None
    return Parameter(
        name=name, key=name, kind=kind, low=limits[0], high=limits[1], whole=kind == "int"
    )
