"""A loaded version of a model.

Signatures, and a call from arrays to arrays. Checked before anything of it runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.core.pictures import MOST_PIXELS
from tfbig.core.workers import cores
from tfbig.deploy import allowlist, artefact
from tfbig.deploy.operation_lists import LOOPS, PICTURE_DECODERS
from tfbig.deploy.server import pictures
from tfbig.deploy.server.status import CODES, Failure
from tfbig.deploy.steps import missing

DEFAULT = "serving_default"
PREDICT = "tensorflow/serving/predict"
ENGINES = ("tensorflow", "onnx")
ROWS = 4096  # of a request
MOST_ROWS = 64  # of a call, where rows can be answered in parts or together with others'
MOST_LOOPED = 1 << 20  # bytes of any length in a request that a loop goes through
ONNX_TYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "string": "string",
    "bool": "bool",
}


class Servable:
    """One version of a model, ready to answer.

    Attributes:
        signatures: name -> SignatureDef.
        dtypes: signature -> input name -> NumPy type (object for strings).
        record: the artefact's record; empty for a model that has none.
        assets: what else its users need, file name -> JSON value.
        by_place: signatures whose answer to a row depends on its place among the rows, such as what
            is chosen by a fixed seed and the place.
        stepwise: what the artefact declares of its steps; None: it has none.
        operations: the names of all operations behind each signature; what is not there is unknown.
    """

    def __init__(
        self,
        name: str,
        version: int,
        signatures: dict,
        call: Callable,
        record: dict,
        assets: dict | None = None,
        operations: dict[str, set[str]] | None = None,
    ):
        self.name = name
        self.version = version
        self.signatures = signatures
        self.record = record
        self.assets = assets or {}
        steps = record.get("stepwise")
        self.stepwise = steps if steps and steps["step"] in signatures else None
        self.by_place = set(record.get("by_place", ()))
        self._call = call
        self.operations = operations or {}
        self._in_rows = {key for key, each in signatures.items() if _take_rows(each)}
        self._by_row = {key for key, signature in signatures.items() if _all_have_rows(signature)}
        self._steady = {
            key
            for key, signature in signatures.items()
            if _has_one_size(signature) and not self.has_loops(key)
        }
        self._row_bytes = {key: _row_bytes(signature) for key, signature in signatures.items()}
        self.dtypes = {
            key: {n: _numpy_type(info.dtype) for n, info in signature.inputs.items()}
            for key, signature in signatures.items()
        }

    def signature(self, name: str):
        """The SignatureDef of this name, or of the default signature for ""."""
        signature = self.signatures.get(name or DEFAULT)
        if signature is None:
            raise Failure(
                "INVALID_ARGUMENT",
                f'Serving signature name: "{name or DEFAULT}" not found in signature def',
            )
        return signature

    def is_by_row(self, signature: str) -> bool:
        """Whether rows can be answered in parts: inputs and outputs have them, independent ones."""
        return signature in self._by_row and signature not in self.by_place

    def has_loops(self, signature: str) -> bool:
        """Whether it loops, which may take long and which nothing can stop."""
        return bool(self.operations.get(signature, set()) & LOOPS)

    def is_steady(self, signature: str) -> bool:
        """Whether a call with one row takes as long as any other: of fixed size, without loops."""
        return signature in self._steady

    def answer_bytes(self, signature: str, inputs: dict[str, np.ndarray]) -> int:
        """Bytes that the outputs for these rows take at least: what is declared of their sizes."""
        return self._row_bytes[signature] * _rows(inputs)

    def check(self, signature: str, inputs: dict[str, np.ndarray]) -> np.ndarray | None:
        """Raises Failure unless names, types and shapes fit the signature, and sizes the bounds.

        Where pictures are decoded, `inputs` hold afterwards what the graph is to read of them.

        Returns:
            The pixels of each row's pictures, int64 [rows], if the signature decodes pictures.
        """
        self._check_shapes(signature, inputs)
        rows = _rows(inputs)
        most = MOST_ROWS if signature in self.by_place else ROWS
        if rows > most:
            raise Failure(
                "INVALID_ARGUMENT", f"expected at most {most} rows in a request. Received: {rows}."
            )
        operations = self.operations.get(signature, set())
        if not operations & PICTURE_DECODERS:
            if self.has_loops(signature):
                self._check_looped(signature, inputs)
            return None
        pixels = pictures.count(inputs, rows, operations)
        if pixels.sum() > MOST_PIXELS:
            raise Failure(
                "INVALID_ARGUMENT",
                f"expected pictures of at most {MOST_PIXELS:,} pixels together in a request. "
                f"Received: {pixels.sum():,}. Send smaller ones, or fewer at a time.",
            )
        return pixels

    def _check_looped(self, signature: str, inputs: dict[str, np.ndarray]) -> None:
        """Raises Failure where a loop, which nothing can stop inside the graph, would take long."""
        size = 0
        for name, info in self.signatures[signature].inputs.items():
            if inputs[name].dtype == object:
                size += sum(len(item) for item in np.ravel(inputs[name]))
            elif any(dim.size < 0 for dim in info.tensor_shape.dim[1:]):
                size += inputs[name].nbytes
        if size > MOST_LOOPED:
            raise Failure(
                "INVALID_ARGUMENT",
                f"expected at most {MOST_LOOPED:,} bytes together in a request. "
                f"Received: {size:,}. Send them in parts.",
            )

    def check_names(self, signature: str, inputs) -> None:
        """Raises Failure unless these are the names of the signature's inputs."""
        expected = self.signatures[signature].inputs
        if set(inputs) != set(expected):
            extra = sorted(set(inputs) - set(expected))
            missing = sorted(set(expected) - set(inputs))
            raise Failure(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!={len(expected)}. Sent extra:"
                f" {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}.",
            )

    def _check_shapes(self, signature: str, inputs: dict[str, np.ndarray]) -> None:
        self.check_names(signature, inputs)
        expected = self.signatures[signature].inputs
        for name, value in inputs.items():
            wanted = self.dtypes[signature][name]
            info = expected[name]
            if value.dtype != wanted:
                raise Failure(
                    "INVALID_ARGUMENT",
                    f"input {name}: expected {tf.as_dtype(info.dtype).name}. Received:"
                    f" {'string' if value.dtype == object else value.dtype}.",
                )
            dims = [dim.size for dim in info.tensor_shape.dim]
            if not info.tensor_shape.unknown_rank and (
                len(dims) != value.ndim
                or any(d not in (-1, n) for d, n in zip(dims, value.shape, strict=True))
            ):
                raise Failure(
                    "INVALID_ARGUMENT",
                    f"input {name}: expected shape {dims}, -1 being free. Received:"
                    f" {list(value.shape)}.",
                )
        counts = {name: len(value) for name, value in inputs.items() if value.ndim}
        if signature in self._in_rows and len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} of {name}" for name, count in sorted(counts.items()))
            raise Failure(
                "INVALID_ARGUMENT",
                f"expected inputs of equally many rows. Received: {listed}.",
            )

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers checked inputs; what the model itself refuses becomes a Failure."""
        try:
            return self._call(signature, inputs)
        except Failure:
            raise
        except tf.errors.OpError as error:
            code = next(
                (name for name, (number, _) in CODES.items() if number == error.error_code),
                "INTERNAL",
            )
            raise Failure(code, _reason(str(error.message))) from error
        except UnicodeDecodeError as error:  # of a refusal that quotes the bytes it was sent
            message = bytes(error.object).decode("utf-8", "backslashreplace")
            raise Failure("INVALID_ARGUMENT", _reason(message)) from error
        except Exception as error:  # onnxruntime's kinds
            text = str(error).split("\n")[0]
            raise Failure(
                "INVALID_ARGUMENT" if "INVALID_ARGUMENT" in text else "INTERNAL", text
            ) from error


def load(name: str, version: int, folder: Path, engine: str, unverified: bool) -> Servable:
    """Checks checksums and operations, then loads.

    Raises:
        UserError: the artefact is not what it says, or could do more than compute; nothing of it
            has run.
    """
    artefact.check_paths(folder)
    record = (
        {} if unverified and not (folder / artefact.RECORD).exists() else artefact.check(folder)
    )
    if engine == "onnx":
        paths = {
            DEFAULT if path.stem == "model" else path.stem: path
            for path in sorted(folder.glob("*.onnx"))
            if not path.stem.endswith(".int8")
        }
        if not paths:
            raise UserError(
                f"{folder}: has no model.onnx for --engine onnx. Export it with --format onnx."
            )
        operations = {key: allowlist.check_onnx(path) for key, path in paths.items()}
        sessions = {key: _onnx(path) for key, path in paths.items()}
        signatures = {key: signature for key, (signature, _) in sessions.items()}

        def call(key, inputs):
            return sessions[key][1](inputs)

    else:
        allowlist.check_saved_model(folder)
        signatures, call, operations = _tensorflow(folder)
    steps = record.get("stepwise")
    if steps and (absent := missing(steps, signatures, engine)):
        raise UserError(
            f"{folder / artefact.RECORD}: stepwise: expected {absent} among what the model's"
            " programs take and give. Export the artefact again."
        )
    return Servable(name, version, signatures, call, record, _assets(folder, record), operations)


def _assets(folder: Path, record: dict) -> dict[str, object]:
    """The JSON values of assets.extra that the record lists, but for metadata.

    Metadata is for people.
    """
    paths = [folder / name for name in record.get("files", ())]
    listed = [path for path in paths if path.parent.name == "assets.extra"]
    assets = {}
    for path in listed:
        if path.suffix == ".json" and path.stem != "metadata":
            try:
                assets[path.stem] = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(f"{path}: cannot be read as JSON: {error}.") from error
    return assets


def _tensorflow(folder: Path) -> tuple[dict, Callable, dict[str, set[str]]]:
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    loaded = tf.saved_model.load(str(folder))
    functions = dict(loaded.signatures)
    signatures = {
        name: signature for name, signature in graph.signature_def.items() if name in functions
    }

    def call(signature, inputs, keep=loaded):  # `keep`: its variables live as long as it does
        outputs = functions[signature](
            **{name: tf.constant(value) for name, value in inputs.items()}
        )
        return {name: value.numpy() for name, value in outputs.items()}

    return signatures, call, {name: allowlist.operations(graph, name) for name in signatures}


def _onnx(path: Path) -> tuple[object, Callable]:
    """The signature of one ONNX file, and its call.

    Outputs named new_X, X being an input too, are called X.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "--engine onnx: needs onnxruntime, not installed. Run pip install 'tfbig[onnx]'."
        ) from error
    from tensorflow.core.protobuf import meta_graph_pb2

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    # The event loop needs the processor
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    signature = meta_graph_pb2.SignatureDef(method_name=PREDICT)
    outputs = [tensor.name for tensor in session.get_outputs()]
    new = {f"new_{tensor.name}": tensor.name for tensor in session.get_inputs()}
    names = [new.get(name, name) for name in outputs]
    for tensors, side in (
        (session.get_inputs(), signature.inputs),
        (session.get_outputs(), signature.outputs),
    ):
        for tensor in tensors:
            inner = tensor.type.removeprefix("tensor(").removesuffix(")")
            info = side[new.get(tensor.name, tensor.name)]
            info.name = tensor.name
            try:
                info.dtype = tf.as_dtype(ONNX_TYPES.get(inner, inner)).as_datatype_enum
            except TypeError as error:  # no tensor, or of numbers that only few programs know
                raise UserError(
                    f"{path}: expected {tensor.name} to be a tensor of numbers or texts. Received:"
                    f" {tensor.type}."
                ) from error
            for dim in tensor.shape:
                info.tensor_shape.dim.add(size=dim if isinstance(dim, int) else -1)
    return signature, lambda inputs: dict(zip(names, session.run(outputs, inputs), strict=True))


def _take_rows(signature) -> bool:
    """Whether all inputs have a free first axis, but for scalars, which say how to answer."""
    shapes = [info.tensor_shape for info in signature.inputs.values()]
    return all(
        not shape.unknown_rank and (not shape.dim or shape.dim[0].size == -1) for shape in shapes
    )


def _all_have_rows(signature) -> bool:
    infos = [*signature.inputs.values(), *signature.outputs.values()]
    return all(info.tensor_shape.dim and info.tensor_shape.dim[0].size == -1 for info in infos)


def _has_one_size(signature) -> bool:
    """Whether all sizes of its inputs but the first are fixed."""
    shapes = [info.tensor_shape for info in signature.inputs.values()]
    return all(
        not shape.unknown_rank and all(dim.size >= 0 for dim in shape.dim[1:]) for shape in shapes
    )


def _row_bytes(signature) -> int:
    """Bytes of one row of the outputs, where sizes are declared; texts count as one byte."""
    shapes = [
        ([dim.size for dim in info.tensor_shape.dim], tf.as_dtype(info.dtype))
        for info in signature.outputs.values()
    ]
    return sum(
        math.prod(max(1, size) for size in sizes[1:]) * max(1, dtype.size or 1)
        for sizes, dtype in shapes
        if sizes[:1] == [-1]
    )


def _rows(inputs: dict[str, np.ndarray]) -> int:
    """The most rows that any input has."""
    return max((len(value) for value in inputs.values() if value.ndim), default=1)


def _numpy_type(number: int):
    dtype = tf.as_dtype(number)
    return np.dtype(object) if dtype == tf.string else np.dtype(dtype.as_numpy_dtype)


def _reason(message: str) -> str:
    """The line of a TensorFlow error that says what is wrong, without where in the graph."""
    noise = ("Graph execution error", "Detected at node", "<stack traces", "[[{{", "File ")
    lines = [line.strip() for line in message.splitlines()]
    said = next(
        (line for line in lines if line and not line.startswith(noise)), lines[0] if lines else ""
    )
    asserted = re.fullmatch(r"assertion failed: \[(.*)\]", said)
    return asserted[1] if asserted else said
