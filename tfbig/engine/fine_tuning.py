"""What fine-tuning leaves as it is, and what it changes slowly."""

from __future__ import annotations

from tfbig.core.registry import nearest
from tfbig.engine.strategy import layers


def freeze(model, names: tuple[str, ...]) -> None:
    """Lets layers keep their weights, moving averages of batch normalisation included.

    Args:
        model: built, not yet adapted.
        names: a layer's name or the words it begins with; "stage_1" is "stage_1_block_2_conv_1",
            but not "stage_10".

    Raises:
        ValueError: no layer with weights is called so, or all are.
    """
    weighted = _weighted(model)
    for name in names:
        chosen = [layer for layer in weighted if f"{layer.name}_".startswith(f"{name}_")]
        if not chosen:
            known = list(dict.fromkeys(layer.name for layer in weighted))
            raise ValueError(
                f"train.freeze: expected the beginning of a layer's name. Received:"
                f" {name!r}.{nearest(name, known)} The model has {', '.join(known[:4])}, ...,"
                f" {known[-1]}."
            )
        for layer in chosen:
            layer.trainable = False
    if names and not model.trainable_variables:
        raise ValueError(
            f"train.freeze: expected to leave a layer to be trained. Received: {', '.join(names)}."
        )


def layer_rates(model, first_rate: float) -> list[float] | None:
    """The factor of each trainable variable's learning rate; None where all are 1.

    It is `first_rate` of the first layer that has weights, 1 of the last one, and grows by the same
    factor from layer to layer between (Howard and Ruder 2018).
    """
    if first_rate == 1:
        return None
    weighted = _weighted(model)
    last = max(1, len(weighted) - 1)
    rates = {
        variable.path: first_rate ** (1 - place / last)
        for place, layer in enumerate(weighted)
        for variable in layer.trainable_variables
    }
    return [rates.get(variable.path, 1.0) for variable in model.trainable_variables]


def _weighted(model) -> list:
    """A model's layers that have weights, from its inputs to its outputs."""
    return [layer for layer in layers(model) if layer.weights and not hasattr(layer, "layers")]
