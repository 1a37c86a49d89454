"""What the README says is there: its commands run as they are written, on small experiments."""

import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from searches import plan_as_mlp, pretend, silent
from serving import Server

import tfbig
from tfbig import __main__ as tfbig_command
from tfbig import train
from tfbig.core import registry
from tfbig.core.experiment import Train
from tfbig.data.bricks import Bricks
from tfbig.data.detection_folder import DetectionFolder
from tfbig.data.image_folder import ImageFolder
from tfbig.data.parallel_text import ParallelText
from tfbig.data.speech_folder import SpeechFolder
from tfbig.data.text_files import TextFiles
from tfbig.data.video_folder import VideoFolder
from tfbig.engine import processes
from tfbig.prep.recordings import wav
from tfbig.tuning import trials, workers

pytestmark = pytest.mark.long

README = (Path(tfbig.__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
# What each door does not run here, and where it is
ELSEWHERE = {
    "python -m venv .venv && .venv/bin/pip install -e": "the tests themselves are started by it",
    ". .venv/bin/activate": "of the shell",
    "curl -N -d": "tests/test_serve_text.py asks for streams",
}
SHORT = Train(length="4", evaluate_every="50%", save_every="50%", batch_size=512)
FEW_FINALISTS = ["tune.finalists=1", "tune.seeds=1"]  # each is trained


def words_of(line: str) -> list[str] | None:
    """What stands behind `tfbig` or `python -m tfbig.`; None where the line has neither."""
    command = re.search(r"^tfbig (.*)|python -m tfbig\.(.*)", line)
    if command is None:
        return None
    return shlex.split((command[1] or command[2]).partition(" > ")[0], comments=True)


def shrunk(model):
    """A recipe's model with the sizes of its kind's smallest."""
    small = type(model).smallest()
    sizes = {
        field.name: getattr(small, field.name)
        for field in dataclasses.fields(small)
        if getattr(small, field.name) != field.default
    }
    return dataclasses.replace(model, **sizes)


@pytest.fixture
def in_small(tmp_path, monkeypatch):
    """A folder in which every recipe is short, small and has its data, and workers are this one."""
    whole, complete, made = registry.recipe, trials._completed, {}

    def data_of(kind):
        if kind not in made:
            (tmp_path / kind.__name__).mkdir()
            made[kind] = kind.smallest(tmp_path / kind.__name__)
        return made[kind]

    def recipe(name):
        experiment = whole(name)
        data, model = data_of(type(experiment.data)), shrunk(experiment.model)
        return dataclasses.replace(experiment, data=data, model=model, train=SHORT)

    def completed(search, planned, observer):
        """Trials are pretended, the finalists' runs are trained."""
        if planned.name.isdigit():
            return pretend(search, plan_as_mlp(planned), observer)
        return complete(search, planned, observer)

    def search_here(search, chief, note):
        trials.work(search, chief, "worker0", silent, lambda name, outcome: None)

    def run_workers(count, command):
        assert count > 1 and command[0] == "train"
        with monkeypatch.context() as patch:
            patch.setattr(processes, "wanted", lambda experiment: 1)
            assert train.main(command[1:]) == 0

    monkeypatch.setattr(registry, "recipe", recipe)
    monkeypatch.setattr(processes, "run_workers", run_workers)
    monkeypatch.setattr(trials, "_completed", completed)
    monkeypatch.setattr(workers, "lead_here", search_here)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "TinyShakespeare"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    ImageFolder.smallest(tmp_path)
    DetectionFolder.smallest(tmp_path)
    (tmp_path / "my_texts").mkdir()
    TextFiles.smallest(tmp_path / "my_texts")
    (tmp_path / "pairs").mkdir()
    ParallelText.smallest(tmp_path / "pairs")
    SpeechFolder.smallest(tmp_path)
    (tmp_path / "recording.wav").write_bytes(wav(np.zeros(8000), 8000))
    VideoFolder.smallest(tmp_path)
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "digit.png")
    np.save(tmp_path / "board.npy", Bricks().examples("test", np.arange(2))["observation"])
    (tmp_path / "genes.fa").write_text(f">gene\n{'ACGT' * 20}\n")
    return tmp_path


def test_commands_run_as_they_are_written(in_small):
    """One after another, in one folder, as a reader would."""
    run = set()
    for line in LINES:
        words = words_of(line)
        if words is None:
            assert any(line.startswith(known) for known in ELSEWHERE), f"nothing runs: {line}"
        elif words[0] == "serve":
            with Server(*words[1:]) as server:
                assert server.ask("GET", "/v1/models/mnist_mlp")[0] == 200
            run.add("serve")
        else:
            words += FEW_FINALISTS if words[0] == "tune" else []
            assert tfbig_command.main(words) == 0, line
            run.add(words[0])
    assert run == set(registry.doors())


def test_every_recipe_is_in_the_table():
    assert all(f"| `{name}` |" in README for name in registry.recipes())
