"""LoRA: low-rank updates of frozen weights, for fine-tuning in little memory.

Hu et al. 2021, arXiv:2106.09685. A weight matrix W of a model that knows something already stays as
it is; what is learnt is an update of low rank, W + (alpha / rank) A B, whose B begins as zero: the
first step starts from exactly what the model knew.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.core.lazy import keras
from tfbig.core.model import Adapter


@dataclass(frozen=True, kw_only=True)
class LoRA(Adapter):
    """Low-rank updates of the kernels of dense layers; all other weights are frozen.

    Example:
        python -m tfbig.train sotu_gpt init=runs/shakespeare adapt=lora adapt.rank=8
    """

    needs_init = True

    rank: int = knob(8, "of the updates; of a smaller matrix, its own", low=1)
    alpha: float = knob(16.0, "updates count alpha / rank", above=0)
    layers: str = knob(
        "", "regular expression found in the names of the layers that get one; empty: all dense"
    )
    whole: str = knob(
        "", "regular expression found in the names of layers that train whole, such as a fresh head"
    )

    def problems(self):
        for name in ("layers", "whole"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                received = getattr(self, name)
                yield name, f"expected a regular expression. Received: {received!r} ({error})."

    def adapt(self, model):
        layers = list(_layers(model))
        whole = [layer for layer in layers if self.whole and re.search(self.whole, layer.name)]
        others = [layer for layer in layers if layer not in whole]
        # What train.freeze names stays as it is
        dense = [layer for layer in others if _is_dense(layer) and layer.trainable]
        updated = [layer for layer in dense if re.search(self.layers, layer.name)]
        free = [layer for layer in whole if layer.trainable or not layer.weights]
        if self.whole and not free:
            raise _no_match("whole", self.whole, [layer for layer in layers if layer.trainable])
        if not updated and (self.layers or not whole):
            raise _no_match("layers", self.layers, dense)
        for layer in others:
            if layer in updated:
                self._update(layer)
            else:
                layer.trainable = False  # batch normalisation keeps its statistics, too
        return model

    def _update(self, layer) -> None:
        """Freezes a layer's weights, the bias too, and puts a low-rank update beside its kernel."""
        for variable in layer.variables:
            variable.trainable = False
        shape = layer.kernel.shape
        rank = min(self.rank, math.prod(shape[:-1]), shape[-1])
        layer.enable_lora(rank, lora_alpha=self.alpha * rank / self.rank)
        for variable in layer.trainable_variables:
            variable.regularizer = None  # the kernel's, which would draw the update to zero

    def own(self, model):
        return model.trainable_variables

    def merged(self, model):
        kernels = {}
        for layer in _layers(model):
            if getattr(layer, "lora_enabled", False):
                (frozen,) = (v for v in layer.variables if v.path.endswith("/kernel"))
                kernels[frozen.path] = keras.ops.convert_to_numpy(layer.kernel)
        return kernels


def _no_match(setting: str, pattern: str, layers: list) -> UserError:
    names = ", ".join(layer.name for layer in layers if layer.weights) or "none: there is none"
    return UserError(
        f"adapt.{setting}: expected what is found in a layer's name, such as {names}. Received:"
        f" {pattern!r}."
    )


def _is_dense(layer) -> bool:
    return isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense)


def _layers(model) -> Iterator:
    """All layers of a model, those inside nested models too."""
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else (layer,)
