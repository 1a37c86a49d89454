"""LiteRT (TensorFlow Lite): conversion for phones and small devices, with int8 as an option."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from pathlib import Path

from tfbig.core.errors import RunFailure, UserError
from tfbig.core.interrupt import held_signals
from tfbig.core.lazy import np, tf
from tfbig.deploy.programs import Programs


def write(programs: Programs, path: Path, examples: dict[str, np.ndarray] | None = None) -> None:
    """Converts `programs.tensors` with built-in operators only.

    Args:
        programs: what to convert.
        path: the .tflite file.
        examples: if given, weights and activations become int8, with ranges measured on them;
            inputs and outputs stay as they are.
    """
    require()
    holder = tf.Module()
    holder.weights = [variable.value for variable in programs.model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([programs.tensors.traced], holder)
    if examples is not None:
        size = len(next(iter(examples.values())))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            {name: value[i : i + 1] for name, value in examples.items()} for i in range(size)
        )
    try:
        with held_signals(), _quietly():
            content = converter.convert()
    except Exception as error:  # the converter raises kinds of its own
        line = next(
            (line.partition("error: ")[2] for line in str(error).splitlines() if "error: " in line),
            str(error).splitlines()[0],
        )
        loops = (
            " Recurrent layers are loops that LiteRT cannot take with a free batch size: export to"
            " onnx."
            if "TensorList" in line
            else ""
        )
        raise RunFailure(
            f"litert: the model cannot be converted: {line.strip()[:300]}.{loops}"
        ) from error
    path.write_bytes(content)


@contextlib.contextmanager
def _quietly():
    """Silences what the converter's native code writes to stderr.

    Its errors come as exceptions too.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def require() -> None:
    """Raises UserError where LiteRT's interpreter, which verifies the result, is not installed."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise UserError(
            "format: litert needs ai-edge-litert, not installed. Run pip install 'tfbig[litert]'."
        )
