"""What people type who come from elsewhere leads to the right name, and the names suggested
exist.
"""

import dataclasses
import importlib
import sys

import pytest

import tfbig
from tfbig import __main__ as program
from tfbig.core import cli, config, registry, words
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.core.run import Run
from tfbig.export import FORMATS
from tfbig.tuning.parameter import KINDS
from tfbig.tuning.settings import Settings

PARTS = {
    kind: [registry.component(kind, name) for name in registry.describe(kind)]
    for kind in registry.KEYS
}


def all_settings():
    """Every setting there is, of any component, of the search, and what is given in the same
    way.
    """
    flat = {*config.flatten(tfbig.recipe("mnist_mlp")), *config.flatten(Settings()), "run"}
    for kind, key in registry.KEYS.items():
        flat |= {
            f"{key}.{field.name}" for part in PARTS[kind] for field in dataclasses.fields(part)
        }
    return flat


def all_options(capsys):
    """The options of every command that does not ask what run they are for, and of what its tasks
    know.
    """
    text = ""
    for name in registry.doors():
        with pytest.raises(SystemExit):
            importlib.import_module(f"tfbig.{name}").main(["--help"])
        text += capsys.readouterr().out
    knobs = [field.name for part in PARTS["tasks"] for field in dataclasses.fields(part.request)]
    return text + "".join(f" --{name.replace('_', '-')} " for name in knobs)


def test_every_name_that_is_suggested_exists(capsys):
    options, settings = all_options(capsys), all_settings()
    for target in words.SETTINGS:
        for text in target.split():
            key = text.partition("=")[0]
            assert key in settings or key in ("--resume", "{value}"), target
    for target in words.OPTIONS:
        assert f"{target} " in options or f"{target}\n" in options, target
    assert set(words.COMMANDS) == set(registry.doors())
    choices = {
        *SPLITS,
        *FORMATS,
        *KINDS,
        *(name for kind in registry.KEYS for name in registry.describe(kind)),
    }
    parts = [part for kind in PARTS.values() for part in kind]
    parts += [
        type(getattr(tfbig.recipe("mnist_mlp"), name)) for name in ("train", "optim", "device")
    ]
    for part in [*parts, type(Settings().tune)]:
        for field in dataclasses.fields(part):
            choices |= set(field.metadata.get("choices") or ())
    assert set(words.VALUES) - choices <= {"latency", "parameters", "size"}  # of tune.objective


def test_no_word_stands_twice_at_one_name():
    for table in (words.SETTINGS, words.UNKNOWN, words.VALUES, words.COMMANDS, words.OPTIONS):
        for target, text in table.items():
            assert len(set(text.split())) == len(text.split()), target
            assert text == text.lower().replace("-", "_") or table is words.COMMANDS, target


@pytest.mark.parametrize(
    ("recipe", "setting", "message"),
    [
        (
            "mnist_mlp",
            "data.path=x",
            "data.path: is a setting of data=image_folder; this experiment has data=mnist.",
        ),
        (
            "mnist_mlp",
            "path=x",
            "data.path is a setting of data=image_folder; this experiment has data=mnist.",
        ),
        (
            "sotu_gpt",
            "data.path=x",
            "data.path: is a setting of data=text_files; this experiment has data=sotu.",
        ),
        (
            "mnist_mlp",
            "model.depth=4",
            "vit; this experiment has model=mlp. Did you mean model.units?",
        ),
        (
            "mnist_mlp",
            "task.prompt=x",
            "is a setting of task=text_generation; this experiment has task=image_classification.",
        ),
        ("mnist_mlp", "lr=0.1", "lr: no such setting. Did you mean optim.learning_rate?"),
        (
            "mnist_mlp",
            "optim.lr=0.1",
            "optim.lr: no such setting. Did you mean optim.learning_rate?",
        ),
        ("mnist_mlp", "LR=0.1", "Did you mean optim.learning_rate?"),
        ("mnist_mlp", "epochs=5", "epochs: no such setting. Did you mean train.length=5ep?"),
        ("mnist_mlp", "max_steps=500", "Did you mean train.length=500?"),
        ("mnist_mlp", "batch_size=32", "Did you mean train.batch_size?"),
        ("mnist_mlp", "per_device_train_batch_size=32", "Did you mean train.batch_size?"),
        ("mnist_mlp", "gradient_accumulation_steps=2", "Did you mean train.accumulate?"),
        ("mnist_mlp", "fp16=true", "Did you mean device.precision=float16?"),
        ("mnist_mlp", "bf16=false", "Did you mean device.precision?"),
        ("mnist_mlp", "warmup_steps=100", "Did you mean optim.warmup=100?"),
        ("mnist_mlp", "warmup_epochs=2", "Did you mean optim.warmup=2ep?"),
        ("mnist_mlp", "weight_decay=0.1", "Did you mean optim.weight_decay?"),
        ("mnist_mlp", "gpus=2", "Did you mean device.strategy=mirrored device.count=2?"),
        (
            "mnist_mlp",
            "device=cuda",
            "device: needs no setting: an accelerator is used where there is one",
        ),
        ("mnist_mlp", "num_workers=4", "num_workers: needs no setting"),
        ("mnist_mlp", "model.layers=3", "model.layers: no such setting. Did you mean model.units?"),
        ("mnist_vit", "model.layers=3", "model.layers: no such setting. Did you mean model.depth?"),
        ("mnist_cnn", "num_layers=3", "Did you mean model.filters?"),
        ("sotu_gpt", "n_head=3", "Did you mean model.heads?"),
        ("sotu_gpt", "hidden_size=3", "Did you mean model.width?"),
        ("sotu_gpt", "max_length=3", "Did you mean data.context?"),
        (
            "mnist_mlp",
            "max_length=3",
            "data.context is a setting of data=sotu, text_files, ",
        ),
        ("mnist_mlp", "dataset=imagenet", "Did you mean data=tfds_images?"),
        ("mnist_mlp", "arch=resnet50", "Did you mean model=cnn?"),
        ("mnist_mlp", "model=transformer", "Did you mean vit?"),
        ("sotu_gpt", "model=transformer", "Did you mean gpt?"),
        ("mnist_mlp", "optim.optimizer=AdamW", "Did you mean adamw?"),
        ("mnist_mlp", "optim.optimizer=adamw_torch", "Did you mean adamw?"),
        ("mnist_mlp", "output_dir=x", "Did you mean run=x?"),
        ("mnist_mlp", "resume_from_checkpoint=x", "Did you mean --resume x?"),
        ("mnist_mlp", "n_trials=3", "Did you mean tune.trials, a setting of python -m tfbig.tune?"),
        ("mnist_mlp", "seed", "expected key=value. Received: 'seed'. Did you mean seed=VALUE?"),
        ("mnist_mlp", "cnn", "Did you mean model=cnn?"),
        ("mnist_mlp", "zzz=1", "zzz: no such setting."),
    ],
)
def test_settings(recipe, setting, message):
    with pytest.raises(UserError) as caught:
        tfbig.recipe(recipe, setting)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_formats_and_splits():
    for word, name in (("tflite", "litert"), ("saved_model", "savedmodel"), ("ONNX", "onnx")):
        with pytest.raises(UserError, match=f"Received: '{word}'. Did you mean {name}?"):
            tfbig.export("runs/a", formats=(word,))
    with pytest.raises(UserError, match="Received: 'val'. Did you mean validation?"):
        tfbig.evaluate("runs/a", split="val")


def test_settings_of_a_search():
    with pytest.raises(
        UserError, match="tune.n_trials: no such setting. Did you mean tune.trials?"
    ):
        config.override(Settings(), ["tune.n_trials=3"])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train mnist_mlp --epochs 5", "--epochs: no such option. Did you mean train.length=5ep?"),
        ("train mnist_mlp --epochs=5", "Did you mean train.length=5ep?"),
        ("train --learning-rate 0.1 mnist_mlp", "Did you mean optim.learning_rate=0.1?"),
        ("train mnist_mlp --batch_size 4", "Did you mean train.batch_size=4?"),
        ("train mnist_mlp --fp16", "Did you mean device.precision=float16?"),
        ("train mnist_mlp --model cnn", "Did you mean model=cnn?"),
        ("train mnist_mlp --output-dir=x", "Did you mean run=x?"),
        ("train --resume-from-checkpoint runs/x", "Did you mean --resume runs/x?"),
        ("train sotu_gpt --n-embd 64", "Did you mean model.width=64?"),
        ("train mnist_mlp --num-workers 4", "--num-workers: needs no setting"),
        ("tune mnist_mlp --n-trials 3", "Did you mean tune.trials"),
        ("tune mnist_mlp optim.learning_rate=loguniform:1e-3..1", "Did you mean log?"),
        ("plan mnist_mlp --gpu a100", "Did you mean --hardware?"),
        ("trian mnist_mlp", "trian: no such command. Did you mean train?"),
        ("fit mnist_mlp", "fit: no such command. Did you mean train?"),
        ("mnist_mlp seed=1", "It is a recipe: tfbig train mnist_mlp seed=1"),
        ("help predict", "tfbig predict --help explains it."),
        ("xyzzy", "Expected one of evaluate, export"),
        ("--json train mnist_mlp", "expected the command first"),
        ("train mnist", "Did you mean mnist_mlp?"),
        ("train mine.py", "A recipe of your own is named mine:FUNCTION."),
    ],
)
def test_commands(capsys, monkeypatch, command, message):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/tfbig"])
    assert program.main(command.split()) == 2
    assert message in capsys.readouterr().err.replace("\n       ", " ")


def test_commands_whose_options_a_run_decides(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/tfbig"])
    run = Run.create(tmp_path / "run", tfbig.recipe("mnist_mlp"))
    assert program.main(["evaluate", str(run.path), "--checkpoint", "5"]) == 2
    assert "Did you mean --step?" in capsys.readouterr().err.replace("\n       ", " ")
    assert program.main(["evaluate", "runs/a", "--checkpoint", "5"]) == 2
    assert "expected a run directory" in capsys.readouterr().err


def test_a_run_where_a_recipe_is_expected(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, file in (("a", "config.json"), ("b", "search.json")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / file).write_text("{}")
    for command, path, again in (
        (
            "train",
            "runs/a",
            "which is a run. Go on with it by python -m tfbig.train --resume runs/a",
        ),
        ("plan", "runs/a", "python -m tfbig.train --resume runs/a"),
        (
            "train",
            "runs/b",
            "which is a search. Go on with it by python -m tfbig.tune --resume runs/b",
        ),
        ("tune", "runs/c", "runs/c, which is no run either."),
    ):
        assert program.main([command, path]) == 2 and again in capsys.readouterr().err
    assert program.main(["runs/a"]) == 2 and "which is a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/usr/bin/tfbig", "tfbig train"),
        ("/lib/tfbig/__main__.py", "python -m tfbig train"),
        ("/lib/tfbig/train.py", "python -m tfbig.train"),
        ("/lib/pytest/__main__.py", "python -m tfbig.train"),
    ],
)
def test_usage_names_the_program_as_it_was_called(monkeypatch, capsys, called, name):
    monkeypatch.setattr(sys, "argv", [called])
    with pytest.raises(SystemExit) as ended:
        program.main(["train", "--help"])
    out = capsys.readouterr().out
    assert ended.value.code in (0, None) and out.startswith(f"usage: {name} [-h]")
    assert f"  {name} mnist_mlp\n" in out and cli.spoken("python -m tfbig.train") == name
    assert (
        program.main(["train"]) == 2
        and f"`{name} --help` shows examples." in capsys.readouterr().err
    )


def test_commands_have_the_exit_codes_of_the_modules(capsys):
    assert program.main(["train", "mnist_mlp", "seed=3", "--print"]) == 0
    assert "* seed=3 (recipe: 0)" in capsys.readouterr().out
    assert program.main(["--version"]) == 0 and capsys.readouterr().out == f"{tfbig.__version__}\n"
    assert program.main([]) == 0 and "\n  train " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        (("mnist_cnn", "data=image_folder"), ["data.path"]),
        (("sotu_gpt", "data=text_files"), ["data.path"]),
        (("gpt2_124m",), ["data.vocabulary_path", "data.path"]),
        (("tang_poems_gpt", "model.depth=3"), ["data.path"]),
        (("mnist_cnn", "data=image_folder", "data.path=nowhere"), []),
    ],
)
def test_settings_are_shown_without_what_must_still_be_given(capsys, settings, needed):
    assert program.main(["train", *settings, "--print"]) == 0
    lines = [
        line.partition("#")[0].split()
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("!")
    ]
    assert [words[1].partition("=")[0] for words in lines if "=" in words[1]] == sorted(
        needed, reverse=True
    )
    assert [words[1] for words in lines if words[1].endswith(":")] == [f"{key}:" for key in needed]
    assert program.main(["train", *settings, "--dry-run"]) == (
        2 if needed or "data.path=nowhere" in settings else 0
    )
    assert all(f"{key}: expected" in capsys.readouterr().err for key in needed[:1])


def test_a_search_is_shown_without_what_must_still_be_given(capsys):
    assert program.main(["tune", "tang_poems_gpt", "model.depth=int:1..3", "--print"]) == 0
    assert "model.depth=int:1..3" in capsys.readouterr().out
    assert program.main(["tune", "tang_poems_gpt", "model.depth=int:1..3"]) == 2
    assert "data.path: expected a file or folder with text" in capsys.readouterr().err
