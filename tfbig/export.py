"""Export a run: a verified artefact in TensorFlow Serving's layout."""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

from tfbig.core import cli, config, knobs
from tfbig.core.component import Component
from tfbig.core.contracts import Task
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.lazy import np
from tfbig.core.registry import nearest, opening
from tfbig.core.run import Run, environment
from tfbig.deploy import artefact

EXAMPLES = """  python -m tfbig.export runs/mnist_mlp
  python -m tfbig.export runs/mnist_mlp saved_models/digits --format onnx,litert --quantize int8
  python -m tfbig.export runs/mnist_cnn saved_models/digits --baseline saved_models/digits --json
  python -m tfbig.export runs/shakespeare_char_gpt --format onnx --temperature 0.8 --length 300

RUN --help shows the options of that run's task."""

FORMATS = ("savedmodel", "onnx", "litert")
LATENCY_FACTOR = 2.0  # times the baseline's
STORED_BYTES = 1 << 30  # of examples as they are stored; those behind are sent encoded anew
READ_TOGETHER = 256  # examples


def export(
    run: str | Path | Run,
    destination: str | Path | None = None,
    formats: tuple[str, ...] = ("savedmodel",),
    quantize: str | None = None,
    baseline: str | Path | None = None,
    latency_factor: float | None = None,
    step: str | int = "best",
    incompatible: bool = False,
    **options,
) -> dict:
    """Writes DESTINATION/VERSION, verified, and returns its record (artefact.json) with its path.

    Args:
        run: the run directory.
        destination: the model's directory, whose name is the model's; by default saved_models/ and
            the name of the run's.
        formats: "savedmodel" (always written), "onnx", "litert".
        quantize: "int8" adds int8 variants of ONNX and LiteRT where they pass verification.
        baseline: an artefact in service that the new one must not fall behind.
        latency_factor: how much slower than the baseline it may be; None: 2 times.
        step: "best", "last" or a step that has a checkpoint.
        incompatible: whether labels and signatures may differ from those of the model's newest
            version.
        options: how the served model answers when it is not told otherwise, such as
            temperature=0.7; RUN --help lists them.

    Raises:
        UserError: a wrong name or path.
        RunFailure: the artefact fell short, or the run's checkpoint does not give the metrics that
            were recorded of it; nothing was published.

    Where the run directory cannot be written, what is published is not noted there, and "not_saved"
    of the result says why.
    """
    factor = _checked(formats, quantize, baseline, latency_factor)
    opened = run if isinstance(run, Run) else Run.open(run)
    service = _service(opened, options)
    opened.experiment.data.check()
    from tfbig.deploy import publish
    from tfbig.deploy.destination import check_compatible, check_request
    from tfbig.deploy.record import signatures_of
    from tfbig.report.console import Console

    console = Console(units=opened.experiment.task.metric_units)
    target = _target(opened, destination)
    compared = check_request(target, formats, Path(baseline) if baseline else None)
    if not incompatible:
        check_compatible(target, list(opened.experiment.data.label_names))
    with tempfile.TemporaryDirectory(prefix="tfbig-export-") as scratch:
        source = _source(opened, str(step), service, console, Path(scratch))
        if not incompatible:
            check_compatible(target, source.facts["labels"], signatures_of(source.programs))
        int8 = quantize == "int8"
        record = publish.export(source, target, formats, int8, compared, factor, console.note)
    try:
        _note_in_run(opened, record)
    except RunFailure as error:
        console.note(f"published, but not noted in the run: {error}")
        record["not_saved"] = str(error)
    return record


def _service(run: Run, options: dict) -> Component:
    """The options of the served model; refuses tasks that cannot be served."""
    task = type(run.experiment.task)
    if task.serving is Task.serving:
        raise UserError(
            f"{run.path}: {task.__name__} has no served form yet, so its runs cannot be"
            " exported. Tasks that have one define serving."
        )
    return knobs.component(task.service, options)


def _note_in_run(run: Run, record: dict) -> None:
    """Writes what was published to the run's export.json and report."""
    from tfbig.report import html

    keys = ("path", "version", "created", "verification", "trials", "checks")
    run.write_json("export.json", {key: record[key] for key in keys if key in record})
    html.write(run.path)


def _checked(formats: tuple, quantize: str | None, baseline, latency_factor: float | None) -> float:
    """Refuses options that are wrong by themselves or together; returns the latency factor."""
    wrong = [name for name in formats if name not in FORMATS]
    if wrong or quantize not in (None, "int8"):
        name, received, known = (
            ("format", wrong[0], FORMATS) if wrong else ("quantize", quantize, ("int8",))
        )
        raise UserError(
            f"{name}: expected {', '.join(known)}. Received:"
            f" {received!r}.{nearest(received, known)}"
        )
    if quantize and not {"onnx", "litert"} & set(formats):
        raise UserError(
            "quantize: int8 is made of onnx and litert, neither of which is asked for. Add --format"
            " onnx or litert."
        )
    if latency_factor is not None and baseline is None:
        raise UserError(
            "latency-factor: compares with an artefact in service. Name it too, with baseline."
            f" Received: {latency_factor} alone."
        )
    factor = LATENCY_FACTOR if latency_factor is None else latency_factor
    if not 0 < factor < math.inf:
        raise UserError(f"latency-factor: expected a number above 0. Received: {latency_factor}.")
    return factor


def _target(run: Run, destination: str | Path | None) -> Path:
    """The model's directory; two runs are two models, unless it is given."""
    if destination is not None:
        return Path(destination)
    name = run.path.resolve().name
    if artefact.VERSION.fullmatch(name):
        raise UserError(
            f"{run.path}: its name would be read as a version's. Name the model too: python -m"
            f" tfbig.export {run.path} saved_models/NAME"
        )
    return Path("saved_models") / name


class _Outputs:
    """A split's outputs on the disk, since those of a large one fit no memory."""

    def __init__(self, folder: Path, size: int):
        self.folder, self.size = folder, size
        self.arrays: dict[str, np.ndarray] = {}

    def receive(self, positions: np.ndarray, outputs: dict) -> None:
        """Takes the outputs of the examples at these positions."""
        for name, value in outputs.items():
            rows = value.numpy()[: len(positions)]
            if name not in self.arrays:
                path = self.folder / f"{name}.npy"
                shape = (self.size, *rows.shape[1:])
                self.arrays[name] = np.lib.format.open_memmap(path, "w+", rows.dtype, shape)
            self.arrays[name][positions] = rows

    def of(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of the examples at these positions, which ascend; others are lost."""
        for array in self.arrays.values():
            for first in range(0, len(positions) * (len(positions) < self.size), READ_TOGETHER):
                rows = positions[first : first + READ_TOGETHER]
                array[first : first + len(rows)] = array[rows]
        return {name: array[: len(positions)] for name, array in self.arrays.items()}


def _source(run: Run, step: str, service: Component, console, scratch: Path):
    """The run's model in float32, its programs, and what it does on the test split.

    Its outputs are kept in the folder `scratch`.
    """
    from tfbig.deploy.bench import Reference
    from tfbig.deploy.programs import Programs
    from tfbig.deploy.variants import Source
    from tfbig.engine import float32, shapes
    from tfbig.engine.facts import measure
    from tfbig.engine.trained import Trained

    trained = Trained(run, step, console)
    # Refuses data that has changed: what is verified is what was evaluated
    measure(run, run.experiment, trained.setup.data)
    setup, proof = float32.rebuilt(trained)
    task = setup.task
    data = setup.data
    split = "test"
    console.note("evaluating the model that is exported")
    outputs = _Outputs(scratch, data.size(split))
    # Outputs of one shape, as the served model's are
    result = setup.evaluate(split, receive=outputs.receive, to_longest=True)
    metrics = {
        "split": split,
        "count": result.count,
        "step": trained.step,
        "metrics": result.metrics,
    }
    trained_metrics = result.metrics if proof is None else trained.setup.evaluate(split).metrics
    float32.compare_with_record(trained, split, trained_metrics, console)
    if proof is not None:
        proof["metrics"] = float32.prove(
            trained_metrics, result.metrics, task.primary[0], run.experiment.device.precision
        )
    programs = Programs(task, setup.model, service)
    examples = data.examples(split, result.measured)
    longest = shapes.free(data.spec)
    serving = programs.serving
    reference = Reference(
        shapes.padded(examples, longest, data.spec),
        _served(serving, data, split, result.measured, examples),
        outputs.of(result.measured),
        result.metrics,
        task.primary,
        tuple(serving.trials(split)),
        serving.stepwise.greedy(split) if serving.stepwise and serving.stepwise.greedy else None,
    )
    rows = np.unique(np.linspace(0, data.size("train") - 1, 256).astype(np.int64))
    facts = {
        **_facts_of(run),
        "metrics": metrics,
        "parameters": setup.model.count_params(),
        "labels": list(data.label_names),
        "remarks": list(serving.remarks),
        "environment": {key: value for key, value in environment().items() if key != "command"},
        **({"float32": proof} if proof is not None else {}),
    }
    calibration = shapes.padded(data.examples("train", rows), longest, data.spec)
    return Source(programs, reference, calibration, facts)


def _facts_of(run: Run) -> dict:
    """What an artefact says of its run: its purpose, configuration and data."""
    saved = run.read_json("data.json")
    return {
        "purpose": opening(type(run.experiment.task).__doc__) + ".",
        "config": config.to_json(run.experiment),
        "data": {
            "card": saved["card"],
            "notes": saved.get("notes", []),
            "facts": saved["facts"],
            "splits": {name: entry["size"] for name, entry in saved["splits"].items()},
        },
    }


def _served(
    serving, data, split: str, positions: np.ndarray, examples: dict
) -> dict[str, np.ndarray]:
    """The inputs sent to the served model to examine it.

    They are as users send them where the data has them so, up to STORED_BYTES.
    """
    bytes_left = STORED_BYTES
    batches = []
    for first in range(0, len(positions), READ_TOGETHER):
        rows = slice(first, first + READ_TOGETHER)
        stored = data.encoded(split, positions[rows]) if bytes_left > 0 else {}
        bytes_left -= sum(len(item) for items in stored.values() for item in items)
        batches.append(
            serving.encode({**{name: value[rows] for name, value in examples.items()}, **stored})
        )
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def door(arguments: list[str]) -> dict:
    parser = cli.Parser("export", __doc__, EXAMPLES)
    parser.add_argument("run", help="a run directory")
    parser.add_argument(
        "destination",
        nargs="?",
        help="the model's directory (default: saved_models/ and the name of the run's)",
    )
    parser.add_argument(
        "--format",
        default="savedmodel",
        help="savedmodel (always written), onnx, litert; separated by commas",
    )
    parser.add_argument(
        "--quantize",
        metavar="int8",
        help="also int8 variants of onnx and litert, each kept if it passes",
    )
    parser.add_argument(
        "--baseline", metavar="DIR", help="an artefact in service; a worse one is refused"
    )
    parser.add_argument(
        "--latency-factor",
        type=float,
        help=f"how much slower than the baseline it may be (default: {LATENCY_FACTOR:g})",
    )
    parser.add_argument(
        "--step", default="best", help="best, last or a step number (default: best)"
    )
    parser.add_argument(
        "--incompatible",
        action="store_true",
        help="publish even with other labels or signatures than the newest version has",
    )
    knobs = cli.add_knobs(parser, arguments, lambda run: run.experiment.task.service)
    parsed = parser.parse_args(arguments)
    options = cli.given_knobs(parsed, knobs) if knobs else {}
    formats = tuple(name for name in parsed.format.split(",") if name)
    record = export(
        parsed.run,
        parsed.destination,
        formats,
        parsed.quantize,
        parsed.baseline,
        parsed.latency_factor,
        parsed.step,
        parsed.incompatible,
        **options,
    )
    if not parsed.json:
        from tfbig.deploy.verify import summary

        print(summary(record))
    return record


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, export)
