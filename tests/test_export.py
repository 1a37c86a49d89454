"""Exports: what is published is verified, what falls short or could do harm is refused."""

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig import export as door
from tfbig.core.errors import RunFailure, UserError
from tfbig.deploy import allowlist, artefact, litert_format, onnx_format, publish, verify, worker
from tfbig.deploy.programs import Programs
from tfbig.deploy.server import servable

SMALL = ("train.length=120", "train.evaluate_every=60", "train.save_every=60")
SHIPPED = Path(tfbig.__file__).parent.parent / "saved_models" / "mnist_mlp" / "1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tfbig.train("mnist_mlp", *SMALL, run=tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A model's directory with one version, made by the command, and what it printed."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    command = [sys.executable, "-m", "tfbig.export", run.path, folder, "--format", "onnx,litert", "--quantize", "int8", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_what_is_published(run, exported):
    folder, record = exported
    assert [entry.name for entry in folder.iterdir()] == ["1"] and record["path"] == str(folder / "1")  # nothing is left beside it
    assert artefact.check(folder / "1") == {key: value for key, value in record.items() if key != "path"}
    assert {"saved_model.pb", "model.onnx", "model.tflite", "card.md", "assets.extra/metadata.json"} <= set(record["files"])
    for name, entry in record["files"].items():
        content = (folder / "1" / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    expected = run.read_json("metrics.json")["test"]["metrics"]
    for name in ("savedmodel", "savedmodel, tensors", "onnx", "litert"):
        report = record["verification"][name]
        assert report["count"] == 10_000 and report["metrics"]["accuracy"]["changed"] <= 5
        assert report["metrics"]["accuracy"]["value"] == pytest.approx(expected["accuracy"]["value"], abs=5e-4)
        assert 0 <= report["largest_difference"] <= 1e-4 and report["foreign_modules"] == []
        for size in ("1", "8", "32"):
            assert 0 < report["latency"][size]["p50_ms"] <= report["latency"][size]["p95_ms"] <= report["latency"][size]["p99_ms"]
        assert report["peak_memory_mb"] > 20 and report["cold_start_s"] > 0 and report["throughput_examples_per_s"] > 0
    assert record["verification"]["onnx"]["metrics"]["loss"]["value"] == pytest.approx(expected["loss"]["value"], abs=1e-4)
    assert any("int8" in name for name in record["verification"])
    assert any(check[1] == "32 examples through TensorFlow's C API" for check in record["checks"])
    card = (folder / "1" / "card.md").read_text()
    assert "| accuracy |" in card and "CC BY-SA 3.0" in card and "101,770 parameters" in card
    assert {line["version"] for line in [run.read_json("export.json")]} == {1}
    assert "Deployment" in (run.path / "report.html").read_text()


def test_saved_model_answers_people(exported):
    folder, _ = exported
    loaded = tf.saved_model.load(str(folder / "1"))
    data = tfbig.recipe("mnist_mlp").data
    test = data.examples("test", np.arange(20))
    task, model = tfbig.build(tfbig.recipe("mnist_mlp"))
    answers = loaded.signatures["serving_default"](image_bytes=tf.constant(task.encode(test)["image_bytes"]))
    assert set(answers) == {"label", "probability", "labels", "probabilities"} and answers["labels"].shape == (20, 5)
    said = [text.decode() for text in answers["label"].numpy()]
    assert np.mean([int(text) == label for text, label in zip(said, test["label"], strict=True)]) > 0.7
    jpeg = tf.io.encode_jpeg(tf.image.resize(test["image"][0], (56, 56)).numpy().astype(np.uint8)).numpy()
    assert loaded.signatures["serving_default"](image_bytes=tf.constant([jpeg]))["label"].shape == (1,)
    ready = task.preprocess({"image": tf.constant(test["image"])}, False)
    outputs = loaded.signatures["tensors"](image=ready["image"])
    np.testing.assert_allclose(np.sort(outputs["probability"].numpy())[:, ::-1][:, :5], answers["probabilities"], rtol=1e-5)


def test_onnx_is_for_readers(exported):
    import onnx
    import onnxruntime

    folder, _ = exported
    model = onnx.load(str(folder / "1" / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == onnx_format.OPSET
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}["label_names"]) == list("0123456789")
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [("image", "tensor(uint8)", ["batch", 28, 28, 1])]
    assert sorted(o.name for o in session.get_outputs()) == ["label", "logits", "probability"]
    for size in (1, 3, 17):
        assert session.run(["label"], {"image": np.zeros((size, 28, 28, 1), np.uint8)})[0].shape == (size,)


def source_of(run):
    class Silent:
        note = staticmethod(lambda text: None)

    return door._source(tfbig.train.Run.open(run.path), "best", Silent)


def test_an_artefact_that_answers_otherwise_is_not_published(run, tmp_path):
    source = source_of(run)
    kernel = source.programs.model.get_layer("head").kernel
    kernel.assign(kernel.value * 0.0)  # what is exported is no longer what was evaluated
    with pytest.raises(RunFailure, match="nothing was published") as caught:
        publish.export(source, tmp_path / "models", ("savedmodel",), False, None, 2.0, lambda text: None)
    assert "FAIL" in str(caught.value) and "accuracy" in str(caught.value) and "largest output difference" in str(caught.value)
    assert list((tmp_path / "models").iterdir()) == []


def test_baseline(exported, run, tmp_path):
    folder, record = exported
    better = shutil.copytree(folder / "1", tmp_path / "better" / "3")
    raised = json.loads((better / "artefact.json").read_text())
    raised["metrics"]["metrics"]["accuracy"] = {"value": 0.999, "low": 0.998, "high": 1.0, "count": 10_000}
    (better / "artefact.json").write_text(json.dumps(raised))
    assert publish.find_baseline(tmp_path / "better") == better
    code = door.main([str(run.path), str(tmp_path / "new"), "--baseline", str(tmp_path / "better")])
    assert code == 1 and list((tmp_path / "new").iterdir()) == []
    with pytest.raises(UserError, match="expected an exported artefact"):
        publish.find_baseline(tmp_path)


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
        (["RUN", "--format", "onnxx"], 2, "format: expected savedmodel, onnx, litert. Received: 'onnxx'"),
        (["RUN", "--quantize", "int8"], 2, "int8 is made of onnx and litert"),
        (["RUN", "--quantize", "int4", "--format", "onnx"], 2, "quantize: expected int8. Received: 'int4'"),
        (["RUN", "--baseline", "nowhere"], 2, "--baseline nowhere: expected an exported artefact"),
        (["RUN", "--step", "77"], 2, "step: expected best, last or one of"),
        (["RUN", "--latency-factor", "0"], 2, "latency-factor: expected more than 0"),
    ],
)
def test_mistakes(run, arguments, code, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert door.main([str(run.path) if word == "RUN" else word for word in arguments]) == code
    assert message in capsys.readouterr().err


def test_mixed_precision_leaves_in_float32(tmp_path):
    run = tfbig.train("mnist_mlp", *SMALL, "device.precision=bfloat16", run=tmp_path / "run")
    source = source_of(run)
    assert source.programs.model.dtype_policy.name == "float32" and source.facts["float32"]["weights_equal"] == 4
    onnx_format.write(source.programs, tmp_path / "model.onnx", {})
    bench = verify.Bench(source.programs, source.reference, tmp_path)
    report = bench.examine("onnx", tmp_path / "model.onnx")
    assert all(check.passed for check in verify.exact("onnx", report, source.reference))


@pytest.mark.parametrize("model", [("cnn", "model.filters=4,8", "model.units=8"), ("lstm", "model.units=8"), ("vit", "model.width=16", "model.depth=1")], ids=lambda m: m[0])
def test_every_model_kind_converts_to_onnx(model, tmp_path):
    import onnxruntime

    name, *settings = model
    task, built = tfbig.build(tfbig.recipe("mnist_mlp", f"model={name}", *settings))
    programs = Programs(task, built)
    onnx_format.write(programs, tmp_path / "model.onnx", {})
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    images = task.data.examples("test", np.arange(7))["image"]
    expected = programs.tensors(image=tf.constant(images))
    for output, value in zip(("logits", "label"), session.run(["logits", "label"], {"image": images}), strict=True):
        np.testing.assert_allclose(value, expected[output].numpy(), atol=1e-4)


def test_what_litert_cannot_take_is_one_message(tmp_path, capfd):
    programs = Programs(*tfbig.build(tfbig.recipe("mnist_mlp", "model=lstm", "model.units=4")))
    with pytest.raises(RunFailure, match="litert: the model cannot be converted: .*TensorListReserve.* export to onnx"):
        litert_format.write(programs, tmp_path / "model.tflite")
    assert "TensorListReserve" not in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_exact_gelu_converts(tmp_path):
    """Erfc, which tf2onnx lacks."""
    import onnxruntime

    class Exact:
        metadata = {}
        tensors = None

    made = tf.function(lambda **given: {"y": 0.5 * given["x"] * tf.math.erfc(-given["x"] / np.float32(np.sqrt(2)))}, autograph=False)
    made.traced = made.get_concrete_function(x=tf.TensorSpec((None, 4), tf.float32, name="x"))
    Exact.tensors = made
    onnx_format.write(Exact, tmp_path / "gelu.onnx", {})
    x = np.linspace(-3, 3, 8, dtype=np.float32).reshape(2, 4)
    found = onnxruntime.InferenceSession(str(tmp_path / "gelu.onnx")).run(["y"], {"x": x})[0]
    np.testing.assert_allclose(found, tf.nn.gelu(x, approximate=False), atol=1e-6)


class Writes(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        tf.io.write_file("/nowhere/file", x)
        return {"y": x}


class Reads(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        return {"y": tf.cond(tf.equal(x, "a"), lambda: tf.io.read_file(x), lambda: x)}


class Prints(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        tf.print(x, output_stream="file:///nowhere/file")
        return {"y": x}


class Python(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        return {"y": tf.py_function(lambda value: value, [x], tf.string)}


class Restores(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        return {"y": tf.raw_ops.RestoreV2(prefix=x, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string])[0]}


class Table(tf.Module):
    def __init__(self, path):
        super().__init__()
        self.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER), -1)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        return {"y": self.table.lookup(x)}


@pytest.mark.parametrize(
    ("module", "words"),
    [(Writes, "WriteFile writes files"), (Reads, "ReadFile reads files"), (Prints, "PrintV2 prints"), (Python, "EagerPyFunc calls Python"), (Restores, "RestoreV2 reads files"), (Table, "InitializeTableFromTextFileV2 reads files")],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_programs_that_do_more_than_compute_are_refused(module, words, tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    made = Table(str(tmp_path / "words.txt")) if module is Table else module()
    tf.saved_model.save(made, str(tmp_path / "model"), signatures=made.serve)
    with pytest.raises(UserError, match=f"refused: operation {words}"):
        allowlist.check_saved_model(tmp_path / "model")


def test_restoring_from_a_file_of_its_own_choice_is_refused(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    path = shutil.copytree(SHIPPED, tmp_path / "model") / "saved_model.pb"
    allowlist.check_saved_model(path.parent)
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "RestoreV2":
                constant = function.node_def.add(name="elsewhere", op="Const")
                constant.attr["dtype"].type = 7
                constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/etc/passwd"))
                node.input[0] = "elsewhere:output:0"
                break
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="restores from a file of its own choice"):
        allowlist.check_saved_model(path.parent)


def test_a_saver_that_a_signature_uses_is_refused(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    path = shutil.copytree(SHIPPED, tmp_path / "model") / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = model.meta_graphs[0]
    graph.signature_def["serving_default"].outputs["label"].name = graph.saver_def.save_tensor_name
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="writes files"):
        allowlist.check_saved_model(path.parent)


def saving_while_restoring(graph, target):
    """Writes a file in the function that loaders run by themselves."""
    node = next(node for node in graph.graph_def.node if node.name == graph.saver_def.restore_op_name)
    function = next(one for one in graph.graph_def.library.function if one.signature.name == node.attr["f"].func.name)
    for name, value, dtype in (("file", str(target), tf.string), ("names", ["a"], tf.string), ("slices", [""], tf.string), ("value", [1.0], tf.float32)):
        constant = function.node_def.add(name=f"evil_{name}", op="Const")
        constant.attr["dtype"].type = dtype.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
    save = function.node_def.add(name="evil", op="SaveV2", input=[f"evil_{name}:output:0" for name in ("file", "names", "slices", "value")])
    save.attr["dtypes"].list.type.append(tf.float32.as_datatype_enum)
    function.control_ret["evil"] = "evil"
    function.signature.control_output.append("evil")


def restoring_a_constant(graph, target):
    node = next(node for node in graph.graph_def.node if node.name == graph.saver_def.restore_op_name)
    constant = graph.graph_def.node.add(name="elsewhere", op="Const")
    constant.attr["dtype"].type = tf.string.as_datatype_enum
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(target)))
    node.input[0] = "elsewhere"


def without_objects(change):
    return lambda graph, target: (change(graph, target), graph.ClearField("object_graph_def"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (saving_while_restoring, "operation SaveV2 writes files"),
        (restoring_a_constant, "restores from a file of its own choice"),
        (without_objects(saving_while_restoring), "expected one graph with its objects"),
        (without_objects(restoring_a_constant), "expected one graph with its objects"),
        (lambda graph, _: graph.graph_def.library.function[0].attr["api_implements"].CopyFrom(tf.compat.v1.AttrValue(s=b"x")), "api_implements"),
    ],
)
def test_what_a_loader_runs_by_itself_cannot_write_or_choose_files(change, message, tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    folder = shutil.copytree(SHIPPED, tmp_path / "1")
    assert set(servable.load("good", 1, folder, "tensorflow", False).signatures) == {"serving_default", "tensors"}
    (folder / "artefact.json").unlink()
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(model.meta_graphs[0], tmp_path / "written")
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    artefact.seal(folder, {"version": 1})
    with pytest.raises(UserError, match=message):
        servable.load("evil", 1, folder, "tensorflow", False)
    assert not list(tmp_path.glob("written*"))


def test_two_graphs_are_refused(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    path = shutil.copytree(SHIPPED, tmp_path / "1") / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs.add().CopyFrom(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="Received: 2 graph"):
        allowlist.check_saved_model(path.parent)


WRONG = [{"metrics": []}, {"metrics": {"metrics": []}}, {"metrics": {"metrics": {"accuracy": 1}}}, {"metrics": {"metrics": {"accuracy": {"value": "1"}}}}, {"labels": 3}, {"labels": [1]}, {"purpose": {}}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "variables" / "variables.index").write_bytes(b"x"), "its content is not what artefact.json says"),
        (lambda folder: (folder / "extra.so").write_bytes(b"x"), "does not list this file"),
        (lambda folder: (folder / "card.md").unlink(), "the file is missing"),
        (lambda folder: ((folder / "card.md").unlink(), (folder / "card.md").symlink_to("/etc/passwd")), "no links"),
        (lambda folder: (folder / "artefact.json").unlink(), "has no artefact.json"),
        (lambda folder: (folder / "artefact.json").write_text("[" * 100_000), "cannot be read as JSON"),
        (lambda folder: (folder / "artefact.json").write_text('{"files": {"a": 1}}'), "expected files with sizes and checksums"),
        *((lambda folder, part=part: (folder / "artefact.json").write_text(json.dumps({"files": {}, **part})), f"{next(iter(part))}: expected") for part in WRONG),
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


def test_onnx_from_elsewhere_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])  # noqa: E731
    graph = helper.make_graph([helper.make_node("Run", ["x"], ["y"], domain="evil")], "g", [value("x")], [value("y")])
    onnx.save(helper.make_model(graph), str(tmp_path / "domain.onnx"))
    outside = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../etc/passwd")
    outside.ClearField("float_data")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [value("x")], [value("y")], [outside])
    (tmp_path / "outside.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    (tmp_path / "noise.onnx").write_bytes(os.urandom(100))
    branch = helper.make_graph([helper.make_node("Run", [], ["z"], domain="evil")], "branch", [], [value("z")])
    choose = helper.make_function("ai.onnx.ml", "F", ["c"], ["y"], [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], [helper.make_opsetid("", 18)])
    graph = helper.make_graph([helper.make_node("F", ["c"], ["y"], domain="ai.onnx.ml")], "g", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])], [value("y")])
    (tmp_path / "inner.onnx").write_bytes(helper.make_model(graph, functions=[choose]).SerializeToString())
    for name, message in (("domain", "operator Run is from 'evil'"), ("inner", "operator Run is from 'evil'"), ("outside", "keeps data outside its own file"), ("noise", "no ONNX model that can be read")):
        with pytest.raises(UserError, match=message):
            allowlist.check_onnx(tmp_path / f"{name}.onnx")


def test_worker_keeps_bytes(tmp_path):
    texts = np.array([[b"", b"a\x00"], [b"\xff" * 300, b"z"]], object)
    assert (worker.read(worker.save(tmp_path / "texts", texts)) == texts).all()
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert (worker.read(worker.save(tmp_path / "numbers", numbers)) == numbers).all()
    assert worker.differences({"a": numbers + 1e-3}, {"a": numbers, "b": numbers})["b"] == {"missing": True}
    assert worker.differences({"t": texts}, {"t": texts[::-1].copy()}) == {"t": {"changed": 4}}


def test_shipped_artefact():
    record = artefact.check(SHIPPED)
    allowlist.check_saved_model(SHIPPED)
    allowlist.check_onnx(SHIPPED / "model.onnx")
    assert record["verification"]["savedmodel"]["metrics"]["accuracy"]["value"] > 0.97
    whole = sum(path.stat().st_size for path in SHIPPED.parent.rglob("*") if path.is_file())
    assert whole < 2_000_000


def test_c_api_loads_what_is_shipped(tmp_path):
    """In a process without TensorFlow's Python: the loader that TensorFlow Serving uses."""
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    data = tfbig.recipe("mnist_mlp").data
    inputs, outputs = publish.saved_model.signature_tensors(SHIPPED, "serving_default")
    task, _ = tfbig.build(tfbig.recipe("mnist_mlp"))
    pictures = task.encode(data.examples("test", np.arange(5)))["image_bytes"]
    expected = tf.saved_model.load(str(SHIPPED)).signatures["serving_default"](image_bytes=tf.constant(pictures))
    job = {
        "library": str(Path(tf.__file__).parent),
        "path": str(SHIPPED),
        "inputs": {inputs["image_bytes"]: worker.save(tmp_path / "in", pictures)},
        "outputs": {tensor: worker.save(tmp_path / name, expected[name].numpy()) for name, tensor in outputs.items()},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = Path(publish.__file__).with_name("c_api.py")
    subprocess.run([sys.executable, "-P", script, tmp_path / "job.json", tmp_path / "report.json"], check=True, capture_output=True)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["foreign_modules"] == [] and set(report["outputs"]) == set(outputs.values())
    assert all(part.get("changed", 0) == 0 and part.get("largest", 0) < 1e-5 for part in report["outputs"].values())
