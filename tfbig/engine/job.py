"""A training job in its run directory, from the data's facts to DONE.

And evaluating what it left.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import resource
import sys
import time

import tfbig
from tfbig.core import config
from tfbig.core.contracts import SPLITS
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.interrupt import watch_signals
from tfbig.core.lazy import keras, load, np, tf
from tfbig.core.run import Follower, Run
from tfbig.core.workers import place
from tfbig.engine import checkpoint, loop, machine, overview, parts
from tfbig.engine.evaluate import Evaluation
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
        self.run, self.console, self.data, self.told = run, console, data, ""
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
        if told(self.data.skipped) != self.told:
            self.told = told(self.data.skipped)
            self.console.note(self.told)
            self.run.write_json("skipped.json", self.data.skipped)

    def note(self, text):
        self.console.note(text)


def measure(run: Run, experiment: Experiment, data: Readable) -> dict:
    """What preprocessing needs to know of the training split.

    Measured once, then read from data.json.
    """
    splits, saved = {}, run.read_json("data.json")
    if saved is not None:
        now = data.fingerprint()
        # Runs of before this data had one have none
        before, remedy = (
            saved.get("fingerprint") or now,
            "Bring the old data back, or start a new run.",
        )
        if before.rpartition(":")[0] != now.rpartition(":")[0]:
            raise UserError(
                f"data: {run.path} was started with a version of this package that looked at it"
                " otherwise, so it cannot be told whether it is still the same. Start a new run;"
                " predict can still be used."
            )
        if before != now:
            raise UserError(
                f"data: it has changed since {run.path} was started, so its examples or splits are"
                f" no longer the same. {remedy}"
            )
        for split, entry in saved["splits"].items():
            if (
                not data.skipped[split]
                and experiment.data.on_error == "stop"
                and entry["size"] != data.size(split)
            ):
                raise UserError(
                    f"data: its {split} split had {entry['size']:,} examples when {run.path} was"
                    f" started, and has {data.size(split):,} now. {remedy}"
                )
        return saved["facts"]
    facts = training_facts(experiment, data)
    # Nothing of the test split is read before training is over
    for split in ("train", "validation"):
        splits[split] = described(data, split)
    known = {"card": data.card(), "notes": data.notes(), "fingerprint": data.fingerprint()}
    run.write_json("data.json", {**known, "splits": splits, "facts": facts})
    return facts


def described(data: Readable, split: str) -> dict:
    """A split's size and, where counting is cheap, the examples of each class, without those known
    to be unreadable.
    """
    arrays, names, skipped = data.arrays(split), data.label_names, list(data.skipped[split])
    counts = {"size": data.size(split) - len(skipped), "classes": {}}
    if arrays is not None and names and "label" in arrays:
        numbers = np.bincount(np.delete(arrays["label"], skipped), minlength=len(names))
        counts["classes"] = dict(zip(names, numbers.tolist(), strict=True))
    return counts


def train(run: Run, console: loop.Observer, callbacks: tuple = ()) -> dict:
    """Trains the run's experiment, evaluates its best checkpoint, and marks the run done.

    Returns the summary.
    """
    experiment = run.experiment
    with run.lock():
        if (before := loop.check_settings(experiment, run.checkpoints)) != tfbig.__version__:
            console.note(f"started with tfbig {before}, goes on with {tfbig.__version__}")
        run.read_json("metrics.json")  # written again after training: a damaged one is said now
        load()  # is no part of the training's time
        started = time.monotonic()
        workers = _workers(run, console)
        data = Readable(experiment.data, run.read_json("skipped.json"))
        overview.refuse_empty(experiment, data)
        facts = measure(run, experiment, data)
        compare(workers, experiment, data)
        if workers.is_chief:
            splits = run.read_json("data.json")["splits"]
            for line in (
                *overview.lines(experiment, data),
                *overview.concerns(experiment, data, splits),
            ):
                console.note(line)
        # The chief's: rounding may differ elsewhere
        facts = json.loads(workers.gather(json.dumps(facts))[0])
        if workers.is_chief:
            parts.copy(run, experiment.task, console.note)
        workers.meet()
        used = load_parts(run, experiment.task, console)
        # TensorFlow's native code loses what a handler raises while a model is built
        with watch_signals() as signals:
            setup = Setup(experiment, facts, workers, data, used)
            setup.other_variables  # noqa: B018 - the optimiser and the step, too
        signals.act()
        devices = (
            device_text()
            if workers.count == 1
            else f"{workers.count} workers, the chief's on {device_text()}"
        )
        console.note(
            f"{setup.model.count_params():,} parameters, {devices}, XLA"
            f" {'on' if setup.jit else 'off'} ({setup.jit_reason})"
        )
        for line in overview.micro_statistics(experiment, setup.model):
            console.note(line)
        present = checkpoint.steps(run.checkpoints)
        if present:
            # A run is unfinished only once its data is known to be there
            data.examples("train", np.arange(1))
            run.unmark_done()
        else:
            start_from(setup, console.note)
            with watch_signals() as signals:
                write_panels(run, {"inputs": setup.task.training_panels(first_batch(setup))}, 0)
            signals.act()
        journal = Journal(run, console, data)
        state = loop.train(
            setup, run.checkpoints, journal, (*own_callbacks(run), *callbacks), started
        )
        if not workers.is_chief:  # what is left, the chief does alone
            return {}
        if journal.began == state.step:
            console.note("nothing was left to train")
        summary = describe(setup, state, run)
        run.write_json("summary.json", summary)
        if experiment.train.final_split != "none" and state.best is not None:
            # Of this training: a later checkpoint that was passed over as damaged may name another
            # one
            best = state.best["step"]
            step = load_step(
                setup,
                run,
                str(best) if best in checkpoint.steps(run.checkpoints) else "best",
                console,
            )
            # The test split is read once
            if not is_recorded(run, experiment.train.final_split, step):
                record(run, setup, experiment.train.final_split, step, console)
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
    """Refuses to train with workers that have another configuration, other data or other
    software.
    """
    if workers.count == 1:
        return
    facts = {package: importlib.metadata.version(package) for package in ("tensorflow", "keras")}
    facts |= {key: config.text_of(value) for key, value in config.without_paths(experiment).items()}
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
    """The first batch of training (on several workers, this one's share), as the network is given
    it.
    """
    slab, place = setup.slabs.at(0)
    batch = {name: value[place] for name, value in slab.items()}
    if setup.task.preprocess_on == "device":
        batch = setup.task.preprocess(batch, training=True)
    return {name: value.numpy() for name, value in batch.items()}


def own_callbacks(run: Run) -> tuple:
    """The Keras callbacks that an experiment's settings ask for."""
    train, (primary, better) = run.experiment.train, run.experiment.task.primary
    made = []
    if train.patience is not None:
        made.append(
            keras.callbacks.EarlyStopping(f"val_{primary}", mode=better, patience=train.patience)
        )
    if train.tensorboard and not isinstance(run, Follower):
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError(
                "train.tensorboard: needs the package tensorboard, which is not installed. Run pip"
                " install 'tfbig[tensorboard]'."
            )
        made.append(keras.callbacks.TensorBoard(run.path / "tensorboard", write_graph=False))
    return tuple(made)


def is_finished(run: Run) -> bool:
    """Whether nothing is left to do in a run.

    Trained to its length, evaluated, and what that left can be read.
    """
    names = ("data.json", "summary.json", "metrics.json")
    try:
        whole = run.is_done and all(run.read_json(name) is not None for name in names)
        run.read_json("skipped.json")
        reached = max(checkpoint.steps(run.checkpoints), default=0)
        if not whole or reached < Lengths.of(run.experiment).total:
            return False
        best = checkpoint.read_state(run.checkpoints / checkpoint.folder_name(reached))["best"]
    except ValueError:  # damaged: what can be made again is, the rest is said
        return False
    split = run.experiment.train.final_split
    return split == "none" or best is None or is_recorded(run, split, best["step"])


def describe(setup: Setup, state: loop.State, run: Run) -> dict:
    """What a report says of a finished training."""
    lines = run.history("train")
    # The first one includes compiling
    rates = [
        rate for line in lines[1:] or lines if (rate := line.get("examples_per_s")) is not None
    ]
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
        "checkpoint_mb": (
            round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 2)
            if folder
            else None
        ),
    }


def skipped_counts(data: Readable) -> dict[str, int]:
    return {split: len(found) for split, found in data.skipped.items() if found}


def record(run: Run, setup: Setup, split: str, step: int, console: loop.Observer) -> dict:
    """Evaluates the model on a split and writes what it came to; returns the split's entry."""
    entry, panels = evaluate_split(run, setup, split, step, console)
    write_result(run, setup, entry, panels)
    return entry


def evaluate_split(
    run: Run, setup: Setup, split: str, step: int, console: loop.Observer
) -> tuple[dict, dict[str, list[dict]]]:
    """The split's entry of metrics.json, and the report's panels by section: see `write_panels`."""
    measure(run, run.experiment, setup.data)  # refuses data that has changed
    run.read_json("metrics.json")  # written again afterwards: a damaged one is said now
    known = told(setup.data.skipped)
    result: Evaluation = setup.evaluate(split)
    console.evaluated(step, split, result.metrics)
    if told(setup.data.skipped) != known:
        console.note(told(setup.data.skipped))
    entry = {
        "dataset": type(run.experiment.data).__name__,
        "split": split,
        "count": result.count,
        "step": step,
        "metrics": result.metrics,
    }
    samples = setup.task.samples(setup.model, setup.jit)
    return entry, {
        "samples": samples,
        split: setup.task.panels(split, result.measured, result.records),
    }


def write_panels(run: Run, sections: dict[str, list[dict]], step: int) -> None:
    """Writes panels of the report to panels.json, each with its section and the step of the
    weights.

    The sections are "inputs" (what the network is given), "samples" (what the model makes by
    itself) and the splits. Each takes the place of what the file held of it; the others stay.
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
    run.write_json("metrics.json", {**(run.read_json("metrics.json") or {}), split: entry})
    write_panels(run, panels, entry["step"])
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


def dry_run(experiment: Experiment, console: loop.Observer) -> dict:
    """Builds everything, makes one step, and says what it takes."""
    started = time.monotonic()
    data = Readable(experiment.data)
    facts, used = training_facts(experiment, data), load_parts(None, experiment.task, console)
    setup = Setup(experiment, facts, data=data, parts=used)
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


def build(experiment: Experiment, console: loop.Observer):
    """The bound task and its untrained Keras model, for use without a run: (task, model)."""
    data = Readable(experiment.data)
    facts, used = training_facts(experiment, data), load_parts(None, experiment.task, console)
    return build_task(experiment, facts, data, used)
