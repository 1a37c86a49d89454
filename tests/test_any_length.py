"""Examples of any length: few shapes, weights of the real steps alone, records and scores."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from toy_sequences import LONGEST, Sequences, StepRegression, recipe
from training import Silent

import tfbig
from tfbig import train
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.lazy import keras
from tfbig.core.run import Run
from tfbig.engine import batches, checkpoint, job, processes, records, setup, shapes
from tfbig.engine.facts import notes
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup, training_facts


def made(*settings):
    experiment = tfbig.recipe(recipe(), "optim.momentum=0", *settings)
    return Setup(experiment, training_facts(experiment, Readable(experiment.data)))


def test_groups_take_turns_in_proportion():
    sizes = [50, 30, 15, 5]
    turns = [shapes.turn(number, sizes) for number in range(1000)]
    for group, size in enumerate(sizes):
        own = [place for chosen, place in turns if chosen == group]
        assert own == list(range(size * 10))
        assert abs(sum(chosen == group for chosen, _ in turns[:100]) - size) <= 2


def test_every_example_once_an_epoch_in_batches_of_like_length():
    run = made("train.batch_size=5", "device.block=2")
    lengths, seen, widths = Sequences().lengths("train")["x"], {}, set()
    assert [padded["x"] for padded in run.task.facts["shapes"]][-1] == lengths.max()
    for step in range(0, 8 * shapes.WINDOW * run.block, run.block):
        slab, _ = run.slabs.at(step)
        width = slab["x"].shape[2]
        widths.add(width)
        names, counts = slab["name"].numpy().ravel(), slab["x_count"].numpy().ravel()
        np.testing.assert_array_equal(counts, lengths[names])
        x = slab["x"].numpy().reshape(-1, width, 2)
        assert counts.max() <= width and not x[np.arange(width) >= counts[:, None]].any()
        for name in names:
            seen[name] = seen.get(name, 0) + 1
    assert 1 < len(widths) <= 3 and len(seen) == 90
    assert max(seen.values()) - min(seen.values()) <= 0.02 * max(seen.values()) + 2


def test_any_slab_is_read_alike():
    run, again = made(), made()
    for step in (7, 3, 4, 40, 5):
        (slab, first), (same, place) = run.slabs.at(step), again.slabs.at(step)
        assert first == place
        for name in slab:
            np.testing.assert_array_equal(slab[name], same[name])


def after(run, steps=4):
    for step in range(steps):
        slab, first = run.slabs.at(step)
        run.run_block(slab, tf.constant(first), tf.constant(1))["loss"].numpy()
    return {v.path: v.numpy() for v in run.model.trainable_variables}


def test_padding_parts_and_halves_change_nothing(monkeypatch):
    """In float64, with regularisation: one sum over the batch, one division by its real steps."""
    monkeypatch.setattr(setup, "POLICIES", {"float32": "float64"})
    longest = made("data.like_length=false", "device.jit=false")
    slab, _ = longest.slabs.at(0)
    given = {name: value[0] for name, value in slab.items()}
    ready = longest.task.preprocess(given, training=True)
    with tf.GradientTape() as tape:
        real, y = (tf.cast(ready[name], tf.float64) for name in ("real", "y"))
        error = (longest.model(ready["x"])[..., 0] - y) * real
        loss = tf.reduce_sum(error**2) / tf.reduce_sum(real) + longest.model.losses[0]
    variables = longest.model.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    rate = float(np.float32(0.1))
    expected = {
        v.path: v.numpy() - rate * g.numpy() for v, g in zip(variables, gradients, strict=True)
    }
    assert len(np.unique(given["y_count"])) > 3
    for settings in (
        [],
        ["train.accumulate=3"],
        ["train.accumulate=6"],
        ["device.jit=true"],
        ["halves"],
    ):
        run = made("data.like_length=false", *(text for text in settings if text != "halves"))
        run.step.halves = settings == ["halves"]
        for path, value in after(run, 1).items():
            np.testing.assert_allclose(value, expected[path], rtol=1e-12, atol=1e-14)


WORKER = """
import sys
from tfbig import train
from tfbig.engine import setup
setup.POLICIES = {"float32": "float64"}
sys.exit(train.main(sys.argv[1:]))
"""


def end(path):
    folder = path / "checkpoints" / checkpoint.folder_name(12)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return load_file(folder / checkpoint.WEIGHTS), lines[-1]["metrics"]


def test_workers_with_unequal_real_lengths(tmp_path, monkeypatch):
    """Two and three processes end where one does, and score the same records."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    for count in (2, 3):
        words = ["toy_sequences:recipe", f"run={tmp_path / str(count)}"]
        started = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, *words],
                env={**os.environ, "PYTHONPATH": path, **own},
                stderr=subprocess.PIPE,
                text=True,
            )
            for own in processes.environments(count)
        ]
        messages = [process.communicate(timeout=200)[1] for process in started]
        assert all(process.returncode == 0 for process in started), messages
    monkeypatch.setattr(setup, "POLICIES", {"float32": "float64"})
    assert train.main(["toy_sequences:recipe", f"run={tmp_path / '1'}"]) == 0
    weights, metrics = end(tmp_path / "1")
    for count in (2, 3):
        others, other_metrics = end(tmp_path / str(count))
        for name, value in weights.items():
            np.testing.assert_allclose(value, others[name], rtol=1e-12, atol=1e-12, err_msg=name)
        for name, metric in metrics.items():
            assert other_metrics[name] == pytest.approx(metric, rel=1e-9)


def test_scores_come_from_records_of_the_whole_split():
    run = made()
    result = run.evaluate("validation")
    data = Sequences().examples("validation", np.arange(30))
    x = np.zeros((30, LONGEST, 2), np.float32)
    for row, value in zip(x, data["x"], strict=True):
        row[: len(value)] = value
    given = run.model.predict(x, verbose=0)[..., 0]
    given = np.concatenate([row[: len(value)] for row, value in zip(given, data["y"], strict=True)])
    y = np.concatenate(data["y"])
    r_squared = result.metrics["r_squared"]
    assert r_squared["value"] == pytest.approx(
        1 - ((given - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-4
    )
    assert r_squared["low"] < r_squared["value"] < r_squared["high"] and r_squared["count"] == 30
    assert result.metrics["loss"]["count"] == len(y) and result.records["sums"].shape == (30, 4)
    # The bootstrap draws the same each time
    assert result.metrics == run.evaluate("validation").metrics


class Rare(StepRegression):
    """Its primary metric has nothing to count, and another one neither."""

    primary = ("precision", "max")

    def metrics(self, outputs, batch):
        metrics = super().metrics(outputs, batch)
        return {**metrics, "rare": tuple(tf.zeros_like(value) for value in metrics["loss"])}

    def score(self, statistics):
        return {**super().score(statistics), "precision": None}


@dataclass(frozen=True, kw_only=True)
class Grouped(Sequences):
    """Ten sequences of each of some speakers; the first speaks in two splits."""

    def groups(self, split):
        speakers = np.char.add(f"{split} ", (np.arange(self.size(split)) // 10).astype(str))
        return np.where(speakers == "test 0", "train 0", speakers)


def test_groups_in_two_splits_are_told_and_intervals_are_of_groups():
    assert notes(Grouped()) == [
        "groups of examples that stand in the train and in the test split: 1, such as train 0; on"
        " new ones the model may do worse"
    ]
    assert notes(Sequences()) == []
    widths = []
    for data in (Sequences(), Grouped()):
        experiment = dataclasses.replace(recipe(), data=data)
        result = Setup(experiment, training_facts(experiment, Readable(data))).evaluate("train")
        scores = result.metrics["r_squared"]
        widths.append((scores["low"], scores["value"], scores["high"]))
    (low, value, high), (grouped_low, grouped_value, grouped_high) = widths
    assert value == grouped_value and grouped_low < grouped_value < grouped_high
    assert (low, high) != (grouped_low, grouped_high)


@pytest.mark.parametrize("groups", [["a"] * 89, [None] * 90, [0.5] * 90])
def test_groups_of_another_kind_are_refused_before_training(groups):
    data = Sequences()
    object.__setattr__(data, "groups", lambda split: groups if split == "train" else None)
    with pytest.raises(UserError, match="groups of the train split as numbers or names, one for"):
        notes(data)


def test_metrics_without_a_value_do_not_end_a_training(tmp_path, monkeypatch):
    """The last checkpoint is then what is evaluated, and a finished run stays finished."""
    setup = made("train.length=4", "train.evaluate_every=2", "train.final_split=test")
    experiment = dataclasses.replace(setup.experiment, task=Rare())
    run, console = Run.create(tmp_path / "run", setup.experiment), Silent()
    monkeypatch.setattr(Run, "experiment", experiment)
    job.train(run, console, (keras.callbacks.EarlyStopping("val_loss", patience=9),))
    metrics = run.read_json("metrics.json")["test"]
    assert metrics["step"] == 4 and job.is_finished(run)
    assert metrics["metrics"]["rare"]["value"] is metrics["metrics"]["precision"]["value"] is None
    assert any("step 2: precision, which picks the best checkpoint" in n for n in console.notes)
    now = {"precision": {"value": 0.5, "low": None, "high": None, "count": 1}}
    with pytest.raises(RunFailure, match=r"precision none recorded, 0\.5 now"):
        records.refuse_differences(run, 4, metrics["metrics"], now)


def test_a_run_is_used_without_its_data(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", made("train.length=2", "train.evaluate_every=2").experiment)
    job.train(run, Silent())
    monkeypatch.delattr(Sequences, "size")
    monkeypatch.delattr(Sequences, "lengths")
    given = tfbig.load(run).predict({"x": [np.ones((3, 2), np.float32)]})["given"]
    assert np.isfinite(given).all()


class Lengths(Sequences):
    """Examples as long as `longest` says, most of them empty."""

    longest: int

    def _length(self, split, position):
        return self.longest if position == 7 else 0


def test_lengths_at_their_limits(monkeypatch):
    monkeypatch.setattr(Lengths, "longest", LONGEST, raising=False)
    assert shapes.measured(Lengths(), 3, 12) == [{"x": 1, "y": 1}, {"x": LONGEST, "y": LONGEST}]
    monkeypatch.setattr(Lengths, "longest", LONGEST + 1)
    message = r"example 7 of the train split: x: expected at most 12\. Received: 13\."
    with pytest.raises(UserError, match=message):
        shapes.measured(Lengths(), 3, 12)
    with pytest.raises(UserError, match=message):
        shapes.groups(Lengths(), "train", [{"x": 13, "y": 13}])


class TooLong(Sequences):
    """One example is longer than the data says there are."""

    def examples(self, split, positions):
        found = super().examples(split, positions)
        found["x"] = [
            np.zeros((LONGEST + 1, 2), np.float32) if name == 7 else x
            for x, name in zip(found["x"], found["name"], strict=True)
        ]
        return found


def test_an_example_that_is_too_long_is_named():
    take = batches.Reader(TooLong(), "train")
    pipeline = tf.data.Dataset.from_tensors(np.arange(6, 9)).map(
        lambda row: take(row, {"x": LONGEST, "y": LONGEST})
    )
    with (
        pytest.raises(
            UserError,
            match=r"example 7 of the train split: x: expected at most 12\. Received: 13\.",
        ),
        take.failures(),
    ):
        next(iter(pipeline))
