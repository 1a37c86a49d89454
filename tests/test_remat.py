"""Recomputed activations.

The same result, with Dropout and batch normalisation, compiled or not; cuts where little crosses.
"""

import numpy as np
import pytest
import tensorflow as tf
from training import FACTS, make, values

from tfbig.core.errors import UserError
from tfbig.core.features import Feature
from tfbig.engine import graph, remat
from tfbig.engine.setup import Setup
from tfbig.models.gpt import GPT
from tfbig.models.vit import ViT


def steps(recipe, remat, *settings):
    setup = Setup(
        make(*settings, f"train.remat={remat}", "train.length=50", "device.block=3", recipe=recipe),
        FACTS,
    )
    scalars = setup.run_block(setup.slabs.at(0)[0], tf.constant(0), tf.constant(3))
    return setup, scalars["loss"].numpy()


@pytest.mark.parametrize("jit", ["true", "false"])
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        (
            "mnist_vit",
            (
                "model.dropout=0.2",
                "model.depth=2",
                "model.width=16",
                "train.batch_size=8",
                "train.accumulate=2",
                "optim.optimizer=sgd",
            ),
        ),
        (
            "mnist_cnn",
            ("model.filters=4,8", "model.units=16", "train.batch_size=8", "optim.optimizer=sgd"),
        ),
        (
            "mnist_lstm",
            (
                "model.units=8,8",
                "train.batch_size=8",
                "device.precision=float16",
                "optim.optimizer=sgd",
            ),
        ),
    ],
)
def test_same_result(recipe, settings, jit):
    """Variables, moving statistics and random states after three steps."""
    plain, losses = steps(
        recipe, "false", *settings, f"device.jit={jit}", "optim.warmup=0", "optim.clip_norm=none"
    )
    again, others = steps(
        recipe, "true", *settings, f"device.jit={jit}", "optim.warmup=0", "optim.clip_norm=none"
    )
    np.testing.assert_allclose(
        losses, others, rtol=1e-3 if "device.precision=float16" in settings else 1e-5
    )
    for a, b in zip(values(plain), values(again), strict=True):
        np.testing.assert_allclose(
            a, b, rtol=1e-3, atol=1e-4 if "device.precision=float16" in settings else 1e-6
        )


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_tokens(positions):
    """The gradient of a GPT with Dropout, in one process without a loop."""
    tokens = np.random.RandomState(0).randint(0, 11, (3, 9)).astype(np.int32)
    found = []
    for installed in (False, True):
        import keras

        keras.utils.set_random_seed(1)
        model = GPT(width=16, depth=3, heads=2, positions=positions, dropout=0.2, kv_heads=1).build(
            {"tokens": Feature(shape=(9,), dtype="int32", values=11)}
        )
        if installed:
            remat.install(model)

        @tf.function
        def gradients(model=model):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(model(tokens, training=True)))
            return tape.gradient(loss, [v.value for v in model.trainable_variables])

        found.append(
            [tf.convert_to_tensor(each).numpy() for each in gradients()]
            + [v.numpy() for v in model.non_trainable_variables]
        )
        np.testing.assert_array_equal(model(tokens, training=False), model(tokens))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_mixed_precision_with_tied_weights():
    """The head, which shares the embedding's weights, is computed again in the type it had."""
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = GPT(width=32, depth=2, heads=2).build(
            {"tokens": Feature(shape=(128,), dtype="int32", values=2048)}
        )
    finally:
        keras.config.set_dtype_policy(policy)
    tokens = np.random.RandomState(0).randint(0, 2048, (2, 128)).astype(np.int32)
    found = []
    for installed in (False, True):
        if installed:
            remat.install(model)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.cast(model(tokens, training=True), tf.float32)))
        found.append(
            [
                tf.convert_to_tensor(each).numpy()
                for each in tape.gradient(loss, [v.value for v in model.trainable_variables])
            ]
        )
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.1, atol=0.02 * np.abs(a).max())


def test_cuts():
    """Between parts of a Transformer only the residual stream crosses.

    All that is computed is in one part.
    """
    model = ViT(width=16, depth=6, heads=2).build(
        {"image": Feature(shape=(28, 28, 1), dtype="float32")}
    )
    order, parts = graph.nodes(model), remat.segments(model)
    assert [id(node.operation) for part in parts for node in part] == [
        id(node.operation) for node in order
    ] and len(parts) > 6
    inside = [sum(map(graph.bytes_kept, part)) for part in parts]
    stream = 4 * 16 * 16  # patches, width
    crossing = remat._crossing(model, order)
    starts = np.cumsum([len(part) for part in parts])[:-1]
    assert all(crossing[i] <= stream for i in starts[:-1])
    assert (
        remat.activation_bytes(model)
        == sum(crossing[i] for i in starts) + max(inside)
        < 0.5 * sum(inside)
    )


def test_no_place_to_cut():
    import keras

    inputs = keras.Input((3,))
    with pytest.raises(UserError, match="train.remat: expected a model that can be cut"):
        remat.install(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
