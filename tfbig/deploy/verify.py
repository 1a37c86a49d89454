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
    for metric, measured in report["metrics"].items():
        checks.append(
            Check(
                name,
                f"{metric}, examples changed",
                f"at most {ties} of {report['count']:,} (ties)",
                str(measured["changed"]),
                measured["changed"] <= ties,
            )
        )
        if metric in reference.metrics:
            value = measured["value"]
            expected = measured["expected"]
            if _whole(report, reference):
                expected = reference.metrics[metric]["value"]
            share = min(ties, measured["changed"]) / report["count"]
            allowed = share + DIFFERENCE * (1 + abs(expected))
            checks.append(
                Check(
                    name,
                    metric,
                    f"{expected:.6g} within {allowed:.2g}",
                    f"{value:.6g}",
                    abs(value - expected) <= allowed,
                )
            )
    return [*checks, _has_primary(name, report, reference), *_greedy(name, report)]


def tried(report: dict) -> list[Check]:
    """Checks of a program that was tried."""
    checks = []
    for output, difference in report["outputs"].items():
        found = _in_words(difference)
        checks.append(
            Check(
                "savedmodel",
                f"{report['program']}: {output} of {report['rows']:,} rows",
                "the same",
                found,
                found == "the same",
            )
        )
    return checks


def _in_words(difference: dict) -> str:
    """How an output differs, from `arrays.Differences`."""
    if difference.get("missing"):
        return "missing or in another shape"
    if difference.get("changed"):
        return f"{difference['changed']} others"
    gap = difference.get("largest", 0.0)
    if gap is not None and gap <= DIFFERENCE:
        return "the same"
    return f"difference of {gap}"


def _greedy(name: str, report: dict) -> list[Check]:
    """A check that the likeliest choices are the evaluated model's, but for counted ties."""
    if "greedy" not in report:
        return []
    greedy = report["greedy"]
    return [
        Check(
            name,
            "likeliest choices changed",
            f"0 of {greedy['choices']:,}",
            f"{greedy['changed']} ({greedy['ties']} ties)",
            not greedy["changed"],
        )
    ]


def close(name: str, report: dict, reference: Reference) -> list[Check]:
    """Checks of a quantised format.

    Its primary metric lies within the evaluated model's interval, or is better.
    """
    checks = [_shape(name, report), _has_primary(name, report, reference)]
    metric, better = reference.primary
    measured = report["metrics"].get(metric)
    if measured:  # of a part of the split, the difference counts
        value = measured["value"]
        if not _whole(report, reference):
            value = reference.metrics[metric]["value"] + value - measured["expected"]
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
    wrong = sorted(
        output for output, difference in report["outputs"].items() if difference.get("missing")
    )
    return Check(
        name,
        "outputs",
        "all, in their shapes",
        f"wrong or missing: {', '.join(wrong)}" if wrong else "all",
        not wrong,
    )


def _has_primary(name: str, report: dict, reference: Reference) -> Check:
    computed = reference.primary[0] in report["metrics"]
    return Check(
        name,
        f"{reference.primary[0]} over the split",
        "computed",
        "computed" if computed else "not computed",
        computed,
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
    return "\n".join(_aligned(rows))


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


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
            f"{metric} {measured['value']:.4f}" for metric, measured in entry["metrics"].items()
        )
        single = entry["latency"]["1"]
        batched = entry["latency"]["32"]
        rows.append(
            (
                name,
                metrics,
                f"{single['p50_ms']:.2f} ms",
                f"{single['p99_ms']:.2f} ms",
                f"{batched['examples_per_s']:,.0f} {entry.get('unit', 'example')}s/s",
                f"{entry['size'] / 1e6:.2f} MB",
                f"{entry['peak_memory_mb']:.0f} MB",
                f"{entry['cold_start_s']:.1f} s",
            )
        )
    lines = _aligned(rows)
    lines += [
        f"{trial['program']}: {trial['per_s']:,.0f} {trial['unit']}s/s ({trial['rows']} rows"
        " together)"
        for trial in record.get("trials", ())
    ]
    return "\n".join(
        [*lines, f"published: {record['path']} ({len(record['checks'])} checks passed)"]
    )
