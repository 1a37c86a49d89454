"""The trials of a search: each is trained in an ordinary run directory, and comes to an outcome."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tfbig.core import config, files
from tfbig.core.errors import DiskFull, Interrupted, NonFinite, RunFailure, UserError
from tfbig.core.experiment import Experiment
from tfbig.core.lazy import keras, np, tf
from tfbig.core.run import Run
from tfbig.engine import checkpoint, job, loop
from tfbig.engine.setup import Lengths
from tfbig.engine.trained import Trained
from tfbig.tuning import oracles
from tfbig.tuning.search import Search

IDLE_SECONDS = 1.0
STALE_SECONDS = 600.0  # another worker whose run has not changed for so long is not at work
LATENCY_CALLS = 100


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a trial trains.

    Attributes:
        name: the trial's.
        run: its run directory, that of the trial it was promoted from if it was.
        settings: "key=value", on top of the recipe.
        experiment: the whole of it. Its length is that of a whole training, also where
            `evaluations` ends it before.
        evaluations: after how many evaluations it pauses; None: not at all.
    """

    name: str
    run: Path
    settings: list[str]
    experiment: Experiment
    evaluations: int | None


def plan(search: Search, name: str, values: dict) -> Plan:
    """A trial's plan, a pure function of its name, its values and the outcomes of earlier trials.

    Hyperband's rounds pause a run, they never shorten its training: schedules and durations in %
    refer to the whole length from the first step on. So a promoted trial resumes bit-equal, and
    ends as if it had been trained to its length at once.
    """
    stem, _, seed = name.partition("_seed_")
    settings = search.space.settings(
        {key: value for key, value in values.items() if not key.startswith("tuner/")}
    )
    if seed:
        settings = [text for text in settings if not text.startswith("seed=")]
        settings.append(f"seed={(search.experiment.seed + int(seed)) % 2**31}")
    parent = None if seed else values.get(oracles.PARENT)
    folder = (
        search.path / search.outcome(parent)["run"] if parent is not None else search.trials / name
    )
    experiment = config.override(search.base, [*settings, "train.final_split=none"])
    return Plan(
        name=name,
        run=folder,
        settings=settings,
        experiment=experiment,
        evaluations=None if seed or not stem.isdigit() else values.get(oracles.EVALUATIONS),
    )


def whole_length(experiment: Experiment) -> int:
    """Evaluations in a whole training."""
    lengths = Lengths.of(experiment)
    return max(1, -(-lengths.total // lengths.evaluate))


def work(
    search: Search,
    chief,
    worker: str,
    observe: Callable[[Plan], loop.Observer],
    ended: Callable[[str, dict], None],
) -> None:
    """Trains trials until there is nothing more to do.

    Args:
        search: the search directory.
        chief: hands out trials; the chief itself or a `workers.Client` of it.
        worker: this worker's name.
        observe: gives the observer of a trial's training.
        ended: called with each trial's name and outcome.

    Raises:
        Interrupted: a signal asked to stop; the trial resumes from there when the search does.
    """
    while True:
        trial = chief.create_trial(worker)
        if trial.status == "STOPPED":
            return
        if trial.status == "IDLE":
            time.sleep(IDLE_SECONDS)
            continue
        outcome = run_trial(search, trial.trial_id, search.proposal(trial.trial_id), observe)
        chief.end_trial(trial)
        ended(trial.trial_id, outcome)


def run_trial(
    search: Search, name: str, values: dict, observe: Callable[[Plan], loop.Observer]
) -> dict:
    """Trains a trial, unless it has an outcome already, and writes its outcome; returns that.

    Raises:
        Interrupted: a signal asked to stop.
        DiskFull: which is no failure of the trial; it resumes from its checkpoint.
    """
    planned = None
    outcome = search.outcome(name)
    began = time.monotonic()
    parent = values.get(oracles.PARENT) if "_seed_" not in name else None
    failed_before = parent is not None and search.outcome(parent)["status"] == "failed"
    try:
        if outcome is None and failed_before:
            outcome = {**search.outcome(parent), "inherited": True, "seconds": 0.0}
        if outcome is None:
            planned = plan(search, name, values)
            outcome = _ended_here_or_elsewhere(search, planned, observe(planned))
    except (Interrupted, DiskFull):
        raise
    # Whatever else a trial raises is its own failure and not the search's
    except (Exception, SystemExit) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno in files.FULL:
            raise files.disk_failure(search.path, 0, cause) from error
        reason = _reason(error)
        if planned is not None:
            # The same cause reads the same in every trial
            reason = reason.replace(str(planned.run), "RUN")
            planned.run.mkdir(parents=True, exist_ok=True)
            (planned.run / "error.txt").write_text(traceback.format_exc(), "utf-8")
        outcome = failed(search, planned, reason)
    if planned is None and outcome["status"] == "failed" and not outcome["settings"]:
        outcome["settings"] = search.space.settings(
            {key: value for key, value in values.items() if not key.startswith("tuner/")}
        )
    # What was trained before a kill counts, what a run was trained before it was promoted does not.
    earlier = (search.outcome(parent) or {}).get("spent") or 0.0 if parent is not None else 0.0
    seconds = max(time.monotonic() - began, (outcome.get("spent") or 0.0) - earlier)
    outcome = {"seconds": round(seconds, 2), "round": values.get("tuner/round"), **outcome}
    if search.outcome(name) is None:
        search.write_outcome(name, outcome)
    return outcome


def failed(search: Search, planned: Plan | None, reason: str) -> dict:
    """The outcome of a trial that failed; without a plan, it could not even be planned."""
    return {
        "status": "failed",
        "reason": reason,
        "metrics": {},
        "evaluations": 0,
        "run": str(planned.run.relative_to(search.path)) if planned else None,
        "settings": planned.settings if planned else [],
    }


def _ended_here_or_elsewhere(search: Search, planned: Plan, observer: loop.Observer) -> dict:
    """A trial's outcome, trained here or by its earlier worker, if that is still training it."""
    times = None
    changed = time.monotonic()
    while True:
        try:
            return _completed(search, planned, observer)
        except UserError as error:
            # What the lock of a run raises; the trial itself has not failed
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            if times is None:
                observer.note(f"trial {planned.name}: {error} Waiting for it.")
            if (written := _times_written(planned.run)) != times:
                times = written
                changed = time.monotonic()
            # By our own clock: a file's time may be another machine's, or of a clock that was set
            if time.monotonic() - changed > STALE_SECONDS:
                raise RunFailure(
                    f"{error} Nothing in it has changed for {STALE_SECONDS:.0f} s: end that"
                    " process."
                ) from error
        time.sleep(IDLE_SECONDS)
        outcome = search.outcome(planned.name)
        if outcome is not None:
            return outcome


def _times_written(folder: Path) -> dict[Path, int]:
    """When each file of a run directory was last written; training writes every few seconds."""
    times = {}
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # a checkpoint that is being replaced
            times[path] = path.stat().st_mtime_ns
    return times


def _reason(error: BaseException) -> str:
    if isinstance(error, NonFinite):
        return f"diverged: {error}"
    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        return (
            f"out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        )
    if isinstance(error, UserError):
        return f"settings that do not go together: {error}"
    if isinstance(error, RunFailure):
        return f"failed: {error}"
    return f"raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _completed(search: Search, planned: Plan, observer: loop.Observer) -> dict:
    """Trains a planned trial as far as it goes, and measures the result."""
    run = _run(planned)
    if not run.is_done or not _went_far(planned, _state(run)["evaluations"]):
        _train(search, planned, run, observer)
    state = _state(run)
    summary = run.read_json("summary.json")
    primary = search.base.task.primary[0]
    if state["best"] is None:
        raise RunFailure(
            f"{primary} has no value: the validation split holds too little of what it counts."
        )
    metrics = {
        primary: state["best"],
        "parameters": summary["parameters"],
        "size": state["megabytes"],
    }
    if "latency" in search.objectives:
        metrics["latency"] = latency(run, observer)
    if planned.experiment.train.tensorboard:
        _write_hparams(run, planned, primary, state["best"])
    if summary["steps"] >= Lengths.of(planned.experiment).total:
        stopped = "at its length"
    elif planned.evaluations is not None and _went_far(planned, state["evaluations"]):
        stopped = "paused"
    else:
        stopped = "early"
    return {
        "status": "completed",
        "reason": None,
        "metrics": metrics,
        "evaluations": state["evaluations"],
        "stopped": stopped,
        "run": str(planned.run.relative_to(search.path)),
        "settings": planned.settings,
        "spent": summary["seconds"],
    }


def _went_far(planned: Plan, evaluations: int) -> bool:
    """Whether a run has been evaluated as often as its trial asks for."""
    return planned.evaluations is None or evaluations >= planned.evaluations


def _train(search: Search, planned: Plan, run: Run, observer: loop.Observer) -> None:
    """Trains a trial's run; the facts of the training split are shared with the other trials."""
    facts = _facts_file(search, planned.experiment)
    if run.read_json("data.json") is None and facts.exists():
        run.write_json("data.json", json.loads(facts.read_text("utf-8")))
    callbacks = () if planned.evaluations is None else (_pause(run, planned.evaluations),)
    try:
        job.train(run, observer, callbacks)
    finally:
        keras.utils.clear_session()  # else every trial's graphs stay in memory
    if not facts.exists():
        search.write_json(facts.name, run.read_json("data.json"))


def _write_hparams(run: Run, planned: Plan, primary: str, value: float) -> None:
    """Writes a trial for TensorBoard's HParams page: its settings and its best primary metric."""
    from tensorboard.plugins.hparams import api as hparams

    writer = tf.summary.create_file_writer(str(run.path / "tensorboard" / "hparams"))
    with writer.as_default():
        hparams.hparams(
            dict(setting.split("=", 1) for setting in planned.settings), trial_id=planned.name
        )
        tf.summary.scalar(primary, value, step=0)
    writer.close()


def _run(planned: Plan) -> Run:
    """The trial's run directory; one that a kill left without configuration is created again."""
    if (planned.run / "config.json").is_file():
        return Run.open(planned.run)
    if planned.run.exists():
        shutil.rmtree(planned.run)
    return Run.create(planned.run, planned.experiment, planned.experiment)


def _state(run: Run) -> dict:
    """Figures from the newest intact checkpoint.

    The best value of the primary metric, evaluations so far, the weights' size.
    """
    for step in reversed(checkpoint.steps(run.checkpoints)):
        with contextlib.suppress(ValueError):
            state = checkpoint.read_state(run.checkpoints / checkpoint.folder_name(step))
            size = state["files"][checkpoint.WEIGHTS]["bytes"] / 1e6
            return {
                "best": state["best"] and state["best"]["value"],
                "evaluations": len(state["evaluations"]),
                "megabytes": round(size, 4),
            }
    return {"best": None, "evaluations": 0, "megabytes": None}


def _facts_file(search: Search, experiment: Experiment) -> Path:
    """The file of the training split's facts, shared by trials with the same task and data."""
    saved = config.to_json(experiment)
    digest = hashlib.sha256(
        json.dumps([saved["task"], saved["data"], experiment.seed], sort_keys=True).encode()
    ).hexdigest()
    return search.path / f"data_{digest[:12]}.json"


def _pause(run: Run, evaluations: int):
    """A Keras callback that ends training after so many evaluations since the run's first step."""

    class Pause(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.stop_training = _state(run)["evaluations"] >= evaluations

        def on_epoch_end(self, epoch, logs=None):
            if epoch + 1 >= evaluations:
                self.model.stop_training = True

    return Pause()


def latency(run: Run, observer: loop.Observer) -> float:
    """Milliseconds to predict one raw example.

    The median of many calls after the first, preprocessing included where it is the model's.
    """
    trained = Trained(run, "best", observer)
    raw = {
        name: tf.constant(value)
        for name, value in trained.task.data.examples("validation", np.arange(1)).items()
    }
    batch = (
        raw
        if trained.task.preprocess_on == "device"
        else trained.task.preprocess(raw, training=False)
    )
    times = []
    for _ in range(LATENCY_CALLS + 5):
        began = time.perf_counter()
        outputs, _ = trained.setup.predict(batch, False)
        next(iter(outputs.values())).numpy()
        times.append(time.perf_counter() - began)
    return round(1000 * float(np.median(times[5:])), 4)
