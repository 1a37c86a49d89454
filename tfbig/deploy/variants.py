"""The forms in which a model leaves: each is written, then examined on the bench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbig.core.errors import RunFailure
from tfbig.core.lazy import np
from tfbig.deploy import litert_format, onnx_format, saved_model, verify
from tfbig.deploy.bench import Bench, Reference
from tfbig.deploy.programs import READY, Programs


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
    reference: Reference
    calibration: dict[str, np.ndarray]
    facts: dict[str, Any]


@dataclass
class Variant:
    """One exported folder or some of its files, with the report and checks of its verification."""

    name: str
    path: Path
    kind: str
    signature: str = ""
    files: tuple[str, ...] = ()
    report: dict | None = None
    checks: tuple[verify.Check, ...] = ()


def write_float32(source: Source, bench: Bench, folder: Path, formats, say) -> list[Variant]:
    """Writes and examines the SavedModel and the other formats.

    The SavedModel is examined through the signatures that a whole split can be put through.
    """
    programs = source.programs
    facts = {key: source.facts[key] for key in ("config", "data", "metrics")}
    say("writing and verifying savedmodel")
    saved_model.write(programs, folder, facts)
    raw = programs.serving.name
    variants = [
        Variant("savedmodel" if name == raw else f"savedmodel, {name}", folder, "savedmodel", name)
        for name in dict.fromkeys((raw, READY))
    ]
    if programs.serving.stepwise:
        variants.append(Variant("savedmodel, steps", folder, "steps"))
    if "onnx" in formats:
        say("writing and verifying onnx")
        facts = {
            **programs.metadata,
            "name": source.facts["name"],
            "data": source.facts["config"]["data"]["name"],
        }
        for name, function in programs.portable.items():
            onnx_format.write(function, folder / f"{name}.onnx", facts)
        variants.append(_onnx("onnx", programs, folder, ".onnx"))
    if "litert" in formats:
        say("writing and verifying litert")
        litert_format.write(programs, folder / "model.tflite")
        variants.append(
            Variant("litert", folder / "model.tflite", "litert", files=("model.tflite",))
        )
    for variant in variants:
        variant.report = _examine(bench, variant)
        variant.checks = tuple(verify.exact(variant.name, variant.report, source.reference))
    return variants


def _onnx(name: str, programs: Programs, folder: Path, ending: str) -> Variant:
    files = tuple(f"{program}{ending}" for program in programs.portable)
    if programs.serving.stepwise:
        return Variant(name, folder, "steps", files=files)
    return Variant(name, folder / files[0], "onnx", files=files)


def _examine(bench: Bench, variant: Variant) -> dict:
    if variant.kind != "steps":
        return bench.examine(variant.kind, variant.path, variant.signature)
    names = bench.programs.serving.stepwise.programs
    return bench.examine_steps(variant.path, dict(zip(names, variant.files, strict=False)))


def write_int8(source: Source, bench: Bench, folder: Path, formats, say) -> list[Variant]:
    """Makes int8 variants and keeps those that pass; what fails is reported and left out."""
    programs = source.programs
    kept = []
    attempts = []
    if "onnx" in formats:
        # Ranges of activations are measured on examples, of which single steps have none
        methods = ("dynamic",) if programs.serving.stepwise else ("static", "dynamic")
        for method in methods:
            attempts.append((method, _onnx(f"onnx, int8 {method}", programs, folder, ".int8.onnx")))
    if "litert" in formats:
        file = "model.int8.tflite"
        attempts.append(
            ("static", Variant("litert, int8 static", folder / file, "litert", files=(file,)))
        )
    for method, variant in attempts:
        if any(variant.files == other.files for other in kept):
            continue
        try:
            _quantize(source, folder, variant, method)
            variant.report = _examine(bench, variant)
            variant.checks = tuple(verify.close(variant.name, variant.report, source.reference))
            verify.refuse(variant.checks, "its checks")
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


def _quantize(source: Source, folder: Path, variant: Variant, method: str) -> None:
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
            onnx_format.quantize(
                folder / file.replace(".int8", ""), folder / file, examples, method
            )
