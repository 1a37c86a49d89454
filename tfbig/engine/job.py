"""A training job in its run directory, from the data's facts to DONE; and loading what it left."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import resource
import shlex
import sys
import time
from collections.abc import Mapping

import tfbig
from tfbig.core import config
from tfbig.core.contracts import SPLITS
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.lazy import keras, load, np, tf
from tfbig.core.run import Follower, Run
from tfbig.core.workers import place
from tfbig.engine import checkpoint, loop
from tfbig.engine.evaluate import Evaluation
from tfbig.engine.flops import forward_flops
from tfbig.engine.readable import Readable, told
from tfbig.engine.setup import Setup, build_task, device_text
from tfbig.engine.strategy import Workers

COMPARED = 16  # examples of a split that several workers compare with each other


class Journal:
    """An observer that writes the run's log and passes everything on to the console's observer."""

    def __init__(self, run: Run, console: loop.Observer, data: Readable):
        self.run, self.console, self.data, self.told = run, console, data, ""

    def restored(self, step):
        self.run.truncate_history(step)  # what comes after is made again
        self.console.restored(step)
        if step:
            self.console.note(f"resumed at step {step:,}")

    def trained(self, step, values):
        self.run.log("train", step, values)
        self.console.trained(step, values)

    def evaluated(self, step, split, metrics):
        self.run.log("evaluation", step, {"split": split, "metrics": metrics})
        self.console.evaluated(step, split, metrics)
        if told(self.data.skipped) != self.told:
            self.told = told(self.data.skipped)
            self.console.note(self.told)
            self.run.write_json("skipped.json", self.data.skipped)

    def note(self, text):
        self.console.note(text)


def measure(run: Run, experiment: Experiment, data: Readable) -> dict:
    """What preprocessing needs to know of the training split: measured once, then read from data.json."""
    splits, saved = {}, run.read_json("data.json")
    if saved is not None:
        now = data.fingerprint()
        if (saved.get("fingerprint") or now) != now:  # runs of before this data had one have none
            raise UserError(f"data: it has changed since {run.path} was started, so its examples or splits are no longer the same. Bring the old data back, or start a new run.")
        return saved["facts"]
    facts = experiment.task.measure(data)
    for split in ("train", "validation"):  # nothing of the test split is read before training is over
        splits[split] = described(data, split)
    run.write_json("data.json", {"card": data.card(), "fingerprint": data.fingerprint(), "splits": splits, "facts": facts})
    return facts


def described(data: Readable, split: str) -> dict:
    """A split's size and, where counting is cheap, the examples of each class, without those known to be unreadable."""
    arrays, names, skipped = data.arrays(split), data.label_names, list(data.skipped[split])
    counts = {"size": data.size(split) - len(skipped), "classes": {}}
    if arrays is not None and names and "label" in arrays:
        numbers = np.bincount(np.delete(arrays["label"], skipped), minlength=len(names))
        counts["classes"] = dict(zip(names, numbers.tolist(), strict=True))
    return counts


def train(run: Run, console: loop.Observer, callbacks: tuple = ()) -> dict:
    """Trains the run's experiment, evaluates its best checkpoint, and marks the run done; returns the summary."""
    experiment = run.experiment
    with run.lock():
        if (before := loop.check_resumable(experiment, run.checkpoints)) != tfbig.__version__:
            console.note(f"started with tfbig {before}, goes on with {tfbig.__version__}")
        run.read_json("metrics.json")  # written again after training: a damaged one is said now
        load()  # is no part of the training's time
        started = time.monotonic()
        workers = Workers(place(experiment.device.strategy))
        data = Readable(experiment.data, run.read_json("skipped.json"))
        facts = measure(run, experiment, data)
        compare(workers, experiment, data)
        setup = Setup(experiment, json.loads(workers.gather(json.dumps(facts))[0]), workers, data)  # the chief's: rounding may differ elsewhere
        machine = device_text() if workers.count == 1 else f"{workers.count} workers, the chief's on {device_text()}"
        console.note(f"{setup.model.count_params():,} parameters, {machine}, XLA {'on' if setup.jit else 'off'} ({setup.jit_reason})")
        present = checkpoint.steps(run.checkpoints)
        if present:
            data.examples("train", np.arange(1))  # a run is unfinished only once its data is known to be there
            run.unmark_done()
        else:
            start_from(setup)
        state = loop.train(setup, run.checkpoints, Journal(run, console, data), (*own_callbacks(run), *callbacks), started)
        if not workers.is_chief:  # what is left, the chief does alone
            return {}
        summary = describe(setup, state, run)
        run.write_json("summary.json", summary)
        if experiment.train.final_split != "none" and state.best is not None:
            best = state.best["step"]  # of this training: a later checkpoint that was passed over as damaged may name another one
            step = load_step(setup, run, str(best) if best in checkpoint.steps(run.checkpoints) else "best", console)
            record(run, setup, experiment.train.final_split, step, console)
        run.mark_done()
        return run.read_json("summary.json")


def compare(workers: Workers, experiment: Experiment, data: Readable) -> None:
    """Refuses to train with workers that have another configuration, other data or other software."""
    if workers.count == 1:
        return
    facts = {package: importlib.metadata.version(package) for package in ("tensorflow", "keras")}
    facts |= {key: config.text_of(value) for key, value in config.without_paths(experiment).items()}
    facts["init"] = (experiment.init or "none").rstrip("/").rpartition("/")[2]  # the same weights may be elsewhere, not others
    for split in SPLITS[:2]:
        size = data.size(split)
        shown = data.examples(split, np.unique(np.linspace(0, size - 1, min(size, COMPARED)).astype(np.int64)))
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(shown[name]).tobytes() for name in sorted(shown)))
        facts[f"data, {split} split"] = f"{size:,} examples, digest {digest.hexdigest()[:12]}"
    facts["data"] = f"fingerprint {data.fingerprint()[:12] or 'none'}"
    workers.same(facts, "Expected the same configuration, data and software everywhere.")


def start_from(setup: Setup) -> None:
    """Weights from elsewhere, if the experiment names any, in place of fresh ones."""
    if setup.experiment.init is None:
        return
    setup.experiment.model.load(setup.model, setup.experiment.init)
    if setup.step.average is not None:
        for average, weight in zip(setup.step.average.variables, setup.step.average.source, strict=True):
            average.assign(weight)


def own_callbacks(run: Run) -> tuple:
    """The Keras callbacks that an experiment's settings ask for."""
    train, (primary, better) = run.experiment.train, run.experiment.task.primary
    made = []
    if train.patience is not None:
        made.append(keras.callbacks.EarlyStopping(f"val_{primary}", mode=better, patience=train.patience))
    if train.tensorboard and not isinstance(run, Follower):
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError("train.tensorboard: needs the package tensorboard, which is not installed. Run pip install 'tfbig[tensorboard]'.")
        made.append(keras.callbacks.TensorBoard(run.path / "tensorboard", write_graph=False))
    return tuple(made)


def describe(setup: Setup, state: loop.State, run: Run) -> dict:
    """What a report says of a finished training."""
    lines = run.history("train")
    rates = [rate for line in lines[1:] or lines if (rate := line.get("examples_per_s")) is not None]  # the first one includes compiling
    newest, seconds = checkpoint.steps(run.checkpoints)[-1:], state.seconds
    folder = run.checkpoints / checkpoint.folder_name(newest[0]) if newest else None
    return {
        "parameters": setup.model.count_params(),
        "forward_flops": forward_flops(setup.model),
        "steps": state.step,
        "epochs": round(state.step / setup.lengths.epoch, 3),
        "seconds": round(seconds, 2),
        "parts": state.parts,
        "examples_per_s": round(float(np.median(rates)), 1) if rates else None,
        "best_step": state.best and state.best["step"],
        "primary": setup.task.primary[0],
        "stopped": "early" if state.stopped_early else "at its length",
        "jit": setup.jit,
        "jit_reason": setup.jit_reason,
        "block": setup.block,
        "device": device_text(),
        "workers": setup.workers.count,
        "skipped": skipped_counts(setup.data),
        "waited_for_data": round(state.waited["data"] / seconds, 4),
        "waited_for_checkpoints": round(state.waited["checkpoints"] / seconds, 4),
        "checkpoint_mb": round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 2) if folder else None,
    }


def skipped_counts(data: Readable) -> dict[str, int]:
    return {split: len(found) for split, found in data.skipped.items() if found}


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


def record(run: Run, setup: Setup, split: str, step: int, console: loop.Observer) -> dict:
    """Evaluates the model on a split and writes what it came to; returns the split's entry."""
    entry, panels = evaluate_split(run, setup, split, step, console)
    write_result(run, setup, entry, panels)
    return entry


def evaluate_split(run: Run, setup: Setup, split: str, step: int, console: loop.Observer) -> tuple[dict, list[dict]]:
    """The split's entry of metrics.json, and the report's panels."""
    measure(run, run.experiment, setup.data)  # refuses data that has changed
    run.read_json("metrics.json")  # written again afterwards: a damaged one is said now
    known = told(setup.data.skipped)
    result: Evaluation = setup.evaluate(split, keep_outputs=True)
    console.evaluated(step, split, result.metrics)
    if told(setup.data.skipped) != known:
        console.note(told(setup.data.skipped))
    entry = {"dataset": type(run.experiment.data).__name__, "split": split, "count": result.count, "step": step, "metrics": result.metrics}
    return entry, [*setup.task.samples(setup.model, setup.jit), *setup.task.panels(split, result.measured, {name: value[result.measured] for name, value in result.outputs.items()})]


def write_result(run: Run, setup: Setup, entry: dict, panels: list[dict]) -> None:
    """Writes an evaluation to metrics.json, panels.json and data.json."""
    split = entry["split"]
    run.write_json("metrics.json", {**(run.read_json("metrics.json") or {}), split: entry})
    run.write_json("panels.json", panels)
    if any(setup.data.skipped.values()):
        run.write_json("skipped.json", setup.data.skipped)
        with contextlib.suppress(UserError):  # a damaged summary, which is for people only
            if (summary := run.read_json("summary.json")) is not None:
                run.write_json("summary.json", {**summary, "skipped": skipped_counts(setup.data)})
    saved = run.read_json("data.json")
    for name in saved["splits"]:  # some of their records may have turned out unreadable since
        saved["splits"][name]["size"] = setup.data.size(name) - len(setup.data.skipped[name])
    saved["splits"][split] = described(setup.data, split)
    run.write_json("data.json", saved)


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
        choose_step(run, wanted)  # a wrong one is told before anything heavy is imported
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


def dry_run(experiment: Experiment) -> dict:
    """Builds everything, makes one step, and says what it takes."""
    started = time.monotonic()
    data = Readable(experiment.data)
    setup = Setup(experiment, experiment.task.measure(data), data=data)
    slab, first = setup.slabs.at(0)
    scalars = setup.run_block(slab, tf.constant(first), tf.constant(1))
    loss = float(scalars["loss"][0])
    size = lambda variables: sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in variables)  # noqa: E731
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "parameters": setup.model.count_params(),
        "forward_flops_per_example": forward_flops(setup.model),
        "weights_mb": round(size(setup.model.variables) / 1e6, 2),
        "optimizer_mb": round(size(setup.other_variables) / 1e6, 2),
        "peak_memory_mb": round(peak / 1e6),
        "steps": setup.lengths.total,
        "steps_per_epoch": round(setup.lengths.epoch, 2),
        "train_examples": experiment.data.size("train"),
        "device": device_text(),
        "jit": setup.jit,
        "jit_reason": setup.jit_reason,
        "first_loss": loss,
        "seconds": round(time.monotonic() - started, 2),
    }


def build(experiment: Experiment):
    """The bound task and its untrained Keras model, for use without a run: (task, model)."""
    data = Readable(experiment.data)
    return build_task(experiment, experiment.task.measure(data), data)

