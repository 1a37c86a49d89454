"""What a person sees of a search while it runs: a line for each trial, on stderr."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from tfbig.report.console import duration_text, metric_value

if TYPE_CHECKING:
    from tfbig.tuning.search import Search


class Progress:
    """Lines on stderr: which trial begins, with which settings, and its outcome."""

    def __init__(self, search: Search, stream=None, prefix: str = ""):
        self.search = search
        self.stream = stream or sys.stderr
        self.prefix = prefix
        self.primary, self.better = search.base.task.primary
        self.units = search.base.task.metric_units

    def note(self, text: str) -> None:
        with contextlib.suppress(
            OSError, ValueError
        ):  # a closed stderr is no reason to stop searching
            print(self.prefix + text, file=self.stream, flush=True)

    def resumed(self, outcomes: dict[str, dict]) -> None:
        if outcomes:
            self.note(f"resumed after {len(outcomes)} trials")

    def _is_best(self, value: float) -> bool:
        """Whether a trial that has ended is the best, also of those that other workers trained."""
        ended = [
            line["outcome"]["metrics"] for line in self.search.journal() if line["event"] == "end"
        ]
        return value == (max if self.better == "max" else min)(
            [value, *(metrics[self.primary] for metrics in ended if metrics)]
        )

    def observe(self, planned) -> Quiet:
        own = [setting for setting in planned.settings if setting not in self.search.space.fixed]
        self.note(f"trial {planned.name}: {' '.join(own) or 'the recipe as it is'}")
        return self.quiet()

    def quiet(self) -> Quiet:
        return Quiet(self)

    def ended(self, name: str, outcome: dict) -> None:
        if outcome["status"] == "failed":
            self.note(f"trial {name} failed: {outcome['reason']}")
            return
        value = outcome["metrics"][self.primary]
        mark = ", best so far" if self._is_best(value) else ""
        shown = metric_value(value, self.units.get(self.primary, ""))
        self.note(
            f"trial {name}: {self.primary} {shown} in {duration_text(outcome['seconds'])}{mark}"
        )


class Quiet:
    """The observer of a trial's training.

    Its own log keeps everything, so only warnings are passed on.
    """

    def __init__(self, progress: Progress):
        self.progress = progress

    def restored(self, step: int) -> None:
        pass

    def trained(self, step: int, values: dict) -> None:
        pass

    def evaluated(self, step: int, split: str, metrics: dict) -> None:
        if split == "test":
            shown = ", ".join(
                f"{name} {metric_value(metric['value'], self.progress.units.get(name, ''))}"
                for name, metric in metrics.items()
            )
            self.progress.note(f"test: {shown}")

    def note(self, text: str) -> None:
        if text.startswith(("resumed", "checkpoint of", "trial", "unreadable records")):
            self.progress.note(f"  {text}")
