"""LoRA: low-rank updates of frozen weights, for fine-tuning in little memory.

Hu et al. 2021, arXiv:2106.09685. A weight matrix W of a model that knows something already stays as
it is; what is learnt is an update of low rank, W + (alpha / rank) A B, whose B begins as zero: the
first step starts from exactly what the model knew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Adapter
from tfbig.core.errors import UserError
from tfbig.core.lazy import keras


@dataclass(frozen=True, kw_only=True)
class LoRA(Adapter):
    """Low-rank updates of the kernels of dense layers; all other weights are frozen.

    Example:
        python -m tfbig.train sotu_gpt init=runs/shakespeare adapt=lora adapt.rank=8
    """

    rank: int = knob(8, "of the updates", low=1)
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
        fitting = re.compile(self.layers)
        whole = re.compile(self.whole) if self.whole else None
        updated = []
        for layer in _layers(model):
            if whole is not None and whole.search(layer.name):
                continue
            if _is_dense(layer) and fitting.search(layer.name):
                updated.append(self._update(layer))
            else:
                layer.trainable = False  # batch normalisation keeps its statistics, too
        if not updated:
            names = ", ".join(layer.name for layer in _layers(model) if _is_dense(layer))
            expected = f"the name of a dense layer to match, such as {names or 'none: it has none'}"
            raise UserError(f"adapt.layers: expected {expected}. Received: {self.layers!r}.")
        return model

    def _update(self, layer):
        """Freezes a layer's weights, the bias too, and puts a low-rank update beside its kernel."""
        for variable in layer.variables:
            variable.trainable = False
        layer.enable_lora(self.rank, lora_alpha=self.alpha)
        for variable in layer.trainable_variables:
            variable.regularizer = None  # the kernel's, which would draw the update to zero
        return layer

    def own(self, model):
        return model.trainable_variables

    def merged(self, model):
        kernels = {}
        for layer in _layers(model):
            if getattr(layer, "lora_enabled", False):
                (frozen,) = (v for v in layer.variables if v.path.endswith("/kernel"))
                kernels[frozen.path] = keras.ops.convert_to_numpy(layer.kernel)
        return kernels


def _is_dense(layer) -> bool:
    return isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense)


def _layers(model) -> Iterator:
    """All layers of a model, those inside nested models too."""
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else (layer,)
