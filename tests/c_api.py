"""Loads a SavedModel through TensorFlow's C API, the loader under TensorFlow Serving, without
importing TensorFlow.

    python -P c_api.py JOB.json REPORT.json

The job: library folder, path, inputs and outputs {tensor: file of an array}, and the module
tfbig/deploy/arrays.py that reads them.
    Reference: tensorflow/c/c_api.h.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
STRING, STRING_SIZE = 7, 24  # TF_STRING; sizeof(TF_TString)
pointer, text, integer, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t


class Output(ctypes.Structure):
    """TF_Output: an operation and which of its outputs."""

    _fields_ = (("operation", pointer), ("index", integer))


class Library:
    """The functions used here, from the shared libraries of the installed wheel."""

    SIGNATURES = {
        "TF_NewStatus": (pointer, ()),
        "TF_GetCode": (integer, (pointer,)),
        "TF_Message": (text, (pointer,)),
        "TF_NewGraph": (pointer, ()),
        "TF_NewSessionOptions": (pointer, ()),
        "TF_Version": (text, ()),
        "TF_LoadSessionFromSavedModel": (
            pointer,
            (pointer, pointer, text, ctypes.POINTER(text), integer, pointer, pointer, pointer),
        ),
        "TF_GraphOperationByName": (pointer, (pointer, text)),
        "TF_AllocateTensor": (pointer, (integer, ctypes.POINTER(ctypes.c_int64), integer, size)),
        "TF_TensorData": (pointer, (pointer,)),
        "TF_TensorByteSize": (size, (pointer,)),
        "TF_TensorType": (integer, (pointer,)),
        "TF_NumDims": (integer, (pointer,)),
        "TF_Dim": (ctypes.c_int64, (pointer, integer)),
        "TF_StringInit": (None, (pointer,)),
        "TF_StringCopy": (None, (pointer, text, size)),
        "TF_StringGetDataPointer": (pointer, (pointer,)),
        "TF_StringGetSize": (size, (pointer,)),
        "TF_SessionRun": (
            None,
            (
                pointer,
                pointer,
                pointer,
                pointer,
                integer,
                pointer,
                pointer,
                integer,
                pointer,
                integer,
                pointer,
                pointer,
            ),
        ),
    }

    def __init__(self, folder: Path):
        names = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
        loaded = [ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in names]
        for name, (result, arguments) in self.SIGNATURES.items():
            function = next(getattr(library, name) for library in loaded if hasattr(library, name))
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self.status = self.TF_NewStatus()

    def check(self, what: str) -> None:
        if self.TF_GetCode(self.status):
            raise RuntimeError(f"{what}: {self.TF_Message(self.status).decode()}")

    def tensor(self, array: np.ndarray) -> int:
        dims = (ctypes.c_int64 * array.ndim)(*array.shape)
        if array.dtype == object:
            made = self.TF_AllocateTensor(STRING, dims, array.ndim, STRING_SIZE * array.size)
            start = self.TF_TensorData(made)
            for i, item in enumerate(array.reshape(-1)):
                self.TF_StringInit(start + i * STRING_SIZE)
                self.TF_StringCopy(start + i * STRING_SIZE, item, len(item))
            return made
        kind = next(code for code, dtype in DTYPES.items() if dtype == array.dtype)
        made = self.TF_AllocateTensor(kind, dims, array.ndim, array.nbytes)
        ctypes.memmove(
            self.TF_TensorData(made), np.ascontiguousarray(array).ctypes.data, array.nbytes
        )
        return made

    def array(self, tensor: int) -> np.ndarray:
        shape = [self.TF_Dim(tensor, i) for i in range(self.TF_NumDims(tensor))]
        start, kind = self.TF_TensorData(tensor), self.TF_TensorType(tensor)
        if kind == STRING:
            places = range(start, start + STRING_SIZE * int(np.prod(shape)), STRING_SIZE)
            items = [
                ctypes.string_at(self.TF_StringGetDataPointer(place), self.TF_StringGetSize(place))
                for place in places
            ]
            return np.array(items, object).reshape(shape)
        return np.frombuffer(
            ctypes.string_at(start, self.TF_TensorByteSize(tensor)), DTYPES[kind]
        ).reshape(shape)


def run(
    folder: Path, path: str, inputs: dict[str, np.ndarray], outputs: list[str]
) -> list[np.ndarray]:
    """Loads the SavedModel at `path` with the libraries in `folder` and runs it once."""
    library = Library(folder)
    graph = library.TF_NewGraph()
    tags = (text * 1)(b"serve")
    session = library.TF_LoadSessionFromSavedModel(
        library.TF_NewSessionOptions(), None, path.encode(), tags, 1, graph, None, library.status
    )
    library.check("TF_LoadSessionFromSavedModel")

    def place(tensor: str) -> Output:
        name, _, index = tensor.partition(":")
        found = library.TF_GraphOperationByName(graph, name.encode())
        if not found:
            raise RuntimeError(f"the graph has no operation {name}")
        return Output(found, int(index or 0))

    fed = (Output * len(inputs))(*map(place, inputs))
    values = (pointer * len(inputs))(*map(library.tensor, inputs.values()))
    wanted, found = (Output * len(outputs))(*map(place, outputs)), (pointer * len(outputs))()
    library.TF_SessionRun(
        session,
        None,
        fed,
        values,
        len(inputs),
        wanted,
        found,
        len(outputs),
        None,
        0,
        None,
        library.status,
    )
    library.check("TF_SessionRun")
    return [library.array(tensor) for tensor in found]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    spec = importlib.util.spec_from_file_location("arrays", job["arrays"])
    arrays = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(arrays)
    inputs = {tensor: arrays.read(path)[...] for tensor, path in job["inputs"].items()}
    found = run(Path(job["library"]), job["path"], inputs, list(job["outputs"]))
    gaps = arrays.Differences()
    gaps.add(
        dict(zip(job["outputs"], found, strict=True)),
        {tensor: arrays.read(path)[...] for tensor, path in job["outputs"].items()},
    )
    report = {"outputs": gaps.outputs}
    report["foreign_modules"] = [
        name for name in ("tfbig", "keras", "tensorflow") if sys.modules.get(name)
    ]
    Path(sys.argv[2]).write_text(json.dumps(report), "utf-8")


if __name__ == "__main__":
    main()
