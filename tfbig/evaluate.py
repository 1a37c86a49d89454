"""Evaluate a run: every metric of a split with a 95 % confidence interval."""

from __future__ import annotations

import sys
from pathlib import Path

from tfbig.core import cli, knobs
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.features import SPLITS
from tfbig.core.registry import nearest
from tfbig.core.run import Run

EXAMPLES = """  python -m tfbig.evaluate runs/mnist_mlp
  python -m tfbig.evaluate runs/mnist_mlp --split validation --step last --json"""


def evaluate(
    run: str | Path | Run, split: str = "test", step: str | int = "best", **options
) -> dict:
    """Evaluates a run's checkpoint on a split, and writes metrics.json, panels.json and the report.

    Where they cannot be written, as in a read-only run or on a full disk, the figures are returned
    all the same, with a note that they were not saved: evaluating has not failed, so the command's
    exit code is 0. The same holds where they differ from what is recorded of the same checkpoint:
    the first figures stay.

    Args:
        run: the run directory.
        split: "train", "validation" or "test".
        step: "best", "last" or a step that has a checkpoint.
        options: what the task knows to be asked for, such as beams=4; RUN --help of the command
            lists them. Figures that were asked for otherwise than usual stand in metrics.json
            beside the usual ones, as "test beams=4".

    Returns:
        {"dataset", "split", "count", "step", "metrics": name -> {"value", "low", "high", "count"}},
        "measured_by": metric -> how, where its name does not say it; "asked": the options; and
        "not_saved": why, if they were not.

    Example:
        >>> accuracy = tfbig.evaluate("runs/first", split="validation")["metrics"]["accuracy"]
        >>> 0.8 < accuracy["low"] < accuracy["value"] < accuracy["high"]
        True
    """
    if split not in SPLITS:
        raise UserError(
            f"split: expected one of {', '.join(SPLITS)}. Received:"
            f" {split!r}.{nearest(split, SPLITS)}"
        )
    opened = run if isinstance(run, Run) else Run.open(run)
    asked = knobs.component(opened.experiment.task.evaluation, options)
    opened.experiment.data.check()
    from tfbig.engine import records, results
    from tfbig.engine.trained import Trained
    from tfbig.report import html
    from tfbig.report.console import Console

    console = Console(units=opened.experiment.task.metric_units)
    trained = Trained(opened, str(step), console)
    entry, panels = results.evaluate_split(
        opened, trained.setup, split, trained.step, console, asked
    )
    try:
        key = results.key_of(split, entry.get("asked", {}))
        before = (opened.read_json("metrics.json") or {}).get(key)
        if before is not None and before["step"] == trained.step:
            records.refuse_differences(opened, trained.step, before["metrics"], entry["metrics"])
        results.write_result(opened, trained.setup, entry, panels)
        html.write(opened.path)
    except RunFailure as error:
        console.note(f"not saved: {error}")
        entry["not_saved"] = str(error)
    return entry


def door(arguments: list[str]) -> dict:
    parser = cli.Parser("evaluate", __doc__, EXAMPLES)
    parser.add_argument("run", help="a run directory")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument(
        "--step", default="best", help="best, last or a step number (default: best)"
    )
    knobs = cli.add_knobs(parser, arguments, lambda run: run.experiment.task.evaluation)
    parsed = parser.parse_args(arguments)
    options = cli.given_knobs(parsed, knobs or Run.open(parsed.run).experiment.task.evaluation)
    return evaluate(parsed.run, parsed.split, parsed.step, **options)


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, evaluate)
