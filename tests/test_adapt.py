"""Adapters: transforms of a built model, saved apart, merged into the plain model that leaves."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from toy_sequences import Sequences, recipe
from training import Silent, assert_equal

import tfbig
from tfbig.core import config
from tfbig.core.errors import UserError
from tfbig.core.lazy import keras
from tfbig.core.model import Model
from tfbig.core.run import Run
from tfbig.engine import checkpoint, evaluate, job, loop
from tfbig.engine.setup import Setup, merged

LORA = ("adapt=lora", "adapt.rank=1", "adapt.layers=hidden")


@dataclass(frozen=True, kw_only=True)
class Wide(Model):
    """The same first layer, and another one that makes the head wider."""

    takes, gives = frozenset({"steps"}), frozenset({"sequence"})

    def build(self, spec):
        inputs = keras.Input(spec["x"].shape, name="x", dtype=spec["x"].dtype)
        hidden = keras.layers.Dense(8, "tanh", name="hidden")(inputs)
        return keras.Model(inputs, keras.layers.Concatenate(name="wide")([hidden, inputs]))


def trained(path, *settings, experiment=None):
    run = Run.create(path, tfbig.recipe(experiment or recipe(), *settings))
    job.train(run, Silent())
    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="module")
def adapted(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "adapted"
    return trained(path, f"init={base.path}", *LORA, "adapt.whole=head")


def answers(trained):
    raw = Sequences().examples("test", np.arange(8))
    return trained.predict({"x": raw["x"], "y": raw["y"]})["given"]


def weights(model):
    return {path: v.numpy() for path, v in checkpoint.named(model.variables).items()}


def test_begins_as_the_model_it_adapts(base, tmp_path):
    run = trained(
        tmp_path / "run", f"init={base.path}", *LORA, "train.length=1", "optim.learning_rate=1e-30"
    )
    np.testing.assert_array_equal(answers(tfbig.load(run)), answers(tfbig.load(base)))


def test_frozen_layers_are_not_adapted(base):
    """An update of what may not change would be trained for nothing."""
    common = (f"init={base.path}", "adapt=lora", "adapt.rank=1")
    facts = base.read_json("data.json")["facts"]
    setup = Setup(tfbig.recipe(base.experiment, *common, "train.freeze=head"), facts)
    assert {v.path for v in setup.model.trainable_variables} == {
        "hidden/lora_kernel_a", "hidden/lora_kernel_b"
    }  # fmt: skip
    assert not any("head/lora" in v.path for v in setup.model.variables)
    for settings in (("adapt.layers=head",), ("adapt.whole=head",)):
        with pytest.raises(UserError, match="such as hidden. Received: 'head'"):
            Setup(tfbig.recipe(base.experiment, *common, *settings, "train.freeze=head"), facts)


def test_trains_what_it_adds_and_what_it_is_told_to_and_nothing_else(base, adapted):
    before = weights(tfbig.load(base).model)
    setup = Setup(adapted.experiment, adapted.read_json("data.json")["facts"])
    assert {v.path for v in setup.model.trainable_variables} == {
        "hidden/lora_kernel_a", "hidden/lora_kernel_b", "head/kernel", "head/bias"
    }  # fmt: skip
    checkpoint.load(adapted.checkpoints / checkpoint.folder_name(12), setup.model_files)
    after = weights(setup.model)
    assert np.abs(after["hidden/lora_kernel_b"]).max() > 0
    for name in ("hidden/kernel", "hidden/bias"):
        np.testing.assert_array_equal(after[name], before[name])
    assert not np.array_equal(after["head/kernel"], before["head/kernel"])


def test_what_it_learnt_is_saved_apart(adapted):
    folder = adapted.checkpoints / checkpoint.folder_name(12)
    files = {
        name: set(checkpoint.read_file(folder, name, checkpoint.read_state(folder)))
        for name in (checkpoint.WEIGHTS, checkpoint.ADAPTER)
    }
    assert files[checkpoint.WEIGHTS] == {"hidden/kernel", "hidden/bias"}
    assert files[checkpoint.ADAPTER] == {
        "hidden/lora_kernel_a", "hidden/lora_kernel_b", "head/kernel", "head/bias"
    }  # fmt: skip


def test_the_plain_model_answers_as_the_adapted_one(adapted):
    facts = adapted.read_json("data.json")["facts"]
    setup = Setup(adapted.experiment, facts)
    checkpoint.load(adapted.checkpoints / checkpoint.folder_name(12), setup.model_files)
    plain = merged(setup)
    assert {v.path for v in plain.model.variables} == set(weights(tfbig.load(adapted).model))
    assert not any("lora" in v.path for v in plain.model.variables)
    one, other = (evaluate_metrics(each) for each in (setup, plain))
    assert one == pytest.approx(other, rel=1e-6)


def evaluate_metrics(setup):
    result = setup.evaluate("validation")
    assert isinstance(result, evaluate.Evaluation)
    return {name: metric["value"] for name, metric in result.metrics.items()}


def test_a_run_starts_from_an_adapted_one_as_it_answers(adapted, tmp_path):
    run = trained(
        tmp_path / "on", f"init={adapted.path}", "train.length=1", "optim.learning_rate=1e-30"
    )
    np.testing.assert_allclose(
        answers(tfbig.load(run)), answers(tfbig.load(adapted)), rtol=1e-6, atol=1e-7
    )


def test_resumes_bit_equal(base, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    init = f"init={base.path}"
    made = [
        tfbig.recipe(recipe(), *LORA, init, f"train.length={n}", "train.ema=0.5") for n in (7, 3, 7)
    ]
    facts = made[0].task.measure(made[0].data)
    setups = [Setup(experiment, facts) for experiment in made]
    for setup, folder in zip(setups, (whole, parts, parts), strict=True):
        loop.train(setup, folder, Silent())
    assert_equal(setups[0], setups[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("adapt=loraa",), "Did you mean lora?"),
        (("adapt.rank=3",), "is a setting of adapt=lora; this experiment has adapt=none"),
        (("adapt=lora", "adapt.layers=("), "adapt.layers: expected a regular expression"),
        (("adapt.r=3",), "adapt.rank is a setting of adapt=lora; this experiment has adapt=none"),
        (("lora=8",), "Did you mean adapt=lora?"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(UserError) as caught:
        tfbig.recipe(recipe(), *settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("setting", ["layers", "whole"])
def test_layers_that_do_not_exist_are_told(base, tmp_path, setting):
    with pytest.raises(UserError, match=f"adapt.{setting}: .*such as hidden, head. Rec.*'heads'"):
        trained(tmp_path / "run", f"init={base.path}", "adapt=lora", f"adapt.{setting}=heads")


def test_updates_of_nothing_known_are_refused(base, tmp_path):
    """Random weights would stay random."""
    with pytest.raises(UserError, match="init: expected weights that know something already"):
        tfbig.recipe(recipe(), "adapt=lora")
    other = replace(recipe(), model=Wide())
    with pytest.raises(UserError, match="has no head/kernel of this model's shape"):
        trained(tmp_path / "run", f"init={base.path}", "adapt=lora", experiment=other)
    run = trained(
        tmp_path / "whole", f"init={base.path}", "adapt=lora", "adapt.whole=head", experiment=other
    )
    assert run.read_json("summary.json")["steps"] == 12


def test_a_head_alone_can_be_trained(base, tmp_path):
    run = trained(tmp_path / "run", f"init={base.path}", "adapt=lora", "adapt.whole=head|hidden")
    setup = Setup(run.experiment, run.read_json("data.json")["facts"])
    assert not any("lora" in v.path for v in setup.model.variables)


def test_a_rank_is_no_larger_than_a_matrix_has(base):
    setup = Setup(
        tfbig.recipe(recipe(), f"init={base.path}", "adapt=lora", "adapt.rank=999999999"), {}
    )
    shapes = {v.path: tuple(v.shape) for v in setup.model.trainable_variables}
    assert shapes["hidden/lora_kernel_a"] == (2, 2) and shapes["head/lora_kernel_a"] == (8, 1)


def test_is_kept_in_json_and_left_out_again(base):
    made = tfbig.recipe(recipe(), *LORA, f"init={base.path}")
    assert config.from_json(config.to_json(made)) == made
    assert config.override(made, ["adapt=none", "init=none"]) == tfbig.recipe(recipe())
    saved = config.to_json(tfbig.recipe(recipe()))
    del saved["adapt"]  # of a version that knew no adapters
    assert config.from_json(saved) == tfbig.recipe(recipe())
