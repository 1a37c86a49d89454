"""Knobs of a component: their values from text and as text, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any

from tfbig.core import registry
from tfbig.core.errors import UserError

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def hints(kind: type) -> dict[str, Any]:
    """The annotated type of each knob of a component."""
    annotations: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        module = vars(__import__("sys").modules[base.__module__])
        for name, text in vars(base).get("__annotations__", {}).items():
            if name in kind.__dataclass_fields__ and "ClassVar" not in str(text):
                annotations[name] = eval(text, dict(module)) if isinstance(text, str) else text  # noqa: S307 - our own annotations
    return annotations


def parse(text: str, kind: Any) -> Any:
    """A value of an annotated type from the text of a command line.

    Raises:
        ValueError: it is none; the message says what was expected and received.
    """
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return (
            None
            if text.lower() == "none"
            else parse(text, next(k for k in typing.get_args(kind) if k is not type(None)))
        )
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(
            parse(item.strip(), inner) for item in text.strip("()[]").split(",") if item.strip()
        )
    if kind is bool:
        if text.lower() not in WORDS:
            raise ValueError(f"expected true or false. Received: {text!r}.")
        return WORDS[text.lower()]
    if kind in (int, float):
        try:
            number = float(text) if kind is float else int(text, 10)
        except ValueError:
            number = _number(text, kind)
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"expected a finite number. Received: {text!r}.")
        return number
    return text


def _number(text: str, kind: type) -> int:
    """A whole number written as 1e3, or a clear refusal."""
    try:
        number = float(text)
        if kind is int and number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        f"expected a {'whole number' if kind is int else 'number'}. Received: {text!r}."
    ) from None


def text_of(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(text_of, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return str(value)


def component(kind: type, options: dict[str, Any]) -> Any:
    """A component with these knobs; everything wrong with them is reported at once."""
    known = {field.name for field in dataclasses.fields(kind)}
    expected = ", ".join(sorted(known)) or "none"
    strange = [
        f"{name}: no such option.{registry.nearest(name, known)} Expected one of {expected}."
        for name in options
        if name not in known
    ]
    if strange:
        raise UserError("\n".join(strange))
    chosen = kind(**options)
    wrong = [f"{name}: {message}" for name, message in problems(chosen)]
    if wrong:
        raise UserError("\n".join(wrong))
    return chosen


def problems(component) -> list[tuple[str, str]]:
    """(knob, message) of every wrong value of one component."""
    found = []
    annotations = hints(type(component))
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        if dataclasses.is_dataclass(value) or not (
            "doc" in field.metadata and "kind" not in field.metadata
        ):
            continue
        message = _type_problem(value, annotations[field.name]) or _limit_problem(
            value, field.metadata
        )
        if message:
            found.append((field.name, message))
    # Cross-checks may count on each value being fine alone
    return found or list(component.problems())


def _type_problem(value: Any, kind: Any) -> str:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if typing.get_origin(option) is tuple:
            inner = typing.get_args(option)[0]
            if isinstance(value, tuple) and not any(_type_problem(item, inner) for item in value):
                return ""
        elif option in (None, type(None)):
            if value is None:
                return ""
        elif option is float:
            if (
                isinstance(value, (int, float))
                and not isinstance(value, bool)
                and math.isfinite(value)
            ):
                return ""
        elif isinstance(value, option) and not (option is int and isinstance(value, bool)):
            return ""
    words = {
        int: "a whole number",
        float: "a finite number",
        str: "text",
        bool: "true or false",
        type(None): "none",
    }
    expected = " or ".join(words.get(option, str(option)) for option in options)
    return f"expected {expected}. Received: {value!r}."


def _limit_problem(value: Any, limits) -> str:
    for item in value if isinstance(value, tuple) else (value,):
        if item is None:
            continue
        if limits.get("choices") and item not in limits["choices"]:
            return (
                f"expected one of {', '.join(map(str, limits['choices']))}. Received:"
                f" {item!r}.{registry.nearest(str(item), limits['choices'])}"
            )
        if limits.get("low") is not None and item < limits["low"]:
            return f"expected at least {limits['low']}. Received: {item}."
        if limits.get("above") is not None and item <= limits["above"]:
            return f"expected more than {limits['above']}. Received: {item}."
        if limits.get("high") is not None and item > limits["high"]:
            return f"expected at most {limits['high']}. Received: {item}."
    return ""
