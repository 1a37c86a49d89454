"""Plans: arithmetic against hand-made figures, a short try, and mistakes."""

import json

import pytest
from training import FACTS, make

from tfbig import plan
from tfbig.core.errors import UserError
from tfbig.engine import plan as engine
from tfbig.engine.setup import Setup


def setup(*settings, recipe="mnist_mlp"):
    return Setup(make(*settings, recipe=recipe), FACTS)


def test_what_a_model_takes():
    found = engine.describe(setup())
    forward, values = 2 * (784 * 128 + 128 * 10), 784 * 128 + 128 + 128 * 10 + 10
    assert found["forward_flops_per_example"] == forward and found["flops_per_step"] == 3 * 64 * forward
    assert found["parameters"] == values and found["weights_mb"] == pytest.approx(4e-6 * values, abs=0.01)
    assert found["optimizer_mb"] == pytest.approx(found["weights_mb"], abs=0.01)  # momentum
    outputs = 784 + 128 + 128 + 10  # input (flatten shares its memory), dense, activation, head
    assert found["activations_mb"] == pytest.approx(4e-6 * 64 * outputs, abs=0.01)
    assert (found["steps"], found["epochs"]) == (8594, 10.0)


def test_what_saves_memory():
    plain, parts, half, adam = (
        engine.describe(setup(*settings)) for settings in ((), ["train.accumulate=4"], ["device.precision=bfloat16"], ["optim.optimizer=adam", "optim.momentum=none"])
    )
    deep = ("model.units=64,64,64,64,64,64,64,64", "model.dropout=0.1")
    kept, again = (engine.describe(setup(*deep, f"train.remat={remat}"))["activations_mb"] for remat in ("false", "true"))
    assert again < 0.75 * kept
    assert parts["activations_mb"] == pytest.approx(plain["activations_mb"] / 4, abs=0.02)
    assert half["activations_mb"] == pytest.approx(plain["activations_mb"] - 2e-6 * 64 * (128 + 128), abs=0.02)  # input and head stay float32
    assert adam["optimizer_mb"] == pytest.approx(2 * plain["optimizer_mb"], abs=0.02)


def test_by_arithmetic():
    found = engine.by_arithmetic(setup(), engine.HARDWARE["a100"])
    work = 8594 * found["flops_per_step"] + 10 * 5000 * found["forward_flops_per_example"]
    assert found["seconds"] == pytest.approx(work / (156e12 * engine.UTILISATION), abs=0.01) and found["fits"] and not found["advice"]
    large = engine.by_arithmetic(setup("model.units=20000,20000", "optim.optimizer=adam", "optim.momentum=none"), engine.Hardware("small", 1, 2, 4, "none"))
    assert not large["fits"] and large["advice"][0].startswith("device.precision=bfloat16")


def test_a_short_try():
    found = engine.finite(engine.by_trying(setup("device.block=20")))
    expected = found["prepare_seconds"] + found["compile_seconds"] + 8594e-3 * found["step_ms"]
    assert found["seconds"] > expected and found["examples_per_s"] == pytest.approx(64e3 / found["step_ms"], rel=0.01)
    assert json.loads(json.dumps(found)) == found and "time" in plan.show(found)


def test_door(capsys):
    assert plan.main(["mnist_cnn", "--hardware", "h100", "--price", "3.5"]) == 0
    out = capsys.readouterr().out
    assert "NVIDIA H100 SXM" in out and "35% of 494 TFLOP/s" in out and "for it" in out
    assert plan.main(["mnist_cnn", "--hardware", "CPU"]) == 0 and "a small model, which waits" in capsys.readouterr().out
    assert plan.main(["mnist_cnn", "--hardware", "h10"]) == 2 and "Did you mean h100?" in capsys.readouterr().err
    with pytest.raises(UserError, match="--price: expected more than 0"):
        plan.plan("mnist_cnn", price=-1.0)
