"""Keras's own optimisers and learning-rate schedules, from an experiment's settings."""

from __future__ import annotations

import math

from tfbig.core import duration
from tfbig.core.experiment import OPTIMIZERS, Optim
from tfbig.core.lazy import keras, tf

NO_DECAY = ("bias", "gamma", "beta", "scale")  # in a variable's own name
# In its layer's name: a layer calls its vectors "embeddings", whatever they are of
POSITIONS = "position"

CLASSES = {
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "adafactor": "Adafactor",
    "adam": "Adam",
    "adamw": "AdamW",
    "adamax": "Adamax",
    "nadam": "Nadam",
    "lamb": "Lamb",
    "lion": "Lion",
    "muon": "Muon",
}
MUON_NAMES = {"beta_1": "adam_beta_1", "beta_2": "adam_beta_2"}


def build_schedule(optim: Optim, *, length: int, epoch: float):
    """The learning rate by step: a float if it never changes, else a Keras schedule."""
    warmup = duration.to_steps(optim.warmup, epoch=epoch, length=length)
    peak = optim.learning_rate
    if optim.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else peak,
            decay_steps=max(1, length - warmup),
            alpha=optim.final_fraction,
            warmup_target=peak if warmup else None,
            warmup_steps=warmup,
        )
    if optim.schedule == "linear":
        return _linear()(peak, warmup, max(warmup + 1, length), optim.final_fraction)
    drops = sorted(duration.to_steps(text, epoch=epoch, length=length) for text in optim.step_at)
    drops = drops if optim.schedule == "step" else []
    if not drops and not warmup:
        return peak
    return _piecewise()(peak, warmup, drops, optim.step_factor)


def _piecewise():
    """The class of schedules with a linear warm-up and drops.

    Made on demand, since its base is Keras's.
    """

    class WarmupThenDrops(keras.optimizers.schedules.LearningRateSchedule):
        def __init__(self, peak: float, warmup: int, drops: list[int], factor: float):
            self.peak, self.warmup, self.drops, self.factor = peak, warmup, drops, factor

        def __call__(self, step):
            step = tf.cast(step, tf.float32)
            passed = (
                tf.add_n([tf.cast(step >= drop, tf.float32) for drop in self.drops])
                if self.drops
                else 0.0
            )
            rate = self.peak * tf.exp(passed * math.log(self.factor))
            return rate * tf.minimum(1.0, step / self.warmup) if self.warmup else rate

        def get_config(self):
            return {
                "peak": self.peak,
                "warmup": self.warmup,
                "drops": self.drops,
                "factor": self.factor,
            }

    return WarmupThenDrops


def _linear():
    """The class of schedules with a linear warm-up and a linear fall; made on demand, as above."""

    class WarmupThenLinear(keras.optimizers.schedules.LearningRateSchedule):
        def __init__(self, peak: float, warmup: int, length: int, final: float):
            self.peak, self.warmup, self.length, self.final = peak, warmup, length, final

        def __call__(self, step):
            step = tf.cast(step, tf.float32)
            passed = (step - self.warmup) / (self.length - self.warmup)
            rate = self.peak * (1.0 - (1.0 - self.final) * tf.clip_by_value(passed, 0.0, 1.0))
            return rate * tf.minimum(1.0, step / self.warmup) if self.warmup else rate

        def get_config(self):
            return {
                "peak": self.peak,
                "warmup": self.warmup,
                "length": self.length,
                "final": self.final,
            }

    return WarmupThenLinear


def build_optimizer(
    optim: Optim, variables: list, *, length: int, epoch: float
) -> keras.optimizers.Optimizer:
    """The optimiser with its variables built.

    Weight decay is decoupled and leaves out what `decays` does. Clipping is the loop's.
    """
    options = {
        name: getattr(optim, name)
        for name in OPTIMIZERS[optim.optimizer]
        if getattr(optim, name) is not None
    }
    if optim.optimizer == "muon":
        options = {MUON_NAMES.get(name, name): value for name, value in options.items()}
        options["exclude_layers"] = ["head"]  # the paper's rule: Adam for the output layer
        # Else 0.004, whatever is asked for
        options["adam_weight_decay"] = optim.weight_decay or None
    optimizer = getattr(keras.optimizers, CLASSES[optim.optimizer])(
        learning_rate=build_schedule(optim, length=length, epoch=epoch),
        weight_decay=(
            optim.weight_decay if optim.weight_decay or optim.optimizer == "adamw" else None
        ),
        # Else Keras numbers it over the process, and checkpoints would not fit
        name=optim.optimizer,
        **options,
    )
    if optim.weight_decay:
        # Not by `var_names`: Keras compares those with a variable's own name, and never with its
        # layer's.
        kept = [variable for variable in variables if not decays(variable)]
        optimizer.exclude_from_weight_decay(var_list=kept)
    optimizer.build(variables)
    return optimizer


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay applies to this variable, a kernel or an embedding of tokens.

    Biases, normalisation scales and learnt positions are left out, and so is a class token, which
    is a position's bias.
    """
    layer, _, name = variable.path.rpartition("/")
    layer = layer.rpartition("/")[2]
    return POSITIONS not in layer and not any(word in name for word in NO_DECAY)


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate at the optimiser's present step."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
