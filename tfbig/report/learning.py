"""How a training went: the courses of its loss, its metrics and its speed."""

from __future__ import annotations

import contextlib

from tfbig.core.errors import UserError
from tfbig.core.run import Run


def panels(run: Run, summary: dict) -> list[dict]:
    """Curves over the steps of a run; none before the first step was logged."""
    trained = run.history("train")
    evaluated = run.history("evaluation")
    if not trained:
        return []

    def training(key: str) -> dict:
        return {
            "name": "training",
            "x": [line["step"] for line in trained],
            "y": [line.get(key) for line in trained],
        }

    def validation(name: str) -> dict:
        values = [line.get("metrics", {}).get(name, {}).get("value") for line in evaluated]
        return {"name": "validation", "x": [line["step"] for line in evaluated], "y": values}

    def curves(title: str, *series: dict, **more) -> dict:
        return {"kind": "curves", "title": title, "x_label": "step", "series": list(series), **more}

    drawn = [curves("Loss", training("loss"), validation("loss"), log_y=True)]
    primary = summary.get("primary", "loss")
    if primary != "loss":
        own = [training(primary)] if primary in trained[0] else []
        drawn.append(curves(_title(primary), *own, validation(primary)))
    for name in _curves(run):
        both = [training(name)] if name in trained[0] else []
        both += [validation(name)] if any(validation(name)["y"]) else []
        drawn.append(curves(_title(name), *both))
    speed = {
        name: values if name == "name" else values[1:] or values
        for name, values in training("examples_per_s").items()
    }
    return [
        *drawn,
        curves("Learning rate", training("learning_rate"), from_zero=True),
        curves(
            "Examples per second", speed, from_zero=True
        ),  # without the first, which includes compiling
    ]


def _curves(run: Run) -> tuple[str, ...]:
    """Further scalars whose course is shown; none if the experiment cannot be read."""
    with contextlib.suppress(UserError):
        return run.experiment.task.curves
    return ()


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
