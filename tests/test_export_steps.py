"""A model that has nothing to do with texts is exported, verified and served step by step."""

import asyncio
import os

import numpy as np
import pytest
import toy_stream

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.serving import Stepwise, Unrolled
from tfbig.deploy import artefact, bench
from tfbig.deploy.server.catalogue import Catalogue
from tfbig.deploy.server.status import Failure
from tfbig.deploy.server.steps import Steps
from tfbig.deploy.stepping import Stepping
from tfbig.deploy.steps import State


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The run, the directory of models, and what is recorded of its version."""
    home = tmp_path_factory.mktemp("stream")
    run = tfbig.train(toy_stream.recipe(), run=home / "run")
    return run, home / "models", tfbig.export(run, home / "models" / "stream", formats=("onnx",))


def test_steps_and_a_score_of_the_whole_split_are_verified(exported):
    run, _, record = exported
    expected = run.read_json("metrics.json")["test"]["metrics"]
    assert 0.5 < expected["r_squared"]["value"] < 1
    reports = record["verification"]
    assert set(reports) == {
        "savedmodel",
        "savedmodel, tensors",
        "savedmodel, steps",
        "onnx",
    }
    for report in reports.values():
        assert report["count"] == toy_stream.SIZES["test"] and report["largest_difference"] < 1e-4
        for name in ("r_squared", "loss"):
            entry = report["metrics"][name]
            assert entry["value"] == pytest.approx(expected[name]["value"], rel=1e-4)
            assert entry["changed"] == 0
    assert reports["onnx"]["unit"] == "frame" and reports["onnx"]["file"] == "listen.onnx"
    assert reports["onnx"]["latency"]["8"]["p50_ms"] > 0
    assert record["stepwise"]["carried"] == ["state"] and record["stepwise"]["start"] == ""
    media = record["media"]
    assert media["takes"] == {"frames": "samples"} and media["gives"] == {"value": "number"}


def test_a_score_that_is_another_one_is_seen():
    """From the records of an artefact and those expected."""
    task, sums = toy_stream.Filter(), np.random.default_rng(0).random((9, 3)).astype(np.float32)
    other = sums + np.eye(9, 3, dtype=np.float32)
    found = bench.scored(task, {"sums": other}, {"sums": sums})["r_squared"]
    assert found["changed"] == 3 and found["value"] != found["expected"]
    assert found["expected"] == pytest.approx(task.score({"sums": sums})["r_squared"])


@pytest.mark.parametrize("engine", ["tensorflow", "onnx"])
def test_it_is_served_step_by_step(exported, engine):
    """By the server itself, several callers together; and by callers who keep the state."""
    run, models, _ = exported
    x = run.experiment.data.examples("test", np.arange(3))["x"]
    expected = tfbig.load(run).predict({"x": x})["given"]

    async def listen(batcher, frames):
        steps, values = Steps(batcher), []
        await steps.start({})
        for frame in frames:
            values.append((await steps.step({"frame": frame[None]}))["given"][0])
        return values

    async def look():
        catalogue = Catalogue(models, engine, False, lambda event, values: None)
        await catalogue.refresh()
        batcher = catalogue.find("stream")
        with batcher.held():
            found = await asyncio.gather(*(listen(batcher, frames) for frames in x))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        state = np.zeros((3, toy_stream.WIDTH), np.float32)
        for step in range(toy_stream.STEPS):
            inputs = {"frame": x[:, step].copy(), "state": state}
            batcher.servable.check("listen", inputs)
            outputs = await batcher.submit("listen", inputs)
            state = outputs["state"]
            np.testing.assert_allclose(outputs["given"], expected[:, step], atol=1e-5)
        catalogue.close()

    asyncio.run(look())


def test_steps_of_a_translator():
    """Its memory of the source is fixed, its cache is renewed, and no scores come before the first
    step."""
    stepwise = Stepwise(
        start="encode",
        fixed=("memory",),
        carried=("cache",),
        scores="logits",
        chosen="token",
        first=2,
        position="position",
        end=3,
        outputs={"log_probability": ("logits", "log_probability"), "made": ("logits", "greedy")},
        unroll=lambda raw: Unrolled(start={"source": raw["source"]}, choices=raw["target"]),
    )

    def encode(rows):
        return {"memory": 2 * rows["source"], "cache": np.zeros(len(rows["source"]))}

    def step(rows):
        cache = rows["cache"] + rows["token"] * (1 + rows["position"])
        return {"logits": np.sin(rows["memory"] + cache[:, None]), "cache": cache}

    random = np.random.default_rng(0)
    raw = {"source": random.normal(size=(5, 4)), "target": random.integers(0, 4, (5, 3))}
    unrolled = stepwise.unroll(raw)
    plan = {**stepwise.to_json(), "outputs": stepwise.outputs}
    rows = {"start__source": unrolled.start["source"], "choices": unrolled.choices}
    outputs = Stepping(plan, State, step, encode)(rows)
    found, made = outputs["log_probability"], outputs["made"]
    for source, choices in zip(raw["source"], made, strict=True):
        cache, last = 0, 2
        for place, choice in enumerate(choices):
            cache += last * (1 + place)
            last = np.sin(2 * source + cache).argmax() if last != 3 else 3
            assert choice == (0 if 3 in choices[:place] else last)
    assert (made == 3).any() and (made[:, -1] != 3).any()
    for source, target, values in zip(raw["source"], raw["target"], found, strict=True):
        cache = 0
        for place, (before, choice) in enumerate(zip([2, *target], target, strict=False)):
            cache += before * (1 + place)
            scores = np.sin(2 * source + cache)
            expected = scores[choice] - np.log(np.exp(scores).sum())
            assert values[place] == pytest.approx(expected, abs=1e-6)
    best = Stepping(plan, State, step, encode).greedy(
        unrolled.choices, start__source=unrolled.start["source"]
    )
    assert best["choices"] == 15 and 0 < best["changed"] <= 15


def test_what_has_no_steps_says_so():
    class Batch:
        servable = type("Servable", (), {"name": "m", "version": 1, "stepwise": None})

    with pytest.raises(Failure, match="m version 1 is not asked step by step"):
        Steps(Batch)


def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(exported, tmp_path):
    os.mkfifo(tmp_path / "artefact.json")
    with pytest.raises(UserError, match="expected a plain file"):
        artefact.read(tmp_path)
