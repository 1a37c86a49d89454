"""Examines one artefact.

Runs as a file of its own, in a fresh process, and imports neither this package nor Keras.

    python -P worker.py JOB.json REPORT.json

The job names the artefact, the raw examples, the outputs that are expected and an examiner
(`Programs.examiner`, a SavedModel).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

ROWS = 256  # examples per call over the whole split
# The same, token by token; a split that takes longer is examined in part
STEPPED_ROWS, STEPPED_SECONDS = 32, 600.0
SECONDS, CALLS = 2.0, 200  # of a latency measurement, whichever comes first


def save(path: Path, array: np.ndarray) -> str:
    """Writes an array as .npy.

    Bytes become one block of bytes, their ends and the array's shape. Returns the path.
    """
    if array.dtype == object or array.dtype.kind == "S":
        flat = [bytes(item) for item in array.reshape(-1)]
        np.savez(
            path.with_suffix(".npz"),
            block=np.frombuffer(b"".join(flat), np.uint8),
            ends=np.cumsum([len(item) for item in flat]),
            shape=array.shape,
        )
        return str(path.with_suffix(".npz"))
    np.save(path.with_suffix(".npy"), array)
    return str(path.with_suffix(".npy"))


def read(path: str) -> np.ndarray:
    """Reads what `save` wrote; numbers are mapped from the disk."""
    if path.endswith(".npy"):
        return np.load(path, mmap_mode="r")
    with np.load(path) as parts:
        block, ends = parts["block"].tobytes(), parts["ends"].tolist()
        items = [block[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return np.array(items, object).reshape(tuple(parts["shape"]))


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
    said = [name.removeprefix("new_") for name in names]  # an output called like an input
    return lambda rows: dict(zip(said, session.run(names, rows), strict=True))


def litert(job: dict):
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(job["path"])
    runner = interpreter.get_signature_runner()
    runner.interpreter = interpreter
    return lambda rows: {name: np.array(value) for name, value in runner(**rows).items()}


def steps(job: dict):
    """A language model by its two programs, each of another runtime's kind."""
    stepping = beside("stepping")
    return stepping.Stepping(
        *(
            RUNTIMES[job["steps"]["kind"]]({**job, **job["steps"][name]})
            for name in ("prefill", "step")
        )
    )


RUNTIMES = {"savedmodel": saved_model, "onnx": onnx, "litert": litert, "steps": steps}


def beside(name: str):
    """A module that stands beside this file, without its package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def latency(call, inputs: dict, size: int) -> dict:
    """Milliseconds for a call of `size` examples, and examples per second."""
    total, times, row = len(next(iter(inputs.values()))), [], 0
    until = time.perf_counter() + SECONDS
    while len(times) < 3 or (len(times) < CALLS and time.perf_counter() < until):
        rows = {
            name: np.ascontiguousarray(value[np.arange(row, row + size) % total])
            for name, value in inputs.items()
        }
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


def differences(found: dict, expected: dict) -> dict:
    """For each output the largest difference (relative to 1 + |expected|) of numbers, or how many
    texts and whole numbers differ.
    """
    result = {}
    for name, value in expected.items():
        if name not in found or found[name].shape != value.shape:
            result[name] = {"missing": True}
        elif value.dtype.kind == "f":
            gap = np.abs(found[name].astype(np.float64) - value) / (1 + np.abs(value))
            result[name] = {"largest": float(gap.max()) if np.isfinite(gap).all() else None}
        else:
            result[name] = {"changed": int((found[name] != value).sum())}
    return result


def judge(examiner, program: str, given: dict, raw: dict) -> dict:
    """Per-example sums and counts of each metric."""
    import tensorflow as tf

    function, parts, total = getattr(examiner, program), {}, len(next(iter(raw.values())))
    for first in range(0, total, ROWS):
        rows = {
            f"raw__{name}": tf.constant(np.asarray(value[first : first + ROWS]))
            for name, value in raw.items()
        }
        rows |= {
            f"given__{name}": tf.constant(value[first : first + ROWS])
            for name, value in given.items()
        }
        for name, value in function(**rows).items():
            parts.setdefault(name, []).append(value.numpy().astype(np.float64))
    return {name: np.concatenate(values) for name, values in parts.items()}


def ready(job: dict, raw: dict) -> dict:
    """Model-ready tensors of the whole split."""
    import tensorflow as tf

    examiner, total, parts = tf.saved_model.load(job["examiner"]), len(next(iter(raw.values()))), {}
    for first in range(0, total, ROWS):
        made = examiner.ready(
            **{
                name: tf.constant(np.asarray(raw[name][first : first + ROWS]))
                for name in job["ready"]
            }
        )
        for name, value in made.items():
            parts.setdefault(name, []).append(value.numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def trials(job: dict) -> dict:
    """The report on single programs of a SavedModel.

    What differs from the answers expected, and how fast they came.
    """
    import tensorflow as tf

    loaded, report = tf.saved_model.load(job["path"]), []
    for trial in job["trials"]:
        function = loaded.signatures[trial["program"]]
        inputs, expected = (
            {name: np.asarray(read(path)) for name, path in trial[part].items()}
            for part in ("inputs", "expected")
        )
        size = max((len(value) for value in inputs.values() if value.ndim), default=1)

        def call(rows, function=function):
            answers = function(**{name: tf.constant(value) for name, value in rows.items()})
            return {name: value.numpy() for name, value in answers.items()}

        parts, seconds = [], []
        for first in range(0, size, ROWS):
            rows = {
                name: value[first : first + ROWS] if value.ndim else value
                for name, value in inputs.items()
            }
            call(rows)  # the first call of a shape prepares it
            before = time.perf_counter()
            parts.append(call(rows))
            seconds.append(time.perf_counter() - before)
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        made = int(found[trial["counts"]].sum()) if trial["counts"] else size
        speed = {"unit": trial["unit"], "made": made, "per_s": round(made / sum(seconds), 1)}
        report.append(
            {
                "program": trial["program"],
                "rows": size,
                **speed,
                "outputs": differences(found, expected),
            }
        )
    return {"trials": report}


def compared(own: dict, reference: dict) -> dict[str, dict]:
    """Each metric of an artefact, as it should be, and how many examples it differs in, from the
    sums and counts of both by example, as `judge` gives them."""
    metrics = {}
    for name in sorted(key[: -len("__sum")] for key in own if key.endswith("__sum")):
        one, other = own[f"{name}__sum"], reference[f"{name}__sum"]
        count = own[f"{name}__count"].sum()
        if not count:
            continue  # nothing of what it counts is in the split, so it has no value
        value, should = float(one.sum() / count), float(other.sum() / count)
        metrics[name] = {
            "value": value,
            "expected": should,
            "changed": int((np.abs(one - other) > 1e-3 * (1 + np.abs(other))).sum()),
        }
    return metrics


def examine(job: dict) -> dict:
    """The report on one artefact: cold start, latency, memory, output differences, metrics."""
    before = time.perf_counter()
    if job["kind"] == "savedmodel":
        import tensorflow  # noqa: F401  its import is part of the cold start
    job["start_s"] += time.perf_counter() - before
    raw = {name: read(path) for name, path in job["raw"].items()}
    inputs = (
        ready(job, raw)
        if job["ready"]
        else {name: read(path) for name, path in job["inputs"].items()}
    )
    total = len(next(iter(inputs.values())))
    before = time.perf_counter()
    call = RUNTIMES[job["kind"]](job)
    call({name: np.asarray(value[:1]) for name, value in inputs.items()})
    report = {"cold_start_s": round(job["start_s"] + time.perf_counter() - before, 3)}
    report["latency"], report["unit"] = {}, "token" if job["kind"] == "steps" else "example"
    for size in job["batches"]:
        timed = (call.step, call.one(size)) if job["kind"] == "steps" else (call, inputs)
        report["latency"][str(size)] = latency(*timed, size)
    if job["measure_only"]:
        return report
    parts: dict[str, list] = {}
    before, size = time.perf_counter(), STEPPED_ROWS if job["kind"] == "steps" else ROWS
    for first in range(0, total, size):
        if job["kind"] == "steps" and time.perf_counter() - before > STEPPED_SECONDS:
            total = first
            break
        for name, value in call(
            {
                name: np.ascontiguousarray(value[first : first + size])
                for name, value in inputs.items()
            }
        ).items():
            parts.setdefault(name, []).append(value)
    report["throughput_examples_per_s"] = round(total / (time.perf_counter() - before), 1)
    report["peak_memory_mb"] = peak_memory_mb()
    if job.get("greedy"):
        report["greedy"] = call.greedy(
            **{name: np.asarray(read(path)) for name, path in job["greedy"].items()}
        )
    found = {name: np.concatenate(values) for name, values in parts.items()}
    expected = {name: np.asarray(read(path)[:total]) for name, path in job["expected"].items()}
    raw = {name: value[:total] for name, value in raw.items()}
    report |= {"count": total, "outputs": differences(found, expected)}
    report["largest_difference"] = max(
        (part["largest"] or 0.0 for part in report["outputs"].values() if "largest" in part),
        default=0.0,
    )
    if any(
        part.get("missing") or part.get("largest", 0) is None for part in report["outputs"].values()
    ):
        return {**report, "metrics": {}, "largest_difference": None}

    import tensorflow as tf  # the judge needs it; memory was measured before

    examiner = tf.saved_model.load(job["examiner"])
    own, reference = (judge(examiner, job["judge"], given, raw) for given in (found, expected))
    return {**report, "metrics": compared(own, reference)}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    job["start_s"] = max(0.0, time.time() - job["started"])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Importing TensorFlow imports Keras where it can; here nothing may lean on it
    sys.modules["keras"] = None
    report = trials(job) if "trials" in job else examine(job)
    report["foreign_modules"] = [name for name in ("tfbig", "keras") if sys.modules.get(name)]
    Path(sys.argv[2]).write_text(json.dumps(report), "utf-8")


if __name__ == "__main__":
    main()
