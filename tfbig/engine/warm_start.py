"""Starting from weights that exist.

Another run's, by the names of the layers, or a model's own reader.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.core.run import Run
from tfbig.engine import checkpoint
from tfbig.engine.setup import Setup
from tfbig.engine.trained import choose_step

SHOWN = 4  # names in a note


def start_from(setup: Setup, note: Callable[[str], None]) -> None:
    """Weights from elsewhere, if the experiment's `init` names any, in place of fresh ones."""
    source = setup.experiment.init
    if source is None:
        return
    if (Path(source) / "config.json").is_file() and (Path(source) / "checkpoints").is_dir():
        _from_run(setup, Run.open(source), note)
    else:
        setup.experiment.model.load(setup.model, source)
    if setup.step.average is not None:
        pairs = zip(setup.step.average.variables, setup.step.average.source, strict=True)
        for average, weight in pairs:
            average.assign(weight)


def _from_run(setup: Setup, run: Run, note: Callable[[str], None]) -> None:
    """Takes what has the same path and shape from a run's best checkpoint; says what was taken."""
    step = choose_step(run)
    folder = run.checkpoints / checkpoint.folder_name(step)
    try:
        saved = checkpoint.read_file(folder, checkpoint.WEIGHTS, checkpoint.read_state(folder))
    except ValueError as error:
        raise UserError(f"init={run.path}: {error}.") from error
    variables = {
        path: variable
        for path, variable in checkpoint.named(setup.model.variables).items()
        if np.issubdtype(np.dtype(variable.dtype), np.floating)  # seeds stay this run's own
    }
    taken = {
        path: variable
        for path, variable in variables.items()
        if path in saved and saved[path].shape == tuple(variable.shape)
    }
    if not taken:
        raise UserError(
            f"init={run.path}: expected a run whose model shares layers with this one, by name and "
            f"shape. Received: {_some(saved)}; this model has {_some(variables)}."
        )
    for path, variable in taken.items():
        variable.assign(saved[path])
    fresh = [path for path in variables if path not in taken]
    left = [path for path, value in saved.items() if path not in taken and value.dtype.kind == "f"]
    message = f"init: {len(taken)} of {len(variables)} weights from {run.path}, step {step:,}"
    message += f"; fresh: {_some(fresh)}" if fresh else ""
    note(message + (f"; left there: {_some(left)}" if left else ""))


def _some(paths) -> str:
    """A few paths, and how many more there are."""
    paths = list(paths)
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
