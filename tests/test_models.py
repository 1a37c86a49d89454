"""Every model builds at its smallest size, gives every variable a gradient, and keeps its weights
through a file.
"""

import dataclasses

import components
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfbig.core import registry
from tfbig.core.features import Feature
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup, build_task, training_facts

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
    (
        "encoder_decoder",
        {
            "encoder_depth": 2,
            "positions": "rope",
            "normalization": "layer",
            "activation": "swiglu",
            "dropout": 0.0,
        },
    ),
    ("gru_attention", {"dropout": 0.0}),
]
IMAGE = {"image": Feature(shape=(8, 8, 3), dtype="float32")}
TASKS = components.classes("tasks")


def variant(name, knobs):
    return pytest.param(name, knobs, id="-".join([name, *knobs]))


CASES = [
    *(pytest.param(name, {}, id=name) for name in components.names("models")),
    *(variant(name, knobs) for name, knobs in VARIANTS),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The smallest experiment, with its facts, of the first task that a class of models suits."""
    made = {}

    def of(kind):
        task = next(task for task in TASKS if not task.wanted_model(kind))
        if task not in made:
            experiment = task.smallest(tmp_path_factory.mktemp("data"))
            made[task] = experiment, training_facts(experiment, Readable(experiment.data))
        return made[task]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield of


def built(small, model):
    """The model with its task's head, as it is trained, and a model-ready batch."""
    experiment, facts = small(type(model))
    setup = Setup(dataclasses.replace(experiment, model=model), facts)
    raw = {name: value[0] for name, value in setup.slabs.at(0)[0].items()}
    is_raw = setup.task.preprocess_on == "device"
    return setup, setup.task.preprocess(raw, True) if is_raw else raw


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_model(name, knobs, small, tmp_path):
    kind = registry.component("models", name)
    wanted = dataclasses.replace(kind.smallest(), **knobs)
    (setup, batch), (again, _) = built(small, wanted), built(small, wanted)
    model, task = setup.model, setup.task
    with tf.GradientTape() as tape:
        total, _ = task.loss(model, batch, True)["loss"]
    gradients = tape.gradient(total, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None and np.abs(tf.convert_to_tensor(gradient)).max() > 0, (
            variable.path
        )
    # Checkpoints rely on it
    paths = [[v.path for v in each.model.trainable_variables] for each in (setup, again)]
    assert paths[0] == paths[1]
    said = task.predict(model, batch)
    model.save_weights(tmp_path / "w.weights.h5")
    for variable in again.model.variables:
        variable.assign(tf.zeros_like(variable))
    again.model.load_weights(tmp_path / "w.weights.h5")
    model.save(tmp_path / "m.keras")
    for other in (again.model, keras.models.load_model(tmp_path / "m.keras")):
        for output, value in task.predict(other, batch).items():
            np.testing.assert_allclose(value, said[output], atol=1e-6)


@pytest.mark.parametrize("name", components.names("models"))
def test_choices_are_all_real(name, small):
    """Every value a choice offers builds."""
    kind = registry.component("models", name)
    for field in dataclasses.fields(kind):
        for choice in field.metadata.get("choices") or ():
            model = dataclasses.replace(kind.smallest(), **{field.name: choice})
            assert not list(model.problems()), f"{name}: {field.name}={choice}"
            experiment, facts = small(kind)
            _, head = build_task(dataclasses.replace(experiment, model=model), facts)
            assert head.count_params() > 0


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


@pytest.mark.parametrize(
    ("name", "knobs", "published"),
    [
        ("resnet", {"depth": 18}, 11_689_512),
        ("resnet", {"depth": 34}, 21_797_672),
        ("resnet", {"depth": 50}, 25_557_032),
        ("resnet", {"depth": 101}, 44_549_160),
        ("convnext", {"size": "tiny"}, 28_589_128),
        ("convnext", {"size": "small"}, 50_223_688),
        ("convnext", {"size": "base"}, 88_591_464),
        ("vit", {"size": "ti"}, 5_717_416),
        ("vit", {"size": "s"}, 22_050_664),
        ("vit", {"size": "b"}, 86_567_656),
    ],
)
def test_networks_are_as_large_as_published(name, knobs, published):
    """With a head for ImageNet's 1,000 classes."""
    image = {"image": Feature(shape=(224, 224, 3), dtype="float32")}
    if name == "vit":
        knobs = {**knobs, "patch": 16, "summary": "token"}
    body = registry.component("models", name)(**knobs).build(image)
    trained = sum(int(np.prod(weight.shape)) for weight in body.trainable_weights)
    width = body.output.shape[-1]
    folded = 2 * width if name == "vit" else 0  # the patches' bias and the token, in positions
    assert trained + folded + (width + 1) * 1000 == published


def test_pyramids_take_weights_of_residual_networks_by_name():
    image = {"image": Feature(shape=(64, 64, 3), dtype="float32")}
    plain, pyramid = (
        registry.component("models", name)(blocks=(1, 1), width=8, stem="large").build(image)
        for name in ("resnet", "resnet_fpn")
    )
    shapes = {weight.path: weight.shape for weight in pyramid.weights}
    assert all(shapes[weight.path] == weight.shape for weight in plain.weights)
