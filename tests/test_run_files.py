"""What a run directory holds is looked at before it is used, from any folder.

Settings, versions, files changed by hand.
"""

import importlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import tfbig
from tfbig.core import config
from tfbig.core import run as run_directory
from tfbig.core.errors import UserError
from tfbig.core.run import Run
from tfbig.data.image_folder import ImageFolder
from tfbig.engine import checkpoint, job, processes, results

SIZES = (
    "data.side=8",
    "data.channels=1",
    "model.units=4",
    "train.batch_size=6",
    "train.evaluate_every=2",
    "train.length=4",
    "device.block=2",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run on pictures whose path was given relative to another folder than the
    tests'.
    """
    home, dice = tmp_path_factory.mktemp("home"), np.random.RandomState(0)
    for name in "ab":
        (home / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(dice.randint(0, 255, (8, 8), np.uint8)).save(
                home / "pictures" / name / f"{i:02d}.png"
            )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        tfbig.train("mnist_mlp", "data=image_folder", "data.path=pictures", *SIZES, run="run")
    return home / "run"


@pytest.fixture
def run(made, tmp_path):
    """A copy of it."""
    return Run.open(shutil.copytree(made, tmp_path / "run"))


def edit(path, change):
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))


def test_a_run_is_used_from_any_folder(run, made):
    data = run.experiment.data
    assert (
        data.path == str(made.parent / "pictures")
        and run.read_json("config.json")["changed"]["data.path"][1] == data.path
    )
    assert tfbig.evaluate(run)["count"] == 4
    assert tfbig.train(None, "train.length=6", resume=run).is_done


def test_paths_that_lead_nowhere_or_elsewhere_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").touch()
    text = (
        "data=text_files",
        "data.path=~/a.txt",
        "data.tokenizer=ready",
        "data.vocabulary_path=none.model",
        "init=hub:gpt2",
    )
    kept = config.absolute(tfbig.recipe("sotu_gpt", *text))
    assert (kept.data.path, kept.data.vocabulary_path, kept.init) == (
        str(tmp_path / "a.txt"),
        "none.model",
        "hub:gpt2",
    )
    there = config.absolute(
        tfbig.recipe("sotu_gpt", *text[:3], "data.vocabulary_path=a.txt", "init=.")
    )
    assert (there.data.vocabulary_path, there.init) == (str(tmp_path / "a.txt"), f"{tmp_path}/.")
    assert config.absolute(there) == there
    assert config.lasting(there) == config.lasting(kept) and "init" not in config.lasting(there)


def test_settings_changed_by_hand_are_refused(run, monkeypatch):
    """Once, before any process is started for it."""

    def change(saved):
        saved["experiment"]["device"].update(strategy="mirrored", count=2)
        saved["experiment"]["model"]["units"] = [5, 3]
        saved["experiment"]["train"].update(batch_size=3, length="6")  # the length may change

    edit(run.path / "config.json", change)
    monkeypatch.setattr(processes, "run_workers", None)
    for use in (
        lambda: tfbig.train(resume=run.path),
        lambda: tfbig.load(run.path),
        lambda: tfbig.evaluate(run.path),
        lambda: tfbig.export(run.path),
    ):
        with pytest.raises(UserError) as caught:
            use()
        first, *lines = str(caught.value).splitlines()
        assert (
            "000000004: was made with other settings than config.json has. Set them back there"
            in first
        )
        assert lines == [
            "model.units: 4 in the checkpoint, 5,3 in config.json",
            "train.batch_size: 6 in the checkpoint, 3 in config.json",
        ]
    assert run.is_done


def test_data_that_is_not_what_it_was(run):
    """Neither what was told by less of it, nor what is split another way, is taken for the same."""

    def refused(message, change):
        path = run.path / "data.json"
        before = path.read_text()
        edit(path, change)
        with pytest.raises(UserError, match=message):
            tfbig.evaluate(run)
        path.write_text(before)

    refused(
        "started with a version of this package that looked at it otherwise",
        lambda saved: saved.update(fingerprint="0" * 64),
    )
    refused(
        "it has changed since",
        lambda saved: saved.update(
            fingerprint=f"{saved['fingerprint'].partition(':')[0]}:{'0' * 64}"
        ),
    )
    refused(
        r"its train split had 99 examples when .* was started, and has \d+ now",
        lambda saved: saved["splits"]["train"].update(size=99),
    )


def test_checkpoints_that_do_not_know_their_settings_go_on(run):
    for folder in run.checkpoints.iterdir():

        def forget(state):
            del state["settings"], state["tfbig"], state["digest"]
            state["digest"] = checkpoint._digest(state)

        edit(folder / "state.json", forget)
    edit(
        run.path / "config.json",
        lambda saved: saved["experiment"]["train"].update(ema=None, batch_size=4),
    )
    assert tfbig.train(None, "train.length=6", resume=run.path).is_done


def test_versions_are_told(run, monkeypatch, capsys):
    version = tfbig.__version__
    monkeypatch.setattr(tfbig, "__version__", "9.9")
    (run.path / "DONE").unlink()
    tfbig.train(resume=run.path)
    assert capsys.readouterr().err.count(f"started with tfbig {version}, goes on with 9.9\n") == 1
    edit(run.path / "config.json", lambda saved: saved["experiment"]["optim"].update(other=1))
    with pytest.raises(
        UserError,
        match=(
            rf"config.json: cannot be used, it was written by tfbig {version} and this is tfbig"
            r" 9.9:\noptim.other: no such setting."
        ),
    ):
        Run.open(run.path).experiment  # noqa: B018
    monkeypatch.undo()
    with pytest.raises(UserError, match="config.json: cannot be used:\noptim.other"):
        Run.open(run.path).experiment  # noqa: B018


def test_a_finished_run_is_left_as_it_is(run, monkeypatch, capsys):
    """It says so at once; what has to be looked at again, such as a longer training, reads no test
    split that was read.
    """
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(job, "train", None)
        assert (
            tfbig.train(resume=run.path).path
            == tfbig.train(None, "train.length=4", resume=run.path).path
            == run.path
        )
    assert (
        "run is finished: train.length=4 is reached, its metrics are in metrics.json.\n"
        "To go on: python -m tfbig.train --resume" in capsys.readouterr().err
    )
    assert before == {path: path.read_bytes() for path in before}
    (run.path / "summary.json").unlink()  # made again
    read, real = [], results.evaluate_split
    monkeypatch.setattr(
        results, "evaluate_split", lambda *given: read.append(given[2]) or real(*given)
    )
    assert tfbig.train(resume=run.path).read_json("summary.json")["steps"] == 4 and not read
    assert "nothing was left to train" in capsys.readouterr().err
    tfbig.train(None, "train.final_split=validation", resume=run.path)
    assert read == ["validation"] and set(run.read_json("metrics.json")) == {"test", "validation"}


@pytest.mark.parametrize("option", ["--print", "--dry-run"])
def test_a_look_at_a_run_refuses_what_going_on_with_it_would(run, option):
    with pytest.raises(UserError, match="seed: cannot change in a run that goes on"):
        importlib.import_module("tfbig.train").door(["--resume", str(run.path), option, "seed=4"])
    shorter = ["--resume", str(run.path), option, "train.length=1"]
    with pytest.raises(UserError, match="train.length: expected at least the . steps that"):
        importlib.import_module("tfbig.train").door(shorter)


def test_a_look_says_what_settings_are_compared_with(run, capsys):
    doors = {name: importlib.import_module(f"tfbig.{name}").door for name in ("train", "tune")}
    doors["train"](["--resume", str(run.path), "train.length=9", "--print"])
    assert "* train.length=9 (run: 4)" in capsys.readouterr().out
    doors["tune"](["mnist_mlp", "tune.seeds=2", "model.units=in:8,16", "--print"])
    assert "* tune.seeds=2 (default: 3)" in capsys.readouterr().out


def test_a_training_begins_with_what_it_is_made_of(run, monkeypatch, capsys):
    monkeypatch.setattr(ImageFolder, "notes", lambda self: ["3 pictures were left out"])
    (run.path / "data.json").unlink()
    tfbig.train(None, "train.length=6", resume=run.path)
    said = capsys.readouterr().err.splitlines()
    begun = said.index("examples: 32 train, 4 validation, 4 test; 2 classes")
    assert said[begun + 1 : begun + 3] == [
        "training: 6 steps of 6 examples, 1.12 epochs; evaluated every 2 steps",
        "3 pictures were left out",
    ]
    assert run.read_json("data.json")["notes"] == ["3 pictures were left out"]


def test_of_two_that_start_in_one_new_directory_one_gets_it(tmp_path, monkeypatch):
    """Both have seen that it is not there; the second finds the other's settings, and they stay."""
    path, experiments = (
        tmp_path / "run",
        [tfbig.recipe("mnist_mlp", f"seed={seed}") for seed in (1, 2)],
    )
    write = Run.write_config

    def meanwhile(self, *given):
        monkeypatch.setattr(Run, "write_config", write)
        with pytest.raises(UserError, match="run: is being trained by another process"):
            Run.create(path, experiments[1])
        self.write_config(*given)

    monkeypatch.setattr(Run, "write_config", meanwhile)
    assert Run.create(path, experiments[0]).experiment.seed == 1
    with monkeypatch.context() as patch:
        look, answers = run_directory._refuse_taken, [None]  # the first: as it was a moment ago
        patch.setattr(
            run_directory, "_refuse_taken", lambda path: answers.pop() if answers else look(path)
        )
        with pytest.raises(UserError, match="exists already. Continue it with --resume"):
            Run.create(path, experiments[1])
    assert (
        Run.open(path).experiment.seed == 1
        and Run.open(path).read_json("env.json")["tfbig"] == tfbig.__version__
    )


RESUME, EVALUATE, PREDICT = ("train", "--resume"), ("evaluate",), ("predict",)
ALL = (RESUME, EVALUATE, PREDICT)
AGAIN = "Remove it: python -m tfbig.train --resume RUN measures the data again."


def setting(**values):
    return lambda saved: saved["experiment"].update(values)


DAMAGE = [  # file, its content or what is done to it, the message, the commands that refuse it
    ("data.json", {}, f"data.json: expected a value of 'card'. Received: none. {AGAIN}", ALL),
    ("data.json", [], f"data.json: expected an object. Received: []. {AGAIN}", ALL),
    (
        "config.json",
        lambda saved: saved.update(changed="x"),
        "config.json: changed: expected an object. Received: 'x'. Bring",
        ALL,
    ),
    (
        "config.json",
        setting(optim=None),
        (
            "config.json: cannot be used:\noptim: expected an object with its settings. Received:"
            " None."
        ),
        ALL,
    ),
    (
        "config.json",
        setting(model="cnn"),
        (
            "config.json: cannot be used:\nmodel: expected an object with its settings. Received:"
            " 'cnn'."
        ),
        ALL,
    ),
    (
        "config.json",
        setting(train=5),
        "config.json: cannot be used:\ntrain: expected an object with its settings. Received: 5.",
        ALL,
    ),
    (
        "skipped.json",
        {"train": {"x": "a"}},
        "skipped.json: train: expected whole numbers as keys. Received: 'x'. Remove it",
        ALL,
    ),
    (
        "skipped.json",
        {"train": {"1": 1}},
        "skipped.json: train: 1: expected text. Received: 1. Remove it",
        ALL,
    ),
    (
        "metrics.json",
        [],
        "metrics.json: expected an object. Received: []. Remove it: python -m tfbig.evaluate RUN",
        (RESUME, EVALUATE),
    ),
    (
        "metrics.jsonl",
        (
            b'{"kind": "train", "step": "x"}\n{"kind": "evaluation", "step": 2}\n{"kind": "train",'
            b' "step": 1}\n5\n'
        ),
        "",
        (),
    ),
    ("summary.json", 5, "", ()),
    ("panels.json", {"a": 1}, "", ()),
]


@pytest.mark.parametrize("command", ALL, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("name", "content", "message", "needed"),
    DAMAGE,
    ids=[f"{row[0]}_{number}" for number, row in enumerate(DAMAGE)],
)
def test_files_changed_by_hand(run, made, capsys, command, name, content, message, needed):
    path = run.path / name
    if callable(content):
        edit(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    picture = [str(made.parent / "pictures" / "a" / "00.png")] if command == PREDICT else []
    code = importlib.import_module(f"tfbig.{command[0]}").main(
        [*command[1:], str(run.path), *picture]
    )
    said = capsys.readouterr().err
    assert "Traceback" not in said and code == (2 if command in needed else 0), said
    if command in needed:
        assert message.replace("RUN", str(run.path)) in "\n".join(
            line[7:] for line in said.splitlines() if line[:7] in ("error: ", " " * 7)
        )


@pytest.mark.parametrize("name", ["config.json", "data.json", "metrics.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run, name):
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    with pytest.raises(UserError, match=f"{name}: cannot be read: expected a plain file"):
        run.read_json(name)
