"""What an artefact must come up to: checks of the reports on it, and their tables."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.errors import RunFailure
from tfbig.deploy.bench import Reference

DIFFERENCE = 1e-4  # largest output difference of float32 formats, relative to 1 + |expected|
TIES = 2000  # of so many examples one may change sides, being a tie


@dataclass(frozen=True)
class Check:
    """One thing that was asked of an artefact."""

    format: str
    what: str
    expected: str
    found: str
    passed: bool


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
    """The likeliest choices step by step are those of the evaluated model, but for counted
    ties.
    """
    if "greedy" not in report:
        return []
    found = report["greedy"]
    return [
        Check(
            name,
            "likeliest choices changed",
            f"0 of {found['choices']:,}",
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


def refuse(checks, what: str) -> None:
    """Raises RunFailure with the table of those that fell short, if any did."""
    failed = [check for check in checks if not check.passed]
    if failed:
        raise RunFailure(
            f"{what}: {len(failed)} of {len(checks)} checks fell short.\n{table(failed)}"
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
