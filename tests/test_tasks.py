"""Every task conforms: it trains, learns, repeats, resumes, compiles, divides, predicts, leaves.

All of it on the experiment that it says is its `smallest`; a new task is tested without an edit
here.
"""

import shutil

import components
import numpy as np
import pytest
import tensorflow as tf
from training import Silent, assert_equal, values

import tfbig
from tfbig.core import registry
from tfbig.core.contracts import Task
from tfbig.core.run import Run
from tfbig.core.workers import Share, computing
from tfbig.deploy import saved_model
from tfbig.deploy.programs import Programs
from tfbig.engine import batches, checkpoint, job, shapes
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup, training_facts
from tfbig.engine.strategy import layers
from tfbig.engine.trained import load_parts

pytestmark = pytest.mark.long


class Small:
    """A task's smallest experiment, measured once."""

    def __init__(self, experiment):
        self.experiment = experiment
        self.facts = training_facts(experiment, Readable(experiment.data))
        self.parts = load_parts(None, experiment.task, Silent())

    def setup(self, *settings) -> Setup:
        return Setup(tfbig.recipe(self.experiment, *settings), self.facts, parts=self.parts)

    def calm(self, *settings) -> Setup:
        """Without Dropout, whose numbers are others in another program."""
        setup = self.setup(*settings)
        for layer in layers(setup.model):
            if hasattr(layer, "rate"):
                layer.rate = 0.0
        return setup


def steps(setup, count=3):
    """The losses of the first steps."""
    losses = []
    for step in range(count):
        slab, first = setup.slabs.at(step)
        losses.append(setup.run_block(slab, tf.constant(first), tf.constant(1))["loss"].numpy()[0])
        setup.slabs.trained(step + 1)
    return losses


def first_batch(setup):
    slab, first = setup.slabs.at(0)
    batch = {name: value[first] for name, value in slab.items()}
    is_raw = setup.task.preprocess_on == "device"
    return setup.task.preprocess(batch, training=True) if is_raw else batch


def interval(metric):
    """Low and high; the value itself where all examples are alike, such as without a hit."""
    return [metric["value"] if metric[end] is None else metric[end] for end in ("low", "high")]


def common(value, other):
    """Of an array, what another one has too: what is of any length is padded further in one."""
    return value[tuple(slice(size) for size in other.shape)]


TASKS = [name for name in components.names("tasks") if name not in components.SURPASSED]


@pytest.fixture(scope="module", params=TASKS)
def small(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smallest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield Small(registry.component("tasks", request.param).smallest(folder))


@pytest.fixture(scope="module")
def untrained(small):
    return small.setup()


@pytest.fixture(scope="module")
def before(untrained):
    """Metrics of the training split before anything is learnt."""
    return untrained.evaluate("train").metrics


@pytest.fixture(scope="module")
def plain(small):
    return small.calm("device.jit=false")


@pytest.fixture(scope="module")
def plain_losses(plain):
    return steps(plain)


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", small.experiment)
    job.train(run, Silent())
    return run


@pytest.fixture(scope="module")
def trained(run):
    return tfbig.load(run)


def test_metrics_are_per_example(untrained):
    result, data = untrained.evaluate("validation"), untrained.task.data
    assert result.metrics[untrained.task.primary[0]]["value"] is not None
    assert result.count == data.size("validation")
    for metric in result.metrics.values():
        if metric["value"] is None:  # too little of what it counts
            continue
        low, high = interval(metric)
        assert low <= metric["value"] <= high and metric["count"] > 0


def test_repeats_under_one_seed(small, before, untrained):
    again, other = small.setup(), small.setup("seed=1")
    assert any(not np.array_equal(a, b) for a, b in zip(values(again), values(other), strict=True))
    losses = steps(untrained)
    assert np.isfinite(losses).all() and losses == steps(again)
    assert_equal(untrained, again)


def test_compiled_step_agrees(small, plain_losses):
    """The step is one XLA program with static shapes, as a TPU needs it, and computes what it
    computes uncompiled.
    """
    np.testing.assert_allclose(steps(small.calm("device.jit=true")), plain_losses, rtol=1e-4)


def test_micro_batches_change_nothing(small, plain, plain_losses):
    parts = small.calm("device.jit=false", "train.accumulate=2")
    np.testing.assert_allclose(steps(parts), plain_losses, rtol=1e-4)
    for one, other in zip(values(plain), values(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3)


def test_shares_add_up_to_the_batch(plain):
    """What two workers sum, of unequal shares, is the sum of one."""
    batch = first_batch(plain)
    size = plain.experiment.train.batch_size
    whole = plain.task.loss(plain.model, batch, False)
    sums = dict.fromkeys(whole, 0.0)
    for share in (Share(0, size // 3, size), Share(size // 3, size - size // 3, size)):
        rows = slice(share.first, share.first + share.size)
        with computing(share):
            part = {name: value[rows] for name, value in batch.items()}
            for name, pair in plain.task.loss(plain.model, part, False).items():
                sums[name] += np.array([tf.reduce_sum(value) for value in pair])
    for name, pair in whole.items():
        assert all(value.shape == (size,) for value in pair)
        np.testing.assert_allclose(sums[name], [np.sum(value) for value in pair], rtol=1e-4)


def test_padding_changes_nothing(plain):
    task = plain.task
    longest = shapes.free(task.data.spec)
    if not longest:
        pytest.skip("its examples are all of one size")
    read, size = batches.Reader(task.data, "validation"), task.data.size("validation")
    raw = task.data.examples("validation", np.arange(size))
    lengths = {name: shapes.counts(raw[name]) for name in longest}
    rows = np.argsort(sum(lengths.values()), kind="stable")[: size // 2]
    tight = {name: max(1, lengths[name][rows].max()) for name in longest}
    assert tight != longest, "smallest: half of the examples should be shorter than the most"
    losses = [
        task.loss(plain.model, task.preprocess(read(tf.constant(rows), padded), False), False)
        for padded in (tight, longest)
    ]
    for name, pair in losses[0].items():
        np.testing.assert_allclose(pair, losses[1][name], rtol=1e-4, atol=1e-6)


def test_learns(small, before, run, trained):
    """Better than chance on what it was shown, beyond both intervals."""
    name, better = small.experiment.task.primary
    old, new = before[name], trained.setup.evaluate("train").metrics[name]
    (low, high), (old_low, old_high) = interval(new), interval(old)
    assert high < old_low if better == "min" else low > old_high
    assert run.is_done


def test_resumes_bit_equal(run, small, tmp_path):
    """Killed behind its last checkpoint but one."""
    path = tmp_path / "killed"
    shutil.copytree(run.path, path)
    (path / "DONE").unlink()
    *_, last_but_one, last = checkpoint.steps(run.checkpoints)
    shutil.rmtree(path / "checkpoints" / checkpoint.folder_name(last))
    console = Silent()
    job.train(Run.open(path), console)
    assert checkpoint.steps(path / "checkpoints")[-1] == last > last_but_one
    for file in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER):
        one, other = (
            folder / "checkpoints" / checkpoint.folder_name(last) / file
            for folder in (run.path, path)
        )
        assert one.read_bytes() == other.read_bytes()


def test_a_run_is_what_it_was(run, trained):
    """The metrics of a loaded run are those that it recorded."""
    recorded = run.read_json("metrics.json")["test"]["metrics"]
    metrics = trained.setup.evaluate("test").metrics
    assert set(metrics) == set(recorded)
    for name, metric in metrics.items():
        if recorded[name]["value"] is None:
            assert metric["value"] is None
        else:
            assert metric["value"] == pytest.approx(recorded[name]["value"], rel=1e-5)


def test_predicts(trained):
    """Raw examples, and each the same alone as among others."""
    raw = trained.task.data.examples("test", np.arange(3))
    together = trained.predict(raw)
    assert together
    for i in range(3):
        alone = trained.predict({name: value[i : i + 1] for name, value in raw.items()})
        for name, value in together.items():
            assert len(value) == 3
            among = common(value[i], alone[name][0])
            np.testing.assert_allclose(among, alone[name][0], rtol=1e-4, atol=1e-5)


def test_exported_it_answers_as_it_predicts(trained, tmp_path):
    task = trained.task
    if type(task).serving is Task.serving:
        pytest.skip("it has no served form")
    programs = Programs(task, trained.model)
    saved_model.write(programs, tmp_path / "1", {})
    serving = programs.serving
    served = tf.saved_model.load(str(tmp_path / "1")).signatures[serving.name]
    raw = task.data.examples("test", np.arange(3))
    outputs = {name: tf.constant(value) for name, value in trained.predict(raw).items()}
    sent = serving.encode({**raw, **task.data.encoded("test", np.arange(3))})
    given = {name: tf.constant(value) for name, value in sent.items()}
    answers = served(**given)
    for name, expected in serving.answer(outputs).items():
        found = common(answers[name].numpy(), expected)
        if expected.dtype.is_floating:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, expected)
