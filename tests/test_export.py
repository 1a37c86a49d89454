"""Exports: what is published is verified, what falls short or could do harm is refused."""

import ctypes
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfbig
from tfbig import export as door
from tfbig.core.errors import RunFailure, UserError
from tfbig.deploy import (
    allowlist,
    arrays,
    artefact,
    bench,
    card,
    destination,
    litert_format,
    onnx_format,
    publish,
    verify,
)
from tfbig.deploy.programs import Programs

pytestmark = pytest.mark.long

SMALL = ("train.length=120", "train.evaluate_every=60", "train.save_every=60")
SHIPPED = Path(tfbig.__file__).parent.parent / "saved_models" / "mnist_mlp" / "1"


@pytest.fixture(scope="module")
def run(few_digits, tmp_path_factory):
    return tfbig.train("mnist_mlp", *SMALL, run=tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A model's directory with one version, and the record as the command prints it."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    record = door.export(run, folder, ("savedmodel", "onnx", "litert"), "int8")
    return folder, json.loads(json.dumps(record))


def test_what_is_published(run, exported):
    folder, record = exported
    # Nothing is left beside it
    assert [entry.name for entry in folder.iterdir()] == ["1"] and record["path"] == str(
        folder / "1"
    )
    assert artefact.check(folder / "1") == {
        key: value for key, value in record.items() if key != "path"
    }
    assert {
        "saved_model.pb",
        "model.onnx",
        "model.tflite",
        "card.md",
        "assets.extra/metadata.json",
    } <= set(record["files"])
    for name, entry in record["files"].items():
        content = (folder / "1" / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    expected = run.read_json("metrics.json")["test"]["metrics"]
    for name in ("savedmodel", "savedmodel, tensors", "onnx", "litert"):
        report = record["verification"][name]
        assert report["count"] == 1_000 and report["metrics"]["accuracy"]["changed"] <= 5
        assert report["metrics"]["accuracy"]["value"] == pytest.approx(
            expected["accuracy"]["value"], abs=5e-4
        )
        assert 0 <= report["largest_difference"] <= 1e-4 and report["foreign_modules"] == []
        for size in ("1", "8", "32"):
            assert (
                0
                < report["latency"][size]["p50_ms"]
                <= report["latency"][size]["p95_ms"]
                <= report["latency"][size]["p99_ms"]
            )
        assert (
            report["peak_memory_mb"] > 20
            and report["cold_start_s"] > 0
            and report["throughput_examples_per_s"] > 0
        )
    assert record["verification"]["onnx"]["metrics"]["loss"]["value"] == pytest.approx(
        expected["loss"]["value"], abs=1e-4
    )
    assert any("int8" in name for name in record["verification"])
    facts = run.read_json("data.json")["facts"]
    assert (
        record["signatures"]["tensors"]["inputs"]["image"]["unit"]
        == f"(intensity 0-255 - {facts['mean'][0]}) / {facts['std'][0]}"
    )
    assert (
        record["signatures"]["model.onnx, model.tflite, model.int8.onnx, model.int8.tflite"][
            "inputs"
        ]["image"]["unit"]
        == "intensity 0-255"
    )
    assert record["media"]["takes"] == {"image_bytes": "picture"}
    assert set(record["media"]["gives"]) == set(record["signatures"]["serving_default"]["outputs"])
    card = (folder / "1" / "card.md").read_text()
    assert "`image` (float32 [None, 28, 28, 1], (intensity 0-255 - " in card
    assert "| accuracy |" in card and "CC BY-SA 3.0" in card and "101,770 parameters" in card
    assert {line["version"] for line in [run.read_json("export.json")]} == {1}
    assert "Deployment" in (run.path / "report.html").read_text()


def test_saved_model_answers_people(exported):
    folder, _ = exported
    loaded = tf.saved_model.load(str(folder / "1"))
    data = tfbig.recipe("mnist_mlp").data
    test = data.examples("test", np.arange(20))
    task, model = tfbig.build(tfbig.recipe("mnist_mlp"))
    answers = loaded.signatures["serving_default"](
        image_bytes=tf.constant(task.encode(test)["image_bytes"])
    )
    assert set(answers) == {"label", "probability", "labels", "probabilities"} and answers[
        "labels"
    ].shape == (20, 5)
    said = [text.decode() for text in answers["label"].numpy()]
    assert (
        np.mean([int(text) == label for text, label in zip(said, test["label"], strict=True)]) > 0.7
    )
    jpeg = tf.io.encode_jpeg(
        tf.image.resize(test["image"][0], (56, 56)).numpy().astype(np.uint8)
    ).numpy()
    assert loaded.signatures["serving_default"](image_bytes=tf.constant([jpeg]))["label"].shape == (
        1,
    )
    ready = task.preprocess({"image": tf.constant(test["image"])}, False)
    outputs = loaded.signatures["tensors"](image=ready["image"])
    np.testing.assert_allclose(
        np.sort(outputs["probability"].numpy())[:, ::-1][:, :5], answers["probabilities"], rtol=1e-5
    )


def test_onnx_is_for_readers(exported):
    import onnx
    import onnxruntime

    folder, _ = exported
    model = onnx.load(str(folder / "1" / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == onnx_format.OPSET
    assert json.loads(
        {entry.key: entry.value for entry in model.metadata_props}["label_names"]
    ) == list("0123456789")
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("image", "tensor(uint8)", ["batch", 28, 28, 1])
    ]
    assert sorted(o.name for o in session.get_outputs()) == ["label", "logits", "probability"]
    for size in (1, 3, 17):
        assert session.run(["label"], {"image": np.zeros((size, 28, 28, 1), np.uint8)})[
            0
        ].shape == (size,)


def source_of(run, folder):
    class Silent:
        note = staticmethod(lambda text: None)

    opened = tfbig.train.Run.open(run.path)
    folder.mkdir(exist_ok=True)
    return door._source(opened, "best", opened.experiment.task.service(), Silent, folder)


def test_exports_are_verified_from_the_files_that_users_have(tmp_path, monkeypatch):
    """JPEGs with EXIF, as they are stored.

    Without the unreadable ones, for which others stood in.
    """
    for part, count in (("train", 8), ("validation", 4), ("test", 6)):
        for label in "ab":
            (tmp_path / "pictures" / part / label).mkdir(parents=True)
            for i in range(count):
                exif = Image.Exif()
                exif[0x0112] = 1 + i
                noise = (
                    np.random.RandomState(i + 100 * (label == "b"))
                    .randint(0, 256, (9, 12, 3))
                    .astype(np.uint8)
                )
                Image.fromarray(noise).save(
                    tmp_path / "pictures" / part / label / f"{i}.jpg", exif=exif.tobytes()
                )
    (tmp_path / "pictures" / "test" / "a" / "3.jpg").write_bytes(b"no picture")
    data = (
        "data=image_folder",
        f"data.path={tmp_path / 'pictures'}",
        "data.side=6",
        "data.on_error=skip",
        "model.units=4",
    )
    run = tfbig.train(
        "mnist_mlp",
        *data,
        "train.batch_size=4",
        "train.length=2",
        "train.evaluate_every=2",
        run=tmp_path / "run",
    )
    files = [
        path.read_bytes()
        for path in sorted((tmp_path / "pictures" / "test").glob("*/*.jpg"))
        if path.read_bytes() != b"no picture"
    ]
    monkeypatch.setattr(door, "READ_TOGETHER", 5)
    # A few at least, and all as far as they are not too much
    for stored_bytes, stored in ((1 << 30, 11), (1, 5)):
        monkeypatch.setattr(door, "STORED_BYTES", stored_bytes)
        source = source_of(run, tmp_path / "outputs")
        served, task = source.reference.served["image_bytes"], source.programs.task
        assert served[:stored].tolist() == files[:stored] and len(served) == len(files) == 11
        np.testing.assert_array_equal(
            task.decode({"image_bytes": tf.constant(served)})["image"],
            source.reference.raw["image"],
        )
    assert (
        len(source.reference.outputs["label"])
        == source.reference.metrics["accuracy"]["count"]
        == 11
    )


def test_an_artefact_that_answers_otherwise_is_not_published(run, tmp_path):
    source = source_of(run, tmp_path / "outputs")
    kernel = source.programs.model.get_layer("head").kernel
    kernel.assign(kernel.value * 0.0)  # what is exported is no longer what was evaluated
    with pytest.raises(RunFailure, match="nothing was published") as caught:
        publish.export(
            source, tmp_path / "models", ("savedmodel",), False, None, 2.0, lambda text: None
        )
    assert (
        "FAIL" in str(caught.value)
        and "accuracy" in str(caught.value)
        and "largest output difference" in str(caught.value)
    )
    assert list((tmp_path / "models").iterdir()) == []


def test_baseline(exported, run, tmp_path, capsys):
    folder, record = exported
    better = shutil.copytree(folder / "1", tmp_path / "better" / "3")
    raised = json.loads((better / "artefact.json").read_text())
    raised["metrics"]["metrics"]["accuracy"] = {
        "value": 0.999,
        "low": 0.998,
        "high": 1.0,
        "count": 1_000,
    }
    (better / "artefact.json").write_text(json.dumps(raised))
    assert destination.find_baseline(tmp_path / "better") == better
    code = door.main(
        [
            str(run.path),
            str(tmp_path / "new"),
            "--baseline",
            str(tmp_path / "better"),
            "--latency-factor",
            "1e-9",
        ]
    )
    assert code == 1 and list((tmp_path / "new").iterdir()) == []
    said = capsys.readouterr().err
    assert (
        "at least 0.998 (interval of version 1 in service)" in said
        and said.count("p50 latency, batch ") == 3
    )
    with pytest.raises(UserError, match="expected an exported artefact"):
        destination.find_baseline(tmp_path)


def test_a_baseline_is_looked_at_before_anything_is_computed(
    exported, run, tmp_path, capsys, monkeypatch
):
    assert (
        door.main([str(run.path), str(tmp_path / "new"), "--baseline", str(tmp_path / "nothing")])
        == 2
    )
    monkeypatch.setattr(destination.allowlist, "ALLOWED", frozenset())
    assert door.main([str(run.path), str(tmp_path / "new"), "--baseline", str(exported[0])]) == 2
    said = capsys.readouterr().err
    assert (
        "expected an exported artefact" in said and "refused" in said and "evaluating" not in said
    )


def test_not_worse():
    interval = {"value": 0.9, "low": 0.88, "high": 0.92}
    assert verify.not_worse("x", "accuracy", "max", 0.88, interval, "w").passed
    assert not verify.not_worse("x", "accuracy", "max", 0.8799, interval, "w").passed
    assert verify.not_worse("x", "loss", "min", 0.92, interval, "w").passed
    assert not verify.not_worse("x", "loss", "min", 0.93, interval, "w").passed


def test_versions_count_up(tmp_path):
    for name in ("1", "3", "03", "x", ".9.tmp", "-2", "0"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("")
    assert artefact.versions(tmp_path) == [1, 3] and artefact.next_version(tmp_path) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 2, "expected a run directory"),
        (
            ["RUN", "--format", "onnxx"],
            2,
            "format: expected savedmodel, onnx, litert. Received: 'onnxx'",
        ),
        (["RUN", "--quantize", "int8"], 2, "int8 is made of onnx and litert"),
        (
            ["RUN", "--quantize", "int4", "--format", "onnx"],
            2,
            "quantize: expected int8. Received: 'int4'",
        ),
        (["RUN", "--baseline", "nowhere"], 2, "--baseline nowhere: expected an exported artefact"),
        (["RUN", "--step", "77"], 2, "step: expected best, last or one of"),
        (
            ["RUN", "--baseline", "nowhere", "--latency-factor", "nan"],
            2,
            "latency-factor: expected a number above 0. Received: nan.",
        ),
        (["RUN", "RUN/config.json/a"], 2, "config.json is no directory"),
        (["RUN", "--latency-factor", "0"], 2, "latency-factor: compares with an artefact"),
    ],
)
def test_mistakes(run, arguments, code, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert door.main([word.replace("RUN", str(run.path)) for word in arguments]) == code
    assert message in capsys.readouterr().err


def test_a_version_spoils_nothing_that_is_there(run, exported, capsys):
    """Neither another version, which would hold files it does not list, nor a directory of models,
    which would count as one.
    """
    folder, _ = exported
    for place, message in (
        (folder / "1", f"Expected the directory of its model: {folder}"),
        (folder.parent, f"is a directory of models ({folder.name})"),
    ):
        assert door.main([str(run.path), str(place)]) == 2
        assert message in capsys.readouterr().err and "1" not in [
            entry.name for entry in place.iterdir()
        ]
    artefact.check(folder / "1")


def test_mixed_precision_leaves_in_float32(tmp_path):
    run = tfbig.train(
        "mnist_mlp", *SMALL, "device.precision=bfloat16", "model.dropout=0.1", run=tmp_path / "run"
    )
    source = source_of(run, tmp_path / "outputs")
    assert (
        source.programs.model.dtype_policy.name == "float32"
        and source.facts["float32"]["weights_equal"] == 5  # four, and the seed of Dropout
    )
    onnx_format.write(source.programs.tensors, tmp_path / "model.onnx", {})
    examined = bench.Bench(source.programs, source.reference, tmp_path)
    report = examined.examine("onnx", tmp_path / "model.onnx")
    assert all(check.passed for check in verify.exact("onnx", report, source.reference))


@pytest.mark.parametrize(
    "model",
    [
        ("cnn", "model.filters=4,8", "model.units=8"),
        ("lstm", "model.units=8"),
        ("vit", "model.width=16", "model.depth=1"),
    ],
    ids=lambda m: m[0],
)
def test_every_model_kind_converts_to_onnx(model, tmp_path):
    import onnxruntime

    name, *settings = model
    task, built = tfbig.build(tfbig.recipe("mnist_mlp", f"model={name}", *settings))
    programs = Programs(task, built)
    onnx_format.write(programs.tensors, tmp_path / "model.onnx", {})
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    images = task.data.examples("test", np.arange(7))["image"]
    expected = programs.tensors(image=tf.constant(images))
    for output, value in zip(
        ("logits", "label"), session.run(["logits", "label"], {"image": images}), strict=True
    ):
        np.testing.assert_allclose(value, expected[output].numpy(), atol=1e-4)


def test_what_litert_cannot_take_is_one_message(tmp_path, capfd):
    programs = Programs(*tfbig.build(tfbig.recipe("mnist_mlp", "model=lstm", "model.units=4")))
    with pytest.raises(
        RunFailure,
        match="litert: the model cannot be converted: .*TensorListReserve.* export to onnx",
    ):
        litert_format.write(programs, tmp_path / "model.tflite")
    assert "TensorListReserve" not in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_exact_gelu_converts(tmp_path):
    """Erfc, which tf2onnx lacks."""
    import onnxruntime

    made = tf.function(
        lambda **given: {
            "y": 0.5 * given["x"] * tf.math.erfc(-given["x"] / np.float32(np.sqrt(2)))
        },
        autograph=False,
    )
    made.traced = made.get_concrete_function(x=tf.TensorSpec((None, 4), tf.float32, name="x"))
    onnx_format.write(made, tmp_path / "gelu.onnx", {})
    x = np.linspace(-3, 3, 8, dtype=np.float32).reshape(2, 4)
    found = onnxruntime.InferenceSession(str(tmp_path / "gelu.onnx")).run(["y"], {"x": x})[0]
    np.testing.assert_allclose(found, tf.nn.gelu(x, approximate=False), atol=1e-6)


WRONG = [
    {"metrics": []},
    {"metrics": {"metrics": []}},
    {"metrics": {"metrics": {"accuracy": 1}}},
    {"metrics": {"metrics": {"accuracy": {"value": "1"}}}},
    {"labels": 3},
    {"labels": [1]},
    {"purpose": {}},
    {"media": ["picture"]},
    {"media": {"takes": {"image_bytes": 1}}},
]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "variables" / "variables.index").write_bytes(b"x"),
            "its content is not what artefact.json says",
        ),
        (lambda folder: (folder / "extra.so").write_bytes(b"x"), "does not list this file"),
        (lambda folder: (folder / "card.md").unlink(), "the file is missing"),
        (
            lambda folder: (
                (folder / "card.md").unlink(),
                (folder / "card.md").symlink_to("/etc/passwd"),
            ),
            "no links",
        ),
        (lambda folder: (folder / "artefact.json").unlink(), "has no artefact.json"),
        (
            lambda folder: (folder / "artefact.json").write_text("[" * 100_000),
            "cannot be read as JSON",
        ),
        (
            lambda folder: (folder / "artefact.json").write_text('{"files": {"a": 1}}'),
            "files: a: expected an object",
        ),
        *(
            (
                lambda folder, part=part: (folder / "artefact.json").write_text(
                    json.dumps({"files": {}, **part})
                ),
                f"{next(iter(part))}: .*expected",
            )
            for part in WRONG
        ),
        *(
            (
                lambda folder, value=value: (folder / "artefact.json").write_text(
                    '{"files": {}, "purpose": ' + value + "}"
                ),
                "cannot be read as JSON",
            )
            for value in ("NaN", "1e999", r'"\ud800"', "[" * 900 + "]" * 900, "[" * 40 + "]" * 40)
        ),  # one such record took the list of all models away
        (
            lambda folder: (folder / "artefact.json").write_text('{"schema": 99, "files": {}}'),
            "schema: expected at most 2. Received: 99",
        ),
        (lambda folder: add(folder, "../../escape"), "leads out of the artefact"),
        (lambda folder: add(folder, "/etc/passwd"), "leads out of the artefact"),
    ],
)
def test_artefacts_that_are_not_what_they_say_are_refused(change, message, tmp_path):
    folder = shutil.copytree(SHIPPED, tmp_path / "1")
    artefact.check(folder)
    change(folder)
    with pytest.raises(UserError, match=message):
        artefact.check(folder)


def add(folder, name):
    record = json.loads((folder / "artefact.json").read_text())
    record["files"][name] = {"size": 1, "sha256": "0"}
    (folder / "artefact.json").write_text(json.dumps(record))


def test_a_metric_that_counts_nothing_has_no_value():
    sums = {"a__sum": np.array([1.0, 0]), "a__count": np.ones(2), "rare__sum": np.zeros(2)}
    own = {**sums, "rare__count": np.zeros(2)}
    other = {**own, "a__sum": np.array([1.0, 1])}
    assert bench.compared(own, other) == {"a": {"value": 0.5, "expected": 1.0, "changed": 1}}
    record = artefact.read(Path(__file__).parents[1] / "saved_models" / "mnist_mlp" / "1")
    before = card.text(record)
    record["metrics"]["metrics"]["rare"] = {"value": None, "low": None, "high": None, "count": 0}
    assert card.text(record) == before


def test_arrays_on_the_disk(tmp_path):
    """Whole and in parts, bytes among them; rows are read when they are asked for."""
    texts = np.array([[b"", b"a\x00"], [b"\xff" * 300, b"z"]], object)
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    for name, value in (("texts", texts), ("numbers", numbers), ("flags", numbers > 2)):
        writer = arrays.Writer(tmp_path / name)
        writer.add(value[:1])
        writer.add(value[1:])
        for path in (writer.close(), arrays.save(tmp_path / f"whole_{name}", value)):
            found = arrays.read(path)
            assert (found.shape, found.dtype, len(found)) == (value.shape, value.dtype, 2)
            assert (found[1:] == value[1:]).all() and (
                found[np.arange(3) % 2] == value[[0, 1, 0]]
            ).all()
    assert arrays.read(arrays.save(tmp_path / "one", np.int32(7)))[...] == 7
    assert arrays.read(arrays.save(tmp_path / "none", numbers[:0])).shape == (0, 3)


def test_differences_of_parts_are_those_of_the_whole():
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    texts = np.array([[b"", b"a"], [b"b", b"z"]], object)
    gaps = arrays.Differences()
    for row in (slice(0, 1), slice(1, 2)):
        found = {"a": numbers[row] + (1e-3 if row.start == 0 else 0), "t": texts[::-1][row]}
        gaps.add(found, {"a": numbers[row], "b": numbers[row], "t": texts[row]})
    assert gaps.outputs["b"] == {"missing": True} and gaps.outputs["t"] == {"changed": 4}
    assert gaps.outputs["a"]["largest"] == pytest.approx(1e-3, rel=0.1) and gaps.largest is None
    gaps = arrays.Differences()
    for value in (np.nan, 0.0):
        gaps.add({"a": np.array([value])}, {"a": np.zeros(1)})
    assert gaps.outputs == {"a": {"largest": None}} and gaps.largest is None


def test_shipped_artefact():
    record = artefact.check(SHIPPED)
    allowlist.check_saved_model(SHIPPED)
    allowlist.check_onnx(SHIPPED / "model.onnx")
    assert record["verification"]["savedmodel"]["metrics"]["accuracy"]["value"] > 0.97
    whole = sum(path.stat().st_size for path in SHIPPED.parent.rglob("*") if path.is_file())
    assert whole < 2_000_000


def test_c_api_loads_what_is_shipped(tmp_path):
    """In a process without TensorFlow's Python: the loader that TensorFlow Serving uses."""
    from tensorflow.core.protobuf import saved_model_pb2

    assert ctypes.sizeof(ctypes.c_void_p) == 8
    data = tfbig.recipe("mnist_mlp").data
    graph = saved_model_pb2.SavedModel.FromString((SHIPPED / "saved_model.pb").read_bytes())
    signature = graph.meta_graphs[0].signature_def["serving_default"]
    inputs, outputs = (
        {name: info.name for name, info in side.items()}
        for side in (signature.inputs, signature.outputs)
    )
    task, _ = tfbig.build(tfbig.recipe("mnist_mlp"))
    pictures = task.encode(data.examples("test", np.arange(5)))["image_bytes"]
    expected = tf.saved_model.load(str(SHIPPED)).signatures["serving_default"](
        image_bytes=tf.constant(pictures)
    )
    job = {
        "library": str(Path(tf.__file__).parent),
        "arrays": arrays.__file__,
        "path": str(SHIPPED),
        "inputs": {inputs["image_bytes"]: arrays.save(tmp_path / "in", pictures)},
        "outputs": {
            tensor: arrays.save(tmp_path / name, expected[name].numpy())
            for name, tensor in outputs.items()
        },
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("c_api.py")
    subprocess.run(
        [sys.executable, "-P", script, tmp_path / "job.json", tmp_path / "report.json"],
        check=True,
        capture_output=True,
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["foreign_modules"] == [] and set(report["outputs"]) == set(outputs.values())
    assert all(
        part.get("changed", 0) == 0 and part.get("largest", 0) < 1e-5
        for part in report["outputs"].values()
    )
