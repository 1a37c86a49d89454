"""Recomputing activations instead of keeping them.

Chen et al. 2016, "Training deep nets with sublinear memory cost".

A functional model is cut where few values cross, such as between two Transformer blocks. While
training only these are kept; what lies between is computed again when its gradient is taken, with
the same random numbers, so the result is the same. Moving statistics and random states change once,
in the first computation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tfbig.core.errors import UserError
from tfbig.core.lazy import keras, tf
from tfbig.engine.graph import Node, bytes_kept, bytes_of, nodes

TRIED = 40  # sizes of segments that are compared


def install(model: keras.Model) -> None:
    """Lets a functional model recompute while training; nothing else about it changes."""
    parts = segments(model)
    if len(parts) < 2:
        raise UserError(
            "train.remat: expected a model that can be cut into parts. Received: one with no place"
            " where few values cross."
        )
    usual = model.call

    def call(inputs, training=None, mask=None):
        return (
            _run(model, parts, inputs) if training else usual(inputs, training=training, mask=mask)
        )

    model.call = call


def segments(model: keras.Model) -> list[list[Node]]:
    """The cut for which the values kept plus the largest part's are fewest."""
    order = nodes(model)
    _, edges = _best(model)
    return [order[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def activation_bytes(model: keras.Model) -> int:
    """Bytes that a model keeps of one example with recomputation.

    Those kept between its parts, and the largest part's.
    """
    return _best(model)[0]


def _best(model) -> tuple[int, list[int]]:
    """Bytes for one example, and the edges of the parts."""
    order = nodes(model)
    crossing = _crossing(model, order)
    inside = list(map(bytes_kept, order))
    total = sum(inside)
    best = None
    for i in range(TRIED):
        cuts = _cut(inside, crossing, total * 0.9**i)
        edges = [0, *cuts, len(order)]
        kept = sum(crossing[cut] for cut in cuts)
        largest = max(sum(inside[a:b]) for a, b in zip(edges, edges[1:], strict=False))
        if best is None or kept + largest < best[0]:
            best = (kept + largest, edges)
    return best


def _crossing(model, order: list[Node]) -> list[int]:
    """Bytes computed before each node and needed at or behind it."""
    last = {}
    for i, node in enumerate(order):
        last.update((id(tensor), i) for tensor in node.inputs)
    last.update((id(tensor), len(order)) for tensor in model.outputs)
    crossing = [0] * (len(order) + 1)
    alive = 0
    ends: dict[int, int] = {}
    for i, node in enumerate(order):
        alive -= ends.pop(i - 1, 0)  # used for the last time by the node before
        crossing[i] = alive
        for tensor in node.outputs:
            if last.get(id(tensor), i) > i:
                alive += bytes_of(tensor)
                ends[last[id(tensor)]] = ends.get(last[id(tensor)], 0) + bytes_of(tensor)
    return crossing


def _cut(inside: list[int], crossing: list[int], bound: float) -> list[int]:
    """Cuts into parts of at most `bound` bytes where possible.

    Each is at the latest place where the fewest bytes cross.
    """
    cuts, start, size, place = [], 0, 0, None
    for i, own in enumerate(inside):
        if size + own > bound and place is not None:
            cuts.append(place)
            start = place
            size = sum(inside[place:i])
            place = None
        size += own
        if (
            i + 1 < len(inside)
            and i + 1 > start
            and (place is None or crossing[i + 1] <= crossing[place])
        ):
            place = i + 1
    return cuts


def _run(model, parts: list[list[Node]], inputs):
    values = {
        id(symbol): tf.convert_to_tensor(value)
        for symbol, value in zip(model.inputs, keras.tree.flatten(inputs), strict=True)
    }
    for number, segment in enumerate(parts):
        needed = {
            id(tensor) for later in parts[number + 1 :] for node in later for tensor in node.inputs
        } | {id(tensor) for tensor in model.outputs}
        results = [tensor for node in segment for tensor in node.outputs if id(tensor) in needed]
        last = number + 1 == len(parts)  # its gradient comes first, so nothing is gained
        tensors = (_plain if last or _has_sums(segment) else _recomputed)(segment, results, values)
        values.update(zip(map(id, results), tensors, strict=True))
    return keras.tree.pack_sequence_as(
        model.output, [values[id(tensor)] for tensor in model.outputs]
    )


def _has_sums(segment: list[Node]) -> bool:
    """Whether workers would have to sum statistics again."""
    return any(getattr(node.operation, "synchronized", False) for node in segment)


def _plain(segment: list[Node], results: list, values: dict) -> list:
    values = dict(values)
    for node in segment:
        values.update(zip(map(id, node.outputs), node.call(values, training=True), strict=True))
    return [values[id(tensor)] for tensor in results]


def _recomputed(segment: list[Node], results: list, values: dict) -> list:
    needed = dict.fromkeys(
        id(tensor) for node in segment for tensor in node.inputs if id(tensor) in values
    )
    floats = [key for key in needed if values[key].dtype.is_floating]
    states = [state for node in segment for state in _random_states(node.operation)]
    before = [(state, tf.identity(state.value)) for state in states]
    calls: list[Callable] = []
    # Of the first results: under mixed precision a layer may give another type without its own
    # policy's casts
    dtypes: list = []

    def compute(*inputs):
        # Within a stateless scope changes of variables are dropped, and random states read as they
        # were the first time.
        scope = keras.StatelessScope(state_mapping=before) if calls else contextlib.nullcontext()
        calls.append(compute)
        with scope:
            outputs = _plain(segment, results, {**values, **dict(zip(floats, inputs, strict=True))})
        dtypes.extend([] if dtypes else [output.dtype for output in outputs])
        return tuple(tf.cast(output, dtype) for output, dtype in zip(outputs, dtypes, strict=True))

    return list(tf.recompute_grad(compute)(*(values[key] for key in floats)))


def _random_states(operation) -> list:
    """The states of all random number generators of a layer, those of layers inside it too."""
    if not isinstance(operation, keras.Layer):
        return []
    return [variable for variable in operation.variables if variable.name == "seed_generator_state"]
