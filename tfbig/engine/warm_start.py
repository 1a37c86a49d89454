"""Starting weights: another run's, by the names of layers, or what a model's own reader loads."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.lazy import np
from tfbig.core.model import Model
from tfbig.core.registry import nearest
from tfbig.core.run import Run
from tfbig.engine import checkpoint
from tfbig.engine.loop import Observer
from tfbig.engine.setup import Setup, build_task
from tfbig.engine.trained import Trained, choose_step

SHOWN = 4  # names in a note
HUB = "hub:"  # begins the name of a preset


def check(experiment: Experiment) -> None:
    """Refuses an `init` that leads nowhere; without TensorFlow, before a run is made."""
    source = experiment.init
    reads = type(experiment.model).load is not Model.load
    if source is None or (reads and source.startswith(HUB)) or _is_run(Path(source)):
        return
    path = Path(source)
    remedy = ""
    inside = next((each for each in (path, path.parent) if each.name == "checkpoints"), None)
    if inside is not None and _is_run(inside.parent):
        remedy = f" Set init={inside.parent}: its best checkpoint is taken."
    elif reads and path.exists():
        return  # the model says what is wrong with it
    elif path.parent.is_dir() and not path.exists():
        remedy = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    elsewhere = ", a folder with .safetensors files, or hub:PRESET" if reads else ""
    reason = "which holds no run" if path.exists() else "which does not exist"
    raise UserError(
        f"init: expected a run directory{elsewhere}. Received: {source}, {reason}.{remedy}"
    )


def _is_run(path: Path) -> bool:
    """Whether this is a run's directory; a folder of Hugging Face's has a config.json, too."""
    return (path / "config.json").is_file() and (path / "env.json").is_file()


def _digest(setup: Setup) -> str:
    digest = hashlib.sha256()
    for variable in setup.model.variables if setup.workers.count > 1 else ():
        digest.update(variable.numpy().tobytes())
    return f"weights with digest {digest.hexdigest()[:12]}"


def start_from(setup: Setup, console: Observer) -> None:
    """Replaces fresh weights by those that the experiment's `init` names, if any."""
    source = setup.experiment.init
    if source is None:
        return
    check(setup.experiment)
    if _is_run(Path(source)):
        _from_run(setup, Run.open(source), console)
    else:
        _from_elsewhere(setup, source)
    # A run that is still being trained may have got another best checkpoint meanwhile
    setup.workers.same({"init": _digest(setup)}, "Expected the same weights to start from.")
    if setup.step.average is not None:
        pairs = zip(setup.step.average.variables, setup.step.average.source, strict=True)
        for average, weight in pairs:
            average.assign(weight)


def _from_elsewhere(setup: Setup, source: str) -> None:
    """Loads weights through the model's own reader, which reads them into the plain model."""
    experiment = setup.experiment
    if experiment.adapt is None:
        experiment.model.load(setup.model, source)
        return
    plain = dataclasses.replace(experiment, adapt=None)
    _, model = build_task(plain, setup.task.facts, setup.data, setup.task.parts)
    experiment.model.load(model, source)
    adapted = checkpoint.named(setup.model.variables)
    for path, variable in checkpoint.named(model.variables).items():
        adapted[path].assign(variable.value)


def _weights_of(run: Run, console: Observer) -> tuple[int, dict[str, np.ndarray]]:
    """The step of a run's best checkpoint, and its weights: path -> array."""
    if run.experiment.adapt is not None:
        trained = Trained(run, "best", console)
        variables = checkpoint.named(trained.model.variables)
        return trained.step, {path: variable.numpy() for path, variable in variables.items()}
    step = choose_step(run)
    folder = run.checkpoints / checkpoint.folder_name(step)
    try:
        state = checkpoint.read_state(folder)
        return step, checkpoint.read_file(folder, checkpoint.WEIGHTS, state)
    except ValueError as error:
        raise UserError(f"init={run.path}: {error}.") from error


def _from_run(setup: Setup, run: Run, console: Observer) -> None:
    """Copies weights of the same path and shape from a run's best checkpoint, and reports which."""
    step, saved = _weights_of(run, console)
    variables = {
        path: variable
        for path, variable in checkpoint.named(setup.model.variables).items()
        if np.issubdtype(np.dtype(variable.dtype), np.floating)  # seeds stay this run's own
    }
    shared = {
        path: variable
        for path, variable in variables.items()
        if path in saved and saved[path].shape == tuple(variable.shape)
    }
    if not shared:
        raise UserError(
            f"init={run.path}: expected a run whose model shares layers with this one, by name and "
            f"shape. Received: {_some(saved)}; this model has {_some(variables)}."
        )
    for path, variable in shared.items():
        variable.assign(saved[path])
    fresh = [path for path in variables if path not in shared]
    if setup.experiment.adapt is not None:
        own = {*checkpoint.named(setup.model_files[checkpoint.ADAPTER])}
        _refuse_frozen(run, [path for path in fresh if path not in own])
    unused = [
        path for path, value in saved.items() if path not in shared and value.dtype.kind == "f"
    ]
    there = (run.read_json("data.json") or {}).get("facts", {})
    here = setup.task.facts
    known = {name: value for name, value in here.items() if not isinstance(value, int)}  # no counts
    other = [name for name, value in known.items() if name in there and there[name] != value]
    message = f"init: {len(shared)} of {len(variables)} weights from {run.path}, step {step:,}"
    message += f"; fresh: {_some(fresh)}" if fresh else ""
    message += f"; left there: {_some(unused)}" if unused else ""
    console.note(message + (f"; its data had other {', '.join(other)}" if other else ""))


def _refuse_frozen(run: Run, fresh: list[str]) -> None:
    """Refuses weights that the other run has not, and that the adapter would never train."""
    if fresh:
        raise UserError(
            f"init={run.path}: has no {_some(fresh)} of this model's shape, and adapt would leave"
            " what they begin with as it is. Let them train whole (adapt.whole=LAYER), or take"
            " another run."
        )


def _some(paths) -> str:
    """A few paths, and how many more there are."""
    paths = list(paths)
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
