"""Programs and artefacts that could do more than compute are refused before anything of them
runs.
"""

import os
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

import tfbig
from tfbig.core.errors import UserError
from tfbig.deploy import allowlist, artefact
from tfbig.deploy.server import servable

SHIPPED = Path(tfbig.__file__).parent.parent / "saved_models" / "mnist_mlp" / "1"


class Writes(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        tf.io.write_file("/nowhere/file", x)
        return {"y": x}


class Reads(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        return {"y": tf.cond(tf.equal(x, "a"), lambda: tf.io.read_file(x), lambda: x)}


class Prints(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        tf.print(x, output_stream="file:///nowhere/file")
        return {"y": x}


class Python(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        return {"y": tf.py_function(lambda value: value, [x], tf.string)}


class Restores(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        return {
            "y": tf.raw_ops.RestoreV2(
                prefix=x, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string]
            )[0]
        }


class Table(tf.Module):
    def __init__(self, path):
        super().__init__()
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                path,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            -1,
        )

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(self, x):
        return {"y": self.table.lookup(x)}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Writes, "WriteFile writes files"),
        (Reads, "ReadFile reads files"),
        (Prints, "PrintV2 prints"),
        (Python, "EagerPyFunc calls Python"),
        (Restores, "RestoreV2 reads files"),
        (Table, "InitializeTableFromTextFileV2 reads files"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_programs_that_do_more_than_compute_are_refused(module, words, tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    made = Table(str(tmp_path / "words.txt")) if module is Table else module()
    tf.saved_model.save(made, str(tmp_path / "model"), signatures=made.serve)
    with pytest.raises(UserError, match=f"refused: operation {words}"):
        allowlist.check_saved_model(tmp_path / "model")


def test_restoring_from_a_file_of_its_own_choice_is_refused(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    path = shutil.copytree(SHIPPED, tmp_path / "model") / "saved_model.pb"
    allowlist.check_saved_model(path.parent)
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "RestoreV2":
                constant = function.node_def.add(name="elsewhere", op="Const")
                constant.attr["dtype"].type = 7
                constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/etc/passwd"))
                node.input[0] = "elsewhere:output:0"
                break
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="restores from a file of its own choice"):
        allowlist.check_saved_model(path.parent)


@pytest.mark.parametrize(
    ("length", "words"), [(1, "calls itself"), (2, "calls itself"), (101, "deeper than 100")]
)
def test_functions_that_nest_without_end_are_refused(length, words, tmp_path):
    """One that calls itself, two that call each other, and a long chain.

    Native code would run out of its stack.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = shutil.copytree(SHIPPED, tmp_path / "model") / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    library = model.meta_graphs[0].graph_def.library
    for i in range(length):
        following = (i + 1) % length if words == "calls itself" else i + 1
        call = added(library, i).node_def.add(name="call", op="PartitionedCall")
        if following < length:
            call.attr["f"].func.name = f"__inference_{following}_1"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=words):
        allowlist.check_saved_model(path.parent)


def test_a_saver_that_a_signature_uses_is_refused(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    path = shutil.copytree(SHIPPED, tmp_path / "model") / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = model.meta_graphs[0]
    graph.signature_def["serving_default"].outputs["label"].name = graph.saver_def.save_tensor_name
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="writes files"):
        allowlist.check_saved_model(path.parent)


def saving_while_restoring(graph, target):
    """Writes a file in the function that loaders run by themselves."""
    node = next(
        node for node in graph.graph_def.node if node.name == graph.saver_def.restore_op_name
    )
    function = next(
        one
        for one in graph.graph_def.library.function
        if one.signature.name == node.attr["f"].func.name
    )
    for name, value, dtype in (
        ("file", str(target), tf.string),
        ("names", ["a"], tf.string),
        ("slices", [""], tf.string),
        ("value", [1.0], tf.float32),
    ):
        constant = function.node_def.add(name=f"evil_{name}", op="Const")
        constant.attr["dtype"].type = dtype.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
    save = function.node_def.add(
        name="evil",
        op="SaveV2",
        input=[f"evil_{name}:output:0" for name in ("file", "names", "slices", "value")],
    )
    save.attr["dtypes"].list.type.append(tf.float32.as_datatype_enum)
    function.control_ret["evil"] = "evil"
    function.signature.control_output.append("evil")


def restoring_a_constant(graph, target):
    node = next(
        node for node in graph.graph_def.node if node.name == graph.saver_def.restore_op_name
    )
    constant = graph.graph_def.node.add(name="elsewhere", op="Const")
    constant.attr["dtype"].type = tf.string.as_datatype_enum
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(target)))
    node.input[0] = "elsewhere"


def without_objects(change):
    return lambda graph, target: (change(graph, target), graph.ClearField("object_graph_def"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (saving_while_restoring, "operation SaveV2 writes files"),
        (restoring_a_constant, "restores from a file of its own choice"),
        (without_objects(saving_while_restoring), "expected one graph with its objects"),
        (without_objects(restoring_a_constant), "expected one graph with its objects"),
        (
            lambda graph, _: (
                graph.graph_def.library.function[0]
                .attr["api_implements"]
                .CopyFrom(tf.compat.v1.AttrValue(s=b"x"))
            ),
            "api_implements",
        ),
    ],
)
def test_what_a_loader_runs_by_itself_cannot_write_or_choose_files(change, message, tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    folder = shutil.copytree(SHIPPED, tmp_path / "1")
    assert set(servable.load("good", 1, folder, "tensorflow", False).signatures) == {
        "serving_default",
        "tensors",
        "classify",
    }
    (folder / "artefact.json").unlink()
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(model.meta_graphs[0], tmp_path / "written")
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    artefact.seal(folder, {"version": 1})
    with pytest.raises(UserError, match=message):
        servable.load("evil", 1, folder, "tensorflow", False)
    assert not list(tmp_path.glob("written*"))


class Keeps(tf.Module):
    """What it holds is made by functions that loaders call."""

    def __init__(self):
        super().__init__()
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a"], [1], tf.string, tf.int64), -1
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, x):
        return {"y": self.table.lookup(x)}


def constant(function, name, value, dtype):
    made = function.node_def.add(name=name, op="Const")
    made.attr["dtype"].type = dtype.as_datatype_enum
    made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))


def added(library, name):
    """A function without inputs and outputs."""
    made = library.function.add()
    made.signature.name, made.signature.is_stateful = f"__inference_{name}_1", True
    return made


def saving(graph, target):
    """Puts a function that writes a file in the saver's place, which no loader runs.

    Returns its name.
    """
    made = added(graph.graph_def.library, "evil")
    for name, value, dtype in (
        ("file", str(target), tf.string),
        ("names", ["a"], tf.string),
        ("slices", [""], tf.string),
        ("value", [1.0], tf.float32),
    ):
        constant(made, name, value, dtype)
    save = made.node_def.add(
        name="save",
        op="SaveV2",
        input=[f"{name}:output:0" for name in ("file", "names", "slices", "value")],
    )
    save.attr["dtypes"].list.type.append(tf.float32.as_datatype_enum)
    made.control_ret["save"] = "save"
    made.signature.control_output.append("save")
    (node,) = (
        node
        for node in graph.graph_def.node
        if node.name == graph.saver_def.save_tensor_name.partition(":")[0]
    )
    functions = graph.graph_def.library.function
    del (
        node.input[:],
        functions[[one.signature.name for one in functions].index(node.attr["f"].func.name)],
    )
    node.attr["f"].func.name = name = made.signature.name
    node.attr["Tin"].list.ClearField("type")
    node.attr["Tout"].list.ClearField("type")
    return name


def calling(graph, name):
    """A function that nothing in the graph calls, and that calls another one; returns its name."""
    made = added(graph.graph_def.library, "calls")
    call = made.node_def.add(name="call", op="StatefulPartitionedCall")
    call.attr["f"].func.name = name
    call.attr["Tin"].list.SetInParent()
    call.attr["Tout"].list.SetInParent()
    made.control_ret["call"] = "call"
    made.signature.control_output.append("call")
    return made.signature.name


@pytest.mark.parametrize("how", ["named", "bare", "called"])
def test_what_loaders_call_but_no_list_names_is_checked(how, tmp_path):
    """Loaders call the functions that an object names, whether or not the list of concrete
    functions has them.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    made = Keeps()
    tf.saved_model.save(made, str(tmp_path / "1"), signatures=made.serve)
    path = tmp_path / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = model.meta_graphs[0]
    objects = graph.object_graph_def.nodes
    for node in objects:
        node.registered_name = ""  # a table by its functions alone
    path.write_bytes(model.SerializeToString())
    servable.load("good", 1, path.parent, "tensorflow", True)
    name = saving(graph, tmp_path / "written")
    name = calling(graph, name) if how == "called" else name
    (first,) = (
        objects[child.node_id]
        for node in objects
        for child in node.children
        if child.local_name == "_initialize"
    )
    if how == "bare":
        first.bare_concrete_function.concrete_function_name = name
    else:
        first.function.concrete_functions[:] = [name]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="operation SaveV2 writes files"):
        servable.load("evil", 1, path.parent, "tensorflow", True)
    assert not list(tmp_path.glob("written*"))


def test_two_graphs_are_refused(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    path = shutil.copytree(SHIPPED, tmp_path / "1") / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs.add().CopyFrom(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="Received: 2 graph"):
        allowlist.check_saved_model(path.parent)


def test_onnx_from_elsewhere_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])

    graph = helper.make_graph(
        [helper.make_node("Run", ["x"], ["y"], domain="evil")], "g", [value("x")], [value("y")]
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "domain.onnx"))
    outside = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../etc/passwd")
    outside.ClearField("float_data")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", [value("x")], [value("y")], [outside]
    )
    (tmp_path / "outside.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    (tmp_path / "noise.onnx").write_bytes(os.urandom(100))
    branch = helper.make_graph(
        [helper.make_node("Run", [], ["z"], domain="evil")], "branch", [], [value("z")]
    )
    keeps = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])], "keeps", [], [value("z")], [outside]
    )
    sparse = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])], "sparse", [], [value("z")]
    )
    sparse.sparse_initializer.add(values=outside, dims=[1])
    graph = helper.make_graph(
        [helper.make_node("F", ["c"], ["y"], domain="ai.onnx.ml")],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [value("y")],
    )
    for name, inner in (("inner", branch), ("keeps", keeps), ("sparse", sparse)):
        choose = helper.make_function(
            "ai.onnx.ml",
            "F",
            ["c"],
            ["y"],
            [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)],
            [helper.make_opsetid("", 18)],
        )
        (tmp_path / f"{name}.onnx").write_bytes(
            helper.make_model(graph, functions=[choose]).SerializeToString()
        )
    default = helper.make_function(
        "ai.onnx.ml",
        "F",
        ["c"],
        ["y"],
        [],
        [helper.make_opsetid("", 18)],
        attribute_protos=[helper.make_attribute("branch", branch)],
    )
    (tmp_path / "default.onnx").write_bytes(
        helper.make_model(graph, functions=[default]).SerializeToString()
    )
    for name, called in (("twice", 30), ("recursive", 0)):
        calls = [helper.make_node(f"F{called}", ["x"], ["y"], domain="ai.onnx.ml")]
        functions = [
            helper.make_function(
                "ai.onnx.ml",
                f"F{i}",
                ["a"],
                ["b"],
                [
                    helper.make_node(f"F{max(0, i - 1)}", [given], [made], domain="ai.onnx.ml")
                    for given, made in (("a", "t"), ("t", "b"))
                ]
                if i or name == "recursive"
                else [helper.make_node("Identity", ["a"], ["b"])],
                [helper.make_opsetid("ai.onnx.ml", 3)],
            )
            for i in range(called + 1)
        ]
        nested = helper.make_graph(calls, "g", [], [])
        (tmp_path / f"{name}.onnx").write_bytes(
            helper.make_model(nested, functions=functions).SerializeToString()
        )
    foreign, elsewhere = "operator Run is from 'evil'", "keeps data outside its own file"
    messages = {
        "domain": foreign,
        "inner": foreign,
        "default": foreign,
        "outside": elsewhere,
        "keeps": elsewhere,
        "sparse": elsewhere,
        "noise": "no ONNX model that can be read",
        "twice": "at most 1,048,576 operators",
        "recursive": "deeper than 100, or themselves",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message):
            allowlist.check_onnx(tmp_path / f"{name}.onnx")


def test_onnx_models_take_and_give_tensors_of_known_kinds(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])
    several = onnx.helper.make_tensor_sequence_value_info("y", onnx.TensorProto.FLOAT, None)
    node = onnx.helper.make_node("SequenceConstruct", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [given], [several])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"expected y to be a tensor .* Received: seq\(tensor"):
        servable.load("m", 1, tmp_path, "onnx", True)
