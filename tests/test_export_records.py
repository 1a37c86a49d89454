"""What an export asks of a run and of the versions that are there, before anything is written."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save

import tfbig
from tfbig.core import files
from tfbig.core.errors import RunFailure, UserError
from tfbig.core.run import Run
from tfbig.deploy import artefact, destination, publish, record
from tfbig.engine import checkpoint, records

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
    """A finished run on small pictures of two classes."""
    home, dice = tmp_path_factory.mktemp("home"), np.random.RandomState(0)
    for name in ("cat", "dog"):
        (home / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(dice.randint(0, 255, (8, 8), np.uint8)).save(
                home / "pictures" / name / f"{i:02d}.png"
            )
    return tfbig.train(
        "mnist_mlp",
        "data=image_folder",
        f"data.path={home / 'pictures'}",
        *SIZES,
        run=home / "pets",
    ).path


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of it, beside which is worked."""
    monkeypatch.chdir(tmp_path)
    return Run.open(shutil.copytree(made, tmp_path / "pets"))


@pytest.fixture
def published(monkeypatch):
    """Where models were published: what leads to it is tried, and not the verification itself."""
    places = []

    def publish_there(source, target, *others):
        places.append((target, source))
        return {
            "path": str(target / "1"),
            "version": 1,
            "created": "now",
            "verification": {},
            "checks": [],
        }

    monkeypatch.setattr(publish, "export", publish_there)
    return places


def test_a_model_is_named_after_its_run(run, published):
    """Two runs of one recipe are two models.

    A server must not take one for the other's next version.
    """
    tfbig.export(run)
    assert str(published[0][0]) == "saved_models/pets"
    run.path.rename(run.path.with_name("7"))
    with pytest.raises(
        UserError,
        match=(
            "7: its name would be read as a version's. Name the model too: python -m tfbig.export 7"
            " saved_models/NAME"
        ),
    ):
        tfbig.export("7")


def version(folder, facts):
    (folder / "1").mkdir(parents=True)
    artefact.seal(folder / "1", facts)


def test_a_version_that_clients_could_not_use_is_refused(run, published, tmp_path):
    version(tmp_path / "other", {"labels": ["cat", "cow"]})
    with pytest.raises(
        UserError,
        match=(
            r"other: version 1 cannot be followed by this one: its labels are cat, cow \(2\), the"
            r" new ones cat, dog \(2\)"
        ),
    ):
        tfbig.export(run, tmp_path / "other")
    assert not published
    tfbig.export(run, tmp_path / "other", incompatible=True)
    signatures = record.signatures_of(published.pop()[1].programs)
    assert signatures["tensors"]["inputs"]["image"]["shape"] == [None, 8, 8, 1]
    version(
        tmp_path / "same",
        {"labels": ["cat", "dog"], "signatures": {**signatures, "model.onnx": {}}},
    )
    destination.check_compatible(
        tmp_path / "same", ["cat", "dog"], json.loads(json.dumps(signatures))
    )
    there = json.loads(json.dumps(signatures))
    signatures["tensors"]["inputs"]["image"] = {"dtype": "float32", "shape": [None, 16, 16, 1]}
    version(tmp_path / "larger", {"labels": ["cat", "dog"], "signatures": signatures})
    with pytest.raises(
        UserError, match="the new one has another signature 'tensors'. Servers would turn to it"
    ):
        tfbig.export(run, tmp_path / "larger")
    version(
        tmp_path / "more",
        {"labels": ["cat", "dog"], "signatures": {"generate": {"inputs": {}, "outputs": {}}}},
    )
    with pytest.raises(UserError, match="the new one has no signature 'generate'"):
        destination.check_compatible(tmp_path / "more", ["cat", "dog"], there)
    assert not published


def edit_weights(run):
    """Other weights in the checkpoint, with checksums that fit."""
    for step in checkpoint.steps(run.checkpoints):
        folder = run.checkpoints / checkpoint.folder_name(step)
        weights = load_file(folder / checkpoint.WEIGHTS)
        payload = save(
            {name: value * -30 if "kernel" in name else value for name, value in weights.items()}
        )
        (folder / checkpoint.WEIGHTS).write_bytes(payload)
        state = json.loads((folder / checkpoint.STATE).read_text())
        del state["digest"]
        state["files"][checkpoint.WEIGHTS] = {
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
        (folder / checkpoint.STATE).write_text(
            json.dumps({**state, "digest": checkpoint._digest(state)})
        )


def test_a_checkpoint_that_is_not_what_was_evaluated_is_not_exported(run, published, capsys):
    edit_weights(run)
    step, before = (
        run.read_json("metrics.json")["test"]["step"],
        (run.path / "metrics.json").read_bytes(),
    )
    told = (
        f"the checkpoint of step {step} does not give the metrics that were recorded of it: .*loss"
        " [0-9.]+ recorded, [0-9.]+ now"
    )
    with pytest.raises(RunFailure, match=told):
        tfbig.export(run)
    entry = tfbig.evaluate(run)  # says what it is, and the record stays
    assert (
        "recorded of it" in entry["not_saved"]
        and (run.path / "metrics.json").read_bytes() == before
    )
    (run.path / "metrics.json").unlink()
    with pytest.raises(RunFailure, match=told):  # of the validation split, while it was trained
        tfbig.export(run)
    (run.path / "metrics.jsonl").unlink()
    assert not published and "nothing is recorded" not in capsys.readouterr().err
    tfbig.export(run)
    assert (
        f"nothing is recorded of the checkpoint of step {step}, so its metrics are compared with"
        " none" in capsys.readouterr().err
    )


def test_rounding_is_no_difference():
    share = {"value": 0.97, "low": 0.966, "high": 0.973, "count": 10_000}
    for value, precision, same in (
        (0.9705, "float32", True),
        (0.967, "float32", False),
        (0.967, "bfloat16", True),
        (0.96, "bfloat16", False),
    ):
        assert records.is_same(share, {**share, "value": value}, precision) == same
    few = {"value": 0.5, "low": None, "high": None, "count": 4}
    assert records.is_same(few, {**few, "value": 0.75}, "bfloat16") and not records.is_same(
        few, {**few, "value": 1.0}, "bfloat16"
    )
    assert records.is_same({**few, "value": None}, {**few, "value": None}, "float32")


def test_what_is_published_from_a_run_that_cannot_be_written(run, published, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(files, "write_synced", fail)
    published_record = tfbig.export(run)
    assert (
        published_record["version"] == 1
        and "export.json: could not be written: Read-only file system"
        in published_record["not_saved"]
    )
    assert "published, but not noted in the run" in capsys.readouterr().err
