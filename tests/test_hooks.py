"""Keras callbacks in the loop.

When they are called, what they remember, and that a resumed run goes on with it exactly.
"""

import contextlib
import gc
import io
import math
import os
import signal
import time
import types
from collections import deque

import keras
import numpy as np
import pytest
import tensorflow as tf
from training import FACTS, LOUD, Silent, assert_equal, make

import tfbig
from tfbig.core import interrupt
from tfbig.core.errors import Terminated, UserError
from tfbig.core.lazy import quiet_start
from tfbig.deploy import onnx_format
from tfbig.engine import loop, plain
from tfbig.engine.setup import Setup
from tfbig.models.mlp import MLP


class Diary(keras.callbacks.Callback):
    """Remembers values of every plain kind, and steers training by them."""

    def __init__(self, factor=0.9):
        super().__init__()
        self.factor, self.seen, self.best, self.weights = factor, [], math.inf, {}
        self.begun, self.kinds = 0, ()

    def on_epoch_begin(self, epoch, logs=None):
        self.begun += 1

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((epoch, logs["val_loss"]))
        self.best = min(self.best, logs["val_loss"])
        self.weights[epoch % 2] = self.model.get_weights()[-1]
        self.kinds = ({1, "a"}, np.float32(0.1), -math.inf, None, True)
        self.model.optimizer.learning_rate = (
            self.model.optimizer.learning_rate * self.factor ** len(self.seen)
        )


def callbacks():
    return (
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.2),
        keras.callbacks.EarlyStopping("val_loss", patience=50, restore_best_weights=True),
        keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=40, start_from_epoch=1),
        Diary(),
    )


def trained(folder, length, given):
    setup, observer = Setup(make(*LOUD, f"train.length={length}"), FACTS), Silent()
    state = loop.train(setup, folder, observer, given)
    return setup, state, observer


def remembered(callback):
    return {
        name: value
        for name, value in vars(callback).items()
        if name not in ("_model", "params", "_params", "monitor_op")
    }


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        a, b = list(a.values()), list(b.values())
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        np.testing.assert_array_equal(a, b)


def test_resume_with_callbacks_is_exact(tmp_path):
    """Stopped at an evaluation (27) and between two of them, which are 9 steps apart."""
    once, again = callbacks(), None
    whole, _, _ = trained(tmp_path / "whole", 54, once)
    for step in (14, 23, 27, 40, 54):
        again = callbacks()
        part = interrupted(tmp_path / "parts", step, again)
    assert_equal(whole, part)
    for a, b in zip(once, again, strict=True):
        assert_same(remembered(a), remembered(b))
    assert once[3].begun == 6 and len(once[3].seen) == 6
    assert float(whole.optimizer.learning_rate.numpy()) < 0.5 * 0.01  # they did steer


def interrupted(folder, step, given):
    """A run of 54 steps that is asked to stop at `step`, as Ctrl-C does."""
    setup, observer = Setup(make(*LOUD, "train.length=54", "device.block=1"), FACTS), Silent()
    agree = setup.workers.agree

    def stop(count, received):
        reached = int(setup.optimizer.iterations.numpy())
        return agree(count, 2 if reached >= step and step < 54 else received)

    setup.workers.agree = stop
    if step < 54:
        with pytest.raises(loop.Interrupted):
            loop.train(setup, folder, observer, given)
    else:
        loop.train(setup, folder, observer, given)
    return setup


def test_patience_that_is_new_counts_from_what_was_measured(tmp_path):
    """So does that of a checkpoint from before callbacks were saved."""
    never = (keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=3, min_delta=1.0),)
    assert trained(tmp_path / "patience", 54, ())[1].step == 54
    assert trained(tmp_path / "patience", 90, never)[1].step == 54


def test_settings_are_those_of_the_new_callbacks(tmp_path):
    def never(patience):
        return (
            keras.callbacks.EarlyStopping(
                "val_accuracy", mode="max", patience=patience, min_delta=1.0
            ),
        )

    steps = [trained(tmp_path / "patience", 90, never(patience))[1].step for patience in (3, 3, 5)]
    assert steps == [36, 36, 54]
    slow, steep = Diary(0.9), Diary(0.5)
    trained(tmp_path / "other", 18, (slow,))
    trained(tmp_path / "other", 27, (steep,))
    assert steep.factor == 0.5 and len(steep.seen) == 3


def test_what_cannot_be_saved_is_said_once(tmp_path):
    class Writes(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.log, self.count, self.rule = io.StringIO(), 0, lambda x: x

        def on_epoch_end(self, epoch, logs=None):
            self.count += 1
            self.log.write("x")

    _, _, observer = trained(tmp_path, 18, (Writes(),))
    assert [note for note in observer.notes if "cannot be saved" in note] == [
        "callback Writes: its attribute log cannot be saved (expected numbers, text, arrays, and"
        " lists or dicts of them; received StringIO), so a resumed run has it as new"
    ]
    writes = Writes()
    _, _, observer = trained(tmp_path, 27, (writes,))
    assert writes.count == 3 and writes.log.getvalue() == "x"
    _, _, observer = trained(tmp_path, 36, ())
    assert observer.notes == [
        "callback Writes was there when the checkpoint was written and is not now: what it"
        " remembered is dropped"
    ]


def test_what_is_no_callback_is_refused(tmp_path):
    with pytest.raises(
        UserError, match="callbacks: expected keras.callbacks.Callback objects. Received: 1."
    ):
        tfbig.train("mnist_mlp", "train.length=2", run=tmp_path / "a", callbacks=[1])
    assert not (tmp_path / "a").exists()


def test_ctrl_c_while_the_model_is_built_is_not_lost(tmp_path, monkeypatch):
    """Native code that calls Python turns what is raised there into errors of its own, or drops
    it.
    """
    build = MLP.build

    def interrupted(self, spec):
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGINT)
        return build(self, spec)

    monkeypatch.setattr(MLP, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tfbig.train("mnist_mlp", "train.length=2", run=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_ctrl_c_that_a_converter_passes_over_is_not_lost(tmp_path, monkeypatch):
    tf2onnx = pytest.importorskip("tf2onnx")

    def convert(*given, **options):
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGINT)
        return None, None

    monkeypatch.setattr(tf2onnx.convert, "from_function", convert)
    program = types.SimpleNamespace(structured_input_signature=((), {}))
    with pytest.raises(KeyboardInterrupt):
        onnx_format.write(types.SimpleNamespace(traced=program), tmp_path / "model.onnx", {})


class Parting:
    """Says goodbye with a signal."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


def collect():
    def callback(phase, info):
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), signal.SIGINT)

    gc.callbacks.append(callback)
    while callback in gc.callbacks:  # `collect` does nothing while another thread collects
        gc.collect()


@pytest.mark.parametrize(("lose", "error"), [(Parting, Terminated), (collect, KeyboardInterrupt)])
def test_signals_whose_exceptions_python_drops_come_again(lose, error):
    with pytest.raises(error) as caught, interrupt.raise_signals():
        lose()
        for _ in range(3000):  # short ones: a signal that comes just before a sleep does not end it
            time.sleep(0.01)
    assert caught.type is error and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_is_remembered_is_answered_at_once(capfd):
    with interrupt.watch_signals() as signals, quiet_start():
        os.kill(os.getpid(), signal.SIGTERM)
        assert (
            signals.received == signal.SIGTERM
            and capfd.readouterr().err == "stopping; a second signal ends it at once\n"
        )


def test_damaged_memory_is_passed_over(tmp_path):
    trained(tmp_path, 18, callbacks())
    (path,) = (tmp_path / "000000018").glob("callbacks.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    _, _, observer = trained(tmp_path, 27, callbacks())
    assert "callbacks.safetensors: torn" in observer.notes[0]


def test_plain_values():
    array = np.arange(6, dtype=np.int16).reshape(2, 3).T
    value = {
        "a": [1, 2.5, (True, None, {"x"}, frozenset([1]))],
        (1, 2): {"": math.inf},
        3: array,
        "s": np.float64(-0.0),
        "e": [{}, ()],
    }
    arrays = {}
    packed = plain.pack(value, arrays, "n")
    assert_same(value, plain.unpack(packed, arrays))
    array[0, 0] = 99
    assert plain.unpack(packed, arrays)[3][0, 0] == 0  # it was copied
    loop_ = []
    loop_.append(loop_)
    for wrong in (
        object(),
        deque(),
        tf.constant(1),
        np.array(["a"]),
        np.array([None]),
        1j,
        loop_,
        {"a": {1: io.BytesIO()}},
    ):
        with pytest.raises(TypeError):
            plain.pack(wrong, {}, "")


def test_time_is_that_of_all_parts(tmp_path):
    settings = ("train.evaluate_every=10", "train.final_split=none", "data.validation=500")
    run = tfbig.train("mnist_mlp", "train.length=20", *settings, run=tmp_path / "run")
    first = run.read_json("summary.json")
    tfbig.train(None, "train.length=30", resume=run.path)
    second = run.read_json("summary.json")
    assert (
        first["parts"] == 1 and second["parts"] == 2 and second["seconds"] > first["seconds"] + 0.01
    )
    assert "in 2 parts" in (run.path / "report.html").read_text()
