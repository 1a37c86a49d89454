"""Arrays to JSON answers, in the form of TensorFlow Serving's."""

from __future__ import annotations

import base64
import json
import math

from tfbig.core.lazy import np
from tfbig.deploy.server.json_format import LARGE
from tfbig.deploy.server.status import invalid


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
        columns = [list(value) for value in shown.values()]
        rows = [dict(zip(shown, row, strict=True)) for row in zip(*columns, strict=True)]
    if size <= LARGE:
        return dumps({"predictions": rows})
    return b'{"predictions":%b}' % _written(rows, size)


def _written(rows, size: int) -> bytes:
    """JSON of some rows, or of a single value, that take so many bytes together."""
    if size <= LARGE:
        return dumps(rows)
    step = max(1, len(rows) * LARGE // size)
    chunks = (dumps(rows[start : start + step])[1:-1] for start in range(0, len(rows), step))
    return b"[%b]" % b",".join(chunks)


def _values(name: str, array: np.ndarray):
    """An array as what `dumps` writes.

    Texts become lists, bytes {"b64": ...}, numbers stay arrays.
    """
    if array.dtype != object and array.dtype.kind not in "SU":
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return array.tolist()
        return array if array.ndim else array[()]
    if name.endswith("_bytes"):

        def to_json(item):
            return {"b64": base64.b64encode(item).decode()}

    else:

        def to_json(item):
            return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)

    return _nested(array, to_json)


def _nested(array: np.ndarray, to_json):
    """Nested lists of the array's items, each as `to_json` gives it."""
    if array.ndim == 0:
        return to_json(array[()])
    if array.ndim == 1:
        return [to_json(item) for item in array]
    return [_nested(row, to_json) for row in array]


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
