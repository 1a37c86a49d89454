"""What an evaluation leaves in a run: metrics.json, panels of the report, unreadable records."""

from __future__ import annotations

import contextlib

from tfbig.core.component import Component
from tfbig.core.errors import UserError
from tfbig.core.run import Run
from tfbig.engine import facts, loop
from tfbig.engine.readable import Readable, told
from tfbig.engine.setup import Setup


def skipped_counts(data: Readable) -> dict[str, int]:
    return {split: len(rows) for split, rows in data.skipped.items() if rows}


def record(run: Run, setup: Setup, split: str, step: int, console: loop.Observer) -> dict:
    """Evaluates the model on a split and writes the result; returns the split's entry."""
    entry, panels = evaluate_split(run, setup, split, step, console)
    write_result(run, setup, entry, panels)
    return entry


def evaluate_split(
    run: Run,
    setup: Setup,
    split: str,
    step: int,
    console: loop.Observer,
    asked: Component | None = None,
) -> tuple[dict, dict[str, list[dict]]]:
    """The split's entry of metrics.json, and the report's panels by section: see `write_panels`.

    `asked`: an instance of `Task.evaluation`; None: its defaults. Only those have panels.
    """
    facts.measure(run, run.experiment, setup.data)  # refuses data that has changed
    run.read_json("metrics.json")  # written again afterwards: a damaged one is reported now
    known = told(setup.data.skipped)
    asked = asked or setup.task.evaluation()
    result = setup.evaluate(split, asked=asked)
    console.evaluated(step, split, result.metrics)
    measured_by = setup.task.measured_by(asked)
    for name, words in measured_by.items():
        console.note(f"{name}: {words}")
    if told(setup.data.skipped) != known:
        console.note(told(setup.data.skipped))
    entry = {
        "dataset": type(run.experiment.data).__name__,
        "split": split,
        "count": result.count,
        "step": step,
        "metrics": result.metrics,
        **({"measured_by": measured_by} if measured_by else {}),
    }
    if choices := changed(asked):
        return {**entry, "asked": choices}, {}
    samples = setup.task.samples(setup.model, setup.jit)
    return entry, {
        "samples": samples,
        split: setup.task.panels(split, result.measured, result.records),
    }


def changed(asked: Component) -> dict:
    """The knobs of an evaluation that are not at their defaults, by name."""
    defaults = vars(type(asked)())
    return {name: value for name, value in vars(asked).items() if value != defaults[name]}


def key_of(split: str, asked: dict) -> str:
    """Where metrics.json holds an evaluation: the split and what was asked otherwise than usual."""
    return " ".join([split, *(f"{name}={value}" for name, value in asked.items())])


def write_panels(run: Run, sections: dict[str, list[dict]], step: int) -> None:
    """Writes panels of the report to panels.json.

    Each has its section and the step of the weights. The sections are "inputs" (what the network is
    given), "samples" (what the model makes by itself) and the splits. Each takes the place of what
    the file held of it; the others stay.
    """
    saved = []
    with contextlib.suppress(UserError):  # a damaged file, which is for people only
        saved = run.read_json("panels.json") or []
    # Earlier versions noted none
    kept = [panel for panel in saved if panel.get("section") not in (None, *sections)]
    new = [
        {**panel, "section": section, "step": step}
        for section, panels in sections.items()
        for panel in panels
    ]
    run.write_json("panels.json", [*kept, *new])


def write_result(run: Run, setup: Setup, entry: dict, panels: dict[str, list[dict]]) -> None:
    """Writes an evaluation to metrics.json, panels.json and data.json."""
    split = entry["split"]
    key = key_of(split, entry.get("asked", {}))
    run.write_json("metrics.json", {**(run.read_json("metrics.json") or {}), key: entry})
    if panels:
        write_panels(run, panels, entry["step"])
    if any(setup.data.skipped.values()):
        run.write_json("skipped.json", setup.data.skipped)
        with contextlib.suppress(UserError):  # a damaged summary, which is for people only
            if (summary := run.read_json("summary.json")) is not None:
                run.write_json("summary.json", {**summary, "skipped": skipped_counts(setup.data)})
    saved = run.read_json("data.json")
    for name in dict.fromkeys(
        [*saved["splits"], split]
    ):  # records may have turned out unreadable since
        saved["splits"][name] = facts.counted(setup.data, name)
    run.write_json("data.json", saved)
