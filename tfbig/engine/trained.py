"""A trained model, ready to use: a run's, with the weights of its best checkpoint or another."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.features import Feature
from tfbig.core.lazy import np, tf
from tfbig.core.run import Run
from tfbig.engine import checkpoint, loop, shapes
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup, merged

PARTS = "parts"  # a run's folder of the runs that it uses


class Trained:
    """A run's model, ready to use.

    Attributes:
        model: the plain Keras functional model.
        task: the bound task: `preprocess`, `predict`, `metrics`, ...
        step: the optimiser step its weights are of.
        jit: whether XLA compiles what the model computes.
    """

    def __init__(self, run: Run, wanted: str, console: loop.Observer):
        experiment = run.experiment
        saved = run.read_json("data.json")
        if saved is None:
            raise UserError(
                f"{run.path / 'data.json'}: missing. Train first: python -m tfbig.train --resume"
                f" {shlex.quote(str(run.path))}"
            )
        choose_step(run, wanted)  # like the next line, before anything heavy is imported
        loop.check_settings(experiment, run.checkpoints)
        data = Readable(experiment.data, run.read_json("skipped.json"))
        parts = load_parts(run, experiment.task, console)
        setup = Setup(experiment, saved["facts"], data=data, parts=parts)
        self.step = load_step(setup, run, wanted, console)
        self.setup = merged(setup)
        self.task = self.setup.task
        self.model = self.setup.model
        self.jit = self.setup.jit
        self.run = run

    def predict(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs for raw examples as the dataset's `spec` describes them.

        Such as {"image": uint8 [n, height, width, channels]}.

        Returns:
            output name -> [n, ...], also for n = 0.

        Raises:
            UserError: the examples are not as `spec` says; what a task does not predict from, such
                as labels, may be left out.
        """
        values = self._checked(raw)
        size = len(next(iter(values.values())))
        if not size:  # shapes and types are those of one example's outputs
            values = {
                name: np.zeros((1, *value.shape[1:]), value.dtype) for name, value in values.items()
            }
        filled = max(1, size)
        batch_size = min(1024, filled)
        results = []
        for first in range(0, filled, batch_size):
            # Filled up, so that all batches have one shape
            rows = np.arange(first, first + batch_size) % filled
            batch = {name: tf.constant(value[rows]) for name, value in values.items()}
            try:
                ready = (
                    batch
                    if self.task.preprocess_on == "device"
                    else self.task.preprocess(batch, training=False)
                )
                outputs, _ = self.setup.predict(ready, False)
            except KeyError as error:
                if error.args[0] not in self.task.data.spec or error.args[0] in values:
                    raise
                raise UserError(
                    f"{error.args[0]}: expected values for it too. Received: {', '.join(values)}."
                ) from None
            results.append({name: value.numpy()[: size - first] for name, value in outputs.items()})
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    def _checked(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raw examples as arrays, padded where they may be of any length.

        Raises:
            UserError: they are not as `spec` says.
        """
        spec = self.task.data.spec
        form = ", ".join(f"{name!r}: {_form(feature)}" for name, feature in spec.items())
        if not isinstance(raw, Mapping) or not raw or any(name not in spec for name in raw):
            received = type(raw).__name__
            if isinstance(raw, Mapping):
                received = ", ".join(map(str, raw)) or "none"
            raise UserError(f"expected raw examples by name: {{{form}}}. Received: {received}.")
        free = [name for name in raw if spec[name].most is not None]
        values = {name: _array(name, raw[name], spec[name]) for name in raw if name not in free}
        values |= self._padded({name: raw[name] for name in free})
        sizes = {name: len(values[name]) for name in raw}
        if len(set(sizes.values())) > 1:
            received_sizes = ", ".join(f"{size:,} of {name}" for name, size in sizes.items())
            raise UserError(f"expected as many rows of each. Received: {received_sizes}.")
        return values

    def _padded(self, raw: dict[str, list]) -> dict[str, np.ndarray]:
        """Features with a free axis, padded alike, and how many of each are real."""
        spec = self.task.data.spec
        values = {}
        for name, rows in raw.items():
            values[name] = [_array(name, [row], spec[name])[0] for row in rows]
        padded = shapes.fitting(values, self.task.facts.get("shapes", []), shapes.free(spec))
        arrays = {}
        for name, rows in values.items():
            try:
                arrays[name] = shapes.pad(rows, padded[name], spec[name])
            except ValueError as error:
                raise UserError(f"{name}: example {error.args[1]:,}: {error.args[0]}") from error
            arrays[f"{name}_count"] = shapes.counts(rows)
        return arrays


def _form(feature: Feature) -> str:
    """What an array of a feature must be, in words: float32 [n, 28, 28, 1]."""
    sizes = ["any" if size is None else str(size) for size in feature.shape]
    return f"{feature.dtype} [{', '.join(['n', *sizes])}]"


def _array(name: str, value, feature: Feature) -> np.ndarray:
    """A user's value as an array of this feature, of any length where its axis is free."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of several lengths
        raise UserError(f"{name}: expected one array. {error}") from error
    fixed = 1 if feature.most is None else 2
    is_shaped = (
        array.ndim == 1 + len(feature.shape) and array.shape[fixed:] == feature.shape[fixed - 1 :]
    )
    if not is_shaped or array.dtype != feature.dtype:
        unit = f" ({feature.unit})" if feature.unit else ""
        received = f"{array.dtype} {list(array.shape)}"
        raise UserError(f"{name}: expected {_form(feature)}{unit}. Received: {received}.")
    return array


def load_parts(run: Run | None, task: Task, console: loop.Observer) -> dict[str, Trained]:
    """The runs that a task uses, frozen, by name: as copied into `run`, else where they are."""
    parts = {}
    for name, source in task.uses().items():
        copied = run.path / PARTS / name if run is not None else None
        used = open_part(name, copied if copied is not None and copied.is_dir() else source)
        parts[name] = Trained(used, "best", console)
        parts[name].model.trainable = False
    return parts


def open_part(name: str, source: str | Path) -> Run:
    """A run that a task uses; an error names the use."""
    try:
        return Run.open(source)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def choose_step(run: Run, wanted: str = "best") -> int:
    """The checkpoint that "best", "last" or a step number means."""
    present = checkpoint.steps(run.checkpoints)
    if not present:
        raise UserError(
            f"{run.checkpoints}: holds no checkpoint yet. Train first: python -m tfbig.train"
            f" --resume {shlex.quote(str(run.path))}"
        )
    if wanted == "last":
        return present[-1]
    if wanted == "best":
        for step in reversed(present):
            try:
                best = checkpoint.read_state(run.checkpoints / checkpoint.folder_name(step))["best"]
            except ValueError:
                continue
            return best["step"] if best and best["step"] in present else step
        return present[-1]
    if not (wanted.isascii() and wanted.isdecimal()) or int(wanted) not in present:
        raise UserError(
            f"step: expected best, last or one of {', '.join(map(str, present))}. Received:"
            f" {wanted!r}."
        )
    return int(wanted)


def load_step(setup: Setup, run: Run, wanted: str, console: loop.Observer) -> int:
    """Loads the weights of "best", "last" or a step into the model; returns the step.

    If those are damaged, the newest intact ones.
    """
    while True:
        step = choose_step(run, wanted)
        folder = run.checkpoints / checkpoint.folder_name(step)
        before = checkpoint.identity(folder)
        try:
            return checkpoint.load(folder, setup.model_files)["step"]
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            if before is None or checkpoint.identity(folder) != before:
                # Not damaged: the run is being trained, and the checkpoint was removed or replaced
                # meanwhile
                continue
            console.note(f"checkpoint of step {step} is passed over: {error}")
            newest = checkpoint.newest_intact(run.checkpoints, setup.model_files, console.note)
            return newest["step"]
