"""Plans: arithmetic against hand-made figures, a short try, and mistakes."""

import json
import re

import keras
import pytest
from training import FACTS, make

from tfbig import plan
from tfbig.core.errors import UserError
from tfbig.engine import plan as engine
from tfbig.engine.flops import forward_flops
from tfbig.engine.hardware import HARDWARE, Hardware, named
from tfbig.engine.setup import Setup, evaluation_batch


def setup(*settings, recipe="mnist_mlp"):
    return Setup(make(*settings, recipe=recipe), FACTS)


def test_recurrence_counts_each_step_whatever_state_it_begins_with():
    given = keras.Input((None, 3))
    read, *states = keras.layers.Bidirectional(keras.layers.GRU(5, return_state=True))(given)
    written = keras.layers.LSTM(4)(given, initial_state=[keras.layers.Dense(4)(read)] * 2)
    reading, writing = 2 * (2 * 3 * 5 * (3 + 5)), 2 * 4 * 4 * (3 + 4)
    short, long = (forward_flops(keras.Model(given, [written, *states]), n) for n in (3, 7))
    assert long - short == 4 * (reading + writing)


def test_what_a_model_takes():
    found = engine.describe(setup())
    forward, values = 2 * (784 * 128 + 128 * 10), 784 * 128 + 128 + 128 * 10 + 10
    assert (
        found["forward_flops_per_example"] == forward
        and found["flops_per_step"] == 3 * 64 * forward
    )
    assert found["parameters"] == values and found["weights_mb"] == pytest.approx(
        4e-6 * values, abs=0.01
    )
    assert found["optimizer_mb"] == pytest.approx(found["weights_mb"], abs=0.01)  # momentum
    outputs = 784 + 128 + 128 + 10  # input (flatten shares its memory), dense, activation, head
    assert found["activations_mb"] == pytest.approx(4e-6 * 64 * outputs, abs=0.01)
    assert (found["steps"], found["epochs"]) == (8594, 10.0)


def test_what_saves_memory():
    plain, parts, half, adam = (
        engine.describe(setup(*settings))
        for settings in (
            (),
            ["train.accumulate=4"],
            ["device.precision=bfloat16"],
            ["optim.optimizer=adam", "optim.momentum=none"],
        )
    )
    deep = ("model.units=64,64,64,64,64,64,64,64", "model.dropout=0.1")
    kept, again = (
        engine.describe(setup(*deep, f"train.remat={remat}"))["activations_mb"]
        for remat in ("false", "true")
    )
    assert again < 0.75 * kept
    assert parts["activations_mb"] == pytest.approx(plain["activations_mb"] / 4, abs=0.02)
    # Input and head stay float32
    assert half["activations_mb"] == pytest.approx(
        plain["activations_mb"] - 2e-6 * 64 * (128 + 128), abs=0.02
    )
    assert adam["optimizer_mb"] == pytest.approx(2 * plain["optimizer_mb"], abs=0.02)


def test_by_arithmetic():
    wide = ("model.units=3000,3000", "train.batch_size=4096")
    found = engine.by_arithmetic(setup(*wide), HARDWARE["a100"])
    work = found["steps"] * found["flops_per_step"] + 10 * 5000 * found["forward_flops_per_example"]
    assert (
        found["seconds"] == pytest.approx(work / (156e12 * engine.UTILISATION), abs=0.01)
        and found["fits"]
        and not found["advice"]
    )
    large = engine.by_arithmetic(
        setup("model.units=3000,3000", "optim.optimizer=adam", "optim.momentum=none"),
        Hardware("small", 1, 2, 0.1, "none"),
    )
    assert not large["fits"] and large["advice"][0].startswith("device.precision=bfloat16")


def test_no_step_is_quicker_than_its_operations_start():
    found = engine.by_arithmetic(setup(), HARDWARE["a100"])
    # Dense, activation, head: forward and twice backward; two weights and two biases
    operations = 3 * 3 + 4
    assert found["least_step_ms"] == pytest.approx(0.050 + 0.004 * operations)
    batches = -(-5000 // evaluation_batch(make()))
    expected = 8594 * (50e-6 + operations * 4e-6) + 10 * batches * (50e-6 + 3 * 4e-6)
    assert found["seconds"] == pytest.approx(expected, abs=0.01)
    split = engine.by_arithmetic(setup("train.accumulate=4"), HARDWARE["a100"])
    assert split["least_step_ms"] == pytest.approx(0.050 + 0.004 * (4 * 9 + 4))
    recurrent = engine.by_arithmetic(setup(recipe="mnist_lstm"), HARDWARE["a100"])
    # The rows of a picture, and the head; kernel, recurrent kernel, bias, and the head's two
    moments = 3 * (28 + 1) + 5
    assert recurrent["least_step_ms"] == pytest.approx(0.050 + 0.004 * moments)


def test_hardware_is_known_by_the_ways_to_write_its_name():
    assert named("RTX 4090") is HARDWARE["rtx4090"] and named("TPU-v5e") is HARDWARE["tpu_v5e"]
    assert named("NVIDIA B200") is HARDWARE["b200"] and all(
        named(key) is each for key, each in HARDWARE.items()
    )
    for wrong, meant in (("gb200", "b200"), ("a100-80gb", "a100"), ("h10", "h100")):
        with pytest.raises(
            UserError,
            match=rf"expected one of cpu, t4.* Received: '{wrong}'. Did you mean {meant}\?",
        ):
            named(wrong)


def test_a_short_try():
    found = engine.finite(engine.by_trying(setup("device.block=20")))
    expected = found["prepare_seconds"] + found["compile_seconds"] + 8594e-3 * found["step_ms"]
    assert found["seconds"] > expected and found["examples_per_s"] == pytest.approx(
        64e3 / found["step_ms"], rel=0.01
    )
    assert json.loads(json.dumps(found)) == found and "time" in plan.show(found)


def test_door(capsys):
    assert plan.main(["mnist_cnn", "--hardware", "h100", "--price", "3.5"]) == 0
    out = capsys.readouterr().out
    assert "NVIDIA H100 SXM" in out and "35% of 494 TFLOP/s" in out and "for it" in out
    assert plan.main(["mnist_mlp", "--hardware", "CPU", "--price", "1"]) == 0
    out = capsys.readouterr().out
    cost = float(re.search(r"([0-9.]+) for it", out)[1])
    seconds = float(re.search(r"time +([0-9.]+) s", out)[1])
    assert (
        cost == pytest.approx(seconds / 3600, rel=0.1)
        and seconds > 0
        and "waiting for memory" in out
    )
    assert (
        plan.main(["mnist_cnn", "--hardware", "h10"]) == 2
        and "Did you mean h100?" in capsys.readouterr().err
    )
    with pytest.raises(UserError, match="--price: expected more than 0"):
        plan.plan("mnist_cnn", price=-1.0)
