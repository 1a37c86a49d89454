"""Keras callbacks, called at evaluation boundaries.

What they remember is saved in checkpoints, and a resumed run gives it back to them.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfbig.core.errors import UserError
from tfbig.core.lazy import keras, np
from tfbig.engine import plain
from tfbig.engine.optimizer import learning_rate

if TYPE_CHECKING:
    from tfbig.engine.loop import State
    from tfbig.engine.setup import Setup

PARTS = ("params", "_params", "model", "_model")  # what Keras gives each callback
SAVEABLE = "expected numbers, text, arrays, and lists or dicts of them"


class Hooks:
    """Keras callbacks, called at evaluation boundaries as `fit` calls them at epoch ends.

    A callback's state is what differs from how it began: the attributes that changed since
    `on_train_begin`. Thus its settings are those it was made with, also after a resume, and its
    counts continue.
    """

    def __init__(self, setup: Setup, state: State, callbacks: tuple, note: Callable[[str], None]):
        self.setup, self.state, self.note, self.unsaved = setup, state, note, set()
        for callback in callbacks:
            if not isinstance(callback, keras.callbacks.Callback):
                raise UserError(
                    "callbacks: expected keras.callbacks.Callback objects. Received:"
                    f" {callback!r:.60}."
                )
        if not hasattr(setup.model, "optimizer") or setup.model.optimizer is None:
            # Callbacks look for it there
            setup.model.compile(optimizer=setup.optimizer, auto_scale_loss=False, jit_compile=False)
        setup.model.stop_training = False
        epochs = -(-setup.lengths.total // setup.lengths.evaluate)
        self.list = keras.callbacks.CallbackList(
            list(callbacks), model=setup.model, epochs=epochs, verbose=0
        )
        self.list.on_train_begin()
        self.named = _named(self.list.callbacks)
        self.fresh = {
            key: {name: _digest(value) for name, value in _attributes(callback)}
            for key, callback in self.named.items()
        }
        self.begun = self._restore(state.callbacks)  # whether the present epoch was announced
        known = (state.callbacks or {"states": {}})["states"]
        # Patience that is new, or an older checkpoint: counted from what was measured
        for key, callback in self.named.items():
            if (
                key not in known
                and isinstance(callback, keras.callbacks.EarlyStopping)
                and not callback.restore_best_weights
            ):
                for number, logs in enumerate(state.evaluations):
                    callback.on_epoch_end(number, dict(logs))
        # A run that EarlyStopping has ended stays so, unless it is given more patience now.
        stopping = [
            callback
            for callback in self.named.values()
            if isinstance(callback, keras.callbacks.EarlyStopping)
        ]
        ended = any(callback.wait >= max(1, callback.patience) for callback in stopping)
        # Which a callback may have set in `on_train_begin`
        state.stopped_early = ended or bool(setup.model.stop_training)

    def begin(self) -> None:
        """Called before training: announces an epoch, unless it is going on."""
        if not self.begun:
            self.begun = True
            self.list.on_epoch_begin(len(self.state.evaluations))

    def evaluated(self, metrics: dict[str, dict]) -> bool:
        """Calls all callbacks; returns whether one of them wants to stop."""
        logs = {
            f"val_{name}": metric["value"]
            for name, metric in metrics.items()
            if metric["value"] is not None  # of metrics that had too little to count
        }
        logs["learning_rate"] = learning_rate(self.setup.optimizer)
        self.begun = False
        self.state.evaluations.append(logs)
        self.list.on_epoch_end(len(self.state.evaluations) - 1, dict(logs))
        return bool(self.setup.model.stop_training)

    def end(self) -> None:
        self.list.on_train_end(dict(self.state.evaluations[-1]) if self.state.evaluations else None)

    def remembered(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All callbacks' state, as JSON values and the arrays they refer to.

        Attributes that cannot be saved are reported once.
        """
        states, arrays = {}, {}
        for key, callback in self.named.items():
            states[key] = {}
            for name, value in _attributes(callback):
                digest = _digest(value)
                if digest is None:
                    self._report_unsaved(key, callback, name, value)
                elif digest != self.fresh[key].get(name):
                    states[key][name] = plain.pack(value, arrays, f"{key}.{name}")
        return {"begun": self.begun, "states": states}, arrays

    def _restore(self, saved: dict | None) -> bool:
        if saved is None:
            return False
        for key, values in saved["states"].items():
            if key in self.named:
                vars(self.named[key]).update(
                    {name: plain.unpack(value, saved["arrays"]) for name, value in values.items()}
                )
            elif values:
                self.note(
                    f"callback {key} was there when the checkpoint was written and is not now: what"
                    " it remembered is dropped"
                )
        return saved["begun"]

    def _report_unsaved(self, key: str, callback, name: str, value) -> None:
        # Functions are settings, and Keras's own callbacks open their files and writers anew.
        if (key, name) not in self.unsaved and not (
            callable(value) or _is_of_keras(type(callback))
        ):
            self.unsaved.add((key, name))
            self.note(
                f"callback {key}: its attribute {name} cannot be saved ({SAVEABLE}; received"
                f" {type(value).__name__}), so a resumed run has it as new"
            )


def _named(callbacks: list) -> dict:
    """Callbacks by the names of their classes; those of one class are numbered."""
    named: dict = {}
    for callback in callbacks:
        stem = type(callback).__name__
        number = 1
        key = stem
        while key in named:
            number += 1
            key = f"{stem}:{number}"
        named[key] = callback
    return named


def _attributes(callback) -> list[tuple[str, Any]]:
    """The attributes that may be state, by name.

    All but those that Keras gives a callback, and the settings of Keras's own classes. These change
    one of them when they are first used: `min_delta` takes the sign of the comparison.
    """
    own = [kind for kind in type(callback).__mro__ if _is_of_keras(kind)]
    settings = {name for kind in own for name in inspect.signature(kind.__init__).parameters}
    return [
        (name, value)
        for name, value in vars(callback).items()
        if name not in settings and name not in PARTS
    ]


def _is_of_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"


def _digest(value) -> str | None:
    """A digest of a value; None for a value that cannot be saved."""
    arrays: dict = {}
    try:
        packed = json.dumps(plain.pack(value, arrays, ""))
    except TypeError:
        return None
    return hashlib.sha256(
        b"".join([packed.encode(), *(array.tobytes() for array in arrays.values())])
    ).hexdigest()
