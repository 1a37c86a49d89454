"""What the files of a run directory hold.

A file that was damaged or changed by hand is named before it is used.

A shape is a type, a list of one shape, a tuple of shapes for a list of that length, or a dict: key
-> shape of its value. There, "key?" may be missing, `...` stands for all other keys, and `int` for
whole numbers as keys.
"""

from __future__ import annotations

from typing import Any

NUMBER = int | float | None
WORDS = {
    dict: "an object",
    list: "a list",
    tuple: "a list",
    str: "text",
    int: "a whole number",
    int | float: "a number",
    NUMBER: "a number or null",
}
MEASURED = "Remove it: python -m tfbig.train --resume {run} measures the data again."
FOUND = "Remove it: what cannot be read is found again."
EVALUATED = "Remove it: python -m tfbig.evaluate {run} writes it again."
FOR_PEOPLE = "Remove it: it is for people and the report only."

FILES = {  # name -> (shape, what to do about a file of another one)
    "config.json": (
        {"experiment": dict, "tfbig?": str, "changed?": {...: (str, str)}},
        "Bring the old file back, or start a new run.",
    ),
    "env.json": ({"packages?": {...: str}}, FOR_PEOPLE),
    "data.json": (
        {
            "card": dict,
            "notes?": [str],
            "fingerprint?": str,
            "splits": {...: {"size": int, "classes": {...: int}}},
            "facts": dict,
        },
        MEASURED,
    ),
    "skipped.json": ({...: {int: str}}, FOUND),
    "metrics.json": (
        {
            ...: {
                "split": str,
                "count": int,
                "step": int,
                "metrics": {...: {"value": NUMBER, "low": NUMBER, "high": NUMBER}},
                "measured_by?": {...: str},
                "asked?": dict,
            }
        },
        EVALUATED,
    ),
    "summary.json": (
        {
            "parameters": int,
            "steps": int,
            "epochs": int | float | None,
            "seconds": int | float,
            "primary": str,
        },
        FOR_PEOPLE,
    ),
    "panels.json": ([{"kind": str, "title": str}], EVALUATED),
}
LINE = {
    "kind": str,
    "step": int,
    "loss?": NUMBER,
    "examples_per_s?": NUMBER,
    "learning_rate?": NUMBER,
    "metrics?": {...: {"value": NUMBER}},
}
"""A line of metrics.jsonl."""


def misfit(value: Any, shape: Any, place: str = "") -> str:
    """What is wrong with a JSON value for a shape.

    "where: expected this. Received: that."; empty if it fits.
    """
    kind = type(shape) if isinstance(shape, dict | list | tuple) else shape
    if not isinstance(value, list if kind is tuple else kind) or (
        isinstance(shape, tuple) and len(value) != len(shape)
    ):
        expected = f"{len(shape)} values" if isinstance(shape, tuple) else WORDS[kind]
        return f"{place}expected {expected}. Received: {value!r:.60}."
    parts = []
    if isinstance(shape, dict):
        known = {
            key.removesuffix("?"): inner for key, inner in shape.items() if isinstance(key, str)
        }
        missing = [
            key
            for key in shape
            if isinstance(key, str) and not key.endswith("?") and key not in value
        ]
        strange = [key for key in value if int in shape and not (key.isascii() and key.isdecimal())]
        if missing:
            return (
                f"{place}expected a value of {missing[0]!r}. Received:"
                f" {', '.join(value) or 'none':.60}."
            )
        if strange:
            return f"{place}expected whole numbers as keys. Received: {strange[0]!r}."
        others = shape.get(..., shape.get(int, object))
        parts = [(key, item, known.get(key, others)) for key, item in value.items()]
    elif isinstance(shape, list | tuple):
        parts = [
            (i, item, shape[0 if isinstance(shape, list) else i]) for i, item in enumerate(value)
        ]
    return next(
        filter(None, (misfit(item, inner, f"{place}{key}: ") for key, item, inner in parts)), ""
    )
