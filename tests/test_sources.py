"""Agents that make their own batches: what they do is resumed bit for bit."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import tensorflow as tf
from toy_agent import Walk, Walkers, recipe
from training import Silent, assert_equal

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.workers import Place
from tfbig.engine import loop
from tfbig.engine.setup import Setup
from tfbig.engine.strategy import Workers


def made(*settings):
    return Setup(tfbig.recipe(recipe(), *settings), {})


def test_resumes_bit_equal(tmp_path):
    whole, observer = made("train.length=8"), Silent()
    loop.train(whole, tmp_path / "whole", observer)
    for length in (5, 8):
        part = made(f"train.length={length}")
        loop.train(part, tmp_path / "parts", Silent())
    assert_equal(whole, part)
    for name, value in whole.slabs.state().items():
        np.testing.assert_array_equal(value, part.slabs.state()[name])
    assert (
        observer.evaluations[-1][1] < 6.0
    )  # five, the variance of what is to be learnt, untrained


def test_a_batch_that_waits_for_its_step_is_not_lost(tmp_path):
    plain, stopped, resumed = made(), made(), made()
    batches = [plain.slabs.at(step)[0]["x"].numpy() for step in range(3)]
    for step in range(2):
        stopped.slabs.at(step)
        stopped.slabs.trained(step + 1)
    np.testing.assert_array_equal(stopped.slabs.at(2)[0]["x"], batches[2])
    resumed.slabs.restore(stopped.slabs.state())  # made, not trained on
    np.testing.assert_array_equal(resumed.slabs.at(2)[0]["x"], batches[2])


class ThreeTogether(Walkers):
    """Makes three batches with the same weights."""

    block = 3


@dataclass(frozen=True, kw_only=True)
class LongWalk(Walk):
    def source(self, model, batch_size, seed):
        return ThreeTogether(model, batch_size, seed)


def test_batches_made_together_are_of_the_same_weights_and_resume_in_their_middle(tmp_path):
    experiment = replace(recipe(), task=LongWalk())

    def of(length):
        return Setup(tfbig.recipe(experiment, f"train.length={length}", "train.save_every=1"), {})

    whole = of(8)
    slab, first = whole.slabs.at(0)
    assert first == 0 and slab["x"].shape[:2] == (3, 6)
    alone = Walkers(whole.model, 6, 0)  # nothing was trained on yet
    for number in range(3):
        np.testing.assert_array_equal(slab["x"][number], alone.batch(number)["x"])
    loop.train(whole, tmp_path / "whole", Silent())
    for length in (1, 4, 5, 8):
        part = of(length)
        loop.train(part, tmp_path / "parts", Silent())
    assert_equal(whole, part)
    for name, value in whole.slabs.state().items():
        np.testing.assert_array_equal(value, part.slabs.state()[name])
    np.testing.assert_array_equal(whole.slabs.at(7)[0]["key"][0], part.slabs.at(6)[0]["key"][0])


def test_the_target_follows_every_third_step(tmp_path):
    run = made("train.length=7", "train.save_every=100")
    loop.train(run, tmp_path, Silent())
    at_six = made("train.length=6", "train.save_every=100")
    loop.train(at_six, tmp_path / "six", Silent())
    for follower, weight in zip(run.task_variables, at_six.model.trainable_variables, strict=True):
        np.testing.assert_array_equal(follower.numpy(), weight.numpy())


@dataclass(frozen=True, kw_only=True)
class Journey(Walk):
    """Judged by where a walker gets to in a few steps."""

    plays = True

    def play(self, act, examples):
        place = examples["x"]
        for _ in range(3):
            place = np.tanh(place + 0.1 * act({"x": place, "y": examples["y"]})["given"][..., None])
        return {"reached": place[:, 0, 0]}

    def metrics(self, outputs, batch):
        one = tf.ones_like(outputs["reached"])
        return {"loss": (outputs["reached"], one), "start": (batch["x"][:, 0, 0], one)}

    def records(self, outputs, batch):
        return {"reached": outputs["reached"]}


@pytest.mark.parametrize("batch_size", [6, 20])
def test_an_agent_is_judged_by_its_episodes(batch_size):
    experiment = replace(recipe(), task=Journey())
    setup = Setup(tfbig.recipe(experiment, f"train.batch_size={batch_size}"), {})
    result = setup.evaluate("validation")
    examples = experiment.data.examples("validation", range(20))
    place = examples["x"]
    for _ in range(3):
        place = np.tanh(place + 0.1 * setup.model(place, training=False).numpy())
    np.testing.assert_allclose(result.records["reached"], place[:, 0, 0], rtol=1e-5)
    assert result.metrics["loss"]["value"] == pytest.approx(place[:, 0, 0].mean(), rel=1e-5)
    assert result.metrics["start"]["value"] == pytest.approx(
        examples["x"][:, 0, 0].mean(), rel=1e-5
    )
    outputs, _ = setup.predict(
        {name: tf.constant(value) for name, value in examples.items()}, False
    )
    assert set(outputs) == {"given"}, "predictions are the model's, of observations"


def test_several_workers_are_refused(monkeypatch):
    workers = Workers(Place())
    monkeypatch.setattr(workers, "count", 2)
    run = made()
    run.workers = workers
    with pytest.raises(
        UserError, match="makes its own batches, in one process. Received: 2 workers"
    ):
        run.slabs  # noqa: B018
