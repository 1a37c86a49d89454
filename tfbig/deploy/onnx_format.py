"""ONNX: conversion by tf2onnx, names and metadata for readers, and int8 by onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

from tfbig.core.errors import RunFailure, UserError
from tfbig.core.interrupt import held_signals
from tfbig.core.lazy import np, tf
from tfbig.deploy import allowlist

OPSET = 18  # the newest that tf2onnx 1.17 writes; onnxruntime reads newer ones

LARGEST = 2**31  # bytes of a protocol buffer
AXES = ("batch", "length")  # names of the first axes, where they are free


def write(function, path: Path, facts: dict[str, str]) -> None:
    """Converts a traced program.

    Dynamic batch and lengths, inputs and outputs under their own names, `facts` as metadata.

    Names are unique in ONNX: an output called like an input, such as a cache, is called new_NAME.
    """
    require()
    with held_signals():
        import onnx
        import tf2onnx

    _teach_erfc()
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in _inputs(function).items()
    ]
    wanted = [spec.name for spec in specs]

    def named(name):
        return f"new_{name}" if name in wanted else name

    def positional(*given):
        return {
            named(name): value
            for name, value in function(**dict(zip(wanted, given, strict=True))).items()
        }

    try:
        with held_signals(), _quietly():  # tf2onnx passes over all exceptions here and there
            model, _ = tf2onnx.convert.from_function(
                tf.function(positional, autograph=False), input_signature=specs, opset=OPSET
            )
    except Exception as error:  # tf2onnx raises whatever it meets
        raise RunFailure(
            f"onnx: the model cannot be converted: {str(error).splitlines()[0][:300]}"
        ) from error
    _rename(model.graph, sorted(map(named, function.traced.structured_outputs)))
    for name, value in facts.items():
        model.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(model, full_check=True)
    unnamed = [
        node.op_type for node in model.graph.node if node.domain not in allowlist.ONNX_DOMAINS
    ]
    if unnamed:
        raise RunFailure(
            f"onnx: no operator of the standard exists for {', '.join(sorted(set(unnamed)))}."
        )
    path.write_bytes(model.SerializeToString())
    allowlist.check_onnx(path)


def quantize(source: Path, path: Path, examples: dict[str, np.ndarray], method: str) -> None:
    """A model with int8 weights and activations.

    "static": the activations' ranges are measured on `examples`; "dynamic": at each call.
    """
    require()
    with held_signals():
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared")
    try:
        with held_signals(), _quietly():
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            if method == "dynamic":
                quantization.quantize_dynamic(
                    str(prepared), str(path), weight_type=quantization.QuantType.QInt8
                )
            else:
                quantization.quantize_static(
                    str(prepared), str(path), _Examples(examples), per_channel=True
                )
    except Exception as error:
        raise RunFailure(
            f"onnx, int8 {method}: {type(error).__name__}: {str(error).splitlines()[0][:300]}"
        ) from error
    finally:
        prepared.unlink(missing_ok=True)
    allowlist.check_onnx(path)


class _Examples:
    """Batches of examples as onnxruntime's calibration reads them."""

    def __init__(self, examples: dict[str, np.ndarray], size: int = 64):
        total = len(next(iter(examples.values())))
        self.batches = iter(
            [
                {name: value[i : i + size] for name, value in examples.items()}
                for i in range(0, total, size)
            ]
        )

    def get_next(self):
        return next(self.batches, None)


def check_size(variables: list) -> None:
    """Raises UserError if the weights are more than one file in protocol-buffer form can hold."""
    weight = sum(
        int(np.prod(variable.shape)) * tf.as_dtype(variable.dtype).size for variable in variables
    )
    if weight >= LARGEST:
        raise UserError(
            f"format: onnx holds less than {LARGEST / 2**30:g} GiB of weights in one file."
            f" Received: {weight / 2**30:.1f} GiB. Export savedmodel alone."
        )


def require() -> None:
    """Raises UserError where the packages for ONNX are not installed."""
    import importlib.util

    missing = [
        name
        for name in ("onnx", "onnxruntime", "tf2onnx")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UserError(
            f"format: onnx needs {', '.join(missing)}, not installed. Run pip install"
            " 'tfbig[onnx]'."
        )


def _inputs(function) -> dict[str, tf.TensorSpec]:
    return {name: spec for name, spec in function.traced.structured_input_signature[1].items()}


def _rename(graph, outputs: list[str]) -> None:
    """Gives outputs their names (TensorFlow sorts them) and free axes theirs.

    Batch, then length.
    """
    names = {old.name: new for old, new in zip(graph.output, outputs, strict=True)}
    for node in graph.node:
        for listed in (node.input, node.output):
            listed[:] = [names.get(name, name) for name in listed]
    for value in graph.output:
        value.name = names[value.name]
    for value in [*graph.input, *graph.output]:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.dim_value:
                dim.dim_param = AXES[axis] if axis < len(AXES) else f"length_{axis}"


def _teach_erfc() -> None:
    """tf2onnx lacks Erfc, which exact GELU uses: it is 1 - Erf."""
    from tf2onnx.handler import tf_op

    if getattr(_teach_erfc, "done", False):
        return

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx, node, **_):
            dtype = ctx.get_dtype(node.output[0])
            shape = ctx.get_shape(node.output[0])
            erf = ctx.make_node("Erf", [node.input[0]], dtypes=[dtype], shapes=[shape])
            one = ctx.make_const(f"{node.name}_one", np.array(1, np.float32))
            ctx.remove_node(node.name)
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                name=node.name,
                outputs=node.output,
                dtypes=[dtype],
                shapes=[shape],
            )

    _teach_erfc.done = True


@contextlib.contextmanager
def _quietly():
    """Silences the converters' logs; their errors still come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
