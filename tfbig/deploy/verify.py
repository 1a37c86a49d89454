"""Verification: what an artefact answers, in a process of its own, against what the evaluated model
answered.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.errors import RunFailure
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Trial
from tfbig.deploy.programs import RAW, READY, Programs
from tfbig.deploy.saved_model import signature_tensors

BATCHES = (1, 8, 32)
TIMEOUT_S = 1800
DIFFERENCE = 1e-4  # largest output difference of float32 formats, relative to 1 + |expected|
TIES = 2000  # of so many examples one may change sides, being a tie


@dataclass(frozen=True)
class Reference:
    """What the evaluated model did on a split.

    Attributes:
        raw: the split's raw examples, name -> [n, ...].
        served: the same as users send them, name -> [n, ...]; see `Task.encode`.
        outputs: outputs of `Task.predict`, name -> [n, ...].
        metrics: name -> {"value", "low", "high", "count"}.
        primary: the primary metric's name, and "max" or "min".
        trials: what further programs must answer; see `Task.trials`.
    """

    raw: dict[str, np.ndarray]
    served: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    metrics: dict[str, dict]
    primary: tuple[str, str]
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Check:
    """One thing that was asked of an artefact."""

    format: str
    what: str
    expected: str
    found: str
    passed: bool


class Bench:
    """Examines artefacts in fresh processes; its working files live in `folder`."""

    def __init__(self, programs: Programs, reference: Reference, folder: Path):
        from tfbig.deploy import worker

        self.programs, self.reference, self.folder = programs, reference, folder
        with tf.device("CPU"):
            tf.saved_model.save(programs.examiner(), str(folder / "examiner"))

        def keep(prefix, arrays):
            return {
                name: worker.save(folder / f"{prefix}_{name}", value)
                for name, value in arrays.items()
            }

        self.raw = keep("raw", reference.raw)
        self.outputs = keep("outputs", reference.outputs)
        self.answers = keep("answers", self._answers())
        self.served = keep("served", reference.served)
        numeric = programs.task.preprocess_on == "device"
        self.tensors = {name: self.raw[name] for name in programs.decoded_names} if numeric else {}
        self.ready = list(programs.decoded_names)
        self.trials, self.greedy = [], {}
        for number, trial in enumerate(reference.trials):
            given, expected = (
                keep(f"trial_{number}_in", trial.inputs),
                keep(f"trial_{number}_out", trial.expected),
            )
            if trial.program == "step":
                self.greedy = {
                    "tokens": given["tokens"],
                    "count": given["count"],
                    "expected": expected["ids"],
                }
            else:
                self.trials.append(
                    {
                        "program": trial.program,
                        "inputs": given,
                        "expected": expected,
                        "unit": trial.unit,
                        "counts": trial.counts,
                    }
                )
        self.calls = 0

    def _answers(self) -> dict[str, np.ndarray]:
        made = self.programs.task.answer(
            {name: tf.constant(value) for name, value in self.reference.outputs.items()}
        )
        return {name: value.numpy() for name, value in made.items()}

    def examine(
        self,
        kind: str,
        path: Path,
        signature: str = "",
        measure_only: bool = False,
        steps: dict | None = None,
    ) -> dict:
        """The worker's report on one artefact.

        See `worker.examine`. Of the kind "steps", `steps` says where its programs are.
        """
        through_raw = signature == self.programs.task.served_as
        inputs = self.served if through_raw else {} if signature == READY else self.tensors
        job = {
            "kind": kind,
            "path": str(path),
            "signature": signature,
            "inputs": inputs,
            "raw": self.raw,
            "ready": [] if inputs else self.ready,
            "examiner": str(self.folder / "examiner"),
            "judge": "grade" if through_raw else "metrics",
            "expected": self.answers if through_raw else self.outputs,
            "batches": BATCHES,
            "measure_only": measure_only,
            "started": time.time(),
            **({"steps": steps, "greedy": self.greedy} if steps else {}),
        }
        return self._without_us("worker.py", job, f"{kind} {signature}".strip())

    def try_programs(self, path: Path) -> list[dict]:
        """The worker's reports on the further programs of a SavedModel; see `worker.trials`."""
        job = {"path": str(path), "trials": self.trials, "started": time.time()}
        return (
            self._without_us("worker.py", job, "savedmodel, its programs")["trials"]
            if self.trials
            else []
        )

    def through_c_api(self, path: Path) -> dict:
        """Differences of the default signature's answers through TensorFlow's C API, on the first
        32 examples.
        """
        from tfbig.deploy import worker

        given = next(
            (trial for trial in self.trials if trial["program"] == RAW),
            {"inputs": self.served, "expected": self.answers},
        )
        inputs, outputs = signature_tensors(path, RAW)

        def first(part, name):
            return worker.save(
                self.folder / f"first_{part}_{name}",
                np.asarray(worker.read(given[part][name])[:32]),
            )

        job = {
            "library": str(Path(importlib.util.find_spec("tensorflow").origin).parent),
            "path": str(path),
            "inputs": {tensor: first("inputs", name) for name, tensor in inputs.items()},
            "outputs": {tensor: first("expected", name) for name, tensor in outputs.items()},
        }
        return self._child("c_api.py", job, "savedmodel, C API")

    def _without_us(self, script: str, job: dict, what: str) -> dict:
        report = self._child(script, job, what)
        if report["foreign_modules"]:
            raise RunFailure(
                f"verification of {what}: its process imported"
                f" {', '.join(report['foreign_modules'])}."
            )
        return report

    def _child(self, script: str, job: dict, what: str) -> dict:
        self.calls += 1
        paths = [self.folder / f"{part}_{self.calls}.json" for part in ("job", "report")]
        paths[0].write_text(json.dumps(job), "utf-8")
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(Path(__file__).with_name(script)), *map(str, paths)],
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailure(f"verification of {what}: no report after {TIMEOUT_S} s.") from error
        if done.returncode:
            last = [line for line in done.stderr.strip().splitlines() if line.strip()][-1:] or [
                f"exit code {done.returncode}"
            ]
            raise RunFailure(f"verification of {what}: the artefact does not run: {last[0][:300]}")
        return json.loads(paths[1].read_text("utf-8"))


def exact(name: str, report: dict, reference: Reference) -> list[Check]:
    """Checks of a float32 format: the same metrics and outputs, but for rounding."""
    ties = max(1, report["count"] // TIES)
    checks = [_shape(name, report)]
    largest = report["largest_difference"]
    checks.append(
        Check(
            name,
            "largest output difference",
            f"at most {DIFFERENCE:g}",
            "not finite" if largest is None else f"{largest:.3g}",
            largest is not None and largest <= DIFFERENCE,
        )
    )
    for metric, found in report["metrics"].items():
        checks.append(
            Check(
                name,
                f"{metric}, examples changed",
                f"at most {ties} of {report['count']:,} (ties)",
                str(found["changed"]),
                found["changed"] <= ties,
            )
        )
        if metric in reference.metrics:
            value, should = (
                found["value"],
                (
                    reference.metrics[metric]["value"]
                    if _whole(report, reference)
                    else found["expected"]
                ),
            )
            allowed = min(ties, found["changed"]) / report["count"] + DIFFERENCE * (1 + abs(should))
            checks.append(
                Check(
                    name,
                    metric,
                    f"{should:.6g} within {allowed:.2g}",
                    f"{value:.6g}",
                    abs(value - should) <= allowed,
                )
            )
    return [*checks, _has_primary(name, report, reference), *_greedy(name, report)]


def tried(report: dict) -> list[Check]:
    """Checks of a program that was tried."""
    checks = []
    for output, part in report["outputs"].items():
        gap = part.get("largest", 0.0)
        right = (
            not part.get("missing")
            and not part.get("changed")
            and gap is not None
            and gap <= DIFFERENCE
        )
        found = (
            "the same"
            if right
            else (
                "missing or in another shape"
                if part.get("missing")
                else f"{part['changed']} others"
                if "changed" in part
                else f"difference of {gap}"
            )
        )
        checks.append(
            Check(
                "savedmodel",
                f"{report['program']}: {output} of {report['rows']:,} rows",
                "the same",
                found,
                right,
            )
        )
    return checks


def _greedy(name: str, report: dict) -> list[Check]:
    """The most probable tokens by single steps are those of the evaluated model, but for counted
    ties.
    """
    if "greedy" not in report:
        return []
    found = report["greedy"]
    return [
        Check(
            name,
            "most probable tokens changed",
            f"0 of {found['tokens']:,}",
            f"{found['changed']} ({found['ties']} ties)",
            not found["changed"],
        )
    ]


def close(name: str, report: dict, reference: Reference) -> list[Check]:
    """Checks of a quantised format.

    Its primary metric lies within the evaluated model's interval, or is better.
    """
    checks = [_shape(name, report), _has_primary(name, report, reference)]
    metric, better = reference.primary
    found = report["metrics"].get(metric)
    if found:  # of a part of the split, the difference counts
        value = (
            found["value"]
            if _whole(report, reference)
            else reference.metrics[metric]["value"] + found["value"] - found["expected"]
        )
        checks.append(
            not_worse(
                name,
                metric,
                better,
                value,
                reference.metrics[metric],
                "the evaluated model's interval",
            )
        )
    return checks


def _whole(report: dict, reference: Reference) -> bool:
    return report["count"] == len(next(iter(reference.raw.values())))


def not_worse(
    name: str, metric: str, better: str, value: float, interval: dict, whose: str
) -> Check:
    """A metric against the worse end of an interval."""
    end = interval["low" if better == "max" else "high"]
    end = interval["value"] if end is None else end  # of too few examples for an interval
    passed = value >= end if better == "max" else value <= end
    return Check(
        name,
        metric,
        f"at {'least' if better == 'max' else 'most'} {end:.6g} ({whose})",
        f"{value:.6g}",
        passed,
    )


def _shape(name: str, report: dict) -> Check:
    wrong = sorted(output for output, part in report["outputs"].items() if part.get("missing"))
    return Check(
        name,
        "outputs",
        "all, in their shapes",
        f"wrong or missing: {', '.join(wrong)}" if wrong else "all",
        not wrong,
    )


def _has_primary(name: str, report: dict, reference: Reference) -> Check:
    there = reference.primary[0] in report["metrics"]
    return Check(
        name,
        f"{reference.primary[0]} over the split",
        "computed",
        "computed" if there else "not computed",
        there,
    )


def table(checks: list[Check]) -> str:
    """Checks as text, one a line."""
    rows = [
        ("", "format", "check", "expected", "found"),
        *(("ok" if c.passed else "FAIL", c.format, c.what, c.expected, c.found) for c in checks),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def summary(record: dict) -> str:
    """A published artefact in a few lines: each format's metrics, latency, size."""
    rows = [
        (
            "format",
            "metrics",
            "p50 batch 1",
            "p99 batch 1",
            "rate at batch 32",
            "size",
            "memory",
            "cold start",
        )
    ]
    for name, entry in record["verification"].items():
        metrics = ", ".join(
            f"{metric} {found['value']:.4f}" for metric, found in entry["metrics"].items()
        )
        one, many = entry["latency"]["1"], entry["latency"]["32"]
        rows.append(
            (
                name,
                metrics,
                f"{one['p50_ms']:.2f} ms",
                f"{one['p99_ms']:.2f} ms",
                f"{many['examples_per_s']:,.0f} {entry.get('unit', 'example')}s/s",
                f"{entry['size'] / 1e6:.2f} MB",
                f"{entry['peak_memory_mb']:.0f} MB",
                f"{entry['cold_start_s']:.1f} s",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += [
        f"{trial['program']}: {trial['per_s']:,.0f} {trial['unit']}s/s ({trial['rows']} rows"
        " together)"
        for trial in record.get("trials", ())
    ]
    return "\n".join(
        [*lines, f"published: {record['path']} ({len(record['checks'])} checks passed)"]
    )
