"""The programs of a trained model that leave with it, traced from the task's own methods."""

from __future__ import annotations

import json
from collections.abc import Callable

from tfbig.core.component import Component
from tfbig.core.contracts import Task
from tfbig.core.lazy import tf
from tfbig.core.serving import Stepwise

# Signatures: the one that requests mean if they name none, and model-ready tensors
RAW, READY = "serving_default", "tensors"
RECORD = "record__"  # what the examiner's names of records begin with


class Programs:
    """A task and its model as TensorFlow functions with named inputs and outputs.

    Attributes:
        serving: what the task says of how it is served.
        raw: served inputs (`Serving.signature`) -> what `Serving.answer` gives.
        ready: model-ready tensors -> outputs of `Task.predict`.
        tensors: numbers -> outputs of `Task.predict`: raw examples where preprocessing is numeric,
            so that it travels with the model; model-ready tensors otherwise.
        signatures: all that a SavedModel offers, by name.
        portable: what ONNX holds, by the names of the files: `tensors` as "model", or the stepwise
            programs.
        metadata: what an ONNX file says of itself, such as label names, as strings.
    """

    def __init__(self, task: Task, model, options: Component | None = None):
        self.task, self.model = task, model
        self.serving = serving = task.serving(model, options or task.service())
        self.raw = _traced(
            lambda **given: serving.answer(
                task.predict(model, task.preprocess(serving.decode(given), False))
            ),
            serving.signature,
        )
        decoded = _specs(_traced(lambda **given: serving.decode(given), serving.signature))
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
            for name, program in serving.programs.items()
        }
        self.signatures = {READY: self.ready, serving.name: self.raw, **others}
        self.portable = {"model": self.tensors}
        if serving.stepwise:
            self._check_steps(serving.stepwise)
            self.portable = {name: others[name] for name in serving.stepwise.programs}
        labels = {"label_names": task.data.label_names} if task.data.label_names else {}
        self.metadata = {
            name: json.dumps(value, ensure_ascii=False)
            for name, value in {**labels, **serving.assets}.items()
        }

    @property
    def weights(self) -> list[tf.Variable]:
        """All variables that leave: the model's, and those of other runs that predictions read."""
        own = [variable.value for variable in self.model.variables]
        read = [variable for each in self.signatures.values() for variable in each.traced.variables]
        return list({id(variable): variable for variable in (*own, *read)}.values())

    def _check_steps(self, stepwise: Stepwise) -> None:
        """Steps are compared with the whole prediction, so they must make all of it."""
        expected = set(_specs(self.ready))
        actual = set(stepwise.outputs)
        if expected != actual:
            raise ValueError(
                f"stepwise.outputs: expected {', '.join(sorted(expected))}, as"
                f" {type(self.task).__name__} predicts. Received: {', '.join(sorted(actual))}."
            )

    def examiner(self) -> tf.Module:
        """What a process without this package needs to examine an artefact, as a module to save.

        ready: raw examples -> model-ready tensors. grade, metrics: raw examples (named raw__X) and
        answers or outputs (named given__X) -> per-example sums and counts (named METRIC__sum and
        METRIC__count) and, where the task has a score of all examples, its records (record__X).
        """
        task = self.task
        serving = self.serving
        has_score = type(task).score is not Task.score
        raw = {
            name: tf.TensorSpec((None, *feature.longest), feature.dtype)
            for name, feature in task.data.spec.items()
        }
        raw |= {
            f"{name}_count": tf.TensorSpec((None,), tf.int32)
            for name, feature in task.data.spec.items()
            if feature.most is not None
        }
        examples = {name: raw[name] for name in self.decoded_names}
        module = tf.Module()
        module.ready = _traced(lambda **given: task.preprocess(given, False), examples)
        if task.plays:  # judged by episodes, see `bench.Bench.played`
            return module
        answers = _specs(self.raw)
        outputs = _specs(self.ready)
        module.grade = self._judge(serving.grade, serving.records, raw, answers)
        records = task.records if has_score else None
        module.metrics = self._judge(task.metrics, records, raw, outputs)
        return module

    def _judge(self, measure: Callable, keep: Callable | None, raw: dict, given: dict):
        def judge(**named):
            def pick(prefix):
                return {
                    name[len(prefix) :]: value
                    for name, value in named.items()
                    if name.startswith(prefix)
                }

            answers = pick("given__")
            batch = self.task.preprocess(pick("raw__"), False)
            sums = {
                f"{name}__{term}": value
                for name, pair in measure(answers, batch).items()
                for term, value in zip(("sum", "count"), pair, strict=True)
            }
            kept = keep(answers, batch) if keep else {}
            return {**sums, **{f"{RECORD}{name}": value for name, value in kept.items()}}

        named = {
            **{f"raw__{name}": spec for name, spec in raw.items()},
            **{f"given__{name}": spec for name, spec in given.items()},
        }
        return _traced(judge, named)


def _traced(function: Callable, specs: dict[str, tf.TensorSpec]):
    """A tf.function of keyword arguments, traced for these specifications."""
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}
    # Names alone, never places
    traced = tf.function(lambda **given: function(**given), autograph=False)
    traced.traced = traced.get_concrete_function(**named)
    return traced


def _specs(function) -> dict[str, tf.TensorSpec]:
    """The specifications of a traced function's outputs; the batch axis is free."""
    outputs = function.traced.structured_outputs
    return {
        name: tf.TensorSpec((None, *value.shape[1:]), value.dtype)
        for name, value in outputs.items()
    }
