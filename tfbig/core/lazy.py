"""Numerical libraries, imported quietly when first used.

Files all over the package say `from tfbig.core.lazy import keras, tf`. The heavy import happens at
the first attribute access, so listing recipes, printing help and refusing a mistyped key never pay
for it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from tfbig.core.interrupt import held_signals


@contextlib.contextmanager
def quiet_start():
    """Keeps back what native code writes to stderr while a library starts.

    It is shown only if the start fails.

    TensorFlow's C++ runtime writes before its log level is read, so the file descriptor itself is
    pointed elsewhere.
    """
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError, AttributeError):
        # No usable stderr (a daemon, some notebooks): nothing to silence
        yield
        return
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception:  # Ctrl-C is no failure to explain
            os.dup2(saved, 2)
            log.seek(0)
            os.write(2, log.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _start_tensorflow() -> None:
    """Imports TensorFlow and Keras once, quietly and with the backend fixed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors come as exceptions, too
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # What a handler raises inside an import is lost now and then
    with held_signals(), quiet_start():
        tensorflow = importlib.import_module("tensorflow")
        importlib.import_module("keras")
        tensorflow.config.list_physical_devices()  # the device runtimes report here, not at import
    import logging

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)


def load() -> None:
    """Imports TensorFlow and Keras now, for callers that time what comes after it."""
    if "keras" not in sys.modules:
        _start_tensorflow()


class _Lazy:
    """A module that is imported at its first attribute access."""

    def __init__(self, name: str, start=None):
        self.__dict__["_name"] = name
        self.__dict__["_start"] = start

    def __getattr__(self, attribute: str) -> Any:
        name = self.__dict__["_name"]
        if self.__dict__["_start"] is not None and name not in sys.modules:
            self.__dict__["_start"]()
        value = getattr(importlib.import_module(name), attribute)
        self.__dict__[attribute] = value  # later accesses do not come here
        return value


if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf
else:
    keras = _Lazy("keras", _start_tensorflow)
    tf = _Lazy("tensorflow", _start_tensorflow)
    np = _Lazy("numpy")


def ops_of(array):
    """NumPy for its arrays, `keras.ops` for tensors: mathematics that is written once for both.

    Most functions have the same names there. TensorFlow is not imported for a NumPy array.
    """
    return np if isinstance(array, np.ndarray) else keras.ops
