"""Layers chosen by name in a model's settings: normalisation, activation, initialiser."""

from __future__ import annotations

import math

from tfbig.core.lazy import keras

ACTIVATIONS = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid")
NORMALIZATIONS = ("none", "batch", "layer", "group", "rms")
INITIALIZERS = (
    "auto",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_normal",
    "orthogonal",
    "truncated_normal",
)


def normalization(kind: str, name: str, gamma: str = "ones"):
    """A function that normalises a symbolic input by a layer of this name; the identity for "none".

    Its scales begin as `gamma`, "ones" or "zeros".

    Batch: Ioffe and Szegedy 2015. Layer: Ba et al. 2016. Group (8, or what divides the channels):
        Wu and He 2018.
    RMS: Zhang and Sennrich 2019.
    """
    layers = keras.layers
    return {
        "none": lambda x: x,
        "batch": lambda x: layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=name
        )(x),
        "layer": lambda x: layers.LayerNormalization(
            epsilon=1e-6, gamma_initializer=gamma, name=name
        )(x),
        "group": lambda x: layers.GroupNormalization(
            groups=math.gcd(8, x.shape[-1]), epsilon=1e-5, gamma_initializer=gamma, name=name
        )(x),
        "rms": lambda x: layers.RMSNormalization(epsilon=1e-6, name=name)(x),
    }[kind]


def initializer(kind: str, activation: str) -> str:
    """The initialiser's Keras name.

    "auto" is He's for rectifiers (He et al. 2015), LeCun's for selu, else Glorot's.
    """
    if kind != "auto":
        return kind
    if activation in ("relu", "leaky_relu", "elu", "gelu", "silu"):
        return "he_normal"
    return "lecun_normal" if activation == "selu" else "glorot_uniform"
