"""Durations of training.

"10ep" (epochs), "20_000" (steps), "5%" (of the whole length); times of the clock: "30m".
"""

from __future__ import annotations

import math
import re

_PATTERN = re.compile(r"^(\d[\d_]*(?:\.\d+)?)(ep|steps?|%)?$")
FORM = 'a duration such as "10ep", "20_000" (steps) or "5%" (of train.length)'


def parse(text: str, form: str = FORM) -> tuple[float, str]:
    """Splits a duration into its number and its unit: "ep", "step" or "%".

    `form` says in a message what was expected.

    Raises:
        ValueError: the text is not a duration.
    """
    match = _PATTERN.match(str(text).strip())
    if not match:
        raise ValueError(f"expected {form}. Received: {text!r}.{_meant(str(text))}")
    number = float(match[1].replace("_", ""))
    unit = (match[2] or "step").rstrip("s")
    if unit == "step" and number != int(number):
        raise ValueError(f"a number of steps must be whole. Received: {text!r}.")
    return number, unit


def _meant(text: str) -> str:
    """A suggestion for what is no duration, where there is one."""
    power = re.fullmatch(r"\s*(\d+(?:\.\d+)?)[eE]\+?(\d{1,2})\s*", text)
    if power:
        number = float(f"{power[1]}e{power[2]}")
        return f" Did you mean {int(number)}?" if number == int(number) else ""
    epochs = re.match(r"^\s*(\d[\d_.]*)\s*e", text)
    return f" Did you mean {epochs[1]}ep?" if epochs else ""


def to_steps(text: str, *, epoch: float, length: int | None = None) -> int:
    """The duration in optimiser steps.

    Args:
        text: the duration.
        epoch: steps per pass over the training split; need not be whole, since batches run on
            across epochs.
        length: steps of the whole training, for percentages.
    """
    number, unit = parse(text)
    if unit == "%":
        if length is None:
            raise ValueError(
                'the whole length cannot be a percentage: expected "10ep" or "20_000". Received:'
                f" {text!r}."
            )
        return round(number / 100 * length)
    return math.ceil(number * epoch - 1e-9) if unit == "ep" else int(number)


_TIME = re.compile(r"^(\d+(?:\.\d+)?)(s|m|h|d)$")


def to_seconds(text: str) -> float:
    """A time of the clock such as "90s", "30m", "2h" or "1.5d" in seconds.

    Raises:
        ValueError: the text is none.
    """
    match = _TIME.match(str(text).strip())
    if not match or float(match[1]) == 0:
        raise ValueError(
            f'expected a time such as "90s", "30m", "2h" or "1.5d". Received: {text!r}.'
        )
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
