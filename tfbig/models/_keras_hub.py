"""Presets of KerasHub: a name of theirs, or a folder that KerasHub wrote."""

from __future__ import annotations

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

PREFIX = "hub:"  # of an init that names one


def backbone(name: str, families: tuple[str, ...]):
    """The built network of a preset, whose class is one of these."""
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise UserError(
            "init: hub:... needs the package keras-hub, which is not installed. Run pip install"
            " 'tfbig[text]'."
        ) from error
    try:
        network = keras_hub.models.Backbone.from_preset(name)
    except Exception as error:  # whatever a download, a name or a file may raise
        raise UserError(
            f"init: KerasHub has no preset {name!r} here: {str(error)[:200]}"
        ) from error
    if type(network).__name__ not in families:
        raise UserError(
            f"init: expected a preset of the classes {', '.join(families)}. Received:"
            f" {type(network).__name__}."
        )
    return network


def arrays(network) -> dict[str, np.ndarray]:
    """A network's weights by their paths; those with an axis of heads as matrices and vectors."""
    return {weight.path: _flat(weight.path, np.asarray(weight)) for weight in network.weights}


def _flat(path: str, value: np.ndarray) -> np.ndarray:
    """KerasHub's weights with an axis of heads, as matrices and vectors."""
    if value.ndim == 3:
        return value.reshape(
            (-1, value.shape[-1]) if "attention_output" in path else (value.shape[0], -1)
        )
    return value.reshape(-1) if path.endswith("bias") else value
