"""What a served model may do.

A model is a program, so its operations are read and checked before anything runs.

Only operations that compute are allowed. Reading and writing files, printing, calling Python,
talking to other machines and everything unknown is refused by name. SavedModel's own saving and
restoring of variables is told apart by where it stands.
"""

from __future__ import annotations

import collections
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import load
from tfbig.deploy.operation_lists import ALLOWED, REFUSED, RESTORE, SAVE, refusal

DEEPEST = 100  # functions that call each other
MOST_NODES = 1 << 20  # of an ONNX model, those of functions once for each call
ONNX_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def check_saved_model(folder: Path) -> None:
    """Raises UserError, naming the operation, if a SavedModel could do more than compute.

    Reads the file; runs nothing.
    """
    path = Path(folder) / "saved_model.pb"
    graphs = _parsed(path).meta_graphs
    # The loader for others runs more of a model than its signatures
    if len(graphs) != 1 or not graphs[0].object_graph_def.nodes:
        raise UserError(
            f"{path}: refused: expected one graph with its objects, as tf.saved_model.save writes"
            f" it. Received: {len(graphs)} graph(s)."
        )
    graph = graphs[0]
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    _check_nesting(path, functions)
    saves, restores = _saver_nodes(graph)
    restored = _reach(restores, functions)
    others = [node for node in graph.graph_def.node if node not in saves and node not in restores]
    elsewhere = _reach(others, functions) | _reach_names(
        _callable(graph.object_graph_def), functions
    )
    elsewhere |= _reach_names(
        set(functions) - restored - _reach(saves, functions), functions
    )  # what nothing calls is checked too
    for name, function in sorted(functions.items()):
        if name in ALLOWED or name in REFUSED:
            raise UserError(f"{path}: refused: a function is named like the operation {name}.")
        if "api_implements" in function.attr:
            raise UserError(
                f"{path}: refused: function {name} may be put in place of another one"
                " (api_implements)."
            )
        if name in elsewhere:
            _check_nodes(path, function.node_def, ALLOWED | set(functions), f"in function {name}")
        elif name not in restored:
            _check_nodes(
                path, function.node_def, ALLOWED | SAVE | set(functions), f"in function {name}"
            )
    _check_restore(path, graph, restores, {name: functions[name] for name in restored - elsewhere})
    _check_nodes(path, graph.graph_def.node, ALLOWED | set(functions), "in the graph")
    for node in graph.object_graph_def.nodes:
        if node.registered_saver or node.registered_name:
            raise UserError(
                f"{path}: refused: it names code of its own to load"
                f" ({node.registered_name or node.registered_saver})."
            )


def operations(graph, signature: str) -> set[str]:
    """The operations behind a signature of a checked MetaGraphDef, those of functions included."""
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    reached = {}
    waiting = [info.name for info in graph.signature_def[signature].outputs.values()]
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name in nodes and name not in reached:
            reached[name] = nodes[name]
            waiting += nodes[name].input
    inner = (
        node for name in _reach(reached.values(), functions) for node in functions[name].node_def
    )
    return {node.op for node in (*reached.values(), *inner)}


def check_onnx(path: Path) -> set[str]:
    """Raises UserError if an ONNX model uses operators from elsewhere or data outside its own file.

    Returns:
        The names of its operators.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and onnx's own kinds
        raise UserError(
            f"{path}: is no ONNX model that can be read: {type(error).__name__}."
        ) from error
    graphs = [
        graph for owner in (model.graph, *model.functions) for graph in _onnx_subgraphs(owner)
    ]
    for node in (node for graph in graphs for node in graph.node):
        if node.domain not in ONNX_DOMAINS:
            raise UserError(
                f"{path}: refused: operator {node.op_type} is from {node.domain!r}, not among"
                f" {', '.join(ONNX_DOMAINS[1:])}."
            )
    if any(
        tensor.data_location == onnx.TensorProto.EXTERNAL
        for graph in graphs
        for tensor in _onnx_tensors(graph)
    ):
        raise UserError(f"{path}: refused: it keeps data outside its own file.")
    _check_expansion(path, model)
    return {node.op_type for graph in graphs for node in graph.node}


def _check_expansion(path: Path, model) -> None:
    """Raises UserError where an ONNX model's functions are too many operators once substituted.

    They replace their calls when the model is loaded: 40 functions that each call the one before
    twice are 2^40 operators.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(graph, depth: int) -> int:
        total = 0
        for node in (node for inner in _onnx_subgraphs(graph) for node in inner.node):
            key = node.domain, node.op_type
            if key in functions and key not in sizes:
                if depth > DEEPEST:
                    raise UserError(
                        f"{path}: refused: its functions call each other deeper than {DEEPEST}, or"
                        " themselves."
                    )
                sizes[key] = size(functions[key], depth + 1)
            total += sizes.get(key, 1)
            if total > MOST_NODES:
                raise UserError(
                    f"{path}: refused: expected at most {MOST_NODES:,} operators, with functions in"
                    " place of their calls. Received: more."
                )
        return total

    size(model.graph, 1)


def _onnx_attributes(graph) -> list:
    """The attributes of a graph's or function's nodes, and a function's own defaults."""
    of_nodes = [attribute for node in graph.node for attribute in node.attribute]
    return of_nodes + list(getattr(graph, "attribute_proto", ()))


def _onnx_subgraphs(graph):
    """A graph or function and its subgraphs."""
    yield graph
    for attribute in _onnx_attributes(graph):
        for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
            yield from _onnx_subgraphs(inner)


def _onnx_tensors(graph):
    """The tensors that a graph or function holds, without those of its subgraphs."""
    yield from getattr(graph, "initializer", ())
    sparse = list(getattr(graph, "sparse_initializer", ()))
    for attribute in _onnx_attributes(graph):
        yield from (attribute.t, *attribute.tensors)
        sparse += (attribute.sparse_tensor, *attribute.sparse_tensors)
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _parsed(path: Path):
    load()  # quietly, unlike what follows by itself
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(f"{path}: is no SavedModel that can be read: {error}.") from error
    return model


def _saver_nodes(graph) -> tuple[list, list]:
    """The nodes that save and that restore a SavedModel's variables.

    Those that something else uses too are left out.
    """
    used = {
        text.lstrip("^").partition(":")[0] for node in graph.graph_def.node for text in node.input
    }
    for signature in graph.signature_def.values():
        used |= {info.name.partition(":")[0] for info in signature.outputs.values()}
    used |= {
        text.partition(":")[0]
        for held in graph.collection_def.values()
        for text in held.node_list.value
    }
    names = [
        name.partition(":")[0]
        for name in (graph.saver_def.save_tensor_name, graph.saver_def.restore_op_name)
    ]
    saves, restores = (
        [node for node in graph.graph_def.node if node.name == name and name not in used]
        for name in names
    )
    return saves, restores


def _callable(objects) -> set[str]:
    """The functions that a SavedModel's objects list, and those they name.

    Loaders call these even if the list lacks them.
    """
    named = {
        name
        for node in objects.nodes
        for name in (
            *node.function.concrete_functions,
            node.bare_concrete_function.concrete_function_name,
        )
    }
    return named | set(objects.concrete_functions)


def _called(node, functions: dict) -> set[str]:
    """The functions that a node names."""
    names = {node.op} if node.op in functions else set()
    for value in node.attr.values():
        names |= {value.func.name, *(func.name for func in value.list.func)}
    return names & set(functions)


def _reach(nodes, functions: dict) -> set[str]:
    """The functions that these nodes call, directly or not."""
    return _reach_names({name for node in nodes for name in _called(node, functions)}, functions)


def _reach_names(names, functions: dict) -> set[str]:
    """The functions with these names, and those that they call, directly or not."""
    reached = set()
    waiting = [name for name in names if name in functions]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [
                inner for node in functions[name].node_def for inner in _called(node, functions)
            ]
    return reached


def _check_nesting(path: Path, functions: dict) -> None:
    """Raises UserError for functions that call themselves, or each other too deep.

    Native code that follows them would run out of its stack, and end the whole process.
    """
    called = {
        name: {inner for node in function.node_def for inner in _called(node, functions)}
        for name, function in functions.items()
    }
    callers = collections.Counter(inner for names in called.values() for inner in names)
    level = {name: 1 for name in functions if not callers[name]}
    waiting = list(level)
    while waiting:  # each function behind all that call it
        name = waiting.pop()
        for inner in called[name]:
            level[inner] = max(level.get(inner, 0), level[name] + 1)
            callers[inner] -= 1
            if not callers[inner]:
                waiting.append(inner)
    recursive = sorted(name for name in functions if callers[name] > 0)
    if recursive:
        raise UserError(f"{path}: refused: function {recursive[0]} calls itself, directly or not.")
    if max(level.values(), default=0) > DEEPEST:
        raise UserError(f"{path}: refused: its functions call each other deeper than {DEEPEST}.")


def _check_nodes(path: Path, nodes, allowed, where: str) -> None:
    for node in nodes:
        if node.op not in allowed:
            raise UserError(f"{path}: refused: {refusal(node.op)} (node {node.name} {where}).")


def _check_restore(path: Path, graph, restores: list, functions: dict) -> None:
    """Variables are restored from the file the loader names, not from one the model names.

    Nothing else happens then.

    Args:
        path: for messages.
        graph: the MetaGraphDef.
        restores: the nodes that the loader runs.
        functions: the functions that only these reach. Only those called by the nodes themselves
            may read the file.
    """
    direct = {
        node.attr["f"].func.name if node.op.endswith("PartitionedCall") else node.op
        for node in restores
    }
    for node in restores:
        if functions and list(node.input[:1]) not in (
            [graph.saver_def.filename_tensor_name],
            [graph.saver_def.filename_tensor_name.removesuffix(":0")],
        ):
            raise UserError(
                f"{path}: refused: operation RestoreV2 reads files (node {node.name} restores from"
                " a file of its own choice)."
            )
        _check_nodes(path, [node], RESTORE | set(functions), "that restores variables")
    for name, function in sorted(functions.items()):
        reads = name in direct and not any(
            name in _called(node, functions)
            for inner in functions.values()
            for node in inner.node_def
        )
        _check_nodes(
            path,
            function.node_def,
            RESTORE | set(functions) | ({"RestoreV2"} if reads else set()),
            f"in function {name}, which restores variables",
        )
        first = function.signature.input_arg[0].name if function.signature.input_arg else None
        for node in function.node_def:
            if node.op == "RestoreV2" and node.input[0] != first:
                raise UserError(
                    f"{path}: refused: operation RestoreV2 reads files (node {node.name} restores"
                    " from a file of its own choice)."
                )
