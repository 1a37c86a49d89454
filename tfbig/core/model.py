"""The contracts of a model, and of what changes a built one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfbig.core.component import Component
from tfbig.core.errors import UserError
from tfbig.core.features import Spec

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class Model(Component):
    """An architecture: from an input specification to a plain Keras functional model."""

    takes: ClassVar[frozenset[str]] = frozenset({"image"})
    """The kinds of input that it can be built on, such as image, video, tokens, samples."""

    gives: ClassVar[frozenset[str]] = frozenset({"features"})
    """The kinds of output that it has.

    "features" [batch, width], on which a task puts its head; "logits" [batch, length, values],
    scores of each next token, in the target where there is one; "sequence" [batch, length, width];
    "pyramid", a list of maps from fine to coarse; ...
    """

    @classmethod
    def smallest(cls) -> Model:
        """The smallest model of this kind that still has every part, for tests."""
        return cls()

    def build(self, spec: Spec) -> keras.Model:
        """A functional model from the inputs named in `spec`.

        Layers carry explicit names, so that weights keep their paths from process to process.
        """
        raise NotImplementedError

    def load(self, model: keras.Model, source: str) -> None:
        """Loads pretrained weights into the built model; see the setting `init`."""
        raise UserError(
            f"init: {type(self).__name__} reads no weights from elsewhere. Received: {source}."
        )

    def cached(self, model: keras.Model) -> tuple[keras.Model, keras.Model]:
        """Two functional models that generate with a cache, for models that give logits.

        They share the weights of `model` and continue from what was computed.

        Returns:
            (prefill, step). Prefill takes [tokens [batch, length], count [batch]] to [logits
            [batch, values] of the token behind the first `count`, *cache]; step takes [token
            [batch], position [batch], *cache] to [logits, *cache].
        """
        raise NotImplementedError

    def streamed(self, model: keras.Model) -> keras.Model:
        """A functional model of one frame of a stream, for models that give a sequence of a video.

        It shares the weights of `model` and takes [frame [batch, ...], *states] to [features
        [batch, width] of that frame, *states]. The states of a beginning are zeros.
        """
        raise NotImplementedError

    def transducer(self, model: keras.Model, spec: Spec) -> tuple[keras.Model, keras.Model]:
        """Two functional models that write a target, for models that give its logits from a source.

        They share the weights of `model`, whose inputs are "source" [batch, length],
        "source_count" [batch] and "before" [batch, target length], what stands before each choice.

        Args:
            model: what `build` returned.
            spec: what it was built from.

        Returns:
            (encode, step), from and to named tensors. Encode takes source and source_count to what
            steps are given; step takes token [batch], place [batch] and those to logits [batch,
            values] and, by the same names, what of it has changed.
        """
        raise NotImplementedError

    def aligner(self, model: keras.Model, spec: Spec) -> keras.Model:
        """A functional model of what each target token looked at, where there is a `transducer`.

        It takes the inputs of `model` to shares [batch, target length, source length], which sum to
        1 over the source.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Adapter(Component):
    """A transform of a built model, between `Task.build` and the first step.

    Such as low-rank updates, pruning masks, learnt ranges of whole numbers. The variables it adds
    are saved apart, in a checkpoint's adapter.safetensors. Predictions and exports use the plain
    model again, with the weights that `merged` returns.
    """

    needs_init: ClassVar[bool] = False
    """Whether it makes sense only on weights that know something already: those of `init`."""

    def adapt(self, model: keras.Model) -> keras.Model:
        """The model that trains: `model` itself, changed, or a functional clone of it.

        Weights that it has in common with `model` keep their paths, by which they are restored and
        started from.
        """
        raise NotImplementedError

    def own(self, model: keras.Model) -> list:
        """The variables of an adapted model that are saved apart."""
        return []

    def after_step(self, model: keras.Model, step: tf.Tensor) -> None:
        """Graph code that ends each step, such as a mask on weights.

        `step` is the number of steps made, int32.
        """

    def merged(self, model: keras.Model) -> dict[str, np.ndarray]:
        """Weights of the plain model that answers as the adapted one does: path -> array.

        Those that are the same in both need not be given.
        """
        return {}
