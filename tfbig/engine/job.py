"""A training job in its run directory: prepare, train, conclude."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import resource
import sys
import time

import tfbig
from tfbig.core import config, knobs
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.features import SPLITS
from tfbig.core.interrupt import held_signals
from tfbig.core.lazy import keras, load, np, tf
from tfbig.core.run import Follower, Run
from tfbig.core.workers import place
from tfbig.engine import checkpoint, facts, loop, machine, overview, parts, results, shapes
from tfbig.engine.flops import forward_flops
from tfbig.engine.readable import Readable, told
from tfbig.engine.records import is_recorded
from tfbig.engine.setup import Lengths, Setup, build_task, device_text, training_facts
from tfbig.engine.strategy import Workers
from tfbig.engine.trained import load_parts, load_step
from tfbig.engine.warm_start import start_from

COMPARED = 16  # examples of a split that several workers compare with each other


class Journal:
    """An observer that writes the run's log and passes everything on to the console's observer."""

    def __init__(self, run: Run, console: loop.Observer, data: Readable):
        self.run, self.console, self.data = run, console, data
        self.reported = ""  # the last message about unreadable records
        self.began = 0

    def restored(self, step):
        self.began = step
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
        if told(self.data.skipped) != self.reported:
            self.reported = told(self.data.skipped)
            self.console.note(self.reported)
            self.run.write_json("skipped.json", self.data.skipped)

    def note(self, text):
        self.console.note(text)


def train(run: Run, console: loop.Observer, callbacks: tuple = ()) -> dict:
    """Prepares, trains and concludes a run; returns its summary, which only the chief has.

    Args:
        run: the run directory.
        console: shows what a person wants to know.
        callbacks: Keras callbacks besides those that the settings ask for.
    """
    with run.lock():
        _refuse_damage(run, console)
        load()  # is no part of the training's time
        started = time.monotonic()
        setup = prepare(run, console)
        start(run, setup, console)
        journal = Journal(run, console, setup.data)
        hooks = (*own_callbacks(run), *callbacks)
        state = loop.train(setup, run.checkpoints, journal, hooks, started)
        if not setup.workers.is_chief:  # the chief does the rest alone
            return {}
        if journal.began == state.step:
            console.note("nothing was left to train")
        return conclude(run, setup, state, console)


def _refuse_damage(run: Run, console: loop.Observer) -> None:
    """Refuses now what training could not resume from, or would lose at the end."""
    before = loop.check_settings(run.experiment, run.checkpoints)
    if before != tfbig.__version__:
        console.note(f"started with tfbig {before}, goes on with {tfbig.__version__}")
    run.read_json("metrics.json")  # written again after training


def prepare(run: Run, console: loop.Observer) -> Setup:
    """Everything that training works with: workers, data, facts, other runs' parts, the model."""
    experiment = run.experiment
    workers = _workers(run, console)
    data = Readable(experiment.data, run.read_json("skipped.json"))
    overview.refuse_empty(experiment, data)
    known = facts.measure(run, experiment, data)
    compare(workers, experiment, data)
    if workers.is_chief:
        splits = run.read_json("data.json")["splits"]
        _say(experiment, data, splits, console)
        parts.copy(run, experiment.task, console.note)
    # The chief's: rounding may differ elsewhere. It has copied the parts by then.
    known = json.loads(workers.gather(json.dumps(known))[0])
    used = load_parts(run, experiment.task, console)
    # TensorFlow's native code loses what a handler raises while a model is built.
    with held_signals():
        setup = Setup(experiment, known, workers, data, used)
        setup.files  # noqa: B018 - the optimiser and the step, too
    console.note(_size_and_place(setup))
    preview = setup.task.preview(setup.model) if _is_new(run, workers) else []
    for line in (*overview.micro_statistics(experiment, setup.model), *preview):
        console.note(line)
    return setup


def _is_new(run: Run, workers: Workers) -> bool:
    return workers.is_chief and not checkpoint.steps(run.checkpoints)


def _say(experiment: Experiment, data: Readable, splits: dict, console: loop.Observer) -> None:
    lines = overview.lines(experiment, data)
    for line in (*lines, *overview.concerns(experiment, data, splits)):
        console.note(line)


def _size_and_place(setup: Setup) -> str:
    devices = device_text()
    if setup.workers.count > 1:
        devices = f"{setup.workers.count} workers, the chief's on {devices}"
    xla = f"XLA {'on' if setup.jit else 'off'} ({setup.jit_reason})"
    parameters = f"{setup.model.count_params():,} parameters"
    if setup.experiment.adapt is not None or setup.experiment.train.freeze:
        trained = sum(
            variable.value.shape.num_elements() for variable in setup.model.trainable_variables
        )
        parameters += f", {trained:,} of them trained"
    return f"{parameters}, {devices}, {xla}"


def start(run: Run, setup: Setup, console: loop.Observer) -> None:
    """Starts a run.

    A resumed one is unfinished again; a new one takes its starting weights, if it has any, and
    shows its first batch in the report.
    """
    if checkpoint.steps(run.checkpoints):
        setup.data.examples("train", np.arange(1))  # only once its data is known to be there
        run.unmark_done()
        return
    start_from(setup, console)
    with held_signals():
        panels = setup.task.training_panels(first_batch(setup))
        results.write_panels(run, {"inputs": panels}, 0)


def conclude(run: Run, setup: Setup, state: loop.State, console: loop.Observer) -> dict:
    """Writes the summary, evaluates the best checkpoint on the final split, marks the run done."""
    run.write_json("summary.json", describe(setup, state, run))
    split = run.experiment.train.final_split
    best = state.best["step"] if state.best else state.saved
    if split != "none" and best is not None:
        # This training's best: a later checkpoint, passed over as damaged, may name another one.
        choice = str(best) if best in checkpoint.steps(run.checkpoints) else "best"
        step = load_step(setup, run, choice, console)
        if not is_recorded(run, split, step):  # the test split is read once
            results.record(run, setup, split, step, console)
    run.mark_done()
    return run.read_json("summary.json")


def _workers(run: Run, console: loop.Observer) -> Workers:
    """Who trains, computing as the run was computed so far if that can be; says what differs."""
    newest = checkpoint.newest_state(run.checkpoints)
    before = newest[1].get("machine", {}) if newest else {}
    # Before TensorFlow computes anything, which workers do when they meet
    kept = machine.keep_threads(before)
    workers = Workers(place(run.experiment.device.strategy))
    for line in (*kept, *machine.changes(before, machine.described(workers.count))):
        console.note(line)
    return workers


def compare(workers: Workers, experiment: Experiment, data: Readable) -> None:
    """Refuses to train with workers whose configuration, data or software differs."""
    if workers.count == 1:
        return
    facts = {package: importlib.metadata.version(package) for package in ("tensorflow", "keras")}
    facts |= {key: knobs.text_of(value) for key, value in config.without_paths(experiment).items()}
    # The same weights may be elsewhere, not others
    facts["init"] = (experiment.init or "none").rstrip("/").rpartition("/")[2]
    for split in SPLITS[:2]:
        size = data.size(split)
        shown = data.examples(
            split, np.unique(np.linspace(0, size - 1, min(size, COMPARED)).astype(np.int64))
        )
        digest = hashlib.sha256()
        for name in sorted(shown):
            for value in shown[name]:
                digest.update(value if isinstance(value, bytes) else np.asarray(value).tobytes())
        facts[f"data, {split} split"] = f"{size:,} examples, digest {digest.hexdigest()[:12]}"
    facts["data"] = f"fingerprint {data.fingerprint()[:12] or 'none'}"
    workers.same(facts, "Expected the same configuration, data and software everywhere.")


def first_batch(setup: Setup) -> dict[str, np.ndarray]:
    """The first batch of training as the network gets it; on several workers, this one's share."""
    slab, place = setup.slabs.at(0)
    batch = {name: value[place] for name, value in slab.items()}
    if setup.task.preprocess_on == "device":
        batch = setup.task.preprocess(batch, training=True)
    return {name: value.numpy() for name, value in batch.items()}


def own_callbacks(run: Run) -> tuple:
    """The Keras callbacks that an experiment's settings ask for."""
    train = run.experiment.train
    primary, better = run.experiment.task.primary
    callbacks = []
    if train.patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(f"val_{primary}", mode=better, patience=train.patience)
        )
    if train.tensorboard and not isinstance(run, Follower):
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError(
                "train.tensorboard: needs the package tensorboard, which is not installed. Run pip"
                " install 'tfbig[tensorboard]'."
            )
        callbacks.append(keras.callbacks.TensorBoard(run.path / "tensorboard", write_graph=False))
    return tuple(callbacks)


def is_finished(run: Run) -> bool:
    """Whether nothing is left to do in a run.

    It is trained to its length and evaluated, and its files can be read.
    """
    names = ("data.json", "summary.json", "metrics.json")
    try:
        whole = run.is_done and all(run.read_json(name) is not None for name in names)
        run.read_json("skipped.json")
        reached = max(checkpoint.steps(run.checkpoints), default=0)
        if not whole or reached < Lengths.of(run.experiment).total:
            return False
        best = checkpoint.read_state(run.checkpoints / checkpoint.folder_name(reached))["best"]
    except ValueError:  # damaged: what can be written again will be, the rest is reported
        return False
    split = run.experiment.train.final_split
    return split == "none" or is_recorded(run, split, best["step"] if best else reached)


def describe(setup: Setup, state: loop.State, run: Run) -> dict:
    """What a report says of a finished training."""
    lines = run.history("train")
    # The first one includes compiling
    rates = [
        rate for line in lines[1:] or lines if (rate := line.get("examples_per_s")) is not None
    ]
    newest = checkpoint.steps(run.checkpoints)[-1:]
    seconds = state.seconds
    folder = run.checkpoints / checkpoint.folder_name(newest[0]) if newest else None
    return {
        "parameters": setup.model.count_params(),
        "forward_flops": forward_flops(setup.model, shapes.longest(setup.task.data.spec)),
        "steps": state.step,
        "epochs": setup.epochs(state.step),
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
        "skipped": results.skipped_counts(setup.data),
        "waited_for_data": round(state.waited["data"] / seconds, 4),
        "waited_for_checkpoints": round(state.waited["checkpoints"] / seconds, 4),
        "checkpoint_mb": (
            round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 2)
            if folder
            else None
        ),
    }


def dry_run(experiment: Experiment, console: loop.Observer) -> dict:
    """Builds everything, makes one step, and says what it takes, and all that a start would say."""
    started = time.monotonic()
    data = Readable(experiment.data)
    overview.refuse_empty(experiment, data)
    known = training_facts(experiment, data)
    splits = {split: facts.described(data, split) for split in ("train", "validation")}
    _say(experiment, data, splits, console)
    used = load_parts(None, experiment.task, console)
    setup = Setup(experiment, known, data=data, parts=used)
    for line in overview.micro_statistics(experiment, setup.model):
        console.note(line)
    slab, first = setup.slabs.at(0)
    scalars = setup.run_block(slab, tf.constant(first), tf.constant(1))
    loss = float(scalars["loss"][0])

    def size(variables):
        return sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in variables)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    return {
        "parameters": setup.model.count_params(),
        "forward_flops_per_example": forward_flops(
            setup.model, shapes.longest(setup.task.data.spec)
        ),
        "weights_mb": round(size(setup.model.variables) / 1e6, 2),
        "optimizer_mb": round(size(setup.files[checkpoint.OPTIMIZER]) / 1e6, 2),
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


def build(experiment: Experiment, console: loop.Observer):
    """The bound task and its untrained Keras model, for use without a run: (task, model)."""
    data = Readable(experiment.data)
    known = training_facts(experiment, data)
    used = load_parts(None, experiment.task, console)
    return build_task(experiment, known, data, used)
