"""Recipes for accelerators: models of full size compile and make a step on a few small pictures."""

import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.data.tfds_images import TFDSImages
from tfbig.engine.setup import Setup, training_facts

LARGE = {"imagenet_resnet50": 25.6, "imagenet_convnext_tiny": 28.6, "imagenet_vit_s16": 22.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_step_at_full_size(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = TFDSImages.smallest(tmp_path)
    experiment = tfbig.recipe(
        name,
        f"data.builder={data.builder}",
        f"data.validation={data.validation}",
        "data.side=32",
        "train.batch_size=4",
        "train.accumulate=1",
        "optim.warmup=0",
        "device.block=1",
        "device.precision=float32",
    )
    facts = training_facts(experiment, experiment.data)
    setup = Setup(experiment, {**facts, "labels": [str(i) for i in range(1000)]})
    millions = sum(int(np.prod(v.shape)) for v in setup.model.trainable_variables) / 1e6
    assert millions == pytest.approx(LARGE[name], abs=0.1)
    slab, first = setup.slabs.at(0)
    before = setup.model.get_layer("head").kernel.numpy()
    scalars = setup.run_block(slab, tf.constant(first), tf.constant(1))
    assert 5 < scalars["loss"].numpy()[0] < 9  # about the logarithm of 1,000
    assert np.abs(setup.model.get_layer("head").kernel.numpy() - before).max() > 0
