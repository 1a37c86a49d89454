"""Workers that train starts by itself.

And what all workers do when one of them, or what starts them, fails.
"""

import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from test_workers import BRIEF, CNN, end, loss, pid_of_worker, start_long

import tfbig
from tfbig import train
from tfbig.core.errors import RunFailure, UserError
from tfbig.engine import checkpoint, processes

pytestmark = pytest.mark.long

SMALL = (
    "mnist_mlp",
    "train.batch_size=16",
    "train.final_split=none",
    "data.validation=200",
    "device.block=5",
)
TWO = ("device.strategy=mirrored", "device.count=2")


def command(*arguments, code=0, start=("-m", "tfbig.train"), **options):
    done = subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        **options,
    )
    assert done.returncode == code, done.stderr
    return done


def alone(*arguments):
    """A training by one process, which is this one."""
    assert train.main([*map(str, arguments)]) == 0


def by_hand(arguments, count=2):
    """Workers started one by one, each with its own arguments.

    Returns (exit code, stderr) of each.
    """
    started = [
        subprocess.Popen(
            [sys.executable, *words], env={**os.environ, **own}, stderr=subprocess.PIPE, text=True
        )
        for words, own in zip(arguments, processes.environments(count), strict=True)
    ]
    said = [process.communicate(timeout=200)[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def test_same_result_and_resume(tmp_path):
    """As one process, bit-equal when repeated, and going on with another number of processes."""
    alone(*CNN, *BRIEF, "train.length=4", f"run={tmp_path / 'one'}")
    done = command(*CNN, *BRIEF, *TWO, "train.length=4", f"run={tmp_path / 'two'}", "--json")
    assert (
        json.loads(done.stdout)["workers"] == 2
        and done.stderr.count("validation:") == 1
        and "report: " in done.stderr
    )
    assert done.stderr.count(f"run: {tmp_path / 'two'}") == 1 and "[worker 1]" not in done.stderr
    command(*CNN, *BRIEF, *TWO, "train.length=3", f"run={tmp_path / 'again'}")
    command("--resume", tmp_path / "again", "train.length=4")
    alone("--resume", tmp_path / "again", "train.length=5", "device.count=1")
    one, two, again = (end(tmp_path / name, 4) for name in ("one", "two", "again"))
    for name in one:
        np.testing.assert_array_equal(two[name], again[name])
        np.testing.assert_allclose(one[name], two[name], rtol=1e-3, atol=2e-4, err_msg=name)
    assert loss(tmp_path / "one") == pytest.approx(loss(tmp_path / "two"), rel=1e-3)


@pytest.mark.slow
def test_four(tmp_path):
    for count in (1, 4):
        command(
            *CNN,
            *BRIEF,
            "device.strategy=mirrored",
            f"device.count={count}",
            "train.length=4",
            f"run={tmp_path / str(count)}",
        )
    one, four = end(tmp_path / "1", 4), end(tmp_path / "4", 4)
    for name in one:
        np.testing.assert_allclose(one[name], four[name], rtol=1e-3, atol=2e-4, err_msg=name)


def test_from_python(tmp_path):
    """What a worker says is raised here; and EarlyStopping ends all workers, which is a success."""
    settings = (
        *SMALL,
        *TWO,
        "train.evaluate_every=5",
        "train.length=200",
        "train.patience=2",
        "optim.learning_rate=1e-12",
        "optim.momentum=none",
    )
    run = tfbig.train(*settings, run=tmp_path / "early")
    summary = run.read_json("summary.json")
    assert (
        run.is_done
        and summary["stopped"] == "early"
        and summary["steps"] == 15
        and summary["workers"] == 2
    )
    with pytest.raises(
        RunFailure,
        match="step 3: the loss became nan|step 3: the loss became inf|step 2: the loss became",
    ):
        tfbig.train(
            *SMALL, *TWO, "optim.learning_rate=1e30", "train.length=200", run=tmp_path / "nan"
        )
    with pytest.raises(UserError, match="callbacks: expected none"):
        tfbig.train(*SMALL, *TWO, run=tmp_path / "callbacks", callbacks=(object(),))
    assert not (tmp_path / "callbacks").exists()


def test_callbacks_train_alone(tmp_path, monkeypatch, capsys):
    """Several accelerators, and callbacks that live in one process.

    It says that the others are not used.
    """
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    run = tfbig.train(
        *SMALL, "train.length=5", run=tmp_path / "a", callbacks=(keras.callbacks.Callback(),)
    )
    said = (
        "callbacks live in this process, so it trains alone, on one accelerator. Without callbacks,"
        " 3 accelerators would train together."
    )
    assert said in capsys.readouterr().err and run.read_json("summary.json")["workers"] == 1
    tfbig.train(
        *SMALL,
        "device.strategy=single",
        "train.length=5",
        run=tmp_path / "b",
        callbacks=(keras.callbacks.Callback(),),
    )
    assert "trains alone" not in capsys.readouterr().err


def test_how_many(monkeypatch):
    def count(*settings):
        return processes.wanted(tfbig.recipe("mnist_mlp", *settings))

    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert count() == 1 and count(*TWO) == 2
    with pytest.raises(
        UserError,
        match="device.count: expected a number of processes, as this machine has no accelerator",
    ):
        count(TWO[0])
    with pytest.raises(
        UserError, match="device.count: expected at most train.batch_size / train.accumulate = 2"
    ):
        count("train.batch_size=4", "train.accumulate=2", TWO[0], "device.count=3")
    with pytest.raises(
        UserError, match="device.count: expected with device.strategy=mirrored only"
    ):
        count("device.count=2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert (
        count(),
        count("train.batch_size=2"),
        count(TWO[0]),
        count(*TWO),
        count("device.strategy=single"),
    ) == (3, 2, 3, 2, 1)
    with pytest.raises(UserError, match="device.count: expected at most the 3 accelerators"):
        count(TWO[0], "device.count=4")
    monkeypatch.setenv("TF_CONFIG", processes.tf_config(["a:1", "a:2", "b:1"], 1))
    assert count() == 1 and tfbig.core.workers.place().neighbours == 1


def test_differences_are_refused(tmp_path):
    words = [
        [
            "-m",
            "tfbig.train",
            *SMALL,
            f"optim.learning_rate={rate}",
            "train.length=5",
            f"run={tmp_path / 'a'}",
        ]
        for rate in (0.01, 0.02)
    ]
    for code, said in by_hand(words):
        assert code == 2 and "the workers differ" in said
        assert (
            "optim.learning_rate: worker 0 0.01, worker 1 0.02" in said
            and "seed" not in said
            and "Traceback" not in said
        )


def test_nan_ends_all(tmp_path):
    words = [
        "-m",
        "tfbig.train",
        *SMALL,
        "optim.learning_rate=1e30",
        "train.length=200",
        f"run={tmp_path / 'a'}",
    ]
    for code, said in by_hand([words, words]):
        assert code == 1 and "the loss became" in said and "Traceback" not in said


def test_full_disk_of_the_chief(tmp_path):
    """A limit on the size of files stands in for a full disk."""
    start = ("-m", "tfbig.launch", "--workers", "2", "--", "train")
    shell = [
        "bash",
        "-c",
        'ulimit -f 100; exec "$@"',
        "bash",
        sys.executable,
        *start,
        *SMALL,
        "train.length=50",
        "train.save_every=5",
        f"run={tmp_path / 'a'}",
    ]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=280)
    assert (
        done.returncode == 1
        and "could not be written, the disk or quota is full" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert done.stderr.count("disk or quota is full") == 1


SCRIPT = """
import keras, sys, tfbig
class Faulty(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("of my own")
callbacks = (Faulty(),) if sys.argv[2] == "faulty" else ()
tfbig.train(*sys.argv[3:], run=sys.argv[1], callbacks=callbacks)
"""


def test_a_callback_that_raises(tmp_path):
    """In one worker: the other one notices, and names it."""
    words = [
        [
            "-c",
            SCRIPT,
            str(tmp_path / "a"),
            which,
            *SMALL,
            "train.length=500",
            "train.evaluate_every=10",
        ]
        for which in ("fine", "faulty")
    ]
    (code, said), (faulty_code, faulty_said) = by_hand(words)
    assert faulty_code == 1 and "of my own" in faulty_said
    assert code == 1 and "worker 1 (127.0.0.1:" in said and "does not answer any more" in said


def test_workers_do_not_outlive_what_started_them(tmp_path):
    path, process = start_long(tmp_path)
    workers = [pid_of_worker(path, i) for i in (0, 1)]
    process.kill()
    process.communicate(timeout=10)
    until = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert checkpoint.steps(path / "checkpoints")
