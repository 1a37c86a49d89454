"""Searches that really train: hyperband's promotions, resume, the test split, what is measured."""

import json
import shlex

import numpy as np
import pytest
from searches import TINY, Silent, begin, go, story
from training import assert_equal

import tfbig
from tfbig.core import config
from tfbig.core.run import Run
from tfbig.engine import checkpoint, loop
from tfbig.engine.setup import Setup
from tfbig.tune import tune


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A small real search of hyperband.

    Two trials of one evaluation, the better of them goes on to two.
    """
    folder = tmp_path_factory.mktemp("searches") / "a"
    settings = [
        "model.units=in:16,24,32",
        "optim.learning_rate=log:1e-3..1e-1",
        "model.dropout=in:0.2",
        "optim.schedule=cosine",
        *TINY,
    ]
    return tune(
        "mnist_mlp",
        *settings,
        "tune.algorithm=hyperband",
        "tune.factor=2",
        "tune.trials=3",
        "tune.finalists=1",
        "tune.seeds=2",
        run=folder,
    )


def test_hyperband_goes_on_bit_equal(searched):
    ends = {line["trial"]: line["outcome"] for line in searched.journal() if line["event"] == "end"}
    promoted, first = (
        ends["0002"],
        next(
            line["values"]["tuner/trial_id"]
            for line in searched.journal()
            if line["event"] == "start" and line["trial"] == "0002"
        ),
    )
    assert promoted["run"] == ends[first]["run"] and (
        ends[first]["evaluations"],
        promoted["evaluations"],
    ) == (1, 2)
    assert ends[first]["stopped"] == "paused" and promoted["stopped"] == "at its length"
    run = Run.open(searched.path / promoted["run"])
    steps = [line["step"] for line in run.history("evaluation")]
    assert steps == [10, 20]
    setup = Setup(run.experiment, run.read_json("data.json")["facts"])
    loop.train(setup, searched.path / "undisturbed", Silent())
    again = Setup(run.experiment, run.read_json("data.json")["facts"])
    checkpoint.load(run.checkpoints / checkpoint.folder_name(20), again.files)
    assert_equal(again, setup)


def test_a_paused_trial_is_an_ordinary_run(searched):
    ends = {line["trial"]: line["outcome"] for line in searched.journal() if line["event"] == "end"}
    paused = next(
        outcome["run"]
        for outcome in ends.values()
        if outcome["stopped"] == "paused" and outcome["run"] != ends["0002"]["run"]
    )
    assert tfbig.evaluate(searched.path / paused, split="validation")["step"] == 10
    run = tfbig.train(resume=searched.path / paused)
    assert [line["step"] for line in run.history("evaluation")] == [10, 20]


def test_the_test_split_is_read_for_the_winner_and_the_recipe_over_the_same_seeds(searched):
    best = searched.read_json("best.json")
    read = {
        path.parent.name
        for path in searched.trials.glob("*/metrics.json")
        if "test" in json.loads(path.read_text())
    }
    assert read == {
        f"{trial}_seed_{number}" for trial in {"baseline", best["trial"]} for number in (1, 2)
    }
    others = [path for path in searched.trials.iterdir() if path.name not in read]
    assert others and all(
        "test" not in json.loads((path / "data.json").read_text())["splits"] for path in others
    )

    def test(trial, number):
        return json.loads(
            (searched.trials / f"{trial}_seed_{number}" / "metrics.json").read_text()
        )["test"]

    ours, theirs = (
        [test(trial, n)["metrics"]["accuracy"]["value"] for n in (1, 2)]
        for trial in (best["trial"], "baseline")
    )
    assert best["test"]["accuracy"]["values"] == ours
    if best["trial"] != "baseline":
        assert best["test_baseline"]["accuracy"]["values"] == theirs
        assert (
            best["test_gain"]["low"]
            < best["test_gain"]["mean"]
            == pytest.approx(np.mean(ours) - np.mean(theirs))
        )
        page = (searched.path / "report.html").read_text()
        assert "On the test split" in page and "of test accuracy" in page


def test_the_line_trains_the_winner(searched):
    best = searched.read_json("best.json")
    python, dash, door, recipe, *settings = shlex.split(best["line"])
    made, ran = (
        config.to_json(tfbig.recipe(recipe, *settings)),
        config.to_json(Run.open(searched.path / best["run"]).experiment),
    )
    made["seed"], made["train"]["final_split"] = ran["seed"], "none"
    assert (python, dash, door) == ("python", "-m", "tfbig.train") and made == ran


def test_a_finished_search_resumes_to_the_same(searched):
    before, best = story(searched), (searched.path / "best.json").read_text()
    tune(resume=searched.path)
    assert story(searched) == before and (searched.path / "best.json").read_text() == best


def test_a_killed_trial_goes_on_from_its_checkpoint(tmp_path):
    search = begin(
        tmp_path / "a",
        *TINY,
        "train.save_every=5",
        "tune.trials=1",
        "tune.finalists=0",
        "tune.baseline=false",
        space=["model.units=in:16,24"],
    )

    class Killed(BaseException):
        pass

    class Killer(Silent):
        def evaluated(self, step, split, metrics):
            raise Killed  # after step 10, of which no checkpoint is written yet

    with pytest.raises(Killed):
        go(search, observe=lambda plan: Killer())
    notes = []
    chief = go(
        search,
        observe=lambda plan: type(
            "Noting", (Silent,), {"note": lambda self, text: notes.append(text)}
        )(),
    )
    assert "resumed at step 5" in notes and chief.outcomes["0000"]["evaluations"] == 2
    # As if killed between the end of training and its report
    (search.path / "outcomes" / "0000.json").unlink()
    lines = [line for line in search.journal() if line["event"] != "end"]
    (search.path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics, stamp = (
        chief.outcomes["0000"]["metrics"],
        (search.trials / "0000" / "summary.json").stat().st_mtime,
    )
    assert (
        go(search).outcomes["0000"]["metrics"] == metrics
        and (search.trials / "0000" / "summary.json").stat().st_mtime == stamp
    )


def test_several_objectives_are_measured_on_real_runs(tmp_path):
    settings = [
        *TINY,
        "tune.algorithm=grid",
        "tune.objective=accuracy,latency,size",
        "tune.finalists=0",
        "tune.baseline=false",
    ]
    search = tune("mnist_mlp", "model.units=in:16,256", *settings, run=tmp_path / "a")
    front = search.read_json("best.json")["front"]
    assert front and all(one["latency"] > 0 for one in front)
    sizes = {
        tuple(line["outcome"]["settings"]): line["outcome"]["metrics"]["size"]
        for line in search.journal()
        if line["event"] == "end"
    }
    assert max(sizes.values()) == pytest.approx(
        4 * (784 * 256 + 256 + 256 * 10 + 10) / 1e6, rel=0.02
    )


def test_hparams_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = [
        *TINY,
        "train.tensorboard=true",
        "tune.trials=1",
        "tune.finalists=0",
        "tune.baseline=false",
    ]
    go(begin(tmp_path / "a", *settings, space=["model.units=in:16,24"]))
    events = EventAccumulator(
        str(tmp_path / "a" / "trials" / "0000" / "tensorboard" / "hparams")
    ).Reload()
    assert (
        "_hparams_/session_start_info" in events.summary_metadata
        and "accuracy" in events.Tags()["tensors"]
    )
