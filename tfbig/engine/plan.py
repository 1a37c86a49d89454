"""How long a training will take, and whether it will fit in memory.

By arithmetic for an accelerator, or by a short try on this machine.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tfbig.core.experiment import Experiment
from tfbig.core.lazy import np, tf
from tfbig.engine import batches, checkpoint, graph, remat, shapes
from tfbig.engine.flops import forward_flops
from tfbig.engine.hardware import Hardware
from tfbig.engine.loop import CALL_SECONDS
from tfbig.engine.setup import Setup, evaluation_batch

PROBE_STEPS = 20
PROBE_SECONDS = 10.0  # fast steps are tried for longer, until their time is steady


TPU = "the hardware: this package does not train on TPUs (device.strategy=tpu says why)"

# Share of the peak that trainings of large matrices reach: 0.3 to 0.5 in Chowdhery et al. 2022
# (PaLM), table 3, and its peers there.
UTILISATION = 0.35

# However little there is to compute, a step is begun by the host and each operation is started by
# itself. 4 microseconds are what NVIDIA measures for one start after another (Gray 2019, "Getting
# Started with CUDA Graphs"); those of a step are an assumption, rounded.
STEP_SECONDS = 50e-6
LAUNCH_SECONDS = 4e-6


def size_mb(variables: list) -> float:
    return sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables) / 1e6


def activations_mb(setup: Setup) -> float:
    """Megabytes that one micro-batch keeps for its gradient.

    About the inputs and outputs of all computations (Chen et al. 2016, section 3).
    """
    train = setup.experiment.train
    model = setup.model
    longest = shapes.longest(setup.task.data.spec)
    kept = (
        remat.activation_bytes(model)
        if train.remat
        else sum(graph.bytes_kept(node, longest) for node in graph.nodes(model))
    )
    return (
        (sum(graph.bytes_of(tensor, longest) for tensor in model.inputs) + kept)
        * (train.batch_size // train.accumulate)
        / 1e6
    )


def describe(setup: Setup) -> dict:
    """The figures that hold on any machine.

    A step costs three forward passes: one forward, two backward (Kaplan et al. 2020, section 2.1).
    """
    experiment = setup.experiment
    forward = forward_flops(setup.model, shapes.longest(setup.task.data.spec))
    weights = size_mb(setup.model.variables)
    others = size_mb(setup.files[checkpoint.OPTIMIZER])
    gradients = size_mb(setup.model.trainable_variables)
    activations = activations_mb(setup)
    return {
        "parameters": setup.model.count_params(),
        "forward_flops_per_example": forward,
        "flops_per_step": 3 * forward * experiment.train.batch_size,
        "steps": setup.lengths.total,
        "examples_to_see": setup.lengths.total * experiment.train.batch_size,
        "epochs": setup.epochs(setup.lengths.total),
        "weights_mb": round(weights, 2),
        "gradients_mb": round(gradients * (2 if experiment.train.accumulate > 1 else 1), 2),
        "optimizer_mb": round(others, 2),
        "activations_mb": round(activations, 2),
        "memory_mb": round(
            weights
            + gradients * (2 if experiment.train.accumulate > 1 else 1)
            + others
            + activations,
            2,
        ),
    }


def launches(setup: Setup) -> tuple[int, int]:
    """Operations that are started one after another, for a forward pass and for a whole step.

    Operations of recurrent layers count for each time step, those that compute nothing do not
    count. A step has one forward pass and a backward pass of twice as many operations for each
    micro-batch, and updates each weight.
    """
    forward = sum(map(graph.operations, graph.nodes(setup.model)))
    passes = 3 * setup.experiment.train.accumulate
    return forward, passes * forward + len(setup.model.trainable_variables)


def by_arithmetic(setup: Setup, hardware: Hardware) -> dict:
    """Time and fit on an accelerator that is not here.

    A step and a batch of the evaluation take what their arithmetic takes, and at least the time to
    start their operations; waiting for memory is not counted, so models of small operations take
    longer.
    """
    needs = describe(setup)
    experiment = setup.experiment
    half = experiment.device.precision != "float32"
    rate = (hardware.sixteen_bit if half else hardware.float32) * 1e12 * UTILISATION
    forward, operations = launches(setup)
    least = STEP_SECONDS + LAUNCH_SECONDS * operations
    step = max(needs["flops_per_step"] / rate, least)
    size = setup.task.data.size("validation")
    batch = evaluation_batch(experiment)
    starts = math.ceil(size / batch) * (STEP_SECONDS + LAUNCH_SECONDS * forward)
    evaluation = max(size * needs["forward_flops_per_example"] / rate, starts)
    fits = needs["memory_mb"] < 0.9 * hardware.memory_gb * 1e3
    return {
        **needs,
        "hardware": hardware.name,
        "memory_there_mb": round(hardware.memory_gb * 1e3),
        "fits": fits,
        "least_step_ms": round(least * 1e3, 4),
        "seconds": round(step * needs["steps"] + evaluation * evaluations(setup), 2),
        "assumed": (
            f"{UTILISATION:.0%} of {hardware.sixteen_bit if half else hardware.float32:g} TFLOP/s"
            f" ({hardware.source}); at least {least * 1e6:.0f} µs a step, {STEP_SECONDS * 1e6:.0f}"
            f" µs and {LAUNCH_SECONDS * 1e6:.0f} µs for each of {operations:,} operations"
        ),
        "advice": (
            ([] if fits else advice(experiment))
            + ([TPU] if hardware.name.startswith("TPU") else [])
        ),
    }


def evaluations(setup: Setup) -> int:
    lengths = setup.lengths
    return max(1, -(-lengths.total // lengths.evaluate))


def advice(experiment: Experiment) -> list[str]:
    """What to change, in the order of how little it harms, if memory is short."""
    changes = []
    if experiment.device.precision == "float32":
        changes.append("device.precision=bfloat16: activations take half")
    if experiment.train.accumulate < experiment.train.batch_size:
        changes.append(
            f"train.accumulate={2 * experiment.train.accumulate} or more: activations of fewer"
            " examples at once, same result"
        )
    if not experiment.train.remat:
        changes.append(
            "train.remat=true: activations are computed again rather than kept, same result, about"
            " a third slower"
        )
    changes.append("a smaller model, or optim.optimizer=sgd or adafactor, which keep less")
    return changes


def by_trying(setup: Setup, prepared: float = 0.0) -> dict:
    """Time and memory from a few steps, an evaluation batch and a checkpoint, made here.

    Seconds are those spent on preparing and compiling (steps and evaluation) + steps x the mean of
    a step, without the first call + evaluations x batches x the median of a batch + checkpoints,
    each as it was measured. `prepared`: seconds that it took to make `setup`.
    """
    started = time.monotonic()
    needs = describe(setup)
    # Compiles
    setup.run_block(setup.slabs.at(0)[0], tf.constant(0), tf.constant(1))["loss"].numpy()
    compiled = time.monotonic() - started
    step_seconds = _step_seconds(setup)
    first, evaluate = _evaluation_seconds(setup)
    save = _checkpoint_seconds(setup)
    compiled += first
    lengths = setup.lengths
    saves = len(
        {
            min(lengths.total, n * every)
            for every in (lengths.evaluate, lengths.save)
            for n in range(1, -(-lengths.total // every) + 1)
        }
    )
    test = setup.task.data.size("test") / max(1, setup.task.data.size("validation")) * evaluate
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e6
    )
    return {
        **needs,
        "hardware": "this machine",
        "step_ms": round(step_seconds * 1e3, 4),
        "examples_per_s": round(setup.experiment.train.batch_size / step_seconds, 1),
        "prepare_seconds": round(prepared, 2),
        "compile_seconds": round(compiled, 2),
        "evaluation_seconds": round(evaluate, 3),
        "checkpoint_seconds": round(save, 3),
        "test_seconds": round(test, 3),
        "peak_memory_mb": round(peak),
        "seconds": round(
            prepared
            + compiled
            + step_seconds * lengths.total
            + evaluate * evaluations(setup)
            + save * saves
            + test,
            2,
        ),
        "fits": True,
        "advice": [],
    }


def _step_seconds(setup: Setup) -> float:
    """The mean time of a step in calls as long as the loop makes them."""
    step = 0
    count = 1
    spent = []
    begun = time.monotonic()
    while step < PROBE_STEPS or (
        time.monotonic() - begun < PROBE_SECONDS and step < 200 * setup.block
    ):
        at = time.monotonic()
        slab, first = setup.slabs.at(step)
        count = min(count, setup.block - first)
        setup.run_block(slab, tf.constant(first), tf.constant(count))["loss"].numpy()
        spent.append((time.monotonic() - at, count))
        step += count
        count = max(1, min(2 * setup.block, int(count * CALL_SECONDS / max(spent[-1][0], 1e-6))))
    spent = spent[1:] if len(spent) > 1 else spent
    return sum(seconds for seconds, _ in spent) / sum(num_steps for _, num_steps in spent)


def _evaluation_seconds(setup: Setup) -> tuple[float, float]:
    """Seconds for compiling, and for the validation split, from a few of its batches."""
    task = setup.task
    size = setup.task.data.size("validation")
    batch_size = min(evaluation_batch(setup.experiment), size)
    seconds = []
    started = time.monotonic()
    for _, batch in batches.evaluation_batches(task, "validation", batch_size):
        for tensor in tf.nest.flatten(setup.predict(batch, True)[1]):  # what an evaluation fetches
            tensor.numpy()
        seconds.append(time.monotonic() - started)
        started = time.monotonic()
        if len(seconds) > 8:
            break
    usual = statistics.median(seconds[1:]) if len(seconds) > 1 else seconds[0]
    return max(0.0, seconds[0] - usual), usual * math.ceil(size / batch_size)


def _checkpoint_seconds(setup: Setup) -> float:
    with tempfile.TemporaryDirectory() as folder:
        at = time.monotonic()
        checkpoint.save(Path(folder), 0, setup.files, {"best": None, "evaluations": []})
        return time.monotonic() - at


def finite(values: dict) -> dict:
    """The same values as plain numbers for JSON."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in values.items()
    }
