"""Several workers of one search: sharing, losing and handing on trials."""

import contextlib
import os
import socket
import threading
import time

import pytest
from searches import TINY, Silent, begin, go, pretend, silent

from tfbig.core.errors import UserError
from tfbig.core.run import Run
from tfbig.tuning import oracles, trials, workers
from tfbig.tuning.chief import Chief


@pytest.fixture
def protocol(monkeypatch):
    monkeypatch.setattr(workers, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(trials, "IDLE_SECONDS", 0.05)

    def client(name, port):
        for variable, value in zip(workers.VARIABLES, (name, "127.0.0.1", str(port)), strict=True):
            monkeypatch.setenv(variable, value)
        return workers.Client()

    return client


def test_two_workers_share_the_trials(tmp_path, monkeypatch, protocol):
    by = {}

    def slow(search, planned, observer):
        by.setdefault(threading.current_thread().name, []).append(planned.name)
        time.sleep(0.1)
        return pretend(search, planned, observer)

    monkeypatch.setattr(trials, "_completed", slow)
    search = begin(tmp_path / "a", "tune.trials=8", "tune.finalists=1")
    chief = Chief(search, 9)
    with workers.served(chief, "127.0.0.1:0") as port:
        clients = {name: protocol(name, port) for name in ("worker0", "worker1")}
        threads = [
            threading.Thread(
                target=trials.work, args=(search, client, name, silent, lambda *_: None), name=name
            )
            for name, client in clients.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert chief.is_over() and len(chief.outcomes) == 8 + 1 + 6
    assert (
        sorted(by["worker0"] + by["worker1"]) == sorted(chief.values)
        and min(map(len, by.values())) >= 3
    )
    values = {
        line["trial"]: line["values"] for line in search.journal() if line["event"] == "start"
    }
    alone = go(begin(tmp_path / "b", "tune.trials=8", "tune.finalists=0"))
    assert all(
        values[trial] == alone.values[trial] for trial in alone.values
    )  # random search proposes the same to any number of workers


def test_a_dead_workers_trial_is_handed_on(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr(trials, "_completed", pretend)
    monkeypatch.setattr("tfbig.tuning.chief.LEASE_SECONDS", 0.5)
    search = begin(tmp_path / "a", "tune.trials=2", "tune.finalists=0", "tune.baseline=false")
    chief, notes = Chief(search, 9), []
    with workers.served(chief, "127.0.0.1:0") as port:
        lost = protocol("worker0", port)
        trial = lost.create_trial("worker0").trial_id
        other = protocol("worker1", port)
        time.sleep(0.8)
        workers.lose_silent(chief, notes.append)
        # It is alive, since it keeps asking
        assert other.create_trial("worker1").trial_id != trial and not notes
        lost.trial = None  # now it is not
        time.sleep(0.8)
        workers.lose_silent(chief, notes.append)
        assert (
            len(notes) == 1
            and notes[0].startswith("worker0 was not heard from")
            and f"while training trial {trial}" in notes[0]
        )
        trials.work(search, other, "worker1", silent, lambda *_: None)
    assert [chief.outcomes[trial]["status"] for trial in ("0000", "0001")] == [
        "completed"
    ] * 2 and list(chief.values) == ["0000", "0001"]


def test_a_trial_that_takes_two_workers_along_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_completed", pretend)
    chief = Chief(
        begin(tmp_path / "a", "tune.trials=3", "tune.finalists=0", "tune.baseline=false"), 9
    )

    def ask(worker):
        return chief.create_trial(worker).trial_id

    # Started again, it gets its own
    assert [ask("a"), ask("b"), ask("a"), chief.lost("c", "slept")] == [
        "0000",
        "0001",
        "0000",
        None,
    ]
    assert (chief.lost("b", "was ended by signal 9"), ask("b")) == ("0001", "0001")
    assert chief.lost("a", "was ended by signal 9") == "0000" and ask("a") == "0002"
    failure = chief.outcomes["0000"]
    assert (failure["status"], failure["reason"]) == (
        "failed",
        "its process was ended by signal 9, 2 times",
    )
    # As any other failure has them
    assert failure["run"] == "trials/0000" and len(failure["settings"]) == 3
    chief.search.write_outcome(
        "0001", pretend(chief.search, trials.plan(chief.search, "0001", chief.values["0001"]), None)
    )
    # It had ended its trial, and only not said so
    assert chief.lost("b", "was ended by signal 9") is None
    trials.work(chief.search, chief, "a", silent, lambda *_: None)
    assert [chief.outcomes[trial]["status"] for trial in chief.values] == [
        "failed",
        "completed",
        "completed",
    ]


def test_a_chief_that_was_stopped_itself_takes_no_trial_away(tmp_path, monkeypatch):
    monkeypatch.setattr("tfbig.tuning.chief.LEASE_SECONDS", 0.2)
    monkeypatch.setattr("tfbig.tuning.chief.BLIND_SECONDS", 0.1)
    chief = Chief(begin(tmp_path / "a", "tune.trials=2"), 9)
    chief.create_trial("worker0")
    time.sleep(0.3)
    assert chief.silent() == []
    for _ in range(6):
        time.sleep(0.05)
        found = chief.silent()
    assert found == ["worker0"]
    chief.search.write_outcome(
        "baseline", pretend(chief.search, trials.plan(chief.search, "baseline", {}), None)
    )
    chief.end_trial(oracles.trial("baseline", "COMPLETED"))
    assert chief.silent() == []
    for _ in range(6):
        time.sleep(0.05)
        found = chief.silent()
    assert found == ["worker0"]  # without a trial it should have asked for one


def locked_trial(folder):
    """A search with one trial, whose run another worker has locked."""
    settings = [*TINY, "tune.trials=1", "tune.finalists=0", "tune.baseline=false"]
    search = begin(folder, *settings, space=["optim.learning_rate=log:1e-3..1e-1"])
    values = {"optim.learning_rate": 0.01}
    planned = trials.plan(search, "0000", values)
    return search, values, Run.create(planned.run, planned.experiment, planned.experiment)


def test_a_trial_whose_first_worker_lives_is_that_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "IDLE_SECONDS", 0.01)
    search, values, run = locked_trial(tmp_path / "a")
    first = {
        "status": "completed",
        "metrics": {"accuracy": 0.5},
        "run": "trials/0000",
        "reason": None,
        "evaluations": 2,
        "settings": [],
    }
    notes = []

    class Told(Silent):
        def note(self, text):
            notes.append(text)
            assert search.outcome("0000") is None
            search.write_outcome("0000", first)  # the first worker comes to its end meanwhile

    with run.lock():
        outcome = trials.run_trial(search, "0000", values, lambda plan: Told())
    assert {key: outcome[key] for key in first} == first and search.outcome("0000") == first
    assert len(notes) == 1 and "is being trained by another process" in notes[0]
    assert not (run.path / "error.txt").exists()


def test_a_trial_whose_first_worker_ends_late_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "IDLE_SECONDS", 0.01)
    search, values, run = locked_trial(tmp_path / "a")
    held = contextlib.ExitStack()
    held.enter_context(run.lock())

    class Told(Silent):
        def note(self, text):
            held.close()  # the first worker dies, without an outcome

    trials.run_trial(search, "0000", values, lambda plan: Told())
    assert (
        search.outcome("0000")["status"] == "completed"
        and search.outcome("0000")["evaluations"] == 2
    )


def test_a_trial_that_is_locked_by_a_worker_that_hangs_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(trials, "STALE_SECONDS", 0.5)
    search, values, run = locked_trial(tmp_path / "a")
    with run.lock():
        outcome = trials.run_trial(search, "0000", values, silent)
    assert outcome["status"] == "failed" and search.outcome("0000") == outcome
    assert outcome["reason"].startswith(
        f"failed: RUN: is being trained by another process (pid {os.getpid()} on"
        f" {socket.gethostname()})"
    )


def test_a_worker_that_writes_is_waited_for_whatever_the_clock_says(tmp_path, monkeypatch):
    """Its files are dated years ago, as by another machine's clock, and change."""
    monkeypatch.setattr(trials, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(trials, "STALE_SECONDS", 2.0)
    search, values, run = locked_trial(tmp_path / "a")
    outcome = {"status": "completed", "metrics": {"accuracy": 0.5}, "run": "trials/0000"}

    def write():
        for number in range(60):
            time.sleep(0.05)
            os.utime(run.path / "config.json", (1e9 + number, 1e9 + number))
        search.write_outcome("0000", outcome)

    writer = threading.Thread(target=write)
    with run.lock():
        for path in (run.path, *run.path.rglob("*")):
            os.utime(path, (1e9, 1e9))
        writer.start()
        assert trials.run_trial(search, "0000", values, silent)["status"] == "completed"
    writer.join()


def test_a_chief_that_comes_back_finds_its_workers(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr(trials, "_completed", lambda *given: time.sleep(0.2) or pretend(*given))
    search = begin(tmp_path / "a", "tune.trials=6", "tune.finalists=0", "tune.baseline=false")
    first = Chief(search, 9)
    with workers.served(first, "127.0.0.1:0") as port:
        worker = threading.Thread(
            target=trials.work,
            args=(search, protocol("worker0", port), "worker0", silent, lambda *_: None),
        )
        worker.start()
        while len(first.outcomes) < 2:
            time.sleep(0.01)
    ongoing = set(first.values) - set(first.outcomes)
    second = Chief(search, 9, alone=False)
    with workers.served(second, f"127.0.0.1:{port}"):
        worker.join(60)
    assert len(second.outcomes) == 6 and ongoing <= set(second.outcomes) and not worker.is_alive()


def test_incomplete_environment_of_a_cluster(monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(
        UserError, match="KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT: expected to be set as well"
    ):
        workers.role()
