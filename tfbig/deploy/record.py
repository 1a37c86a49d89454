"""The record of an export: how the artefact is asked, and what was measured of it."""

from __future__ import annotations

import datetime
from pathlib import Path

from tfbig.deploy.programs import READY, Programs
from tfbig.deploy.variants import Source, Variant


def signatures_of(programs: Programs) -> dict[str, dict]:
    """What each signature of the SavedModel takes and gives; see `_signature`."""
    ready = programs.serving.units
    return {
        name: _signature(function, ready if name == READY else {})
        for name, function in programs.signatures.items()
    }


def record_of(
    source: Source,
    version: int,
    variants: list[Variant],
    trials: list[dict],
    checks,
    folder: Path,
    baseline: Path | None,
) -> dict:
    """What artefact.json says, but for the files and their checksums."""

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
    programs = source.programs
    ready = programs.serving.units
    raw = {name: feature.unit for name, feature in programs.task.data.spec.items()}
    described = signatures_of(programs)
    files = ", ".join(
        file for variant in variants for file in variant.files if file.startswith("model.")
    )
    if files:
        units = ready if programs.tensors is programs.ready else raw
        described[files] = _signature(programs.tensors, units)
    return {
        "version": version,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **source.facts,
        **programs.serving.to_json(),
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
