"""Evaluation: every metric over a whole split, with a 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from tfbig.core.component import Component
from tfbig.core.contracts import Task
from tfbig.core.lazy import np, tf
from tfbig.engine import batches
from tfbig.engine.readable import groups_of
from tfbig.engine.strategy import Workers, exact

Z95 = 1.959964  # standard normal deviate of a two-sided 95 % interval
FEWEST = 5  # examples that a bootstrap needs
SCORE_RESAMPLES = 200  # of a metric that is computed anew from each
# Of a bootstrap; more of either costs time and changes nothing that is shown
RESAMPLES, GROUPS = 1000, 1000


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one split: name -> {value, low, high, count}, and what they are made of.

    Attributes:
        measured: positions of the examples that count, int64 [count]: all but those that were
            substituted.
        records: what `Task.records` keeps of these examples, name -> [count, ...].
    """

    split: str
    measured: np.ndarray
    metrics: dict[str, dict]
    records: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.measured)


def compile_predict(task: Task, model, jit: bool, concluding: Component | None = None) -> Callable:
    """Compiles raw or model-ready batches -> (outputs, what an evaluation keeps of each example).

    One program for evaluation and prediction. What is kept: metric -> [batch, 2], its sum and its
    count, under "metrics"; and `Task.records` under "records".

    Args:
        task, model: what predicts.
        jit: whether XLA compiles.
        concluding: an instance of `Task.evaluation` for evaluations that see what `Task.conclude`
            gives; None: for those between steps.
    """

    @tf.function(jit_compile=jit or None, autograph=False)
    def run(batch, with_metrics):
        ready = task.preprocess(batch, training=False) if task.preprocess_on == "device" else batch
        outputs = task.predict(model, ready)
        if not with_metrics:
            return outputs, {}
        more = {} if concluding is None else task.conclude(model, ready, concluding)
        return outputs, _measured(task, {**outputs, **more}, ready)

    return _playing(task, run) if task.plays else run


def _measured(task: Task, outputs: dict[str, tf.Tensor], batch: dict[str, tf.Tensor]) -> dict:
    """What an evaluation keeps of each example of a batch."""
    metrics = {
        name: tf.stack([exact(total), tf.cast(count, exact(total).dtype)], 1)
        for name, (total, count) in task.metrics(outputs, batch).items()
    }
    return {"metrics": metrics, "records": task.records(outputs, batch)}


def _playing(task: Task, predict: Callable) -> Callable:
    """As the compiled `predict`, but what is measured are episodes, played on the host."""

    def act(observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs, _ = predict(tensors(observations), False)
        return {name: value.numpy() for name, value in outputs.items()}

    def tensors(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
        return {name: tf.constant(value) for name, value in arrays.items()}

    def run(batch, with_metrics):
        if not with_metrics:
            return predict(batch, False)
        examples = {name: value.numpy() for name, value in batch.items()}
        played = tensors(task.play(act, examples))
        outputs, _ = predict(batch, False)
        return outputs, _measured(task, played, batch)

    return run


def evaluate(
    task: Task,
    run: Callable,
    split: str,
    batch_size: int,
    *,
    workers: Workers | None = None,
    receive: Callable | None = None,
    to_longest: bool = False,
    progress: Callable = lambda done, size: None,
) -> Evaluation:
    """Evaluates one split.

    Args:
        task: the bound task.
        run: what `compile_predict` returned.
        split: "train", "validation" or "test".
        batch_size: examples per call; bounds memory, does not change the result.
        workers: the processes that evaluate together, each a part of the split, with one result.
        receive: called with (positions in the split, outputs: name -> [batch, ...]); behind those
            of the positions, a batch may hold others that fill it up.
        to_longest: examples of any length are all padded to the most there may be, so that outputs
            have one shape.
        progress: called with the number of examples done, and of all.
    """
    size = task.data.size(split)
    done = 0
    kept: dict[str, dict[str, np.ndarray]] = {"metrics": {}, "records": {}}
    mine = (workers.place.index, workers.count) if workers else (0, 1)
    batch_size = min(batch_size, max(1, size))
    for positions, batch in batches.evaluation_batches(task, split, batch_size, *mine, to_longest):
        outputs, measured = run(batch, True)
        if receive is not None:
            receive(positions, outputs)
        for kind, tensors in measured.items():
            for name, value in tensors.items():
                dtype = np.float64 if kind == "metrics" else value.dtype.as_numpy_dtype
                rows = kept[kind].setdefault(name, np.zeros((size, *value.shape[1:]), dtype))
                rows[positions] = value.numpy()[: len(positions)]
        done += len(positions)
        progress(done, size)
    left_out = np.zeros(size)  # records that were substituted
    left_out[list(getattr(task.data, "skipped", {}).get(split, {}))] = 1
    if workers and workers.count > 1:  # each example was measured by one worker, is zero elsewhere
        for kind in ("metrics", "records"):
            for name, rows in sorted(kept[kind].items()):
                kept[kind][name] = workers.total_array(rows).astype(rows.dtype)
        left_out = workers.total_array(left_out)
    measured = np.flatnonzero(left_out == 0)
    if len(measured) < size:
        for kind in ("metrics", "records"):
            kept[kind] = {name: rows[measured] for name, rows in kept[kind].items()}
    groups = groups_of(task.data, split)
    if groups is not None:
        groups = np.unique(groups[measured], return_inverse=True)[1]
    metrics = metrics_of(task, kept["metrics"], kept["records"], groups)
    return Evaluation(split, measured, metrics, kept["records"])


def metrics_of(
    task: Task,
    pairs: dict[str, np.ndarray],
    records: dict[str, np.ndarray],
    groups: np.ndarray | None = None,
) -> dict:
    """Every metric with its interval, from what was kept of each example.

    Args:
        task: the bound task; its `score` gives the metrics that need all examples together.
        pairs: metric -> [n, 2], its sum and its count for each example.
        records: of `Task.records`, name -> [n, ...].
        groups: of `Dataset.groups`, each example's group as a number, int [n]. Examples of one
            group are not independent, so intervals resample groups.
    """
    metrics = {name: interval(*rows.T, groups) for name, rows in pairs.items()}
    if records:
        metrics |= scored(task, records, groups)
    for name, (source, function) in task.derived.items():
        of = metrics[source].items()
        metrics[name] = {
            key: value if key == "count" or value is None else function(value) for key, value in of
        }
    return metrics


def scored(
    task: Task, records: dict[str, np.ndarray], groups: np.ndarray | None = None
) -> dict[str, dict]:
    """The metrics of `Task.score`, with intervals by a bootstrap over examples, or over groups."""
    statistics = task.examine(records)
    size = len(next(iter(statistics.values())))
    members = None if groups is None else _members(groups)
    independent = size if members is None else len(members)
    values = task.score(statistics)
    draws = {}
    if values and independent >= FEWEST:
        random = np.random.default_rng(0)
        for _ in range(SCORE_RESAMPLES):
            rows = random.integers(0, independent, independent)
            if members is not None:
                rows = np.concatenate([members[number] for number in rows])
            resampled = {name: value[rows] for name, value in statistics.items()}
            for name, value in task.score(resampled).items():
                draws.setdefault(name, []).append(np.nan if value is None else value)
    metrics = {}
    for name, value in values.items():
        low, high = None, None
        value = None if value is None else float(value)
        if value is not None and np.isfinite(draws.get(name, np.nan)).any():
            tail = expanded_tail(independent)
            low, high = (float(x) for x in np.nanquantile(draws[name], (tail, 1 - tail)))
            if math.isclose(low, high, rel_tol=1e-9):
                low, high = None, None
        metrics[name] = {"value": value, "low": low, "high": high, "count": size}
    return metrics


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """The positions of each group's examples."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def interval(total: np.ndarray, count: np.ndarray, groups: np.ndarray | None = None) -> dict:
    """A metric's value and 95 % confidence interval from per-example sums and counts.

    Shares of successes get Wilson's score interval (Wilson 1927), other metrics a bootstrap's; of
    fewer than 5 examples, or of equal ones, which say too little for one, `low` and `high` are
    None. Shares of several trials an example, all alike, get Wilson's of one trial an example.
    Given the number of each example's group, groups stand for examples.
    """
    if groups is not None:
        total = np.bincount(groups, total)
        count = np.bincount(groups, count)
    counted = count > 0
    total = total[counted].astype(np.float64)
    count = count[counted].astype(np.float64)
    n = len(total)
    whole = count.sum()
    if n == 0:
        return {"value": None, "low": None, "high": None, "count": 0}
    value = float(total.sum() / whole)
    low = None
    high = None
    if bool(np.all(count == 1)) and bool(np.all((total == 0) | (total == 1))):
        low, high = wilson(value, n)
    elif n >= FEWEST and math.isfinite(value):
        low, high = bootstrap(total, count)
        if math.isclose(low, high, rel_tol=1e-9):  # all alike, which does not make them certain
            low, high = wilson(value, n) if _is_share(total, count) else (None, None)
    return {"value": value, "low": low, "high": high, "count": int(whole)}


def _is_share(total: np.ndarray, count: np.ndarray) -> bool:
    """Whether these are successes among trials."""
    return bool(np.all((total >= 0) & (total <= count) & (total == np.rint(total))))


def bootstrap(total: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """The bootstrap's 95 % interval of a ratio of sums over n independent examples.

    The resamples are the same each time. It is the expanded percentile interval (Hesterberg 2015,
    "What Teachers Should Know About the Bootstrap"), which is wide enough for few examples and,
    unlike a normal one, does not leave the range of what was measured: no loss below 0. Of many
    examples, sums over groups are drawn, which have the same variance.
    """
    if len(total) > GROUPS:
        group = np.arange(len(total)) % GROUPS
        total = np.bincount(group, total)
        count = np.bincount(group, count)
    n = len(total)
    rows = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    values = total[rows].sum(1) / count[rows].sum(1)
    tail = expanded_tail(n)
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def expanded_tail(n: int) -> float:
    """The share on either side that a bootstrap's 95 % interval of n examples leaves out."""
    from scipy import special

    return float(special.ndtr(-math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 0.975)))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share of n trials."""
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
