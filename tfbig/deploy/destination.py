"""Checks of an export that come before anything is computed: its destination and baseline."""

from __future__ import annotations

import os
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.deploy import allowlist, artefact, litert_format, onnx_format


def check_request(
    destination: Path, formats: tuple[str, ...], baseline: Path | None
) -> Path | None:
    """The baseline's version, if there is one.

    Raises UserError for a request that could not be published.
    """
    for need, module in (("onnx", onnx_format), ("litert", litert_format)):
        if need in formats:
            module.require()
    check_destination(destination)
    if not baseline:
        return None
    version = find_baseline(baseline)
    allowlist.check_saved_model(version)  # it will be run, to measure its latency
    return version


def check_destination(folder: Path) -> None:
    """Raises UserError if a version written there would spoil what exists.

    Another version, or a directory of models.
    """
    if (folder / artefact.RECORD).is_file():
        raise UserError(
            f"{folder}: is an exported version, which must hold nothing else. Expected the"
            f" directory of its model: {folder.parent}."
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder}: cannot be made: {existing}"
            f" {'cannot be written to' if existing.is_dir() else 'is no directory'}."
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
        signatures: what its signatures take and give, as `record.signatures_of` says; None: not
            known yet.
    """
    newest = max(artefact.versions(folder), default=None)
    if newest is None:
        return
    before = artefact.read(folder / str(newest))
    wrong = ""
    if before.get("labels", labels) != labels:
        wrong = f"its labels are {_few(before['labels'])}, the new ones {_few(labels)}"
    known = before.get("signatures", {}) if signatures is not None else {}
    for name, entry in known.items():
        same = _without_units(entry) == _without_units(signatures.get(name, {}))
        if not wrong and not same and "model." not in name:
            has = "another" if name in signatures else "no"
            wrong = f"the new one has {has} signature {name!r}"
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
        side: {name: (info["dtype"], info["shape"]) for name, info in tensors.items()}
        for side, tensors in signature.items()
    }


def find_baseline(path: Path) -> Path:
    """The artefact that --baseline names.

    A version's directory, or the newest in a model's directory.
    """
    version = path
    if not (path / artefact.RECORD).is_file():
        version = path / str(max(artefact.versions(path), default=0))
    if not (version / artefact.RECORD).is_file():
        raise UserError(
            f"--baseline {path}: expected an exported artefact, a directory with {artefact.RECORD}"
            " or with versions. Found none."
        )
    if not artefact.check(version).get("metrics"):
        raise UserError(
            f"--baseline {path}: its {artefact.RECORD} holds no metrics to compare with."
        )
    return version
