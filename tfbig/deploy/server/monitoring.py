"""Counters and latencies as Prometheus text, under TensorFlow Serving's path and names."""

from __future__ import annotations

import bisect
from collections import Counter

PATH = "/monitoring/prometheus/metrics"
BOUNDS_US = (
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    5_000_000,
)
MOST_NAMES = 1000  # models told apart; a client chooses the name it asks for


class Monitor:
    """Counts requests; for the event loop's thread alone."""

    def __init__(self):
        self.requests: Counter = Counter()
        self.buckets: dict[tuple, list[int]] = {}
        self.sums: Counter = Counter()
        self.models: set[str] = set()

    def count(self, model: str, api: str, method: str, code: str, seconds: float) -> None:
        """One answered request."""
        if model not in self.models:
            if len(self.models) >= MOST_NAMES or code != "OK":
                model = ""  # names that were never served are not kept
            else:
                self.models.add(model)
        self.requests[(model, api, method, code)] += 1
        key = (model, api, method)
        if key not in self.buckets:
            self.buckets[key] = [0] * (len(BOUNDS_US) + 1)
        self.buckets[key][bisect.bisect_left(BOUNDS_US, seconds * 1e6)] += 1
        self.sums[key] += seconds * 1e6

    def text(self) -> str:
        """The Prometheus exposition format, version 0.0.4."""
        lines = ["# TYPE :tensorflow:serving:request_count counter"]
        for (model, api, method, code), count in sorted(self.requests.items()):
            lines.append(
                f':tensorflow:serving:request_count{{model_name="{_escape(model)}",API="{api}",entrypoint="{method}",status="{code}"}}'
                f" {count}"
            )
        lines.append("# TYPE :tensorflow:serving:request_latency histogram")
        for key, counts in sorted(self.buckets.items()):
            model, api, method = key
            labels = f'model_name="{_escape(model)}",API="{api}",entrypoint="{method}"'
            total = 0
            for bound, count in zip((*BOUNDS_US, "+Inf"), counts, strict=True):
                total += count
                lines.append(
                    f':tensorflow:serving:request_latency_bucket{{{labels},le="{bound}"}} {total}'
                )
            lines.append(
                f":tensorflow:serving:request_latency_sum{{{labels}}} {self.sums[key]:.0f}"
            )
            lines.append(f":tensorflow:serving:request_latency_count{{{labels}}} {total}")
        return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
