"""Plain Python values as JSON and arrays, exactly: nothing is executed when they are read back."""

from __future__ import annotations

import math
from typing import Any

from tfbig.core.lazy import np

DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
KINDS = {"tuple": tuple, "set": set, "frozenset": frozenset}


def pack(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """A value as JSON: numbers, text, lists, tuples, sets and dicts of them.

    Args:
        value: the value.
        arrays: gets copies of the NumPy arrays found in it.
        name: what the names of these arrays start with.

    Raises:
        TypeError: it is, or holds, something else.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.generic) or kind is np.ndarray:
        if value.dtype.name not in DTYPES or not value.dtype.isnative:
            raise TypeError(f"{value.dtype}")
        key = f"{name}:{len(arrays)}"
        arrays[key] = np.array(value, order="C")
        return {"array" if kind is np.ndarray else "scalar": key}
    try:
        if kind is list:
            return [pack(item, arrays, name) for item in value]
        if kind is dict:
            return {
                "dict": [
                    [pack(key, arrays, name), pack(item, arrays, name)]
                    for key, item in value.items()
                ]
            }
        if kind.__name__ in KINDS and kind is KINDS[kind.__name__]:
            return {kind.__name__: [pack(item, arrays, name) for item in value]}
    except RecursionError:  # it holds itself
        pass
    raise TypeError(kind.__name__)


def unpack(packed: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value that `pack` was given."""
    if isinstance(packed, list):
        return [unpack(item, arrays) for item in packed]
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "float":
        return float(content)
    if kind == "array":
        return np.array(arrays[content])
    if kind == "scalar":
        return arrays[content][()]
    if kind == "dict":
        return {unpack(key, arrays): unpack(item, arrays) for key, item in content}
    return KINDS[kind](unpack(item, arrays) for item in content)
