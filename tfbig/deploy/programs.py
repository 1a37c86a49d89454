"""The programs of a trained model that leave with it, traced from the task's own methods."""

from __future__ import annotations

import json
from collections.abc import Callable

from tfbig.core.component import Component
from tfbig.core.contracts import Task
from tfbig.core.lazy import tf

# Signatures: the one that requests mean if they name none, and model-ready tensors
RAW, READY = "serving_default", "tensors"


class Programs:
    """A task and its model as TensorFlow functions with named inputs and outputs.

    Attributes:
        raw: served inputs (`Task.signature`) -> what `Task.answer` gives.
        ready: model-ready tensors -> outputs of `Task.predict`.
        tensors: numbers -> outputs of `Task.predict`: raw examples where preprocessing is numeric,
            so that it travels with the model; model-ready tensors otherwise.
        signatures: all that a SavedModel offers, by name.
        portable: what ONNX holds, by the names of the files: `tensors` as "model", or the task's
            `step_programs`.
        assets: JSON values for other readers; see `Task.assets`.
        metadata: what an ONNX file says of itself, such as label names; texts.
    """

    def __init__(self, task: Task, model, service: Component | None = None):
        self.task, self.model, self.service = task, model, service or task.service()
        served = task.signature()
        self.raw = _traced(
            lambda **given: task.answer(
                task.predict(model, task.preprocess(task.decode(given), False))
            ),
            served,
        )
        decoded = _specs(_traced(lambda **given: task.decode(given), served))
        ready = _specs(_traced(lambda **given: task.preprocess(given, False), decoded))
        self.ready = _traced(lambda **given: task.predict(model, given), ready)
        if task.preprocess_on == "device":
            self.tensors = _traced(
                lambda **given: task.predict(model, task.preprocess(given, False)), decoded
            )
        else:
            self.tensors = self.ready
        self.decoded_names = tuple(decoded)
        others = {
            name: _traced(program.function, program.inputs)
            for name, program in task.programs(model, self.service).items()
        }
        self.signatures = {READY: self.ready, task.served_as: self.raw, **others}
        self.portable = {name: others[name] for name in task.step_programs} or {
            "model": self.tensors
        }
        self.assets = task.assets(self.service)
        labels = {"label_names": task.data.label_names} if task.data.label_names else {}
        self.metadata = {
            name: json.dumps(value, ensure_ascii=False)
            for name, value in {**labels, **self.assets}.items()
        }

    def examiner(self) -> tf.Module:
        """What a process without this package needs to examine an artefact, as a module to save.

        ready: raw examples -> model-ready tensors. grade, metrics: raw examples (named raw__X) and
        answers or outputs (named given__X) -> per-example sums and counts (named METRIC__sum and
        METRIC__count).
        """
        task = self.task
        raw = {
            name: tf.TensorSpec((None, *feature.shape), feature.dtype)
            for name, feature in task.data.spec.items()
        }
        examples = {name: raw[name] for name in self.decoded_names}
        module = tf.Module()
        module.ready = _traced(lambda **given: task.preprocess(given, False), examples)
        module.grade = self._judge(task.grade, raw, _specs(self.raw))
        module.metrics = self._judge(task.metrics, raw, _specs(self.ready))
        return module

    def _judge(self, measure: Callable, raw: dict, given: dict):
        def judge(**named):
            def pick(prefix):
                return {
                    name[len(prefix) :]: value
                    for name, value in named.items()
                    if name.startswith(prefix)
                }

            measured = measure(pick("given__"), self.task.preprocess(pick("raw__"), False))
            return {
                f"{name}__{part}": value
                for name, pair in measured.items()
                for part, value in zip(("sum", "count"), pair, strict=True)
            }

        named = {
            **{f"raw__{name}": spec for name, spec in raw.items()},
            **{f"given__{name}": spec for name, spec in given.items()},
        }
        return _traced(judge, named)


def _traced(function: Callable, specs: dict[str, tf.TensorSpec]):
    """A tf.function of keyword arguments, traced for these specifications."""
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}
    # Names alone, never places
    made = tf.function(lambda **given: function(**given), autograph=False)
    made.traced = made.get_concrete_function(**named)
    return made


def _specs(function) -> dict[str, tf.TensorSpec]:
    """The specifications of a traced function's outputs; the batch axis is free."""
    outputs = function.traced.structured_outputs
    return {
        name: tf.TensorSpec((None, *value.shape[1:]), value.dtype)
        for name, value in outputs.items()
    }
