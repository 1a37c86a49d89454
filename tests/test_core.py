"""Configuration, registry, durations and the run directory; no TensorFlow."""

import dataclasses
import importlib
import json
import os
import re

import pytest

import tfbig
from tfbig.core import config, duration, files, registry
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.lazy import quiet_start
from tfbig.core.run import Run
from tfbig.engine import job
from tfbig.models.mlp import MLP

RECIPES = list(registry.recipes())


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name):
    """Every recipe validates by the command that its docstring says, prints and survives a JSON
    round trip.
    """
    module, line = registry.recipes()[name]
    said = getattr(importlib.import_module(module), name).__doc__
    command = re.search(rf"python -m tfbig.train {name}\b([^#\n]*)", said)
    experiment = tfbig.recipe(name, *command[1].split())
    assert experiment.name == name
    assert config.from_json(json.loads(json.dumps(config.to_json(experiment)))) == experiment
    text = config.show(experiment, experiment)
    assert f"train.length={experiment.train.length}" in text and "*" not in [
        line[0] for line in text.splitlines()
    ]
    assert line and any(word in said for word in ("Measured", "Not measured", "paper"))


def test_what_is_listed_is_a_whole_sentence():
    assert registry.opening("One sentence\n    in two lines.\n\n    More.") == (
        "One sentence in two lines"
    )
    assert registry.opening(None) == ""


@pytest.mark.parametrize("kind", ["tasks", "models", "data"])
def test_components_have_names_and_lines(kind):
    for name, line in registry.describe(kind).items():
        component = registry.component(kind, name)()
        assert registry.name_of(component) == name and len(line) > 20
        assert all(field.metadata["doc"] for field in dataclasses.fields(component))


def test_override():
    base = tfbig.recipe("mnist_mlp")
    made = config.override(
        base,
        [
            "model.units=256,64",
            "model.dropout=0.1",
            "seed=1_000",
            "train.batch_size=1e2",
            "train.ema=0.99",
            "optim.nesterov=yes",
        ],
    )
    assert made.model == MLP(units=(256, 64), dropout=0.1)
    assert (made.seed, made.train.batch_size, made.train.ema, made.optim.nesterov) == (
        1000,
        100,
        0.99,
        True,
    )
    assert config.override(made, ["train.ema=none"]).train.ema is None
    # The component first, whatever the order
    assert config.override(made, ["model.depth=2", "model=vit"]).model.depth == 2
    assert config.changed(made, base)["model.units"] == [(128,), (256, 64)]
    shown = config.show(made, base)
    assert "* model.units=256,64 (recipe: 128)" in shown and "  model.activation=relu" in shown


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "optim.learnin_rate=1",
            "optim.learnin_rate: no such setting. Did you mean optim.learning_rate?",
        ),
        ("train.batch_size=abc", "train.batch_size: expected a whole number. Received: 'abc'."),
        ("train.batch_size=1.5", "train.batch_size: expected a whole number. Received: '1.5'."),
        ("train.batch_size=0", "train.batch_size: expected at least 1. Received: 0."),
        (
            "optim.learning_rate=nan",
            "optim.learning_rate: expected a finite number. Received: 'nan'.",
        ),
        ("optim.learning_rate=0", "optim.learning_rate: expected more than 0. Received: 0.0."),
        ("model=mpl", "Did you mean mlp?"),
        ("model=no.such.module", "model: no module 'no.such.module' can be imported"),
        ("model.activation=rellu", "Did you mean relu?"),
        ("train.evaluate_every=1 epoch", "train.evaluate_every: expected a duration such as"),
        ("train.length=5epochs", "Received: '5epochs'. Did you mean 5ep?"),
        ("train.length=1e3", "Received: '1e3'. Did you mean 1000?"),
        ("train.length=2.5E+4", "Received: '2.5E+4'. Did you mean 25000?"),
        ("train.length=a week", 'train.length: expected epochs ("10ep") or steps ("20_000"). Rec'),
        ("train.length=50%", 'train.length: expected epochs ("10ep") or steps'),
        ("train.length=0ep", "train.length: expected more than 0. Received: '0ep'."),
        (
            "train.accumulate=7",
            "train.accumulate: expected a divisor of train.batch_size=64. Received: 7.",
        ),
        ("optim.beta_1=0.9", "optim.beta_1: expected none: sgd has no such setting"),
        ("seed", "expected key=value. Received: 'seed'."),
        ("model.units=0", "model.units: expected at least 1. Received: 0."),
        ("data.validation=60000", "data.validation: expected fewer than the 60,000"),
        ("train=1", "train: no such setting."),
        ("a.b.c=1", "a.b.c: no such setting."),
        ("name=", "name: expected a word that can name a directory. Received: ''."),
        ("name=../a", "name: expected a word that can name a directory. Received: '../a'."),
    ],
)
def test_wrong_setting(setting, message):
    with pytest.raises(UserError) as caught:
        config.override(tfbig.recipe("mnist_mlp"), [setting])
    assert message in str(caught.value)


def test_choices_that_are_numbers():
    with pytest.raises(UserError, match="data.channels: expected one of 1, 3. Received: 2."):
        config.override(tfbig.recipe("mnist_mlp"), ["data=image_folder", "data.channels=2"])


def test_moving_averages_that_would_never_move():
    with pytest.raises(UserError, match="optim.beta_2: expected less than 1"):
        config.override(tfbig.recipe("mnist_mlp"), ["optim.optimizer=adam", "optim.beta_2=1"])


def test_all_problems_at_once():
    with pytest.raises(UserError) as caught:
        config.override(
            tfbig.recipe("mnist_mlp"),
            ["seeed=1", "train.batch_size=x", "model.dropout=2", "seed=1", "seed=2"],
        )
    assert len(str(caught.value).splitlines()) == 4


def test_arguments_from_python_are_checked(run):
    for call, message in (
        (lambda: tfbig.train(5), "recipe: expected a recipe's name or an Experiment. Received: 5."),
        (lambda: tfbig.tune(5), "recipe: expected a recipe's name or an Experiment. Received: 5."),
        (
            lambda: tfbig.build(MLP()),
            "recipe: expected a recipe's name or an Experiment. Received: MLP(",
        ),
        (
            lambda: tfbig.recipe("mnist_mlp", {"a": 1}),
            "expected settings as text, such as \"seed=1\". Received: {'a': 1}.",
        ),
        (
            lambda: tfbig.recipe("os:getcwd"),
            "recipe: expected os:getcwd to return an Experiment. Received: '",
        ),
        (
            lambda: tfbig.load(None),
            (
                "run: expected a run directory, as its path or as tfbig.train returns it. Received:"
                " None."
            ),
        ),
        (
            lambda: tfbig.evaluate(5),
            "run: expected a run directory, as its path or as tfbig.train returns it. Received: 5.",
        ),
        (
            lambda: tfbig.batches("x", "test", 4),
            "task: expected a bound task, as tfbig.build and tfbig.load give it. Received: 'x'.",
        ),
        (
            lambda: tfbig.batches(tfbig.recipe("mnist_mlp").task, "test", 4),
            "task: expected a bound task",
        ),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).startswith(message)
    assert Run.open(run) is run and tfbig.recipe(run.experiment, "seed=3").seed == 3


def test_values_from_python_are_checked():
    base = tfbig.recipe("mnist_mlp")
    wrong = dataclasses.replace(
        base,
        train=Train(batch_size="64", length="x"),
        optim=Optim(learning_rate=float("nan")),
        seed=True,
    )
    with pytest.raises(UserError) as caught:
        config.validate(wrong)
    text = str(caught.value)
    assert "train.batch_size: expected a whole number. Received: '64'." in text
    assert (
        "optim.learning_rate: expected a finite number" in text
        and "seed: expected a whole number. Received: True." in text
    )


def test_saved_configuration():
    saved = config.to_json(tfbig.recipe("mnist_mlp"))
    del saved["train"]["ema"]  # written before the setting existed
    assert config.from_json(saved) == tfbig.recipe("mnist_mlp")
    saved["train"]["bach_size"] = 3
    with pytest.raises(
        UserError, match="train.bach_size: no such setting. Did you mean batch_size?"
    ):
        config.from_json(saved)


def test_names_and_neighbours():
    with pytest.raises(UserError, match="Did you mean mnist_mlp?"):
        registry.recipe("mnist_mpl")
    assert set(registry.doors()) >= {"train", "evaluate", "predict"}


def test_own_component(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(
        "from dataclasses import dataclass\nfrom tfbig.core.component import knob\n"
        "from tfbig.core.contracts import Model\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Net(Model):\n"
        "    width: int = knob(3,"
        " 'width', low=1)\ndef mine():\n    import tfbig, dataclasses\n    return"
        " dataclasses.replace(tfbig.recipe('mnist_mlp'), model=Net(width=4))\n"
    )
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "net.py").write_text((tmp_path / "my_net.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    made = config.override(tfbig.recipe("mnist_mlp"), ["model=pack.net", "model.width=5"])
    assert made.model.width == 5 and config.from_json(config.to_json(made)) == made
    assert registry.recipe("my_net:mine").model.width == 4
    with pytest.raises(UserError, match="has no function 'other'"):
        registry.recipe("my_net:other")


def test_durations():
    assert duration.to_steps("2ep", epoch=10.5) == 21
    assert duration.to_steps("20_000", epoch=1) == 20_000
    assert duration.to_steps("5%", epoch=1, length=200) == 10
    for wrong in ("", "ep", "-1ep", "1.5", "10 ep", "1e3", "５ep x"):
        with pytest.raises(ValueError, match="expected|whole"):
            duration.parse(wrong)


def test_names_that_are_not_utf_8(tmp_path):
    """A file's name in JSON comes back the same; a page shows it all the same."""
    name = os.fsdecode(b"caf\xe9.png")
    files.write_json(tmp_path / "a.json", {"é": name})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"é": name}
    files.write_json(tmp_path / "a.json", {"é": "é"})
    assert '"é"' in (tmp_path / "a.json").read_text("utf-8")
    files.write_atomic(tmp_path / "a.html", f"<p>é {name}</p>")
    assert (tmp_path / "a.html").read_text("utf-8") == r"<p>é caf\udce9.png</p>"


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "a", tfbig.recipe("mnist_mlp"))


def test_run_directory(run, tmp_path, monkeypatch):
    assert Run.open(run.path).experiment == tfbig.recipe("mnist_mlp")
    assert run.read_json("env.json")["python"] and run.read_json("nothing.json") is None
    with pytest.raises(UserError, match="exists already. Continue it with --resume"):
        Run.create(run.path, tfbig.recipe("mnist_mlp"))
    with pytest.raises(UserError, match="does not exist. Did you mean a"):
        Run.open(tmp_path / "aa")
    monkeypatch.chdir(tmp_path)
    names = [Run.create(None, tfbig.recipe("mnist_mlp")).path.name for _ in range(3)]
    assert names == ["mnist_mlp", "mnist_mlp_2", "mnist_mlp_3"]
    (run.path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json: cannot be read as JSON"):
        Run.open(run.path).experiment  # noqa: B018


def test_history(run):
    for step in (1, 2, 3):
        run.log("train", step, {"loss": float("nan") if step == 2 else 1.0 / step})
    run.log("evaluation", 3, {"metrics": {"a": {"value": float("inf")}}})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # torn by a kill
    assert [line["loss"] for line in run.history("train")] == [1.0, None, 1 / 3]
    assert run.history("evaluation")[0]["metrics"]["a"]["value"] is None
    run.truncate_history(2)
    assert [line["step"] for line in run.history()] == [1, 2]


def test_one_trainer_at_a_time(run):
    with (
        run.lock(),
        pytest.raises(UserError, match="is being trained by another process .pid"),
        Run.open(run.path).lock(),
    ):
        pass
    with run.lock():
        pass


def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    files.write_json(path, {"old": 1})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full)
    with pytest.raises(
        RunFailure, match="value.json: could not be written, the disk or quota is full"
    ):
        files.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1} and [p.name for p in tmp_path.iterdir()] == [
        "value.json"
    ]


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RunFailure, UserError])
def test_a_start_that_fails_leaves_no_half_made_run(tmp_path, monkeypatch, existed, error):
    path, logged = tmp_path / "run", []
    if existed:
        path.mkdir()

    def fail(run, *others):
        with run.lock():
            run.write_json("data.json", {})
            for step in logged:
                run.log("train", step, {"loss": 1.0})
            raise error("no more")

    monkeypatch.setattr(job, "train", fail)
    with pytest.raises(error):
        tfbig.train("mnist_mlp", run=path)
    assert path.exists() == existed and not list(tmp_path.rglob("run/*"))
    logged.append(1)
    with pytest.raises(error):
        tfbig.train("mnist_mlp", run=path)
    assert Run.open(path).history("train")[0]["step"] == 1  # something was trained: it stays


def test_a_full_disk_at_the_start_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full)
    with pytest.raises(RunFailure, match=r"Needed: 1\.\d KB; .* are free there.*try again"):
        tfbig.train("mnist_mlp", run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_that_another_process_trains_is_not_taken_back(run):
    with run.lock():
        run.withdraw()
    assert Run.open(run.path).experiment
    run.withdraw()
    assert not run.path.exists()


def test_experiment_needs_its_parts():
    with pytest.raises(TypeError):
        Experiment(name="x")


@pytest.mark.parametrize(("error", "shown"), [(ImportError, b"why\n"), (KeyboardInterrupt, b"")])
def test_what_a_library_says_at_its_start_is_shown_if_it_fails(capfd, error, shown):
    with pytest.raises(error), quiet_start():
        os.write(2, b"why\n")
        raise error
    assert capfd.readouterr().err.encode() == shown


def test_json_knows_no_numbers_that_are_not_finite(tmp_path):
    value = {"loss": float("inf"), "rows": [[1.5, float("nan")], (2, -float("inf"))]}
    files.write_json(tmp_path / "a.json", value)
    expected = {"loss": None, "rows": [[1.5, None], [2, None]]}
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == expected
