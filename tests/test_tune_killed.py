"""Searches as processes, killed with SIGKILL.

Alone at twenty random moments, a worker of two, their chief; and a worker that hangs. Minutes; run
with -m slow.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from searches import children

from tfbig.tuning.search import Search

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SPACE = ["optim.learning_rate=log:1e-3..1e-1", "model.units=in:16,24", "model.dropout=lin:0..0.5"]
SHORT = ["train.length=60", "train.evaluate_every=20", "train.save_every=10", "tune.finalists=0"]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tfbig.tune", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*arguments):
    process = start(*arguments)
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out
    return out


def story(path):
    kept = [line for line in Search(path).journal() if line["event"] in ("start", "end")]
    return [
        (line["event"], line["trial"], line.get("values"), line.get("outcome", {}).get("metrics"))
        for line in kept
    ]


def wait_for(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_twenty_kills(tmp_path):
    """The same trials with the same scores as the search that was left alone.

    None trained twice, none lost.
    """
    settings = [
        "mnist_mlp",
        *SPACE,
        *SHORT,
        "tune.algorithm=hyperband",
        "tune.factor=2",
        "tune.trials=12",
    ]
    finish(*settings, f"run={tmp_path / 'whole'}")
    torn, rng, kills = tmp_path / "torn", random.Random(7), 0
    process = start(*settings, f"run={torn}")
    while kills < 20:
        try:
            process.wait(rng.uniform(4, 16))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        ended = (
            [trial for event, trial, *_ in story(torn) if event == "end"]
            if (torn / "search.json").exists()
            else []
        )
        assert len(ended) == len(set(ended))
        kills += 1
        process = (
            start("--resume", torn)
            if (torn / "search.json").exists()
            else start(*settings, f"run={torn}")
        )
    process.communicate(timeout=900)
    assert process.returncode == 0 and story(torn) == story(tmp_path / "whole")


def test_a_worker_and_then_the_chief(tmp_path):
    path = tmp_path / "a"
    process = start("mnist_mlp", *SPACE, *SHORT, "tune.trials=8", "tune.workers=2", f"run={path}")
    wait_for(
        lambda: (
            (path / "journal.jsonl").exists()
            and sum(event == "end" for event, *_ in story(path)) >= 1
        )
    )
    before = children(process.pid)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(children(process.pid)) == 2 and children(process.pid) != before)
    workers = children(process.pid)
    done = sum(event == "end" for event, *_ in story(path))
    wait_for(lambda: sum(event == "end" for event, *_ in story(path)) > done)
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    assert "was ended by signal 9 while training trial" in out and "it is started again" in out
    # Workers do not outlive their chief
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 30)
    finish("--resume", path)
    ended = [trial for event, trial, *_ in story(path) if event == "end"]
    assert sorted(ended) == [
        "0000",
        "0001",
        "0002",
        "0003",
        "0004",
        "0005",
        "0006",
        "0007",
        "baseline",
    ]
    assert json.loads((path / "best.json").read_text())["test"]["accuracy"]["values"]


def test_a_worker_that_hangs(tmp_path):
    """Stopped, alive and with its run locked.

    After a while it is replaced, and the trial trained.
    """
    path = tmp_path / "a"
    process = start("mnist_mlp", *SPACE, *SHORT, "tune.trials=4", "tune.workers=2", f"run={path}")
    wait_for(
        lambda: (
            (path / "journal.jsonl").exists()
            and sum(event == "end" for event, *_ in story(path)) >= 1
        )
    )
    stuck = children(process.pid)[0]
    os.kill(stuck, signal.SIGSTOP)
    out, _ = process.communicate(timeout=600)
    assert (
        process.returncode == 0
        and "was not heard from for 60 s" in out
        and not Path(f"/proc/{stuck}").exists()
    )
    assert sorted(trial for event, trial, *_ in story(path) if event == "end") == [
        "0000",
        "0001",
        "0002",
        "0003",
        "baseline",
    ]
    assert all(
        json.loads(line.read_text())["status"] == "completed"
        for line in path.glob("outcomes/*.json")
    )


def test_ctrl_c_keeps_everything(tmp_path):
    path = tmp_path / "a"
    process = start("mnist_mlp", *SPACE, *SHORT, "tune.trials=3", f"run={path}")
    wait_for(
        lambda: (
            (path / "journal.jsonl").exists()
            and sum(event == "end" for event, *_ in story(path)) >= 1
        )
    )
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and f"python -m tfbig.tune --resume {path}" in out
        and "Traceback" not in out
    )
    finish("--resume", path)
    assert len([1 for event, *_ in story(path) if event == "end"]) == 4
