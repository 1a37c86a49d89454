"""Searching: what is proposed, and that a search that was stopped or killed proposes the same."""

import json
import os
import random
import signal
import time

import pytest
from searches import SPACE, Silent, begin, go, plan_as_mlp, pretend, silent, story

from tfbig.core.errors import Interrupted, UserError
from tfbig.tune import door, tune
from tfbig.tuning import trials
from tfbig.tuning.chief import Chief
from tfbig.tuning.search import Search


@pytest.mark.parametrize(
    "settings",
    [
        ["tune.algorithm=random", "tune.seed=0"],
        ["tune.algorithm=grid"],
        ["tune.algorithm=hyperband"],
        ["tune.algorithm=bayesian"],
    ],
)
def test_a_search_that_is_stopped_at_every_trial_proposes_the_same(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(trials, "_completed", pretend)
    space = ["optim.learning_rate=log:1e-3..1e-1"] if "bayesian" in settings[0] else SPACE
    count = {"tune.algorithm=bayesian": 6, "tune.algorithm=hyperband": 40}.get(settings[0], 12)
    whole = begin(tmp_path / "whole", *settings, f"tune.trials={count}", space=space)
    assert len([t for t in go(whole).values if t.isdigit()]) == (count if count < 40 else 23)
    torn = begin(tmp_path / "torn", *settings, f"tune.trials={count}", space=space)

    def stop_now_and_then(plan, *_):
        if random.random() < 0.5:
            raise Interrupted(2, 0)
        return Silent()

    random.seed(1)
    for _ in range(200):
        try:
            go(torn, stop_now_and_then, stop_now_and_then)
            break
        except Interrupted:
            continue
    assert story(torn) == story(whole)


@pytest.mark.parametrize(
    ("settings", "space", "counts"),
    [
        (["tune.trials=5"], SPACE, {"trials": 5, "baseline": 1, "again": 9, "most": 15}),
        (
            ["tune.algorithm=hyperband"],
            SPACE,
            {"trials": 23, "baseline": 1, "again": 9, "most": 33},
        ),
        (
            ["tune.algorithm=hyperband", "tune.iterations=2"],
            SPACE,
            {"trials": 46, "baseline": 1, "again": 9, "most": 56},
        ),
        (
            ["tune.algorithm=grid"],
            ["model.units=in:16,32,64"],
            {"trials": 3, "baseline": 1, "again": 9, "most": 13},
        ),
        (
            ["tune.baseline=false", "tune.finalists=0", "tune.trials=4"],
            SPACE,
            {"trials": 4, "baseline": 0, "again": 0, "most": 4},
        ),
        (
            ["tune.trials=1", "tune.seeds=2"],
            SPACE,
            {"trials": 1, "baseline": 1, "again": 4, "most": 6},
        ),
    ],
)
def test_how_many_trainings_come_is_known_beforehand(
    tmp_path, monkeypatch, settings, space, counts
):
    monkeypatch.setattr(trials, "_completed", pretend)
    search = begin(tmp_path / "a", *settings, space=space)
    assert Chief(search, 9).trainings() == counts
    assert len(go(search).outcomes) == counts["most"]


def test_how_many_trainings_come_is_said_and_kept(tmp_path, capsys):
    door(["mnist_mlp", "model.units=in:8,16", "--print"])
    assert (
        "trainings: 12 at most: 2 trials, the recipe's own settings, then 9 for the best 2 and the"
        " recipe, with 3 other seeds each" in capsys.readouterr().out
    )
    assert door(["mnist_mlp", "tune.time=5m", "--print", "--json"])["trainings"]["most"] is None
    search = begin(tmp_path / "a", "tune.trials=7")
    search.write_trainings(Chief(search, 9).trainings())
    # Until it is led again
    assert Search.open(search.path, ["tune.trials=8"]).saved["trainings"]["most"] == 17
    assert search.read_json("search.json")["tune"]["trials"] == 8


@pytest.mark.parametrize("algorithm", ["random", "hyperband"])
def test_a_space_that_is_used_up_resumes(tmp_path, monkeypatch, algorithm):
    """Draws that came to nothing are not in the journal, and must not change those after them."""
    monkeypatch.setattr(trials, "_completed", pretend)
    space = ["model.units=in:16,32,64,128", "model.activation=in:relu,gelu,silu"]
    search = begin(
        tmp_path / "a", f"tune.algorithm={algorithm}", "tune.trials=60", "tune.seeds=2", space=space
    )
    chief = go(search)
    again = Chief(search, 9)
    assert again.outcomes == chief.outcomes and again.told_to_stop and again.is_over()


def test_kill_at_twenty_random_moments(tmp_path, monkeypatch):
    """No finished trial again, none lost, and the search of one that was never killed."""

    def slow(search, planned, observer):
        with (search.path / "trained.txt").open("a") as file:
            file.write(planned.name + "\n")
        time.sleep(0.03)
        return pretend(search, planned, observer)

    monkeypatch.setattr(trials, "_completed", slow)
    whole = begin(tmp_path / "whole", "tune.trials=40", "tune.seed=5")
    go(whole)
    torn = begin(tmp_path / "torn", "tune.trials=40", "tune.seed=5")
    random.seed(3)
    kills = 0
    while kills < 20:
        child = os.fork()
        if child == 0:
            try:
                go(torn)
            finally:
                os._exit(0)
        time.sleep(random.uniform(0.05, 0.35))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
    before = {trial for event, trial, *_ in story(torn) if event == "end"}
    (torn.path / "trained.txt").unlink(missing_ok=True)
    go(torn)
    again = (
        set((torn.path / "trained.txt").read_text().split())
        if (torn.path / "trained.txt").exists()
        else set()
    )
    assert story(torn) == story(whole) and not again & before
    ends = [trial for event, trial, *_ in story(torn) if event == "end"]
    assert len(ends) == len(set(ends)) == 40 + 1 + 3 * 3


def test_more_trials_on_resume_go_on_where_the_first_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_completed", pretend)
    for algorithm in ("grid", "random"):
        short = begin(
            tmp_path / f"{algorithm}3",
            f"tune.algorithm={algorithm}",
            "tune.trials=3",
            "tune.finalists=0",
        )
        go(short)
        go(Search.open(short.path, ["tune.trials=7"]))
        whole = begin(
            tmp_path / f"{algorithm}7",
            f"tune.algorithm={algorithm}",
            "tune.trials=7",
            "tune.finalists=0",
        )
        go(whole)
        assert (
            story(short) == story(whole)
            and sum(1 for event, *_ in story(short) if event == "start") == 8
        )


def test_print_shows_what_a_resumed_search_would_change(tmp_path):
    search = begin(tmp_path / "a", "tune.trials=7")
    before = (search.path / "search.json").read_bytes()

    def look(*settings):
        return door(["--resume", str(search.path), *settings, "--print", "--json"])["tune"]

    found = look("tune.trials=3", "tune.finalists=0")
    assert (found["trials"], found["finalists"]) == (3, 0)
    assert look()["trials"] == 7
    for setting in ("tune.algorithm=grid", "optim.learning_rate=log:1e-4..1", "train.length=9"):
        with pytest.raises(
            UserError, match=f"{setting.partition('=')[0]}: cannot change in a search that goes on"
        ):
            look(setting)
    with pytest.raises(UserError, match="tune.trails: no such setting. Did you mean tune.trials?"):
        look("tune.trails=9")
    with search.lock(), pytest.raises(UserError, match="is being searched by another process"):
        tune(None, "tune.trials=3", resume=search.path)
    assert (search.path / "search.json").read_bytes() == before


def test_grid_covers_every_combination_of_conditional_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(
        trials,
        "_completed",
        lambda search, planned, observer: {
            **pretend(search, plan_as_mlp(planned), observer),
            "settings": planned.settings,
        },
    )
    space = [
        "model=in:mlp,cnn",
        "mlp.units=in:8,16",
        "cnn.filters=in:[4,8],[8,16],[4]",
        "optim.optimizer=in:sgd,adam",
        "optim.momentum=in:0.8,0.9",
    ]
    chief = go(
        begin(
            tmp_path / "a",
            "tune.algorithm=grid",
            "tune.finalists=0",
            "tune.baseline=false",
            space=space,
        )
    )
    assert len(chief.values) == (2 + 3) * (2 + 1)
    for values in chief.values.values():
        assert ("mlp.units" in values) == (values["model"] == "mlp") and (
            "optim.momentum" in values
        ) == (values["optim.optimizer"] == "sgd")


def test_time_is_counted_while_a_search_is_at_work(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_completed", pretend)
    search = begin(tmp_path / "a", "tune.time=60s", "tune.finalists=0")
    chief = Chief(search, 9)
    assert 55 < chief.seconds_left() <= 60
    search.record("start", trial="baseline", values={})
    lines = [
        {**line, "time": line["time"] - 1000 + 50 * (line["event"] == "start")}
        for line in search.journal()
    ]
    (search.path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = Chief(search, 9)
    # 50 of 60 seconds are spent; the 950 in which nobody searched do not count
    assert 5 < again.seconds_left() < 11
    monkeypatch.setattr(again, "seconds_left", lambda: 0.0)
    trials.work(search, again, "worker0", silent, lambda *_: None)
    assert list(again.outcomes) == ["baseline"]


def test_a_clock_that_is_set_changes_no_duration(tmp_path, monkeypatch):
    """Neither of the search that is at work nor, by its journal, of the one that is resumed."""
    monkeypatch.setattr(trials, "_completed", pretend)
    search = begin(tmp_path / "a", "tune.time=60s", "tune.trials=1", "tune.finalists=0")
    chief, now = Chief(search, 9), time.time
    monkeypatch.setattr(time, "time", lambda: now() + 1e6)
    assert 50 < chief.seconds_left() <= 60
    trials.work(search, chief, "worker0", silent, lambda *_: None)
    assert 50 < Chief(Search.open(search.path), 9).seconds_left() <= 60


def test_a_journal_whose_clock_was_set_back_spends_no_time(tmp_path):
    search = begin(tmp_path / "a", "tune.time=60s")
    times = {"open": 2000.0, "start": 1000.0}
    lines = [{"event": event, "time": time} for event, time in times.items()]
    lines[1] |= {"trial": "baseline", "values": {}}
    (search.path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert 50 < Chief(search, 9).seconds_left() <= 60
