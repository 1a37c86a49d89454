"""What a search came to: the winner, what tuning gained, the Pareto front, and which settings mattered."""

from __future__ import annotations

import math
import shlex

from tfbig.core import config
from tfbig.core.lazy import np
from tfbig.core.run import Run
from tfbig.core.search import Search
from tfbig.engine import job, loop, oracles
from tfbig.engine.conductor import BASELINE, Conductor, pareto


def decide(search: Search, conductor: Conductor) -> dict | None:
    """The winner and how it compares; None if no trial was completed.

    With finalists, the winner has the best mean over seeds that the search did not see: the best of many noisy trials owes
    part of its value to luck, which a second look takes away. The baseline takes part, so the winner may be the recipe itself.
    Without finalists, what the search saw decides between the best trial and the baseline.
    """
    outcomes, sign = conductor.outcomes, -1 if conductor.better == "max" else 1
    good = {trial: outcome for trial, outcome in outcomes.items() if outcome["status"] == "completed"}
    primary = conductor.primary
    compared = conductor.finalists() or conductor.ranked()[:1]
    seeds = range(1, search.tune.seeds + 1) if search.tune.finalists else ()
    candidates = {}
    for trial in (*([BASELINE] if BASELINE in good else []), *compared):
        again = [good[name] for number in seeds if (name := f"{trial}_seed_{number}") in good]
        candidates[trial] = {
            "trial": trial,
            "searched": good[trial]["metrics"][primary],
            **interval([one["metrics"][primary] for one in again]),
        }
        candidates[trial]["runs"] = [one["run"] for one in again] or [good[trial]["run"]]
    if not candidates:
        return None
    value = lambda one: one["mean"] if one["mean"] is not None else one["searched"]  # noqa: E731
    winner = min(candidates.values(), key=lambda one: sign * value(one))
    settings = _differing(search, good[winner["trial"]]["settings"])
    line = shlex.join(["python", "-m", "tfbig.train", search.saved["recipe"], *settings])
    run = min(winner["runs"], key=lambda path: sign * next(o["metrics"][primary] for o in good.values() if o["run"] == path))
    result = {"recipe": search.saved["recipe"], "trial": winner["trial"], "settings": settings, "line": line, "run": run}
    result |= {
        "metric": primary,
        "validation": winner,
        "baseline": candidates.get(BASELINE),
        "gain": gain(winner, candidates.get(BASELINE), sign),
    }
    return result | {"finalists": list(candidates.values()), "front": front(search, conductor)}


def _differing(search: Search, settings: list[str]) -> list[str]:
    """The settings that change anything, as `train` takes them."""
    kept = []
    for number, setting in enumerate(settings):
        others = [*settings[:number], *settings[number + 1 :]]
        if config.override(search.base, others) != config.override(search.base, settings):
            kept.append(setting)
    return kept


def interval(values: list[float]) -> dict:
    """Mean and its 95 % interval by Student's t (Student 1908), the values being independent draws; without enough of them, none."""
    if not values:
        return {"values": [], "mean": None, "low": None, "high": None}
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"values": values, "mean": mean, "low": None, "high": None}
    from scipy import stats

    error = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {"values": values, "mean": mean, "low": mean - error, "high": mean + error}


def gain(winner: dict, baseline: dict | None, sign: int) -> dict | None:
    """How much better than the baseline on validation, with the 95 % interval of the difference (Welch 1947)."""
    if baseline is None:
        return None
    if len(winner["values"]) < 2 or len(baseline["values"]) < 2:
        ours, theirs = (one["mean"] if one["mean"] is not None else one["searched"] for one in (winner, baseline))
        return {"mean": -sign * (ours - theirs), "low": None, "high": None}
    from scipy import stats

    ours, theirs = np.array(winner["values"]), np.array(baseline["values"])
    mean, parts = -sign * float(ours.mean() - theirs.mean()), [float(v.var(ddof=1)) / len(v) for v in (ours, theirs)]
    if winner["trial"] == baseline["trial"] or sum(parts) == 0:
        return {"mean": mean, "low": mean, "high": mean}
    freedom = sum(parts) ** 2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (ours, theirs), strict=True))
    error = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    return {"mean": mean, "low": mean - error, "high": mean + error}


def front(search: Search, conductor: Conductor) -> list[dict]:
    """The trials that no other one beats in every objective; empty with a single objective. A promoted trial stands for its run."""
    names, good = (
        list(search.objectives),
        {trial: outcome for trial, outcome in conductor.outcomes.items() if outcome["status"] == "completed"},
    )
    if len(names) < 2:
        return []
    gone_on = {values.get(oracles.PARENT) for trial, values in conductor.values.items() if trial in good}
    trials = [trial for trial in good if "_seed_" not in trial and trial not in gone_on]
    points = [[good[trial]["metrics"][name] for name in names] for trial in trials]
    kept = pareto(points, list(search.objectives.values()))
    found = [
        {"trial": t, "settings": _differing(search, good[t]["settings"]), "run": good[t]["run"], **dict(zip(names, p, strict=True))}
        for t, p, k in zip(trials, points, kept, strict=True)
        if k
    ]
    return sorted(found, key=lambda one: one[names[1]])


def read_test(search: Search, result: dict, observer: loop.Observer) -> dict:
    """Evaluates the winner's runs on the test split; the only time the search reads it."""
    metrics: dict[str, list[float]] = {}
    for path in result["validation"]["runs"]:
        run = Run.open(search.path / path)
        entry = (run.read_json("metrics.json") or {}).get("test")
        if entry is None or entry["step"] != job.choose_step(run):  # else it was read, and the search killed before it said so
            trained = job.Trained(run, "best", observer)
            entry = job.record(run, trained.setup, "test", trained.step, observer)
        for name, metric in entry["metrics"].items():
            metrics.setdefault(name, []).append(metric["value"])
    return {name: interval(values) for name, values in metrics.items()}


def importance(search: Search, conductor: Conductor) -> dict[str, float]:
    """How much each searched setting mattered: its share of the explained variance, adding up to 1.

    Permutation importance (Breiman 2001, "Random Forests") of a forest fitted to all completed trials; where a setting did
    not apply, it stands at the middle of its range. Empty if there are too few trials to say anything.
    """
    done = [t for t, o in conductor.outcomes.items() if t.isdigit() and o["status"] == "completed"]
    searched = [p for p in search.space.parameters if len(p.probes) > 1]
    if len(done) < max(8, len(searched) + 2):
        return {}
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    hyper = {hp.name: hp for hp in oracles.hyperparameters(search.space).space}
    rows = [
        [hyper[p.name].value_to_prob(conductor.values[t][p.name]) if p.name in conductor.values[t] else 0.5 for p in searched]
        for t in done
    ]
    values = np.array([conductor.outcomes[t]["metrics"][conductor.primary] for t in done])
    if float(values.std()) == 0:
        return {}
    target = values.argsort().argsort() / len(values)  # ranks: a few trials that went wrong altogether would hide all else
    forest = RandomForestRegressor(300, min_samples_leaf=2, random_state=0).fit(rows, target)
    raw = np.maximum(permutation_importance(forest, rows, target, n_repeats=20, random_state=0).importances_mean, 0)
    total = float(raw.sum())
    return (
        dict(sorted(((p.name, float(r / total)) for p, r in zip(searched, raw, strict=True)), key=lambda one: -one[1]))
        if total
        else {}
    )
