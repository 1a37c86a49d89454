"""Runs that use other runs: weights to start from, and frozen parts."""

import shutil

import numpy as np
import pytest
from toy_sequences import recipe
from toy_student import student
from training import Silent

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.run import Run
from tfbig.engine import job


def trained(experiment, path, *settings):
    run = Run.create(path, tfbig.recipe(experiment, "train.length=6", *settings))
    console = Silent()
    job.train(run, console)
    return run, console.notes


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return trained(recipe(), tmp_path_factory.mktemp("runs") / "teacher")[0]


def weights(model):
    return {v.path: v.numpy() for v in model.trainable_variables}


def test_starts_from_another_run_by_the_names_of_its_layers(teacher, tmp_path):
    source = weights(tfbig.load(teacher).model)
    same, notes = trained(
        recipe(), tmp_path / "same", f"init={teacher.path}", "optim.learning_rate=1e-30"
    )
    assert any(note == f"init: 4 of 4 weights from {teacher.path}, step 6" for note in notes)
    for path, value in weights(tfbig.load(same).model).items():
        np.testing.assert_array_equal(value, source[path])


def test_a_run_of_another_model_is_refused(teacher, tmp_path):
    run = Run.create(
        tmp_path / "other", tfbig.recipe("mnist_mlp", "train.length=1", f"init={teacher.path}")
    )
    with pytest.raises(UserError, match="expected a run whose model shares layers with this one"):
        job.train(run, Silent())


def test_parts_are_copied_and_frozen(teacher, tmp_path):
    gone = tmp_path / "gone"
    shutil.copytree(teacher.path, gone)
    run, notes = trained(student(), tmp_path / "student", f"task.teacher={gone}")
    assert f"teacher: {gone}, step 6" in notes
    shutil.rmtree(gone)
    loaded = tfbig.load(run)
    part = loaded.task.parts["teacher"]
    assert part.run.path == run.path / "parts" / "teacher" and not part.model.trainable_variables
    for mine, original in zip(
        part.model.get_weights(), tfbig.load(teacher).model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, original)
    data = loaded.task.data.examples("test", np.arange(1))
    given = part.predict({"x": np.array([data["x"][0]])})
    assert np.isfinite(given["given"]).all()


def test_a_teacher_that_is_missing_is_named(tmp_path):
    run = Run.create(
        tmp_path / "student", tfbig.recipe(student(), f"task.teacher={tmp_path / 'none'}")
    )
    with pytest.raises(UserError, match="teacher: expected a run directory"):
        job.train(run, Silent())
