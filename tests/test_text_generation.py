"""Text generation: loss, metrics, the cache, choices, streams, and the commands from a file of text
to a written text.
"""

import io
import json
import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from vocabularies import sentencepiece_model

import tfbig
from tfbig.core import config
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.data import _text
from tfbig.data.text_files import TextFiles
from tfbig.decoding.generation import Generator
from tfbig.decoding.sampling import choose
from tfbig.decoding.text_stream import TextStream
from tfbig.decoding.window import num_dropped
from tfbig.engine.setup import Setup
from tfbig.models.gpt import GPT
from tfbig.models.lstm_lm import LSTMLM
from tfbig.prep.tokenizers import Bytes, Characters
from tfbig.tasks import text_generation
from tfbig.tasks.text_generation import Generation, TextGeneration

SMALL = {"width": 16, "depth": 2, "heads": 2}
MODELS = {
    "gpt": GPT(**SMALL, deviation=0.3),
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


def prose(seed, words=150):
    choose_ = random.Random(seed)
    return (
        " ".join(
            choose_.choice(
                ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "to", "it"]
            )
            for _ in range(words)
        )
        + "\n"
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _text._opened.cache_clear()


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": prose(i)}) + "\n" for i in range(30)), "utf-8")
    return path


def experiment(corpus, model=None, **data):
    return config.validate(
        Experiment(
            name="tiny",
            task=TextGeneration(),
            model=model or GPT(**SMALL),
            data=TextFiles(path=str(corpus), context=16, **data),
            train=Train(length="60", batch_size=8, evaluate_every="30", save_every="30"),
            optim=Optim(optimizer="adamw", learning_rate=1e-2),
        )
    )


def built(name, context=16, size=11):
    import keras

    keras.utils.set_random_seed(3)
    return MODELS[name], MODELS[name].build(
        {"tokens": Feature(shape=(context,), dtype="int32", values=size)}
    )


# Loss and metrics


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_loss_against_numpy(corpus, z_loss):
    made = experiment(corpus, tokenizer="bytes")
    task = TextGeneration(z_loss=z_loss).bind(
        made.model, made.data, TextGeneration().measure(made.data)
    )
    model = task.build()
    raw = made.data.examples("test", np.array([0, made.data.size("test") - 1]))
    assert raw["length"][1] < 16
    ready = task.preprocess(
        {name: tf.constant(value) for name, value in raw.items()}, training=False
    )
    logits = model(ready["tokens"]).numpy().astype(np.float64)
    total = np.log(np.exp(logits).sum(-1))
    surprise = total - np.take_along_axis(logits, raw["tokens"][:, 1:, None], 2)[..., 0]
    real = np.arange(16)[None] < raw["length"][:, None]
    sums = {
        name: (total.numpy().sum(), weight.numpy().sum())
        for name, (total, weight) in task.loss(model, ready, training=False).items()
    }
    expected = surprise[real].sum() + z_loss * (total[real] ** 2).sum()
    assert sums["loss"] == (pytest.approx(expected, rel=1e-5), real.sum())
    if z_loss:
        assert sums["cross_entropy"] == (pytest.approx(surprise[real].sum(), rel=1e-5), real.sum())
    outputs = task.predict(model, ready)
    np.testing.assert_allclose(outputs["log_probability"].numpy()[real], -surprise[real], rtol=1e-4)
    measured = {
        name: (total.numpy().sum(), count.numpy().sum())
        for name, (total, count) in task.metrics(outputs, ready).items()
    }
    text = real & (raw["tokens"][:, 1:] != 256)
    assert measured["loss"] == (pytest.approx(surprise[real].sum(), rel=1e-5), real.sum())
    assert measured["bits_per_byte"] == (
        pytest.approx(surprise[text].sum() / math.log(2), rel=1e-5),
        text.sum(),
    )


def test_a_uniform_model_has_the_known_figures(corpus):
    """Where all tokens are equally likely, perplexity is their number and a byte costs log2 of
    it.
    """
    setup = Setup(experiment(corpus, tokenizer="bytes"), {"tokenizer": {"kind": "bytes"}})
    for variable in setup.model.trainable_variables:
        variable.assign(variable * 0)
    metrics = setup.evaluate("validation").metrics
    assert metrics["perplexity"]["value"] == pytest.approx(257, rel=1e-5) and metrics[
        "bits_per_byte"
    ]["value"] == pytest.approx(math.log2(257), rel=1e-5)
    data = setup.task.data
    tokens = np.asarray(data.tokens("validation"))[1:]
    assert (
        metrics["loss"]["count"] == len(tokens)
        and metrics["bits_per_byte"]["count"] == (tokens < 256).sum()
    )
    assert (
        metrics["perplexity"]["low"]
        <= metrics["perplexity"]["value"]
        <= metrics["perplexity"]["high"]
    )


# The cache and the choices


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "choice",
    [{"temperature": 0.0}, {"temperature": 0.9, "top_k": 5, "top_p": 0.9}],
    ids=["greedy", "sampled"],
)
def test_the_cache_changes_no_token(name, choice):
    """Prompts of different lengths, and text that outgrows the context twice."""
    made, model = built(name)
    prompts = [[1, 2, 3], [4], list(range(10)) + [3] * 6]
    generator = Generator(made, model, jit=name != "lstm", seed=7, **choice)
    got = generator.generate(prompts, 40)
    assert got == generator.generate_uncached(model, prompts, 40)
    assert all(len(row) == 40 for row in got) and len({tuple(row) for row in got}) == 3
    assert got == Generator(made, model, jit=False, seed=7, **choice).generate(prompts, 40)


def test_seeds():
    made, model = built("gpt")

    def write(seed):
        return Generator(made, model, jit=False, seed=seed, temperature=1.0).generate(
            [[1], [1]], 30
        )

    first = write(0)
    assert first == write(0) and first != write(1) and first[0] != first[1]


def test_choices_follow_the_distribution():
    logits = tf.constant(np.log([[0.5, 0.3, 0.15, 0.05]]).repeat(4000, 0), tf.float32)

    def share(**choice):
        return np.bincount(choose(logits, 1, 5, **choice).numpy(), minlength=4) / 4000

    np.testing.assert_allclose(share(temperature=1.0), [0.5, 0.3, 0.15, 0.05], atol=0.03)
    np.testing.assert_allclose(
        share(temperature=0.5), np.square([0.5, 0.3, 0.15, 0.05]) / 0.365, atol=0.03
    )
    np.testing.assert_allclose(share(temperature=1.0, top_k=2), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(
        share(temperature=1.0, top_p=0.9), np.array([0.5, 0.3, 0.15, 0]) / 0.95, atol=0.03
    )
    assert share(temperature=1.0, top_p=0.4).tolist() == share(temperature=0).tolist() == [
        1,
        0,
        0,
        0,
    ] and share(temperature=1.0, top_p=1e-300).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.9}, {"top_k": 9, "top_p": 0.5}])
def test_tensors_and_arrays_choose_alike(options):
    """Numbers and tensors as options, too; equal scores among the logits, and large seeds."""
    draw = np.random.default_rng(0)
    logits = np.concatenate([draw.normal(0, 3, (64, 40)), draw.integers(0, 4, (64, 40))])
    logits, seed = logits.astype(np.float32), 2**31 - 1
    whole = {"temperature": 0.8, "top_k": 0, "top_p": 1.0, **options}
    tensors = {name: tf.constant(value) for name, value in whole.items()}
    chosen = choose(logits, seed, 3, temperature=0.8, **options)
    assert chosen.dtype == np.int32 and len(set(chosen.tolist())) > 20
    for other in (
        choose(tf.constant(logits), seed, 3, temperature=0.8, **options),
        choose(tf.constant(logits), tf.constant(seed), tf.constant(3), **tensors),
        choose(logits, seed + 2**32, 3, **whole),
    ):
        np.testing.assert_array_equal(other, chosen)
    assert (choose(logits, seed, 4, **whole) != chosen).any()


def test_what_has_outgrown_the_context_goes_on_from_its_last_half():
    for context, expected in ((8, [0, 0, 5, 6]), (1, [7, 8, 8, 9])):
        lengths = [8, 8, 9, 10] if context == 8 else [8, 9, 9, 10]
        assert [num_dropped(length, context) for length in lengths] == expected
        assert num_dropped(tf.constant(lengths), context).numpy().tolist() == expected
    assert num_dropped(1, 1) == 0


def test_beam_search_finds_the_best(corpus):
    """With as many beams as there are continuations, it is an exhaustive search."""
    made, model = built("llama", context=8, size=4)
    generator = Generator(made, model, jit=False, temperature=0)
    found, score = generator.beam([[1, 2], [3]], 3, 64, None)
    for prompt, tokens, best in zip([[1, 2], [3]], found, score, strict=True):
        every = {}
        for number in range(64):
            rest = [number // 16, number // 4 % 4, number % 4]
            row = np.array([[*prompt, *rest] + [0] * (5 - len(prompt))], np.int32)
            logp = tf.nn.log_softmax(model(row)).numpy()[0]
            every[tuple(rest)] = sum(
                logp[len(prompt) - 1 + i, token] for i, token in enumerate(rest)
            )
        assert tuple(tokens) == max(every, key=every.get) and best == pytest.approx(
            max(every.values()), abs=1e-4
        )
    assert generator.beam([[1, 2], [3]], 3, 1, None)[0] == generator.generate([[1, 2], [3]], 3)
    ended, _ = generator.beam([[1, 2]], 5, 4, ended_by := found[0][0])
    assert ended[0] == [ended_by] * 5, "what ends at once is more probable than anything longer"


# Streams


def test_streams_hold_back_what_is_not_certain():
    stream, pieces = TextStream(Bytes(), "END"), []
    for byte in "é一a E ENDx".encode():
        pieces.append(stream.add([byte]))
    assert (
        "".join(pieces) == stream.text == "é一a E "
        and stream.done
        and pieces[0] == ""
        and pieces[1] == "é"
    )
    letters = Characters.of(["abE"], separator=True)
    stream = TextStream(letters, "Eb")
    assert (
        stream.add(letters.encode("abE").tolist()) == "ab"
        and stream.end() == "E"
        and stream.text == "abE"
    )
    stream = TextStream(letters, "", "bb", "Ea")
    assert [stream.add([token]) for token in letters.encode("abEb").tolist()] == [
        "a",
        "",
        "b",
        "E",
    ] and not stream.done
    stream = TextStream(Bytes())
    assert (
        stream.add(list(b"\xff\xff\xff\xdb")) == "\ufffd"
        and stream.add([0xA2]) + stream.end() == "\ufffd\ufffd\u06e2"
    )
    stream = TextStream(letters)
    assert stream.add([0, letters.separator, 1]) == letters.alphabet[0] and stream.done


# From text to text


@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_it_learns_and_writes(corpus, tmp_path, model):
    made = experiment(corpus, {"gpt": GPT(**SMALL), "lstm": LSTMLM(width=8, units=(16,))}[model])
    run = tfbig.train(made, run=tmp_path / "run")
    metrics = run.read_json("metrics.json")["test"]["metrics"]
    # Log2(18) = 4.2 before
    assert metrics["loss"]["value"] < 2.2 and metrics["bits_per_byte"]["value"] < 3.3
    assert metrics["perplexity"]["value"] == pytest.approx(math.exp(metrics["loss"]["value"]))
    panels = run.read_json("panels.json")
    expected = [("inputs", "texts"), ("samples", "texts"), ("test", "curves")]
    assert [(panel["section"], panel["kind"]) for panel in panels] == expected and len(
        panels[1]["items"]
    ) == 3
    first = np.concatenate([document.split("│") for document in panels[0]["items"]])
    assert all(len(letter) <= 1 for letter in first) and len(first) > 3  # tokens are letters here
    assert (
        "<pre" in (run.path / "report.html").read_text()
        and "Loss by place" in (run.path / "report.html").read_text()
    )
    trained = tfbig.load(run.path)
    corpus.unlink()  # a run carries its tokenizer
    _text._opened.cache_clear()
    shown = []
    found = trained.task.respond(trained, ["the cat", "a "], Generation(length=20), shown.append)
    assert (
        "".join(shown) == f"the cat{found[0]['text']}\n\na {found[1]['text']}\n" and len(shown) > 3
    )
    assert found == trained.task.respond(
        trained, ["the cat", "a "], Generation(length=20), lambda text: None
    )
    for prompt, message in (
        ("Ω", r"prompt 1: characters: 'Ω' .U\+03A9. not in the alphabet"),
        ("the cat sat on a mat", "expected at most the model's context of 16 tokens. Received: 20"),
    ):
        with pytest.raises(UserError, match=message):
            trained.task.respond(trained, [prompt], Generation(), shown.append)
    if model == "gpt":
        best = trained.task.respond(trained, ["the "], Generation(length=8, beams=3), shown.append)[
            0
        ]["text"]
        with pytest.raises(
            UserError,
            match=(
                "^beams: a beam search chooses nothing.* Received: 3 with temperature=0.8, seed=1."
                " Leave out"
            ),
        ):
            tfbig.predict(run, "the ", length=8, beams=3, temperature=0.8, seed=1)
        assert best and shown[-1] == f"the {best}\n"
        with pytest.raises(UserError, match="length: a beam search expects"):
            trained.task.respond(trained, ["the "], Generation(length=80, beams=3), shown.append)


def test_samples_of_an_alphabet_without_the_prompt(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefg" * 60)
    made = experiment(tmp_path / "a.txt")
    task = TextGeneration(prompt="XYZ").bind(
        made.model, made.data, TextGeneration().measure(made.data)
    )
    (panel,) = task.samples(task.build(), jit=False)
    assert len(panel["items"]) == 3 and set("".join(panel["items"])) <= set("abcdefg")


@pytest.mark.parametrize("tokenizer", ["characters", "bytes"])
def test_prompts_that_are_no_text(corpus, tokenizer):
    made = experiment(corpus, tokenizer=tokenizer)
    task = made.task.bind(made.model, made.data, made.task.measure(made.data))
    with pytest.raises(
        UserError,
        match=(
            "prompt 2: expected text in Unicode. Received: the byte 0xff, which is no UTF-8, at"
            " character 2"
        ),
    ):
        task.write(None, ["a", os.fsdecode(b"a\xff")], Generation(), jit=False)


class Fixed:
    """In place of a Generator: it writes what it is made for."""

    def __init__(self, tokens):
        self.tokens = tokens

    def __call__(self, *_, **__):
        return self

    def generate(self, prompts, length, told):
        told(np.array([self.tokens] * len(prompts)).T)


@pytest.mark.parametrize("form", ["none", "nfc", "nfkc"])
def test_prompts_are_normalised_as_the_data_was(tmp_path, monkeypatch, form):
    """A letter and its accent become one character where they did in the data; stop texts too."""
    given, expected = (
        "cafe\u0301 \u2460\r\n",
        {"none": "cafe\u0301 \u2460\n", "nfc": "caf\u00e9 \u2460\n", "nfkc": "caf\u00e9 1\n"}[form],
    )
    (tmp_path / "a.txt").write_text(given * 60, "utf-8", newline="")
    made = experiment(tmp_path / "a.txt", normalize=form)
    task = made.task.bind(made.model, made.data, made.task.measure(made.data))
    assert task.tokenizer.decode(task._encode(given, 1)) == expected
    monkeypatch.setattr(text_generation, "Generator", Fixed(task._encode(given, 1)))
    assert task.write(None, ["a"], Generation(stop="e\u0301"), jit=False) == ["caf"]


@pytest.mark.parametrize("dummy", [True, False])
def test_a_text_begins_without_a_space(tmp_path, monkeypatch, dummy):
    """A SentencePiece vocabulary spells most words with the space before them."""
    pytest.importorskip("sentencepiece")
    (tmp_path / "a.model").write_bytes(
        sentencepiece_model("".join(prose(i) for i in range(20)), dummy)
    )
    (tmp_path / "a.txt").write_text("".join(prose(i) for i in range(20)))
    made = experiment(tmp_path / "a.txt", tokenizer="ready", vocabulary_path=str(tmp_path))
    task = made.task.bind(made.model, made.data, made.task.measure(made.data))
    behind = task.tokenizer.encode("the cat").tolist()[len(task.tokenizer.encode("the")) :]
    monkeypatch.setattr(text_generation, "Generator", Fixed(behind))
    assert task.write(None, ["", "the"], Generation(), jit=False) == [
        "cat" if dummy else " cat",
        " cat",
    ]


def test_no_prompts():
    with pytest.raises(UserError, match="inputs: expected at least one text. Received: none."):
        TextGeneration().respond(None, [], Generation(), None)


def test_stdin_that_is_no_text(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff"), "utf-8"))
    with pytest.raises(UserError, match="stdin: .*0xff"):
        TextGeneration().respond(None, "-", Generation(), None)


def test_commands(corpus, tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def call(*arguments, code=0, **options):
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            env=environment,
            text=True,
            capture_output=True,
            timeout=300,
            **options,
        )
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        return done.stdout, done.stderr

    settings = [
        f"data.path={corpus}",
        "data.script=any",
        "data.separator=",
        "train.length=20",
        "model.width=16",
        "model.depth=1",
        "model.heads=2",
        "train.final_split=none",
    ]
    call("tfbig.train", "tang_poems_gpt", *settings, f"run={tmp_path / 'run'}")
    run = str(tmp_path / "run")
    out, _ = call("tfbig.predict", run, "the ", "--length", "12", "--seed", "3")
    assert out.startswith("the ") and out.endswith("\n")
    found = json.loads(
        call("tfbig.predict", run, "the ", "--length", "12", "--seed", "3", "--json")[0]
    )
    assert found["predictions"][0]["input"] + found["predictions"][0]["text"] + "\n" == out
    assert call("tfbig.predict", run, "-", "--length", "12", "--seed", "3", input="the ")[0] == out
    assert (
        "prompt 1: expected text in Unicode. Received: the byte 0xff"
        in call("tfbig.predict", run, b"a\xff", code=2)[1]
    )
    assert "--top-p VALUE" in call("tfbig.predict", run, "--help")[0]
    assert (
        "temperature: expected at least 0. Received: -1.0."
        in call("tfbig.predict", run, "x", "--temperature", "-1", code=2)[1]
    )
    assert (
        "--top: no such option. Did you mean --top-k?"
        in call("tfbig.predict", run, "x", "--top", "3", code=2)[1]
    )
    assert (
        "top_k: expected a whole number. Received: 'b'."
        in call("tfbig.predict", run, "x", "--top-k", "b", code=2)[1]
    )


def test_models_and_tasks_that_do_not_fit(corpus):
    with pytest.raises(
        UserError,
        match=(
            "data: expected data that gives tokens, for this task. Received: MNIST, which gives"
            " image and label"
        ),
    ):
        tfbig.recipe("sotu_gpt", "data=mnist")
    with pytest.raises(
        UserError,
        match=(
            "data: expected data that gives image and label, for this task. Received: SOTU, which"
            " gives tokens"
        ),
    ):
        tfbig.recipe("mnist_mlp", "data=sotu")
    with pytest.raises(
        UserError,
        match=(
            "model: expected a model that takes tokens and gives logits, for this task. Received:"
            " MLP, which takes image and gives features"
        ),
    ):
        tfbig.recipe("sotu_gpt", "model=mlp")
