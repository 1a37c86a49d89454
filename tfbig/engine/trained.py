"""What a training left, ready to use: a run's model with the weights of its best checkpoint or another."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.core.run import Run
from tfbig.engine import checkpoint, loop
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup


class Trained:
    """A run's model, ready to use.

    Attributes:
        model: the plain Keras functional model.
        task: the bound task: `preprocess`, `predict`, `metrics`, ...
        step: the optimiser step its weights are of.
    """

    def __init__(self, run: Run, wanted: str, console: loop.Observer):
        experiment, saved = run.experiment, run.read_json("data.json")
        if saved is None:
            raise UserError(f"{run.path / 'data.json'}: missing. Train first: python -m tfbig.train --resume {shlex.quote(str(run.path))}")
        choose_step(run, wanted)  # this and the next are told before anything heavy is imported
        loop.check_settings(experiment, run.checkpoints)
        self.setup = Setup(experiment, saved["facts"], data=Readable(experiment.data, run.read_json("skipped.json")))
        self.task, self.model = self.setup.task, self.setup.model
        self.step = load_step(self.setup, run, wanted, console)
        self.run = run

    def predict(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs for raw examples as the dataset's `spec` describes them, such as {"image": uint8 [n, height, width, channels]}.

        Returns:
            output name -> [n, ...], also for n = 0.

        Raises:
            UserError: the examples are not as `spec` says; what a task does not predict from, such as labels, may be left out.
        """
        values = self._checked(raw)
        size = len(next(iter(values.values())))
        if not size:  # shapes and types are those of one example's outputs
            values = {name: np.zeros((1, *value.shape[1:]), value.dtype) for name, value in values.items()}
        filled = max(1, size)
        batch_size, parts = min(1024, filled), []
        for first in range(0, filled, batch_size):
            rows = np.arange(first, first + batch_size) % filled  # filled up, so that all batches have one shape
            batch = {name: tf.constant(value[rows]) for name, value in values.items()}
            try:
                ready = batch if self.task.preprocess_on == "device" else self.task.preprocess(batch, training=False)
                outputs, _ = self.setup.predict(ready, False)
            except KeyError as error:
                if error.args[0] not in self.task.data.spec or error.args[0] in values:
                    raise
                raise UserError(f"{error.args[0]}: expected values for it too. Received: {', '.join(values)}.") from None
            parts.append({name: value.numpy()[: size - first] for name, value in outputs.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _checked(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raw examples as arrays, if they are as the dataset's `spec` says."""
        spec = self.task.data.spec
        form = ", ".join(f"{name!r}: {feature.dtype} {['n', *feature.shape]}".replace("'n'", "n") for name, feature in spec.items())
        if not isinstance(raw, Mapping) or not raw or any(name not in spec for name in raw):
            received = (", ".join(map(str, raw)) or "none") if isinstance(raw, Mapping) else type(raw).__name__
            raise UserError(f"expected raw examples by name: {{{form}}}. Received: {received}.")
        values = {}
        for name, value in raw.items():
            try:
                values[name] = np.asarray(value)
            except ValueError as error:  # rows of several lengths
                raise UserError(f"{name}: expected one array. {error}") from error
            feature, shape = spec[name], values[name].shape
            if values[name].ndim == 0 or shape[1:] != feature.shape or values[name].dtype != feature.dtype:
                raise UserError(f"{name}: expected {feature.dtype} {['n', *feature.shape]} ({feature.unit}). Received: {values[name].dtype} {list(shape)}.")
        if len({len(value) for value in values.values()}) > 1:
            raise UserError(f"expected as many rows of each. Received: {', '.join(f'{len(value):,} of {name}' for name, value in values.items())}.")
        return values


def choose_step(run: Run, wanted: str = "best") -> int:
    """The checkpoint that "best", "last" or a step number means."""
    present = checkpoint.steps(run.checkpoints)
    if not present:
        raise UserError(f"{run.checkpoints}: holds no checkpoint yet. Train first: python -m tfbig.train --resume {shlex.quote(str(run.path))}")
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
        raise UserError(f"step: expected best, last or one of {', '.join(map(str, present))}. Received: {wanted!r}.")
    return int(wanted)


def load_step(setup: Setup, run: Run, wanted: str, console: loop.Observer) -> int:
    """Puts the weights of "best", "last" or a step into the model; the newest intact ones if those are damaged. Returns the step."""
    while True:
        step = choose_step(run, wanted)
        folder = run.checkpoints / checkpoint.folder_name(step)
        before = checkpoint.identity(folder)
        try:
            return checkpoint.load(folder, setup.model.variables)["step"]
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            if before is None or checkpoint.identity(folder) != before:
                continue  # not damaged: the run is being trained, and the checkpoint was removed or replaced meanwhile
            console.note(f"checkpoint of step {step} is passed over: {error}")
            return checkpoint.newest_intact(run.checkpoints, setup.model.variables, warn=console.note)["step"]
