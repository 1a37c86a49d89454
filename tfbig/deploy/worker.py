"""Examines one artefact.

Runs as a file of its own, in a fresh process, and imports neither this package nor Keras.

    python -P worker.py JOB.json REPORT.json

The job names the artefact, the raw examples, the outputs that are expected and an examiner
(`Programs.examiner`, a SavedModel).
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

ROWS = 256  # examples per call over the whole split
# The same, step by step; a split that takes longer is examined in part
STEPPED_ROWS, STEPPED_SECONDS = 32, 600.0
CALLS = 200  # of a latency measurement, or as many as its seconds allow


def beside(name: str):
    """A module that stands beside this file, without its package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


arrays = beside("arrays")


def saved_model(job: dict):
    import tensorflow as tf

    loaded = tf.saved_model.load(job["path"])
    function = loaded.signatures[job["signature"]]

    def call(rows):
        return {
            name: value.numpy()
            for name, value in function(
                **{name: tf.constant(value) for name, value in rows.items()}
            ).items()
        }

    call.loaded = loaded  # its variables live as long as it does
    return call


def onnx(job: dict):
    import onnxruntime

    session = onnxruntime.InferenceSession(job["path"], providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = [name.removeprefix("new_") for name in names]  # an output called like an input
    return lambda rows: dict(zip(outputs, session.run(names, rows), strict=True))


def litert(job: dict):
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(job["path"])
    runner = interpreter.get_signature_runner()
    runner.interpreter = interpreter
    return lambda rows: {name: np.array(value) for name, value in runner(**rows).items()}


def steps(job: dict):
    """A model by its stepwise programs, each of another runtime's kind."""
    plan = job["plan"]
    programs = job["steps"]
    calls = {
        name: RUNTIMES[programs["kind"]]({**job, **programs[name]})
        for name in (plan["start"], plan["step"])
        if name
    }
    state = beside("steps").State
    return beside("stepping").Stepping(plan, state, calls[plan["step"]], calls.get(plan["start"]))


RUNTIMES = {"savedmodel": saved_model, "onnx": onnx, "litert": litert, "steps": steps}


def peak_memory_mb() -> float:
    """The most memory this process has held."""
    try:
        line = next(
            line
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    except (OSError, StopIteration):
        import resource

        return round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024)
            / 1e6,
            1,
        )


def rows_from(inputs: dict, first: int, size: int) -> dict:
    """`size` rows from `first` on, starting over behind the last one."""
    rows = np.arange(first, first + size) % len(next(iter(inputs.values())))
    return {name: np.ascontiguousarray(value[rows]) for name, value in inputs.items()}


def latency(call, inputs: dict, size: int, seconds: float) -> dict:
    """Milliseconds for a call of `size` examples, and examples per second."""
    times, row = [], 0
    until = time.perf_counter() + seconds
    while len(times) < 3 or (len(times) < CALLS and time.perf_counter() < until):
        rows = rows_from(inputs, row, size)
        before = time.perf_counter()
        call(rows)
        times.append(time.perf_counter() - before)
        row += size
    times = np.array(times[1:]) * 1e3  # the first call of a shape prepares it
    p50, p95, p99 = (round(float(value), 4) for value in np.percentile(times, (50, 95, 99)))
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "examples_per_s": round(size / float(times.mean()) * 1e3, 1),
        "calls": len(times),
    }


def ready(job: dict, raw: dict) -> dict:
    """Model-ready tensors of the whole split."""
    import tensorflow as tf

    examiner = tf.saved_model.load(job["examiner"])
    total = len(next(iter(raw.values())))
    batches = {}
    for first in range(0, total, ROWS):
        tensors = examiner.ready(
            **{name: tf.constant(raw[name][first : first + ROWS]) for name in job["ready"]}
        )
        for name, value in tensors.items():
            batches.setdefault(name, []).append(value.numpy())
    return {name: np.concatenate(values) for name, values in batches.items()}


def trials(job: dict) -> dict:
    """The report on single programs of a SavedModel.

    What differs from the answers expected, and how fast they came.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(job["path"])
    report = []
    for trial in job["trials"]:
        function = loaded.signatures[trial["program"]]
        inputs, expected = (
            {name: arrays.read(path)[...] for name, path in trial[side].items()}
            for side in ("inputs", "expected")
        )
        size = max((len(value) for value in inputs.values() if value.ndim), default=1)

        def call(rows, function=function):
            answers = function(**{name: tf.constant(value) for name, value in rows.items()})
            return {name: value.numpy() for name, value in answers.items()}

        batches, seconds = [], []
        for first in range(0, size, ROWS):
            rows = {
                name: value[first : first + ROWS] if value.ndim else value
                for name, value in inputs.items()
            }
            call(rows)  # the first call of a shape prepares it
            before = time.perf_counter()
            batches.append(call(rows))
            seconds.append(time.perf_counter() - before)
        answers = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        made = int(answers[trial["counts"]].sum()) if trial["counts"] else size
        speed = {"unit": trial["unit"], "made": made, "per_s": round(made / sum(seconds), 1)}
        gaps = arrays.Differences()
        gaps.add(answers, expected)
        report.append({"program": trial["program"], "rows": size, **speed, "outputs": gaps.outputs})
    return {"trials": report}


def examine(job: dict) -> dict:
    """The report on one artefact: cold start, latency, memory, output differences.

    What metrics are made of is written beside it: see `judge`.
    """
    before = time.perf_counter()
    if job["kind"] == "savedmodel":
        import tensorflow  # noqa: F401  its import is part of the cold start
    job["start_s"] += time.perf_counter() - before
    raw = {name: arrays.read(path) for name, path in job["raw"].items()}
    inputs = (
        ready(job, raw)
        if job["ready"]
        else {name: arrays.read(path) for name, path in job["inputs"].items()}
    )
    stepwise = job["kind"] == "steps"
    before = time.perf_counter()
    call = RUNTIMES[job["kind"]](job)
    call({name: np.asarray(value[:1]) for name, value in inputs.items()})
    report = {"cold_start_s": round(job["start_s"] + time.perf_counter() - before, 3)}
    report["unit"] = job["plan"]["unit"] if stepwise else "example"
    report["latency"] = {
        str(size): latency(
            call.step, call.first_inputs(rows_from(inputs, 0, size)), size, job["seconds"]
        )
        if stepwise
        else latency(call, inputs, size, job["seconds"])
        for size in job["batches"]
    }
    if job["measure_only"]:
        return report
    report |= answer(job, call, inputs)
    report["peak_memory_mb"] = peak_memory_mb()
    if job.get("greedy"):
        report["greedy"] = call.greedy(
            **{name: arrays.read(path)[...] for name, path in job["greedy"].items()}
        )
    if report["largest_difference"] is not None and job["judge"]:
        judge(job, raw, report["count"])  # needs TensorFlow; memory was measured before
    return report


def answer(job: dict, call, inputs: dict) -> dict:
    """Asks for the whole split, some examples at a time: what comes is written down and compared.

    Of a split that takes too long step by step, only the first part.
    """
    stepwise = job["kind"] == "steps"
    total = len(next(iter(inputs.values())))
    size, most_s = (STEPPED_ROWS, STEPPED_SECONDS) if stepwise else (ROWS, float("inf"))
    expected = {name: arrays.read(path) for name, path in job["expected"].items()}
    writers = {}
    gaps = arrays.Differences()
    seconds = 0.0
    count = 0
    while count < total and seconds <= most_s:
        rows = {
            name: np.ascontiguousarray(value[count : count + size])
            for name, value in inputs.items()
        }
        before = time.perf_counter()
        answers = call(rows)
        seconds += time.perf_counter() - before
        gaps.add(answers, {name: value[count : count + size] for name, value in expected.items()})
        for name, value in answers.items():
            if name not in writers:
                writers[name] = arrays.Writer(Path(job["answers"]) / name)
            writers[name].add(value)
        count = min(total, count + size)
    for writer in writers.values():
        writer.close()
    return {
        "throughput_examples_per_s": round(count / seconds, 1),
        "count": count,
        "outputs": gaps.outputs,
        "largest_difference": gaps.largest,
    }


def judge(job: dict, raw: dict, count: int) -> None:
    """Writes what metrics are made of, example by example.

    Sums, counts and records, as the examiner's program names them, of the artefact's answers
    ("own") and of those expected.
    """
    import tensorflow as tf

    examiner = tf.saved_model.load(job["examiner"])
    function = getattr(examiner, job["judge"])
    writers = {}
    sides = {
        "own": {name: arrays.read(str(Path(job["answers"]) / name)) for name in job["expected"]},
        "expected": {name: arrays.read(path) for name, path in job["expected"].items()},
    }
    for first in range(0, count, ROWS):
        rows = slice(first, min(first + ROWS, count))
        examples = {f"raw__{name}": tf.constant(value[rows]) for name, value in raw.items()}
        for side, answers in sides.items():
            given = {f"given__{name}": tf.constant(value[rows]) for name, value in answers.items()}
            for name, value in function(**examples, **given).items():
                path = Path(job["measured"]) / side / name
                if path not in writers:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    writers[path] = arrays.Writer(path)
                writers[path].add(value.numpy())
    for writer in writers.values():
        writer.close()


def serve(job: dict) -> None:
    """Answers one call after another until stdin ends, for agents that are judged by episodes.

    What is asked and answered are arrays by name: .npz files, each behind its length, 8 bytes.
    """
    call = RUNTIMES[job["kind"]](job)
    asked, answered = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    while length := asked.read(8):
        with np.load(io.BytesIO(asked.read(int.from_bytes(length, "big")))) as rows:
            answers = call({name: rows[name] for name in rows.files})
        content = io.BytesIO()
        # Texts come as Python objects, which a file of arrays does not hold
        texts = {name: "S" for name, value in answers.items() if value.dtype == object}
        np.savez(content, **{n: v.astype(texts.get(n, v.dtype)) for n, v in answers.items()})
        answered.write(len(content.getvalue()).to_bytes(8, "big") + content.getvalue())
        answered.flush()


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    job["start_s"] = max(0.0, time.time() - job["started"])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Importing TensorFlow imports Keras where it can; here nothing may lean on it
    sys.modules["keras"] = None
    if job.get("serve"):
        serve(job)
        report = {}
    else:
        report = trials(job) if "trials" in job else examine(job)
    report["foreign_modules"] = [name for name in ("tfbig", "keras") if sys.modules.get(name)]
    Path(sys.argv[2]).write_text(json.dumps(report), "utf-8")


if __name__ == "__main__":
    main()
