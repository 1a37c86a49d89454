"""The server as its clients see it: TensorFlow Serving's protocols, limits, reloads, refusals, and the page."""

import asyncio
import base64
import concurrent.futures
import contextlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import chromium
import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

import tfbig
from tfbig import serve as door
from tfbig.data.mnist import MNIST

SHIPPED = Path(tfbig.__file__).parent.parent / "saved_models" / "mnist_mlp"
SERVE = [sys.executable, "-m", "tfbig.serve"]


class Server:
    """A server in a process of its own on free ports."""

    def __init__(self, folder, *options):
        command = [*SERVE, str(folder), "--port", "0", "--grpc-port", "0", "--poll", "0.2", *map(str, options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.events = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        started = self.wait_for(lambda event: event["event"] == "serving", 120)
        self.port, self.grpc = int(started["rest"].rpartition(":")[2]), started["grpc"]
        self.channel = grpc.insecure_channel(self.grpc)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def _read(self):
        for line in self.process.stderr:
            with contextlib.suppress(ValueError):
                self.events.append(json.loads(line))

    def wait_for(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [event for event in list(self.events) if condition(event)]
            if found:
                return found[0]
            assert self.process.poll() is None, self.events
            time.sleep(0.02)
        raise AssertionError(f"no such event among {self.events}")

    def ask(self, method, path, body=None, headers=None):
        """(status, JSON or text)."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        link.request(method, path, body if isinstance(body, (bytes, type(None))) else json.dumps(body), headers or {})
        response = link.getresponse()
        content, kind = response.read(), response.getheader("content-type")
        link.close()
        return response.status, json.loads(content) if kind == "application/json" else content.decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.channel.close()
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.stdout.read(), self.process.wait(60)
        return self.process.returncode, out


@pytest.fixture(scope="module")
def digits():
    return MNIST().examples("test", np.arange(64))


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


class Examples(tf.Module):
    """Signatures for classify and regress: the feature x, doubled, between two labels."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def serve(self, inputs):
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
        return {"classes": tf.stack([tf.fill(tf.shape(x), "low"), tf.fill(tf.shape(x), "high")], 1), "scores": tf.stack([-x, x], 1), "outputs": 2 * x}


def example_model(folder):
    made = Examples()
    traced = made.serve.get_concrete_function()
    tf.saved_model.save(made, str(folder), {"serving_default": traced, "classify": traced, "regress": traced})
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name in ("classify", "regress"):
        updater.replace_method_name(signature_key=name, method_name=f"tensorflow/serving/{name}", tags="serve")
    updater.save()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Models of all kinds: a good one, one for examples, one that writes files, one that was changed, one that is a zip."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(SHIPPED, root / "mnist_mlp")
    example_model(root / "examples" / "1")

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def serve(self, x):
            tf.io.write_file(str(root / "written"), x)
            return {"y": x}

    evil = Evil()
    tf.saved_model.save(evil, str(root / "evil" / "1"), evil.serve)
    changed = shutil.copytree(SHIPPED / "1", root / "changed" / "1") / "variables" / "variables.data-00000-of-00001"
    content = bytearray(changed.read_bytes())
    content[1000] ^= 1
    changed.write_bytes(content)
    (root / "zipped").mkdir()
    (root / "zipped" / "1").write_bytes(b"PK\x03\x04../../escape")
    (root / "linked").symlink_to(SHIPPED)
    (root / "models.config").write_text('model_config_list { config { name: "mnist_mlp" base_path: "/models/mnist_mlp" model_version_policy { all {} } version_labels { key: "stable" value: 1 } } }')
    return root


@pytest.fixture(scope="module")
def server(root):
    with Server(root, "--unverified") as server:
        yield server
        code, _ = server.stop()
        assert code == 0


def test_predict_by_row_and_by_column(server, digits):
    pictures = [png(picture) for picture in digits["image"]]
    expected = tf.saved_model.load(str(SHIPPED / "1")).signatures["serving_default"](image_bytes=tf.constant(pictures))
    status, answer = server.ask("POST", "/v1/models/mnist_mlp:predict", {"instances": [b64(content) for content in pictures]})
    assert status == 200 and len(answer["predictions"]) == 64
    assert [row["label"] for row in answer["predictions"]] == [text.decode() for text in expected["label"].numpy()]
    np.testing.assert_allclose([row["probabilities"] for row in answer["predictions"]], expected["probabilities"], rtol=1e-5, atol=1e-6)
    for path in ("/v1/models/mnist_mlp/versions/1:predict", "/v1/models/mnist_mlp/labels/stable:predict", "/V1/Models/mnist_mlp:Predict"):
        status, columns = server.ask("POST", path, {"inputs": {"image_bytes": [b64(pictures[0])]}})
        assert status == 200 and columns["outputs"]["label"] == [answer["predictions"][0]["label"]]
    status, named = server.ask("POST", "/v1/models/mnist_mlp:predict", {"signature_name": "serving_default", "instances": [{"image_bytes": b64(pictures[0])}]})
    assert status == 200 and named["predictions"][0]["labels"] == answer["predictions"][0]["labels"]
    status, tensors = server.ask("POST", "/v1/models/mnist_mlp:predict", {"signature_name": "tensors", "instances": np.zeros((2, 28, 28, 1)).tolist()})
    assert status == 200 and np.array([row["logits"] for row in tensors["predictions"]]).shape == (2, 10)


P = "/v1/models/mnist_mlp:predict"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (P, b"", 400, "JSON Parse error: The document is empty"),
        (P, b'{"instances": [1,', 400, "JSON Parse error:"),
        (P, b"\xff\xfe", 400, "JSON Parse error:"),
        (P, b"[1]", 400, "Is not object"),
        (P, b"[" * 100_000, 400, "nested deeper than 32"),
        (P, b'{"instances": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "nested deeper than 32"),
        (P, {}, 400, "Missing 'inputs' or 'instances' key"),
        (P, {"instances": [1], "inputs": [1]}, 400, "expecting only one of 'inputs' or 'instances' keys to exist"),
        (P, {"instances": 5}, 400, "Excepting 'instances' to be an list/array"),
        (P, {"instances": []}, 400, "No values in 'instances' array"),
        (P, {"signature_name": 1, "instances": [1]}, 400, "'signature_name' key must be a string value."),
        (P, {"signature_name": "x", "instances": [1]}, 400, 'Serving signature name: "x" not found in signature def'),
        (P, {"instances": [1]}, 400, "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: 1 Type: Number is not of expected type: string"),
        (P, {"instances": [{"b64": "%"}]}, 400, "Unable to base64 decode"),
        (P, {"instances": [{"b64": "AAAA"}]}, 400, "Unknown image file format"),
        (P, {"instances": [{"b64": "AAAA"}, "x", {"wrong": 1}]}, 400, "Expecting value/list but got object at item 2 of input list"),
        (P, {"instances": [{"wrong": 1}]}, 400, "JSON object: does not have named input: wrong"),
        (P, {"inputs": {"wrong": 1}}, 400, "Missing named input: image_bytes in 'inputs' object."),
        (P, {"signature_name": "tensors", "instances": [[1, [2]]]}, 400, "Encountered list at unexpected level: 1 expected < 1"),
        (P, {"signature_name": "tensors", "instances": [[[1], [2, 3]]]}, 400, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        (P, {"signature_name": "tensors", "instances": [[1.0], [1.0, 2.0]]}, 400, "Expecting tensor size: 1 but got: 2"),
        (P, {"signature_name": "tensors", "instances": [[1.0, True]]}, 400, "Type: True is not of expected type"),
        (P, {"signature_name": "tensors", "instances": [[1e300]]}, 400, "without loss of precision"),
        (P, {"signature_name": "tensors", "instances": [[1.0]]}, 400, "input image: expected shape [-1, 28, 28, 1]"),
        ("/v1/models/none:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/mnist_mlp/versions/9:predict", {"instances": [1]}, 404, "Servable not found for request: Specific(mnist_mlp, 9)"),
        ("/v1/models/mnist_mlp/labels/x:predict", {"instances": [1]}, 400, "Unrecognized servable version label: x"),
        ("/v1/models/mnist_mlp/versions/1/labels/stable:predict", {}, 400, "Malformed request: POST"),
        ("/v1/models/..%2f..%2fetc:predict", {}, 404, "Servable not found for request: Latest(../../etc)"),
        ("/v1/models/mnist_mlp:classify", {"examples": [{"x": 1}]}, 400, "Expected classification signature method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict"),
        ("/v1/models/mnist_mlp:explode", {}, 400, "Malformed request: POST /v1/models/mnist_mlp:explode"),
        ("/elsewhere", {}, 404, "Not found"),
    ],
)
def test_errors_are_tensorflow_servings(server, path, body, status, words):
    found, answer = server.ask("POST", path, body)
    assert found == status and list(answer) == ["error"] and words in answer["error"] and len(answer["error"]) < 1100


def test_nan_and_infinity(server):
    """Tokens that strict JSON lacks, in both directions."""
    body = b'{"signature_name": "regress", "examples": [{"x": NaN}, {"x": -Infinity}, {"x": 0.1}]}'
    status, answer = server.ask("POST", "/v1/models/examples:regress", body)
    assert status == 200 and np.isnan(answer["results"][0]) and answer["results"][1] == -np.inf


def test_status_and_metadata(server):
    status, answer = server.ask("GET", "/v1/models/mnist_mlp")
    assert status == 200 and answer == {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}
    assert server.ask("GET", "/v1/models/mnist_mlp/labels/stable")[1] == answer
    assert server.ask("GET", "/v1/models/none") == (404, {"error": "Could not find any versions of model none"})
    assert server.ask("GET", "/v1/models/mnist_mlp/versions/7") == (404, {"error": "Could not find version 7 of model mnist_mlp"})
    assert server.ask("GET", "/v1/models") == (400, {"error": "Missing model name in request."})
    status, answer = server.ask("GET", "/v1/models/mnist_mlp/metadata")
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert status == 200 and answer["model_spec"] == {"name": "mnist_mlp", "signature_name": "", "version": "1"}
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING" and signature["method_name"] == "tensorflow/serving/predict"


def test_classify_and_regress(server):
    body = {"signature_name": "classify", "examples": [{"x": 1.5}, {"x": [-2.0]}]}
    assert server.ask("POST", "/v1/models/examples:classify", body) == (200, {"results": [[["low", -1.5], ["high", 1.5]], [["low", 2.0], ["high", -2.0]]]})
    body = {"signature_name": "regress", "context": {"x": 3.0}, "examples": [{}, {"x": 1.0}]}
    assert server.ask("POST", "/v1/models/examples:regress", body) == (200, {"results": [6.0, 2.0]})
    for body, words in (
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"x": [1, "a"]}]}, "Unexpected element type in feature: x expecting type: int64"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": 2**63}]}, "Only int64 is supported."),
    ):
        status, answer = server.ask("POST", "/v1/models/examples:regress", {"signature_name": "regress", **body})
        assert status == 400 and words in answer["error"]
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "examples", "classify"
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(0.25)
    classes = server.predictions.Classify(request, timeout=60).result.classifications[0].classes
    assert [(one.label, one.score) for one in classes] == [("low", -0.25), ("high", 0.25)]
    request = regression_pb2.RegressionRequest(input=request.input)
    request.model_spec.name, request.model_spec.signature_name = "examples", "regress"
    assert server.predictions.Regress(request, timeout=60).result.regressions[0].value == 0.5


def grpc_predict(server, contents, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.get("name", "mnist_mlp")
    request.model_spec.signature_name = spec.get("signature", "")
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    for name, value in contents.items():
        request.inputs[name].CopyFrom(value if isinstance(value, TensorProto) else tf.make_tensor_proto(value))
    request.output_filter.extend(spec.get("only", ()))
    return server.predictions.Predict(request, timeout=60)


def test_official_stubs(server, digits):
    pictures = [png(picture) for picture in digits["image"][:8]]
    rest = server.ask("POST", P, {"instances": [b64(content) for content in pictures]})[1]["predictions"]
    answer = grpc_predict(server, {"image_bytes": pictures}, label="stable")
    assert [text.decode() for text in tf.make_ndarray(answer.outputs["label"])] == [row["label"] for row in rest]
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["probability"]), [row["probability"] for row in rest], rtol=1e-5)
    assert (answer.model_spec.name, answer.model_spec.version.value, answer.model_spec.signature_name) == ("mnist_mlp", 1, "serving_default")
    assert set(grpc_predict(server, {"image_bytes": pictures}, only=["label"]).outputs) == {"label"}
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "mnist_mlp"
    (one,) = server.models.GetModelStatus(status, timeout=60).model_version_status
    assert (one.version, one.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "mnist_mlp"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert server.predictions.GetModelMetadata(metadata, timeout=60).metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {"serving_default", "tensors"}


def bomb():
    proto = tf.make_tensor_proto(np.zeros(1, np.float32))
    proto.tensor_shape.dim[0].size = 2**40
    return proto


def test_a_small_message_cannot_repeat_a_large_text():
    from tfbig.deploy.server import messages
    from tfbig.deploy.server.status import Failure

    text = TensorProto(dtype=7, string_val=[b"x" * 50_000])
    text.tensor_shape.dim.add(size=40_000)
    with pytest.raises(Failure, match="needs 40000 texts. Received: 1"):
        messages.array(text, 1 << 30)
    number = TensorProto(dtype=1, float_val=[1.0])
    number.tensor_shape.dim.add(size=1 << 19)
    assert messages.array(number, 1 << 21).shape == (1 << 19,)
    with pytest.raises(Failure, match="is larger than"):
        messages.array(number, (1 << 21) - 1)
    texts = np.array([[b"", b"a\x00"], [b"\xff", b"z"]], object)
    for value in (texts, texts[:0], texts[0, 0]):
        value = np.asarray(value, object)
        found = messages.array(tf.make_tensor_proto(value, tf.string, value.shape), 1 << 20)
        assert found.dtype == object and found.shape == value.shape and (found == value).all()


@pytest.mark.parametrize(
    ("contents", "spec", "code", "words"),
    [
        ({"image_bytes": [b"x"]}, {"name": "none"}, "NOT_FOUND", "Servable not found for request: Latest(none)"),
        ({"image_bytes": [b"x"]}, {"name": ""}, "INVALID_ARGUMENT", "Missing model name"),
        ({"image_bytes": [b"x"]}, {"signature": "x"}, "FAILED_PRECONDITION", 'Serving signature key "x" not found.'),
        ({"image_bytes": [b"x"]}, {"version": 5}, "NOT_FOUND", "Specific(mnist_mlp, 5)"),
        ({"image_bytes": [b"x"]}, {"label": "x"}, "INVALID_ARGUMENT", "Unrecognized servable version label: x"),
        ({"image_bytes": [b"x"]}, {"only": ["x"]}, "INVALID_ARGUMENT", "output tensor alias not found in signature: x"),
        ({"image_bytes": [b"x"]}, {}, "INVALID_ARGUMENT", "Unknown image file format"),
        ({}, {}, "INVALID_ARGUMENT", "Missing but required: {image_bytes}"),
        ({"image_bytes": [b"x"], "y": [1]}, {}, "INVALID_ARGUMENT", "Sent extra: {y}"),
        ({"image_bytes": [1.0]}, {}, "INVALID_ARGUMENT", "expected string"),
        ({"image": bomb()}, {"signature": "tensors"}, "INVALID_ARGUMENT", "is larger than"),
        ({"image": np.zeros((1, 2), np.float32)}, {"signature": "tensors"}, "INVALID_ARGUMENT", "expected shape [-1, 28, 28, 1]"),
    ],
)
def test_grpc_errors(server, contents, spec, code, words):
    with pytest.raises(grpc.RpcError) as caught:
        grpc_predict(server, contents, **spec)
    assert caught.value.code().name == code and words in caught.value.details()


def test_harmful_and_changed_models_are_refused_beside_good_ones(server, root):
    refused = {event["model"]: event["error"] for event in server.events if event["event"] == "refused" and "model" in event}
    assert "operation WriteFile writes files" in refused["evil"] and "(sha256)" in refused["changed"]
    assert set(refused) == {"evil", "changed"} and not (root / "written").exists()
    assert server.ask("POST", "/v1/models/evil:predict", {"instances": ["x"]})[0] == 404
    status, answer = server.ask("GET", "/v1/models/changed")
    assert answer["model_version_status"][0]["state"] == "END" and "sha256" in answer["model_version_status"][0]["status"]["error_message"]
    for name in ("zipped", "linked"):
        assert server.ask("GET", f"/v1/models/{name}")[0] == 404
    assert not list(root.parent.rglob("escape"))


def test_config_cannot_lead_out_of_the_directory(server):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse('model_config_list { config { name: "other" base_path: "/etc" } }', request.config)
    with pytest.raises(grpc.RpcError) as caught:
        server.models.HandleReloadConfigRequest(request, timeout=60)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "A path outside of it cannot be served" in caught.value.details()


def test_labels_wait_for_their_model(tmp_path):
    from tfbig.deploy.server.catalogue import Catalogue

    (tmp_path / "models.config").write_text('model_config_list { config { name: "late" version_labels { key: "old" value: 1 } model_version_policy { specific { versions: 1 } } } }')
    events = []
    catalogue = Catalogue(tmp_path, "tensorflow", False, lambda event, values: events.append((event, values)))

    async def look():
        await catalogue.refresh()
        shutil.copytree(SHIPPED, tmp_path / "late")
        shutil.copytree(SHIPPED / "1", tmp_path / "late" / "2")
        await catalogue.refresh()
        assert catalogue.find("late", label="old").servable.version == 1 and catalogue.states("late") == [(1, "AVAILABLE", "")]
        shutil.rmtree(tmp_path / "late")
        await catalogue.refresh()
        catalogue.close()

    asyncio.run(look())
    assert [(event, values["version"]) for event, values in events] == [("loaded", 1), ("unloaded", 1)]


def test_one_bad_request_in_a_batch_fails_alone(server, digits):
    bodies = [{"instances": [b64(png(picture))]} for picture in digits["image"]]
    for i in range(0, 64, 8):
        bodies[i] = {"instances": [b64(b"no picture")]}
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(lambda body: server.ask("POST", P, body)[0], bodies))
    assert statuses == [400 if i % 8 == 0 else 200 for i in range(64)]


def test_limits(server):
    assert server.ask("POST", P, b"x" * (9 << 20))[0] == 413
    with socket.create_connection(("127.0.0.1", server.port)) as link:  # no length given: it is counted while it comes
        link.sendall(f"POST {P} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(10):
                link.sendall(piece)
        assert link.recv(100).startswith(b"HTTP/1.1 413")
    assert server.ask("GET", "/healthz") == (200, {"status": "ok"})


def test_long_and_unfinished_heads_are_refused(server, monkeypatch):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
        answer = b""
        with contextlib.suppress(OSError):
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            for _ in range(64):
                link.sendall(b"A: " + b"x" * 4000 + b"\r\n")
            answer = link.recv(1000)
        assert not answer or answer.startswith(b"HTTP/1.1 400")
    assert server.ask("GET", "/healthz") == (200, {"status": "ok"})
    from tfbig.deploy.server import connections

    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "CONNECTIONS", 2)
    asyncio.run(slow_heads(connections.BoundedProtocol))


async def slow_heads(protocol):
    """Over a server with short limits: no head, an unfinished head, a second unfinished head, one connection too many."""
    import uvicorn

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    server = uvicorn.Server(uvicorn.Config(application, port=0, http=protocol, ws="none", lifespan="off", log_config=None))
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    whole, half = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost"
    for sent, answered in ((b"", False), (half, False), (whole + half, True)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.endswith(b"ok") == answered and bool(answer) == answered
        writer.close()
    links = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in links:
        writer.write(whole)
    assert [await asyncio.wait_for(reader.readuntil(b"ok"), 20) for reader, _ in links]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    for _, open_writer in [*links, (reader, writer)]:
        open_writer.close()
    server.should_exit = True
    await asyncio.wait_for(task, 20)


def test_bodies_that_do_not_come_are_given_up():
    from tfbig.deploy.server.rest import Limits, Rest

    application, sent = Rest(None, None, Limits(seconds=0.05), None), []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "raw_path": b"/elsewhere", "headers": [(b"content-length", b"5")]}
    asyncio.run(asyncio.wait_for(application(scope, asyncio.Event().wait, send), 20))
    assert sent[0]["status"] == 504 and b"No answer within 0.05 s" in sent[1]["body"] and application.running == 0


def test_a_large_body_is_read_beside_the_others(server):
    """Slow to read, and wrong at its very end: others are answered meanwhile."""
    body = b'{"signature_name": "tensors", "instances": [' + b"[1.5, 2]," * 300_000 + b'"x"]}'
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.ask, "POST", P, body)
        during = 0
        while not slow.done():
            assert server.ask("GET", "/healthz")[0] == 200
            during += not slow.done()
        status, answer = slow.result()
    assert status == 400 and "Failed to process element: 300000" in answer["error"] and during >= 2


def test_metrics(server):
    status, text = server.ask("GET", "/monitoring/prometheus/metrics")
    assert status == 200
    counts = re.findall(r'^:tensorflow:serving:request_count\{model_name="mnist_mlp",API="(\w+)",entrypoint="Predict",status="OK"\} (\d+)$', text, re.MULTILINE)
    assert {api for api, _ in counts} == {"REST", "GRPC"} and all(int(count) > 0 for _, count in counts)
    last = re.findall(r'request_latency_bucket\{model_name="mnist_mlp",API="REST",entrypoint="Predict",le="\+Inf"\} (\d+)', text)
    assert last == re.findall(r'request_latency_count\{model_name="mnist_mlp",API="REST",entrypoint="Predict"\} (\d+)', text)


def test_fuzzed_bodies(server, digits):
    """A small share of benchmarks/fuzz_serving.py, by a fixed seed: no crash, no 5xx, good requests still answered."""
    import sys as system

    system.path.insert(0, str(Path(tfbig.__file__).parent.parent / "benchmarks"))
    import fuzz_serving

    good = {"instances": [b64(png(digits["image"][0]))]}
    result = fuzz_serving.campaign(f"127.0.0.1:{server.port}", server.grpc, count=600, seed=7, good=good, workers=4)
    assert result["bodies"] == 600 and result["good_failed"] == 0 and result["good"] > 0
    assert result["wrong"] == [] and server.process.poll() is None


def test_hot_reload_without_a_failed_request(server, root, digits):
    body, stop, statuses = {"instances": [b64(png(digits["image"][0]))]}, threading.Event(), []

    def keep_asking():
        while not stop.is_set():
            statuses.append(server.ask("POST", P, body)[0])

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in (2, 3):
            beside = shutil.copytree(SHIPPED / "1", root / "mnist_mlp" / f".{number}")
            beside.rename(root / "mnist_mlp" / str(number))
            server.wait_for(lambda event, n=number: event["event"] == "loaded" and event["model"] == "mnist_mlp" and event["version"] == n)
            assert grpc_predict(server, {"image_bytes": [png(digits["image"][0])]}).model_spec.version.value == number
            (root / "mnist_mlp" / str(number)).rename(root / "mnist_mlp" / f".gone_{number}")
            server.wait_for(lambda event, n=number: event["event"] == "unloaded" and event["version"] == n)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(statuses) > 20 and set(statuses) == {200}


@pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium here")
def test_page_in_a_browser(server, tmp_path, digits):
    Image.fromarray(digits["image"][1, ..., 0]).save(tmp_path / "digit.png")

    async def look():
        async with chromium.Browser(tmp_path / "profile") as browser:
            await browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
            names = await browser.wait_for("document.querySelectorAll('#model option').length >= 2 && [...document.querySelectorAll('#model option')].map(o => o.text).join('|')")
            assert "mnist_mlp, version 1" in names and "evil" not in names
            index = names.split("|").index("mnist_mlp, version 1")
            await browser.evaluate(f"at('model').selectedIndex = {index}; at('model').dispatchEvent(new Event('change'))")
            box = json.loads(await browser.evaluate("JSON.stringify(at('canvas').getBoundingClientRect())"))
            await browser.draw([(box["x"] + 140, box["y"] + 50 + i * 6) for i in range(30)])  # a one
            assert await browser.wait_for("at('answer').querySelector('b')?.textContent") == "1"
            bars = await browser.evaluate("at('bars').innerText")
            assert bars.count("%") == 5 and "answered in" in await browser.evaluate("at('time').textContent")
            if os.environ.get("TFBIG_SCREENSHOT"):
                await browser.screenshot(Path(os.environ["TFBIG_SCREENSHOT"]))
            await browser.evaluate("at('canvas').focus()")
            await browser.key("Delete")
            assert await browser.evaluate("at('answer').textContent") == ""
            for key in ["ArrowUp"] * 9:
                await browser.key(key)
            for key in ["ArrowDown"] * 18:
                await browser.key(key, shift=True)
            await browser.key("Enter")
            assert await browser.wait_for("at('answer').querySelector('b')?.textContent") == "1"
            document = await browser.call("DOM.getDocument")
            node = (await browser.call("DOM.querySelector", nodeId=document["root"]["nodeId"], selector="#file"))["nodeId"]
            await browser.call("DOM.setFileInputFiles", files=[str(tmp_path / "digit.png")], nodeId=node)
            label = str(digits["label"][1])
            await browser.wait_for(f"at('answer').querySelector('b')?.textContent === '{label}'")
            unnamed = await browser.evaluate("[...document.querySelectorAll('select, input, textarea')].filter(e => !document.querySelector(`label[for=${e.id}]`)).length")
            assert unnamed == 0

    asyncio.run(look())


def drain(server, digits, token):
    body, allowed = {"instances": digits["image"][:4].tolist()}, {"Authorization": f"Bearer {token}"}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
        assert server.ask("POST", P, body, headers)[0] == 401
        assert server.ask("GET", "/v1/models/mnist_mlp", None, headers)[0] == 401
    assert server.ask("GET", "/healthz")[0] == 200
    status, answer = server.ask("POST", P, body, allowed)
    assert status == 200
    expected = tf.saved_model.load(str(SHIPPED / "1")).signatures["serving_default"](image_bytes=tf.constant([png(p) for p in digits["image"][:4]]))
    server.wait_for(lambda event: event["event"] == "request" and event["status"] == 200 and event["path"] == P and event["ms"] > 0)
    assert not any(token in json.dumps(event) for event in server.events)
    assert [str(row["label"]) for row in answer["predictions"]] == [text.decode() for text in expected["label"].numpy()]
    assert server.ask("POST", P, {"instances": [[[[256]]]]}, allowed)[0] == 400  # no uint8
    with pytest.raises(grpc.RpcError) as caught:
        grpc_predict(server, {"image": digits["image"][:1]})
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mnist_mlp"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(digits["image"][:1]))
    answered = server.predictions.Predict(request, timeout=60, metadata=[("authorization", f"Bearer {token}")])
    assert tf.make_ndarray(answered.outputs["logits"]).shape == (1, 10)
    with socket.create_connection(("127.0.0.1", server.port)) as link:  # a request that is under way when the signal comes
        content = json.dumps(body).encode()
        link.sendall(f"POST {P} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content[:100])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(lambda event: event["event"] == "draining")
        link.sendall(content[100:])
        assert link.recv(1000).startswith(b"HTTP/1.1 200")
    code, _ = server.stop()
    assert code == 0
    with pytest.raises(OSError):
        server.ask("GET", "/healthz")


def test_token_onnx_and_drain(digits, tmp_path):
    token = "a-token-of-24-characters"
    (tmp_path / "token").write_text(token + "\n")
    with Server(SHIPPED, "--engine", "onnx", "--token-file", tmp_path / "token", "--log-requests") as server:
        drain(server, digits, token)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["EMPTY"], "nothing in it can be served"),
        (["EMPTY", "--host", "0.0.0.0"], "Give --token-file FILE, or --insecure"),
        (["EMPTY", "--engine", "torch"], "--engine: expected tensorflow or onnx. Received: 'torch'"),
        (["EMPTY", "--port", "99999"], "port"),
        (["EMPTY", "--token-file", "nowhere"], "--token-file nowhere: cannot be read"),
        (["EMPTY", "--poll", "0"], "--poll: expected more than 0"),
    ],
)
def test_mistakes(arguments, message, tmp_path, capsys):
    assert door.main([str(tmp_path) if word == "EMPTY" else word for word in arguments]) == 2
    assert message in capsys.readouterr().err
