"""The loop and its parts: order, batches, schedules, steps, callbacks, evaluation."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from training import FACTS, Silent, make, run_to, values

import tfbig
from tfbig.core.errors import NonFinite, UserError
from tfbig.core.experiment import OPTIMIZERS, Optim
from tfbig.core.features import Feature
from tfbig.deploy import verify
from tfbig.engine import batches, checkpoint, evaluate, loop, order, overview
from tfbig.engine.optimizer import build_optimizer, build_schedule
from tfbig.engine.setup import Setup
from tfbig.models.gpt import GPT
from tfbig.models.mlp import MLP
from tfbig.models.vit import ViT
from tfbig.report.console import metric_text

pytestmark = pytest.mark.long

# Order and batches


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_each_epoch_is_a_permutation_of_its_own(size):
    position = tf.range(3 * size, dtype=tf.int64)
    rows = order.rows(position, size, seed=5).numpy().reshape(3, size)
    assert all(sorted(epoch) == list(range(size)) for epoch in rows)
    if size > 100:
        assert (
            not np.array_equal(rows[0], rows[1])
            and abs(np.corrcoef(rows[0], np.arange(size))[0, 1]) < 0.15
        )
        assert not np.array_equal(rows[0], order.rows(position, size, seed=6).numpy()[:size])


def test_order_does_not_depend_on_the_reader():
    whole = order.rows(tf.range(100, dtype=tf.int64), 40, 1).numpy()
    parts = [order.rows(order.positions(first, 20), 40, 1).numpy() for first in (80, 0, 40, 20, 60)]
    np.testing.assert_array_equal(np.concatenate([parts[i] for i in (1, 3, 2, 4, 0)]), whole)


def test_keys_are_unique_over_long_runs_and_seeds():
    far = tf.constant([0, 1, 2**32 - 1, 2**32, 2**40 + 3], tf.int64)
    keys = np.concatenate([order.keys(far, seed).numpy() for seed in (0, 1, 2)])
    assert len(np.unique(keys, axis=0)) == 15


def test_slabs_do_not_depend_on_where_reading_starts():
    task = make().task.bind(make().model, make().data, FACTS)

    def make_slabs():
        return batches.Slabs(task, batch_size=8, block=4, seed=3)

    slabs, again = make_slabs(), make_slabs()
    first = {step: slabs.at(step) for step in (0, 5, 9)}
    for step in (9, 0, 5):
        slab, place = again.at(step)
        assert place == step % 4
        for name, value in slab.items():
            np.testing.assert_array_equal(value, first[step][0][name])


class Streamed(type(make().data)):
    """MNIST as a set that does not fit in memory."""

    def arrays(self, split):
        return None

    def examples(self, split, positions):
        whole = super().arrays(split)
        return {name: value[positions] for name, value in whole.items()}


def test_random_access_gives_the_same_batches():
    plain, streamed = make().data, Streamed()

    def bind(data):
        return make().task.bind(make().model, data, FACTS)

    a, b = (
        batches.Slabs(bind(data), batch_size=8, block=3, seed=1).at(7)[0]
        for data in (plain, streamed)
    )
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


class Broken(Streamed):
    """A set of which one example cannot be read."""

    def examples(self, split, positions):
        if split == "train" and 77 in positions:
            raise UserError("data: cat/77.png cannot be decoded.")
        return super().examples(split, positions)


def test_an_example_that_cannot_be_read_is_named(tmp_path):
    setup = Setup(
        dataclasses.replace(make("train.length=2ep", "device.block=2"), data=Broken()), FACTS
    )
    with pytest.raises(
        UserError, match=r"^data: example 77 of the train split: cat/77.png cannot be decoded\."
    ):
        loop.train(setup, tmp_path, Silent())


# Optimisers, schedules, steps


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_builds_and_learns(name, tmp_path):
    rate = {"sgd": 0.1, "adadelta": 1.0, "adagrad": 0.05, "adafactor": 0.05, "muon": 0.01}.get(
        name, 2e-3
    )
    settings = [
        f"optim.optimizer={name}",
        f"optim.learning_rate={rate}",
        "optim.weight_decay=0.01",
        "train.evaluate_every=150",
    ]
    _, state, observer = run_to(tmp_path, 150, *settings)
    assert observer.lines[-1][1] < 1.5 and state.step == 150


def test_schedules():
    warm = build_schedule(
        Optim(learning_rate=0.5, schedule="cosine", warmup="10", final_fraction=0.1),
        length=110,
        epoch=10,
    )

    def at(schedule, step):
        return float(schedule(tf.constant(step, tf.float32)))

    assert [round(at(warm, s), 4) for s in (0, 5, 10, 60, 110, 200)] == [
        0.0,
        0.25,
        0.5,
        0.275,
        0.05,
        0.05,
    ]
    drops = build_schedule(
        Optim(
            learning_rate=1.0, schedule="step", warmup="1ep", step_at=("50%", "80"), step_factor=0.1
        ),
        length=100,
        epoch=4,
    )
    assert [round(at(drops, s), 4) for s in (0, 2, 4, 49, 50, 79, 80)] == [
        0.0,
        0.5,
        1.0,
        1.0,
        0.1,
        0.1,
        0.01,
    ]
    falls = build_schedule(
        Optim(learning_rate=1.0, schedule="linear", warmup="10", final_fraction=0.2),
        length=110,
        epoch=10,
    )
    assert [round(at(falls, s), 4) for s in (0, 5, 10, 60, 110, 200)] == [
        0.0,
        0.5,
        1.0,
        0.6,
        0.2,
        0.2,
    ]
    assert build_schedule(Optim(learning_rate=0.3), length=10, epoch=1) == 0.3


def decayed(model, optimizer):
    """The paths of the variables that one step without gradients changes, each to 0.95 of what it
    was.
    """
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.apply(
        [tf.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables
    )
    after = {v.path: v.numpy() for v in model.trainable_variables}
    assert all(np.allclose(value, 0.95) or (value == 1).all() for value in after.values()), after
    return {path.removeprefix("sequential/") for path, value in after.items() if (value != 1).all()}


IMAGE = {"image": Feature(shape=(8, 8, 1), dtype="float32")}
TOKENS = {"tokens": Feature(shape=(6,), dtype="int32", values=7)}


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_decay_is_for_kernels_and_embeddings_of_tokens(name):
    """And neither for biases nor scales, nor for learnt positions and the class token among
    them.
    """
    dense = [
        keras.Input((3,)),
        keras.layers.Dense(2, name="d"),
        keras.layers.BatchNormalization(name="n"),
    ]
    models = {
        "dense": keras.Sequential(dense, name="sequential"),
        "gpt": GPT(width=4, depth=1, heads=2, bias=True, tied=False, qk_norm=True).build(TOKENS),
        "vit": ViT(patch=4, width=4, depth=1, heads=2, summary="token").build(IMAGE),
    }
    optim = Optim(optimizer=name, learning_rate=0.5, weight_decay=0.1)

    def build(model):
        return build_optimizer(optim, model.trainable_variables, length=1, epoch=1)

    kernels = {
        f"block_1_{part}/kernel" for part in ("attention_qkv", "attention_out", "hidden", "out")
    }
    assert {name: decayed(model, build(model)) for name, model in models.items()} == {
        "dense": {"d/kernel"},
        "gpt": {"embedding/embeddings", "embedding/reverse_embeddings", *kernels},
        "vit": {"patches/kernel", *kernels},
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_decays_unasked(name):
    model = GPT(width=4, depth=1, heads=2).build(TOKENS)
    optim = Optim(optimizer=name, learning_rate=0.5)
    optimizer = build_optimizer(optim, model.trainable_variables, length=1, epoch=1)
    assert decayed(model, optimizer) == set()


def one_step(*settings, recipe="mnist_mlp"):
    setup = Setup(make(*settings, recipe=recipe), FACTS)
    slab, _ = setup.slabs.at(0)
    logs = setup.run_block(slab, tf.constant(0), tf.constant(1))
    return setup, {name: float(value[0]) for name, value in logs.items()}


def test_accumulation_gives_the_same_step():
    (a, whole), (b, parts) = one_step(), one_step("train.accumulate=4")
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-5)
    for x, y in zip(a.model.get_weights(), b.model.get_weights(), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_batch_normalisation_in_parts_is_told():
    for settings, told in ((["train.accumulate=2"], 1), ([], 0)):
        made = make("model.filters=4", *settings, recipe="mnist_cnn")
        notes = list(overview.micro_statistics(made, tfbig.build(made)[1]))
        assert len(notes) == told and all(
            f"each micro-batch of {made.train.batch_size // 2} examples" in note for note in notes
        )
    assert not list(overview.micro_statistics(make("train.accumulate=2"), tfbig.build(make())[1]))


def test_clipping_bounds_the_update():
    setup, logs = one_step("optim.clip_norm=0.01", "optim.learning_rate=1.0", "optim.momentum=0")
    start = Setup(make(), FACTS)
    moved = np.sqrt(
        sum(
            np.sum((a - b) ** 2)
            for a, b in zip(setup.model.get_weights(), start.model.get_weights(), strict=True)
        )
    )
    assert logs["gradient_norm"] > 0.01 and moved == pytest.approx(0.01, rel=1e-3)


def test_steps_do_not_depend_on_how_they_are_grouped():
    def weights(groups):
        setup = Setup(make("model.dropout=0.2", "device.block=10"), FACTS)
        step = 0
        for count in groups:
            slab, first = setup.slabs.at(step)
            setup.run_block(slab, tf.constant(first), tf.constant(count))
            step += count
        return values(setup)

    for a, b in zip(weights([10, 4]), weights([1, 2, 3, 4, 1, 3]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns(precision, tmp_path):
    setup, _, observer = run_to(
        tmp_path, 150, f"device.precision={precision}", "train.evaluate_every=150"
    )
    assert observer.lines[-1][1] < 1.0 and all(
        v.dtype == "float32" for v in setup.model.trainable_variables
    )
    assert keras.config.dtype_policy().name == "float32"


def test_float16_overflow_skips_the_step_and_halves_the_scale():
    setup = Setup(make("device.precision=float16"), FACTS)
    before = values(setup)
    setup.step.scaling.scale.assign(2.0**24)
    setup.model.layers[-1].kernel.assign(setup.model.layers[-1].kernel.value * 1e4)
    kept = [v.numpy().copy() for v in setup.model.trainable_variables]
    slab, _ = setup.slabs.at(0)
    setup.run_block(slab, tf.constant(0), tf.constant(1))
    for a, b in zip(kept, setup.model.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    assert float(setup.step.scaling.scale.numpy()) == 2.0**23 and len(before) == len(values(setup))


def test_average_of_weights(tmp_path):
    setup, _, _ = run_to(tmp_path, 30, "train.ema=0.9", "train.evaluate_every=10")
    raw = np.array(setup.model.get_weights()[0])
    with loop.averaged_weights(setup):
        averaged = np.array(setup.model.get_weights()[0])
    assert not np.array_equal(raw, averaged)
    np.testing.assert_array_equal(raw, setup.model.get_weights()[0])
    fresh = Setup(make("train.ema=0.9"), FACTS)
    checkpoint.load(tmp_path / checkpoint.folder_name(30), fresh.model_files)
    # What is served is what was evaluated
    np.testing.assert_array_equal(fresh.model.get_weights()[0], averaged)


# Callbacks and stopping


def test_stop_by_callback_and_by_patience(tmp_path):
    class Stop(keras.callbacks.Callback):
        seen = ()

        def on_epoch_end(self, epoch, logs=None):
            self.seen += ((epoch, sorted(logs)),)
            self.model.stop_training = epoch == 1

    setup, stop = Setup(make("train.length=40", "train.evaluate_every=10"), FACTS), Stop()
    state = loop.train(setup, tmp_path, Silent(), (stop,))
    assert state.step == 20 and state.stopped_early
    metrics = ["val_accuracy", "val_calibration_error", "val_loss"]
    assert stop.seen == tuple((i, ["learning_rate", *metrics]) for i in range(2))


def test_tensorboard_is_written_or_asked_for(tmp_path, monkeypatch):
    settings = (
        "train.length=4",
        "train.evaluate_every=2",
        "train.final_split=none",
        "train.tensorboard=true",
    )
    run = tfbig.train("mnist_mlp", *settings, run=tmp_path / "run")
    assert any(path.stat().st_size > 100 for path in (run.path / "tensorboard").rglob("events.*"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package tensorboard, which is not installed"):
        tfbig.train("mnist_mlp", *settings, run=tmp_path / "other")


def test_patience_goes_on_counting_after_a_resume(tmp_path):
    def never():
        return (
            keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=3, min_delta=1.0),
        )

    steps = []
    for length in (20, 100):
        setup = Setup(make(f"train.length={length}", "train.evaluate_every=10"), FACTS)
        steps.append(loop.train(setup, tmp_path, Silent(), never()).step)
    assert steps == [20, 40]


def test_loss_not_finite_stops_at_once_and_keeps_the_last(tmp_path):
    class Explode(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 1e30

    setup = Setup(make("train.length=200", "train.evaluate_every=50"), FACTS)
    with pytest.raises(
        NonFinite,
        match=r"step 5[1-9]: the loss became (nan|inf); the checkpoint of step 50 is intact",
    ):
        loop.train(setup, tmp_path, Silent(), (Explode(),))
    assert checkpoint.newest_intact(tmp_path, Setup(make(), FACTS).model_files)["step"] == 50


# Evaluation


def test_intervals():
    share = evaluate.interval(np.array([1.0] * 81 + [0.0] * 182), np.ones(263))
    # Newcombe 1998, table I
    assert (share["value"], round(share["low"], 4), round(share["high"], 4)) == (
        81 / 263,
        0.2553,
        0.3662,
    )
    draws = np.random.RandomState(0).normal(3, 2, 400)
    mean = evaluate.interval(draws, np.ones(400))
    half = 1.959964 * draws.std(ddof=1) / 20
    assert mean["value"] == pytest.approx(draws.mean()) and mean["high"] - mean[
        "value"
    ] == pytest.approx(half, rel=0.05)
    assert mean == evaluate.interval(draws, np.ones(400)), "resamples are the same each time"
    assert evaluate.interval(np.zeros(3), np.zeros(3))["value"] is None
    assert evaluate.wilson(0.0, 10)[0] == pytest.approx(0) and evaluate.wilson(1.0, 10)[
        1
    ] == pytest.approx(1)


def test_intervals_of_grouped_examples_are_those_of_their_groups():
    """Ten copies of each of 40 examples say no more than the 40."""
    values = np.random.RandomState(0).normal(3, 2, 40)
    alone = evaluate.interval(values, np.ones(40))
    copies = evaluate.interval(np.repeat(values, 10), np.ones(400), np.repeat(np.arange(40), 10))
    assert copies == {name: pytest.approx(value) for name, value in {**alone, "count": 400}.items()}
    naive = evaluate.interval(np.repeat(values, 10), np.ones(400))
    assert naive["high"] - naive["low"] < (copies["high"] - copies["low"]) / 2


def test_intervals_of_losses_stay_where_losses_can_be():
    """A normal interval of these begins below zero, and has no width at a single example."""
    skewed = np.array([0.001] * 8 + [1.0, 3.0])
    found = evaluate.interval(skewed, np.ones(10))
    assert (
        skewed.mean() < 1.959964 * skewed.std(ddof=1) / np.sqrt(10)
        and 0.001 <= found["low"] < skewed.mean() < found["high"] <= 3
    )
    for n in (1, 4):
        assert evaluate.interval(skewed[-n:], np.ones(n)) == {
            "value": skewed[-n:].mean(),
            "low": None,
            "high": None,
            "count": n,
        }
    few = evaluate.interval(skewed[:4], np.ones(4))
    assert (
        metric_text("accuracy", {**few, "value": 0.5}, "%") == "accuracy 50.00%"
        and metric_text("loss", few) == "loss 0.001"
    )
    assert (
        verify.not_worse("x", "loss", "min", 0.001, few, "w").passed
        and not verify.not_worse("x", "loss", "min", 0.002, few, "w").passed
    )
    one = evaluate.interval(np.ones(1), np.ones(1))
    # Wilson's, of one success in one trial
    assert (round(one["low"], 4), one["high"]) == (0.2065, 1.0)
    draws = np.random.default_rng(3)
    held, normal = 0, 0
    for _ in range(1000):
        total, count = draws.exponential(size=10), np.full(10, 7)  # 7 tokens an example
        found = evaluate.interval(total * 7, count)
        held += found["low"] <= 1 <= found["high"]
        normal += abs(total.mean() - 1) <= 1.959964 * total.std(ddof=1) / np.sqrt(10)
    assert 0.88 < held / 1000 < 0.97 and held > normal + 15
    total, count = draws.exponential(size=5000), draws.integers(0, 9, 5000)
    found, (share, n) = (
        evaluate.interval(total * count, count),
        (
            total[count > 0] * count[count > 0],
            count[count > 0],
        ),
    )
    # Cochran 1977, section 2.11
    error = np.sqrt(len(n) / (len(n) - 1) * ((share - found["value"] * n) ** 2).sum()) / n.sum()
    assert (
        found["high"] - found["low"] == pytest.approx(2 * 1.959964 * error, rel=0.08)
        and found["count"] == n.sum()
    )


def test_no_interval_is_without_width():
    """Eight texts of 64 tokens: none right, all right, three in four right, all of one loss."""
    tokens = np.full(8, 64.0)
    none, every, most = (evaluate.interval(tokens * share, tokens) for share in (0, 1, 0.75))
    high = 1.959964**2 / (8 + 1.959964**2)  # Wilson's, of no success in 8 trials
    assert none["low"] == 0 and none["high"] == pytest.approx(high)
    assert every["low"] == pytest.approx(1 - high) and every["high"] == pytest.approx(1)
    assert most["low"] < 0.5 and most["high"] > 0.9
    equal = evaluate.interval(np.full(8, 2.3), np.ones(8))
    assert equal["value"] == pytest.approx(2.3) and equal["low"] is equal["high"] is None


def test_evaluation_counts_each_example_once():
    # 5,000 is no multiple of the evaluation's 192
    setup, said = Setup(make("train.batch_size=48"), FACTS), np.full(5_000, -1)

    def receive(positions, outputs):
        said[positions] = outputs["label"].numpy()[: len(positions)]

    result = setup.evaluate("validation", receive=receive)
    data = setup.experiment.data.arrays("validation")
    assert result.count == result.metrics["accuracy"]["count"] == 5_000 and said.min() >= 0
    assert result.metrics["accuracy"]["value"] == pytest.approx(np.mean(said == data["label"]))
    other = Setup(make("train.batch_size=500"), FACTS).evaluate("validation")
    assert other.metrics["loss"]["value"] == pytest.approx(
        result.metrics["loss"]["value"], rel=1e-6
    )


def test_from_python_and_plain_fit(tmp_path):
    run = tfbig.train("mnist_mlp", "train.length=60", run=tmp_path / "run")
    trained = tfbig.load(run)
    test = trained.task.data.arrays("test")
    said = trained.predict({"image": test["image"][:300]})["label"]
    assert isinstance(trained.model, keras.Model) and np.mean(said == test["label"][:300]) > 0.7
    with pytest.raises(UserError, match=r"image: expected uint8 \[n, 28, 28, 1\]"):
        trained.predict({"image": test["image"][:3, :20]})
    form = (
        r"expected raw examples by name: {'image': uint8 \[n, 28, 28, 1\], 'label': int32 \[n\]}."
        r" Received: "
    )
    two = {"image": test["image"][:2], "label": test["label"][:3]}
    wrong = (
        ({}, f"{form}none."),
        (test["image"], f"{form}ndarray."),
        ({"img": two["image"]}, f"{form}img."),
        ({"label": two["label"]}, "image: expected values for it too. Received: label."),
        (two, "expected as many rows of each. Received: 2 of image, 3 of label."),
        ({"label": np.int32(3)}, r"label: expected int32 \[n\]"),
        ({"image": [[1], [2, 3]]}, "image: expected one array."),
    )
    for raw, message in wrong:
        with pytest.raises(UserError, match=message):
            trained.predict(raw)
    some, none = (trained.predict({"image": test["image"][:n]}) for n in (3, 0))
    assert {name: (value.dtype, (0, *value.shape[1:])) for name, value in some.items()} == {
        name: (value.dtype, value.shape) for name, value in none.items()
    }
    for split, size, message in (
        ("test", 0, "batch_size: expected a whole number, at least 1. Received: 0."),
        ("all", 4, "split: expected one of train, validation, test. Received: 'all'."),
    ):
        with pytest.raises(UserError, match=message):
            tfbig.batches(trained.task, split, size)
    with pytest.raises(
        UserError, match="run: expected a run directory.*Received: <tfbig.engine.trained.Trained"
    ):
        tfbig.evaluate(trained)
    assert (
        tfbig.evaluate(run)["metrics"]["accuracy"]["value"]
        == run.read_json("metrics.json")["test"]["metrics"]["accuracy"]["value"]
    )
    assert tfbig.predict(run, test["image"][:2])[1]["label"] == str(said[1])
    task, model = tfbig.build("mnist_mlp", "model=cnn", "model.filters=4")
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    pairs = tfbig.batches(task, "validation", 100).map(
        lambda batch: (batch["image"], batch["label"])
    )
    assert model.fit(pairs, epochs=1, verbose=0).history["accuracy"][0] > 0.3
    assert dataclasses.is_dataclass(task)


def test_threads_build_what_their_seeds_say():
    def weights(seed):
        _, model = tfbig.build("mnist_mlp", "model.units=200,100,50", f"seed={seed}")
        return [value.numpy() for value in model.trainable_variables]

    alone = [weights(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(4) as pool:
        for seed, found in zip([1, 2] * 8, pool.map(weights, [1, 2] * 8), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(found, alone[seed - 1], strict=True))


def test_a_model_may_be_built_of_another_one(monkeypatch):
    build = MLP.build

    def nested(self, spec):
        monkeypatch.setattr(MLP, "build", build)
        tfbig.build("mnist_mlp", "seed=3")
        return build(self, spec)

    monkeypatch.setattr(MLP, "build", nested)
    with ThreadPoolExecutor(1) as pool:
        _, model = pool.submit(tfbig.build, "mnist_mlp").result(timeout=60)
    assert model.count_params() == 101_770


# Halves of a batch side by side


TINY_VIT = [
    "model.width=16",
    "model.depth=1",
    "model.heads=2",
    "task.crop_padding=2",
    "train.batch_size=8",
    "optim.warmup=0",
]


def halved(*settings, recipe="mnist_vit"):
    return Setup(make(*settings, recipe=recipe), FACTS).step.halves


def test_halves_train_as_the_whole_batch_does(tmp_path):
    runs = [
        run_to(tmp_path / text, 4, *TINY_VIT, f"device.halves={text}", recipe="mnist_vit")
        for text in ("true", "false")
    ]
    (halves, _, told), (whole, _, expected) = runs
    assert (halves.step.halves, whole.step.halves) == (True, False)
    for a, b in zip(values(halves), values(whole), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    np.testing.assert_allclose(
        [loss for _, loss in told.lines], [loss for _, loss in expected.lines], rtol=1e-5
    )


def test_only_transformers_on_several_cores_are_halved(monkeypatch):
    assert halved(*TINY_VIT)
    assert not halved(*TINY_VIT, "model.dropout=0.1", "device.jit=true"), (
        "Dropout draws one mask for a batch"
    )
    assert not halved(*TINY_VIT, "device.jit=false")
    assert not halved(recipe="mnist_mlp")
    assert not halved("model.filters=4,4", "device.jit=true", recipe="mnist_cnn"), (
        "statistics are of a whole batch"
    )
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    assert not halved(*TINY_VIT)


def test_a_batch_of_odd_size_stays_whole(tmp_path):
    setup, state, _ = run_to(
        tmp_path, 2, *TINY_VIT[:-2], "train.batch_size=7", "optim.warmup=0", recipe="mnist_vit"
    )
    assert setup.step.halves and state.step == 2
