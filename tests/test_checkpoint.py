"""Checkpoints: exact resume at any step and after any kill.

Damage is found, named and passed over; nothing old is lost.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from training import FACTS, LOUD, Silent, assert_equal, make, run_to, values

from tfbig.core import files
from tfbig.core.errors import DiskFull, NonFinite, RunFailure, UserError
from tfbig.core.run import Run
from tfbig.core.workers import cores
from tfbig.engine import checkpoint, machine
from tfbig.engine.setup import Setup
from tfbig.engine.trained import load_step

pytestmark = pytest.mark.long

# Resume


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["train.ema=0.9", "optim.optimizer=adamw"],
        ["device.precision=float16", "train.accumulate=2", "model.units=16"],
        ["device.jit=true"],
    ],
)
def test_resume_is_exact_at_any_step(tmp_path, settings):
    whole, state, told = run_to(tmp_path / "whole", 31, *LOUD, *settings)
    for length in (4, 9, 23, 31):  # stopped there, then started anew with a longer length
        part, resumed, _ = run_to(tmp_path / "parts", length, *LOUD, *settings)
    assert_equal(whole, part)
    assert state.best["value"] >= 0 and resumed.step == 31


@pytest.mark.parametrize("recipe", ["mnist_cnn", "mnist_lstm", "mnist_vit"])
def test_resume_is_exact_for_other_models(tmp_path, recipe):
    settings = [
        "train.batch_size=16",
        "train.evaluate_every=50",
        "train.save_every=5",
        "optim.schedule=constant",
        "optim.warmup=0",
    ]
    small = {
        "mnist_cnn": ["model.filters=4,4"],
        "mnist_lstm": ["model.units=8"],
        "mnist_vit": ["model.width=8", "model.depth=1"],
    }[recipe]
    whole, _, _ = run_to(tmp_path / "whole", 8, *settings, *small, recipe=recipe)
    for length in (5, 8):
        part, _, _ = run_to(tmp_path / "parts", length, *settings, *small, recipe=recipe)
    assert_equal(whole, part)


THREADS = """
import sys, tfbig
settings = ("model.filters=8,16", "optim.warmup=0", "optim.schedule=constant",
            "train.evaluate_every=50", "train.final_split=none", "data.validation=64")
for number, length in enumerate(sys.argv[2:]):
    tfbig.train("mnist_cnn", *settings, f"train.length={length}", run=f"{sys.argv[1]}/{number}")
if not sys.argv[2:]:
    tfbig.train(None, "train.length=6", resume=f"{sys.argv[1]}/1")
"""


def test_resume_is_exact_with_other_cores(tmp_path):
    """How sums are split depends on the number of threads, which therefore stays what it was.

    Where another one is asked for, it is said.
    """

    def call(*lengths, **variables):
        command = [sys.executable, "-c", THREADS, str(tmp_path), *lengths]
        done = subprocess.run(
            command,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **variables},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    call("6", "3", TF_NUM_INTRAOP_THREADS="3")
    before = checkpoint.newest_state(tmp_path / "1" / "checkpoints")[1]["machine"]
    assert before == {"device": "CPU", "threads": 3, "workers": 1}
    told = call()
    assert ("computed with 3 threads on" in told) == (
        cores() != 3
    ) and "until now it was" not in told
    for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER):
        whole, part = (
            (tmp_path / run / "checkpoints" / checkpoint.folder_name(6) / name).read_bytes()
            for run in "01"
        )
        assert whole == part
    assert machine.changes(before, {**before, "threads": 2, "workers": 2}) == [
        "until now it was computed with threads 3, now 2; workers 1, now 2: it goes on equal but"
        " for rounding, not to the last bit"
    ]
    assert machine.changes({}, before) == machine.changes(before, before) == []


KILLED = """
import sys, tfbig
if __import__("os").path.exists(sys.argv[1]):
    tfbig.train(resume=sys.argv[1])
else:
    tfbig.train("mnist_mlp", *sys.argv[2:], run=sys.argv[1])
"""


def test_kill_at_random_moments(tmp_path):
    """Killed by SIGKILL again and again, some of the time inside a checkpoint write, a run still
    ends bit-equal.
    """
    settings = [
        *LOUD[:4],
        "train.length=300",
        "train.save_every=2",
        "train.evaluate_every=100",
        "train.final_split=none",
        "device.jit=false",
    ]
    whole, dice = tmp_path / "whole", random.Random(4)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}

    def command(path):
        return [sys.executable, "-c", KILLED, str(path), *settings]

    subprocess.run(command(whole), check=True, env=environment, capture_output=True)
    path, kills = tmp_path / "killed", 0
    for attempt in range(12):
        process = subprocess.Popen(
            command(path),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        seen = max(checkpoint.steps(path / "checkpoints"), default=-1)
        while process.poll() is None and attempt < 4:
            now = max(checkpoint.steps(path / "checkpoints"), default=-1)
            writing = list((path / "checkpoints").glob(".*.tmp")) if attempt % 2 else True
            if now > seen + dice.randint(2, 40) and writing:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        _, err = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -9, err
    assert kills >= 2
    names = [
        checkpoint.folder_name(300) + "/" + name
        for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER)
    ]
    for name in names:
        assert (path / "checkpoints" / name).read_bytes() == (
            whole / "checkpoints" / name
        ).read_bytes()
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line["step"] for line in lines if line["kind"] == "evaluation"]
    assert evaluations == [100, 200, 300] and [line["step"] for line in lines] == sorted(
        line["step"] for line in lines
    )


# Checkpoints


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    return folder, run_to(folder, 30, "train.evaluate_every=10", "train.keep=3")[0]


@pytest.fixture
def saved(trained, tmp_path):
    """Checkpoints of steps 10, 20 and 30, a copy to be damaged, and the setup at step 30."""
    folder, setup = trained
    shutil.copytree(folder, tmp_path / "checkpoints")
    last = folder / checkpoint.folder_name(30)
    checkpoint.load(last, setup.files)
    return tmp_path / "checkpoints", setup


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "torn":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["torn", "flipped", "empty", "missing"])
@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE])
def test_damage_is_found_named_and_passed_over(saved, name, how):
    folder, setup = saved
    damage(folder / checkpoint.folder_name(30) / name, how)
    notes = []
    found = checkpoint.newest_intact(folder, setup.files, notes.append)
    assert found["step"] == 20 and len(notes) == 1 and name in notes[0] and "step 30" in notes[0]


def test_run_goes_on_from_the_one_before_and_ends_equal(saved):
    folder, setup = saved
    damage(folder / checkpoint.folder_name(30) / checkpoint.WEIGHTS, "flipped")
    again, state, observer = run_to(folder, 30, "train.evaluate_every=10", "train.keep=3")
    assert state.step == 30 and "passed over" in observer.notes[0]
    assert_equal(setup, again)
    assert checkpoint.load(folder / checkpoint.folder_name(30), again.model_files)["step"] == 30


def test_nothing_intact_is_an_error(saved):
    folder, setup = saved
    for step in checkpoint.steps(folder):
        damage(folder / checkpoint.folder_name(step) / checkpoint.STATE, "torn")
    with pytest.raises(UserError, match="none of its 3 checkpoints is intact"):
        checkpoint.newest_intact(folder, setup.model_files)


def test_other_model_is_refused_and_nothing_changes(saved):
    folder, _ = saved
    other = Setup(make("model.units=64"), FACTS)
    before = values(other)
    with pytest.raises(UserError, match="belongs to another model"):
        checkpoint.newest_intact(folder, other.files)
    for a, b in zip(before, values(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("fail_at", range(3))
def test_full_disk_leaves_the_old_checkpoints(saved, monkeypatch, fail_at):
    folder, setup = saved
    real, calls = files.write_synced, itertools.count()

    def full(path, payload):
        if next(calls) == fail_at:
            path.write_bytes(payload[: len(payload) // 2])
            raise OSError(28, "No space left on device")
        real(path, payload)

    monkeypatch.setattr(files, "write_synced", full)
    with pytest.raises(RunFailure, match="could not be written, the disk or quota is full"):
        checkpoint.save(
            folder,
            40,
            setup.files,
            {"best": None, "evaluations": []},
        )
    assert checkpoint.steps(folder) == [10, 20, 30] and not list(folder.glob(".*"))
    assert checkpoint.newest_intact(folder, setup.model_files)["step"] == 30


@pytest.mark.parametrize(
    ("damaged", "best", "keep", "left"),
    [
        ([], 10, 2, [10, 30]),
        ([], 30, 2, [30]),
        ([], 30, 3, [20, 30]),
        ([30], 20, 2, [20, 30]),  # 20 is what training goes on from
        ([20, 30], 20, 2, [10, 20, 30]),
        ([10, 20, 30], 30, 2, [10, 20, 30]),
    ],
)
def test_room_is_made_of_nothing_that_is_needed(saved, damaged, best, keep, left):
    folder, _ = saved
    for step in (10, 20, 30):
        part = folder / checkpoint.folder_name(step)
        values = {
            name: checkpoint.read_file(part, name, checkpoint.read_state(part))
            for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER)
        }
        checkpoint.write(folder, step, values, {"best": {"step": best, "value": 0.9}})
        if step in damaged:
            damage(part / checkpoint.OPTIMIZER, "flipped")
    assert checkpoint.make_room(folder, keep, 40) == (left != [10, 20, 30])
    assert checkpoint.steps(folder) == left and not list(folder.glob(".*"))


@pytest.mark.parametrize(("room", "left"), [(3.1, [30, 40]), (1.1, None)])
def test_on_a_disk_that_becomes_full_what_need_not_be_kept_goes_first(
    saved, monkeypatch, room, left
):
    """The disk has room for so many checkpoints, and three are there."""
    folder, setup = saved

    def used(folder):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    real, size = files.write_synced, room * used(folder / checkpoint.folder_name(30))

    def limited(path, payload):
        if used(folder) + len(payload) > size:
            raise OSError(28, "No space left on device")
        real(path, payload)

    monkeypatch.setattr(files, "write_synced", limited)
    kept = sorted({30, checkpoint.read_state(folder / checkpoint.folder_name(30))["best"]["step"]})
    writer = checkpoint.Writer(folder, 2)
    writer.save(40, setup.files, {"best": {"step": 40, "value": 1.0}})
    with contextlib.nullcontext() if left else pytest.raises(DiskFull):
        writer.wait()
    assert checkpoint.steps(folder) == (left or kept)
    assert checkpoint.newest_intact(folder, setup.model_files)["step"] == (40 if left else 30)


@pytest.mark.parametrize(("wanted", "found"), [("best", 40), ("last", 40), ("10", None)])
def test_what_is_removed_while_it_is_loaded_is_chosen_anew(saved, monkeypatch, wanted, found):
    """The run is trained by another process.

    As the evaluation loads a checkpoint, a better one comes and the others go.
    """
    folder, setup = saved
    run, observer, real = Run(folder.parent), Silent(), checkpoint.load

    def meanwhile(*arguments):
        monkeypatch.setattr(checkpoint, "load", real)
        checkpoint.save(
            folder,
            40,
            setup.files,
            {"best": {"step": 40, "value": 1.0}},
        )
        checkpoint.prune(folder, 1, 40, 40)
        return real(*arguments)

    monkeypatch.setattr(checkpoint, "load", meanwhile)
    with (
        contextlib.nullcontext()
        if found
        else pytest.raises(
            UserError, match="step: expected best, last or one of 40. Received: '10'"
        )
    ):
        assert load_step(setup, run, wanted, observer) == found
    assert not observer.notes


def test_what_is_replaced_while_it_is_loaded_is_loaded_anew(saved, monkeypatch):
    folder, setup = saved
    real = checkpoint.read_state

    def meanwhile(part):
        state = real(part)
        monkeypatch.setattr(checkpoint, "read_state", real)
        setup.model.layers[-1].bias.assign(np.ones(10))
        checkpoint.save(folder, 30, setup.files, {"best": None})
        setup.model.layers[-1].bias.assign(np.zeros(10))
        return state  # of what was there before

    observer, part = Silent(), folder / checkpoint.folder_name(30)
    monkeypatch.setattr(checkpoint, "read_state", meanwhile)
    assert load_step(setup, Run(folder.parent), "last", observer) == 30 and not observer.notes
    assert setup.model.layers[-1].bias.numpy().tolist() == [1.0] * 10 and part.is_dir()


def test_size_limit_of_the_system(tmp_path):
    """A real limit, not a pretended one: the system refuses to write files beyond 200 kB."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));from tfbig import train;"
        " sys.exit(train.main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "mnist_mlp",
        "train.length=20",
        f"run={tmp_path / 'run'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (
        done.returncode == 1
        and "could not be written, the disk or quota is full" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_a_late_failure_is_told_beside_another(saved, monkeypatch):
    """The disk is full while a checkpoint is written beside training, and then the loss is lost.

    Both are said, and nothing false.
    """
    folder, setup = saved
    monkeypatch.setattr(
        checkpoint,
        "write",
        lambda *arguments: (_ for _ in ()).throw(RunFailure("the disk is full")),
    )
    with (
        pytest.raises(RunFailure, match="lost\nthe disk is full"),
        checkpoint.Writer(folder, 3) as writer,
    ):
        writer.save(40, setup.files, {"best": None})
        raise NonFinite("lost")
    assert writer.durable == 30
    with (
        pytest.raises(RunFailure, match="^the disk is full$"),
        checkpoint.Writer(folder, 3) as writer,
    ):
        writer.save(40, setup.files, {"best": None})


def test_strange_folders_among_checkpoints_are_left_alone(saved):
    folder, setup = saved
    (folder / "7").mkdir()
    assert checkpoint.steps(folder) == [10, 20, 30]
    checkpoint.prune(folder, 1, None, 30)
    assert checkpoint.steps(folder) == [30] and (folder / "7").is_dir()


def test_damaged_checkpoints_do_not_push_out_the_one_that_training_goes_on_from(saved):
    """Those of steps 20 and 30 were passed over; what was saved after that is kept."""
    folder, _ = saved
    checkpoint.prune(folder, 1, None, 10)
    assert checkpoint.steps(folder) == [10, 20, 30]


def test_weights_that_are_not_finite_are_not_saved(saved):
    folder, setup = saved
    setup.model.layers[-1].bias.assign(np.full(10, np.nan))
    with pytest.raises(NonFinite, match="head/bias is no longer finite"):
        checkpoint.save(
            folder, 40, {**setup.files, checkpoint.OPTIMIZER: []}, {"best": None, "evaluations": []}
        )
    assert checkpoint.steps(folder) == [10, 20, 30]


def test_best_and_latest_are_kept(tmp_path):
    setup, state, _ = run_to(tmp_path, 100, "train.evaluate_every=10", "train.keep=2")
    assert checkpoint.steps(tmp_path) == sorted({state.best["step"], 90, 100})
