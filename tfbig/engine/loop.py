"""The training loop, the only one.

Restore, step, log, evaluate, save, until done. Read it from top to bottom.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import tfbig
from tfbig.core import config, knobs
from tfbig.core.errors import Interrupted, NonFinite, RunFailure, UserError
from tfbig.core.experiment import Experiment
from tfbig.core.interrupt import watch_signals
from tfbig.core.lazy import np, tf
from tfbig.engine import checkpoint, machine
from tfbig.engine.hooks import Hooks
from tfbig.engine.optimizer import learning_rate
from tfbig.engine.setup import Setup

# Target length of one call into the compiled program: signals and progress are seen this often
CALL_SECONDS = 0.5
LOG_SECONDS = 1.0  # time between lines in the log


class Observer(Protocol):
    """A listener to a training: the run directory's log or the console."""

    def restored(self, step: int) -> None: ...
    def trained(self, step: int, values: dict[str, float]) -> None: ...
    def evaluated(self, step: int, split: str, metrics: dict[str, dict]) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass
class State:
    """Where a run stands, apart from its variables."""

    step: int = 0
    best: dict | None = None  # {"step", "value"} of the primary metric
    saved: int | None = None  # step of the latest checkpoint
    stopped_early: bool = False
    # What callbacks were called with, one entry for each evaluation
    evaluations: list[dict] = field(default_factory=list)
    # What they remembered in the checkpoint from which the run resumed
    callbacks: dict | None = None
    # Seconds training stood still
    waited: dict[str, float] = field(default_factory=lambda: {"data": 0.0, "checkpoints": 0.0})
    # Seconds of the run's earlier parts, each up to the checkpoint from which the next resumed
    earlier: float = 0.0
    parts: int = 1  # one more than the times it was resumed
    started: float = field(default_factory=time.monotonic)  # when this part began

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Counts the time spent inside as waiting for `what`."""
        started = time.monotonic()
        yield
        self.waited[what] += time.monotonic() - started

    @property
    def seconds(self) -> float:
        """Training time so far, of all parts."""
        return self.earlier + time.monotonic() - self.started

    def to_json(self) -> dict:
        spent = {"seconds": round(self.seconds, 3), "parts": self.parts, **self.waited}
        return {"best": self.best, "evaluations": self.evaluations, "spent": spent}


def train(
    setup: Setup,
    checkpoints: Path,
    observer: Observer,
    callbacks: tuple = (),
    started: float | None = None,
) -> State:
    """Trains to the experiment's length, from the newest intact checkpoint if there is one.

    Args:
        setup: what to train.
        checkpoints: the run's folder of checkpoints.
        observer: called at every logged step and evaluation.
        callbacks: Keras callbacks; an "epoch" is the time between two evaluations.
        started: when the work began, by `time.monotonic`; None: now.

    Raises:
        NonFinite: the loss became NaN or infinite; the last checkpoint is intact.
        Interrupted: a signal asked to stop; everything is saved.
        RunFailure: a checkpoint could not be written.
    """
    lengths = setup.lengths
    state = restore(setup, checkpoints, observer)
    state.started = state.started if started is None else started
    hooks = Hooks(setup, state, callbacks, observer.note)
    writer = checkpoint.Writer(checkpoints, setup.experiment.train.keep)
    with watch_signals() as signals, setup.workers.failures(), writer:
        while state.step < lengths.total and not state.stopped_early:
            hooks.begin()
            signum = train_until(
                lengths.next_stop(state.step), setup, state, observer, signals, writer
            )
            setup.workers.average(setup.uneven_variables)
            if signum:
                save(setup, state, hooks, writer)
                writer.wait()
                # A cluster may end all as soon as one ends: the chief has written by now
                setup.workers.meet()
                raise Interrupted(signum, state.step)
            if state.step % lengths.evaluate == 0 or state.step == lengths.total:
                with averaged_weights(setup):
                    metrics = evaluate(setup, state, observer)
                    state.stopped_early = setup.workers.any(hooks.evaluated(metrics))
            save(setup, state, hooks, writer)
        _, signum = setup.workers.agree(0, signals.received)
        if signum:  # it came during the last evaluation
            writer.wait()
            setup.workers.meet()
            raise Interrupted(signum, state.step)
    hooks.end()
    return state


def check_settings(experiment: Experiment, checkpoints: Path) -> str:
    """The version of this package that made the newest checkpoint.

    The present version if there is no checkpoint, or it names none.

    Raises:
        UserError: it was made with other settings that may not change in a resumed run.
    """
    newest = checkpoint.newest_state(checkpoints)
    if newest is None:
        return tfbig.__version__
    folder, saved_state = newest
    saved = saved_state.get("settings", {})
    current = config.lasting(experiment)
    wrong = [key for key, value in saved.items() if key in current and current[key] != value]
    if wrong:
        lines = [
            f"{key}: {knobs.text_of(saved[key])} in the checkpoint,"
            f" {knobs.text_of(current[key])} in config.json"
            for key in wrong
        ]
        raise UserError(
            "\n".join(
                [
                    (
                        f"{folder}: was made with other settings than config.json has. Set them"
                        " back there, or start a new run."
                    ),
                    *lines,
                ]
            )
        )
    return saved_state.get("tfbig", tfbig.__version__)


def restore(setup: Setup, checkpoints: Path, observer: Observer) -> State:
    """This run's newest intact checkpoint, else a fresh start."""
    loaded = checkpoint.newest_intact(checkpoints, setup.files, observer.note)
    newest = {"newest checkpoint": f"{loaded['step']:,}" if loaded else "none"}
    setup.workers.same(newest, "Expected one run directory on a file system that all share.")
    observer.restored(loaded["step"] if loaded else 0)
    if loaded is None:
        return State()
    if setup.step.average is not None:
        setup.step.average.swap()  # a checkpoint's model holds the averages, see `save`
    setup.slabs.restore(loaded["source"])
    # Checkpoints of older versions do not hold it
    spent = {"seconds": 0.0, "parts": 1, "data": 0.0, "checkpoints": 0.0, **loaded.get("spent", {})}
    return State(
        step=loaded["step"],
        best=loaded["best"],
        saved=loaded["step"],
        evaluations=loaded["evaluations"],
        callbacks=(
            {**loaded["callbacks"], "arrays": loaded["arrays"]} if "callbacks" in loaded else None
        ),
        waited={name: spent[name] for name in ("data", "checkpoints")},
        earlier=spent["seconds"],
        parts=spent["parts"] + 1,
    )


def train_until(
    stop: int, setup: Setup, state: State, observer: Observer, signals, writer: checkpoint.Writer
) -> int:
    """Makes the steps up to `stop`, or fewer if a signal comes to any worker.

    Returns the signal's number or 0.
    """
    block = setup.block
    batch_size = setup.experiment.train.batch_size
    count = 1
    logged = time.monotonic()
    gathered = []
    while state.step < stop:
        with state.waiting("data"):
            slab, first = setup.slabs.at(state.step)
        count, signum = setup.workers.agree(
            min(count, block - first, stop - state.step), signals.received
        )
        if signum:
            return signum
        started = time.monotonic()
        scalars = setup.run_block(slab, tf.constant(first), tf.constant(count))
        scalars = {name: value.numpy()[:count] for name, value in scalars.items()}
        seconds = time.monotonic() - started
        check_finite(scalars, state, writer)
        state.step += count
        setup.slabs.trained(state.step)
        gathered.append(scalars)
        if state.step == stop or time.monotonic() - logged > LOG_SECONDS:
            means = {
                name: float(np.mean(np.concatenate([call[name] for call in gathered])))
                for name in scalars
            }
            num_steps = sum(len(call["loss"]) for call in gathered)
            rate = num_steps * batch_size / (time.monotonic() - logged)
            observer.trained(
                state.step,
                {**means, "learning_rate": learning_rate(setup.optimizer), "examples_per_s": rate},
            )
            logged = time.monotonic()
            gathered = []
        count = max(1, min(2 * block, int(count * CALL_SECONDS / max(seconds, 1e-6))))
    return 0


def check_finite(scalars: dict, state: State, writer: checkpoint.Writer) -> None:
    """Stops at the first step whose loss is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(scalars["loss"]))
    if len(bad):
        with contextlib.suppress(RunFailure):  # raised when the writer is left
            writer.wait()
        kept = (
            f"the checkpoint of step {writer.durable} is intact"
            if writer.durable is not None
            else "no checkpoint was written yet"
        )
        raise NonFinite(
            f"step {state.step + int(bad[0]) + 1}: the loss became {scalars['loss'][bad[0]]};"
            f" {kept}. Lower optim.learning_rate, set optim.clip_norm=1 or lengthen optim.warmup."
        )


class averaged_weights:
    """A context in which the model holds its weights' moving averages, if the run keeps any."""

    def __init__(self, setup: Setup):
        self.average = setup.step.average

    def __enter__(self):
        if self.average is not None:
            self.average.swap()

    def __exit__(self, *error):
        return self.__enter__()


def evaluate(setup: Setup, state: State, observer: Observer) -> dict[str, dict]:
    """Evaluates on the validation split and remembers the best step so far."""
    metrics = setup.evaluate("validation", between_steps=True, workers=setup.workers).metrics
    setup.data.merge(setup.workers.gather(json.dumps(setup.data.skipped)))
    name, better = setup.task.primary
    value = metrics[name]["value"]
    values = [metric["value"] for metric in metrics.values()]
    if not all(np.isfinite(number) for number in values if number is not None):
        kept = (
            f"the checkpoint of step {state.saved} is intact"
            if state.saved is not None
            else "no checkpoint was written yet"
        )
        raise NonFinite(f"step {state.step}: the validation metrics are not finite; {kept}.")
    observer.evaluated(state.step, "validation", metrics)
    if value is None:
        observer.note(
            f"step {state.step:,}: {name}, which picks the best checkpoint, has no value: the"
            " validation split holds too little of what it counts"
        )
    elif state.best is None or (
        value > state.best["value"] if better == "max" else value < state.best["value"]
    ):
        state.best = {"step": state.step, "value": value}
    return metrics


def save(setup: Setup, state: State, hooks: Hooks, writer: checkpoint.Writer) -> None:
    """Writes a checkpoint, with the weights that are evaluated and served as the model's.

    Only the chief does so.
    """
    if state.saved == state.step:
        return
    state.saved = state.step
    if not setup.workers.is_chief:
        return
    with state.waiting("checkpoints"), averaged_weights(setup):
        remembered, arrays = hooks.remembered()
        provenance = {
            "settings": config.lasting(setup.experiment),
            "tfbig": tfbig.__version__,
            "machine": machine.described(setup.workers.count),
        }
        writer.save(
            state.step,
            setup.files,
            {**state.to_json(), **provenance, "callbacks": remembered},
            {checkpoint.CALLBACKS: arrays, checkpoint.SOURCE: setup.slabs.state()},
        )
