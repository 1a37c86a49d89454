"""Classify and Regress.

tf.Example in, labels and scores or numbers out, as TensorFlow Serving's classifier.cc and
regressor.cc.
"""

from __future__ import annotations

from tfbig.core.lazy import np
from tfbig.deploy.server import json_tensor
from tfbig.deploy.server.servable import DEFAULT, ROWS, Servable
from tfbig.deploy.server.status import Failure, invalid

INPUTS = "inputs"
METHODS = {"tensorflow/serving/classify": "classify", "tensorflow/serving/regress": "regress"}
MOST_CONTEXT = 64 << 20  # bytes, of all copies
INT64 = range(-(2**63), 2**63)


def from_json(document: dict):
    """The Input message of a classify or regress request."""
    from tensorflow_serving.apis import input_pb2

    message = input_pb2.Input()
    context = document.get("context")
    if "examples" not in document:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    if not isinstance(document["examples"], list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        raise invalid("'examples' value is an empty array")
    if context is not None:
        _example(context, message.example_list_with_context.context)
    listed = message.example_list_with_context if context is not None else message.example_list
    for example in document["examples"]:
        _example(example, listed.examples.add())
    return message


def _example(value, example) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_tensor.type_name(value)}")
    for name, content in value.items():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise invalid("Feature: its name holds half a character (a lone surrogate).") from None
        for item in content if isinstance(content, list) else [content]:
            _add(item, name, example.features.feature[name])


def _add(value, name: str, feature) -> None:
    if isinstance(value, (bool, int)):
        kind = "int64_list"
        value = int(value)
        if value not in INT64:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    elif isinstance(value, float):
        kind = "float_list"
    elif isinstance(value, str):
        kind = "bytes_list"
        value = value.encode("utf-8", "surrogatepass")
    elif json_tensor.is_base64(value):
        kind = "bytes_list"
        value = json_tensor.decode_base64(value)
    else:
        raise invalid(
            f"Feature: {name} has element with unexpected JSON type: {json_tensor.type_name(value)}"
        )
    if feature.WhichOneof("kind") not in (None, kind):
        raise invalid(
            f"Unexpected element type in feature: {name} expecting type:"
            f" {feature.WhichOneof('kind').removesuffix('_list')}"
        )
    getattr(feature, kind).value.append(value)


def prepare(
    servable: Servable, signature: str, method: str, given
) -> tuple[str, dict[str, np.ndarray]]:
    """The signature's name and its input: serialised tf.Examples [n].

    Args:
        given: the request's Input message.
    """
    name = signature or DEFAULT
    definition = servable.signatures.get(name)
    if definition is None:
        raise invalid(f"No signature was found with the name: {name}")
    check(definition, name, method)
    return name, {INPUTS: serialised(given)}


def check(definition, name: str, method: str) -> None:
    """Raises Failure unless a signature can classify or regress.

    By names and numbers of inputs and outputs, whatever method it declares: TensorFlow 2 declares
    predict for every signature, and the model server leaves its
    --enable_signature_method_name_check off.
    """
    kind, counts = ("classification", (1, 2)) if method == "classify" else ("regression", (1,))
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) not in counts:
        raise invalid(
            f"Expected one or two output Tensors, found {len(definition.outputs)}"
            if method == "classify"
            else "Expected one output Tensor."
        )
    if INPUTS not in definition.inputs:
        raise Failure("FAILED_PRECONDITION", f"No {kind} inputs found in SignatureDef: {name}")
    if method == "classify" and not {"classes", "scores"} & set(definition.outputs):
        raise Failure(
            "FAILED_PRECONDITION",
            'Expected classification signature outputs to contain at least one of "classes" or'
            f' "scores". Signature was: {name}',
        )
    if method == "regress" and "outputs" not in definition.outputs:
        raise Failure("FAILED_PRECONDITION", f"No regression outputs found in SignatureDef: {name}")


def serialised(given) -> np.ndarray:
    """An Input message's tf.Examples [n], with its context in each."""
    with_context = given.WhichOneof("kind") == "example_list_with_context"
    held = given.example_list_with_context if with_context else given.example_list
    if len(held.examples) > ROWS:  # before a context is put into each
        raise invalid(
            f"expected at most {ROWS} examples in a request. Received: {len(held.examples)}."
        )
    if with_context:
        size = len(held.examples) * held.context.ByteSize()
        if size > MOST_CONTEXT:
            raise invalid(
                f"context: expected at most {MOST_CONTEXT:,} bytes, times the examples that it is "
                f"put into. Received: {size:,}."
            )
        merged = []
        for example in given.example_list_with_context.examples:
            whole = type(example)()
            whole.CopyFrom(given.example_list_with_context.context)
            whole.MergeFrom(example)
            merged.append(whole)
    else:
        merged = list(given.example_list.examples)
    if not merged:
        raise invalid("Input is empty.")
    texts = np.empty(len(merged), object)
    texts[:] = [example.SerializeToString() for example in merged]
    return texts


def size(texts: np.ndarray) -> int:
    """Bytes of serialised tf.Examples."""
    return sum(map(len, texts.tolist()))


def classifications(outputs: dict[str, np.ndarray], rows: int) -> list[list[tuple[str, float]]]:
    """For each example its (label, score) pairs."""
    classes = outputs.get("classes")
    scores = outputs.get("scores")
    for name, value in (("classes", classes), ("scores", scores)):
        if value is not None and (value.ndim != 2 or len(value) != rows):
            raise invalid(
                f"Expected Tensor shape: [batch_size num_classes] but got {list(value.shape)} for"
                f" {name}."
            )
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs."
            f" {scores.shape[1]}"
        )
    if classes is not None and classes.dtype != object:
        raise invalid(f"Expected classes Tensor of DT_STRING. Got: {classes.dtype}")
    if scores is not None and scores.dtype != np.float32:
        raise invalid(f"Expected scores Tensor of DT_FLOAT. Got: {scores.dtype}")
    labels = (
        [[item.decode("utf-8", "replace") for item in row] for row in classes]
        if classes is not None
        else [[""] * scores.shape[1]] * rows
    )
    numbers = (
        scores.astype(float).tolist() if scores is not None else [[0.0] * classes.shape[1]] * rows
    )
    return [list(zip(*pair, strict=True)) for pair in zip(labels, numbers, strict=True)]


def regressions(outputs: dict[str, np.ndarray], rows: int) -> list[float]:
    """For each example its number."""
    value = outputs["outputs"]
    if value.size != rows or value.shape not in ((rows,), (rows, 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got"
            f" {list(value.shape)}"
        )
    if value.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT. Got: {value.dtype}")
    return value.reshape(-1).astype(float).tolist()
