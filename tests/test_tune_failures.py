"""Trials that fail: what is recorded, and when the search goes on."""

import errno
import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import tensorflow as tf
from searches import TINY, begin, children, failing, go, pretend, silent

from tfbig.core import files
from tfbig.core.errors import DiskFull, NonFinite, RunFailure, UserError
from tfbig.data.mnist import MNIST
from tfbig.engine.readable import told
from tfbig.report.trials import Progress
from tfbig.tune import tune
from tfbig.tuning import trials, workers
from tfbig.tuning.chief import Chief
from tfbig.tuning.search import Search


def test_failures_are_recorded_and_the_search_goes_on(tmp_path, monkeypatch):
    errors = [
        NonFinite("step 3: nan"),
        MemoryError("12 GB"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore"),
        ValueError("shapes"),
        UserError("a"),
        None,
    ]
    monkeypatch.setattr(trials, "_completed", failing(*errors))
    chief = go(begin(tmp_path / "a", "tune.trials=7", "tune.finalists=0", "tune.baseline=false"))
    reasons = [outcome["reason"] for outcome in chief.outcomes.values()]
    assert reasons[:5] == [
        "diverged: step 3: nan",
        "out of memory: 12 GB",
        "out of memory: OOM when allocating",
        "raised ValueError: shapes",
        "settings that do not go together: a",
    ]
    assert (
        reasons[5:] == [None, None]
        and "ValueError: shapes" in (tmp_path / "a" / "trials" / "0003" / "error.txt").read_text()
    )
    assert chief.failure is None and len(chief.oracle.get_best_trials(7)) == 7


def test_three_equal_failures_in_a_row_stop_it(tmp_path, monkeypatch):
    search = begin(tmp_path / "a", "tune.trials=9", "tune.finalists=0", "tune.baseline=false")
    monkeypatch.setattr(
        trials,
        "_completed",
        failing(
            ValueError("x"),
            ValueError("x"),
            None,
            ValueError("y"),
            ValueError("x"),
            ValueError("x"),
            ValueError("x"),
        ),
    )
    chief = go(search)
    assert len(chief.outcomes) == 7
    with pytest.raises(
        RunFailure,
        match=(
            "3 trials in a row failed for the same reason, so the search was stopped: raised"
            " ValueError: x"
        ),
    ):
        chief.raise_failure()
    monkeypatch.setattr(trials, "_completed", pretend)
    assert len(go(search).outcomes) == 9  # the cause is gone


def test_a_trial_whose_metric_has_no_value_says_so(tmp_path, monkeypatch):
    search = begin(tmp_path / "a")
    run = types.SimpleNamespace(is_done=True, read_json=lambda name: {})
    monkeypatch.setattr(trials, "_run", lambda planned: run)
    monkeypatch.setattr(trials, "_state", lambda run: {"best": None, "evaluations": 2})
    with pytest.raises(RunFailure, match="accuracy has no value: the validation split holds too"):
        trials._completed(search, trials.plan(search, "baseline", {}), None)


def test_a_search_says_what_is_left_out_of_its_data(tmp_path, monkeypatch, capsys):
    def over(search, chief, note):
        raise RunFailure("over")

    monkeypatch.setattr(MNIST, "notes", lambda self: ["3 pictures were left out"])
    monkeypatch.setattr(workers, "lead_here", over)
    with pytest.raises(RunFailure, match="over"):
        tune("mnist_mlp", *TINY, "model.units=in:8,16", run=tmp_path / "a")
    assert "\n3 pictures were left out\n" in capsys.readouterr().err
    Progress(Search.open(tmp_path / "a")).quiet().note(told({"train": {4: "torn"}}))
    said = "unreadable records left out: 1 of train; the first: torn"
    assert capsys.readouterr().err == f"  {said}\n"


def test_hyperband_promotes_past_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(
        trials, "_completed", failing(None, ValueError("1"), ValueError("2"), None, ValueError("3"))
    )
    chief = go(
        begin(
            tmp_path / "a",
            "tune.algorithm=hyperband",
            "tune.trials=13",
            "tune.finalists=0",
            "tune.baseline=false",
        )
    )
    promoted = [
        values["tuner/trial_id"]
        for trial, values in chief.values.items()
        if "tuner/trial_id" in values
    ]
    assert len(promoted) == 4 and all(
        chief.outcomes[trial]["status"] == "completed" for trial in promoted
    )


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
    assert [outcome["status"] for outcome in ends] == ["completed", "failed"] and ends[1][
        "reason"
    ].startswith("diverged: ")
    page = (search.path / "report.html").read_text()
    assert "diverged" in page and "failed" in page


def test_a_trial_that_the_system_kills(tmp_path):
    """Its process is killed whenever it trains for long.

    Recorded with its reason, and the search goes on.
    """
    killed, over = [], threading.Event()

    def command(pid):
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""  # as of a process that is dead and not yet waited for

    def kill():
        log = tmp_path / "a" / "trials" / "0001" / "metrics.jsonl"
        while not over.wait(0.02):
            if log.exists() and not (tmp_path / "a" / "outcomes" / "0001.json").exists():
                for pid in [pid for pid in children(os.getpid()) if b"--worker" in command(pid)]:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    while command(pid):
                        over.wait(0.001)
                log.unlink()  # by now nobody writes it anew but the next process

    settings = [
        "train.evaluate_every=10",
        "tune.algorithm=grid",
        "tune.finalists=0",
        "tune.baseline=false",
    ]
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        search = tune("mnist_mlp", "train.length=in:10,99999999,20", *settings, run=tmp_path / "a")
    finally:
        over.set()
        killer.join()
    ends = {line["trial"]: line["outcome"] for line in search.journal() if line["event"] == "end"}
    assert [ends[trial]["status"] for trial in sorted(ends)] == ["completed", "failed", "completed"]
    assert ends["0001"]["reason"].startswith(
        "its process was ended by signal 9, 2 times, probably because memory ran out."
    )
    assert "train.length=99999999" in ends["0001"]["settings"] and len(set(killed)) == 2


def test_a_full_disk_is_no_failure_of_the_trial(tmp_path, monkeypatch):
    search = begin(tmp_path / "a", "tune.trials=3", "tune.finalists=0", "tune.baseline=false")
    full = OSError(errno.ENOSPC, "No space left on device")
    for error in (files.disk_failure(tmp_path / "x", 9, full), full):
        monkeypatch.setattr(trials, "_completed", failing(error))
        with pytest.raises(DiskFull, match="the disk or quota is full.*Free some space"):
            go(search)
        assert search.outcome("0000") is None
    assert [outcome["status"] for outcome in go(search).outcomes.values()] == ["completed"] * 3


def test_a_chief_that_cannot_write_ends_the_search(tmp_path, monkeypatch):
    """A proposal that was not written down is not handed out, nor is one after it, until the search
    is resumed.
    """
    monkeypatch.setattr(trials, "_completed", failing())
    settings = ["tune.trials=4", "tune.finalists=0", "tune.baseline=false"]
    search, idle = (
        begin(tmp_path / "a", *settings),
        [
            sys.executable,
            "-c",
            "import time; time.sleep(99)",
        ],
    )
    chief, record, processes = Chief(search, 9), search.record, []

    def full(event, **values):
        if values.get("trial") == "0002":
            raise files.disk_failure(search.path, 9, OSError(errno.ENOSPC, ""))
        record(event, **values)

    monkeypatch.setattr(search, "record", full)
    for _ in range(2):
        with pytest.raises(DiskFull):
            trials.work(search, chief, "worker0", silent, lambda *_: None)
    monkeypatch.setattr(
        workers, "_start", lambda *_: processes.append(subprocess.Popen(idle)) or processes[-1]
    )
    with pytest.raises(DiskFull):
        workers.lead_here(search, chief, print)
    assert [process.returncode for process in processes] == [-signal.SIGKILL]
    monkeypatch.setattr(search, "record", record)
    assert go(search).values == go(begin(tmp_path / "whole", *settings)).values
