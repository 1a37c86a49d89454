"""An export from start to end.

Write beside, verify, describe, seal, rename. What falls short is never published.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbig.core import files
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.lazy import np
from tfbig.deploy import allowlist, artefact, card, litert_format, onnx_format, saved_model, verify
from tfbig.deploy.programs import READY, Programs

FORMATS = ("savedmodel", "onnx", "litert")
CALIBRATION = 256  # training examples that int8 ranges are measured on


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        programs, reference: the model's programs, and what it did when it was evaluated.
        calibration: a few raw training examples, name -> [n, ...].
        facts: JSON values for the record: purpose, config, data, metrics, environment, parameters,
            labels, step.
    """

    programs: Programs
    reference: verify.Reference
    calibration: dict[str, np.ndarray]
    facts: dict[str, Any]


@dataclass
class Variant:
    """One exported folder or some of its files, the report of the verification and the checks it
    went through.
    """

    name: str
    path: Path
    kind: str
    signature: str = ""
    files: tuple[str, ...] = ()
    report: dict | None = None
    checks: tuple[verify.Check, ...] = ()


def export(
    source: Source,
    destination: Path,
    formats: tuple[str, ...],
    int8: bool,
    baseline: Path | None,
    latency_factor: float,
    say=print,
) -> dict:
    """Publishes DESTINATION/VERSION and returns its record.

    Args:
        source: what is exported.
        destination: the model's directory; the version is its next free number.
        formats: of FORMATS; the SavedModel is always written.
        int8: also make int8 variants of ONNX and LiteRT; those that fall short are left out.
        baseline: an artefact in service: a version as `check_request` gives it; a worse metric or
            latency beyond `latency_factor` times its own is refused.
        latency_factor: see `baseline`.
        say: is told what happens, line by line.

    Raises:
        RunFailure: something fell short; the message holds the table. Nothing was published.
    """
    if "onnx" in formats:
        onnx_format.check_size(source.programs.model.variables)
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{destination}: cannot be made: {error.strerror}.") from error
    name = destination.resolve().name  # as servers call it
    source = dataclasses.replace(source, facts={**source.facts, "name": name})
    version = artefact.next_version(destination)
    beside = Path(tempfile.mkdtemp(prefix=f".{version}.", dir=destination))
    beside.chmod(0o755)
    try:
        with tempfile.TemporaryDirectory(prefix="tfbig-verify-") as scratch:
            bench = verify.Bench(source.programs, source.reference, Path(scratch))
            variants = _float32(source, bench, beside, formats, say)
            checks = [check for variant in variants for check in variant.checks]
            checks.append(_c_api(bench, beside))
            trials = bench.try_programs(beside)
            checks += [check for trial in trials for check in verify.tried(trial)]
            if baseline:
                checks += _against(
                    baseline, variants[0], bench, source.reference.primary, latency_factor
                )
            _refuse(checks, "nothing was published")
            if int8:
                variants += _int8(source, bench, beside, formats, say)
        record = _record(source, version, variants, trials, checks, beside, baseline)
        return _publish(beside, destination, record)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_request(
    destination: Path, formats: tuple[str, ...], baseline: Path | None
) -> Path | None:
    """What can be said before anything is computed.

    Raises UserError for what could not be published; returns the baseline's version.
    """
    for need, module in (("onnx", onnx_format), ("litert", litert_format)):
        if need in formats:
            module.require()
    check_destination(destination)
    found = find_baseline(baseline) if baseline else None
    if found:
        allowlist.check_saved_model(found)  # it will be run, to measure its latency
    return found


def check_destination(folder: Path) -> None:
    """Raises UserError if a version written there would spoil what is there.

    Another version, or a directory of models.
    """
    if (folder / artefact.RECORD).is_file():
        raise UserError(
            f"{folder}: is an exported version, which must hold nothing else. Expected the"
            f" directory of its model: {folder.parent}."
        )
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder}: cannot be made: {there}"
            f" {'cannot be written to' if there.is_dir() else 'is no directory'}."
        )
    models = sorted({path.parent.parent.name for path in folder.glob(f"*/*/{artefact.RECORD}")})
    if models:
        raise UserError(
            f"{folder}: is a directory of models ({', '.join(models[:5])}). Expected the directory"
            f" of one model, such as {folder / models[0]}."
        )


def check_compatible(folder: Path, labels: list[str], signatures: dict | None = None) -> None:
    """Raises UserError if clients of a model's newest version could not use the next one.

    Servers turn to it by themselves.

    Args:
        folder: the model's directory.
        labels: the names of the next version's classes.
        signatures: what its signatures take and give, as `signatures_of` says; None: not known yet.
    """
    newest = max(artefact.versions(folder), default=None)
    if newest is None:
        return
    before, wrong = artefact.read(folder / str(newest)), ""
    if before.get("labels", labels) != labels:
        wrong = f"its labels are {_few(before['labels'])}, the new ones {_few(labels)}"
    for name, entry in (before.get("signatures", {}) if signatures is not None else {}).items():
        if "model." not in name and _without_units(entry) != _without_units(
            signatures.get(name, {})
        ):
            wrong = (
                wrong
                or f"the new one has {'another' if name in signatures else 'no'} signature {name!r}"
            )
    if wrong:
        raise UserError(
            f"{folder}: version {newest} cannot be followed by this one: {wrong}. Servers would"
            " turn to it, and clients not know. Name another directory for it, or publish it all"
            " the same with --incompatible."
        )


def _few(labels: list[str]) -> str:
    return f"{', '.join(labels[:5])}{', ...' if len(labels) > 5 else ''} ({len(labels)})"


def _without_units(signature: dict) -> dict:
    """Names, types and shapes.

    A unit tells how numbers are scaled, which may change with the data.
    """
    return {
        side: {name: (part["dtype"], part["shape"]) for name, part in parts.items()}
        for side, parts in signature.items()
    }


def signatures_of(programs: Programs) -> dict[str, dict]:
    """What each signature of the SavedModel takes and gives; see `_signature`."""
    ready = programs.task.units()
    return {
        name: _signature(function, ready if name == READY else {})
        for name, function in programs.signatures.items()
    }


def find_baseline(path: Path) -> Path:
    """The artefact that --baseline names.

    A version's directory, or the newest in a model's directory.
    """
    found = (
        path
        if (path / artefact.RECORD).is_file()
        else path / str(max(artefact.versions(path), default=0))
    )
    if not (found / artefact.RECORD).is_file():
        raise UserError(
            f"--baseline {path}: expected an exported artefact, a directory with {artefact.RECORD}"
            " or with versions. Found none."
        )
    if not artefact.check(found).get("metrics"):
        raise UserError(
            f"--baseline {path}: its {artefact.RECORD} holds no metrics to compare with."
        )
    return found


def _float32(source: Source, bench, folder: Path, formats, say) -> list[Variant]:
    """Writes and examines the SavedModel, through the signatures a whole split can be put through,
    and the other formats.
    """
    facts, programs = (
        {key: source.facts[key] for key in ("config", "data", "metrics")},
        source.programs,
    )
    say("writing and verifying savedmodel")
    saved_model.write(programs, folder, facts)
    raw = programs.task.served_as
    made = [
        Variant("savedmodel" if name == raw else f"savedmodel, {name}", folder, "savedmodel", name)
        for name in dict.fromkeys((raw, READY))
    ]
    if programs.task.step_programs:
        made.append(Variant("savedmodel, steps", folder, "steps"))
    if "onnx" in formats:
        say("writing and verifying onnx")
        facts = {
            **programs.metadata,
            "name": source.facts["name"],
            "data": source.facts["config"]["data"]["name"],
        }
        for name, function in programs.portable.items():
            onnx_format.write(function, folder / f"{name}.onnx", facts)
        made.append(_onnx("onnx", programs, folder, ".onnx"))
    if "litert" in formats:
        say("writing and verifying litert")
        litert_format.write(programs, folder / "model.tflite")
        made.append(Variant("litert", folder / "model.tflite", "litert", files=("model.tflite",)))
    for variant in made:
        variant.report = _examine(bench, variant)
        variant.checks = tuple(verify.exact(variant.name, variant.report, source.reference))
    return made


def _onnx(name: str, programs: Programs, folder: Path, ending: str) -> Variant:
    files = tuple(f"{part}{ending}" for part in programs.portable)
    if programs.task.step_programs:
        return Variant(name, folder, "steps", files=files)
    return Variant(name, folder / files[0], "onnx", files=files)


def _examine(bench, variant: Variant) -> dict:
    if variant.kind != "steps":
        return bench.examine(variant.kind, variant.path, variant.signature)
    parts = {name: {"path": str(variant.path), "signature": name} for name in ("prefill", "step")}
    if variant.files:
        parts = {
            name: {"path": str(variant.path / file)}
            for name, file in zip(parts, variant.files, strict=True)
        }
    return bench.examine(
        "steps", variant.path, steps={"kind": "onnx" if variant.files else "savedmodel", **parts}
    )


def _int8(source: Source, bench, folder: Path, formats, say) -> list[Variant]:
    """Makes int8 variants and keeps those that pass; what fails is told and left out."""
    programs, kept = source.programs, []
    attempts = []
    if "onnx" in formats:
        # Ranges of activations are measured on examples, which programs of single steps have none
        # of.
        for how in ("dynamic",) if programs.task.step_programs else ("static", "dynamic"):
            attempts.append((how, _onnx(f"onnx, int8 {how}", programs, folder, ".int8.onnx")))
    if "litert" in formats:
        attempts.append(
            (
                "static",
                Variant(
                    "litert, int8 static",
                    folder / "model.int8.tflite",
                    "litert",
                    files=("model.int8.tflite",),
                ),
            )
        )
    for how, variant in attempts:
        if any(variant.files == other.files for other in kept):
            continue
        try:
            _quantize(source, folder, variant, how)
            variant.report = _examine(bench, variant)
            variant.checks = tuple(verify.close(variant.name, variant.report, source.reference))
            _refuse(variant.checks, "its checks")
            sizes = [
                sum((folder / file.replace(ending, "")).stat().st_size for file in variant.files)
                for ending in ("", ".int8")
            ]
            if sizes[0] >= sizes[1]:
                raise RunFailure(f"it is no smaller: {sizes[0]:,} bytes, {sizes[1]:,} in float32.")
            kept.append(variant)
        except RunFailure as error:
            say(f"left out: {variant.name}: {error}")
            for file in variant.files:
                (folder / file).unlink(missing_ok=True)
    return kept


def _quantize(source: Source, folder: Path, variant: Variant, how: str) -> None:
    programs = source.programs
    examples = {name: source.calibration[name] for name in programs.decoded_names}
    if programs.tensors is programs.ready:
        examples = {
            name: value.numpy() for name, value in programs.task.preprocess(examples, False).items()
        }
    for file in variant.files:
        if file.endswith(".tflite"):
            litert_format.write(programs, folder / file, examples)
        else:
            onnx_format.quantize(folder / file.replace(".int8", ""), folder / file, examples, how)


def _c_api(bench, folder: Path) -> verify.Check:
    outputs = bench.through_c_api(folder)["outputs"]
    wrong = [
        name
        for name, part in outputs.items()
        if part.get("missing")
        or part.get("changed")
        or not (
            part.get("largest", 0.0) is not None and part.get("largest", 0.0) <= verify.DIFFERENCE
        )
    ]
    return verify.Check(
        "savedmodel",
        "32 examples through TensorFlow's C API",
        "the same answers",
        f"wrong: {', '.join(wrong)}" if wrong else "the same answers",
        not wrong,
    )


def _against(
    baseline: Path, variant: Variant, bench, primary: tuple[str, str], factor: float
) -> list[verify.Check]:
    """The new SavedModel against the one in service, whose latency is measured again, here and
    now.
    """
    record, (metric, better) = artefact.check(baseline), primary
    interval = record["metrics"]["metrics"].get(metric)
    if interval is None:
        raise UserError(f"--baseline {baseline}: was not measured by {metric}.")
    checks = [
        verify.not_worse(
            variant.name,
            metric,
            better,
            variant.report["metrics"][metric]["value"],
            interval,
            f"interval of version {record['version']} in service",
        )
    ]
    old = bench.examine("savedmodel", baseline, variant.signature, measure_only=True)["latency"]
    for size, entry in variant.report["latency"].items():
        limit = factor * old[size]["p50_ms"]
        checks.append(
            verify.Check(
                variant.name,
                f"p50 latency, batch {size}",
                f"at most {factor:g} x {old[size]['p50_ms']:.3g} ms in service",
                f"{entry['p50_ms']:.3g} ms",
                entry["p50_ms"] <= limit,
            )
        )
    return checks


def _refuse(checks, what: str) -> None:
    failed = [check for check in checks if not check.passed]
    if failed:
        raise RunFailure(
            f"{what}: {len(failed)} of {len(checks)} checks fell short.\n{verify.table(failed)}"
        )


def _record(
    source: Source,
    version: int,
    variants: list[Variant],
    trials: list[dict],
    checks,
    folder: Path,
    baseline: Path | None,
) -> dict:
    def size(path):
        return sum(
            file.stat().st_size
            for part in ("saved_model.pb", "variables")
            for file in ([path / part] if (path / part).is_file() else (path / part).iterdir())
        )

    verification = {}
    for variant in variants:
        weight = (
            sum((folder / file).stat().st_size for file in variant.files)
            if variant.files
            else size(folder)
        )
        verification[variant.name] = {
            "file": ", ".join(variant.files) or ".",
            "size": weight,
            **variant.report,
        }
    every = {*checks, *(check for variant in variants for check in variant.checks)}
    ready, raw = (
        source.programs.task.units(),
        {name: feature.unit for name, feature in source.programs.task.data.spec.items()},
    )
    described = signatures_of(source.programs)
    files = ", ".join(
        file for variant in variants for file in variant.files if file.startswith("model.")
    )
    described |= (
        {
            files: _signature(
                source.programs.tensors,
                ready if source.programs.tensors is source.programs.ready else raw,
            )
        }
        if files
        else {}
    )
    return {
        "version": version,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **source.facts,
        "signatures": described,
        "verification": verification,
        **({"trials": trials} if trials else {}),
        "checks": sorted([c.format, c.what, c.expected, c.found] for c in every),
        **({"baseline": str(baseline)} if baseline else {}),
    }


def _signature(function, units: dict[str, str]) -> dict:
    """Names, types and shapes of what a program takes and gives.

    Of what it takes, the unit where it is known.
    """

    def shape(spec):
        return [None, *spec.shape.as_list()[1:]] if spec.shape.rank else []

    def named(specs):
        return {
            name: {"dtype": spec.dtype.name, "shape": shape(spec)}
            for name, spec in sorted(specs.items())
        }

    inputs = named(function.traced.structured_input_signature[1])
    for name, unit in units.items():
        if unit and name in inputs:
            inputs[name]["unit"] = unit
    return {"inputs": inputs, "outputs": named(function.traced.structured_outputs)}


def _publish(beside: Path, destination: Path, record: dict) -> dict:
    """Describes, seals and renames; takes the next number if another export was faster."""
    for _ in range(100):
        files.write_atomic(beside / "card.md", card.text(record))
        sealed = artefact.seal(beside, record)
        for path in beside.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            else:
                files.sync_folder(path)
        target = destination / str(record["version"])
        try:
            os.rename(beside, target)  # fails where the target exists and is not empty
        except OSError as error:
            if not target.exists():
                raise files.disk_failure(target, 0, error) from error
            record = {**record, "version": artefact.next_version(destination)}
            continue
        files.sync_folder(destination)
        return {**sealed, "path": str(target)}
    raise RunFailure(f"{destination}: no free version number was found.")
