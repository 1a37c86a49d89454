"""The search directory: everything about one search, and what --resume continues from.

DIR/search.json      the recipe's experiment, fixed settings, search space, tune.* settings,
                         number of trainings
    journal.jsonl    one line for each trial handed out and each one ended, in order: what
                         resume replays
    outcomes/        each trial's outcome, written by the worker that trained it
    trials/          ordinary run directories
    best.json        the winner, and the line that trains it again
    report.html
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shlex
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from tfbig.core import config, files
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.registry import nearest
from tfbig.tuning.settings import CHANGEABLE, Settings, Tune, read_settings
from tfbig.tuning.space import Space, read_space


class Search:
    """A search directory."""

    def __init__(self, path: Path):
        self.path = path
        self._epoch = time.time() - time.monotonic()

    @classmethod
    def create(
        cls, path: str | Path | None, recipe: str, base: Experiment, settings: list[str]
    ) -> Search:
        """A new directory, after everything in `settings` has been found valid.

        Args:
            path: the directory, new or empty; by default runs/tune_NAME, runs/tune_NAME_2, ...
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
        search = cls(_new_directory(path, base.name))
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
        """An existing directory, with some tune.* settings changed."""
        path = Path(path)
        if not (path / "search.json").is_file():
            raise UserError(_no_search(path))
        search = cls(path)
        if settings:
            changed = search.changed(settings)
            with search.lock():  # not while another process leads the search
                search.write_json(
                    "search.json", {**search.saved, "tune": dataclasses.asdict(changed)}
                )
            for name in ("saved", "tune"):
                search.__dict__.pop(name, None)
        return search

    def changed(self, settings: list[str]) -> Tune:
        """The tune.* settings with some that may change in a resumed search changed.

        Nothing is written.
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
        """The objectives: name -> "max" or "min"; the task's primary metric comes first."""
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
        """Adds a line to the journal and waits until it is on the disk.

        Its time is the wall clock's when this process opened the search, and runs on evenly from
        there: a clock that is set meanwhile does not change how long the search took.
        """
        now = round(self._epoch + time.monotonic(), 3)
        line = json.dumps({"event": event, "time": now, **values})
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

        A last line that was cut off by a kill is left out, since its event did not happen.
        """
        path = self.path / "journal.jsonl"
        return (
            [json.loads(line) for line in path.read_bytes().rpartition(b"\n")[0].splitlines()]
            if path.exists()
            else []
        )

    def mend_journal(self) -> None:
        """Removes a torn last line, so that the next one begins a line; only the chief does so."""
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
        """A trial's outcome, if it has ended."""
        return self.read_json(f"outcomes/{trial}.json")

    def write_outcome(self, trial: str, outcome: dict) -> None:
        (self.path / "outcomes").mkdir(exist_ok=True)
        self.write_json(f"outcomes/{trial}.json", outcome)

    def lock(self) -> contextlib.AbstractContextManager:
        """Keeps a second process from leading the same search."""
        return files.lock(self.path, "searched")


def _new_directory(path: str | Path | None, name: str) -> Path:
    """Makes the directory of a new search; None: the first free runs/tune_NAME, _2, ..."""
    if path is None:
        first = Path("runs") / f"tune_{name}"
        further = (first.with_name(f"{first.name}_{number}") for number in itertools.count(2))
        path = next(
            candidate for candidate in itertools.chain([first], further) if not candidate.exists()
        )
    path = Path(path)
    if path.exists() and (
        not path.is_dir() or any(not entry.name.startswith(".") for entry in path.iterdir())
    ):
        raise UserError(
            f"run={path}: exists already. Continue it with --resume {path}, or name another"
            " directory."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run={path}: cannot be created: {error.strerror}.") from error
    return path


def _no_search(path: Path) -> str:
    """The message about a path that is no search directory, with the nearest one beside it."""
    beside: list[str] = []
    if path.parent.is_dir():
        beside = [p.name for p in path.parent.iterdir() if (p / "search.json").is_file()]
    if path.is_dir():
        reason = "which has no search.json"
    elif path.exists():
        reason = "which is no directory"
    else:
        reason = "which does not exist"
    return (
        f"expected a search directory (made by python -m tfbig.tune). Received: {path},"
        f" {reason}.{nearest(path.name, beside)}"
    )
