"""Values of JSON as tensors.

The fast way through NumPy and the careful one agree, and both know the protocol's limits.
"""

import json

import numpy as np
import pytest
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from tfbig.deploy.server import json_answers, json_format
from tfbig.deploy.server.status import Failure

FLOAT, DOUBLE, INT32, UINT8, STRING, INT64, BOOL = 1, 2, 3, 4, 7, 9, 10


def read(value, dtype, key="inputs"):
    body = json.dumps({key: value}).encode()
    return json_format.predict_inputs(json_format.parse(body), {"x": TensorInfo(dtype=dtype)})[0][
        "x"
    ]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([[1, 2], [3, 4]], FLOAT, np.array([[1, 2], [3, 4]], np.float32)),
        ([0.1, 1e-50, 3], FLOAT, np.array([0.1, 0, 3], np.float32)),
        ([float("nan"), float("-inf"), 1], FLOAT, np.array([np.nan, -np.inf, 1], np.float32)),
        (2.5, DOUBLE, np.array(2.5)),
        ([[[0], [255]]], UINT8, np.array([[[0], [255]]], np.uint8)),
        ([2**53 - 1], DOUBLE, np.array([2.0**53 - 1])),
        ([2**24 - 1], FLOAT, np.array([2.0**24 - 1], np.float32)),
        ([-(2**63), 2**63 - 1], INT64, np.array([-(2**63), 2**63 - 1])),
        ([[True], [False]], BOOL, np.array([[True], [False]])),
        ([["a", "é"]], STRING, np.array([[b"a", "é".encode()]], object)),
        ([{"b64": "YQ=="}, {"b64": "YQ"}], STRING, np.array([b"a", b"a"], object)),
        ({"b64": "YQ=="}, STRING, np.array(b"a", object)),
        (
            [{"b64": "YWJj\r\n ZGU\n"}, {"b64": "YWJjZGU=\n"}],
            STRING,
            np.array([b"abcde", b"abcde"], object),
        ),
        # Beyond 64 bits JSON's numbers are decimal ones
        ([2**70], FLOAT, np.array([2.0**70], np.float32)),
        ([[], []], FLOAT, np.zeros((2, 0), np.float32)),
    ],
)
def test_values(value, dtype, expected):
    for key in ("inputs", "instances") if isinstance(value, list) else ("inputs",):
        found = read(value, dtype, key)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([True], FLOAT),
        ([1, True], INT32),
        (["1"], FLOAT),
        ([1.0], INT32),
        ([256], UINT8),
        ([-1], UINT8),
        ([2**31], INT32),
        ([2**63], INT64),
        ([2**24 + 1], FLOAT),
        ([0.5, 2**24 + 1], FLOAT),
        ([1e39], FLOAT),
        ([2**70], INT64),
        ([1], STRING),
        ([1], BOOL),
        ([None], FLOAT),
        ([{"a": 1}], FLOAT),
        ([[1], [1, 2]], FLOAT),
        ([[1], 1], FLOAT),
        ([1, [1]], FLOAT),
        ([{"b64": "a", "c": 1}], STRING),
        ([[1, 2], "ab"], FLOAT),
    ],
)
def test_what_is_refused(value, dtype):
    for key in ("inputs", "instances"):
        with pytest.raises(Failure) as caught:
            read(value, dtype, key)
        assert caught.value.code == "INVALID_ARGUMENT"


def test_rows_are_counted_before_they_are_read():
    rows = [[]] * 4097
    with pytest.raises(Failure, match="at most 4096 rows in a request. Received: 4097"):
        read(rows, STRING, "instances")


def test_a_signature_without_inputs_takes_no_values():
    for body in ({"instances": [1]}, {"inputs": [1]}):
        with pytest.raises(Failure, match="expecting"):
            json_format.predict_inputs(body, {})


def test_brackets_in_texts_are_no_depth():
    assert json_format.parse(json.dumps({"a": "[" * 1000 + '\\"' + "{" * 1000}).encode()) == {
        "a": "[" * 1000 + '\\"' + "{" * 1000
    }

    def deep(n):
        return json.dumps(json.loads('{"a":' + "[" * n + "]" * n + "}")).encode()

    json_format.parse(deep(31))
    with pytest.raises(Failure, match="nested deeper than 32"):
        json_format.parse(deep(32))


def test_hostile_depth_is_found_fast():
    for body in (b"[" * 4_000_000, b'"' + b'\\"' * 2_000_000, b'{"a' * 1_000_000):
        with pytest.raises(Failure, match="JSON Parse error"):
            json_format.parse(body)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.array(0.1, np.float32), b"0.1"),
        (np.array(3), b"3"),
        (np.array(True), b"true"),
        (np.array(np.nan, np.float32), b"NaN"),
        (np.array(b"a", object), b'"a"'),
    ],
)
def test_answers_without_a_batch(value, shown):
    assert (
        json_answers.predictions({"y": value}, False).replace(b" ", b"")
        == b'{"outputs":' + shown + b"}"
    )
    with pytest.raises(Failure, match="Tensor name: y has no shape information"):
        json_answers.predictions({"y": value}, True)


def test_answers():
    outputs = {
        "label": np.array([b"a", b"\xff"], object),
        "p": np.array([0.1, 1.0], np.float32),
        "raw_bytes": np.array([b"\x00", b"b"], object),
    }
    rows = json.loads(json_answers.predictions(outputs, True))["predictions"]
    assert (
        rows[0] == {"label": "a", "p": 0.1, "raw_bytes": {"b64": "AA=="}}
        and rows[1]["label"] == "\ufffd"
    )
    # Stays a decimal number
    assert b"1.0" in json_answers.predictions({"p": np.array([1.0], np.float32)}, True)
    assert json.loads(json_answers.predictions({"p": np.array([0.1, 0.2], np.float32)}, False)) == {
        "outputs": [0.1, 0.2]
    }
    assert (
        json_answers.predictions({"p": np.array([np.nan, np.inf])}, True)
        == b'{"predictions": [NaN, Infinity]}'
    )
    with pytest.raises(Failure, match="inconsistent batch size: 1 expecting: 2"):
        json_answers.predictions({"a": np.zeros(2), "b": np.zeros(1)}, True)
    with pytest.raises(Failure, match="has no shape information"):
        json_answers.predictions({"a": np.float32(1).reshape(())}, True)


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("names", [["a"], ["a", "b", "t"]])
def test_large_answers_are_written_in_parts(by_row, names, monkeypatch):
    values = {
        "a": np.arange(60, dtype=np.float32).reshape(20, 3),
        "b": np.arange(20),
        "t": np.array([b"x"] * 20, object),
    }
    outputs, sizes, dumps = {name: values[name] for name in names}, [], json_answers.dumps
    whole = json_answers.predictions(outputs, by_row)
    monkeypatch.setattr(json_answers, "LARGE", 100)
    monkeypatch.setattr(
        json_answers, "dumps", lambda value: [sizes.append(len(dumps(value))), dumps(value)][1]
    )
    assert json_answers.predictions(outputs, by_row) == whole
    assert max(sizes) < len(whole) / 2


def test_answers_with_half_characters_and_huge_numbers():
    """As one model's record may hold them: the others are listed all the same."""
    value = {"purpose": "\ud800", "count": 10**30, "p": np.array([0.5], np.float32)}
    assert json.loads(json_answers.dumps(value)) == {
        "purpose": "\ud800",
        "count": 10**30,
        "p": [0.5],
    }


# The short way for rows of plain numbers


def plain(body, shape=(-1, 2, 2), dtype=UINT8):
    info = TensorInfo(dtype=dtype)
    for size in shape:
        info.tensor_shape.dim.add(size=size)
    found = json_format.plain_rows(body if isinstance(body, bytes) else body.encode(), {"x": info})
    return None if found is None else found["x"]


@pytest.mark.parametrize(
    ("rows", "shape", "dtype"),
    [
        ("[[[1,2],[3,4]]]", (-1, 2, 2), UINT8),
        (" [ [[1 ,2],\n[3,4]], [[5,6],[7,255]] ] ", (-1, 2, 2), UINT8),
        ("[[0.5,-1,2.25]]", (-1, 3), FLOAT),
        ("[[16777216.5, 3]]", (-1, 2), DOUBLE),
        ("[1,2,3]", (-1,), INT64),
        ("[[[7]]]", (-1, 1, 1), INT32),
    ],
)
def test_plain_rows_are_read_like_others(rows, shape, dtype):
    body = '{"instances":' + rows + "}"
    found, expected = plain(body, shape, dtype), read(json.loads(rows), dtype, "instances")
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "rows",
    [
        "[[[1,2],[3]]]",
        "[[[1,2],[3,]]]",
        "[[[1,2],[,4]]]",
        "[[[1,2],[3,4]]",
        "[[[1,2],[3,4]]]]",
        "[[1,2],[3,4]]",
        "[[[1,2],[3 4,5]]]",
        "[9[[1,2],[3,4]]]",
        "[[[1,2]0,[3,4]]]",
        "[[[1,2],[3,4]]1]",
        "[[[1,2],[3,1e2]]]",
        "[[[1,2],[3,true]]]",
        "[[[1,2],[3,256]]]",
        "[[[1,2],[3,4.0]]]",
        "[[[1,2],[3,-1]]]",
        "[[[1,2],[3,01]]]",
        '[[[1,2],[3,4]]],"a":1',
        "[]",
        "[[]]",
        "5",
        "",
        '[[["1",2],[3,4]]]',
        "[[[1,2],[3,4]],]",
        "[[[1,2],[3,4]],[]]",
        "[[[1,2],[3,1-2]]]",
        "[[[1,2],[3,.5]]]",
        "[[[1,2],[3,-]]]",
        f"[[[1,2],[3,{2**70}]]]",
    ],
)
def test_everything_else_is_left_to_the_long_way(rows):
    assert plain('{"instances":' + rows + "}") is None


def test_unknown_shapes_are_left_to_the_long_way():
    body = '{"instances":[[[1,2],[3,4]]]}'
    assert (
        plain(body, (-1, -1, 2)) is None
        and plain(body, ()) is None
        and plain(body, (-1, 0)) is None
    )
    assert (
        plain(body, (-1, 10**6, 10**6)) is None
        and plain(body, (-1, 2, 2), STRING) is None
        and plain(body, (-1, 2, 2), BOOL) is None
    )
