"""The grammar of search spaces, their conditions, and what is refused before anything is
trained.
"""

import dataclasses
import json

import pytest

import tfbig
from tfbig.core import config, duration, registry
from tfbig.core.errors import UserError
from tfbig.tuning.search import Search
from tfbig.tuning.settings import Settings, Tune, read_settings
from tfbig.tuning.space import read_space

MLP = tfbig.recipe("mnist_mlp")


def read(*settings, base=MLP):
    return {parameter.name: parameter for parameter in read_space(base, list(settings)).parameters}


def test_kinds():
    space = read_space(
        MLP,
        [
            "optim.learning_rate=log:1e-4..1e-1",
            "model.units=in:64,128,[256,128]",
            "train.batch_size=log:16..256",
            "model.dropout=lin:0..0.5",
            "seed=3",
        ],
    )
    found = {parameter.name: parameter for parameter in space.parameters}
    assert (
        found["optim.learning_rate"].text(0.0123456) == "0.01235"
        and not found["optim.learning_rate"].whole
    )
    # Rounding does not leave the limits
    assert found["optim.learning_rate"].text(0.10000001) == "0.1"
    assert found["model.units"].choices == ("64", "128", "256,128")
    assert found["train.batch_size"].whole and found["train.batch_size"].text(31.7) == "31"
    settings = space.settings(
        {
            "optim.learning_rate": 0.01,
            "model.units": "256,128",
            "train.batch_size": 32,
            "model.dropout": 0.25,
        }
    )
    made = config.override(MLP, settings)
    assert (
        made.model.units,
        made.optim.learning_rate,
        made.train.batch_size,
        made.model.dropout,
        made.seed,
    ) == ((256, 128), 0.01, 32, 0.25, 3)
    again = read_space(MLP, [*map(str, space.parameters), *space.fixed])
    assert again == space  # what is saved is what was read


def test_settings_of_one_choice_apply_with_it_alone():
    found = read(
        "model=in:mlp,cnn",
        "mlp.units=in:64,128",
        "model.filters=in:[8,16],[16,32]",
        "model.dropout=lin:0..0.5",
        "cnn.units=int:16..64",
        "cnn.residual=false",
    )
    assert found["mlp.units"].key == found["cnn.units"].key == "model.units"
    assert found["mlp.units"].when == (("model", ("mlp",)),)
    for name in ("model.filters", "cnn.units", "cnn.residual"):
        assert found[name].when == (("model", ("cnn",)),)
    assert found["model"].when == found["model.dropout"].when == ()
    found = read(
        "optim.optimizer=in:sgd,adam,adamw",
        "optim.momentum=lin:0.5..0.99",
        "optim.beta_2=in:0.99,0.999",
        "optim.learning_rate=log:1e-4..1",
    )
    assert found["optim.momentum"].when == (("optim.optimizer", ("sgd",)),)
    assert (
        found["optim.beta_2"].when == (("optim.optimizer", ("adam", "adamw")),)
        and not found["optim.learning_rate"].when
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["optim.lerning_rate=log:1e-4..1"],
            "optim.lerning_rate: no such setting. Did you mean optim.learning_rate?",
        ),
        (
            ["optim.learning_rate=lgo:1e-4..1"],
            (
                "expected log:LOW..HIGH, lin:LOW..HIGH, int:LOW..HIGH or in:A,B,C. Received:"
                " 'lgo:1e-4..1'. Did you mean log?"
            ),
        ),
        (["optim.learning_rate=log:0..1"], "expected a lower limit above 0 on a logarithmic scale"),
        (["optim.learning_rate=log:1..1"], "with LOW below HIGH"),
        (["optim.learning_rate=log:a..1"], "expected a number. Received: 'a'"),
        (["train.batch_size=lin:1.5..3"], "expected whole numbers as limits"),
        (["train.batch_size=in:0,64"], "train.batch_size: expected at least 1. Received: 0."),
        (["model.dropout=lin:0..1.5"], "model.dropout: expected at most 0.95. Received: 1.5."),
        (["model.activation=in:relu,gelo"], "Did you mean gelu?"),
        (["model=in:mlp,cnm"], "Received: 'cnm'. Did you mean cnn?"),
        (
            ["model=in:mlp,cnn", "cnn.filterz=in:[3,4],5"],
            "cnn.filterz: no such setting. Did you mean model.filters?",
        ),
        (["train.length=int:2..4"], "expected in:A,B,C, since its values are no numbers"),
        (["model.dropout=in:0.1,0.1"], "expected different values"),
        (["model.dropout=in:0.1,0.2", "model.dropout=0.3"], "model.dropout: given twice."),
        (
            ["train.batch_size=in:64,100", "train.accumulate=in:1,3"],
            "expected a divisor of train.batch_size=64. Received: 3.",
        ),
        (["seed=in:1,2"], "seed: is the same for all trials; tune.seeds"),
        (
            ["model.dropout=lin:0..0.5", "train.final_split=test"],
            "the test split is read after it, for the winner and the recipe",
        ),
        (["train.length=3ep"], "expected at least one setting to search"),
        (["model.dropout=lin:0..0.5", "optim.momentun=0.9"], "Did you mean optim.momentum?"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(UserError) as error:
        read_space(MLP, settings)
    assert message in str(error.value)


def test_all_problems_at_once():
    with pytest.raises(UserError) as error:
        read_settings(
            MLP,
            [
                "tune.trails=3",
                "model.dropout=lin:0..2",
                "optim.learning_rate=log:1e-3..1e-1",
                "model.unitz=in:1,2",
            ],
        )
    assert all(
        part in str(error.value)
        for part in ("Did you mean tune.trials?", "Received: 2.0.", "Did you mean model.units?")
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["tune.objective=accurcy"],
            (
                "tune.objective: expected accuracy, alone or with latency, parameters, size."
                " Received: 'accurcy'. Did you mean accuracy?"
            ),
        ),
        (["tune.objective=latency"], "expected accuracy among them"),
        (["tune.time=30"], 'expected a time such as "90s"'),
        (["tune.algorithm=hyperbnad"], "Did you mean hyperband?"),
        (
            ["tune.algorithm=hyperband", "train.length=in:1ep,2ep"],
            "train.length: cannot be searched with tune.algorithm=hyperband",
        ),
    ],
)
def test_refusals_of_the_search(settings, message):
    with pytest.raises(UserError) as error:
        read_settings(MLP, ["model.dropout=lin:0..0.5", *settings])
    assert message in str(error.value)


@pytest.mark.parametrize(
    "name", [name for name in registry.recipes() if registry.search_space(name)]
)
def test_recipes_own_spaces_are_valid(name):
    assert len(read(*registry.search_space(name), base=tfbig.recipe(name))) >= 3


def test_which_recipes_carry_a_space():
    assert {"mnist_mlp", "mnist_cnn"} <= {
        name for name in registry.recipes() if registry.search_space(name)
    }


def test_search_directory(tmp_path):
    search = Search.create(
        tmp_path / "a",
        "mnist_mlp",
        MLP,
        [
            "model.units=in:64,[128,64]",
            "train.length=2ep",
            "tune.trials=3",
            "tune.objective=accuracy,size",
        ],
    )
    again = Search.open(tmp_path / "a")
    assert (
        again.space == search.space
        and again.tune == Tune(trials=3, objective=("accuracy", "size"))
        and again.experiment.train.length == "2ep"
    )
    assert again.objectives == {"accuracy": "max", "size": "min"}
    assert (
        Search.open(tmp_path / "a", ["tune.trials=5"]).tune.trials
        == 5
        == Search.open(tmp_path / "a").tune.trials
    )
    for changed, message in (
        (["tune.seed=2"], "cannot change in a search that goes on"),
        (["tune.trails=2"], "Did you mean tune.trials?"),
    ):
        with pytest.raises(UserError, match=message.replace("?", r"\?")):
            Search.open(tmp_path / "a", changed)
    with pytest.raises(UserError, match="exists already. Continue it with --resume"):
        Search.create(tmp_path / "a", "mnist_mlp", MLP, ["model.units=in:64,128"])
    with pytest.raises(UserError, match="Did you mean a"):
        Search.open(tmp_path / "aa")


def test_torn_journal_is_mended(tmp_path):
    search = Search.create(tmp_path / "a", "mnist_mlp", MLP, ["model.units=in:64,128"])
    search.record("start", trial="0000", values={"model.units": 64})
    with (search.path / "journal.jsonl").open("a") as file:
        file.write('{"event": "end", "tri')
    assert [line["event"] for line in search.journal()] == ["start"] and search.proposal(
        "0000"
    ) == {"model.units": 64}
    search.mend_journal()
    search.record("open")
    assert [
        json.loads(line)["event"]
        for line in (search.path / "journal.jsonl").read_text().splitlines()
    ] == ["start", "open"]


def test_times():
    assert [duration.to_seconds(text) for text in ("90s", "30m", "1.5h", "2d")] == [
        90,
        1800,
        5400,
        172800,
    ]
    assert dataclasses.asdict(config.override(Settings(), ["tune.time=15m"]).tune)["time"] == "15m"


def test_values_that_the_fixed_settings_rule_out():
    with pytest.raises(
        UserError,
        match=(
            r"train.accumulate: expected a divisor of train.batch_size=63.*train.batch_size=63"
            r" with any"
        ),
    ):
        read_space(MLP, ["train.accumulate=2", "train.batch_size=in:63,64"])


def test_a_search_knows_its_data_from_anywhere(tmp_path, monkeypatch):
    """Relative paths among the fixed settings are kept absolute.

    Absent data is said before a directory is made.
    """
    monkeypatch.chdir(tmp_path)
    settings = ["data=text_files", "data.path=a.txt", "train.batch_size=in:4,8"]
    with pytest.raises(
        UserError,
        match=r"data.path: expected a file or folder. Received: a.txt, which does not exist.",
    ):
        Search.create("search", "sotu_gpt", tfbig.recipe("sotu_gpt"), settings)
    assert not (tmp_path / "search").exists()
    (tmp_path / "a.txt").write_text("words")
    Search.create("search", "sotu_gpt", tfbig.recipe("sotu_gpt"), settings)
    at_home = Search.create("own", "mine", tfbig.recipe("sotu_gpt", *settings[:2]), settings[2:])
    assert at_home.base.data.path == str(tmp_path / "a.txt")
    assert Search.open(tmp_path / "search").space.fixed == (
        "data=text_files",
        f"data.path={tmp_path / 'a.txt'}",
    )
