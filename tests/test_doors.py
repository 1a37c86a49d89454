"""The commands as a user runs them: subprocesses, exit codes, messages, JSON."""

import errno
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfbig
from tfbig import evaluate
from tfbig.core import files
from tfbig.core.errors import PartlyRefused
from tfbig.core.run import Run

pytestmark = pytest.mark.long

SMALL = ("train.length=120", "train.evaluate_every=60", "train.save_every=40")


def start(door, *arguments, environment=(), **options):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TFDS_DATA_DIR": "", **dict(environment)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    name = f"tfbig.{door}" if door else "tfbig"
    return subprocess.Popen(
        [sys.executable, "-m", name, *map(str, arguments)],
        env=environment,
        text=True,
        **{**pipes, **options},
    )


def encoded(form):
    """A picture in the form that Pillow calls so."""
    buffer = io.BytesIO()
    Image.new("L", (28, 28), 99).save(buffer, form)
    return buffer.getvalue()


def call(door, *arguments, code=0, **options):
    process = start(door, *arguments, **options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, f"{out}\n{err}"
    assert "Traceback" not in err and "Traceback" not in out
    return out, err


@pytest.fixture
def ask(capfd):
    """As `call`, in this process: for what is no matter of starting one."""

    def ask(door, *arguments, code=0):
        module = importlib.import_module(f"tfbig.{door or '__main__'}")
        assert module.main([*map(str, arguments)]) == code
        out, err = capfd.readouterr()
        assert "Traceback" not in err and "Traceback" not in out
        return out, err

    return ask


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run made by the command, as JSON."""
    path = tmp_path_factory.mktemp("runs") / "a"
    out, err = call("train", "mnist_mlp", *SMALL, f"run={path}", "--json")
    return path, json.loads(out), err


def test_train(run):
    path, result, err = run
    assert result["run"] == str(path) and result["steps"] == 120 and result["parameters"] == 101_770
    assert result["metrics"]["test"]["count"] == 10_000
    accuracy = result["metrics"]["test"]["metrics"]["accuracy"]
    assert 0.8 < accuracy["low"] < accuracy["value"] < accuracy["high"] < 1
    names = {
        "config.json",
        "env.json",
        "data.json",
        "metrics.jsonl",
        "metrics.json",
        "panels.json",
        "summary.json",
        "report.html",
        "DONE",
    }
    assert names <= {entry.name for entry in path.iterdir()}
    assert "step 120 test: accuracy" in err and f"run: {path}" in err
    for noise in ("WARNING", "oneDNN", "cuda", "I0000", "E0000", "UserWarning"):
        assert noise not in err
    data = json.loads((path / "data.json").read_text())
    assert data["facts"]["measured"] == 50_000 and data["splits"]["train"]["size"] == 55_000


def test_evaluate(run, ask):
    path, result, _ = run
    out, err = call("evaluate", path, "--json")
    # The same checkpoint gives the same numbers
    assert json.loads(out) == result["metrics"]["test"]
    out, _ = ask("evaluate", path, "--split", "validation", "--step", "last", "--json")
    assert json.loads(out)["count"] == 5_000 and json.loads(out)["step"] == 120
    assert set(json.loads((path / "metrics.json").read_text())) == {"test", "validation"}


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_figures_that_cannot_be_saved_are_given_all_the_same(run, monkeypatch, capfd, number):
    path, result, _ = run
    before = (path / "metrics.json").read_bytes()

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "write_synced", fail)
    assert evaluate.main([str(path), "--step", "last", "--json"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert (
        found["step"] == 120
        and found["count"] == 10_000
        and found["metrics"].keys() == result["metrics"]["test"]["metrics"].keys()
    )
    assert (
        "metrics.json: could not be written" in found["not_saved"]
        and f"not saved: {found['not_saved']}" in err
    )
    assert (path / "metrics.json").read_bytes() == before


def test_predict(run, tmp_path, ask):
    path, _, _ = run
    test = tfbig.recipe("mnist_mlp").data.examples("test", np.arange(40))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(test["image"][i, ..., 0]).save(folder / f"{i:02d}.png")
    np.save(folder / "more.npy", test["image"][20:, ..., 0])
    Image.fromarray(test["image"][0, ..., 0]).convert("RGB").resize((56, 56)).save(
        tmp_path / "large.jpg"
    )
    (folder / "notes.txt").touch()
    out, err = ask("predict", path, folder, tmp_path / "large.jpg", "--top", "3", "--json")
    found = json.loads(out)["predictions"]
    assert err.count(f"{folder}: 1 of 22 files left out, being no pictures, such as notes.txt") == 1
    assert (
        len(found) == 41
        and found[0]["input"].endswith("00.png")
        and found[20]["input"].endswith("more.npy[0]")
    )
    assert (
        np.mean(
            [int(p["label"]) == label for p, label in zip(found[:40], test["label"], strict=True)]
        )
        > 0.8
    )
    assert all(
        p["top"][0][1] == p["probability"] >= p["top"][1][1] and len(p["top"]) == 3 for p in found
    )
    assert found[40]["label"] == str(test["label"][0])
    strange = folder / os.fsdecode(b"caf\xe9.png")
    shutil.copy(folder / "00.png", strange)
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    (given,) = json.loads(ask("predict", path, strange, "--json")[0])["predictions"]
    assert given["input"] == str(strange)
    with (folder / "03.png").open("rb") as file:
        out, _ = call("predict", path, strange, "-", stdin=file, environment=strict)
    first, second = out.splitlines()
    assert "caf\\udce9.png: " in first and second.startswith(f"-: {found[3]['label']} ")
    for asked in (strange, "x" * 5000):
        assert (
            "nope, which does not exist"
            in call("predict", path.with_name("nope"), asked, "--top", "3", code=2)[1]
        )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("torn.png", None, "torn.png: is no picture that can be read"),
        (
            "empty.jpg",
            b"",
            (
                "empty.jpg: is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy."
                " Found: it is empty"
            ),
        ),
        (
            "text.png",
            b"hello",
            (
                "text.png: is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy."
                " Found: Unknown image file format: expected JPEG, PNG, GIF or BMP"
            ),
        ),
        (
            "huge.png",
            Image.new("1", (20_000, 9_000)),
            (
                "huge.png: is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy."
                " Found: more than 67,108,864 pixels"
            ),
        ),
        (
            "large.png",
            Image.new("1", (9_000, 8_000)),
            (
                "large.png: is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy."
                " Found: more than 67,108,864 pixels"
            ),
        ),
        (
            "webp.png",
            encoded("WEBP"),
            (
                "webp.png: is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy."
                " Found: Unknown image file format: expected JPEG, PNG, GIF or BMP"
            ),
        ),
        ("short.npy", b"\x93NUMPY\x01\x00v\x00{", "short.npy: is no whole .npy file"),
        ("open.npy", b"\x93NUMPY\x01\x00\x0a\x00((((((((((", "open.npy: is no whole .npy file"),
        (
            "vast.npy",
            (
                b"\x93NUMPY\x01\x00\x49\x00{'descr': '|u1', 'fortran_order': False, 'shape':"
                b" (1000000000000000,)}  \n"
            ),
            "vast.npy: is no whole .npy file",
        ),
        (
            "float.npy",
            np.zeros((2, 28, 28), np.float32),
            (
                "expected uint8 [n, 28, 28, 1] with at least one picture. Received: float32 [2,"
                " 28, 28]"
            ),
        ),
        ("shape.npy", np.zeros((2, 30, 28), np.uint8), "Received: uint8 [2, 30, 28]"),
        ("object.npy", np.array([{}], dtype=object), "object.npy: is no whole .npy file"),
    ],
)
def test_predict_refuses(run, tmp_path, name, content, message, capsys):
    from tfbig import predict

    path = tmp_path / name
    if content is None:
        Image.fromarray(np.random.RandomState(0).randint(0, 256, (28, 28), dtype=np.uint8)).save(
            path
        )
        path.write_bytes(path.read_bytes()[:400])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Image.Image):
        content.save(path)
    else:
        np.save(path, content, allow_pickle=True)
    assert predict.main([str(run[0]), str(path)]) == 2
    assert message in capsys.readouterr().err


def test_predict_goes_on_behind_a_broken_picture(run, tmp_path, ask):
    digits = tfbig.recipe("mnist_mlp").data.examples("test", np.arange(3))["image"][..., 0]
    for i, digit in enumerate(digits):
        Image.fromarray(digit).save(tmp_path / f"{i}.png")
    whole = tfbig.predict(run[0], digits[..., None])
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    (tmp_path / "9.png").write_bytes(b"")
    out, err = ask("predict", run[0], tmp_path, code=2)
    assert [line.partition(": ")[0] for line in out.splitlines()] == [
        str(tmp_path / "0.png"),
        str(tmp_path / "2.png"),
    ]
    assert "error: 2 of the files cannot be used; of the others, 2 predictions were made." in err
    assert (
        f"{tmp_path / '1.png'}: is no picture" in err
        and f"{tmp_path / '9.png'}: is no picture" in err
        and "Traceback" not in err
    )
    found = json.loads(ask("predict", run[0], tmp_path, "--json", code=2)[0])
    assert [p["label"] for p in found["predictions"]] == [
        whole[0]["label"],
        whole[2]["label"],
    ] and found["kind"] == "PartlyRefused"
    assert [entry["input"] for entry in found["errors"]] == [
        str(tmp_path / "1.png"),
        str(tmp_path / "9.png"),
    ]
    assert "is no picture that can be read" in found["errors"][0]["error"]
    for name in ("0.png", "2.png"):
        (tmp_path / name).unlink()
    with pytest.raises(PartlyRefused, match="2 of the files cannot be used") as caught:
        tfbig.predict(run[0], [tmp_path])
    assert caught.value.predictions == [] and len(caught.value.errors) == 2


def test_a_transparent_digit_is_read_on_black(run, tmp_path):
    """White ink on nothing, as drawing programs save it.

    What is hidden under the nothing is white, too.
    """
    digit = tfbig.recipe("mnist_mlp").data.examples("test", np.arange(1))["image"]
    white = Image.new("L", (28, 28), 255)
    Image.merge("LA", (white, Image.fromarray(digit[0, ..., 0]))).save(tmp_path / "digit.png")
    (drawn,), (known,) = tfbig.predict(run[0], tmp_path / "digit.png"), tfbig.predict(run[0], digit)
    assert (
        drawn["probability"] == pytest.approx(known["probability"])
        and drawn["label"] == known["label"]
    )


@pytest.mark.parametrize(
    ("door", "arguments", "message"),
    [
        ("train", ["mnist_mpl"], "Did you mean mnist_mlp?"),
        ("train", ["mnist_mlp", "optim.lerning_rate=1"], "Did you mean optim.learning_rate?"),
        ("train", ["mnist_mlp", "--dryrun"], "--dryrun: no such option. Did you mean --dry-run?"),
        ("train", [], "expected a recipe"),
        ("train", ["--resume", "nowhere"], "Received: nowhere, which does not exist"),
        ("evaluate", ["nowhere"], "Received: nowhere, which does not exist"),
        ("evaluate", [], "the following arguments are required: run"),
        ("predict", ["nowhere", "x.png"], "Received: nowhere"),
        ("tune", ["mnist_mpl"], "Did you mean mnist_mlp?"),
        (
            "tune",
            ["mnist_mlp", "optim.lerning_rate=log:1e-4..1e-1"],
            "Did you mean optim.learning_rate?",
        ),
        (
            "tune",
            ["mnist_mlp", "model.units=in:0,64"],
            "model.units: expected at least 1. Received: 0.",
        ),
        ("tune", ["mnist_mlp", "tune.trails=3"], "Did you mean tune.trials?"),
        ("tune", ["mnist_lstm"], "expected at least one setting to search"),
        ("tune", ["--resume", "nowhere"], "Received: nowhere, which does not exist"),
        ("", ["trian"], "Did you mean train?"),
    ],
)
def test_mistakes_are_quick_and_clear(door, arguments, message, ask):
    out, err = ask(door, *arguments, code=2)
    assert message in err and not out and err.startswith("error: ")
    out, err = call(
        door, *arguments, "--json", code=2, environment={"PYTHONPROFILEIMPORTTIME": "1"}
    )
    assert json.loads(out)["kind"] == "UserError"
    # Quick, since nothing heavy is imported
    assert "argparse" in err and "tensorflow" not in err and "numpy" not in err


@pytest.fixture(scope="module")
def unusable(run, tmp_path_factory):
    """Copies of the run: one that cannot be written, one whose pictures are gone."""
    folder = tmp_path_factory.mktemp("unusable")
    for name in ("closed", "gone"):
        shutil.copytree(run[0], folder / name)
    (folder / "closed" / ".lock").unlink()
    (folder / "closed" / ".lock").mkdir()
    shutil.rmtree(folder / "gone" / "checkpoints")  # which are of other data
    Run(folder / "gone").write_config(
        tfbig.recipe("mnist_mlp", *SMALL, "data=image_folder", "data.path=nowhere")
    )
    return folder


@pytest.mark.parametrize(
    ("door", "arguments", "code", "message"),
    [
        ("predict", ["{run}", "missing.png"], 2, "missing.png: no such file or folder"),
        ("predict", ["{run}", "{run}/checkpoints"], 2, "holds no picture"),
        ("evaluate", ["{run}", "--step", "7"], 2, "expected best, last or one of"),
        ("evaluate", ["{unusable}/gone"], 2, "data.path: expected a folder of pictures"),
        ("export", ["{unusable}/gone", "model"], 2, "data.path: expected a folder of pictures"),
        ("train", ["--resume", "{unusable}/gone"], 2, "data.path: expected a folder of pictures"),
        (
            "train",
            ["--resume", "{unusable}/closed", "train.length=130"],
            1,
            ".lock: could not be written",
        ),
        ("train", ["cifar10_cnn"], 2, "TFDS_DATA_DIR: expected a folder of prepared datasets"),
        (
            "train",
            ["cifar10_cnn", "--dry-run"],
            2,
            "TFDS_DATA_DIR: expected a folder of prepared datasets",
        ),
        ("plan", ["cifar10_cnn"], 2, "TFDS_DATA_DIR: expected a folder of prepared datasets"),
        (
            "plan",
            ["sotu_gpt", "data=text_files", "data.path=nowhere"],
            2,
            "data.path: expected a file or folder",
        ),
    ],
)
def test_what_cannot_work_is_said_before_tensorflow_is_imported(
    run, unusable, tmp_path, door, arguments, code, message
):
    words = [word.format(run=run[0], unusable=unusable) for word in arguments]
    _, err = call(
        door,
        *words,
        code=code,
        cwd=tmp_path,
        environment={"PYTHONPROFILEIMPORTTIME": "1", "TFDS_DATA_DIR": "nowhere"},
    )
    assert (
        message in err
        and "argparse" in err
        and not re.search(r"\| +(tensorflow|keras)$", err, re.MULTILINE)
    )
    assert not list(tmp_path.iterdir())


DOORS = ("train", "evaluate", "predict", "tune", "export", "plan", "serve", "launch")


@pytest.mark.parametrize("door", ["", *DOORS])
def test_help(door):
    out, err = call(door, "--help")
    assert f"examples:\n  python -m tfbig{door and '.'}{door} " in out
    assert "--json" in out and not err
    assert not re.search(" $", out.partition("examples:")[2], re.MULTILINE)


def test_map():
    out, _ = call("")
    assert all(
        word in out
        for word in (
            "run as tfbig COMMAND",
            "\n  train ",
            "mnist_mlp",
            "image_classification",
            "vit",
            "cifar10",
        )
    )
    found = json.loads(call("", "--json")[0])
    assert "mnist_vit" in found["recipes"] and "python -m tfbig.train" in found["commands"]


def test_print_and_dry_run(tmp_path, monkeypatch, ask):
    monkeypatch.chdir(tmp_path)
    out, _ = ask("train", "mnist_mlp", "seed=3", "--print")
    assert "* seed=3 (recipe: 0)" in out
    out, err = ask("train", "mnist_mlp", "train.batch_size=70_000", "--dry-run")
    assert "a batch of 70,000 holds the" in err and "training examples more than once" in err
    out, _ = ask("train", "mnist_mlp", "--dry-run", "--json")
    found = json.loads(out)
    assert found["parameters"] == 101_770 and found["forward_flops_per_example"] == 2 * (
        784 * 128 + 128 * 10
    )
    assert found["steps"] == 8594 and 1 < found["first_loss"] < 4 and not list(tmp_path.iterdir())


def test_tune_prints_its_space(tmp_path):
    out, _ = call(
        "tune", "mnist_mlp", "tune.trials=3", "optim.optimizer=sgd", "--print", cwd=tmp_path
    )
    assert "* tune.trials=3 " in out
    assert (
        "model.dropout=lin:0.0..0.5" in out
        and "optim.optimizer=sgd  # fixed" in out
        and not list(tmp_path.iterdir())
    )
    found = json.loads(
        call(
            "tune",
            "mnist_mlp",
            "model=in:mlp,cnn",
            "mlp.units=in:64,[64,32]",
            "--print",
            "--json",
            cwd=tmp_path,
        )[0]
    )
    assert found["space"] == ["model=in:mlp,cnn", "mlp.units=in:64,[64,32]"]


def test_wrong_use_of_a_run(run, ask):
    path = run[0]
    assert "exists already" in ask("train", "mnist_mlp", f"run={path}", code=2)[1]
    assert (
        "cannot change in a run that goes on" in ask("train", "--resume", path, "seed=2", code=2)[1]
    )
    assert "expected best, last or one of" in ask("evaluate", path, "--step", "7", code=2)[1]
    assert (
        "expected one of train, validation, test"
        in ask("evaluate", path, "--split", "tset", code=2)[1]
    )


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_say_how_to_go_on(tmp_path, signum, code):
    path = tmp_path / "run"
    process = start(
        "train", "mnist_mlp", "train.length=200_000", "train.evaluate_every=300", f"run={path}"
    )
    log = path / "metrics.jsonl"
    for _ in range(600):
        if log.exists() and log.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"python -m tfbig.train --resume {path}" in err and "Traceback" not in err
    assert (
        any(entry.name.isdigit() for entry in Path(path, "checkpoints").iterdir())
        and not (path / "DONE").exists()
    )


def test_sigterm_before_training_takes_the_run_back(tmp_path):
    path = tmp_path / "run"
    process = start("train", "mnist_mlp", f"run={path}", "--json")
    while not (path / "env.json").exists():  # written before TensorFlow is imported
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert (
        process.returncode == 143
        and json.loads(out)["error"] == "stopped by SIGTERM"
        and "Traceback" not in err
    )
    assert not path.exists()


def test_a_longer_schedule_is_told(tmp_path, ask):
    settings = (
        "optim.schedule=cosine",
        "train.length=4",
        "train.final_split=none",
        f"run={tmp_path / 'a'}",
    )
    ask("train", "mnist_mlp", *settings)
    _, err = ask("train", "--resume", tmp_path / "a", "train.length=6")
    assert "train.length: warm-up and schedule are now those of the new length" in err
    _, err = ask("train", "--resume", tmp_path / "a", "train.length=6")
    assert "train.length" not in err


def test_loss_not_finite(tmp_path, ask):
    path = tmp_path / "run"
    settings = (
        "optim.learning_rate=1e18",
        "train.length=200",
        "train.evaluate_every=1",
        "optim.schedule=step",
        "optim.warmup=150",
    )
    out, err = ask("train", "mnist_mlp", *settings, f"run={path}", "--json", code=1)
    assert json.loads(out)["kind"] == "NonFinite" and "error: step " in err
    assert not (path / "DONE").exists()


def test_a_mistake_found_late_leaves_no_run(tmp_path):
    path = tmp_path / "run"
    _, err = call(
        "train", "mnist_mlp", "data=image_folder", "data.path=nowhere", f"run={path}", code=2
    )
    assert (
        "data.path: expected a folder of pictures. Received: nowhere" in err and not path.exists()
    )


def test_using_a_run_does_not_need_its_data(tmp_path, ask):
    for label in ("cat", "dog"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(np.full((9, 9, 3), 20 * i + (label == "dog"), np.uint8)).save(
                tmp_path / "mine" / label / f"{i}.png"
            )
    small = (
        "data.side=16",
        "task.crop_padding=2",
        "model.filters=4,8",
        "train.length=4",
        "train.batch_size=4",
    )
    ask(
        "train", "own_pictures", f"data.path={tmp_path / 'mine'}", *small, f"run={tmp_path / 'run'}"
    )
    (tmp_path / "mine" / "cat" / "3.png").rename(tmp_path / "kept.png")
    (tmp_path / "mine").rename(tmp_path / "gone")
    out, _ = ask("predict", tmp_path / "run", tmp_path / "kept.png", "--json")
    assert json.loads(out)["predictions"][0]["label"] in ("cat", "dog")
    assert (
        "data.path: expected a folder of pictures" in ask("evaluate", tmp_path / "run", code=2)[1]
    )
    (tmp_path / "gone").rename(tmp_path / "mine")  # one picture short of what it was
    exported = ("export", [tmp_path / "run", tmp_path / "model"])
    for door, arguments in (
        ("evaluate", [tmp_path / "run"]),
        ("train", ["--resume", tmp_path / "run", "train.length=8"]),
        exported,
    ):
        assert "data: it has changed since" in ask(door, *arguments, code=2)[1]


def test_resume_keeps_the_record_and_refuses_to_go_back(tmp_path, ask):
    path = tmp_path / "a run"
    ask(
        "train",
        "mnist_mlp",
        "seed=3",
        "train.length=20",
        "train.evaluate_every=10",
        "data.validation=500",
        f"run={path}",
    )
    ask("train", "--resume", path, "train.length=30")
    changed = json.loads((path / "config.json").read_text())["changed"]
    assert changed["seed"] == ["0", "3"] and changed["train.length"] == ["10ep", "30"]
    assert (
        "train.length: expected at least the 30 steps"
        in ask("train", "--resume", path, "train.length=10", code=2)[1]
    )
    # Settings may stand behind options
    out, _ = ask("train", "mnist_mlp", "--json", "--print", "seed=4")
    assert json.loads(out)["seed"] == 4
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert (
        "something else is there"
        in ask("train", "mnist_mlp", f"run={tmp_path / 'link'}", code=2)[1]
    )
    assert (
        "expected a divisor of the picture's size"
        in ask("train", "mnist_vit", "model.patch=5", f"run={tmp_path / 'v'}", code=2)[1]
    )
    assert not (tmp_path / "v").exists()
