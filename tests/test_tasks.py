"""Every task trains, overfits one batch, repeats under one seed, resumes bit-equal and compiles."""

import numpy as np
import pytest
import tensorflow as tf
from training import Silent, assert_equal, values

import tfbig
from tfbig.core import registry
from tfbig.engine import loop
from tfbig.engine.setup import Setup

# The smallest experiment of a task; one that is not named here is tried with the first of its
# recipes.
SMALL = {
    "image_classification": (
        "mnist_mlp",
        "model.dropout=0.1",
        "task.crop_padding=1",
        "train.batch_size=16",
    ),
    "text_generation": (
        "sotu_gpt",
        "model.width=16",
        "model.depth=1",
        "model.heads=2",
        "model.dropout=0.1",
        "data=text_files",
        "data.path={folder}/prose.txt",
        "data.context=16",
        "data.tokenizer=characters",
        "train.batch_size=8",
    ),
}
BRIEF = (
    "train.evaluate_every=100",
    "train.save_every=2",
    "optim.warmup=0",
    "optim.schedule=constant",
)


def recipe_of(task):
    return next(
        name for name in registry.recipes() if registry.name_of(registry.recipe(name).task) == task
    )


@pytest.fixture(scope="module", params=list(registry.describe("tasks")))
def experiment(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "prose.txt").write_text(
        "".join(f"{i} green bottles hanging on the wall.\n\n" for i in range(400)), "utf-8"
    )
    name, *settings = (
        text.format(folder=folder)
        for text in SMALL.get(request.param) or (recipe_of(request.param),)
    )
    return lambda *more: tfbig.recipe(
        name, *{text.partition("=")[0]: text for text in (*BRIEF, *settings, *more)}.values()
    )


@pytest.fixture(scope="module")
def facts(experiment):
    return experiment().task.measure(experiment().data)


def one_batch(setup):
    slab, _ = setup.slabs.at(0)
    return {name: tf.repeat(value[:1], setup.block, axis=0) for name, value in slab.items()}


def test_overfits_one_batch(experiment, facts):
    setup = Setup(
        experiment("optim.optimizer=adam", "optim.learning_rate=3e-3", "device.block=50"), facts
    )
    batch = one_batch(setup)
    losses = [
        setup.run_block(batch, tf.constant(0), tf.constant(50))["loss"].numpy() for _ in range(6)
    ]
    assert np.isfinite(losses).all() and losses[-1][-10:].mean() < 0.1 * losses[0][0]


def test_repeats_under_one_seed(experiment, facts, tmp_path):
    first, again, other = (
        Setup(experiment("train.length=3", f"seed={seed}"), facts) for seed in (1, 1, 2)
    )
    for number, setup in enumerate((first, again, other)):
        state = loop.train(setup, tmp_path / str(number), Silent())
        assert state.step == 3 and np.isfinite(state.best["value"])
    assert_equal(first, again)
    assert any(not np.array_equal(a, b) for a, b in zip(values(first), values(other), strict=True))


def test_resumes_bit_equal(experiment, facts, tmp_path):
    whole = Setup(experiment("train.length=7"), facts)
    loop.train(whole, tmp_path / "whole", Silent())
    for length in (3, 7):
        part = Setup(experiment(f"train.length={length}"), facts)
        loop.train(part, tmp_path / "parts", Silent())
    assert_equal(whole, part)


def test_step_compiles_and_agrees(experiment, facts):
    """The step is one XLA program with static shapes, as a TPU needs it, and computes what it
    computes uncompiled.
    """
    # XLA draws other random numbers
    losses, plain = [], ["model.dropout=0"] * hasattr(experiment().model, "dropout")
    for jit in ("true", "false"):
        setup = Setup(experiment(f"device.jit={jit}", "device.block=4", *plain), facts)
        slab, _ = setup.slabs.at(0)
        losses.append(setup.run_block(slab, tf.constant(0), tf.constant(4))["loss"].numpy())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_metrics_are_per_example(experiment, facts):
    setup = Setup(experiment(), facts)
    result = setup.evaluate("validation")
    assert setup.task.primary[0] in result.metrics and result.count == setup.task.data.size(
        "validation"
    )
    for metric in result.metrics.values():
        assert metric["low"] <= metric["value"] <= metric["high"] and metric["count"] > 0
