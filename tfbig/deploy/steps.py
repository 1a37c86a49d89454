"""What stands between the steps of a model that is asked step by step.

Follows what an artefact declares (`Stepwise` in tfbig/core/serving.py). Imports nothing of this
package: processes that examine artefacts use it too.
"""

from __future__ import annotations


class State:
    """What some rows carry from one step to the next.

    Attributes:
        kept: what the next step takes of what was computed, name -> [rows, ...].
        scores: what the next choice is made from, [rows, values]; None: nothing yet, or never.
        place: of the next choice, int32 [rows].
    """

    def __init__(self, plan: dict, place, kept: dict):
        """Begins.

        Args:
            plan: what the artefact declares.
            place: how many places are taken before the first step, int32 [rows].
            kept: outputs of the program that starts; without one, zeros for what is carried.
        """
        self.plan = plan
        self.place = place
        self.scores = kept.get(plan["scores"])
        self.kept = {name: kept[name] for name in (*plan["carried"], *plan["fixed"])}

    def inputs(self, given: dict, chosen=None) -> dict:
        """Inputs of the next step.

        Args:
            given: what each step is given anew.
            chosen: the last choice, int32 [rows], where something is chosen.
        """
        inputs = {**given, **self.kept}
        if self.plan["chosen"]:
            inputs[self.plan["chosen"]] = chosen
        if self.plan["position"]:
            inputs[self.plan["position"]] = self.place
        return inputs

    def take(self, outputs: dict) -> None:
        """Goes on with what a step gave."""
        self.kept |= {name: outputs[name] for name in self.plan["carried"]}
        self.scores = outputs.get(self.plan["scores"])
        self.place = self.place + 1


def missing(steps: dict, signatures: dict, engine: str) -> str:
    """A name that steps are declared by and no program has; empty if all are there.

    ONNX may lack the programs themselves: the model is not asked step by step then.
    """
    programs = [steps[name] for name in ("start", "step") if steps[name]]
    absent = [name for name in programs if name not in signatures]
    if absent:
        return absent[0] if engine == "tensorflow" else ""
    step = signatures[steps["step"]]
    wanted = [
        (step.inputs, [*steps["carried"], *steps["fixed"], steps["chosen"], steps["position"]]),
        (step.outputs, [*steps["carried"], steps["scores"]]),
    ]
    if steps["start"]:
        start = signatures[steps["start"]]
        wanted.append((start.inputs, [steps["count"]]))
        wanted.append((start.outputs, [*steps["carried"], *steps["fixed"]]))
    names = ((known, name) for known, needed in wanted for name in needed if name)
    return next((name for known, name in names if name not in known), "")
