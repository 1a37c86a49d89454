"""The recorded metrics of a run's checkpoints, and whether a checkpoint still gives them."""

from __future__ import annotations

from tfbig.core.errors import RunFailure
from tfbig.core.run import Run

TIES = 2000  # examples among which one may be a tie, and change sides
# Relative to 1 + |value|: another number of threads or another device sums in another order
ROUNDING = 1e-3


def recorded(run: Run, step: int) -> tuple[str, dict] | None:
    """The split and the metrics recorded for a step's checkpoint, of the test split if possible."""
    metrics = run.read_json("metrics.json") or {}
    for split in ("test", "validation"):
        if is_recorded(run, split, step):
            return split, metrics[split]["metrics"]
    for line in reversed(run.history("evaluation")):
        if line["step"] == step and line.get("split") == "validation" and line.get("metrics"):
            return "validation", line["metrics"]
    return None


def is_recorded(run: Run, split: str, step: int) -> bool:
    """Whether the run's metrics of a split are those of a step's checkpoint."""
    entry = (run.read_json("metrics.json") or {}).get(split)
    return entry is not None and entry["step"] == step


def refuse_differences(run: Run, step: int, before: dict, now: dict) -> None:
    """Makes sure that a checkpoint gives the metrics that were recorded of it, but for rounding.

    Args:
        run, step: whose checkpoint.
        before, now: name -> {"value", "low", "high", "count"} on the same split, as recorded and as
            measured now.

    Raises:
        RunFailure: it does not; the message names the metrics that differ.
    """
    task = run.experiment.task
    precision = run.experiment.device.precision
    wrong = [
        f"{name} {_text(before[name]['value'])} recorded, {_text(metric['value'])} now"
        for name, metric in now.items()
        if name in before
        and name not in task.derived
        and not is_same(before[name], metric, precision)
    ]
    if wrong:
        raise RunFailure(
            f"{run.path}: the checkpoint of step {step:,} does not give the metrics that were"
            f" recorded of it: {', '.join(wrong)}. The checkpoint, the data or the software is not"
            " what it was: bring it back, or train again."
        )


def is_same(before: dict, now: dict, precision: str) -> bool:
    """Whether two values of a metric are of the same weights.

    Below float32, any value in the earlier interval is.
    """
    if before["value"] is None or now["value"] is None:
        return before["value"] == now["value"]
    examples = max(1, now["count"])
    allowed = max(1, examples // TIES) / examples + ROUNDING * (1 + abs(before["value"]))
    if abs(now["value"] - before["value"]) <= allowed:
        return True
    low, high = before.get("low"), before.get("high")
    return precision != "float32" and low is not None and low <= now["value"] <= high


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"
