"""What a person sees while a run trains.

One live line on a terminal, plain lines elsewhere. All of it on stderr.
"""

from __future__ import annotations

import contextlib
import sys
import time

PLAIN_SECONDS = 10.0


def number(value: float | None) -> str:
    """A number with four significant digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def duration_text(seconds: float) -> str:
    """Seconds in words: "42 s", "3 min 05 s", "2 h 10 min"."""
    whole = int(round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def metric_value(value: float | None, unit: str = "") -> str:
    """A metric's value for people, in the unit that its task declares; see `Task.metric_units`."""
    if value is None:
        return "-"
    return f"{value:.2%}" if unit == "%" else number(value)


def metric_text(name: str, metric: dict, unit: str = "") -> str:
    """A metric with its name and its 95 % interval."""
    if metric["value"] is None:
        return f"{name} -"
    value, low, high = (metric_value(metric[key], unit) for key in ("value", "low", "high"))
    if metric["low"] is None:  # of too few examples for an interval
        return f"{name} {value}"
    return f"{name} {value} [{low}, {high}]"


class Console:
    """The observer of a run that writes for people; a quiet one writes nothing."""

    def __init__(
        self,
        total: int | None = None,
        stream=None,
        quiet: bool = False,
        units: dict[str, str] | None = None,
    ):
        """`units`: of the task's metrics and scalars; see `Task.metric_units`."""
        self.total = total
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.units = units or {}
        self.live = None
        self.task = None
        self.spoken = time.monotonic()
        self.started = time.monotonic()
        self.first_step = None
        with contextlib.suppress(Exception):  # a stream without isatty is no terminal
            if total and not quiet and self.stream.isatty():
                self._start_live()

    def _start_live(self) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.live = Progress(
            BarColumn(bar_width=12),  # all of the line fits in 80 columns
            TextColumn("{task.completed:,}/{task.total:,}"),
            TextColumn("{task.fields[message]}"),
            TimeRemainingColumn(compact=True),
            console=RichConsole(file=self.stream),
            transient=True,
        )
        self.task = self.live.add_task("", total=self.total, message="preparing")
        self.live.start()

    def restored(self, step: int) -> None:
        """Called once, before training starts from `step`, where the time left counts from."""
        if self.live is not None and step:
            self.live.reset(self.task, completed=step)

    def trained(self, step: int, values: dict[str, float]) -> None:
        scalars = [
            self._scalar(name, values[name])
            for name in values
            if name not in ("loss", "learning_rate", "examples_per_s")
        ]
        message = "  ".join(
            [
                self._scalar("loss", values["loss"]),
                *scalars,
                f"{values['examples_per_s']:,.0f} examples/s",
            ]
        )
        if self.live is not None:
            self.live.update(self.task, completed=step, message=message)
            return
        now = time.monotonic()
        if self.first_step is None:  # the first one includes compiling
            self.first_step, self.started = step, now
        if now - self.spoken >= PLAIN_SECONDS:
            self.spoken = now
            speed = (step - self.first_step) / max(1e-9, now - self.started)
            time_left = (
                f", {duration_text((self.total - step) / speed)} left"
                if self.total and speed > 0
                else ""
            )
            of = f"/{self.total:,}" if self.total else ""
            self.note(f"step {step:,}{of}: {message.replace('  ', ', ')}{time_left}")

    def evaluated(self, step: int, split: str, metrics: dict[str, dict]) -> None:
        self.note(
            f"step {step:,} {split}:"
            f" {', '.join(self._metric(name, metric) for name, metric in metrics.items())}"
        )

    def _scalar(self, name: str, value: float) -> str:
        return f"{name} {metric_value(value, self.units.get(name, ''))}"

    def _metric(self, name: str, metric: dict) -> str:
        return metric_text(name, metric, self.units.get(name, ""))

    def note(self, text: str) -> None:
        """A line of its own, above the live one."""
        if self.quiet:
            return
        with contextlib.suppress(
            OSError, ValueError
        ):  # a closed stderr is no reason to stop training
            if self.live is not None:
                self.live.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Ends the live line."""
        if self.live is not None:
            self.live.stop()
            self.live = None
