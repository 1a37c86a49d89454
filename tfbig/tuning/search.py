"""The search directory: everything about one tuning, and what --resume goes on from.

DIR/search.json      the recipe's experiment, fixed settings, search space, settings of the
                         tuning, number of trainings
    journal.jsonl    one line for each trial handed out and each one ended, in order: what
                         resume replays
    outcomes/        what each trial came to, written by whoever trained it
    trials/          ordinary run directories
    best.json        the winner, and the line that trains it again
    report.html
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tfbig.core import config, duration, files
from tfbig.core.contracts import Component, knob
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.registry import nearest
from tfbig.tuning.space import Space, read_space

ALGORITHMS = ("random", "bayesian", "hyperband", "grid")
COSTS = ("latency", "parameters", "size")
DEFAULT_TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class Tune(Component):
    """How to search."""

    algorithm: str = knob("random", "Keras Tuner's oracle", choices=ALGORITHMS)
    trials: int | None = knob(
        None,
        f"most trials; none: {DEFAULT_TRIALS}, or without limit where tune.time or the algorithm"
        " sets one",
        low=1,
    )
    time: str | None = knob(
        None, 'time for the search, such as "30m": no trial begins after it, but for the finalists'
    )
    seed: int = knob(0, "of the proposals", low=0, high=2**31 - 2)
    objective: tuple[str, ...] = knob(
        (),
        "none: the task's primary metric; several: with latency, parameters or size, smaller being"
        " better",
    )
    baseline: bool = knob(True, "train the recipe's own settings as the first trial")
    finalists: int = knob(2, "best trials trained again with other seeds; 0: none", low=0)
    seeds: int = knob(
        3, "how many other seeds; the winner has the best mean over them", low=1, high=100
    )
    workers: int = knob(1, "processes that train at the same time", low=1, high=1024)
    factor: int = knob(3, "hyperband: one trial in so many goes on", low=2)
    iterations: int = knob(1, "hyperband: how often the whole schedule is run", low=1)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.time is not None:
            try:
                duration.to_seconds(self.time)
            except ValueError as error:
                yield "time", str(error)

    @property
    def most_trials(self) -> int | None:
        """How many trials are proposed at most.

        None where time or the algorithm alone ends the search.
        """
        if self.trials is None and self.time is None and self.algorithm in ("random", "bayesian"):
            return DEFAULT_TRIALS
        return self.trials


@dataclass(frozen=True, kw_only=True)
class Settings(Component):
    """The settings of a tuning, as the command line names them: tune.trials=20."""

    tune: Tune = Tune()


# What --resume may change: nothing that decides the proposals
CHANGEABLE = ("trials", "time", "finalists", "seeds", "workers")


class Search:
    """A search directory."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(
        cls, path: str | Path | None, recipe: str, base: Experiment, settings: list[str]
    ) -> Search:
        """A new directory, after everything in `settings` has been found valid.

        By default runs/tune_NAME, runs/tune_NAME_2, ...

        Args:
            path: the directory, new or empty.
            recipe: the recipe's name, for the line that trains the winner.
            base: the recipe's experiment.
            settings: fixed, searched and tune.* settings.
        """
        tune, space = read_settings(base, settings)
        typed = config.override(base, list(space.fixed))
        typed.data.check()
        before, after = config.flatten(typed), config.flatten(config.absolute(typed))
        named = [(text.partition("=")[0], text) for text in space.fixed]
        fixed = [
            text if after.get(key) == before.get(key) else f"{key}={after[key]}"
            for key, text in named
        ]
        number = 1
        while path is None:
            made = Path("runs") / (
                f"tune_{base.name}" if number == 1 else f"tune_{base.name}_{number}"
            )
            path, number = (None if made.exists() else made), number + 1
        made = Path(path)
        if made.exists() and (
            not made.is_dir() or any(not entry.name.startswith(".") for entry in made.iterdir())
        ):
            raise UserError(
                f"run={made}: exists already. Continue it with --resume {made}, or name another"
                " directory."
            )
        try:
            made.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"run={made}: cannot be created: {error.strerror}.") from error
        search = cls(made)
        own = [str(parameter) for parameter in space.parameters]
        saved = {
            "recipe": recipe,
            "experiment": config.to_json(config.absolute(base)),
            "fixed": fixed,
            "space": own,
        }
        search.write_json("search.json", {**saved, "tune": dataclasses.asdict(tune)})
        return search

    @classmethod
    def open(cls, path: str | Path, settings: list[str] = ()) -> Search:
        """An existing directory, with some settings of the tuning changed."""
        path = Path(path)
        if not (path / "search.json").is_file():
            beside = (
                [p.name for p in path.parent.iterdir() if (p / "search.json").is_file()]
                if path.parent.is_dir()
                else []
            )
            what = (
                "which has no search.json"
                if path.is_dir()
                else "which is no directory"
                if path.exists()
                else "which does not exist"
            )
            raise UserError(
                f"expected a search directory (made by python -m tfbig.tune). Received: {path},"
                f" {what}.{nearest(path.name, beside)}"
            )
        search = cls(path)
        if settings:
            changed = search.changed(settings)
            with search.lock():  # not those of a search that another process is at
                search.write_json(
                    "search.json", {**search.saved, "tune": dataclasses.asdict(changed)}
                )
            for name in ("saved", "tune"):
                search.__dict__.pop(name, None)
        return search

    def changed(self, settings: list[str]) -> Tune:
        """The tuning with some of its settings changed, of those that can change in a search that
        goes on; nothing is written.
        """
        allowed = [f"tune.{name}" for name in CHANGEABLE]
        known = {
            *config.flatten(Settings()),
            *config.flatten(self.experiment),
            *(parameter.name for parameter in self.space.parameters),
        }
        wrong = [
            key
            for key in (text.partition("=")[0] for text in settings)
            if key in known and key not in allowed
        ]
        if wrong:
            raise UserError(
                f"{', '.join(wrong)}: cannot change in a search that goes on, only"
                f" {', '.join(allowed)} can. Start a new search for it."
            )
        return config.override(Settings(tune=self.tune), list(settings)).tune

    @cached_property
    def saved(self) -> dict[str, Any]:
        return self.read_json("search.json")

    @cached_property
    def tune(self) -> Tune:
        known = {field.name for field in dataclasses.fields(Tune)}
        values = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in self.saved["tune"].items()
            if key in known
        }
        return config.validate(Settings(tune=Tune(**values))).tune

    @cached_property
    def base(self) -> Experiment:
        """The recipe's experiment."""
        return config.from_json(self.saved["experiment"])

    @cached_property
    def space(self) -> Space:
        return read_space(self.base, [*self.saved["fixed"], *self.saved["space"]])

    @cached_property
    def experiment(self) -> Experiment:
        """The recipe's experiment with the fixed settings."""
        return config.override(self.base, list(self.space.fixed))

    @property
    def objectives(self) -> dict[str, str]:
        """What is sought: name -> "max" or "min"; the task's primary metric comes first."""
        primary, better = self.base.task.primary
        return {primary: better, **{name: "min" for name in self.tune.objective if name != primary}}

    @property
    def remedy(self) -> str:
        """What to do about a search that has stopped."""
        return (
            "All trials are kept. Continue with\npython -m tfbig.tune --resume"
            f" {shlex.quote(str(self.path))}"
        )

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    def read_json(self, name: str) -> Any:
        """A JSON file's content; None if there is none."""
        try:
            return json.loads((self.path / name).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / name}: cannot be read as JSON: {error}.") from error

    def write_json(self, name: str, value: Any) -> None:
        files.write_json(self.path / name, value)

    def write_trainings(self, counts: dict[str, int | None]) -> None:
        """Notes how many trainings the search takes; see `count_trainings`."""
        self.write_json("search.json", {**self.saved, "trainings": counts})
        self.__dict__.pop("saved")

    def record(self, event: str, **values: Any) -> None:
        """Adds a line to the journal and waits until it is on the disk."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **values})
        path = self.path / "journal.jsonl"
        try:
            with path.open("ab") as file:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise files.disk_failure(path, len(line), error) from error

    def journal(self) -> list[dict]:
        """The journal's whole lines.

        A last one torn by a kill is left out, since what it was to say has not happened.
        """
        path = self.path / "journal.jsonl"
        return (
            [json.loads(line) for line in path.read_bytes().rpartition(b"\n")[0].splitlines()]
            if path.exists()
            else []
        )

    def mend_journal(self) -> None:
        """Cuts off a torn last line, so that the next one begins on its own.

        For the chief alone.
        """
        path = self.path / "journal.jsonl"
        content = path.read_bytes() if path.exists() else b""
        whole, newline, torn = content.rpartition(b"\n")
        if torn:
            files.write_atomic(path, whole + newline)

    def proposal(self, trial: str) -> dict[str, Any]:
        """The values proposed for a trial that was handed out."""
        return next(
            line["values"]
            for line in reversed(self.journal())
            if line["event"] == "start" and line["trial"] == trial
        )

    def outcome(self, trial: str) -> dict | None:
        """What a trial came to, if it has ended."""
        return self.read_json(f"outcomes/{trial}.json")

    def write_outcome(self, trial: str, outcome: dict) -> None:
        (self.path / "outcomes").mkdir(exist_ok=True)
        self.write_json(f"outcomes/{trial}.json", outcome)

    def lock(self) -> contextlib.AbstractContextManager:
        """Keeps a second process from leading the same search."""
        return files.lock(self.path, "searched")


def read_settings(
    base: Experiment, settings: list[str], complete: bool = True
) -> tuple[Tune, Space]:
    """The tuning's own settings and the search space, every problem of both reported at once.

    `complete`: as for `config.override`.
    """
    problems, tune, space = [], Tune(), None
    own = [text for text in settings if text.startswith("tune.")]
    try:
        tune = config.override(Settings(), own).tune
        problems += _objective_problems(base, tune)
    except UserError as error:
        problems.append(str(error))
    try:
        space = read_space(base, [text for text in settings if text not in own], complete)
        problems += _length_problems(tune, space)
    except UserError as error:
        problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return tune, space


def count_trainings(
    tune: Tune, space: Space, scheduled: int | None = None
) -> dict[str, int | None]:
    """How many trainings a search takes at most.

    `scheduled` are the trials of hyperband's schedule.

    Returns:
        "trials", "baseline", those that train the finalists and the baseline "again" with other
        seeds, and "most", their sum; trials and their sum are None where only time ends the search.
    """
    listed = all(parameter.kind == "in" for parameter in space.parameters)
    if listed and tune.algorithm != "hyperband":  # which trains a configuration several times
        scheduled = math.prod(len(parameter.choices) for parameter in space.parameters)
    limits = [limit for limit in (tune.most_trials, scheduled) if limit is not None]
    trials = min(limits, default=None)
    finalists = tune.finalists if trials is None else min(tune.finalists, trials)
    compared = finalists + tune.baseline if finalists else 0
    counts = {"baseline": int(tune.baseline), "again": compared * tune.seeds}
    most = None if trials is None else trials + sum(counts.values())
    return {"trials": trials, **counts, "most": most}


def _objective_problems(base: Experiment, tune: Tune) -> list[str]:
    primary = base.task.primary[0]
    known = (primary, *COSTS)
    wrong = [name for name in tune.objective if name not in known]
    found = [
        f"tune.objective: expected {primary}, alone or with {', '.join(COSTS)}. Received:"
        f" {name!r}.{nearest(name, known)}"
        for name in wrong
    ]
    if tune.objective and primary not in tune.objective and not wrong:
        found.append(
            f"tune.objective: expected {primary} among them. Received: {','.join(tune.objective)}."
        )
    return found


def _length_problems(tune: Tune, space: Space) -> list[str]:
    lengths = [
        p.name for p in space.parameters if p.key in ("train.length", "train.evaluate_every")
    ]
    return [
        f"{name}: cannot be searched with tune.algorithm=hyperband, which decides how long a trial"
        " trains."
        for name in lengths
        if tune.algorithm == "hyperband"
    ]
