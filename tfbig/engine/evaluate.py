"""Evaluation: every metric over a whole split, with a 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from tfbig.core.contracts import Task
from tfbig.core.lazy import np, tf
from tfbig.engine import batches
from tfbig.engine.strategy import Workers

Z95 = 1.959964  # standard normal deviate of a two-sided 95 % interval
FEWEST = 5  # examples that a bootstrap needs
RESAMPLES, GROUPS = 1000, 1000  # of a bootstrap; more of either costs time and changes nothing that is shown


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one split: name -> {value, low, high, count}, and the outputs if they were asked for.

    Attributes:
        measured: positions of the examples that count, int64 [count]: all but those for which another one stood in.
        outputs: of the whole split, stand-ins included.
    """

    split: str
    measured: np.ndarray
    metrics: dict[str, dict]
    outputs: dict = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.measured)


def compile_predict(task: Task, model, jit: bool) -> Callable:
    """Compiles raw or model-ready batches -> (outputs, per-example metrics); one program for evaluation and prediction."""

    @tf.function(jit_compile=jit or None, autograph=False)
    def run(batch, with_metrics):
        ready = task.preprocess(batch, training=False) if task.preprocess_on == "device" else batch
        outputs = task.predict(model, ready)
        return outputs, task.metrics(outputs, ready) if with_metrics else {}

    return run


def evaluate(
    task: Task,
    run: Callable,
    split: str,
    batch_size: int,
    *,
    workers: Workers | None = None,
    keep_outputs: bool = False,
    progress: Callable = lambda done, size: None,
) -> Evaluation:
    """Evaluates one split.

    Args:
        task: the bound task.
        run: what `compile_predict` returned.
        split: "train", "validation" or "test".
        batch_size: examples per call; bounds memory, does not change the result.
        workers: those who evaluate together, each a part of the split; all get the same result.
        keep_outputs: whether to return the outputs of all examples as well.
        progress: is told how many of how many examples are done.
    """
    sums: dict[str, np.ndarray] = {}  # name -> per example (sum, count), [2, size]
    kept: dict[str, list] = {}
    size, done = task.data.size(split), 0
    mine = (workers.place.index, workers.count) if workers else (0, 1)
    for first, batch, real in batches.evaluation_batches(task, split, min(batch_size, max(1, size)), *mine):
        outputs, measured = run(batch, True)
        for name, pair in measured.items():
            rows = sums.setdefault(name, np.zeros((2, size)))
            rows[:, first : first + real] = [part.numpy()[:real] for part in pair]
        if keep_outputs:
            for name, value in outputs.items():
                kept.setdefault(name, []).append(value.numpy()[:real])
        done += real
        progress(done, size)
    left_out = np.zeros(size)  # records for which another one stood in
    left_out[list(getattr(task.data, "skipped", {}).get(split, {}))] = 1
    if workers and workers.count > 1:  # each example was measured by one worker; for the others it is zero
        sums = {name: workers.total_array(rows) for name, rows in sorted(sums.items())}
        left_out = workers.total_array(left_out)
    sums = {name: rows[:, left_out == 0] for name, rows in sums.items()} if left_out.any() else sums
    metrics = {name: interval(*rows) for name, rows in sums.items()}
    for name, (source, function) in task.derived.items():
        metrics[name] = {key: value if key == "count" or value is None else function(value) for key, value in metrics[source].items()}
    return Evaluation(split, np.flatnonzero(left_out == 0), metrics, {name: np.concatenate(parts) for name, parts in kept.items()})


def interval(total: np.ndarray, count: np.ndarray) -> dict:
    """A metric's value and 95 % confidence interval from per-example sums and counts.

    Shares of successes get Wilson's score interval (Wilson 1927), other metrics a bootstrap's; of fewer than 5 examples,
    which say too little for one, `low` and `high` are None.
    """
    counted = count > 0
    total, count = total[counted].astype(np.float64), count[counted].astype(np.float64)
    n, whole = len(total), count.sum()
    if n == 0:
        return {"value": None, "low": None, "high": None, "count": 0}
    value, low, high = float(total.sum() / whole), None, None
    if bool(np.all(count == 1)) and bool(np.all((total == 0) | (total == 1))):
        low, high = wilson(value, n)
    elif n >= FEWEST:
        low, high = bootstrap(total, count) if math.isfinite(value) else (math.nan, math.nan)
    return {"value": value, "low": low, "high": high, "count": int(whole)}


def bootstrap(total: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a ratio of sums over n independent examples, from resamples that are the same each time.

    It is the expanded percentile interval (Hesterberg 2015, "What Teachers Should Know About the Bootstrap"), which is
    wide enough for few examples and, unlike a normal one, does not leave the range of what was measured: no loss below 0.
    Of many examples, sums over groups are drawn, which have the same variance.
    """
    from scipy import special

    if len(total) > GROUPS:
        group = np.arange(len(total)) % GROUPS
        total, count = np.bincount(group, total), np.bincount(group, count)
    n = len(total)
    rows = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    values = total[rows].sum(1) / count[rows].sum(1)
    tail = special.ndtr(-math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 0.975))
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share of n trials."""
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
