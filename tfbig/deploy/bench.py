"""The bench that artefacts are examined on, each in a process of its own.

The process knows neither this package nor Keras. It asks the artefact what the evaluated model was
asked, and compares the answers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tfbig.core.contracts import Task
from tfbig.core.errors import RunFailure
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Greedy, Trial
from tfbig.deploy.programs import READY, RECORD, Programs

WORKER = Path(__file__).with_name("worker.py")
BATCHES = (1, 8, 32)
MEASURED_S = 2.0  # of the latency of each batch size
TIMEOUT_S = 1800
ROWS = 256  # examples handled together


@dataclass(frozen=True)
class Reference:
    """What the evaluated model did on a split.

    Attributes:
        raw: the raw examples of a split, name -> [n, ...]; of any length, they are padded to the
            most, with NAME_count.
        served: the same as users send them, name -> [n, ...]; see `Serving.encode`.
        outputs: outputs of `Task.predict`, name -> [n, ...]; may lie on the disk.
        metrics: name -> {"value", "low", "high", "count"}.
        primary: the primary metric's name, and "max" or "min".
        trials: what further programs must answer; see `Serving.trials`.
        greedy: what is chosen step by step; see `Stepwise.greedy`.
    """

    raw: dict[str, np.ndarray]
    served: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    metrics: dict[str, dict]
    primary: tuple[str, str]
    trials: tuple[Trial, ...] = ()
    greedy: Greedy | None = None


class Bench:
    """Examines artefacts in fresh processes; its working files live in `folder`."""

    def __init__(self, programs: Programs, reference: Reference, folder: Path):
        self.programs = programs
        self.reference = reference
        self.folder = folder
        self.calls = 0
        with tf.device("CPU"):
            tf.saved_model.save(programs.examiner(), str(folder / "examiner"))
        self.raw = self._keep("raw", reference.raw)
        self.outputs = self._keep("outputs", reference.outputs)
        self.answers = self._keep_answers()
        self.served = self._keep("served", reference.served)
        numeric = programs.task.preprocess_on == "device"
        self.tensors = {name: self.raw[name] for name in programs.decoded_names} if numeric else {}
        self.ready = list(programs.decoded_names)
        self.trials = [
            {
                "program": trial.program,
                "inputs": self._keep(f"trial_{number}_in", trial.inputs),
                "expected": self._keep(f"trial_{number}_out", trial.expected),
                "unit": trial.unit,
                "counts": trial.counts,
            }
            for number, trial in enumerate(reference.trials)
        ]

    def _keep(self, prefix: str, values: dict[str, np.ndarray]) -> dict[str, str]:
        """Writes arrays for the processes to read; large ones a part at a time."""
        from tfbig.deploy import arrays

        paths = {}
        for name, value in values.items():
            path = self.folder / f"{prefix}_{name}"
            if not value.ndim or len(value) <= ROWS:
                paths[name] = arrays.save(path, value)
                continue
            writer = arrays.Writer(path)
            for first in range(0, len(value), ROWS):
                writer.add(value[first : first + ROWS])
            paths[name] = writer.close()
        return paths

    def _keep_answers(self) -> dict[str, str]:
        """Writes what users should be answered, from the expected outputs."""
        from tfbig.deploy import arrays

        outputs = self.reference.outputs
        writers = {}
        for first in range(0, len(next(iter(outputs.values()))), ROWS):
            batch = {
                name: tf.constant(value[first : first + ROWS]) for name, value in outputs.items()
            }
            for name, value in self.programs.serving.answer(batch).items():
                if name not in writers:
                    writers[name] = arrays.Writer(self.folder / f"answers_{name}")
                writers[name].add(value.numpy())
        return {name: writer.close() for name, writer in writers.items()}

    def examine(
        self, kind: str, path: Path, signature: str = "", measure_only: bool = False
    ) -> dict:
        """The worker's report on one artefact, with its metrics; see `worker.examine`."""
        through_raw = signature == self.programs.serving.name
        if through_raw:
            inputs = self.served
        elif signature == READY:
            inputs = {}
        else:
            inputs = self.tensors
        job = {
            "inputs": inputs,
            "ready": [] if inputs else self.ready,
            "judge": self._judge("grade" if through_raw else "metrics"),
            "expected": self.answers if through_raw else self.outputs,
            "signature": signature,
            "measure_only": measure_only,
        }
        return self._examine(kind, path, job)

    def examine_steps(self, folder: Path, files: dict[str, str]) -> dict:
        """The same of a model's stepwise programs.

        Args:
            folder: the artefact's.
            files: the ONNX file of each program; none: they are signatures of the SavedModel.
        """
        stepwise = self.programs.serving.stepwise
        unrolled = stepwise.unroll(self.reference.raw)
        greedy = self.reference.greedy
        given = {f"start__{name}": value for name, value in unrolled.start.items()}
        given |= {f"given__{name}": value for name, value in unrolled.given.items()}
        if unrolled.choices is not None:
            given["choices"] = unrolled.choices
        greedy_inputs = {}
        if greedy:
            greedy_inputs = {f"start__{name}": value for name, value in greedy.start.items()}
            greedy_inputs["choices"] = greedy.choices
        if files:
            programs = {name: {"path": str(folder / files[name])} for name in stepwise.programs}
        else:
            programs = {
                name: {"path": str(folder), "signature": name} for name in stepwise.programs
            }
        job = {
            "inputs": self._keep("steps", given),
            "greedy": self._keep("greedy", greedy_inputs),
            "plan": {**stepwise.to_json(), "outputs": stepwise.outputs, "zeros": self._zeros()},
            "steps": {"kind": "onnx" if files else "savedmodel", **programs},
            "ready": [],
            "judge": self._judge("metrics"),
            "expected": self.outputs,
            "measure_only": False,
        }
        return self._examine("steps", folder, job)

    def _zeros(self) -> dict[str, list]:
        """Type and sizes of a row of what is carried, where no program starts."""
        stepwise = self.programs.serving.stepwise
        inputs = self.programs.serving.programs[stepwise.step].inputs
        carried = () if stepwise.start else stepwise.carried
        return {
            name: [inputs[name].dtype.name, inputs[name].shape.as_list()[1:]] for name in carried
        }

    def _examine(self, kind: str, path: Path, job: dict) -> dict:
        own = {name: self.folder / f"{name}_{self.calls}" for name in ("answers", "measured")}
        for folder in own.values():
            folder.mkdir()
        job = {
            **job,
            "kind": kind,
            "path": str(path),
            "raw": self.raw,
            "examiner": str(self.folder / "examiner"),
            "batches": BATCHES,
            "seconds": MEASURED_S,
            "started": time.time(),
            **{name: str(folder) for name, folder in own.items()},
        }
        report = self._worker(job, f"{kind} {job.get('signature', '')}".strip())
        if self.programs.task.plays:
            report["metrics"] = {} if job["measure_only"] else self._played(kind, path, job)
        else:
            report["metrics"] = metrics_of(self.programs.task, own["measured"])
        for folder in own.values():
            shutil.rmtree(folder)
        return report

    def _judge(self, program: str) -> str:
        """The examiner's program that says what metrics are made of; none where episodes do."""
        return "" if self.programs.task.plays else program

    def _played(self, kind: str, path: Path, job: dict) -> dict[str, dict]:
        """The metrics of episodes that an artefact plays, beside those that the model plays."""
        from tfbig.deploy import playing

        task, signature, names = self.programs.task, job["signature"], self.programs.decoded_names
        raw = self.reference.raw
        through_raw = signature == self.programs.serving.name

        def given(observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            seen = {name: observations[name] for name in names}
            if through_raw:
                return self.programs.serving.encode(seen)
            ready = task.preprocess_on == "host" or signature == READY
            return self._ready(seen) if ready else seen

        place = {"kind": kind, "path": str(path), "signature": signature}
        with playing.Player(place, self.folder) as player:
            own = playing.measured(task, lambda seen: player(given(seen)), raw)
        metrics = compared(own["sums"], self._expected_play["sums"])
        if type(task).score is not Task.score:
            metrics |= scored(task, own["records"], self._expected_play["records"])
        return metrics

    def _ready(self, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = {name: tf.constant(value) for name, value in seen.items()}
        ready = self.programs.task.preprocess(tensors, False)
        return {name: value.numpy() for name, value in ready.items()}

    @cached_property
    def _expected_play(self) -> dict[str, dict]:
        """What the evaluated model plays."""
        from tfbig.deploy import playing

        def act(observations):
            seen = {name: observations[name] for name in self.programs.decoded_names}
            given = {name: tf.constant(value) for name, value in self._ready(seen).items()}
            return {name: value.numpy() for name, value in self.programs.ready(**given).items()}

        return playing.measured(self.programs.task, act, self.reference.raw)

    def try_programs(self, path: Path) -> list[dict]:
        """The worker's reports on the further programs of a SavedModel; see `worker.trials`."""
        job = {"path": str(path), "trials": self.trials, "started": time.time()}
        return self._worker(job, "savedmodel, its programs")["trials"] if self.trials else []

    def _worker(self, job: dict, what: str) -> dict:
        """The report of a process that has neither this package nor Keras."""
        self.calls += 1
        paths = [self.folder / f"{name}_{self.calls}.json" for name in ("job", "report")]
        paths[0].write_text(json.dumps(job), "utf-8")
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            process = subprocess.run(
                [sys.executable, "-P", str(WORKER), *map(str, paths)],
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailure(f"verification of {what}: no report after {TIMEOUT_S} s.") from error
        if process.returncode:
            last = [line for line in process.stderr.strip().splitlines() if line.strip()][-1:] or [
                f"exit code {process.returncode}"
            ]
            raise RunFailure(f"verification of {what}: the artefact does not run: {last[0][:300]}")
        report = json.loads(paths[1].read_text("utf-8"))
        if report["foreign_modules"]:
            imported = ", ".join(report["foreign_modules"])
            raise RunFailure(f"verification of {what}: its process imported {imported}.")
        return report


def metrics_of(task: Task, folder: Path) -> dict[str, dict]:
    """Each metric of an artefact, as it should be, and how many examples it differs in.

    From what the worker's `judge` wrote; none where it could not judge.
    """
    from tfbig.deploy import arrays

    own, expected = (
        {
            path.stem: arrays.read(str(path.with_suffix("")))
            for path in folder.glob(f"{side}/*.json")
        }
        for side in ("own", "expected")
    )
    metrics = compared(own, expected)
    if any(name.startswith(RECORD) for name in own):
        metrics |= scored(task, *(_records(side) for side in (own, expected)))
    return metrics


def _records(measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(RECORD): np.array(value)
        for name, value in measured.items()
        if name.startswith(RECORD)
    }


def compared(own: dict, expected: dict) -> dict[str, dict]:
    """The metrics that are sums over counts: METRIC__sum and METRIC__count -> [n]."""
    metrics = {}
    for name in sorted(key.removesuffix("__sum") for key in own if key.endswith("__sum")):
        own_sum, expected_sum = (
            side[f"{name}__sum"].astype(np.float64) for side in (own, expected)
        )
        count = own[f"{name}__count"].sum(dtype=np.float64)
        if not count:
            continue  # nothing of what it counts is in the split, so it has no value
        metrics[name] = {
            "value": float(own_sum.sum() / count),
            "expected": float(expected_sum.sum() / count),
            "changed": int(_rows_differ(own_sum, expected_sum).sum()),
        }
    return metrics


def scored(task: Task, own: dict, expected: dict) -> dict[str, dict]:
    """The metrics of `Task.score`, from records of all examples."""
    own_values, expected_values = (task.score(task.examine(side)) for side in (own, expected))
    changed = np.zeros(len(next(iter(own.values()))), bool)
    for name, value in own.items():
        changed |= _rows_differ(value, expected[name])
    return {
        name: {
            "value": float(value),
            "expected": float(expected_values[name]),
            "changed": int(changed.sum()),
        }
        for name, value in own_values.items()
        if value is not None and expected_values[name] is not None
    }


def _rows_differ(own: np.ndarray, expected: np.ndarray) -> np.ndarray:
    own, expected = own.astype(np.float64), expected.astype(np.float64)
    differ = np.abs(own - expected) > 1e-3 * (1 + np.abs(expected))
    return differ.reshape(len(own), -1).any(1)
