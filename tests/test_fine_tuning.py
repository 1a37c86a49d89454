"""Layers that keep their weights, and layers that change them slowly."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.core.errors import UserError
from tfbig.engine.setup import Setup, training_facts
from tfbig.models.resnet import ResNet
from tfbig.tasks.image_classification import ImageClassification


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    experiment = ImageClassification.smallest(tmp_path_factory.mktemp("data"))
    model = dataclasses.replace(ResNet.smallest(), dropout=0.0)
    experiment = dataclasses.replace(experiment, model=model)
    return experiment, training_facts(experiment, experiment.data)


def moved(base, *settings):
    """path -> how far each variable moves in one step."""
    setup = Setup(tfbig.recipe(base[0], *settings), base[1])
    before = {variable.path: variable.numpy() for variable in setup.model.variables}
    slab, first = setup.slabs.at(0)
    setup.run_block(slab, tf.constant(first), tf.constant(1))
    return {
        variable.path: variable.numpy() - before[variable.path]
        for variable in setup.model.variables
    }


def test_frozen_layers_stay_as_they_are(base):
    change = moved(base, "train.freeze=stem,stage_1")
    frozen = {path for path in change if path.split("/")[0].startswith(("stem", "stage_1"))}
    assert any("moving_mean" in path for path in frozen) and len(frozen) < len(change)
    for path, difference in change.items():
        assert (np.abs(difference).max() == 0) == (path in frozen), path


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "stag_1",
            "expected the beginning of a layer's name. Received: 'stag_1'.*The model has stem",
        ),
        ("stage_10", "Received: 'stage_10'"),
        ("stem,stage_1,stage_2,head", "expected to leave a layer to be trained"),
    ],
)
def test_wrong_names_are_explained(base, names, message):
    with pytest.raises(
        UserError, match=f"train.freeze: {message}" if "exp" in message[:3] else message
    ):
        Setup(tfbig.recipe(base[0], f"train.freeze={names}"), base[1])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_early_layers_change_slowly(base, optimizer):
    """By a share of the same update, decay included; the share grows from layer to layer."""
    common = (f"optim.optimizer={optimizer}", "optim.weight_decay=0.1", "optim.learning_rate=0.01")
    plain, slow = moved(base, *common), moved(base, *common, "optim.first_rate=0.01")
    shares = {}
    for path, difference in plain.items():
        if np.abs(difference).max() > 1e-4 and "moving" not in path:
            share = (
                slow[path].ravel() @ difference.ravel() / (difference.ravel() @ difference.ravel())
            )
            shares.setdefault(path.split("/")[0], share)
    assert shares["stem"] == pytest.approx(0.01, rel=0.05)
    assert shares["head"] == pytest.approx(1, rel=1e-3)
    assert 0.02 < shares["stage_2_block_1_conv_1"] < 0.9
    assert shares["stage_1_block_1_conv_1"] < shares["stage_1_block_1_conv_2"]
