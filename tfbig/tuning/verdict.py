"""What a search came to.

The winner, what tuning gained, the Pareto front, and which settings mattered.
"""

from __future__ import annotations

import math
import shlex

from tfbig.core import config, registry
from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.core.run import Run
from tfbig.engine import job, loop
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
    outcomes, sign = chief.outcomes, -1 if chief.better == "max" else 1
    good = {
        trial: outcome for trial, outcome in outcomes.items() if outcome["status"] == "completed"
    }
    primary = chief.primary
    compared = chief.finalists() or chief.ranked()[:1]
    seeds = range(1, search.tune.seeds + 1) if search.tune.finalists else ()
    candidates = {}
    for trial in (*([BASELINE] if BASELINE in good else []), *compared):
        again = {
            number: good[name] for number in seeds if (name := f"{trial}_seed_{number}") in good
        }
        candidates[trial] = {
            "trial": trial,
            "searched": good[trial]["metrics"][primary],
            **interval([one["metrics"][primary] for one in again.values()]),
            "seeds": list(again) or [0],  # 0: the search's own
            "runs": [one["run"] for one in again.values()] or [good[trial]["run"]],
        }
    if not candidates:
        return None

    def value(one):
        return one["mean"] if one["mean"] is not None else one["searched"]

    # Then what was seen once, in the search, does not count
    known = any(one["mean"] is not None for one in candidates.values())
    winner = min(
        candidates.values(), key=lambda one: (known and one["mean"] is None, sign * value(one))
    )
    settings = _differing(search, good[winner["trial"]]["settings"])
    line = _line(search, settings)
    run = min(
        winner["runs"],
        key=lambda path: (
            sign * next(o["metrics"][primary] for o in good.values() if o["run"] == path)
        ),
    )
    result = {
        "recipe": search.saved["recipe"],
        "trial": winner["trial"],
        "settings": settings,
        "line": line,
        "run": run,
    }
    result |= {
        "metric": primary,
        "validation": winner,
        "baseline": candidates.get(BASELINE),
        "gain": _gain_on_validation(winner, candidates.get(BASELINE), sign),
    }
    return result | {"finalists": list(candidates.values()), "front": front(search, chief)}


def _differing(search: Search, settings: list[str]) -> list[str]:
    """The settings that change anything, as `train` takes them."""
    kept, whole = [], config.override(search.base, settings)
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
    base, given = config.flatten(search.base), {setting.partition("=")[0] for setting in settings}
    own = [
        f"{key}={config.text_of(value)}"
        for key, value in base.items()
        if key not in given and (key not in recipe or recipe[key] != value)
    ]
    return shlex.join(["python", "-m", "tfbig.train", search.saved["recipe"], *own, *settings])


def interval(values: list[float]) -> dict:
    """Mean and its 95 % interval by Student's t (Student 1908), the values being independent draws.

    Without enough of them, none.
    """
    if not values:
        return {"values": [], "mean": None, "low": None, "high": None}
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"values": values, "mean": mean, "low": None, "high": None}
    from scipy import stats

    error = (
        float(stats.t.ppf(0.975, len(values) - 1))
        * float(np.std(values, ddof=1))
        / math.sqrt(len(values))
    )
    return {"values": values, "mean": mean, "low": mean - error, "high": mean + error}


def gain(ours: list[float], theirs: list[float], sign: int) -> dict:
    """How much better one mean is than the other, with the 95 % interval of the difference (Welch
    1947) where there are values enough.

    Args:
        ours, theirs: values of independent trainings.
        sign: -1 if more is better, else 1.
    """
    mean = -sign * float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) < 2:
        return {"mean": mean, "low": None, "high": None}
    from scipy import stats

    parts = [float(np.var(values, ddof=1)) / len(values) for values in (ours, theirs)]
    if ours is theirs or sum(parts) == 0:
        return {"mean": mean, "low": mean, "high": mean}
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(v) - 1) for part, v in zip(parts, (ours, theirs), strict=True)
    )
    error = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    return {"mean": mean, "low": mean - error, "high": mean + error}


def _gain_on_validation(winner: dict, baseline: dict | None, sign: int) -> dict | None:
    if baseline is None:
        return None
    ours, theirs = same_seeds(
        winner, baseline, *(one["values"] or [one["searched"]] for one in (winner, baseline))
    )
    return gain(ours or [winner["searched"]], theirs or [baseline["searched"]], sign)


def same_seeds(winner: dict, baseline: dict, ours: list, theirs: list) -> tuple[list, list]:
    """Of the values of each one's runs, those of the seeds that both were trained with.

    The comparison is one of equals.
    """
    if winner is baseline:
        return ours, ours
    known = [
        dict(zip(one["seeds"], values, strict=True))
        for one, values in ((winner, ours), (baseline, theirs))
    ]
    seeds = [seed for seed in known[0] if seed in known[1]]
    return [known[0][seed] for seed in seeds], [known[1][seed] for seed in seeds]


def front(search: Search, chief: Chief) -> list[dict]:
    """The trials that no other one beats in every objective.

    Empty with a single objective. A promoted trial stands for its run.
    """
    names, good = (
        list(search.objectives),
        {
            trial: outcome
            for trial, outcome in chief.outcomes.items()
            if outcome["status"] == "completed"
        },
    )
    if len(names) < 2:
        return []
    gone_on = {
        values.get(oracles.PARENT) for trial, values in chief.values.items() if trial in good
    }
    trials = [trial for trial in good if "_seed_" not in trial and trial not in gone_on]
    points = [[good[trial]["metrics"][name] for name in names] for trial in trials]
    kept = pareto(points, list(search.objectives.values()))
    found = [
        {
            "trial": t,
            "settings": _differing(search, good[t]["settings"]),
            "run": good[t]["run"],
            **dict(zip(names, p, strict=True)),
        }
        for t, p, k in zip(trials, points, kept, strict=True)
        if k
    ]
    return sorted(found, key=lambda one: one[names[1]])


def read_test(search: Search, result: dict, observer: loop.Observer) -> dict:
    """Evaluates the winner's runs on the test split, and the baseline's over the same seeds.

    The only time the search reads it.

    Returns:
        "test": metric -> interval over the winner's runs; "test_baseline": the same of the
            baseline's, or None;
        "test_gain": of the primary metric, over the seeds that both were trained with, or None.
    """
    winner, baseline, name = result["validation"], result["baseline"], result["metric"]
    runs = [
        _read_runs(search, one, observer) if one else []
        for one in (winner, None if baseline == winner else baseline)
    ]
    found = {
        "test": _intervals(runs[0]),
        "test_baseline": _intervals(runs[1]) or None,
        "test_gain": None,
    }
    if runs[1]:
        ours, theirs = same_seeds(
            winner, baseline, *([metrics[name]["value"] for metrics in read] for read in runs)
        )
        sign = -1 if search.base.task.primary[1] == "max" else 1
        found["test_gain"] = gain(ours, theirs, sign) if ours else None
    return found


def _read_runs(search: Search, candidate: dict, observer: loop.Observer) -> list[dict]:
    """The test metrics of each of a candidate's runs.

    Those that were read before, by a search that was killed then, are not read again.
    """
    found = []
    for path in candidate["runs"]:
        run = Run.open(search.path / path)
        entry = (run.read_json("metrics.json") or {}).get("test")
        if entry is None or entry["step"] != choose_step(run):
            observer.note(f"trial {run.path.name}:")
            trained = Trained(run, "best", observer)
            entry = job.record(run, trained.setup, "test", trained.step, observer)
        found.append(entry["metrics"])
    return found


def _intervals(read: list[dict]) -> dict:
    return {
        name: interval([metrics[name]["value"] for metrics in read])
        for name in (read[0] if read else ())
    }


def importance(search: Search, chief: Chief) -> dict[str, float]:
    """How much each searched setting mattered: its share of the explained variance, adding up to 1.

    Permutation importance (Breiman 2001, "Random Forests") of a forest fitted to all completed
    trials; where a setting did not apply, it stands at the middle of its range. Empty if there are
    too few trials to say anything.
    """
    done = [t for t, o in chief.outcomes.items() if t.isdigit() and o["status"] == "completed"]
    searched = [p for p in search.space.parameters if len(p.probes) > 1]
    if len(done) < max(8, len(searched) + 2):
        return {}
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    hyper = {hp.name: hp for hp in oracles.hyperparameters(search.space).space}
    rows = [
        [
            (
                hyper[p.name].value_to_prob(chief.values[t][p.name])
                if p.name in chief.values[t]
                else 0.5
            )
            for p in searched
        ]
        for t in done
    ]
    values = np.array([chief.outcomes[t]["metrics"][chief.primary] for t in done])
    if float(values.std()) == 0:
        return {}
    # Ranks: a few trials that went wrong altogether would hide all else
    target = values.argsort().argsort() / len(values)
    forest = RandomForestRegressor(300, min_samples_leaf=2, random_state=0).fit(rows, target)
    raw = np.maximum(
        permutation_importance(forest, rows, target, n_repeats=20, random_state=0).importances_mean,
        0,
    )
    total = float(raw.sum())
    return (
        dict(
            sorted(
                ((p.name, float(r / total)) for p, r in zip(searched, raw, strict=True)),
                key=lambda one: -one[1],
            )
        )
        if total
        else {}
    )
