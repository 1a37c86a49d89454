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


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("{runs}/teacherr", "which does not exist. Did you mean teacher?"),
        ("{runs}/teacher/checkpoints", "Set init={runs}/teacher: its best checkpoint"),
        ("{runs}/teacher/checkpoints/000000006", "Set init={runs}/teacher: its best checkpoint"),
        ("{runs}", "{runs}, which holds no run."),
    ],
)
def test_an_init_that_leads_nowhere_is_refused_before_a_run_is_made(
    teacher, tmp_path, init, message
):
    runs = teacher.path.parent
    with pytest.raises(UserError, match="init: expected a run directory") as error:
        tfbig.train(recipe(), f"init={init.format(runs=runs)}", run=tmp_path / "run")
    assert message.format(runs=runs) in str(error.value)
    assert not (tmp_path / "run").exists()


def test_that_the_other_runs_data_differed_is_said(tmp_path):
    base, _ = trained("mnist_mlp", tmp_path / "base", "model.units=4", "train.final_split=none")
    facts = base.read_json("data.json")
    facts["facts"]["labels"][0] = "nought"
    base.write_json("data.json", facts)
    settings = ["model.units=4", "train.final_split=none", f"init={base.path}"]
    _, notes = trained("mnist_mlp", tmp_path / "run", *settings)
    assert f"init: 4 of 4 weights from {base.path}, step 6; its data had other labels" in notes


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
