"""Every dataset keeps its specification, keeps its splits disjoint and repeats.

Without a network.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
import unittest.mock

import components
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfbig.core import files, registry
from tfbig.core.errors import NoData, PackageNeeded, UserError
from tfbig.core.features import SPLITS
from tfbig.data import (
    _images,
    _mnist_files,
    _splits,
    _tfds,
    _tfds_folders,
    _tfds_labelled,
    image_folder,
    tiny_shakespeare,
)
from tfbig.data._tfrecords import TFRecords
from tfbig.data.cifar10 import CIFAR10
from tfbig.data.fashion_mnist import FashionMNIST
from tfbig.data.image_folder import ImageFolder
from tfbig.data.mnist import MNIST
from tfbig.data.tfds_detection import TFDSDetection
from tfbig.data.tfds_images import TFDSImages
from tfbig.data.tiny_shakespeare import TinyShakespeare
from tfbig.engine.readable import Readable
from tfbig.media.picture import Picture
from tfbig.prep import pictures
from tfbig.tasks.image_classification import ImageClassification


def prepare_set(
    folder, count=60, side=12, file_format="array_record", configs=(), prepared=(None,)
):
    """Writes a small labelled image set with TensorFlow Datasets' own builder, some of its
    configurations if it has any.
    """
    import tensorflow_datasets as tfds

    class TinySquares(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = folder
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in configs]

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=["dark", "bright", "mixed"]),
                }
            )
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, manager):
            return {
                "train": self._generate_examples(0, count),
                "test": self._generate_examples(count, 20),
            }

        def _generate_examples(self, first, number):
            for i in range(first, first + number):
                yield (
                    i,
                    {
                        "image": np.full((side, side + i % 5, 3), i * 3 % 256, np.uint8),
                        "label": i % 3,
                    },
                )

    for config in prepared:
        TinySquares(data_dir=folder, file_format=file_format, config=config).download_and_prepare()


def draw_folder(folder, classes=("cat", "dog", "eel"), count=20):
    """Pictures of several sizes and formats, one folder for each class."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((10 + i % 3, 12, 3), 60 * label + i, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.{('png', 'jpg', 'bmp')[i % 3]}")
    return folder


@pytest.fixture
def small_published(monkeypatch):
    """CIFAR-10 and Fashion-MNIST of a few hundred made-up rows, where TensorFlow Datasets would
    have the real ones.
    """

    def read_all(name, part):
        shape = {"cifar10": (32, 32, 3), "fashion_mnist": (28, 28, 1)}[name]
        random = np.random.RandomState(len(name + part))
        count = 400 if part == "train" else 100
        return {
            "image": random.randint(0, 256, (count, *shape), dtype=np.uint8),
            "label": np.arange(count) % 10,
        }

    monkeypatch.setattr(_tfds, "read_all", read_all)
    for kind in (CIFAR10, FashionMNIST):
        monkeypatch.setattr(kind, "published", {"train": 400, "test": 100})
    _images._splits.cache_clear()
    yield
    _images._splits.cache_clear()


@pytest.fixture(params=components.names("data"))
def data(request, tmp_path, monkeypatch):
    """Each dataset, and each toy, in the form that it says is its `smallest`."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    smallest = registry.component("data", request.param).smallest(tmp_path)
    try:
        smallest.check()
    except PackageNeeded as error:
        pytest.skip(str(error))
    return smallest


def assert_alike(one, other):
    """Rows of a feature, a list of them where they are of any length."""
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_conformance(data):
    for split in SPLITS:
        size = data.size(split)
        assert size > 0
        positions = np.array([0, size - 1, size // 2, 0])
        got = data.examples(split, positions)
        assert set(got) == set(data.spec)
        lengths = data.lengths(split) or {}
        for name, feature in data.spec.items():
            for value in got[name]:
                fits = zip(value.shape, feature.longest, strict=True)
                assert value.dtype == feature.dtype and all(own <= most for own, most in fits)
            if feature.most is None:
                assert got[name].shape == (4, *feature.shape)
            np.testing.assert_array_equal(got[name][0], got[name][3])
            if name in lengths:
                assert [len(value) for value in got[name]] == lengths[name][positions].tolist()
        labels = data.labels(split)
        if labels is not None:
            assert labels[positions].tolist() == got["label"].tolist()
        if data.label_names and "label" in data.spec:
            assert (got["label"] >= 0).all() and (got["label"] < len(data.label_names)).all()
        again, arrays, none = (
            dataclasses.replace(data).examples(split, positions),
            data.arrays(split),
            data.examples(split, np.array([], np.int64)),
        )
        for name in data.spec:
            assert_alike(got[name], again[name])
            assert len(none[name]) == 0
            if arrays is not None:
                assert len(arrays[name]) == size
                np.testing.assert_array_equal(arrays[name][positions], got[name])
    views = data.random_views(np.array([1, 0]), np.zeros((2, 2), np.uint32))
    for name, value in data.examples("train", np.array([1, 0])).items():
        assert len(views[name]) == 2 and np.asarray(views[name][0]).dtype == value[0].dtype
    assert data.fingerprint() == dataclasses.replace(data).fingerprint()
    if registry.name_of(data) in registry.describe("data"):  # toys need not say where they are from
        assert all(data.card()[key] for key in ("title", "source", "licence", "citation"))


def test_mnist_is_complete_and_stratified():
    data = MNIST(validation=6_000, split_seed=3)
    assert [data.size(split) for split in SPLITS] == [54_000, 6_000, 10_000]
    train, held = (np.bincount(data.arrays(split)["label"]) for split in ("train", "validation"))
    # As published
    assert (train + held).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_allclose(held / 6_000, (train + held) / 60_000, atol=1e-3)
    test = data.arrays("test")
    assert np.bincount(test["label"]).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    assert data != MNIST(validation=6_000) and not np.array_equal(
        data.arrays("validation")["image"], MNIST(validation=6_000).arrays("validation")["image"]
    )


def test_stratified_partition():
    labels = np.repeat([0, 1, 2], [50, 30, 21])
    train, held = _splits.stratified(labels, 11, seed=5)
    assert len(held) == 11 and sorted([*train, *held]) == list(range(101))
    assert np.bincount(labels[held]).tolist() == [6, 3, 2]
    np.testing.assert_array_equal(held, _splits.stratified(labels, 11, seed=5)[1])
    assert not np.array_equal(held, _splits.stratified(labels, 11, seed=6)[1])


@pytest.mark.parametrize(
    "sizes, count, held",
    [
        ([1, 9, 10], 10, [0, 5, 5]),
        ([1, 1, 1, 97], 4, [0, 0, 0, 4]),
        ([1, 1, 8], 1, [0, 0, 1]),
        ([1, 1], 1, [0, 0]),
        ([2, 2, 6], 5, [1, 1, 3]),
        ([1] * 5 + [5], 4, [0] * 5 + [4]),
    ],
)
def test_no_class_loses_its_last_row(sizes, count, held):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    train, apart = _splits.stratified(labels, count, seed=0)
    assert np.bincount(labels[apart], minlength=len(sizes)).tolist() == held and len(train) + len(
        apart
    ) == len(labels)


def test_each_class_keeps_an_example_to_train_on():
    data = MNIST(validation=59_990)
    assert [len(data.arrays(split)["label"]) for split in ("train", "validation")] == [
        10,
        59_990,
    ] and data.size("train") == 10
    assert list(MNIST(validation=59_991).problems()) == [
        (
            "validation",
            (
                "expected at most 59,990, so that each class keeps an example to train on."
                " Received: 59,991."
            ),
        )
    ]


def test_training_reads_no_test_file(monkeypatch):
    real, names = _mnist_files.read, []
    monkeypatch.setattr(_mnist_files, "read", lambda name: names.append(name) or real(name))
    _images._splits.cache_clear()
    MNIST().arrays("train"), MNIST().examples("validation", np.arange(3)), MNIST().size("test")
    assert names and all(name.startswith("train") for name in names)


def test_damaged_file_is_named(tmp_path, monkeypatch):
    import lzma

    name = "t10k-labels-idx1-ubyte"
    monkeypatch.setattr(_mnist_files, "FOLDER", tmp_path)
    _mnist_files.read.cache_clear()
    for content in (lzma.compress(b"other labels"), b"not xz at all"):
        (tmp_path / f"{name}.xz").write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.*install tfbig again"):
            _mnist_files.read(name)


def test_wrong_requests():
    with pytest.raises(
        UserError, match="expected one of train, validation, test. Received: 'valid'"
    ):
        MNIST().size("valid")
    with pytest.raises(ValueError, match="expected 0 ... 9999 in test. Received: 5 ... 10000"):
        MNIST().examples("test", np.array([5, 10_000]))
    assert dict(MNIST(validation=60_000).problems())["validation"].startswith(
        "expected fewer than the 60,000"
    )


def test_absent_and_offline_is_said_at_once(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(
        UserError,
        match="cifar10 is not in .*no network(.|\n)*download_and_prepare(.|\n)*TFDS_DATA_DIR",
    ):
        CIFAR10(validation=49).arrays("train")
    with pytest.raises(UserError, match="knows no dataset 'cifar11'"):
        _tfds.open_builder("cifar11")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(
        UserError, match="TFDS_DATA_DIR: expected a folder.*nowhere, which does not exist"
    ):
        CIFAR10(validation=48).arrays("train")


def test_absent_data_is_no_matter_of_its_records(tmp_path, monkeypatch):
    """Nothing is asked again for each record.

    The hosts are tried once, and nothing is left behind.
    """
    tried = []

    def refuse(address, **kwargs):
        tried.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for on_error in ("stop", "skip"):
        for read in (
            lambda data: data.examples("train", np.arange(100)),
            lambda data: data.arrays("train"),
        ):
            tried.clear()
            with pytest.raises(NoData, match="cifar10 is not in"):
                read(Readable(CIFAR10(validation=46, on_error=on_error)))
            assert tried == list(_tfds_folders.REACH) and not list(tmp_path.iterdir())


def test_prepared_data_that_cannot_be_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for name in ("cifar-10", "cifar10/3.0.2", "../../etc"):
        with pytest.raises(NoData, match="knows no dataset"):
            _tfds.open_builder(name)
    prepare_set(tmp_path, side=14)
    shutil.copytree(tmp_path / "tiny_squares", tmp_path / "cifar10")
    with pytest.raises(NoData, match="expected cifar10 in .* Found: tiny_squares"):
        _tfds.open_builder("cifar10")
    for content in ('{"name": ', "{}"):
        (tmp_path / "cifar10" / "1.0.0" / "dataset_info.json").write_text(content)
        with pytest.raises(
            NoData,
            match="cifar10.1.0.0 cannot be opened: .+\nDelete that folder|expected cifar10 in",
        ):
            _tfds.open_builder("cifar10")


def test_damaged_prepared_data(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare_set(tmp_path, side=13, file_format="tfrecord")
    path = next(tmp_path.glob("tiny_squares/*/*train.tfrecord*"))
    for content in (path.read_bytes()[:90], None):
        path.write_bytes(content) if content else path.unlink()
        with pytest.raises(
            NoData,
            match=(
                "tiny_squares/1.0.0 in .* cannot be read: (truncated record|.*No such file)[^{]*"
                "\nDelete that folder"
            ),
        ):
            _tfds.read_all("tiny_squares", "train[:5]")


def test_tfrecords_are_read_at_any_position(tmp_path, monkeypatch):
    """As the same dataset stored as ArrayRecord, in several files too, by places kept."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepare_set(tmp_path, side=11)
    data = TFDSImages(builder="tiny_squares", side=8, test_part="test", validation=15)
    rows = np.array([44, 0, 17, 0])
    expected = data.examples("train", rows)
    shutil.rmtree(tmp_path / "tiny_squares")
    prepare_set(tmp_path, side=11, file_format="tfrecord")
    for cache in (_tfds_labelled.opened, _tfds_labelled._source, _tfds_labelled._rows):
        cache.cache_clear()
    for _ in range(2):
        for name, value in data.examples("train", rows).items():
            np.testing.assert_array_equal(value, expected[name])
        _tfds_labelled._source.cache_clear()
    first = next((tmp_path / "tiny_squares").glob("*/*train.tfrecord*"))
    records = TFRecords([first, first])
    whole = [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(first))]
    assert [records[row] for row in range(len(records))] == whole * 2
    assert len(list((tmp_path / "cache" / "tfbig" / "tfrecords").iterdir())) == 2
    first.write_bytes(first.read_bytes()[:-3])
    with pytest.raises(ValueError, match="expected whole records. Received: a torn one"):
        TFRecords([first])
    with pytest.raises(ValueError, match="is not what it was when it was first read"):
        records[len(whole) - 1]


def test_configurations_are_named(tmp_path, monkeypatch):
    """A name alone means the default one, and never whichever happens to be there."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare_set(tmp_path, configs=("plain", "grey", "large"), prepared=("grey", "large"))
    for config in ("grey", "large"):
        builder = _tfds.open_builder(f"tiny_squares/{config}", random_access=True)
        assert builder.info.full_name == f"tiny_squares/{config}/1.0.0"
        data = TFDSImages(builder=f"tiny_squares/{config}", side=8, test_part="test", validation=15)
        assert data.size("train") == 45 and data.card()["title"] == builder.info.full_name
    with pytest.raises(
        NoData,
        match=(
            "since its default one is plain, which is not prepared. Prepared configurations of"
            " tiny_squares: grey, large. Give one, such as tiny_squares/grey"
        ),
    ):
        _tfds_folders.find("tiny_squares")
    with pytest.raises(
        NoData,
        match=(
            "no dataset 'tiny_squares/wide', .* Prepared configurations of tiny_squares: grey,"
            " large"
        ),
    ):
        _tfds_folders.find("tiny_squares/wide")
    prepare_set(tmp_path, configs=("plain", "grey", "large"), prepared=("plain",))
    assert _tfds_folders.find("tiny_squares") == tmp_path / "tiny_squares" / "plain" / "1.0.0"
    shutil.rmtree(tmp_path / "tiny_squares" / ".config")
    with pytest.raises(NoData, match="since its default one is not known"):
        _tfds_folders.find("tiny_squares")


def test_configurations_of_the_library(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for version in ("9.0.0", "10.0.0"):
        (tmp_path / "imagenet_resized" / "32x32" / version).mkdir(parents=True)
        (tmp_path / "imagenet_resized" / "32x32" / version / "dataset_info.json").touch()
    assert _tfds_folders.find("imagenet_resized/32x32").name == "10.0.0"
    with pytest.raises(
        NoData,
        match=(
            "default one is 8x8, which is not prepared. Prepared configurations of"
            " imagenet_resized: 32x32"
        ),
    ):
        _tfds_folders.find("imagenet_resized")
    with pytest.raises(
        NoData,
        match="no dataset 'imagenet_resized/9x9'.* Its configurations: 8x8, 16x16, 32x32, 64x64",
    ):
        _tfds_folders.find("imagenet_resized/9x9")


def edited(path, change):
    """Changes a JSON file by a function of its value."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_crafted_folders_of_prepared_data(tmp_path, monkeypatch):
    """One message each, and no module that such a folder names is imported."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "crafted.py").write_text("raise SystemExit('run')")
    prepare_set(tmp_path)
    home, whole = tmp_path / "tiny_squares" / "1.0.0", tmp_path / "whole"
    shutil.copytree(home, whole)
    shard = next(home.glob("*train*"))

    def described(**changes):
        edited(
            home / "dataset_info.json",
            lambda info: [split.update(changes) for split in info["splits"]],
        )

    def featured(name, **changes):
        edited(
            home / "features.json",
            lambda value: (value["featuresDict"]["features"][name] if name else value).update(
                changes
            ),
        )

    def respelt(name):
        """By the field's own name, which protobuf's JSON takes as well."""

        def change(value):
            del value["pythonClassName"]
            value["python_class_name"] = name

        edited(home / "features.json", change)

    inner = {"features": {"image": {"pythonClassName": "crafted.Thing"}}}
    inside_text = {
        "type": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "proto_cls": "tensorflow_datasets.FeaturesDict",
        "content": json.dumps(inner),
    }
    foreign = "expected features of TensorFlow Datasets' own classes, .* Received: 'crafted.Thing'"
    cases = [
        (lambda: featured("", pythonClassName="crafted.Thing"), foreign),
        (lambda: featured("image", pythonClassName="crafted.Thing"), foreign),
        (lambda: respelt("crafted.Thing"), foreign),
        (lambda: (home / "features.json").write_text(json.dumps(inside_text)), foreign),
        (
            lambda: (home / "features.json").write_text('{"type": "crafted.Thing", "content": {}}'),
            foreign,
        ),
        (
            lambda: (home / "features.json").write_text("[" * 100_000),
            "features.json cannot be read",
        ),
        (
            lambda: featured("label", pythonClassName="tensorflow_datasets.no.Thing"),
            "cannot be opened: Unrecognized FeatureConnector",
        ),
        (shard.unlink, "train.array_record.* cannot be read: .*No such file"),
        (lambda: shard.write_bytes(b"short"), "train.array_record.* cannot be read: "),
        (
            lambda: described(shardLengths=["70"]),
            "expected 70 records, as dataset_info.json says. Received: 60",
        ),
        (lambda: described(shardLengths=["-5"]), "expected -5 records"),
        (lambda: described(shardLengths=["9000000000000"]), "expected 9,000,000,000,000 records"),
        (
            lambda: described(filepathTemplate="../../../etc/passwd"),
            "expected the files of .* inside. Received: /",
        ),
        (
            lambda: edited(
                home / "dataset_info.json", lambda info: info.update(splits=info["splits"][1:])
            ),
            "data.builder: expected a dataset with a part train",
        ),
    ]
    for change, message in cases:
        shutil.rmtree(home)
        shutil.copytree(whole, home)
        change()
        _tfds_labelled.opened.cache_clear()
        with pytest.raises(UserError, match=message):
            _ = TFDSImages(
                builder="tiny_squares", side=8, test_part="test", validation=15
            ).label_names


def test_small_sets_hold_what_was_published(small_published, monkeypatch):
    usual = _tfds.read_all
    changes = {"image": lambda value: value[:5], "label": lambda value: value + 1}
    for key, change in changes.items():
        monkeypatch.setattr(
            _tfds,
            "read_all",
            lambda name, part, key=key, change=change: {
                **usual(name, part),
                key: change(usual(name, part)[key]),
            },
        )
        with pytest.raises(
            NoData,
            match=(
                r"cifar10 in .*: expected in train image uint8 \[400, 32, 32, 3\], label 0 ... 9."
                r" Received: image"
            ),
        ):
            CIFAR10(validation=50).arrays("train")
    monkeypatch.setattr(_tfds, "read_all", lambda name, part: {"picture": np.zeros(3)})
    tiny_shakespeare._text.cache_clear()
    with pytest.raises(NoData, match="tiny_shakespeare in .*: expected texts in train"):
        TinyShakespeare(context=8).content()


def test_a_class_is_one_however_its_accents_are_written(tmp_path):
    """A Mac's zip holds them apart: café and cafe with an accent behind it are one class."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    draw_folder(tmp_path / "train", classes=(composed, "tea"))
    draw_folder(tmp_path / "test", classes=(apart, "tea"), count=5)
    data = ImageFolder(path=str(tmp_path), side=8)
    assert data.label_names == (composed, "tea")
    assert np.bincount(data.labels("test")).tolist() == [5, 5]
    draw_folder(tmp_path / "train", classes=(apart,), count=3)
    again = ImageFolder(path=str(tmp_path), side=8, validation_share=0.5)
    assert again.label_names == (composed, "tea")
    assert not any("left out" in line for line in again.notes())
    assert again.size("train") + again.size("validation") == 43


def test_a_part_without_labels_is_refused_before_training(tmp_path, monkeypatch):
    """Some test sets are published without; all their labels are -1."""
    from tensorflow_datasets import features

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    picture = np.zeros((9, 9, 3), np.uint8)
    kinds = {"image": features.Image(), "label": features.ClassLabel(names=["a", "b"])}
    parts = {"train": [{"image": picture, "label": i % 2} for i in range(40)]}
    parts["test"] = [{"image": picture, "label": -1} for _ in range(9)]
    _tfds.prepare_made_up("hidden_labels", tmp_path, kinds, parts, random_access=True)
    data = TFDSImages(builder="hidden_labels", side=8, test_part="test", validation=5)
    assert data.size("train") == 35
    with pytest.raises(UserError, match="the part test of hidden_labels is published without lab"):
        data.size("test")


def test_labels_without_a_name_are_refused(tmp_path, monkeypatch):
    from tensorflow_datasets import features

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = dataclasses.replace(TFDSImages.smallest(tmp_path), side=9)  # opened anew
    (names,) = tmp_path.rglob("label.labels.txt")
    names.write_text("dark\n", "utf-8")
    with pytest.raises(UserError, match="expected labels 0 ... 0, as 1 classes .* Received: 1"):
        data.examples("test", np.arange(data.size("test")))
    picture = np.zeros((9, 9, 3), np.uint8)
    kinds = {"bbox": features.BBoxFeature(), "label": features.ClassLabel(names=["a", "b"])}
    kinds = {"image": features.Image(), "objects": features.Sequence(kinds)}
    box = features.BBox(0.1, 0.1, 0.9, 0.9)
    rows = [{"image": picture, "objects": [{"bbox": box, "label": i % 2}]} for i in range(20)]
    parts = {"train": rows, "validation": rows[:4]}
    _tfds.prepare_made_up("boxed", tmp_path, kinds, parts, random_access=True)
    (names,) = tmp_path.rglob("objects-label.labels.txt")
    names.write_text("a\n", "utf-8")
    with pytest.raises(UserError, match="of train of boxed: expected labels 0 ... 0, as 1 classes"):
        TFDSDetection(builder="boxed", validation=4).size("train")


def test_wrong_parts_and_keys_of_a_large_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare_set(tmp_path)

    def make(**changes):
        return TFDSImages(
            **{
                "builder": "tiny_squares",
                "side": 8,
                "test_part": "test",
                "validation": 15,
                **changes,
            }
        )

    for changes, message in (
        ({"test_part": "tset"}, "data.test_part: expected one of train, test. Received: 'tset'"),
        ({"label_key": "lable"}, "data.label_key: expected one of image, label"),
        (
            {"label_key": "image"},
            "data.label_key: expected a feature of labels. Received: 'image', Image",
        ),
        (
            {"image_key": "label"},
            "data.image_key: expected a feature of pictures. Received: 'label', ClassLabel",
        ),
        ({"validation": 60}, "data.validation: expected fewer than the 60"),
        ({"validation_part": "test"}, "expected another part than that of the test split"),
        ({"test_part": "train"}, "expected another part than that of the train split"),
    ):
        with pytest.raises(UserError, match=message):
            make(**changes).size("train")
    rows = [
        set(np.asarray(make().examples(split, np.arange(make().size(split)))["image"][:, 0, 0, 0]))
        for split in ("train", "validation")
    ]
    assert not rows[0] & rows[1] and len(rows[0] | rows[1]) == 60


def test_folder_of_pictures(tmp_path):
    flat = ImageFolder(path=str(draw_folder(tmp_path / "flat")), side=6, channels=1, test_share=0.2)
    assert flat.label_names == ("cat", "dog", "eel") and [flat.size(split) for split in SPLITS] == [
        43,
        5,
        12,
    ]
    seen = [int(pixel) for split in SPLITS for pixel in flat.arrays(split)["image"][:, 0, 0, 0]]
    labels = np.concatenate([flat.arrays(split)["label"] for split in SPLITS])
    # Each picture keeps its own class's intensities
    assert np.abs(np.array(seen) - 60 * labels - 10).max() <= 11
    assert np.bincount(flat.arrays("test")["label"]).tolist() == [4, 4, 4]
    for part, count in (("train", 10), ("val", 4), ("test", 6)):
        draw_folder(tmp_path / "parts" / part, count=count)
    parts = ImageFolder(path=str(tmp_path / "parts"), side=6)
    assert [parts.size(split) for split in SPLITS] == [30, 12, 18] and parts.examples(
        "test", np.arange(2)
    )["image"].shape == (2, 6, 6, 3)


def test_each_picture_is_decoded_once(tmp_path, monkeypatch):
    """To measure and to train on; the figures are the same as from the files, bit for bit."""
    decoded, facts = [], []
    decode = _images.decode_pictures
    monkeypatch.setattr(
        _images,
        "decode_pictures",
        lambda contents, names, *how: decoded.extend(names) or decode(contents, names, *how),
    )
    draw_folder(tmp_path)
    for memory in (image_folder.MEMORY_BYTES, 0):
        monkeypatch.setattr(image_folder, "MEMORY_BYTES", memory)
        data = Readable(ImageFolder(path=str(tmp_path), side=5))
        facts.append(ImageClassification().measure(data))
        assert (data.arrays("train") is None) == (memory == 0) and len(decoded) == data.size(
            "train"
        )
        decoded.clear()
    assert facts[0] == facts[1]


def test_hidden_pictures_are_none(tmp_path):
    """Copies that notebooks and archives leave behind."""
    folder, seen = draw_folder(tmp_path / ".mine"), {}
    seen["before"] = ImageFolder(path=str(folder), side=6).fingerprint(), Picture.find(folder)[0]
    for copy in (
        "cat/.ipynb_checkpoints/00.png",
        "cat/__MACOSX/00.png",
        "__MACOSX/cat/00.png",
        "cat/._00.png",
        ".cat/00.png",
    ):
        (folder / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "cat" / "00.png", folder / copy)
    seen["after"] = ImageFolder(path=str(folder), side=6).fingerprint(), Picture.find(folder)[0]
    assert seen["before"] == seen["after"] and len(seen["after"][1]) == 60
    # Asked for by its name
    assert Picture.find([folder / "cat" / "._00.png"])[0] == [folder / "cat" / "._00.png"]


def test_pictures_behind_links_are_read_once(tmp_path):
    folder, far = (
        draw_folder(tmp_path / "mine"),
        draw_folder(tmp_path / "far", classes=("more", "most"), count=3),
    )
    (folder / "cat" / "more").symlink_to(far / "more")
    # The same pictures must not stand in two splits
    (folder / "cat" / "again").symlink_to(far / "more")
    (folder / "cat" / "deep").symlink_to(far)
    (folder / "cat" / "round").symlink_to(folder / "cat")
    (folder / "fox").symlink_to(far / "most")
    data = ImageFolder(path=str(folder), side=6)
    assert data.label_names == ("cat", "dog", "eel", "fox")
    counts = sum(np.bincount(data.arrays(split)["label"], minlength=4) for split in SPLITS)
    assert counts.tolist() == [20 + 6, 20, 20, 3]
    note, classes = data.notes()  # of the copies that the links make; nothing is left out
    assert "under another class too, byte for byte: 9, of cat, dog, fox;" in classes
    assert "too, byte for byte: 2 of validation, 2 of test;" in note
    assert len(Picture.find(folder)[0]) == 60 + 6


def test_pictures_that_stand_in_two_splits_are_said(tmp_path):
    for seed, part in enumerate(("train", "validation", "test")):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.full((8, 8, 3), 100 * seed + 10 * number + (name == "cat"), np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    assert ImageFolder(path=str(tmp_path), side=6).notes() == []
    content = (tmp_path / "train" / "dog" / "1.png").read_bytes()
    for copy in ("test/dog/9.png", "test/cat/8.png", "validation/dog/0.png"):
        (tmp_path / copy).write_bytes(content)
    note, classes = ImageFolder(path=str(tmp_path), side=6).notes()
    assert "under another class too, byte for byte: 4, of cat, dog;" in classes
    assert "too, byte for byte: 1 of validation, 2 of test;" in note
    # Large files that differ in one place
    for name, place in (("train/cat/7.png", 5000), ("test/cat/7.png", 5001)):
        (tmp_path / name).write_bytes(content.ljust(place, b"0").ljust(40_000, b"1"))
    assert ImageFolder(path=str(tmp_path), side=6).notes() == [note, classes]


def test_what_is_left_out_of_a_folder_is_said(tmp_path):
    picture, folder = Image.new("RGB", (8, 8)), draw_folder(tmp_path / "mine")
    assert ImageFolder(path=str(folder), side=6).notes() == []
    for name in ("cat/1.webp", "cat/2.WEBP", "dog/1.tiff"):
        picture.save(folder / name)
    (folder / "cat" / "notes").write_text("")
    (folder / "stray.png").write_bytes(b"")
    (folder / "eel" / "gone.png").symlink_to(folder / "nowhere")
    data = ImageFolder(path=str(folder), side=6)
    expected = (
        "being no pictures of a class, ending in .png, .jpg, .jpeg, .jpe, .jfif, .bmp, .gif: 2"
        " .webp, 1 without an ending, 1 .tiff, 1 broken link, 1 .png"
    )
    assert data.notes() == [f"left out of {folder}, {expected}"]
    draw_folder(tmp_path / "parts" / "train", count=10), draw_folder(tmp_path / "parts" / "more")
    (note,) = ImageFolder(path=str(tmp_path / "parts"), side=6).notes()[:1]
    assert note.endswith(": 1 folder called more")
    # Which decoding will refuse
    assert [path.name for path in Picture.find(folder / "dog")[0] if path.suffix == ".tiff"] == [
        "1.tiff"
    ]


def test_pictures_come_as_they_are_stored_too(data):
    """And decode to what is learnt."""
    for positions in (np.array([3, 0, 3]), np.array([], np.int64)):
        stored = data.encoded("train", positions)
        assert stored or not isinstance(data, (ImageFolder, TFDSImages))
        assert set(stored) <= set(data.spec)
        for name, contents in stored.items():
            assert contents.dtype == object and contents.shape == positions.shape
            if name != "image":
                continue
            shape = data.spec[name].shape
            if "size" in data.spec and len(contents):  # nothing of them is cut off
                decode = pictures.decode_all_inside
                decoded, size = decode(tf.constant(contents), shape, data.background)
                np.testing.assert_array_equal(size, data.examples("train", positions)["size"])
            else:
                decoded = _images.decode_pictures(contents, list(contents), shape, data.background)
            np.testing.assert_array_equal(decoded, data.examples("train", positions)[name])


def test_the_fingerprint_tells_content(tmp_path):
    """All BMPs of one size are files of one size."""
    picture, told = draw_folder(tmp_path) / "cat" / "02.bmp", set()
    for side, grey in ((12, 0), (12, 1), (200, 0), (200, 1)):
        pixels = np.zeros((side, side, 3), np.uint8)
        pixels[side // 2, side // 2] = grey
        Image.fromarray(pixels).save(picture)
        told.add(ImageFolder(path=str(tmp_path)).fingerprint())
    assert len(told) == 4
    content = picture.read_bytes()
    for place in range(60, len(content), 5000):  # wherever it changes
        picture.write_bytes(content[:place] + b"\x7f" + content[place + 1 :])
        told.add(ImageFolder(path=str(tmp_path)).fingerprint())
    assert len(told) == 4 + len(range(60, len(content), 5000)) > 20


def test_files_are_read_once_and_again_when_they_change(tmp_path):
    path = tmp_path / "it"
    path.write_bytes(b"old")
    old = hashlib.sha256(b"old").hexdigest()
    assert files.digests([path, tmp_path / "gone", path]) == [old, files.UNREAD, old]
    os.utime(path, ns=(0, 0))
    assert files.digests([path]) == [old]  # changed just now: its status tells nothing yet
    status = path.stat()
    with unittest.mock.patch("time.time_ns", lambda: status.st_ctime_ns + 10**11):
        assert files.digests([path]) == [old]
        with unittest.mock.patch("hashlib.file_digest", None):
            assert files.digests([path]) == [old]
        time.sleep(0.01)  # the clock of file systems is coarse
        path.write_bytes(b"new")
        os.utime(path, ns=(0, 0))
        assert files.digests([path]) == [hashlib.sha256(b"new").hexdigest()]


def test_what_stands_under_two_classes_is_told(tmp_path):
    folder = draw_folder(tmp_path / "pictures", count=10)
    shared = draw_folder(tmp_path / "more", classes=("x", "y", "z", "owl"), count=2) / "owl"
    for name in ("cat", "dog"):
        (folder / name / "more").symlink_to(shared)
    (note,) = ImageFolder(path=str(folder), side=6).notes()[-1:]
    assert note == (
        "pictures that stand under another class too, byte for byte: 4, of cat, dog;"
        " not all can be right"
    )
    (folder / "eel" / "all").symlink_to("..")
    note = ImageFolder(path=str(folder), side=6).notes()[-1]
    assert "byte for byte: 46, of cat, dog, eel;" in note


def test_folders_of_splits_in_any_letters(tmp_path):
    for part, count in (("Training", 10), ("VAL", 4), ("Test", 6)):
        draw_folder(tmp_path / part, count=count)
    parts = ImageFolder(path=str(tmp_path), side=6)
    assert parts.label_names == ("cat", "dog", "eel") and [
        parts.size(split) for split in SPLITS
    ] == [30, 12, 18]
    (tmp_path / "VAL").rename(tmp_path / "dev")
    assert ImageFolder(path=str(tmp_path), side=6).size("validation") == 12
    draw_folder(tmp_path / "classes", classes=("Training", "Resting"))
    assert ImageFolder(path=str(tmp_path / "classes")).label_names == ("Resting", "Training")
    draw_folder(tmp_path / "testing")
    with pytest.raises(
        UserError,
        match=(
            r"expected one folder of the test split in .*\. Found: Test, testing\. Take all but one"
            r" elsewhere"
        ),
    ):
        ImageFolder(path=str(tmp_path)).size("test")


def test_wrong_folders_are_explained(tmp_path):
    def refused(message, **knobs):
        with pytest.raises(UserError, match=message):
            data = ImageFolder(**knobs)
            data.examples("train", np.arange(data.size("train")))

    refused("data.path: expected a folder of pictures. Received: nowhere", path="nowhere")
    draw_folder(tmp_path / "latin", classes=("a", os.fsdecode(b"b\xe9")))
    refused(
        r"expected class folders whose names are text in UTF-8.*Received: 'b\\udce9' in .*latin."
        r" Rename it",
        path=str(tmp_path / "latin"),
    )
    draw_folder(tmp_path / "one", classes=("only",))
    refused(
        "expected a subfolder for each class, two at least.*Found: only", path=str(tmp_path / "one")
    )
    (draw_folder(tmp_path / "empty") / "fox").mkdir()
    refused("fox holds no picture. Expected files ending in .png", path=str(tmp_path / "empty"))
    draw_folder(tmp_path / "parts" / "train")
    draw_folder(tmp_path / "parts" / "test")
    shutil.rmtree(tmp_path / "parts" / "test" / "cat")
    refused("test/cat holds no picture. Expected files ending", path=str(tmp_path / "parts"))
    for name in ("cat", "dog"):
        draw_folder(tmp_path / "inside" / name, classes=("train", "test"))
    refused(
        "expected splits outside of classes, as train/cat. Received: .*cat, a class with train"
        " and test inside",
        path=str(tmp_path / "inside"),
    )
    (draw_folder(tmp_path / "torn") / "cat" / "00.png").write_bytes(b"no picture")
    refused(
        "cat/00.png cannot be decoded",
        path=str(tmp_path / "torn"),
        test_share=0.02,
        validation_share=0.02,
        split_seed=3,
    )
    draw_folder(tmp_path / "more" / "train")
    draw_folder(tmp_path / "more" / "test", classes=("cat", "dog", "eel", "gnu"))
    refused("has the class 'gnu', which the training folder has not", path=str(tmp_path / "more"))
