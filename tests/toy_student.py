"""A toy task of two stages: a student that learns what a frozen run of `toy_sequences` says."""

from dataclasses import dataclass, replace

from toy_sequences import StepRegression, recipe
from training import Silent

from tfbig.core.component import knob
from tfbig.core.lazy import tf
from tfbig.core.run import Run
from tfbig.engine import job


@dataclass(frozen=True, kw_only=True)
class Student(StepRegression):
    """A number for each step, as a teacher gives it."""

    teacher: str = knob("", "run directory of the teacher", path=True)

    @classmethod
    def smallest(cls, folder):
        teacher = Run.create(folder / "teacher", StepRegression.smallest(folder))
        job.train(teacher, Silent())
        return replace(StepRegression.smallest(folder), task=cls(teacher=str(teacher.path)))

    def uses(self):
        return {"teacher": self.teacher}

    def _said(self, inputs):
        """What the teacher says of them."""
        return self.parts["teacher"].model(inputs["x"], training=False)[..., 0]

    def loss(self, model, batch, training):
        said = tf.stop_gradient(self._said(batch))
        return super().loss(model, {**batch, "y": said}, training)

    def predict(self, model, inputs):
        outputs = super().predict(model, inputs)
        distance = tf.abs(outputs["given"] - self._said(inputs))
        return {**outputs, "distance": distance}


def student():
    return replace(recipe(), name="toy_student", task=Student())
