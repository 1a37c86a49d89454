"""Episodes played by an artefact, for agents that are judged by what comes of their actions."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tfbig.core.contracts import Task
from tfbig.core.errors import RunFailure
from tfbig.core.lazy import np, tf

WORKER = Path(__file__).with_name("worker.py")


class Player:
    """An artefact in a process without this package, asked again and again; a context."""

    def __init__(self, job: dict, folder: Path):
        """`job`: kind, path and signature of the artefact; `folder`: of working files."""
        self.job = folder / "play.json"
        self.job.write_text(json.dumps({**job, "serve": True, "started": 0}), "utf-8")
        self.report = folder / "play_report.json"

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(self.job), str(self.report)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The artefact's answers, name -> [n, ...]."""
        content = io.BytesIO()
        np.savez(content, **rows)
        try:
            self.process.stdin.write(len(content.getvalue()).to_bytes(8, "big"))
            self.process.stdin.write(content.getvalue())
            self.process.stdin.flush()
            length = self.process.stdout.read(8)
        except OSError:
            length = b""
        if not length:
            raise RunFailure(f"verification of {self.job}: the artefact's process ended in a game.")
        with np.load(io.BytesIO(self.process.stdout.read(int.from_bytes(length, "big")))) as file:
            return {name: file[name] for name in file.files}


def measured(task: Task, act: Callable, raw: dict[str, np.ndarray]) -> dict[str, dict]:
    """What metrics are made of, by episodes that `act` plays.

    Args:
        task: the bound task, which plays.
        act: raw observations to outputs of `Task.predict`, or to answers.
        raw: the examples of the split, one for each episode.

    Returns:
        {"sums": METRIC__sum and METRIC__count -> [n], "records": name -> [n, ...]}.
    """
    outputs = {name: tf.constant(value) for name, value in task.play(act, raw).items()}
    examples = {name: tf.constant(value) for name, value in raw.items()}
    sums = {
        f"{name}__{term}": value.numpy()
        for name, pair in task.metrics(outputs, examples).items()
        for term, value in zip(("sum", "count"), pair, strict=True)
    }
    records = task.records(outputs, examples)
    return {"sums": sums, "records": {name: value.numpy() for name, value in records.items()}}
