"""The server's protocols as its clients see them.

REST by TensorFlow Serving's rules, and the official gRPC stubs.
"""

import re
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from serving import SHIPPED, P, b64, grpc_predict, png
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    regression_pb2,
)


def test_predict_by_row_and_by_column(server, digits):
    pictures = [png(picture) for picture in digits["image"]]
    expected = tf.saved_model.load(str(SHIPPED / "1")).signatures["serving_default"](
        image_bytes=tf.constant(pictures)
    )
    status, answer = server.ask(
        "POST",
        "/v1/models/mnist_mlp:predict",
        {"instances": [b64(content) for content in pictures]},
    )
    assert status == 200 and len(answer["predictions"]) == 64
    assert [row["label"] for row in answer["predictions"]] == [
        text.decode() for text in expected["label"].numpy()
    ]
    np.testing.assert_allclose(
        [row["probabilities"] for row in answer["predictions"]],
        expected["probabilities"],
        rtol=1e-5,
        atol=1e-6,
    )
    for path in (
        "/v1/models/mnist_mlp/versions/1:predict",
        "/v1/models/mnist_mlp/labels/stable:predict",
        "/V1/Models/mnist_mlp:Predict",
    ):
        status, columns = server.ask("POST", path, {"inputs": {"image_bytes": [b64(pictures[0])]}})
        assert status == 200 and columns["outputs"]["label"] == [answer["predictions"][0]["label"]]
    status, named = server.ask(
        "POST",
        "/v1/models/mnist_mlp:predict",
        {"signature_name": "serving_default", "instances": [{"image_bytes": b64(pictures[0])}]},
    )
    assert status == 200 and named["predictions"][0]["labels"] == answer["predictions"][0]["labels"]
    status, tensors = server.ask(
        "POST",
        "/v1/models/mnist_mlp:predict",
        {"signature_name": "tensors", "instances": np.zeros((2, 28, 28, 1)).tolist()},
    )
    assert status == 200 and np.array([row["logits"] for row in tensors["predictions"]]).shape == (
        2,
        10,
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (P, b"", 400, "JSON Parse error: The document is empty"),
        (P, b'{"instances": [1,', 400, "JSON Parse error:"),
        (P, b"\xff\xfe", 400, "JSON Parse error:"),
        (
            P,
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            400,
            'Bytes are sent as base64 inside JSON: {"instances": [{"b64": "..."}]}',
        ),
        (P, b"[1]", 400, "Is not object"),
        (P, b"[" * 100_000, 400, "nested deeper than 32"),
        (P, b'{"instances": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "nested deeper than 32"),
        (P, {}, 400, "Missing 'inputs' or 'instances' key"),
        (
            P,
            {"instances": [1], "inputs": [1]},
            400,
            "expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        (P, {"instances": 5}, 400, "Excepting 'instances' to be an list/array"),
        (P, {"instances": []}, 400, "No values in 'instances' array"),
        (
            P,
            {"signature_name": 1, "instances": [1]},
            400,
            "'signature_name' key must be a string value.",
        ),
        (
            P,
            {"signature_name": "x", "instances": [1]},
            400,
            'Serving signature name: "x" not found in signature def',
        ),
        (
            P,
            {"instances": [1]},
            400,
            (
                "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON"
                " Value: 1 Type: Number is not of expected type: string"
            ),
        ),
        (P, {"instances": [{"b64": "%"}]}, 400, "Unable to base64 decode"),
        (
            P,
            {"instances": [{"b64": "data:image/png;base64,iVBORw0KGgo="}]},
            400,
            "Unable to base64 decode. Leave out what stands before the comma",
        ),
        (P, {"instances": ["iVBORw0KGgo="]}, 400, 'text, maybe base64: send {"b64": '),
        (P, {"instances": [{"b64": "AAAA"}]}, 400, "Unknown image file format"),
        (
            P,
            {"instances": [{"b64": "AAAA"}, "x", {"wrong": 1}]},
            400,
            "Expecting value/list but got object at item 2 of input list",
        ),
        (P, {"instances": [{"wrong": 1}]}, 400, "JSON object: does not have named input: wrong"),
        (P, {"inputs": {"wrong": 1}}, 400, "Missing named input: image_bytes in 'inputs' object."),
        (
            P,
            {"signature_name": "tensors", "instances": [[1, [2]]]},
            400,
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            P,
            {"signature_name": "tensors", "instances": [[[1], [2, 3]]]},
            400,
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        (
            P,
            {"signature_name": "tensors", "instances": [[1.0], [1.0, 2.0]]},
            400,
            "Expecting tensor size: 1 but got: 2",
        ),
        (
            P,
            {"signature_name": "tensors", "instances": [[1.0, True]]},
            400,
            "Type: True is not of expected type",
        ),
        (
            P,
            {"signature_name": "tensors", "instances": [[1e300]]},
            400,
            "without loss of precision",
        ),
        (
            P,
            {"signature_name": "tensors", "instances": [[1.0]]},
            400,
            "input image: expected shape [-1, 28, 28, 1]",
        ),
        (
            "/v1/models/none:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Latest(none)",
        ),
        (
            "/v1/models/mnist_mlp/versions/9:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(mnist_mlp, 9)",
        ),
        (
            "/v1/models/mnist_mlp/labels/x:predict",
            {"instances": [1]},
            400,
            "Unrecognized servable version label: x",
        ),
        (
            "/v1/models/mnist_mlp/versions/1/labels/stable:predict",
            {},
            400,
            "Malformed request: POST",
        ),
        (
            "/v1/models/..%2f..%2fetc:predict",
            {},
            404,
            "Servable not found for request: Latest(../../etc)",
        ),
        (
            "/v1/models/mnist_mlp:classify",
            {"examples": [{"x": 1}]},
            400,
            "Expected one or two output Tensors, found 4",
        ),
        (
            "/v1/models/mnist_mlp:classify",
            {"signature_name": "x", "examples": [{"x": 1}]},
            400,
            "No signature was found with the name: x",
        ),
        (
            "/v1/models/mnist_mlp:regress",
            {"signature_name": "tensors", "examples": [{"x": 1}]},
            400,
            "Expected one output Tensor.",
        ),
        (
            "/v1/models/mnist_mlp:explode",
            {},
            400,
            "Malformed request: POST /v1/models/mnist_mlp:explode",
        ),
        ("/elsewhere", {}, 404, "Not found"),
    ],
)
def test_errors_are_tensorflow_servings(server, path, body, status, words):
    found, answer = server.ask("POST", path, body)
    assert (
        found == status
        and list(answer) == ["error"]
        and words in answer["error"]
        and len(answer["error"]) < 1100
    )


def test_nan_and_infinity(server):
    """Tokens that strict JSON lacks, in both directions."""
    body = b'{"signature_name": "regress", "examples": [{"x": NaN}, {"x": -Infinity}, {"x": 0.1}]}'
    status, answer = server.ask("POST", "/v1/models/examples:regress", body)
    assert status == 200 and np.isnan(answer["results"][0]) and answer["results"][1] == -np.inf


def test_status_and_metadata(server):
    status, answer = server.ask("GET", "/v1/models/mnist_mlp")
    assert status == 200 and answer == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert server.ask("GET", "/v1/models/mnist_mlp/labels/stable")[1] == answer
    assert server.ask("GET", "/v1/models/none") == (
        404,
        {"error": "Could not find any versions of model none"},
    )
    assert server.ask("GET", "/v1/models/mnist_mlp/versions/7") == (
        404,
        {"error": "Could not find version 7 of model mnist_mlp"},
    )
    status, answer = server.ask("GET", "/v1/models/mnist_mlp/metadata")
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert status == 200 and answer["model_spec"] == {
        "name": "mnist_mlp",
        "signature_name": "",
        "version": "1",
    }
    assert (
        signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
        and signature["method_name"] == "tensorflow/serving/predict"
    )


def test_openai_clients_list_models_and_are_refused_chats_in_their_form(server):
    for path in ("/v1/models", "/v1/models/"):
        status, answer = server.ask("GET", path)
        assert (
            status == 200
            and answer["object"] == "list"
            and [model["id"] for model in answer["data"]] == ["examples", "mnist_mlp"]
        )
        assert all(
            model["object"] == "model"
            and model["owned_by"] == "tfbig"
            and abs(model["created"] - time.time()) < 3600
            for model in answer["data"]
        )
    status, answer = server.ask(
        "POST",
        "/v1/chat/completions",
        {"model": "mnist_mlp", "messages": [{"role": "user", "content": "hi"}]},
    )
    error = answer["error"]
    assert (
        status == 400
        and set(error) == {"message", "type", "param", "code"}
        and error["type"] == "invalid_request_error"
    )
    assert "POST /v1/completions with model and prompt" in error["message"]


def test_classify_and_regress(server):
    body = {"signature_name": "classify", "examples": [{"x": 1.5}, {"x": [-2.0]}]}
    assert server.ask("POST", "/v1/models/examples:classify", body) == (
        200,
        {"results": [[["low", -1.5], ["high", 1.5]], [["low", 2.0], ["high", -2.0]]]},
    )
    body = {"signature_name": "regress", "context": {"x": 3.0}, "examples": [{}, {"x": 1.0}]}
    assert server.ask("POST", "/v1/models/examples:regress", body) == (200, {"results": [6.0, 2.0]})
    for body, words in (
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        (
            {"examples": [{"x": [1, "a"]}]},
            "Unexpected element type in feature: x expecting type: int64",
        ),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": 2**63}]}, "Only int64 is supported."),
        ({"examples": [{"\ud800": float("nan")}]}, "holds half a character"),
    ):
        status, answer = server.ask(
            "POST", "/v1/models/examples:regress", {"signature_name": "regress", **body}
        )
        assert status == 400 and words in answer["error"]
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "examples", "classify"
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(0.25)
    classes = server.predictions.Classify(request, timeout=60).result.classifications[0].classes
    assert [(one.label, one.score) for one in classes] == [("low", -0.25), ("high", 0.25)]
    request = regression_pb2.RegressionRequest(input=request.input)
    request.model_spec.name, request.model_spec.signature_name = "examples", "regress"
    assert server.predictions.Regress(request, timeout=60).result.regressions[0].value == 0.5


def infer(server, *tasks):
    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = name, signature
    for x in (0.25, -1.0):
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(x)
    return server.predictions.MultiInference(request, timeout=60)


def test_multi_inference(server):
    (one,) = infer(server, ("examples", "regress", "regress")).results
    assert [value.value for value in one.regression_result.regressions] == [
        0.5,
        -2.0,
    ] and one.model_spec.signature_name == "regress"
    (one,) = infer(server, ("examples", "", "classify")).results
    assert [
        (part.label, part.score) for part in one.classification_result.classifications[1].classes
    ] == [("low", 1.0), ("high", -1.0)]
    both = (("examples", "classify", "classify"), ("examples", "regress", "regress"))
    for tasks, code, words in (
        ((), "INVALID_ARGUMENT", "Missing model name"),
        (both, "INVALID_ARGUMENT", "Input tensor must be the same for all Signatures."),
        (both[:1] * 2, "INVALID_ARGUMENT", "Duplicate evaluation of signature: classify"),
        (
            (both[0], ("mnist_mlp", "", "classify")),
            "INVALID_ARGUMENT",
            "must access the same model name",
        ),
        (
            (("examples", "x", "classify"),),
            "INVALID_ARGUMENT",
            "Requested signature not found in model graph: x",
        ),
        (
            (("examples", "classify", "predict"),),
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        ((("mnist_mlp", "", "classify"),), "INVALID_ARGUMENT", "found 4"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            infer(server, *tasks)
        assert caught.value.code().name == code and words in caught.value.details()


def test_official_stubs(server, digits):
    pictures = [png(picture) for picture in digits["image"][:8]]
    rest = server.ask("POST", P, {"instances": [b64(content) for content in pictures]})[1][
        "predictions"
    ]
    answer = grpc_predict(server, {"image_bytes": pictures}, label="stable")
    assert [text.decode() for text in tf.make_ndarray(answer.outputs["label"])] == [
        row["label"] for row in rest
    ]
    np.testing.assert_allclose(
        tf.make_ndarray(answer.outputs["probability"]),
        [row["probability"] for row in rest],
        rtol=1e-5,
    )
    assert (
        answer.model_spec.name,
        answer.model_spec.version.value,
        answer.model_spec.signature_name,
    ) == ("mnist_mlp", 1, "serving_default")
    assert set(grpc_predict(server, {"image_bytes": pictures}, only=["label"]).outputs) == {"label"}
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "mnist_mlp"
    (one,) = server.models.GetModelStatus(status, timeout=60).model_version_status
    assert (one.version, one.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "mnist_mlp"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert (
        server.predictions.GetModelMetadata(metadata, timeout=60)
        .metadata["signature_def"]
        .Unpack(signatures)
    )
    assert set(signatures.signature_def) == {"serving_default", "tensors", "classify"}


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
    for dtype in (1, 7):  # nothing is in it, but its shape is beyond all bounds
        empty = TensorProto(dtype=dtype)
        for size in (0, 2**62, 28):
            empty.tensor_shape.dim.add(size=size)
        with pytest.raises(Failure, match="is larger than"):
            messages.array(empty, 1 << 20)
    texts = np.array([[b"", b"a\x00"], [b"\xff", b"z"]], object)
    for value in (texts, texts[:0], texts[0, 0]):
        value = np.asarray(value, object)
        found = messages.array(tf.make_tensor_proto(value, tf.string, value.shape), 1 << 20)
        assert found.dtype == object and found.shape == value.shape and (found == value).all()


@pytest.mark.parametrize(
    ("contents", "spec", "code", "words"),
    [
        (
            {"image_bytes": [b"x"]},
            {"name": "none"},
            "NOT_FOUND",
            "Servable not found for request: Latest(none)",
        ),
        ({"image_bytes": [b"x"]}, {"name": ""}, "INVALID_ARGUMENT", "Missing model name"),
        (
            {"image_bytes": [b"x"]},
            {"signature": "x"},
            "FAILED_PRECONDITION",
            'Serving signature key "x" not found.',
        ),
        ({"image_bytes": [b"x"]}, {"version": 5}, "NOT_FOUND", "Specific(mnist_mlp, 5)"),
        (
            {"image_bytes": [b"x"]},
            {"label": "x"},
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: x",
        ),
        (
            {"image_bytes": [b"x"]},
            {"only": ["x"]},
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: x",
        ),
        ({"image_bytes": [b"x"]}, {}, "INVALID_ARGUMENT", "Unknown image file format"),
        ({}, {}, "INVALID_ARGUMENT", "Missing but required: {image_bytes}"),
        ({"image_bytes": [b"x"], "y": [1]}, {}, "INVALID_ARGUMENT", "Sent extra: {y}"),
        ({"image_bytes": [1.0]}, {}, "INVALID_ARGUMENT", "expected string"),
        ({"image": bomb()}, {"signature": "tensors"}, "INVALID_ARGUMENT", "is larger than"),
        (
            {"image": np.zeros((1, 2), np.float32)},
            {"signature": "tensors"},
            "INVALID_ARGUMENT",
            "expected shape [-1, 28, 28, 1]",
        ),
    ],
)
def test_grpc_errors(server, contents, spec, code, words):
    with pytest.raises(grpc.RpcError) as caught:
        grpc_predict(server, contents, **spec)
    assert caught.value.code().name == code and words in caught.value.details()


def test_metrics(server):
    status, text = server.ask("GET", "/monitoring/prometheus/metrics")
    assert status == 200
    counts = re.findall(
        r'^:tensorflow:serving:request_count\{model_name="mnist_mlp",API="(\w+)",entrypoint="Predict",status="OK"\}'
        r" (\d+)$",
        text,
        re.MULTILINE,
    )
    assert {api for api, _ in counts} == {"REST", "GRPC"} and all(
        int(count) > 0 for _, count in counts
    )
    last = re.findall(
        r'request_latency_bucket\{model_name="mnist_mlp",API="REST",entrypoint="Predict",le="\+Inf"\}'
        r" (\d+)",
        text,
    )
    assert last == re.findall(
        r'request_latency_count\{model_name="mnist_mlp",API="REST",entrypoint="Predict"\} (\d+)',
        text,
    )
