"""States, as of games: arrays of one shape, from JSON, .npy files, stdin or Python."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.media._medium import Medium, numbered, shown


@dataclass(frozen=True, kw_only=True)
class State(Medium):
    """Arrays of numbers of one shape, served as they are.

    Attributes:
        shape: of one state.
        dtype: NumPy's name.
        low, high: what each number is at least and at most; None: anything finite.
    """

    medium, noun = "state", "state"
    suffixes = (".json", ".npy")
    array = "of states [n, ...]"

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None

    def served(self, name):
        return tf.TensorSpec([None, *self.shape], self.dtype, name=name)

    def decode(self, served: tf.Tensor) -> tf.Tensor:
        """The numbers as they are."""
        return tf.ensure_shape(served, [None, *self.shape])

    def encode(self, values) -> np.ndarray:
        return np.asarray(values, self.dtype).reshape(-1, *self.shape)

    def panel(self, title, values, captions, caption=""):
        """The numbers of each, in rows."""
        items = [
            f"{words}\n{np.array2string(value, threshold=2000)}"
            for value, words in zip(values, captions, strict=True)
        ]
        return shown({"kind": "texts", "title": title, "items": items}, caption)

    def form(self):
        return {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "low": self.low,
            "high": self.high,
        }

    def _of_bytes(self, content, name, count):
        try:
            array = np.array(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{name}: expected a state as JSON, {self._words()}, or .npy. Found:"
                f" {str(error)[:200]}."
            ) from error
        return numbered(name, self._of_array(array, name))

    def _words(self) -> str:
        return f"{self.dtype} {[*self.shape]} or {['n', *self.shape]}".replace("'", "")

    def _of_array(self, array, name):
        """One state or several, of numbers that the type holds as they are."""
        states = array[None] if array.shape == self.shape else array
        if array.dtype.kind not in "biuf" or states.shape[1:] != self.shape or not len(states):
            raise UserError(
                f"{name}: expected {self._words()}. Received: {array.dtype} {list(array.shape)}."
            )
        with np.errstate(all="ignore"):
            cast = states.astype(self.dtype)
        is_whole = np.issubdtype(cast.dtype, np.integer)
        same = (cast == states).all() if is_whole else np.isfinite(cast).all()
        if not same:
            raise UserError(f"{name}: expected numbers that {self.dtype} holds. Received: others.")
        low, high = cast.min(), cast.max()
        too_low = self.low is not None and low < self.low
        too_high = self.high is not None and high > self.high
        if too_low or too_high:
            raise UserError(
                f"{name}: expected numbers from {self.low} to {self.high}. Received: {low} to"
                f" {high}."
            )
        return cast

    def _together(self, values):
        return np.stack(values) if values else np.empty((0, *self.shape), self.dtype)
