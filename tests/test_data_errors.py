"""Records that cannot be read or hold NaN.

Named, or left out and counted; the batches stay a function of their number.
"""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from training import FACTS, Silent, make, values

import tfbig
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.features import Feature
from tfbig.core.workers import Share
from tfbig.data import image_folder
from tfbig.engine import batches, facts, loop, overview
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup

DAMAGED = ("a/03.png", "a/04.png", "b/11.png")


@pytest.fixture(params=["in memory", "from its files"])
def folder(tmp_path, monkeypatch, request):
    """40 training pictures, three of them damaged, two of these side by side."""
    dice = np.random.RandomState(0)
    for part, count in (("train", 20), ("validation", 10), ("test", 10)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(dice.randint(0, 255, (8, 8), np.uint8)).save(
                    tmp_path / part / name / f"{i:02d}.png"
                )
    for name in DAMAGED:
        path = tmp_path / "train" / name
        path.write_bytes(path.read_bytes()[:40])
    for name in ("validation/b/09.png", "test/a/05.png"):
        (tmp_path / name).write_bytes(b"no picture")
    if request.param == "from its files":
        monkeypatch.setattr(image_folder, "MEMORY_BYTES", 0)
    return tmp_path


def settings(folder, *more):
    data = ("data=image_folder", f"data.path={folder}", "data.side=8", "data.channels=1")
    return (
        *data,
        "model.units=4",
        "train.batch_size=6",
        "train.length=12",
        "train.evaluate_every=6",
        "device.block=2",
        *more,
    )


def test_named_with_file_and_position(folder, tmp_path):
    with pytest.raises(
        UserError,
        match=(
            r"data: example \d+ of the train split: .*\.png cannot be"
            r" decoded.*\n.*data.on_error=skip"
        ),
    ):
        tfbig.train("mnist_mlp", *settings(folder), run=tmp_path / "run")


def test_a_long_run_of_unreadable_records():
    class Source:
        on_error, max_skipped = "skip", 5000

        def size(self, split):
            return 2000

        def lengths(self, split):
            return None

        def examples(self, split, positions):
            if ((positions >= 100) & (positions < 1500)).any():
                raise OSError("lost")
            return {"x": positions.astype("float32")[:, None]}

    data = Readable(Source())
    assert (
        data.examples("train", np.array([100, 7]))["x"].ravel().tolist() == [1500, 7]
        and len(data.skipped["train"]) == 1400
    )


def test_stand_ins_are_a_function_of_position(folder):
    experiment = make(*settings(folder, "data.on_error=skip"))
    plain = experiment.data
    one, other = Readable(plain), Readable(plain)
    whole = one.examples("train", np.arange(40))
    for position, stand_in in ((3, 5), (4, 5), (31, 32)):
        expected = plain.examples("train", np.array([stand_in]))
        for found in (
            other.examples("train", np.array([position])),
            {name: value[[position]] for name, value in whole.items()},
        ):
            for name, value in expected.items():
                np.testing.assert_array_equal(found[name], value)
    assert (
        set(one.skipped["train"]) == {3, 4, 31}
        and "a/03.png cannot be decoded" in one.skipped["train"][3]
    )
    later = Readable(plain, {"train": {str(i): text for i, text in one.skipped["train"].items()}})
    np.testing.assert_array_equal(later.examples("train", np.arange(40))["image"], whole["image"])
    task = experiment.task.bind(experiment.model, Readable(plain), FACTS)
    slab = batches.Slabs(task, batch_size=6, block=2, seed=1).at(0)[0]
    for i in (0, 1):
        offsets = batches.share_offsets(6, 1, Share.of(6, i, 2))
        task = experiment.task.bind(experiment.model, Readable(plain), FACTS)
        part = batches.Slabs(task, batch_size=6, block=2, seed=1, offsets=offsets).at(0)[0]
        np.testing.assert_array_equal(part["image"], slab["image"].numpy()[:, offsets])


def test_counted_and_never_measured(folder, tmp_path):
    run = tfbig.train("mnist_mlp", *settings(folder, "data.on_error=skip"), run=tmp_path / "run")
    assert run.read_json("summary.json")["skipped"] == {"train": 3, "validation": 1, "test": 1}
    assert run.read_json("skipped.json")["train"].keys() == {"3", "4", "31"} and run.read_json(
        "skipped.json"
    )["test"].keys() == {"5"}
    assert "3 of train, 1 of validation, 1 of test" in (run.path / "report.html").read_text()
    assert run.read_json("metrics.json")["test"]["count"] == 19
    matrix, _, reliability, _ = [
        panel for panel in run.read_json("panels.json") if panel["section"] == "test"
    ]
    assert (
        np.sum(matrix["counts"], 1).tolist() == [9, 10]
        and sum(each["count"] for each in reliability["bins"]) == 19
    )
    splits = run.read_json("data.json")["splits"]
    assert {name: entry["size"] for name, entry in splits.items()} == {
        "train": 37,
        "validation": 19,
        "test": 19,
    }
    assert all(sum(entry["classes"].values()) in (0, entry["size"]) for entry in splits.values())
    assert [
        line["metrics"]["accuracy"]["count"]
        for line in run.history("evaluation")
        if line["split"] == "validation"
    ] == [19, 19]
    # Which is for people only: damaged, it keeps nobody from evaluating
    (run.path / "summary.json").write_text("{}")
    assert tfbig.evaluate(run)["count"] == 19
    again = tfbig.train(None, "train.length=14", resume=run.path)
    assert again.read_json("summary.json")["skipped"] == {"train": 3, "validation": 1, "test": 1}


def test_limit(folder, tmp_path):
    with pytest.raises(
        UserError,
        match=(
            r"data.max_skipped: expected at most 2 unreadable records. Found 3:\n(train \d+: .*png"
            r" cannot be decoded.*\n?){3}"
        ),
    ):
        tfbig.train(
            "mnist_mlp",
            *settings(folder, "data.on_error=skip", "data.max_skipped=2"),
            run=tmp_path / "run",
        )


class Floats:
    """A stand-in for a dataset of numbers, one of which is NaN."""

    spec, label_names, on_error, max_skipped = (
        {"image": Feature(shape=(2, 2, 1), dtype="float32")},
        (),
        "stop",
        1,
    )

    def size(self, split):
        return 5

    arrays = lengths = lambda self, split: None

    def examples(self, split, positions):
        image = (
            np.ones((len(positions), 2, 2, 1), np.float32)
            * np.asarray(positions)[:, None, None, None]
        )
        return {"image": np.where(image == 3, np.nan, image).astype(np.float32)}


def test_nan_in_the_data_is_named(monkeypatch):
    with pytest.raises(
        UserError, match="data: example 3 of the train split: image holds NaN or an infinite number"
    ):
        Readable(Floats()).examples("train", np.arange(5))
    monkeypatch.setattr(Floats, "on_error", "skip")
    assert Readable(Floats()).examples("train", np.array([2, 3]))["image"][:, 0, 0, 0].tolist() == [
        2,
        4,
    ]


def test_nan_in_the_loss_is_named(tmp_path):
    """Injected at the seventh step: the step is said, and what was saved before is intact."""
    setup = Setup(make("train.length=20", "train.save_every=5", "device.block=5"), FACTS)
    usual, calls = setup.run_block, []

    def poisoned(slab, first, count):
        made = usual(slab, first, count)
        calls.append(int(count))
        step = sum(calls) - int(count)
        return {**made, "loss": with_nan(made["loss"], 6 - step)}

    setup.__dict__["run_block"] = poisoned
    with pytest.raises(
        RunFailure, match="step 7: the loss became nan; the checkpoint of step 5 is intact"
    ):
        loop.train(setup, tmp_path, Silent())
    assert all(np.isfinite(value).all() for value in values(setup))


def with_nan(loss, place):
    import tensorflow as tf

    changed = loss.numpy()
    if 0 <= place < len(changed):
        changed[place] = np.nan
    return tf.constant(changed)


def test_a_finished_run_stays_finished_without_its_data(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    run = tfbig.train("mnist_mlp", *settings(folder, "data.on_error=skip"), run=path)
    assert run.is_done
    folder.rename(f"{folder}_elsewhere")
    with pytest.raises(UserError):
        tfbig.train(resume=run)
    assert run.is_done
    tfbig.train(None, f"data.path={folder}_elsewhere", "train.length=14", resume=run)
    assert run.is_done and run.experiment.data.path == f"{folder}_elsewhere"


def test_a_changed_folder_is_seen(folder, tmp_path_factory):
    """Within one process, too.

    Pictures that came, went or changed since an earlier run, in the same settings.
    """
    path, data = tmp_path_factory.mktemp("runs"), settings(folder, "data.on_error=skip")
    first = tfbig.train("mnist_mlp", *data, run=path / "first")
    (folder / "test" / "a" / "00.png").rename(folder / "test" / "a" / "new.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "train" / "a" / "03.png")  # mended
    with pytest.raises(UserError, match="data: it has changed since"):
        tfbig.evaluate(first)
    second = tfbig.train("mnist_mlp", *data, run=path / "second")
    assert (
        second.read_json("summary.json")["skipped"]["train"] == 2
        and second.read_json("metrics.json")["test"]["count"] == 19
    )


def test_measured_the_same_in_memory_and_from_files(folder, monkeypatch):
    """Stand-ins and all."""
    found = []
    for memory in (0, 1e9):
        monkeypatch.setattr(image_folder, "MEMORY_BYTES", memory)
        made = make(*settings(folder, "data.on_error=skip"))
        data = Readable(made.data)
        found.append((made.task.measure(data), data.skipped["train"].keys()))
    assert found[0] == found[1] and list(found[0][1]) == [3, 4, 31]


def test_what_is_wrong_with_the_data_is_said_before_training(tmp_path, monkeypatch):
    for name, count in (("a", 40), ("b", 12), ("lone", 1)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8), 5 * i).save(tmp_path / "pictures" / name / f"{i}.png")
    made = make(*settings(tmp_path / "pictures"))
    train = dataclasses.replace(made.train, batch_size=64, freeze=("stem",))
    made = dataclasses.replace(made, train=train)
    data = Readable(made.data)
    splits = {split: facts.described(data, split) for split in ("train", "validation")}
    monkeypatch.setattr(type(made.data), "notes", lambda self: ["2 pictures stand in two splits"])
    assert list(overview.concerns(made, data, splits)) == [
        "2 pictures stand in two splits",
        "classes without an example in the validation split: lone",
        "classes with fewer than 10 training examples, from which little can be learnt: lone (1)",
        (
            "the validation split has 5 examples: see the intervals of its metrics for how little"
            " they say"
        ),
        "the test split has 5 examples: see the intervals of its metrics for how little they say",
        "train.freeze: stem keep weights that are drawn at random, for there is no init",
        (
            "train.batch_size: a batch of 64 holds the 43 training examples more than once; a"
            " smaller one makes more steps of an epoch"
        ),
    ]
    splits["train"]["classes"] = {"a": 43, "b": 0, "lone": 0}
    with pytest.raises(
        UserError,
        match="data: all 43 training examples are of the class a, so there is nothing to learn",
    ):
        list(overview.concerns(made, data, splits))
    for split, message in (
        ("validation", "the validation split is empty"),
        ("test", "train.final_split: the test split is empty. Set"),
    ):
        monkeypatch.setattr(
            type(made.data), "size", lambda self, asked, split=split: 0 if asked == split else 5
        )
        with pytest.raises(UserError, match=message):
            overview.refuse_empty(made, data)


def test_classes_without_a_readable_picture_are_noted(folder):
    """Where pictures are read before training, that is, of splits held in memory."""
    for part in ("train", "validation", "test"):
        (folder / part / "c").mkdir()
        (folder / part / "c" / "0.jpg").write_bytes(b"no picture")
    made = make(*settings(folder, "data.on_error=skip"))
    data = Readable(made.data)
    splits = {split: facts.described(data, split) for split in ("train", "validation")}
    notes = [note for note in overview.concerns(made, data, splits) if "without an example" in note]
    expected = [f"classes without an example in the {split} split: c" for split in splits]
    assert notes == (expected if image_folder.MEMORY_BYTES else [])


def test_a_shift_larger_than_the_picture():
    with pytest.raises(
        UserError,
        match=(
            "task.crop_padding: expected less than the side of the pictures, 28 x 28. Received: 40"
        ),
    ):
        Setup(make("task.crop_padding=40"), FACTS)
