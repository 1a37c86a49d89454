"""JSON requests to arrays and back, by the rules and in the words of TensorFlow Serving's
json_tensor.cc.

Arrays of numbers take a fast way through NumPy; whatever does not fit is walked value by value, to
say what is wrong with it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import re
from array import array as numbers
from itertools import chain

from tfbig.core.lazy import np, tf
from tfbig.deploy.server.servable import ROWS
from tfbig.deploy.server.status import Failure, invalid

LARGE = 1 << 18  # bytes of a body that is read beside the event loop
DEEPEST = 32  # nested lists and objects
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# One that never ends matches too: no start is tried twice
TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)
SPACE, PLAIN = b" \t\n\r", b'{"instances":'
# A number's characters become 0
DIGITS = bytes(0x30 if chr(i) in "0123456789-." else i for i in range(256))
SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


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
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
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
    opening, closing = (
        (characters == 0x5B) | (characters == 0x7B),
        (characters == 0x5D) | (characters == 0x7D),
    )
    change = opening.view(np.int8) - closing.view(np.int8)
    return int(np.cumsum(change[np.flatnonzero(change)], dtype=np.int64).max(initial=0))


def signature_name(document: dict) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be"
            " a string value."
        )
    return name


def predict_inputs(document: dict, inputs) -> tuple[dict[str, np.ndarray], bool]:
    """Arrays for a signature's inputs (name -> TensorInfo), and whether they came in row format."""
    has_rows, has_columns = "instances" in document, "inputs" in document
    if has_rows and has_columns:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs'"
            " or 'instances' keys to exist "
        )
    if has_rows:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid(
                f"JSON Value: {_shown(document)} Excepting 'instances' to be an list/array"
            )
        if not rows:
            raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
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
    ((name, info),), rows = inputs.items(), body[len(PLAIN) : -1]
    shape = tuple(dim.size for dim in info.tensor_shape.dim[1:])
    if not info.tensor_shape.dim or any(size < 1 for size in shape) or math.prod(shape) > len(body):
        return None
    marks, row = rows.translate(DIGITS, SPACE), _brackets(shape)
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
        found = orjson.loads(b"[%b]" % rows.translate(None, b"[]"))
    except orjson.JSONDecodeError:
        return None
    kinds = {int, float} if b"." in rows else {int}
    array = (
        _as_array(found, [count, *shape], tf.as_dtype(info.dtype), kinds)
        if len(found) == count * math.prod(shape)
        else None
    )
    return None if array is None else {name: array}


@functools.lru_cache(64)
def _brackets(shape: tuple[int, ...]) -> bytes:
    """Nested lists of this shape without what is in them."""
    return b"[" + b",".join([_brackets(shape[1:])] * shape[0]) + b"]" if shape else b""


def is_base64(value) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


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
        return {name: _stacked(rows, info.dtype, "")}
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
                f"Failed to process element: {i} of 'instances' list. JSON object: {_shown(row)}"
                f" must only have keys: {','.join(sorted(names))}"
            )
    return {
        name: _stacked([row[name] for row in rows], info.dtype, f" key: {name}")
        for name, info in inputs.items()
    }


def _stacked(values: list, dtype: int, where: str) -> np.ndarray:
    """One tensor of rows of one shape."""
    fast = _fast(values, dtype)
    if fast is not None:
        return fast
    made, first = [], None
    for i, value in enumerate(values):
        try:
            array = _tensor(value, dtype)
            first = array if first is None else first
            if array.size != first.size:
                raise invalid(f"Expecting tensor size: {first.size} but got: {array.size}")
            if array.shape != first.shape:
                raise invalid(
                    f"Expecting shape [{','.join(map(str, first.shape))}] but got:"
                    f" [{','.join(map(str, array.shape))}]"
                )
        except Failure as failure:
            raise invalid(
                f"Failed to process element: {i}{where} of 'instances' list. Error:"
                f" INVALID_ARGUMENT: {failure.message}"
            ) from None
        made.append(array)
    return np.stack(made)


def _columns(value, inputs) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_base64(value):
        if len(inputs) != 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        return {name: _whole(value, info.dtype)}
    for name in inputs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _whole(value[name], info.dtype) for name, info in inputs.items()}


def _whole(value, dtype: int) -> np.ndarray:
    fast = _fast(value, dtype) if isinstance(value, list) else None
    return _tensor(value, dtype) if fast is None else fast


def _fast(value: list, dtype: int) -> np.ndarray | None:
    """Numbers in regular lists, converted by NumPy.

    None where that would not be the protocol's reading.
    """
    shape, level = [len(value)], value
    while level and type(level[0]) is list:
        if set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            return None
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    # True is an int to Python; the protocol tells them apart
    return _as_array(level, shape, tf.as_dtype(dtype), set(map(type, level)))


def _as_array(level: list, shape: list[int], wanted, kinds: set) -> np.ndarray | None:
    """Numbers of these kinds in one list as an array.

    None where NumPy's reading would not be the protocol's.
    """
    if not (wanted.is_floating or wanted.is_integer) or wanted.size not in (1, 2, 4, 8):
        return None
    if not level or not kinds <= ({int} if wanted.is_integer else {int, float}):
        return None
    try:  # much quicker than numpy.array
        array = np.frombuffer(
            numbers("q" if kinds == {int} else "d", level),
            np.int64 if kinds == {int} else np.float64,
        ).reshape(shape)
    except (OverflowError, TypeError):  # beyond 64 bits, where JSON's numbers are decimal ones
        return None
    kind = wanted.as_numpy_dtype
    if wanted.is_integer:
        limits = np.iinfo(kind)
        return (
            array.astype(kind) if array.min() >= limits.min and array.max() <= limits.max else None
        )
    with np.errstate(over="ignore"):
        made = array.astype(kind)
    if np.abs(made).max() >= 2 ** (np.finfo(kind).nmant + 1) and int in kinds:
        return None  # whole numbers that the type cannot hold exactly
    return made if (np.isfinite(made) | ~np.isfinite(array)).all() else None


def _tensor(value, dtype: int) -> np.ndarray:
    """A value or nested lists as one tensor, checked value by value."""
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        if not inner:
            break
        inner = inner[0]
    found: list = []
    _fill(value, 0, shape, tf.as_dtype(dtype), found)
    kind = object if tf.as_dtype(dtype) == tf.string else tf.as_dtype(dtype).as_numpy_dtype
    made = np.empty(len(found), kind)
    made[:] = found
    return made.reshape(shape)


def _fill(value, level: int, shape: list[int], dtype, found: list) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON"
                f" DOM. Expected at level: {len(shape)}"
            )
        found.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size:"
            f" {shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, dtype, found)


def _scalar(value, dtype):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype == tf.string:
        if isinstance(value, dict):
            return decode_base64(value)
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif dtype.is_floating and is_number:
        limit = (
            2 ** (np.finfo(dtype.as_numpy_dtype).nmant + 1) - 1
            if isinstance(value, int)
            else float(dtype.max)
        )
        if (isinstance(value, int) or math.isfinite(value)) and abs(value) > limit:
            raise invalid(
                f"Cannot convert JSON value: {_shown(value)} to"
                f" {'double' if dtype == tf.float64 else 'float'} without loss of precision."
            )
        return value
    elif (
        dtype.is_integer
        and isinstance(value, int)
        and is_number
        and dtype.min <= value <= dtype.max
    ):
        return value
    elif not (dtype.is_floating or dtype.is_integer):
        raise Failure(
            "UNIMPLEMENTED", f"Conversion of JSON Value: {_shown(value)} to type: {dtype.name}"
        )
    raise invalid(
        f"JSON Value: {_shown(value)} Type: {type_name(value)} is not of expected type:"
        f" {dtype.name}"
    )


def decode_base64(value) -> bytes:
    """The bytes of {"b64": text}."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())  # white space counts for nothing: base64 tools break lines
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        remedy = ". Leave out what stands before the comma" if text.startswith("data:") else ""
        raise invalid(f"Unable to base64 decode{remedy}") from None


def type_name(value) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    return {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}.get(
        type(value), "Null"
    )


def _shown(value, longest: int = 200) -> str:
    """A value as JSON, cut short: a request is not sent back whole."""
    while isinstance(value, (list, dict)) and len(value) > 16:
        value = value[:16] if isinstance(value, list) else dict(list(value.items())[:16])
    try:
        text = (
            json.dumps(value, ensure_ascii=False)
            if len(str(value)) < 100_000
            else str(type(value).__name__)
        )
    except (ValueError, RecursionError):
        text = "..."
    return text if len(text) <= longest else text[:longest] + "..."


def predictions(outputs: dict[str, np.ndarray], by_row: bool) -> bytes:
    """A response's body.

    A large one is written some rows at a time, since nothing else runs while those are.
    """
    shown = {name: _values(name, value) for name, value in sorted(outputs.items())}
    size = sum(value.nbytes for value in outputs.values())
    if not by_row and size <= LARGE:
        return dumps({"outputs": shown if len(shown) > 1 else next(iter(shown.values()))})
    if not by_row:
        written = {name: _written(value, outputs[name].nbytes) for name, value in shown.items()}
        if len(written) == 1:
            return b'{"outputs":%b}' % next(iter(written.values()))
        named = (b"%b:%b" % (dumps(name), value) for name, value in written.items())
        return b'{"outputs":{%b}}' % b",".join(named)
    counts = {name: len(value) if value.ndim else None for name, value in outputs.items()}
    for name, count in counts.items():
        if count is None:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {count}")
        if count != next(iter(counts.values())):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {count} expecting:"
                f" {next(iter(counts.values()))}"
            )
    rows = next(iter(shown.values()))
    if len(shown) > 1:
        names, parts = list(shown), [list(value) for value in shown.values()]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]
    if size <= LARGE:
        return dumps({"predictions": rows})
    return b'{"predictions":%b}' % _written(rows, size)


def _written(rows, size: int) -> bytes:
    """JSON of some rows, or of a single value, that take so many bytes together."""
    if size <= LARGE:
        return dumps(rows)
    step = max(1, len(rows) * LARGE // size)
    parts = (dumps(rows[start : start + step])[1:-1] for start in range(0, len(rows), step))
    return b"[%b]" % b",".join(parts)


def _values(name: str, array: np.ndarray):
    """An array as what `dumps` writes.

    Texts become lists, bytes {"b64": ...}, numbers stay arrays.
    """
    if array.dtype != object and array.dtype.kind not in "SU":
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return array.tolist()
        return array if array.ndim else array[()]
    if name.endswith("_bytes"):

        def one(item):
            return {"b64": base64.b64encode(item).decode()}

    else:

        def one(item):
            return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)

    return _nested(array, one)


def _nested(array: np.ndarray, one):
    return (
        one(array[()])
        if array.ndim == 0
        else (
            [one(item) for item in array]
            if array.ndim == 1
            else [_nested(part, one) for part in array]
        )
    )


def dumps(value) -> bytes:
    """JSON with float32 in as few digits as tell it apart; NaN and Infinity as their tokens."""
    import orjson

    try:
        if _finite(value):
            return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # an artefact's record may hold half a character, or more than 64 bits
        return json.dumps(value, default=lambda item: item.tolist()).encode()
    return json.dumps(value, ensure_ascii=False, default=lambda item: item.tolist()).encode()


def _finite(value) -> bool:
    """Whether no list holds NaN or Infinity; arrays that stayed arrays are finite."""
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
