"""A configured part of an experiment, and its settings ("knobs")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


def knob(
    default: Any,
    doc: str,
    *,
    low=None,
    high=None,
    above=None,
    choices: tuple | None = None,
    path: bool = False,
) -> Any:
    """One setting: its default, one line of documentation, and what values it may take.

    Args:
        default: the value used unless a recipe or the command line says otherwise.
        doc: what it does, with its unit; shown by `--help`.
        low: smallest allowed value.
        high: largest allowed value.
        above: the value must be greater than this.
        choices: the allowed values, if only a few are.
        path: it names a file or folder; a run keeps it absolute, so that it can be used from any
            folder.
    """
    limits = {
        "doc": doc,
        "low": low,
        "high": high,
        "above": above,
        "choices": choices,
        "path": path,
    }
    return dataclasses.field(default=default, metadata=limits)


@dataclass(frozen=True, kw_only=True)
class Component:
    """A configured part of an experiment."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (knob, message) for values that are fine alone but not together.

        Runs without TensorFlow.
        """
        return iter(())

    def settled(self, given: frozenset[str]) -> Component:
        """A copy without values that another choice made meaningless.

        Called after the knobs `given` were overridden.
        """
        return self
