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

    def loss(self, model, batch, training):
        said = self.parts["teacher"].model(batch["x"], training=False)[..., 0]
        return super().loss(model, {**batch, "y": tf.stop_gradient(said)}, training)


def student():
    return replace(recipe(), name="toy_student", task=Student())
