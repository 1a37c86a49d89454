"""tfbig: big models from raw data to a served, verified artefact, on TensorFlow and Keras 3.

    # A recipe, with overrides, gives a run directory
    run = tfbig.train("mnist_mlp", "train.length=2ep")
    tfbig.evaluate(run)                                    # metrics with confidence intervals
    # The plain Keras model, the task, and `predict`
    trained = tfbig.load(run)

Names are loaded when they are used; importing tfbig does not import TensorFlow.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = [
    "batches",
    "build",
    "evaluate",
    "export",
    "load",
    "plan",
    "predict",
    "recipe",
    "train",
    "tune",
]


def __getattr__(name: str):
    import importlib

    if name in ("train", "evaluate", "export", "plan", "predict", "tune"):
        return importlib.import_module(f"tfbig.{name}")  # these modules can be called
    if name in __all__:
        return getattr(importlib.import_module("tfbig.api"), name)
    raise AttributeError(f"module 'tfbig' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
