"""Tasks of unlike kinds are exported and verified: truth of any size, sequences to sequences."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import toy_boxes
import toy_translation

import tfbig
from tfbig.deploy.server.catalogue import Catalogue
from tfbig.deploy.server.steps import Steps


def export(toy, home):
    """The toy, its run, and what is recorded of its exported version."""
    run = tfbig.train(toy.recipe(), run=home / "run")
    return toy, run, tfbig.export(run, home / "models" / "toy", formats=("onnx",))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    return export(toy_boxes, tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return export(toy_translation, tmp_path_factory.mktemp("words"))


@pytest.mark.parametrize("kind, steps", [("boxes", set()), ("words", {"savedmodel, steps"})])
def test_every_form_has_the_scores_of_the_evaluation(request, kind, steps):
    toy, run, record = request.getfixturevalue(kind)
    expected = run.read_json("metrics.json")["test"]["metrics"]
    reports = record["verification"]
    assert set(reports) == {"savedmodel", "savedmodel, tensors", "onnx", *steps}
    for report in reports.values():
        assert report["count"] == toy.SIZES["test"] and report["largest_difference"] < 1e-4
        assert report["metrics"].keys() == expected.keys()
        for name, metric in report["metrics"].items():
            assert metric["value"] == pytest.approx(expected[name]["value"], rel=1e-4)
            assert metric["changed"] == 0


def served(record, **inputs):
    function = tf.saved_model.load(record["path"]).signatures["serving_default"]
    return {name: value.numpy() for name, value in function(**inputs).items()}


def test_pictures_are_answered_with_boxes_or_none(boxes):
    toy, run, record = boxes
    data = run.experiment.data
    examples = data.examples("test", np.arange(data.size("test")))
    empty = [not len(found) for found in examples["boxes"]]
    assert 0 < sum(empty) < len(empty)
    pictures = toy.Picture(shape=toy.SHAPE).encode(examples["image"])
    answers = served(record, image=tf.constant(pictures))
    count = answers["count"]
    assert (count[empty] == 0).mean() > 0.8 and count.sum() > len(count) / 2
    found = answers["boxes"][np.arange(toy.MOST) < count[:, None]]
    assert (found > -8).all() and (found < toy.SIDE + 8).all() and found.max() > 8  # pixels
    assert record["media"]["gives"]["boxes"] == "boxes"


def test_words_are_answered_with_their_reverse(words):
    _, _, record = words
    answers = served(record, text=tf.constant(["abc", "f"]))["text"]
    assert [text.decode() for text in answers] == ["cba", "f"]
    assert record["stepwise"]["fixed"] == ["memory", "real"] and record["stepwise"]["end"] == 0
    report = record["verification"]["onnx"]
    assert report["file"] == "encode.onnx, step.onnx" and report["greedy"]["changed"] == 0
    (trial,) = record["trials"]
    assert trial["program"] == "serving_default" and trial["made"] == 40


@pytest.mark.parametrize("engine", ["tensorflow", "onnx"])
def test_words_are_served_letter_by_letter(words, engine):
    """By the server itself: it encodes once, and keeps the memory beside the state."""
    toy, run, record = words
    data = run.experiment.data
    positions = np.arange(3)
    expected = tfbig.load(run).predict(data.examples("test", positions))["made"]

    async def write(batcher, word):
        steps, letters, chosen = Steps(batcher), [], None
        await steps.start({"source": np.pad(word, (0, toy.LONGEST - len(word)))[None]})
        while not letters or letters[-1] != record["stepwise"]["end"]:
            outputs = await steps.step(chosen=chosen)
            chosen = outputs["logits"].argmax(-1).astype(np.int32)
            letters.append(int(chosen[0]))
        return letters

    async def look():
        folder = Path(record["path"]).parent
        catalogue = Catalogue(folder.parent, engine, False, lambda event, values: None)
        await catalogue.refresh()
        batcher = catalogue.find(folder.name)
        with batcher.held():
            source = data.examples("test", positions)["source"]
            written = await asyncio.gather(*(write(batcher, word) for word in source))
        catalogue.close()
        return written

    for letters, row in zip(asyncio.run(look()), expected, strict=True):
        assert letters == row[: len(letters)].tolist()


def test_average_precision_by_hand():
    """A third of the true boxes is found with precision 1, two thirds with 2/3, the rest never; the
    other class does not occur."""
    truth = np.array([[[0, 0, 8, 8], [0, 16, 8, 24]], [[4, 4, 14, 14], [0, 0, 0, 0]]], np.float32)
    boxes = np.zeros((2, toy_boxes.MOST, 4), np.float32)
    boxes[0, 0], boxes[0, 1] = truth[0, 0], truth[0, 0] + [0, 0, 0, 1]  # the second is a copy
    boxes[1, 0] = truth[1, 0] + [0, 0, 0, 4]
    scores = np.zeros(boxes.shape[:2], np.float32)
    scores[0, :2], scores[1, 0] = (0.9, 0.8), 0.3
    records = {
        "boxes": boxes,
        "scores": scores,
        "classes": np.zeros(scores.shape, np.int32),
        "count": np.array([2, 1]),
        "true_boxes": truth,
        "true_classes": np.zeros((2, 2), np.int32),
        "true_boxes_count": np.array([2, 1]),
    }
    task = toy_boxes.Detection()
    value = task.score(task.examine(records))["ap50"]
    assert value == pytest.approx((34 + 33 * 2 / 3) / 101)
    nothing = {**records, "true_boxes_count": np.zeros(2, int)}
    assert task.score(task.examine(nothing))["ap50"] is None
