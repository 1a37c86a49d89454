"""What a search came to: the winner, the gain, the Pareto front, what mattered, the report."""

import numpy as np
import pytest
from searches import SPACE, begin, failing, go, plan_as_mlp, pretend

import tfbig
from tfbig.report import search as report
from tfbig.report import search_charts
from tfbig.report.search_story import Story
from tfbig.tuning import oracles, trials, verdict
from tfbig.tuning.ranking import pareto
from tfbig.tuning.search import Search


def test_pareto_front():
    points = [[0.9, 3.0], [0.8, 1.0], [0.85, 2.0], [0.8, 2.5], [0.9, 3.0]]
    assert (
        pareto(points, ["max", "min"]) == [True, True, True, False, True]
        and pareto([], ["max"]) == []
    )


def test_interval_by_students_t():
    found = verdict.interval([1.0, 2.0, 3.0])
    assert (found["mean"], found["low"], found["high"]) == (
        2.0,
        pytest.approx(2 - 2.4841, abs=1e-3),
        pytest.approx(2 + 2.4841, abs=1e-3),
    )
    assert verdict.interval([]) == {"values": [], "mean": None, "low": None, "high": None}
    equal = {"mean": 0.25, "low": None, "high": None}  # none without width
    assert verdict.interval([0.25] * 3) == {"values": [0.25] * 3, **equal}
    assert verdict.gain([0.75] * 3, [0.5] * 3, -1) == equal
    assert verdict.gain([0.3, 0.4], [0.2] * 3, -1)["low"] is not None


def test_the_winner_is_the_best_again_and_not_the_luckiest(tmp_path, monkeypatch):
    """Trial 0003 is lucky once; its repeats say what it is worth."""

    def lucky(search, planned, observer):
        outcome = pretend(search, planned, observer)
        outcome["metrics"]["accuracy"] = {"0003": 0.99, "0001": 0.95}.get(
            planned.name, 0.94 if planned.name.startswith("0001_") else 0.9
        )
        return outcome

    monkeypatch.setattr(trials, "_completed", lucky)
    search = begin(tmp_path / "a", "tune.trials=6")
    chief = go(search)
    assert chief.finalists() == ["0003", "0001"]
    result = verdict.decide(search, chief)
    assert (
        result["trial"] == "0001"
        and result["validation"]["mean"] == pytest.approx(0.94)
        and result["gain"]["mean"] == pytest.approx(0.04)
    )
    assert result["baseline"]["values"] == [0.9] * 3


def test_a_finalist_whose_repeats_all_fail_does_not_win_by_its_luck(tmp_path, monkeypatch):
    def lucky(search, planned, observer):
        if planned.name.startswith("0003_"):
            raise ValueError("no")
        outcome = pretend(search, planned, observer)
        return {
            **outcome,
            "metrics": {**outcome["metrics"], "accuracy": 0.99 if planned.name == "0003" else 0.9},
        }

    monkeypatch.setattr(trials, "_completed", lucky)
    search = begin(tmp_path / "a", "tune.trials=5", "tune.seeds=2")
    chief = go(search)
    assert "0003" in chief.finalists() and verdict.decide(search, chief)["trial"] != "0003"


def test_finalists_get_other_seeds_where_the_seed_is_fixed(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_completed", pretend)
    chief = go(begin(tmp_path / "a", "seed=7", "tune.trials=2", "tune.seeds=2"))
    again = {name: outcome for name, outcome in chief.outcomes.items() if "_seed_" in name}
    assert len(again) == 6 and {outcome["status"] for outcome in again.values()} == {"completed"}
    assert {
        text
        for outcome in again.values()
        for text in outcome["settings"]
        if text.startswith("seed=")
    } == {"seed=8", "seed=9"}


def test_the_line_keeps_settings_that_need_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_completed", pretend)
    space = ["optim.optimizer=in:adam,adamw", "optim.beta_1=lin:0.5..0.8"]
    search = begin(
        tmp_path / "a",
        "optim.momentum=none",
        "tune.trials=2",
        "tune.finalists=0",
        "tune.baseline=false",
        space=space,
    )
    line = verdict.decide(search, go(search))["line"]
    assert "optim.optimizer=adam" in line and "optim.beta_1=0." in line


def test_the_line_of_an_experiment_says_how_it_differs_from_its_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_completed", pretend)
    made = tfbig.recipe("mnist_mlp", "train.batch_size=512")
    search = Search.create(
        tmp_path / "a", made.name, made, [*SPACE, "tune.trials=1", "tune.finalists=0"]
    )
    assert "train.batch_size=512" in verdict.decide(search, go(search))["line"]


def test_a_comparison_is_one_of_equal_seeds(tmp_path, monkeypatch):
    """The recipe's second repeat fails, so the winner's second counts for its own mean, and not for
    what was gained.
    """
    values = {
        "baseline": 0.8,
        "baseline_seed_1": 0.7,
        "baseline_seed_3": 0.8,
        "0000_seed_1": 0.9,
        "0000_seed_2": 0.6,
        "0000_seed_3": 0.9,
    }

    def known(search, planned, observer):
        if planned.name == "baseline_seed_2":
            raise ValueError("no")
        outcome = pretend(search, planned, observer)
        return {
            **outcome,
            "metrics": {**outcome["metrics"], "accuracy": values.get(planned.name, 0.85)},
        }

    monkeypatch.setattr(trials, "_completed", known)
    search = begin(tmp_path / "a", "tune.trials=1", "tune.finalists=1")
    result = verdict.decide(search, go(search))
    assert result["trial"] == "0000" and result["validation"]["mean"] == pytest.approx(0.8)
    assert (result["validation"]["seeds"], result["baseline"]["seeds"]) == ([1, 2, 3], [1, 3])
    assert result["gain"]["mean"] == pytest.approx(0.9 - 0.75)

    def on_test(search, candidate, observer):
        offset = 0.01 if candidate["trial"] == "0000" else 0.02
        return [
            {"accuracy": {"value": values[path.removeprefix("trials/")] - offset}}
            for path in candidate["runs"]
        ]

    monkeypatch.setattr(verdict, "_read_runs", on_test)
    found = verdict.read_test(search, result, None)
    assert found["test"]["accuracy"]["mean"] == pytest.approx(0.79) and found["test_baseline"][
        "accuracy"
    ]["mean"] == pytest.approx(0.73)
    assert found["test_gain"] == pytest.approx(verdict.gain([0.89, 0.89], [0.68, 0.78], -1))
    assert (
        found["test_gain"]["mean"] == pytest.approx(0.16)
        and found["test_gain"]["low"] < 0.16 < found["test_gain"]["high"]
    )
    # Of a run whose test split holds nothing that the metric counts
    values["0000_seed_1"] = None
    monkeypatch.setattr(
        verdict,
        "_read_runs",
        lambda search, candidate, observer: [
            {"accuracy": {"value": values[path.removeprefix("trials/")]}}
            for path in candidate["runs"]
        ],
    )
    found = verdict.read_test(search, result, None)
    assert found["test"]["accuracy"]["values"] == [0.6, 0.9]
    assert found["test_gain"]["mean"] == pytest.approx(0.9 - 0.8)


def test_a_winner_that_is_the_recipe_itself_gains_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_completed", pretend)
    search = begin(tmp_path / "a", "tune.trials=1", space=["model.dropout=lin:0.4..0.5"])
    result = verdict.decide(search, go(search))
    assert result["trial"] == "baseline" and result["gain"] == {
        "mean": 0.0,
        "low": 0.0,
        "high": 0.0,
    }
    monkeypatch.setattr(
        verdict,
        "_read_runs",
        lambda *_: [{"accuracy": {"value": value}} for value in (0.9, 0.8, 0.7)],
    )
    found = verdict.read_test(search, result, None)
    assert (
        found["test"]["accuracy"]["mean"] == pytest.approx(0.8)
        and found["test_baseline"] is found["test_gain"] is None
    )


@pytest.mark.parametrize(
    ("trial", "baseline", "winner"), [(0.95, 0.9, "0001"), (0.8, 0.9, "baseline")]
)
def test_without_finalists_what_was_searched_decides(
    tmp_path, monkeypatch, trial, baseline, winner
):
    values = {"baseline": baseline, "0000": 0.5, "0001": trial, "0002": 0.7}

    def known(search, planned, observer):
        outcome = pretend(search, planned, observer)
        return {**outcome, "metrics": {**outcome["metrics"], "accuracy": values[planned.name]}}

    monkeypatch.setattr(trials, "_completed", known)
    search = begin(tmp_path / "a", "tune.trials=3", "tune.finalists=0")
    chief = go(search)
    result = verdict.decide(search, chief)
    assert set(chief.outcomes) == set(values)
    assert result["trial"] == winner
    assert result["run"] == f"trials/{winner}"
    assert result["baseline"]["searched"] == baseline
    assert result["gain"]["mean"] == pytest.approx(max(trial - baseline, 0))
    (progress,) = search_charts.progress(Story(search))
    assert [(level["name"], level["y"]) for level in progress["levels"]] == [
        ("the recipe's own settings", baseline)
    ]
    assert {each["name"]: each["y"] for each in progress["series"]}["trial"] == [0.5, trial, 0.7]


def test_importance_finds_what_matters(tmp_path, monkeypatch):
    def by_rate(search, planned, observer):
        outcome = pretend(search, planned, observer)
        outcome["metrics"]["accuracy"] = 0.9 - abs(
            np.log10(planned.experiment.optim.learning_rate) + 2
        )
        return outcome

    monkeypatch.setattr(trials, "_completed", by_rate)
    search = begin(tmp_path / "a", "tune.trials=25", "tune.finalists=0")
    found = verdict.importance(search, go(search))
    assert (
        list(found)[0] == "optim.learning_rate"
        and found["optim.learning_rate"] > 0.7
        and sum(found.values()) == pytest.approx(1)
    )


def test_weights_of_several_objectives_differ_from_trial_to_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_completed", pretend)
    search = begin(
        tmp_path / "a",
        "tune.trials=9",
        "tune.objective=accuracy,latency",
        "tune.finalists=2",
        "tune.algorithm=hyperband",
    )
    chief = go(search)
    scores = []
    for _ in range(2):
        oracles.weigh(chief.oracle, search.objectives)
        scores.append([trial.score for trial in chief.oracle.trials.values()])
        chief.oracle.trials["more"] = next(iter(chief.oracle.trials.values()))
    assert scores[0] != scores[1][: len(scores[0])]
    result = verdict.decide(search, chief)
    assert 1 <= len(result["front"]) <= 10 and result["front"] == sorted(
        result["front"], key=lambda one: one["latency"]
    )


def test_report_of_a_search_at_any_time(tmp_path, monkeypatch):
    """Before the first trial, with failures, and at its end.

    Always one whole page that loads nothing and runs nothing.
    """
    search = begin(
        tmp_path / "a",
        "tune.trials=12",
        "tune.objective=accuracy,latency",
        "tune.finalists=1",
        space=["model=in:mlp,cnn", "cnn.units=int:16..64", "mlp.units=in:16,[32,16]", *SPACE[::2]],
    )
    assert "No trial has won yet" in report.write(search).read_text()

    def as_mlp(search, planned, observer):
        return {**pretend(search, plan_as_mlp(planned), observer), "settings": planned.settings}

    monkeypatch.setattr(
        trials, "_completed", failing(ValueError("<script>alert(1)</script>"), then=as_mlp)
    )
    chief = go(search)
    page = report.write(search).read_text()
    assert "&lt;script&gt;" in page and "<script" not in page and "1 failed" in page
    search.write_json("best.json", verdict.decide(search, chief))
    search.write_json("importance.json", verdict.importance(search, chief))
    page = report.write(search).read_text()
    for title in (
        "Settings that won",
        "Finalists, trained again",
        "Importance of each setting",
        "Each setting alone",
        "All settings together",
        "Pareto front",
        "Best value so far",
        "Time spent",
        "Trials",
    ):
        assert title in page, title
    assert (
        "python -m tfbig.train mnist_mlp" in page
        and "<img" not in page
        and "<link" not in page
        and "url(http" not in page
    )
