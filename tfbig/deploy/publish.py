"""An export from start to end.

Write beside, verify, describe, seal, rename. What falls short is never published.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import tempfile
from pathlib import Path

from tfbig.core import files
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.lazy import tf
from tfbig.deploy import artefact, card, onnx_format, verify
from tfbig.deploy.bench import Bench
from tfbig.deploy.record import record_of
from tfbig.deploy.variants import Source, Variant, write_float32, write_int8


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
        formats: of savedmodel, onnx and litert; the SavedModel is always written.
        int8: also make int8 variants of ONNX and LiteRT; those that fall short are left out.
        baseline: an artefact in service, as `destination.check_request` gives it; a worse metric or
            a latency beyond `latency_factor` times its own is refused.
        latency_factor: see `baseline`.
        say: called with each line about what happens.

    Raises:
        RunFailure: something fell short; the message holds the table. Nothing was published.
    """
    if "onnx" in formats:
        onnx_format.check_size(source.programs.weights)
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
            bench = Bench(source.programs, source.reference, Path(scratch))
            variants = write_float32(source, bench, beside, formats, say)
            checks = [check for variant in variants for check in variant.checks]
            trials = bench.try_programs(beside)
            checks += [check for trial in trials for check in verify.tried(trial)]
            if baseline:
                checks += _against(
                    baseline, variants[0], bench, source.reference.primary, latency_factor
                )
            verify.refuse(checks, "nothing was published")
            if int8:
                variants += write_int8(source, bench, beside, formats, say)
        record = record_of(source, version, variants, trials, checks, beside, baseline)
        return _publish(beside, destination, record)
    except OSError as error:
        raise files.disk_failure(Path(error.filename or beside), 0, error) from error
    except tf.errors.ResourceExhaustedError as error:  # TensorFlow writes the SavedModel itself
        if "No space left" not in error.message:
            raise
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise files.disk_failure(beside, 0, full) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _against(
    baseline: Path, variant: Variant, bench, primary: tuple[str, str], factor: float
) -> list[verify.Check]:
    """Checks of the new SavedModel against the one in service.

    The latency of the one in service is measured again, on this machine.
    """
    record = artefact.check(baseline)
    metric, better = primary
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
