"""A run's model in float32, which is what leaves, and the proof that it is the run's."""

from __future__ import annotations

import dataclasses

from tfbig.core.errors import RunFailure
from tfbig.core.lazy import np
from tfbig.engine import checkpoint, records
from tfbig.engine.setup import Setup


def rebuilt(trained):
    """A setup whose model computes in float32, and the proof that its weights are the run's.

    It is the run's own, without a proof, or a rebuilt one.
    """
    experiment = trained.setup.experiment
    if experiment.device.precision == "float32":
        return trained.setup, None
    exact = dataclasses.replace(
        experiment, device=dataclasses.replace(experiment.device, precision="float32")
    )
    setup = Setup(exact, trained.task.facts, parts=trained.task.parts)
    variables = checkpoint.named(setup.model.variables)
    original = checkpoint.named(trained.model.variables)
    if variables.keys() != original.keys():
        strange = ", ".join(sorted(variables.keys() ^ original.keys()))
        raise RunFailure(f"float32: the rebuilt model and the run's differ in {strange}.")
    for path, variable in variables.items():
        variable.assign(original[path].value)
    equal = sum(
        np.array_equal(variable.numpy(), original[path].numpy().astype(variable.numpy().dtype))
        for path, variable in variables.items()
    )
    if equal != len(variables):
        raise RunFailure(f"float32: {len(variables) - equal} of {len(variables)} weights changed.")
    return setup, {"trained_in": experiment.device.precision, "weights_equal": equal}


def compare_with_record(trained, split: str, metrics: dict, console) -> None:
    """Refuses a checkpoint that is not what its run evaluated.

    A checkpoint changed by hand may have checksums that fit.
    """
    known = records.recorded(trained.run, trained.step)
    if known is None:
        console.note(
            f"nothing is recorded of the checkpoint of step {trained.step:,}, so its metrics are"
            " compared with none"
        )
        return
    measured, before = known
    now = metrics if measured == split else trained.setup.evaluate(measured).metrics
    records.refuse_differences(trained.run, trained.step, before, now)


def prove(before: dict, after: dict, name: str, precision: str) -> dict:
    """The primary metric in the run's precision and in float32, which must agree.

    float32's must lie in the other's interval.
    """
    values = {"trained": before[name]["value"], "float32": after[name]["value"]}
    if not records.is_same(before[name], after[name], precision):
        raise RunFailure(
            f"float32: {name} is {values['float32']:.6g}, beyond the interval of the run's"
            f" precision, {values['trained']:.6g}."
        )
    return {name: values}
