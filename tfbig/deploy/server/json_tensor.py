"""JSON values to tensors, by the rules and in the words of TensorFlow Serving's json_tensor.cc.

Arrays of numbers take a fast way through NumPy; whatever does not fit is walked value by value, to
say what is wrong with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from array import array as numbers
from itertools import chain

from tfbig.core.lazy import np, tf
from tfbig.deploy.server.status import Failure, invalid


def stacked(values: list, dtype: int, where: str) -> np.ndarray:
    """One tensor of rows of one shape."""
    fast = _fast(values, dtype)
    if fast is not None:
        return fast
    arrays = []
    first = None
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
        arrays.append(array)
    return np.stack(arrays)


def whole(value, dtype: int) -> np.ndarray:
    fast = _fast(value, dtype) if isinstance(value, list) else None
    return _tensor(value, dtype) if fast is None else fast


def _fast(value: list, dtype: int) -> np.ndarray | None:
    """Numbers in regular lists, converted by NumPy.

    None where that would not be the protocol's reading.
    """
    shape = [len(value)]
    level = value
    while level and type(level[0]) is list:
        if set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            return None
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    # True is an int to Python; the protocol tells them apart
    return as_array(level, shape, tf.as_dtype(dtype), set(map(type, level)))


def as_array(level: list, shape: list[int], wanted, kinds: set) -> np.ndarray | None:
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
        converted = array.astype(kind)
    if np.abs(converted).max() >= 2 ** (np.finfo(kind).nmant + 1) and int in kinds:
        return None  # whole numbers that the type cannot hold exactly
    return converted if (np.isfinite(converted) | ~np.isfinite(array)).all() else None


def _tensor(value, dtype: int) -> np.ndarray:
    """A value or nested lists as one tensor, checked value by value."""
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        if not inner:
            break
        inner = inner[0]
    scalars: list = []
    _fill(value, 0, shape, tf.as_dtype(dtype), scalars)
    kind = object if tf.as_dtype(dtype) == tf.string else tf.as_dtype(dtype).as_numpy_dtype
    tensor = np.empty(len(scalars), kind)
    tensor[:] = scalars
    return tensor.reshape(shape)


def _fill(value, level: int, shape: list[int], dtype, scalars: list) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON"
                f" DOM. Expected at level: {len(shape)}"
            )
        scalars.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size:"
            f" {shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, dtype, scalars)


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
                f"Cannot convert JSON value: {shown(value)} to"
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
            "UNIMPLEMENTED", f"Conversion of JSON Value: {shown(value)} to type: {dtype.name}"
        )
    raise invalid(
        f"JSON Value: {shown(value)} Type: {type_name(value)} is not of expected type: {dtype.name}"
    )


def decode_base64(value) -> bytes:
    """The bytes of {"b64": text}."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
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


def shown(value, longest: int = 200) -> str:
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


def is_base64(value) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)
