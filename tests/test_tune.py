"""Searching: proposals, resume, hyperband, failures, workers, the verdict."""

import contextlib
import json
import os
import random
import shlex
import signal
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.core import config
from tfbig.core.errors import Interrupted, NonFinite, RunFailure, UserError
from tfbig.core.run import Run
from tfbig.core.search import Search
from tfbig.engine import checkpoint, conductor, loop, oracles, tuning, tuning_workers, verdict
from tfbig.engine.conductor import Conductor, pareto
from tfbig.engine.setup import Setup
from tfbig.report import search as report
from tfbig.tune import door, tune

MLP = tfbig.recipe("mnist_mlp")
SPACE = ["optim.learning_rate=log:1e-4..1e-1", "model.units=in:16,32,64", "model.dropout=lin:0..0.5"]
TINY = ["train.length=20", "train.evaluate_every=10"]


class Silent:
    restored = trained = evaluated = note = lambda self, *_: None


def silent(plan):
    return Silent()


def pretend(search, planned, observer):
    """Stands in for training: a smooth function of the settings."""
    made = planned.experiment
    value = (
        0.9
        - 0.02 * abs(np.log10(made.optim.learning_rate) + 2)
        - 0.05 * made.model.dropout
        + made.model.units[0] / 1000
        + made.seed / 1e4
    )
    told = planned.evaluations or 9
    metrics = {
        "accuracy": float(value + told / 1000),
        "parameters": made.model.units[0] * 795,
        "size": 0.1,
        "latency": 1.0 + made.model.units[0] / 100,
    }
    run = str(planned.run.relative_to(search.path))
    return {
        "status": "completed",
        "reason": None,
        "metrics": metrics,
        "evaluations": told,
        "stopped": "paused",
        "run": run,
        "settings": planned.settings,
    }


def begin(folder, *settings, space=SPACE):
    return Search.create(folder, "mnist_mlp", MLP, [*space, *settings])


def go(search, ended=lambda plan, outcome: None, observe=silent):
    made = Conductor(search, 9)
    tuning.work(search, made, "worker0", observe, ended)
    return made


def story(search):
    """What was proposed and what it came to, in order, without times."""
    kept = [line for line in search.journal() if line["event"] != "open"]
    return [(line["event"], line["trial"], line.get("values"), line.get("outcome", {}).get("metrics")) for line in kept]


# Proposals and resume


@pytest.mark.parametrize(
    "settings",
    [["tune.algorithm=random", "tune.seed=0"], ["tune.algorithm=grid"], ["tune.algorithm=hyperband"], ["tune.algorithm=bayesian"]],
)
def test_a_search_that_is_stopped_at_every_trial_proposes_the_same(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(tuning, "_completed", pretend)
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


def test_kill_at_twenty_random_moments(tmp_path, monkeypatch):
    """No finished trial again, none lost, and the search of one that was never killed."""

    def slow(search, planned, observer):
        with (search.path / "trained.txt").open("a") as file:
            file.write(planned.name + "\n")
        time.sleep(0.03)
        return pretend(search, planned, observer)

    monkeypatch.setattr(tuning, "_completed", slow)
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
    again = set((torn.path / "trained.txt").read_text().split()) if (torn.path / "trained.txt").exists() else set()
    assert story(torn) == story(whole) and not again & before
    ends = [trial for event, trial, *_ in story(torn) if event == "end"]
    assert len(ends) == len(set(ends)) == 40 + 1 + 3 * 3


def test_more_trials_on_resume_go_on_where_the_first_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_completed", pretend)
    for algorithm in ("grid", "random"):
        short = begin(tmp_path / f"{algorithm}3", f"tune.algorithm={algorithm}", "tune.trials=3", "tune.finalists=0")
        go(short)
        go(Search.open(short.path, ["tune.trials=7"]))
        whole = begin(tmp_path / f"{algorithm}7", f"tune.algorithm={algorithm}", "tune.trials=7", "tune.finalists=0")
        go(whole)
        assert story(short) == story(whole) and sum(1 for event, *_ in story(short) if event == "start") == 8


def test_print_shows_what_a_resumed_search_would_change(tmp_path):
    search = begin(tmp_path / "a", "tune.trials=7")
    before = (search.path / "search.json").read_bytes()
    look = lambda *settings: door(["--resume", str(search.path), *settings, "--print", "--json"])["tune"]  # noqa: E731
    found = look("tune.trials=3", "tune.finalists=0")
    assert (found["trials"], found["finalists"]) == (3, 0)
    assert look()["trials"] == 7
    with pytest.raises(UserError, match="tune.algorithm: cannot change in a search that goes on"):
        look("tune.algorithm=grid")
    assert (search.path / "search.json").read_bytes() == before


def test_grid_covers_every_combination_of_conditional_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(
        tuning,
        "_completed",
        lambda search, planned, observer: {**pretend(search, plan_as_mlp(planned), observer), "settings": planned.settings},
    )
    space = [
        "model=in:mlp,cnn",
        "mlp.units=in:8,16",
        "cnn.filters=in:[4,8],[8,16],[4]",
        "optim.optimizer=in:sgd,adam",
        "optim.momentum=in:0.8,0.9",
    ]
    made = go(begin(tmp_path / "a", "tune.algorithm=grid", "tune.finalists=0", "tune.baseline=false", space=space))
    assert len(made.values) == (2 + 3) * (2 + 1)
    for values in made.values.values():
        assert ("mlp.units" in values) == (values["model"] == "mlp") and ("optim.momentum" in values) == (
            values["optim.optimizer"] == "sgd"
        )


def plan_as_mlp(planned):
    return tuning.Plan(name=planned.name, run=planned.run, settings=planned.settings, experiment=MLP, evaluations=None)


def test_time_is_counted_while_a_search_is_at_work(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_completed", pretend)
    search = begin(tmp_path / "a", "tune.time=60s", "tune.finalists=0")
    made = Conductor(search, 9)
    assert 55 < made.seconds_left() <= 60
    search.record("start", trial="baseline", values={})
    lines = [{**line, "time": line["time"] - 1000 + 50 * (line["event"] == "start")} for line in search.journal()]
    (search.path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = Conductor(search, 9)
    assert 5 < again.seconds_left() < 11  # 50 of 60 seconds are spent; the 950 in which nobody searched do not count
    monkeypatch.setattr(again, "seconds_left", lambda: 0.0)
    tuning.work(search, again, "worker0", silent, lambda *_: None)
    assert list(again.outcomes) == ["baseline"]


# Real runs


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A small real search of hyperband: two trials of one evaluation, the better of them goes on to two."""
    folder = tmp_path_factory.mktemp("searches") / "a"
    settings = [
        "model.units=in:16,24,32",
        "optim.learning_rate=log:1e-3..1e-1",
        "model.dropout=in:0.2",
        "optim.schedule=cosine",
        *TINY,
    ]
    return tune(
        "mnist_mlp",
        *settings,
        "tune.algorithm=hyperband",
        "tune.factor=2",
        "tune.trials=3",
        "tune.finalists=1",
        "tune.seeds=2",
        run=folder,
    )


def test_hyperband_goes_on_bit_equal(searched):
    ends = {line["trial"]: line["outcome"] for line in searched.journal() if line["event"] == "end"}
    promoted, first = (
        ends["0002"],
        next(
            line["values"]["tuner/trial_id"] for line in searched.journal() if line["event"] == "start" and line["trial"] == "0002"
        ),
    )
    assert promoted["run"] == ends[first]["run"] and (ends[first]["evaluations"], promoted["evaluations"]) == (1, 2)
    assert ends[first]["stopped"] == "paused" and promoted["stopped"] == "at its length"
    run = Run.open(searched.path / promoted["run"])
    steps = [line["step"] for line in run.history("evaluation")]
    assert steps == [10, 20]
    setup = Setup(run.experiment, run.read_json("data.json")["facts"])
    loop.train(setup, searched.path / "undisturbed", Silent())
    again = Setup(run.experiment, run.read_json("data.json")["facts"])
    checkpoint.load(run.checkpoints / checkpoint.folder_name(20), again.model.variables, again.other_variables)
    for ours, theirs in zip(
        (*again.model.variables, *again.other_variables), (*setup.model.variables, *setup.other_variables), strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_paused_trial_is_an_ordinary_run(searched):
    ends = {line["trial"]: line["outcome"] for line in searched.journal() if line["event"] == "end"}
    paused = next(
        outcome["run"] for outcome in ends.values() if outcome["stopped"] == "paused" and outcome["run"] != ends["0002"]["run"]
    )
    assert tfbig.evaluate(searched.path / paused, split="validation")["step"] == 10
    run = tfbig.train(resume=searched.path / paused)
    assert [line["step"] for line in run.history("evaluation")] == [10, 20]


def test_the_test_split_is_read_for_the_winner_alone(searched):
    best = searched.read_json("best.json")
    read = {path.parent.name for path in searched.trials.glob("*/metrics.json") if "test" in json.loads(path.read_text())}
    assert read == {path.removeprefix("trials/") for path in best["validation"]["runs"]} and len(read) == 2
    assert all(
        "test" not in json.loads((searched.trials / name / "data.json").read_text())["splits"]
        for name in ("baseline", "0000")
        if name not in read
    )
    assert len(best["test"]["accuracy"]["values"]) == 2


def test_the_line_trains_the_winner(searched):
    best = searched.read_json("best.json")
    python, dash, door, recipe, *settings = shlex.split(best["line"])
    made, ran = config.to_json(tfbig.recipe(recipe, *settings)), config.to_json(Run.open(searched.path / best["run"]).experiment)
    made["seed"], made["train"]["final_split"] = ran["seed"], "none"
    assert (python, dash, door) == ("python", "-m", "tfbig.train") and made == ran


def test_a_finished_search_resumes_to_the_same(searched):
    before, best = story(searched), (searched.path / "best.json").read_text()
    tune(resume=searched.path)
    assert story(searched) == before and (searched.path / "best.json").read_text() == best


def test_a_killed_trial_goes_on_from_its_checkpoint(tmp_path):
    search = begin(
        tmp_path / "a",
        *TINY,
        "train.save_every=5",
        "tune.trials=1",
        "tune.finalists=0",
        "tune.baseline=false",
        space=["model.units=in:16,24"],
    )

    class Killed(BaseException):
        pass

    class Killer(Silent):
        def evaluated(self, step, split, metrics):
            raise Killed  # after step 10, of which no checkpoint is written yet

    with pytest.raises(Killed):
        go(search, observe=lambda plan: Killer())
    notes = []
    made = go(search, observe=lambda plan: type("Noting", (Silent,), {"note": lambda self, text: notes.append(text)})())
    assert "resumed at step 5" in notes and made.outcomes["0000"]["evaluations"] == 2
    (search.path / "outcomes" / "0000.json").unlink()  # as if killed between the end of training and its report
    lines = [line for line in search.journal() if line["event"] != "end"]
    (search.path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics, stamp = made.outcomes["0000"]["metrics"], (search.trials / "0000" / "summary.json").stat().st_mtime
    assert go(search).outcomes["0000"]["metrics"] == metrics and (search.trials / "0000" / "summary.json").stat().st_mtime == stamp


def test_several_objectives_are_measured_on_real_runs(tmp_path):
    settings = [*TINY, "tune.algorithm=grid", "tune.objective=accuracy,latency,size", "tune.finalists=0", "tune.baseline=false"]
    search = tune("mnist_mlp", "model.units=in:16,256", *settings, run=tmp_path / "a")
    front = search.read_json("best.json")["front"]
    assert front and all(one["latency"] > 0 for one in front)
    sizes = {
        tuple(line["outcome"]["settings"]): line["outcome"]["metrics"]["size"]
        for line in search.journal()
        if line["event"] == "end"
    }
    assert max(sizes.values()) == pytest.approx(4 * (784 * 256 + 256 + 256 * 10 + 10) / 1e6, rel=0.02)


def test_hparams_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = [*TINY, "train.tensorboard=true", "tune.trials=1", "tune.finalists=0", "tune.baseline=false"]
    go(begin(tmp_path / "a", *settings, space=["model.units=in:16,24"]))
    events = EventAccumulator(str(tmp_path / "a" / "trials" / "0000" / "tensorboard" / "hparams")).Reload()
    assert "_hparams_/session_start_info" in events.summary_metadata and "accuracy" in events.Tags()["tensors"]


# Failures


def failing(*errors):
    """Training that raises these errors in turn, None being success."""
    left = list(errors)

    def completed(search, planned, observer):
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return pretend(search, planned, observer)

    return completed


def test_failures_are_recorded_and_the_search_goes_on(tmp_path, monkeypatch):
    errors = [
        NonFinite("step 3: nan"),
        MemoryError("12 GB"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore"),
        ValueError("shapes"),
        UserError("a"),
        None,
    ]
    monkeypatch.setattr(tuning, "_completed", failing(*errors))
    made = go(begin(tmp_path / "a", "tune.trials=7", "tune.finalists=0", "tune.baseline=false"))
    reasons = [outcome["reason"] for outcome in made.outcomes.values()]
    assert reasons[:5] == [
        "diverged: step 3: nan",
        "out of memory: 12 GB",
        "out of memory: OOM when allocating",
        "raised ValueError: shapes",
        "settings that do not go together: a",
    ]
    assert reasons[5:] == [None, None] and "ValueError: shapes" in (tmp_path / "a" / "trials" / "0003" / "error.txt").read_text()
    assert made.failure is None and len(made.oracle.get_best_trials(7)) == 7


def test_three_equal_failures_in_a_row_stop_it(tmp_path, monkeypatch):
    search = begin(tmp_path / "a", "tune.trials=9", "tune.finalists=0", "tune.baseline=false")
    monkeypatch.setattr(
        tuning,
        "_completed",
        failing(ValueError("x"), ValueError("x"), None, ValueError("y"), ValueError("x"), ValueError("x"), ValueError("x")),
    )
    made = go(search)
    assert len(made.outcomes) == 7
    with pytest.raises(
        RunFailure, match="3 trials in a row failed for the same reason, so the search was stopped: raised ValueError: x"
    ):
        made.raise_failure()
    monkeypatch.setattr(tuning, "_completed", pretend)
    assert len(go(search).outcomes) == 9  # the cause is gone


def test_hyperband_promotes_past_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_completed", failing(None, ValueError("1"), ValueError("2"), None, ValueError("3")))
    made = go(begin(tmp_path / "a", "tune.algorithm=hyperband", "tune.trials=13", "tune.finalists=0", "tune.baseline=false"))
    promoted = [values["tuner/trial_id"] for trial, values in made.values.items() if "tuner/trial_id" in values]
    assert len(promoted) == 4 and all(made.outcomes[trial]["status"] == "completed" for trial in promoted)


def test_a_real_trial_that_diverges(tmp_path):
    search = tune(
        "mnist_mlp",
        "optim.learning_rate=in:0.1,1e30",
        *TINY,
        "tune.algorithm=grid",
        "tune.finalists=0",
        "tune.baseline=false",
        run=tmp_path / "a",
    )
    ends = [line["outcome"] for line in search.journal() if line["event"] == "end"]
    assert [outcome["status"] for outcome in ends] == ["completed", "failed"] and ends[1]["reason"].startswith("diverged: ")
    page = (search.path / "report.html").read_text()
    assert "diverged" in page and "failed" in page


# Workers


@pytest.fixture
def protocol(monkeypatch):
    monkeypatch.setattr(tuning_workers, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(tuning, "IDLE_SECONDS", 0.05)

    def client(name, port):
        for variable, value in zip(tuning_workers.VARIABLES, (name, "127.0.0.1", str(port)), strict=True):
            monkeypatch.setenv(variable, value)
        return tuning_workers.Client()

    return client


def test_two_workers_share_the_trials(tmp_path, monkeypatch, protocol):
    by = {}

    def slow(search, planned, observer):
        by.setdefault(threading.current_thread().name, []).append(planned.name)
        time.sleep(0.1)
        return pretend(search, planned, observer)

    monkeypatch.setattr(tuning, "_completed", slow)
    search = begin(tmp_path / "a", "tune.trials=8", "tune.finalists=1")
    made = Conductor(search, 9)
    with tuning_workers.served(made, "127.0.0.1:0") as port:
        clients = {name: protocol(name, port) for name in ("worker0", "worker1")}
        threads = [
            threading.Thread(target=tuning.work, args=(search, client, name, silent, lambda *_: None), name=name)
            for name, client in clients.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert made.is_over() and len(made.outcomes) == 8 + 1 + 6
    assert sorted(by["worker0"] + by["worker1"]) == sorted(made.values) and min(map(len, by.values())) >= 3
    values = {line["trial"]: line["values"] for line in search.journal() if line["event"] == "start"}
    alone = go(begin(tmp_path / "b", "tune.trials=8", "tune.finalists=0"))
    assert all(
        values[trial] == alone.values[trial] for trial in alone.values
    )  # random search proposes the same to any number of workers


def test_a_dead_workers_trial_is_handed_on(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr(tuning, "_completed", pretend)
    monkeypatch.setattr(conductor, "LEASE_SECONDS", 0.5)
    search = begin(tmp_path / "a", "tune.trials=2", "tune.finalists=0", "tune.baseline=false")
    made = Conductor(search, 9)
    with tuning_workers.served(made, "127.0.0.1:0") as port:
        lost = protocol("worker0", port)
        trial = lost.create_trial("worker0").trial_id
        assert lost.create_trial("worker0").trial_id == trial  # a worker that comes back gets its own
        other = protocol("worker1", port)
        time.sleep(0.8)
        assert other.create_trial("worker1").trial_id != trial  # it is alive, since it keeps asking
        lost.trial = None  # now it is not
        time.sleep(0.8)
        tuning.work(search, other, "worker1", silent, lambda *_: None)
    assert set(made.outcomes) == {"0000", "0001"} and list(made.values) == ["0000", "0001"]


def locked_trial(folder):
    """A search with one trial, whose run another worker has locked."""
    settings = [*TINY, "tune.trials=1", "tune.finalists=0", "tune.baseline=false"]
    search = begin(folder, *settings, space=["optim.learning_rate=log:1e-3..1e-1"])
    values = {"optim.learning_rate": 0.01}
    planned = tuning.plan(search, "0000", values)
    return search, values, Run.create(planned.run, planned.experiment, planned.experiment)


def test_a_trial_whose_first_worker_lives_is_that_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "IDLE_SECONDS", 0.01)
    search, values, run = locked_trial(tmp_path / "a")
    first = {"status": "completed", "metrics": {"accuracy": 0.5}, "run": "trials/0000", "reason": None, "evaluations": 2, "settings": []}
    notes = []

    class Told(Silent):
        def note(self, text):
            notes.append(text)
            assert search.outcome("0000") is None
            search.write_outcome("0000", first)  # the first worker comes to its end meanwhile

    with run.lock():
        _, outcome = tuning.run_trial(search, "0000", values, lambda plan: Told())
    assert {key: outcome[key] for key in first} == first and search.outcome("0000") == first
    assert len(notes) == 1 and "is being trained by another process" in notes[0]
    assert not (run.path / "error.txt").exists()


def test_a_trial_whose_first_worker_ends_late_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "IDLE_SECONDS", 0.01)
    search, values, run = locked_trial(tmp_path / "a")
    held = contextlib.ExitStack()
    held.enter_context(run.lock())

    class Told(Silent):
        def note(self, text):
            held.close()  # the first worker dies, without an outcome

    tuning.run_trial(search, "0000", values, lambda plan: Told())
    assert search.outcome("0000")["status"] == "completed" and search.outcome("0000")["evaluations"] == 2


def test_a_chief_that_comes_back_finds_its_workers(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr(tuning, "_completed", lambda *given: time.sleep(0.2) or pretend(*given))
    search = begin(tmp_path / "a", "tune.trials=6", "tune.finalists=0", "tune.baseline=false")
    first = Conductor(search, 9)
    with tuning_workers.served(first, "127.0.0.1:0") as port:
        worker = threading.Thread(target=tuning.work, args=(search, protocol("worker0", port), "worker0", silent, lambda *_: None))
        worker.start()
        while len(first.outcomes) < 2:
            time.sleep(0.01)
    ongoing = set(first.values) - set(first.outcomes)
    second = Conductor(search, 9, alone=False)
    with tuning_workers.served(second, f"127.0.0.1:{port}"):
        worker.join(60)
    assert len(second.outcomes) == 6 and ongoing <= set(second.outcomes) and not worker.is_alive()


def test_incomplete_environment_of_a_cluster(monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(UserError, match="KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT: expected to be set as well"):
        tuning_workers.role()


# The verdict


def test_pareto_front():
    points = [[0.9, 3.0], [0.8, 1.0], [0.85, 2.0], [0.8, 2.5], [0.9, 3.0]]
    assert pareto(points, ["max", "min"]) == [True, True, True, False, True] and pareto([], ["max"]) == []


def test_interval_by_students_t():
    found = verdict.interval([1.0, 2.0, 3.0])
    assert (found["mean"], found["low"], found["high"]) == (
        2.0,
        pytest.approx(2 - 2.4841, abs=1e-3),
        pytest.approx(2 + 2.4841, abs=1e-3),
    )
    assert verdict.interval([]) == {"values": [], "mean": None, "low": None, "high": None}


def test_the_winner_is_the_best_again_and_not_the_luckiest(tmp_path, monkeypatch):
    """Trial 0003 is lucky once; its repeats say what it is worth."""

    def lucky(search, planned, observer):
        outcome = pretend(search, planned, observer)
        outcome["metrics"]["accuracy"] = {"0003": 0.99, "0001": 0.95}.get(
            planned.name, 0.94 if planned.name.startswith("0001_") else 0.9
        )
        return outcome

    monkeypatch.setattr(tuning, "_completed", lucky)
    search = begin(tmp_path / "a", "tune.trials=6")
    made = go(search)
    assert made.finalists() == ["0003", "0001"]
    result = verdict.decide(search, made)
    assert (
        result["trial"] == "0001"
        and result["validation"]["mean"] == pytest.approx(0.94)
        and result["gain"]["mean"] == pytest.approx(0.04)
    )
    assert result["baseline"]["values"] == [0.9] * 3


@pytest.mark.parametrize(("trial", "baseline", "winner"), [(0.95, 0.9, "0001"), (0.8, 0.9, "baseline")])
def test_without_finalists_what_was_searched_decides(tmp_path, monkeypatch, trial, baseline, winner):
    values = {"baseline": baseline, "0000": 0.5, "0001": trial, "0002": 0.7}

    def known(search, planned, observer):
        outcome = pretend(search, planned, observer)
        return {**outcome, "metrics": {**outcome["metrics"], "accuracy": values[planned.name]}}

    monkeypatch.setattr(tuning, "_completed", known)
    search = begin(tmp_path / "a", "tune.trials=3", "tune.finalists=0")
    made = go(search)
    result = verdict.decide(search, made)
    assert set(made.outcomes) == set(values)
    assert result["trial"] == winner
    assert result["run"] == f"trials/{winner}"
    assert result["baseline"]["searched"] == baseline
    assert result["gain"]["mean"] == pytest.approx(max(trial - baseline, 0))


def test_importance_finds_what_matters(tmp_path, monkeypatch):
    def by_rate(search, planned, observer):
        outcome = pretend(search, planned, observer)
        outcome["metrics"]["accuracy"] = 0.9 - abs(np.log10(planned.experiment.optim.learning_rate) + 2)
        return outcome

    monkeypatch.setattr(tuning, "_completed", by_rate)
    search = begin(tmp_path / "a", "tune.trials=25", "tune.finalists=0")
    found = verdict.importance(search, go(search))
    assert (
        list(found)[0] == "optim.learning_rate" and found["optim.learning_rate"] > 0.7 and sum(found.values()) == pytest.approx(1)
    )


def test_weights_of_several_objectives_differ_from_trial_to_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_completed", pretend)
    search = begin(
        tmp_path / "a", "tune.trials=9", "tune.objective=accuracy,latency", "tune.finalists=2", "tune.algorithm=hyperband"
    )
    made = go(search)
    scores = []
    for _ in range(2):
        oracles.weigh(made.oracle, search.objectives)
        scores.append([trial.score for trial in made.oracle.trials.values()])
        made.oracle.trials["more"] = next(iter(made.oracle.trials.values()))
    assert scores[0] != scores[1][: len(scores[0])]
    result = verdict.decide(search, made)
    assert 1 <= len(result["front"]) <= 10 and result["front"] == sorted(result["front"], key=lambda one: one["latency"])


# The report


def test_report_of_a_search_at_any_time(tmp_path, monkeypatch):
    """Before the first trial, with failures, and at its end: always one whole page that loads nothing and runs nothing."""
    search = begin(
        tmp_path / "a",
        "tune.trials=12",
        "tune.objective=accuracy,latency",
        "tune.finalists=1",
        space=["model=in:mlp,cnn", "cnn.units=int:16..64", "mlp.units=in:16,[32,16]", *SPACE[::2]],
    )
    assert "No trial has won yet" in report.write(search.path).read_text()
    monkeypatch.setattr(tuning, "_completed", failing(ValueError("<script>alert(1)</script>")))
    monkeypatch.setattr(
        sys.modules[__name__],
        "pretend",
        lambda search, planned, observer, same=pretend: {
            **same(search, plan_as_mlp(planned), observer),
            "settings": planned.settings,
        },
    )
    made = go(search)
    page = report.write(search.path).read_text()
    assert "&lt;script&gt;" in page and "<script" not in page and "1 failed" in page
    search.write_json("best.json", verdict.decide(search, made))
    search.write_json("importance.json", verdict.importance(search, made))
    page = report.write(search.path).read_text()
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
    assert "python -m tfbig.train mnist_mlp" in page and "<img" not in page and "<link" not in page and "url(http" not in page
