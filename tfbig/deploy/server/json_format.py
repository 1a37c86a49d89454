"""JSON requests to arrays, by the rules and in the words of TensorFlow Serving's cc.

Rows of plain numbers have a way of their own, without lists; `json_tensor` reads all others.
"""

from __future__ import annotations

import functools
import json
import math
import re

from tfbig.core.lazy import np, tf
from tfbig.deploy.server.json_tensor import as_array, is_base64, shown, stacked, whole
from tfbig.deploy.server.servable import ROWS
from tfbig.deploy.server.status import invalid

LARGE = 1 << 18  # bytes of a body that is read beside the event loop
DEEPEST = 32  # nested lists and objects
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# One that never ends matches too: no start is tried twice
TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)
SPACE, PLAIN = b" \t\n\r", b'{"instances":'
# A number's characters become 0
DIGITS = bytes(0x30 if chr(i) in "0123456789-." else i for i in range(256))


def parse(body: bytes) -> dict:
    """A request's body as an object; NaN and Infinity are allowed."""
    import orjson

    if not body:
        raise invalid("JSON Parse error: The document is empty")
    _check_depth(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:  # Python's parser knows NaN and Infinity
            document = json.loads(body) if b"NaN" in body or b"Infinity" in body else None
        except (ValueError, RecursionError):
            document = None
        if document is None:
            raise invalid(
                f"JSON Parse error: {error.msg} at offset: {error.pos}{_hint(body)}"
            ) from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {shown(document)} Is not object")
    return document


def _hint(body: bytes) -> str:
    """What to do with a body that is a file's bytes rather than text."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        return ""
    form = '{"instances": [{"b64": "..."}]}'
    return (
        f". Bytes are sent as base64 inside JSON: {form}, where ... is what base64 -w0 FILE prints"
    )


def _check_depth(body: bytes) -> None:
    if not _is_flat(body) and _depth(body) > DEEPEST and _depth(TEXT.sub(b"", body)) > DEEPEST:
        raise invalid(f"JSON Parse error: nested deeper than {DEEPEST}")


def _is_flat(body: bytes) -> bool:
    """Whether a few passes take all brackets away, innermost first.

    As good as always, and quicker than counting.
    """
    brackets = body.translate(None, NO_BRACKETS)
    for _ in range(8):
        if len(brackets) <= DEEPEST:
            return True
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return False


def _depth(body: bytes) -> int:
    """How deep brackets are nested, those in texts included."""
    characters = np.frombuffer(body, np.uint8)
    opening = (characters == 0x5B) | (characters == 0x7B)
    closing = (characters == 0x5D) | (characters == 0x7D)
    change = opening.view(np.int8) - closing.view(np.int8)
    return int(np.cumsum(change[np.flatnonzero(change)], dtype=np.int64).max(initial=0))


def signature_name(document: dict) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {shown(document)} not formatted correctly. 'signature_name' key must be"
            " a string value."
        )
    return name


def predict_inputs(document: dict, inputs) -> tuple[dict[str, np.ndarray], bool]:
    """Arrays for a signature's inputs (name -> TensorInfo), and whether they came in row format."""
    has_rows = "instances" in document
    has_columns = "inputs" in document
    if has_rows and has_columns:
        raise invalid(
            f"JSON Value: {shown(document)} Not formatted correctly expecting only one of 'inputs'"
            " or 'instances' keys to exist "
        )
    if has_rows:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid(
                f"JSON Value: {shown(document)} Excepting 'instances' to be an list/array"
            )
        if not rows:
            raise invalid(f"JSON Value: {shown(document)} No values in 'instances' array")
        if len(rows) > ROWS:  # before anything is made of each
            raise invalid(f"expected at most {ROWS} rows in a request. Received: {len(rows)}.")
        return _rows(rows, inputs), True
    if has_columns:
        return _columns(document["inputs"], inputs), False
    raise invalid("Missing 'inputs' or 'instances' key")


def plain_rows(body: bytes, inputs) -> dict[str, np.ndarray] | None:
    """What `predict_inputs` makes of {"instances": [...]}, in a third of its time.

    Where each row is nested lists of plain numbers in just the shape of the signature's only
    input. None: this is for the long way to read, or to refuse.
    """
    import orjson

    if len(inputs) != 1 or not (body.startswith(PLAIN) and body.endswith(b"}")):
        return None
    ((name, info),) = inputs.items()
    rows = body[len(PLAIN) : -1]
    shape = tuple(dim.size for dim in info.tensor_shape.dim[1:])
    if not info.tensor_shape.dim or any(size < 1 for size in shape) or math.prod(shape) > len(body):
        return None
    marks = rows.translate(DIGITS, SPACE)
    row = _brackets(shape)
    brackets = marks.translate(None, b"0")
    count, rest = divmod(len(brackets) - 1, len(row) + 1)
    # Numbers may stand in the innermost lists only, not in front of a list or behind one.
    if (
        rest
        or brackets != b"[" + b",".join([row] * count) + b"]"
        or b"0[" in marks
        or b"]0" in marks
    ):
        return None
    try:
        values = orjson.loads(b"[%b]" % rows.translate(None, b"[]"))
    except orjson.JSONDecodeError:
        return None
    kinds = {int, float} if b"." in rows else {int}
    if len(values) != count * math.prod(shape):
        return None
    array = as_array(values, [count, *shape], tf.as_dtype(info.dtype), kinds)
    return None if array is None else {name: array}


@functools.lru_cache(64)
def _brackets(shape: tuple[int, ...]) -> bytes:
    """Nested lists of this shape without what is in them."""
    return b"[" + b",".join([_brackets(shape[1:])] * shape[0]) + b"]" if shape else b""


def _rows(rows: list, inputs) -> dict[str, np.ndarray]:
    def is_object(value):
        return isinstance(value, dict) and not is_base64(value)

    if not isinstance(rows[0], dict) and len(inputs) != 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map"
        )
    if not is_object(rows[0]):
        for i, row in enumerate(rows):
            if is_object(row):
                raise invalid(f"Expecting value/list but got object at item {i} of input list")
        ((name, info),) = inputs.items()
        return {name: stacked(rows, info.dtype, "")}
    names = set(inputs)
    for i, row in enumerate(rows):
        if not is_object(row):
            raise invalid(f"Expecting object but got list at item {i} of input list")
        if set(row) != names:
            for name in row:
                if name not in names:
                    raise invalid(
                        f"Failed to process element: {i} key: {name} of 'instances' list. Error:"
                        f" INVALID_ARGUMENT: JSON object: does not have named input: {name}"
                    )
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. JSON object: {shown(row)}"
                f" must only have keys: {','.join(sorted(names))}"
            )
    return {
        name: stacked([row[name] for row in rows], info.dtype, f" key: {name}")
        for name, info in inputs.items()
    }


def _columns(value, inputs) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_base64(value):
        if len(inputs) != 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        return {name: whole(value, info.dtype)}
    for name in inputs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: whole(value[name], info.dtype) for name, info in inputs.items()}
