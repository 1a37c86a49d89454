"""The run directory: everything about one training run, and the argument of every later command."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import shlex
import shutil
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import tfbig
from tfbig.core import config, files, knobs, saved
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.experiment import Experiment
from tfbig.core.registry import nearest

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")


class Run:
    """A run directory.

    config.json the experiment; env.json where it ran; data.json the data card and what was measured
    on the training split; metrics.jsonl one line for each logged step and evaluation; checkpoints/;
    metrics.json the final evaluations; panels.json, summary.json and report.html for people; DONE
    once it is complete. tfbig/core/saved.py says what is in them.
    """

    existed = False  # of a new run: whether its directory was there before

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(
        cls, path: str | Path | None, experiment: Experiment, base: Experiment | None = None
    ) -> Run:
        """A new directory; without a path it is runs/NAME, or runs/NAME_2, ... if that exists."""
        run = _numbered(Path("runs") / experiment.name) if path is None else _named(Path(path))
        with run.lock():  # if two start in one new directory at the same moment, one gets it
            _refuse_taken(run.path)
            try:
                run.write_config(experiment, base)
                run.write_json("env.json", environment())
            except BaseException:
                run._clear()
                raise
        return run

    def withdraw(self) -> None:
        """Takes a new run back if nothing was trained in it.

        A directory that was there before stays, empty.
        """
        # Unless another process trains there
        with contextlib.suppress(OSError, UserError, RunFailure), self.lock():
            if not self.history() and not any(self.checkpoints.glob("[0-9]*")):
                self._clear()

    def _clear(self) -> None:
        with contextlib.suppress(OSError):
            for entry in self.path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            if not self.existed:
                self.path.rmdir()

    @classmethod
    def open(cls, path: str | Path | Run) -> Run:
        """An existing run directory."""
        if isinstance(path, Run):
            return path
        if not isinstance(path, (str, os.PathLike)):
            raise UserError(
                "run: expected a run directory, as its path or as tfbig.train returns it."
                f" Received: {path!r:.60}."
            )
        path = Path(path)
        if not (path / "config.json").is_file():
            beside = (
                [p.name for p in path.parent.iterdir() if (p / "config.json").is_file()]
                if path.parent.is_dir()
                else []
            )
            if path.is_dir():
                reason = "which has no config.json"
            elif path.exists():
                reason = "which is no directory"
            else:
                reason = "which does not exist"
            raise UserError(
                f"expected a run directory (made by python -m tfbig.train). Received: {path},"
                f" {reason}.{nearest(path.name, beside)}"
            )
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @cached_property
    def experiment(self) -> Experiment:
        saved_config = self.read_json("config.json")
        if saved_config is None:
            raise UserError(f"{self.path / 'config.json'}: missing.")
        try:
            return config.from_json(saved_config["experiment"])
        except UserError as error:
            by = saved_config.get("tfbig", tfbig.__version__)
            origin = (
                ""
                if by == tfbig.__version__
                else f", it was written by tfbig {by} and this is tfbig {tfbig.__version__}"
            )
            raise UserError(
                f"{self.path / 'config.json'}: cannot be used{origin}:\n{error}"
            ) from error

    def write_config(self, experiment: Experiment, base: Experiment | None = None) -> None:
        experiment = config.absolute(experiment)
        # A resumed run keeps what differed from the recipe
        before = self.read_json("config.json") if base is None else None
        earlier = (before or {}).get("changed", {})
        reference = experiment
        if base:
            reference = config.absolute(base)
        elif before:
            reference = self.experiment
        pairs = config.changed(experiment, reference)
        changed = {key: [knobs.text_of(value) for value in pair] for key, pair in pairs.items()}
        changed = {
            **earlier,
            **{key: [earlier.get(key, pair)[0], pair[1]] for key, pair in changed.items()},
        }
        self.write_json(
            "config.json",
            {
                "experiment": config.to_json(experiment),
                "tfbig": tfbig.__version__,
                "changed": changed,
            },
        )
        self.__dict__.pop("experiment", None)

    def read_json(self, name: str) -> Any:
        """A JSON file's content; None if there is none.

        Raises:
            UserError: it cannot be read, or does not hold what it should; see tfbig/core/saved.py.
        """
        path = self.path / name
        shape, remedy = saved.FILES.get(name, (object, ""))
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"{path}: cannot be read: expected a plain file.")
        try:
            value = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            wrong = f"cannot be read as JSON: {error}."
        else:
            wrong = saved.misfit(value, shape)
        if wrong:
            raise UserError(
                f"{path}: {wrong} {remedy.format(run=shlex.quote(str(self.path)))}".rstrip()
            )
        return value

    def write_json(self, name: str, value: Any) -> None:
        files.write_json(self.path / name, value)

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Appends one line to metrics.jsonl.

        Numbers that are not finite become null, since JSON has none.
        """
        entry = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        line = files.json_text(entry)
        path = self.path / "metrics.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise files.disk_failure(path, len(line), error) from error

    def history(self, kind: str | None = None) -> list[dict]:
        """The lines of metrics.jsonl that are as `log` writes them.

        A last line that was cut off by a kill is left out.
        """
        path = self.path / "metrics.jsonl"
        lines = []
        if path.is_file():
            for text in path.read_text("utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, RecursionError):
                    lines.append(json.loads(text))
        return [
            line
            for line in lines
            if not saved.misfit(line, saved.LINE) and kind in (None, line["kind"])
        ]

    def truncate_history(self, step: int) -> None:
        """Drops lines after a step, which a resumed run will write again."""
        kept = [json.dumps(line) + "\n" for line in self.history() if line["step"] <= step]
        if kept or (self.path / "metrics.jsonl").exists():
            files.write_atomic(self.path / "metrics.jsonl", "".join(kept))

    def lock(self) -> contextlib.AbstractContextManager:
        """Keeps a second process from training the same run."""
        return files.lock(self.path, "trained")

    @property
    def is_done(self) -> bool:
        return (self.path / "DONE").exists()

    def mark_done(self) -> None:
        files.write_atomic(self.path / "DONE", "")

    def unmark_done(self) -> None:
        (self.path / "DONE").unlink(missing_ok=True)


class Follower(Run):
    """A run directory for workers other than the chief, which read it and write nothing."""

    def __init__(self, path: Path, experiment: Experiment | None = None):
        super().__init__(path)
        if experiment is not None:
            self.write_config(experiment)

    def write_config(self, experiment: Experiment, base: Experiment | None = None) -> None:
        self.__dict__["experiment"] = config.absolute(experiment)

    def write_json(self, name: str, value: Any) -> None:
        pass

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        pass

    def truncate_history(self, step: int) -> None:
        pass

    def lock(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def mark_done(self) -> None:
        pass

    def unmark_done(self) -> None:
        pass


def _numbered(stem: Path) -> Run:
    """A run in a directory made now, with the first number that is free."""
    for number in itertools.count(1):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}_{number}")
        with contextlib.suppress(FileExistsError):
            return _made(folder, exist_ok=False)
    raise AssertionError("numbers do not end")


def _named(folder: Path) -> Run:
    """A run in a directory that is new or empty."""
    _refuse_taken(folder)
    existed = folder.exists()
    try:
        run = _made(folder, exist_ok=True)
    except FileExistsError as error:  # a link to nowhere
        raise UserError(f"run={folder}: cannot be created: something else is there.") from error
    run.existed = existed
    return run


def _made(folder: Path, exist_ok: bool) -> Run:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and (exist_ok or folder.exists()):
            raise
        raise UserError(f"run={folder}: cannot be created: {error.strerror}.") from error
    return Run(folder)


def _refuse_taken(folder: Path) -> None:
    if not folder.exists() or (
        folder.is_dir() and all(entry.name == files.LOCK for entry in folder.iterdir())
    ):
        return
    raise UserError(
        f"run={folder}: exists already. Continue it with --resume {folder}, or name another"
        " directory."
    )


def environment() -> dict[str, Any]:
    """Where and with what a run is made."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "tfbig": tfbig.__version__,
        "packages": versions,
    }
