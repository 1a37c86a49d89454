"""The result of a search: its winner, gain, Pareto front, and which settings mattered."""

from __future__ import annotations

import math
import shlex

from tfbig.core import config, knobs, registry
from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.core.run import Run
from tfbig.engine import loop, results
from tfbig.engine.trained import Trained, choose_step
from tfbig.tuning import oracles
from tfbig.tuning.chief import BASELINE, Chief
from tfbig.tuning.ranking import pareto
from tfbig.tuning.search import Search


def decide(search: Search, chief: Chief) -> dict | None:
    """The winner and how it compares; None if no trial was completed.

    With finalists, the winner has the best mean over seeds that the search did not see: the best of
    many noisy trials owes part of its value to luck, which a second look takes away. The baseline
    takes part, so the winner may be the recipe itself. Without finalists, what the search saw
    decides between the best trial and the baseline.
    """
    sign = -1 if chief.better == "max" else 1
    good = _completed(chief)
    candidates = _candidates(search, chief, good)
    if not candidates:
        return None
    winner = _best(list(candidates.values()), sign)
    baseline = candidates.get(BASELINE)
    settings = _differing(search, good[winner["trial"]]["settings"])
    values = {outcome["run"]: outcome["metrics"][chief.primary] for outcome in good.values()}
    return {
        "recipe": search.saved["recipe"],
        "trial": winner["trial"],
        "settings": settings,
        "line": _line(search, settings),
        "run": min(winner["runs"], key=lambda run: sign * values[run]),
        "metric": chief.primary,
        "validation": winner,
        "baseline": baseline,
        "gain": _gain_on_validation(winner, baseline, sign),
        "finalists": list(candidates.values()),
        "front": front(search, chief),
    }


def _completed(chief: Chief) -> dict[str, dict]:
    """The outcomes of the trials that did not fail."""
    return {
        trial: outcome
        for trial, outcome in chief.outcomes.items()
        if outcome["status"] == "completed"
    }


def _candidates(search: Search, chief: Chief, good: dict[str, dict]) -> dict[str, dict]:
    """The baseline and the best trials: what the search saw of each, and what other seeds say."""
    seeds = range(1, search.tune.seeds + 1) if search.tune.finalists else ()
    candidates = {}
    for trial in [BASELINE, *(chief.finalists() or chief.ranked()[:1])]:
        if trial not in good:
            continue
        again = {
            number: good[name] for number in seeds if (name := f"{trial}_seed_{number}") in good
        }
        candidates[trial] = {
            "trial": trial,
            "searched": good[trial]["metrics"][chief.primary],
            **interval([outcome["metrics"][chief.primary] for outcome in again.values()]),
            "seeds": list(again) or [0],  # 0: the search's own
            "runs": [outcome["run"] for outcome in again.values()] or [good[trial]["run"]],
        }
    return candidates


def _best(candidates: list[dict], sign: int) -> dict:
    """The candidate with the best mean over seeds.

    Where any has such a mean, what was seen once, in the search, does not count.
    """
    repeated = [candidate for candidate in candidates if candidate["mean"] is not None]
    if repeated:
        return min(repeated, key=lambda candidate: sign * candidate["mean"])
    return min(candidates, key=lambda candidate: sign * candidate["searched"])


def _differing(search: Search, settings: list[str]) -> list[str]:
    """The settings that change anything, as `train` takes them."""
    kept = []
    whole = config.override(search.base, settings)
    for number, setting in enumerate(settings):
        try:
            without = config.override(search.base, [*settings[:number], *settings[number + 1 :]])
        except UserError:  # another setting exists only with this one
            without = None
        if without != whole:
            kept.append(setting)
    return kept


def _line(search: Search, settings: list[str]) -> str | None:
    """The command that trains with these settings.

    None if the search began with an experiment that no recipe makes.
    """
    try:
        recipe = config.flatten(registry.recipe(search.saved["recipe"]))
    except UserError:
        return None
    base = config.flatten(search.base)
    named = {setting.partition("=")[0] for setting in settings}
    own = [
        f"{key}={knobs.text_of(value)}"
        for key, value in base.items()
        if key not in named and (key not in recipe or recipe[key] != value)
    ]
    return shlex.join(["python", "-m", "tfbig.train", search.saved["recipe"], *own, *settings])


def interval(values: list[float]) -> dict:
    """Mean and its 95 % interval by Student's t (Student 1908), the values being independent draws.

    Without enough of them, none; nor of equal ones, which does not make them certain.
    """
    if not values:
        return {"values": [], "mean": None, "low": None, "high": None}
    mean = float(np.mean(values))
    if len(values) < 2 or _are_equal(values):
        return {"values": values, "mean": mean, "low": None, "high": None}
    from scipy import stats

    error = (
        float(stats.t.ppf(0.975, len(values) - 1))
        * float(np.std(values, ddof=1))
        / math.sqrt(len(values))
    )
    return {"values": values, "mean": mean, "low": mean - error, "high": mean + error}


def _are_equal(values: list[float]) -> bool:
    return min(values) == max(values)


def gain(ours: list[float], theirs: list[float], sign: int) -> dict:
    """How much better one mean is than the other, with the difference's 95 % interval (Welch 1947).

    There is an interval where there are enough values and they differ.

    Args:
        ours, theirs: values of independent trainings.
        sign: -1 if more is better, else 1.
    """
    mean = -sign * float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) < 2:
        return {"mean": mean, "low": None, "high": None}
    from scipy import stats

    if ours is theirs:
        return {"mean": mean, "low": mean, "high": mean}
    if _are_equal(ours) and _are_equal(theirs):
        return {"mean": mean, "low": None, "high": None}
    variances = [float(np.var(values, ddof=1)) / len(values) for values in (ours, theirs)]
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (len(v) - 1) for variance, v in zip(variances, (ours, theirs), strict=True)
    )
    error = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(variances))
    return {"mean": mean, "low": mean - error, "high": mean + error}


def _gain_on_validation(winner: dict, baseline: dict | None, sign: int) -> dict | None:
    if baseline is None:
        return None
    ours, theirs = same_seeds(
        winner,
        baseline,
        winner["values"] or [winner["searched"]],
        baseline["values"] or [baseline["searched"]],
    )
    return gain(ours or [winner["searched"]], theirs or [baseline["searched"]], sign)


def same_seeds(winner: dict, baseline: dict, ours: list, theirs: list) -> tuple[list, list]:
    """The values of each one's runs for the seeds that both were trained with, to compare alike."""
    if winner is baseline:
        return ours, ours
    our = dict(zip(winner["seeds"], ours, strict=True))
    their = dict(zip(baseline["seeds"], theirs, strict=True))
    seeds = [seed for seed in our if seed in their]
    return [our[seed] for seed in seeds], [their[seed] for seed in seeds]


def front(search: Search, chief: Chief) -> list[dict]:
    """The trials that no other one beats in every objective.

    Empty with a single objective. A promoted trial stands for its run.
    """
    names = list(search.objectives)
    good = _completed(chief)
    if len(names) < 2:
        return []
    promoted = {
        values.get(oracles.PARENT) for trial, values in chief.values.items() if trial in good
    }
    trials = [trial for trial in good if "_seed_" not in trial and trial not in promoted]
    points = [[good[trial]["metrics"][name] for name in names] for trial in trials]
    on_front = pareto(points, list(search.objectives.values()))
    kept = [
        {
            "trial": trial,
            "settings": _differing(search, good[trial]["settings"]),
            "run": good[trial]["run"],
            **dict(zip(names, point, strict=True)),
        }
        for trial, point, is_kept in zip(trials, points, on_front, strict=True)
        if is_kept
    ]
    return sorted(kept, key=lambda trial: trial[names[1]])


def read_test(search: Search, result: dict, observer: loop.Observer) -> dict:
    """Evaluates the winner's runs on the test split, and the baseline's over the same seeds.

    The only time the search reads it.

    Returns:
        "test": metric -> interval over the winner's runs; "test_baseline": the same of the
            baseline's, or None;
        "test_gain": of the primary metric, over the seeds that both were trained with, or None.
    """
    winner = result["validation"]
    baseline = result["baseline"]
    name = result["metric"]
    winners = _read_runs(search, winner, observer)
    baselines: list[dict] = []
    if baseline and baseline != winner:
        baselines = _read_runs(search, baseline, observer)
    test_gain = None
    if baselines:
        ours, theirs = same_seeds(
            winner,
            baseline,
            [metrics[name]["value"] for metrics in winners],
            [metrics[name]["value"] for metrics in baselines],
        )
        sign = -1 if search.base.task.primary[1] == "max" else 1
        pairs = [pair for pair in zip(ours, theirs, strict=True) if None not in pair]
        test_gain = gain(*map(list, zip(*pairs, strict=True)), sign) if pairs else None
    return {
        "test": _intervals(winners),
        "test_baseline": _intervals(baselines) or None,
        "test_gain": test_gain,
    }


def _read_runs(search: Search, candidate: dict, observer: loop.Observer) -> list[dict]:
    """The test metrics of each of a candidate's runs.

    Those that a killed search has read before are not read again.
    """
    metrics = []
    for path in candidate["runs"]:
        run = Run.open(search.path / path)
        entry = (run.read_json("metrics.json") or {}).get("test")
        if entry is None or entry["step"] != choose_step(run):
            observer.note(f"trial {run.path.name}:")
            trained = Trained(run, "best", observer)
            entry = results.record(run, trained.setup, "test", trained.step, observer)
        metrics.append(entry["metrics"])
    return metrics


def _intervals(runs: list[dict]) -> dict:
    """Metric -> interval over the runs in which it has a value, from each run's metrics."""
    values = {
        name: [metrics[name]["value"] for metrics in runs] for name in (runs[0] if runs else ())
    }
    return {
        name: interval([value for value in numbers if value is not None])
        for name, numbers in values.items()
    }


def importance(search: Search, chief: Chief) -> dict[str, float]:
    """How much each searched setting mattered: its share of the explained variance, adding up to 1.

    Permutation importance (Breiman 2001, "Random Forests") of a forest fitted to all completed
    trials; where a setting did not apply, it stands at the middle of its range. Empty if there are
    too few trials to say anything.
    """
    done = [trial for trial in _completed(chief) if trial.isdigit()]
    searched = [p for p in search.space.parameters if len(p.probes) > 1]
    if len(done) < max(8, len(searched) + 2):
        return {}
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    hyper = {hp.name: hp for hp in oracles.hyperparameters(search.space).space}

    def place(name: str, values: dict) -> float:
        return hyper[name].value_to_prob(values[name]) if name in values else 0.5

    rows = [[place(p.name, chief.values[trial]) for p in searched] for trial in done]
    values = np.array([chief.outcomes[trial]["metrics"][chief.primary] for trial in done])
    if float(values.std()) == 0:
        return {}
    # Ranks: a few trials that went wrong altogether would hide all else
    target = values.argsort().argsort() / len(values)
    forest = RandomForestRegressor(300, min_samples_leaf=2, random_state=0).fit(rows, target)
    permuted = permutation_importance(forest, rows, target, n_repeats=20, random_state=0)
    raw = np.maximum(permuted.importances_mean, 0)
    total = float(raw.sum())
    if not total:
        return {}
    shares = {p.name: float(r / total) for p, r in zip(searched, raw, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
