"""Exported language models.

Text in and out as the run itself writes it, scores as it is evaluated, single steps, refusals.
"""

import dataclasses
import functools
import json
import random

import numpy as np
import pytest
import tensorflow as tf
from vocabularies import llama_json

import tfbig
from tfbig import export as door
from tfbig.core import config, knobs
from tfbig.core.errors import UserError
from tfbig.core.experiment import Device, Experiment, Optim, Train
from tfbig.core.serving import Trial
from tfbig.data import _text
from tfbig.data.text_files import TextFiles
from tfbig.deploy import (
    allowlist,
    artefact,
    litert_format,
    onnx_format,
    saved_model,
    verify,
)
from tfbig.deploy.bench import Bench, Reference
from tfbig.deploy.programs import Programs
from tfbig.deploy.stepping import Stepping
from tfbig.deploy.steps import State
from tfbig.engine import float32
from tfbig.engine.setup import Setup
from tfbig.models.gpt import GPT
from tfbig.models.lstm_lm import LSTMLM
from tfbig.prep import graph_text
from tfbig.prep.bpe import BPE
from tfbig.prep.tokenizers import Bytes, Characters
from tfbig.tasks._served_text import Service
from tfbig.tasks.text_generation import Generation, TextGeneration

pytestmark = pytest.mark.long

SMALL = {"width": 16, "depth": 2, "heads": 2}
MODELS = {
    "gpt": GPT(**SMALL, bias=True, deviation=0.3),
    "llama": GPT(
        **SMALL,
        positions="rope",
        normalization="rms",
        activation="swiglu",
        kv_heads=1,
        qk_norm=True,
        tied=False,
        deviation=0.3,
    ),
    "lstm": LSTMLM(width=8, units=(12, 9)),
}
CONTEXT = 16


def prose(seed, words=60):
    choose = random.Random(seed)
    return (
        " ".join(
            choose.choice(["the", "cat", "sät", "on", "a", "mat", "and", "犬", "ran", "to", "it"])
            for _ in range(words)
        )
        + "\n"
    )


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        _text._opened.cache_clear()
        yield


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """One text, which has no separators, and many documents, which have."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "one.txt").write_text("".join(prose(i) for i in range(50)), "utf-8")
    (folder / "many.jsonl").write_text(
        "".join(json.dumps({"text": prose(i)}) + "\n" for i in range(20)), "utf-8"
    )
    return {"one": folder / "one.txt", "many": folder / "many.jsonl"}


def experiment(path, model="gpt", precision="float32", **data):
    train = Train(length="60", batch_size=8, evaluate_every="30", save_every="30")
    return config.validate(
        Experiment(
            name="tiny",
            task=TextGeneration(),
            model=MODELS[model],
            data=TextFiles(path=str(path), context=CONTEXT, vocabulary=300, **data),
            train=train,
            optim=Optim(optimizer="adamw", learning_rate=1e-2),
            device=Device(precision=precision),
        )
    )


@functools.cache
def made(path, model="gpt", service=None, **data):
    """Programs of an untrained model, and its setup; what is traced once serves several tests."""
    wanted = experiment(path, model, **data)
    setup = Setup(wanted, TextGeneration().measure(wanted.data))
    return Programs(setup.task, setup.model, service or Service(length=40, limit=60)), setup


def texts(values):
    return tf.constant([value if isinstance(value, bytes) else value.encode() for value in values])


def complete(programs, prompts, signature="serving_default", **asked):
    found = programs.signatures[signature](
        prompt=texts(prompts), **{name: tf.constant(value) for name, value in asked.items()}
    )
    return [text.decode() for text in found["text"].numpy()], found["tokens"].numpy().tolist()


# Texts and tokens inside a graph


def any_text(seed, length=300):
    choose = random.Random(seed)
    ranges = [(1, 0x7F), (0x80, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    return "".join(chr(choose.randint(*choose.choice(ranges))) for _ in range(length))


@pytest.mark.parametrize("kind", ["characters", "separated", "rare", "bytes"])
def test_tokenizers_in_a_graph_are_those_outside(kind):
    strings = [any_text(1), "", "犬 é\n", any_text(2, 20), "\0a"]
    tokenizer = {
        "characters": lambda: Characters.of(strings),
        "separated": lambda: Characters.of(strings, separator=True),
        "rare": lambda: Characters.of(
            [*strings[:3], *strings[:2], any_text(3)], min_count=2, separator=True
        ),
        "bytes": Bytes,
    }[kind]()
    tokens = graph_text.encoder(tokenizer)(texts(strings))
    for row, string in zip(tokens, strings, strict=True):
        np.testing.assert_array_equal(row, tokenizer.encode(string))
    decoded = graph_text.decoder(tokenizer)(
        tokens.to_tensor(), tf.cast(tokens.row_lengths(), tf.int32), True
    ).numpy()
    assert [text.decode() for text in decoded] == [tokenizer.decode(row.numpy()) for row in tokens]


def test_unknown_tokens_of_trials_are_read_back():
    """Where the alphabet holds U+FFFD, which otherwise spells what is unknown."""
    from tfbig.tasks import _text_trials

    for alphabet in ("ab\ufffd\ufffc", "ab", ""):
        tokenizer = Characters(alphabet, unknown=True, separator=True)
        tokens = tokenizer.encode("a\ufffdz")
        text = b"".join(_text_trials._spelled(tokenizer)[token] for token in tokens)
        np.testing.assert_array_equal(graph_text.encoder(tokenizer)(texts([text]))[0], tokens)


def test_bpe_tokens_become_text_in_a_graph():
    tokenizer = BPE.train([prose(i) for i in range(5)], 300)
    rows = [tokenizer.encode(text) for text in ("the cat 犬\n", any_text(4, 30))]
    # Begins with a torn character
    rows.append(np.append(tokenizer.encode("魚")[:1], tokenizer.encode("b")))
    tokens = tf.ragged.constant([row.tolist() for row in rows], tf.int32)
    decoded = graph_text.decoder(tokenizer)(
        tokens.to_tensor(), tf.cast(tokens.row_lengths(), tf.int32), True
    ).numpy()
    assert [text.decode() for text in decoded] == [tokenizer.decode(row) for row in rows]
    assert decoded[2].startswith("\ufffd".encode())


# Programs


@pytest.mark.parametrize(
    ("model", "corpus", "tokenizer"),
    [
        ("gpt", "one", "characters"),
        ("gpt", "many", "bytes"),
        ("llama", "many", "characters"),
        ("lstm", "one", "bytes"),
        ("lstm", "many", "characters"),
    ],
)
def test_generation_is_the_same_as_predict(corpora, model, corpus, tokenizer):
    """Greedy and sampled; prompts of different lengths, none at all, a full context.

    Text that outgrows the context twice.
    """
    programs, setup = made(corpora[corpus], model, tokenizer=tokenizer)
    prompts = ["the cat", "", "a", "the cat ran to i"]

    def write(**asked):
        return setup.task.write(setup.model, prompts, Generation(**asked), jit=False)

    found, count = complete(programs, prompts)
    assert found == write(length=40, temperature=0)
    assert all(n <= 40 for n in count) and (corpus == "many" or count == [40] * 4)
    asked = {"length": 25, "temperature": 0.9, "top_k": 7, "top_p": 0.8, "seed": 5}
    found, count = complete(programs, prompts, "generate", **asked)
    assert found == write(**asked) and max(count) <= 25 and len(set(found)) == 4
    assert found != complete(programs, prompts, "generate", **{**asked, "seed": 6})[0]
    plain = {"length": 9, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 1}
    assert complete(programs, prompts, "generate", **plain)[0] == write(
        length=9, temperature=1.0, seed=1
    )


def test_the_service_decides_how_serving_default_writes(corpora):
    programs, setup = made(
        corpora["one"], service=Service(length=12, temperature=0.7, top_k=5, seed=3)
    )
    found, count = complete(programs, ["the", "a"])
    assert found == setup.task.write(
        setup.model,
        ["the", "a"],
        Generation(length=12, temperature=0.7, top_k=5, seed=3),
        jit=False,
    )
    assert count == [12, 12] and [len(text) for text in found] == [12, 12]
    assert (
        knobs.problems(Service(length=9, limit=8))[0][1] == "expected at most limit=8. Received: 9."
    )


def test_text_ends_with_the_document(corpora):
    """A model that always says the separator writes nothing."""
    programs, setup = made.__wrapped__(corpora["many"])  # its own, since it is changed
    embedding = setup.model.get_layer("embedding").embeddings
    end = setup.task.tokenizer.separator
    norm = setup.model.get_layer("norm")
    norm.gamma.assign(norm.gamma * 0)
    norm.beta.assign(embedding[end] * 100)
    assert complete(programs, ["the", ""]) == (["", ""], [0, 0])


def test_token_numbers_where_the_tokenizer_stays_outside(corpora):
    programs, setup = made(corpora["many"], "llama", tokenizer="bpe")
    tokenizer, prompts = setup.task.tokenizer, ["the cat ran", "", "犬"]
    rows = [tokenizer.encode(prompt).tolist() for prompt in prompts]
    given = {
        "tokens": tf.ragged.constant(rows, tf.int32).to_tensor(),
        "count": tf.constant([len(row) for row in rows], tf.int32),
    }
    found = programs.signatures["serving_default"](**given)
    assert [text.decode() for text in found["text"].numpy()] == setup.task.write(
        setup.model, prompts, Generation(length=40, temperature=0), jit=False
    )
    for ids, count, text in zip(
        found["ids"].numpy(), found["tokens"].numpy(), found["text"].numpy(), strict=True
    ):
        assert tokenizer.decode(ids[:count]) == text.decode() and not ids[count:].any()
    assert set(programs.signatures["score"](**given)) == {"log_probability", "tokens", "bytes"}
    assert programs.serving.assets["generation"]["takes"] == "tokens" and any(
        "token numbers go in" in remark for remark in programs.serving.remarks
    )
    for change, message in (
        ({"count": tf.constant([99, 0, 1])}, "count: expected 0 to the number"),
        ({"count": tf.constant([1])}, "count: expected .* one for each row"),
        ({"tokens": given["tokens"] + 300}, "tokens: expected numbers from 0 to"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            programs.signatures["serving_default"](**{**given, **change})


def test_a_vocabulary_that_puts_a_space_before_texts(corpora, tmp_path):
    """Written behind nothing, a text has no space of the tokenizer's.

    And the space is none of the bytes of a score.
    """
    (tmp_path / "tokenizer.json").write_text(json.dumps(llama_json()))
    programs, setup = made(corpora["many"], tokenizer="ready", vocabulary_path=str(tmp_path))
    generation, tokenizer = programs.serving.assets["generation"], setup.task.tokenizer
    assert (generation["start"], generation["opening"], generation["separator"]) == ([1], [1], 2)
    position, space = setup.model.get_layer("position").weights[0], tokenizer.encode("ab")[0]
    # Which is then the likeliest token
    position.assign(position * 0 + setup.model.get_layer("embedding").weights[0][space] * 30)
    prompts = ["ab", "", "a b"]
    rows = [tokenizer.encode(prompt).tolist() for prompt in prompts]
    given = {
        "tokens": tf.ragged.constant(rows, tf.int32).to_tensor(),
        "count": tf.constant([len(row) for row in rows], tf.int32),
    }
    found = [
        text.decode() for text in programs.signatures["serving_default"](**given)["text"].numpy()
    ]
    assert found == setup.task.write(
        setup.model, prompts, Generation(length=40, temperature=0), jit=False
    )
    assert found[1].startswith("ab ab") and found[0].startswith(" ab ab")
    assert programs.signatures["score"](**given)["bytes"].numpy().tolist() == [2, 0, 3]


@pytest.mark.parametrize(
    ("model", "tokenizer"), [*((model, "characters") for model in MODELS), ("gpt", "bytes")]
)
def test_scores_are_what_evaluation_gives(corpora, model, tokenizer):
    """The whole test split as one text, in the same windows.

    A separator that the model has never seen is not put before it.
    """
    programs, setup = made(corpora["one"], model, tokenizer=tokenizer)
    assert programs.serving.assets["generation"]["start"] == []
    metrics, tokens = setup.evaluate("test").metrics, np.asarray(setup.task.data.tokens("test"))
    text = setup.task.tokenizer.decode(tokens)
    found = {
        name: value.numpy()
        for name, value in programs.signatures["score"](text=texts([text, "the", "t", ""])).items()
    }
    assert (
        found["tokens"].tolist() == [len(tokens) - 1, 2, 0, 0]
        and found["tokens"][0] == metrics["loss"]["count"]
    )
    assert -found["log_probability"][0] / found["tokens"][0] == pytest.approx(
        metrics["loss"]["value"], rel=1e-5
    )
    assert -found["log_probability"][0] / np.log(2) / found["bytes"][0] == pytest.approx(
        metrics["bits_per_byte"]["value"], rel=1e-5
    )
    assert found["bytes"].tolist() == [len(text[1:].encode()), 2, 0, 0] and found[
        "log_probability"
    ][2:].tolist() == [0, 0]


def test_scores_behind_the_start_of_a_document(corpora):
    programs, setup = made(corpora["many"])
    separator = setup.task.tokenizer.separator
    found = programs.signatures["score"](text=texts(["a mat"]))
    row = np.array([[separator, *setup.task.tokenizer.encode("a mat")] + [0] * 11])
    expected = (
        tf.nn.log_softmax(setup.model(row[:, :-1])).numpy()[0, np.arange(5), row[0, 1:6]].sum()
    )
    assert found["log_probability"].numpy() == pytest.approx([expected], rel=1e-5) and found[
        "bytes"
    ].numpy() == found["tokens"].numpy() == [5]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("the cat ran to it", r"prompt 2: expected at most the context of 16 tokens. Received: 17"),
        (
            "Ω",
            r"text 2: the character Ω \(code point 937\) is not in the alphabet of \d+ characters",
        ),
        (b"a\xff", r"the character \ufffd \(code point 65533\)"),
    ],
)
def test_prompts_that_are_refused(corpora, prompt, message):
    programs, _ = made(corpora["one"])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        complete(programs, ["the", prompt])


def test_bytes_that_are_no_text(corpora):
    """A model of bytes takes any; what it writes is text all the same."""
    programs, setup = made(corpora["many"], tokenizer="bytes")
    found, count = complete(programs, [b"a\xff", b"\xe7\x8a"])
    assert len(found) == 2 and all(count)
    generated = programs.signatures["score"](text=texts([b"a\xff", "犬"]))
    assert generated["bytes"].numpy().tolist() == generated["tokens"].numpy().tolist() == [2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 61}, "length: expected 1 to 60"),
        ({"length": 0}, "length: expected 1 to 60"),
        ({"temperature": -1.0}, "temperature: expected at least 0"),
        ({"top_p": 0.0}, "top_p: expected more than 0"),
        ({"top_k": -1}, "top_k: expected"),
        ({"seed": -1}, "seed: expected at least 0"),
    ],
)
def test_requests_that_are_refused(corpora, change, message):
    programs, _ = made(corpora["one"])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        complete(
            programs,
            ["a"],
            "generate",
            **{"length": 5, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 1, **change},
        )


def test_all_rows_together_are_bounded(corpora):
    """Nothing stops the loop of a program once it runs."""
    programs, _ = made(corpora["one"])
    rest = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 1}
    assert complete(programs, ["a"] * 300, "generate", length=1, **rest)[1] == [1] * 300
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="at most 16,384 tokens together, rows times length"
    ):
        complete(programs, ["a"] * 300, "generate", length=55, **rest)


# Single steps


def test_stepping_counts_ties_and_changes():
    scores = np.array([[1.0, 1.0 - 1e-6, 0.0], [0.0, 5.0, 1.0]], np.float32)
    plan = {"scores": "logits", "chosen": "token", "position": "", "count": "", "carried": []}
    plan |= {"fixed": [], "first": 0}
    stepping = Stepping(plan, State, *[lambda rows: {"logits": scores}] * 2)
    found = stepping.greedy(
        np.array([[0, 1], [1, 2]], np.int32), start__tokens=np.zeros((2, 1), np.int32)
    )
    assert found == {"choices": 4, "changed": 1, "ties": 1}


@pytest.mark.parametrize("model", MODELS)
def test_steps_give_what_predict_gives_in_onnx_too(corpora, model, tmp_path):
    import onnxruntime

    programs, setup = made(corpora["many"], model)
    windows = setup.task.data.examples("test", np.arange(setup.task.data.size("test")))
    expected = setup.task.predict(
        setup.model,
        setup.task.preprocess({name: tf.constant(value) for name, value in windows.items()}, False),
    )
    stepwise, calls = programs.serving.stepwise, {}
    greedy, unrolled = stepwise.greedy("test"), stepwise.unroll(windows)
    for name, function in programs.portable.items():
        onnx_format.write(function, tmp_path / f"{name}.onnx", programs.metadata)
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"))
        calls[name] = lambda rows, s=session: dict(
            zip(
                (o.name.removeprefix("new_") for o in s.get_outputs()),
                s.run(None, rows),
                strict=True,
            )
        )
    given = {i.name: i.shape for i in session.get_inputs()}
    assert given.pop("token") == given.pop("position") == ["batch"] and set(given) == {
        f"cache_{i}" for i in range(len(given))
    }
    assert {o.name for o in session.get_outputs()} == {"logits", *(f"new_{name}" for name in given)}
    assert (
        json.loads(session.get_modelmeta().custom_metadata_map["tokenizer"])
        == setup.task.tokenizer.to_json()
    )
    graph = {
        name: lambda rows, f=function: {
            key: value.numpy()
            for key, value in f(**{k: tf.constant(v) for k, v in rows.items()}).items()
        }
        for name, function in programs.portable.items()
    }
    for runtime in (calls, graph):
        plan = {**stepwise.to_json(), "outputs": stepwise.outputs}
        stepping = Stepping(plan, State, runtime["step"], runtime["prefill"])
        start = {f"start__{name}": value for name, value in unrolled.start.items()}
        found = stepping({**start, "choices": unrolled.choices})
        np.testing.assert_allclose(
            found["log_probability"], expected["log_probability"].numpy(), atol=1e-4
        )
        assert (
            stepping.greedy(
                greedy.choices,
                start__tokens=greedy.start["tokens"],
                start__count=greedy.start["count"],
            )["changed"]
            == 0
        )
        long = {"tokens": windows["tokens"][:3, :CONTEXT], "count": np.array([16, 3, 1], np.int32)}
        whole = setup.model(long["tokens"]).numpy()[np.arange(3), long["count"] - 1]
        np.testing.assert_allclose(runtime["prefill"](long)["logits"], whole, atol=1e-4)
        for tokens, count in (
            (windows["tokens"][:3], (17, 3, 1)),
            (long["tokens"], (16, 3, -1)),
            (long["tokens"], (16, 0, 1)),
            (long["tokens"][:, :4], (4, 5, 1)),
            (long["tokens"], (16, 3)),
            (long["tokens"] - 999, (16, 3, 1)),
            (long["tokens"] + 300, (16, 3, 1)),
        ):
            with pytest.raises(Exception):  # noqa: B017 - each runtime has a kind of its own
                runtime["prefill"]({"tokens": tokens, "count": np.array(count, np.int32)})
        cache = runtime["prefill"](long)
        cache.pop("logits")
        size = setup.task.tokenizer.size
        for token, position in ((size - 1, 15), (-1, 3), (size, 3), (0, -1), (0, 16), (0, 5000)):
            asked = {"token": [token, 0, 0], "position": [position, 3, 1]}
            rows = {name: np.array(value, np.int32) for name, value in asked.items()}
            if position == 15:
                assert np.isfinite(runtime["step"]({**rows, **cache})["logits"]).all()
                continue
            with pytest.raises(Exception):  # noqa: B017
                runtime["step"]({**rows, **cache})


def test_numbers_that_no_window_or_step_has_are_refused_in_words(corpora):
    programs, setup = made(corpora["many"])
    size = setup.task.tokenizer.size
    windows = setup.task.data.examples("test", np.arange(3))
    cache = programs.signatures["prefill"](
        tokens=windows["tokens"][:, :4], count=np.full(3, 4, np.int32)
    )
    cache.pop("logits")
    row = np.full(3, 2, np.int32)
    good = {"token": row, "position": row, **cache}
    for name, given, changes in (
        ("tensors", windows, {"length": (-3, 17), "tokens": (-1, size)}),
        ("step", good, {"position": (-1, 16, 5000), "token": (-1, size)}),
        ("prefill", {"tokens": windows["tokens"][:, :4], "count": row}, {"tokens": (-3, size)}),
    ):
        call = programs.signatures[name]
        call(**{key: tf.constant(value) for key, value in given.items()})
        for key, numbers in changes.items():
            for number in numbers:
                changed = np.array(given[key])
                changed[(2, *[0] * (changed.ndim - 1))] = number
                with pytest.raises(
                    tf.errors.InvalidArgumentError, match=f"{key}: expected .* 0 to"
                ):
                    call(**{**given, key: tf.constant(changed)})
    with pytest.raises(tf.errors.InvalidArgumentError, match="length: .* for each row"):
        programs.signatures["tensors"](**{**windows, "length": windows["length"][:1]})


def test_litert_scores_windows(corpora, tmp_path):
    """Of recurrent models it says why it cannot; see the tests of pictures."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    programs, setup = made(corpora["many"], "llama")
    litert_format.write(programs, tmp_path / "model.tflite")
    runner = interpreter.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    for size in (3, 1):
        windows = setup.task.data.examples("test", np.arange(size))
        expected = programs.tensors(**{name: tf.constant(value) for name, value in windows.items()})
        np.testing.assert_allclose(
            runner(**windows)["log_probability"], expected["log_probability"].numpy(), atol=1e-4
        )


def test_weights_that_onnx_cannot_hold():
    variable = type("Variable", (), {"shape": (50257, 12_000), "dtype": "float32"})
    onnx_format.check_size([variable] * 0)
    with pytest.raises(
        UserError,
        match=(
            "holds less than 2 GiB of weights in one file. Received: 2.2 GiB. Export savedmodel"
            " alone"
        ),
    ):
        onnx_format.check_size([variable])


# From a run to an artefact


@pytest.fixture(scope="module")
def run(corpora, tmp_path_factory):
    return tfbig.train(
        experiment(corpora["many"], "llama", "bfloat16"), run=tmp_path_factory.mktemp("runs") / "a"
    )


def test_what_is_published(run, tmp_path, capsys):
    assert (
        door.main(
            [
                str(run.path),
                str(tmp_path / "model"),
                "--format",
                "onnx",
                "--quantize",
                "int8",
                "--length",
                "20",
            ]
        )
        == 0
    )
    folder = tmp_path / "model" / "1"
    record = artefact.check(folder)
    allowlist.check_saved_model(folder)
    assert {
        "prefill.onnx",
        "step.onnx",
        "assets.extra/tokenizer.json",
        "assets.extra/generation.json",
        "saved_model.pb",
    } <= set(record["files"])
    generation = json.loads((folder / "assets.extra" / "generation.json").read_text())
    assert generation["length"] == 20 and generation["normalize"] == "nfc"
    trained = tfbig.load(run.path)
    assert (
        json.loads((folder / "assets.extra" / "tokenizer.json").read_text())
        == trained.task.tokenizer.to_json()
    )
    reports, exact = record["verification"], record["metrics"]["metrics"]["bits_per_byte"]["value"]
    assert exact == pytest.approx(
        run.read_json("metrics.json")["test"]["metrics"]["bits_per_byte"]["value"], rel=0.01
    )
    assert {"savedmodel", "savedmodel, steps", "onnx"} <= set(reports)
    for name in ("savedmodel", "savedmodel, steps", "onnx"):
        assert reports[name]["metrics"]["bits_per_byte"]["value"] == pytest.approx(exact, rel=1e-4)
        assert reports[name]["foreign_modules"] == [] and reports[name]["largest_difference"] < 1e-4
    assert (
        reports["onnx"]["greedy"]["changed"] == 0
        and reports["onnx"]["unit"] == "token"
        and reports["onnx"]["latency"]["1"]["p50_ms"] > 0
    )
    assert [trial["program"] for trial in record["trials"]] == [
        "serving_default",
        "generate",
        "score",
    ]
    loaded = tf.saved_model.load(str(folder))
    assert set(loaded.signatures) == {
        "serving_default",
        "generate",
        "score",
        "tensors",
        "prefill",
        "step",
    }
    found = loaded.signatures["serving_default"](prompt=texts(["the cat", ""]))
    setup, _ = float32.rebuilt(trained)
    task, model = setup.task, setup.model
    assert [text.decode() for text in found["text"].numpy()] == task.write(
        model, ["the cat", ""], Generation(length=20, temperature=0), jit=False
    )
    card = (folder / "card.md").read_text()
    assert "its signatures normalise nothing: bring texts to NFC before" in card
    assert (
        "continues a prompt of at most 16 tokens (characters)" in card
        and "tokens/s" in card
        and "`score`: takes `text`" in card
    )
    assert (
        "Signatures that answered as the evaluated model does"
        in (run.path / "report.html").read_text()
    )
    assert "tokens/s" in capsys.readouterr().out


def test_other_answers_fall_short(run, tmp_path):
    """A text that is not the one expected is found in the process that examines the artefact."""
    source = door._source(
        run,
        "best",
        Service(length=8),
        type("Silent", (), {"note": staticmethod(lambda text: None)}),
        tmp_path,
    )
    saved_model.write(source.programs, tmp_path / "model", {})
    trials = {trial.program: trial for trial in source.reference.trials}
    wrong = trials["serving_default"].expected["text"].copy()
    wrong[0] += b"x"
    tampered = dataclasses.replace(
        trials["serving_default"], expected={**trials["serving_default"].expected, "text": wrong}
    )
    shifted = dataclasses.replace(
        trials["score"],
        expected={
            **trials["score"].expected,
            "log_probability": trials["score"].expected["log_probability"] - 1,
        },
    )
    strange = Trial(
        program="generate", inputs=trials["generate"].inputs, expected={"nothing": np.zeros(1)}
    )
    reference = dataclasses.replace(source.reference, trials=(tampered, shifted, strange))
    bench = Bench(source.programs, reference, tmp_path)
    checks = {
        check.what: check
        for report in bench.try_programs(tmp_path / "model")
        for check in verify.tried(report)
    }
    assert [what.split(" of")[0] for what, check in checks.items() if not check.passed] == [
        "serving_default: text",
        "score: log_probability",
        "generate: nothing",
    ]
    assert (
        checks["serving_default: text of 5 rows"].found == "1 others"
        and checks["serving_default: tokens of 5 rows"].passed
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "temperature: expected at least 0. Received: -1.0."),
        (["--length", "9", "--limit", "8"], "length: expected at most limit=8"),
        (["--beams", "3"], "--beams: no such option"),
    ],
)
def test_mistakes(run, arguments, message, capsys, tmp_path):
    assert door.main([str(run.path), str(tmp_path / "model"), *arguments]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "model").exists()


def test_a_part_of_a_split_is_compared_with_the_same_part():
    """Token by token a large split takes too long; what was examined of it stands for itself."""
    reference = Reference(
        {"tokens": np.zeros((10, 3))},
        {},
        {},
        {"loss": {"value": 2.0, "low": 1.9, "high": 2.1}},
        ("loss", "min"),
    )

    def report(count, value):
        return {
            "count": count,
            "outputs": {},
            "largest_difference": 0.0,
            "metrics": {"loss": {"value": value, "expected": 3.0, "changed": 0}},
        }

    def passed(checks):
        return all(check.passed for check in checks)

    assert passed(verify.exact("onnx", report(4, 3.0), reference)) and not passed(
        verify.exact("onnx", report(10, 3.0), reference)
    )
    assert passed(verify.close("int8", report(4, 3.05), reference)) and not passed(
        verify.close("int8", report(4, 3.2), reference)
    )
