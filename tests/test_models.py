"""Every model builds at its smallest size, gives every variable a gradient, and keeps its weights
through a file.
"""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfbig.core import registry
from tfbig.core.features import Feature

SMALLEST = {
    "mlp": {"units": (4,)},
    "cnn": {"filters": (4,), "units": 4},
    "lstm": {"units": (4,)},
    "vit": {"patch": 4, "width": 8, "depth": 1, "heads": 2},
    "gpt": {"width": 8, "depth": 1, "heads": 2},
    "lstm_lm": {"width": 4, "units": (4,)},
}
VARIANTS = [
    ("mlp", {"units": (6, 5), "normalization": "layer", "dropout": 0.3, "activation": "selu"}),
    (
        "cnn",
        {
            "filters": (4, 8),
            "convolutions": 2,
            "residual": True,
            "summary": "average",
            "units": 0,
            "normalization": "group",
            "pooling": "average",
        },
    ),
    (
        "cnn",
        {"filters": (8,), "normalization": "none", "summary": "max", "dropout": 0.2, "kernel": 5},
    ),
    ("lstm", {"units": (4, 3), "bidirectional": True, "summary": "average", "dropout": 0.1}),
    (
        "vit",
        {
            "patch": 4,
            "width": 8,
            "depth": 2,
            "heads": 4,
            "summary": "token",
            "normalization": "rms",
            "activation": "silu",
            "dropout": 0.1,
        },
    ),
    (
        "gpt",
        {
            "width": 8,
            "depth": 2,
            "heads": 4,
            "kv_heads": 2,
            "positions": "rope",
            "normalization": "rms",
            "activation": "swiglu",
            "qk_norm": True,
            "tied": False,
            "dropout": 0.1,
        },
    ),
    (
        "gpt",
        {
            "width": 8,
            "depth": 1,
            "heads": 2,
            "positions": "none",
            "activation": "relu2",
            "bias": True,
            "block": 3,
        },
    ),
    ("lstm_lm", {"width": 4, "units": (4, 3), "dropout": 0.1}),
]
CASES = [(name, SMALLEST.get(name, {})) for name in registry.describe("models")] + VARIANTS
IMAGE = {"image": Feature(shape=(8, 8, 3), dtype="float32")}
TOKENS = {"tokens": Feature(shape=(6,), dtype="int32", values=7)}
EXAMPLES = {  # what models take, and an example of it
    "image": (
        IMAGE,
        np.random.RandomState(0).normal(size=(5, 8, 8, 3)).astype("float32"),
    ),
    "tokens": (TOKENS, np.random.RandomState(0).randint(0, 7, (5, 6)).astype("int32")),
}


def taken(kind):
    """The specification that a model of this class is tried with, and an example."""
    return next(EXAMPLES[name] for name in EXAMPLES if name in kind.takes)


def with_head(name, knobs):
    keras.utils.set_random_seed(1)
    kind = registry.component("models", name)
    body = kind(**knobs).build(taken(kind)[0])
    if "logits" in kind.gives:
        assert body.output.shape[1:] == (6, 7) and body.output.dtype == "float32"
        return body
    assert len(body.output.shape) == 2
    return keras.Model(body.input, keras.layers.Dense(3, name="head")(body.output))


@pytest.mark.parametrize(
    ("name", "knobs"),
    CASES,
    ids=lambda value: str(value) if isinstance(value, str) else "-".join(value),
)
def test_model(name, knobs, tmp_path):
    model = with_head(name, knobs)
    x = taken(registry.component("models", name))[1]
    target = np.random.RandomState(1).normal(size=model.output.shape[-1])
    with tf.GradientTape() as tape:
        out = model(x, training=True)
        loss = tf.reduce_mean((out - tf.constant(target, tf.float32)) ** 2)
    assert out.shape == (5, *model.output.shape[1:])
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None and np.abs(tf.convert_to_tensor(gradient)).max() > 0, (
            variable.path
        )
    again = with_head(name, knobs)
    # Checkpoints rely on it
    assert [v.path for v in model.trainable_variables] == [
        v.path for v in again.trainable_variables
    ]
    model.save_weights(tmp_path / "w.weights.h5")
    for variable in again.trainable_variables:
        variable.assign(variable * 0)
    again.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(model(x, training=False), again(x, training=False), atol=1e-6)
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(
        model(x, training=False),
        keras.models.load_model(tmp_path / "m.keras")(x, training=False),
        atol=1e-6,
    )


@pytest.mark.parametrize("name", registry.describe("models"))
def test_choices_are_all_real(name):
    """Every value a choice offers builds."""
    kind = registry.component("models", name)
    for field in dataclasses.fields(kind):
        for choice in field.metadata.get("choices") or ():
            extra = {"convolutions": 2} if field.name == "residual" else {}
            knobs = {**SMALLEST.get(name, {}), **extra, field.name: choice}
            knobs = {**knobs, "filters": (8,)} if name == "cnn" else knobs
            # Published sizes are large; tests/test_gpt.py counts their parameters
            if field.name != "size":
                assert kind(**knobs).build(taken(kind)[0]).output.shape[0] is None


def test_known_sizes():
    image = {"image": Feature(shape=(28, 28, 1), dtype="float32")}

    def build(name, **knobs):
        return registry.component("models", name)(**knobs).build(image)

    assert build("mlp").count_params() == 784 * 128 + 128
    assert build("lstm").count_params() == 4 * 128 * (28 + 128 + 1)
    vit = build("vit")
    block = 2 * 2 * 64 + 64 * 192 + 192 + 64 * 64 + 64 + 64 * 128 + 128 + 128 * 64 + 64
    assert vit.count_params() == 49 * 64 + 16 * 64 + 4 * block + 2 * 64


def test_wrong_sizes_are_explained():
    with pytest.raises(
        ValueError,
        match="model.patch: expected a divisor of the picture's size 8 x 8. Received: 3.",
    ):
        registry.component("models", "vit")(patch=3).build(IMAGE)
    assert dict(registry.component("models", "vit")(heads=3).problems())["heads"].startswith(
        "expected a divisor of model.width=64"
    )
    assert "residual" in dict(registry.component("models", "cnn")(residual=True).problems())


def test_attention_against_keras():
    """Our attention with the weights of Keras's MultiHeadAttention gives its result."""
    from tfbig.nn.attention import self_attention

    inputs = keras.Input((5, 8))
    ours = keras.Model(inputs, self_attention(inputs, 2, "a"))
    theirs = keras.layers.MultiHeadAttention(2, 4)
    x = np.random.RandomState(0).normal(size=(3, 5, 8)).astype("float32")
    theirs(x, x)
    q, k, v, out = (theirs.query_dense, theirs.key_dense, theirs.value_dense, theirs.output_dense)
    ours.get_layer("a_qkv").set_weights(
        [
            np.concatenate([layer.kernel.numpy().reshape(8, 8) for layer in (q, k, v)], 1),
            np.zeros(24),
        ]
    )
    ours.get_layer("a_out").set_weights([out.kernel.numpy().reshape(8, 8), np.zeros(8)])
    np.testing.assert_allclose(ours(x), theirs(x, x), atol=1e-5)
