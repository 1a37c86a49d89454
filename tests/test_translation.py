"""Translation: its loss, its searches, what it answers, and how it leaves."""

import dataclasses

import numpy as np
import pytest
import sacrebleu
import tensorflow as tf

import tfbig
from tfbig.core.errors import UserError
from tfbig.data.tfds_translation import TFDSTranslation
from tfbig.decoding import greedy
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup, training_facts
from tfbig.models.gru_attention import GRUAttention
from tfbig.prep import graph_bpe
from tfbig.prep.bpe import BPE
from tfbig.tasks.translation import Translation

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        small = Translation.smallest(tmp_path_factory.mktemp("data"))
        data = dataclasses.replace(small.data, tokenizer="bpe", vocabulary=300)
        train = dataclasses.replace(small.train, length="150", evaluate_every="100%")
        # Its texts have three words at most, too few for BLEU's pairs of four
        task = dataclasses.replace(small.task, bleu_words="char")
        yield dataclasses.replace(small, task=task, data=data, train=train)


@pytest.fixture(scope="module")
def run(experiment, tmp_path_factory):
    return tfbig.train(experiment, run=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def trained(run):
    return tfbig.load(run)


@pytest.fixture(scope="module")
def sources(trained):
    task = trained.task
    return task.data.examples("test", np.arange(task.data.size("test")))["source"]


def padded(rows, more=0):
    array = np.zeros((len(rows), max(map(len, rows)) + more), np.int32)
    for place, row in zip(array, rows, strict=True):
        place[: len(row)] = row
    return array, np.array([len(row) for row in rows], np.int32)


def test_loss_is_smoothed_cross_entropy(experiment):
    setup = Setup(experiment, training_facts(experiment, Readable(experiment.data)))
    slab, first = setup.slabs.at(0)
    batch = setup.task.preprocess({name: value[first] for name, value in slab.items()}, False)
    total, count = setup.task.loss(setup.model, batch, False)["loss"]
    given = {name: batch[name] for name in ("source", "source_count", "before")}
    log_p = tf.nn.log_softmax(setup.model(given, training=False)).numpy()
    for row, (target, size) in enumerate(zip(batch["target"], batch["target_count"], strict=True)):
        own = log_p[row, np.arange(size), target[:size]]
        expected = -(0.9 * own.sum() + 0.1 * log_p[row, :size].mean(-1).sum())
        assert float(total[row]) == pytest.approx(expected, rel=1e-4)
        assert int(count[row]) == int(size)
    assert batch["before"][:, 0].numpy().tolist() == [setup.task.end] * 16


def test_bleu_comes_at_the_end_with_how_it_was_measured(run, experiment):
    entry = run.read_json("metrics.json")["test"]
    between = run.history("evaluation")[0]["metrics"]
    assert set(between) == {"loss", "accuracy", "perplexity"}
    assert set(entry["metrics"]) == {*between, "bleu", "chrf"}
    value = entry["metrics"]["bleu"]
    assert 0 < value["low"] <= value["value"] <= value["high"] <= 100
    signature = f"nrefs:1|case:mixed|eff:no|tok:char|smooth:exp|version:{sacrebleu.__version__}"
    assert entry["measured_by"]["bleu"] == f"{signature}|beams:1"


def test_the_report_shows_translations_and_bleu_by_length(run):
    panels = [panel for panel in run.read_json("panels.json") if panel["section"] == "test"]
    bars, best, worst = panels
    assert bars["kind"] == "bars" and sum("words (" in label for label in bars["labels"]) >= 1
    assert len(best["items"]) == len(worst["items"]) == 8
    source, written, reference, _ = best["items"][0].splitlines()
    assert written.removeprefix("→ ") == reference.removeprefix("= ") and source
    assert "BLEU by length" in (run.path / "report.html").read_text("utf-8")


def test_alignments_are_shares_of_the_source(trained):
    (panel,) = trained.task.samples(trained.model, False)
    assert panel["kind"] == "alignments" and len(panel["items"]) == 3
    for item in panel["items"]:
        shares = np.array(item["shares"])
        assert shares.shape == (len(item["target"]), len(item["source"]))
        np.testing.assert_allclose(shares.sum(1), 1, atol=0.01)
        assert item["source"][-1] == item["target"][-1] == "∎"


def test_a_translation_without_an_end_is_shown(trained, monkeypatch):
    most = trained.task.spec["target"].most
    endless = [(np.ones(most, np.int32), -1.0)] * 3
    monkeypatch.setattr(Translation, "translate", lambda *given: endless)
    (panel,) = trained.task.samples(trained.model, False)
    assert len(panel["items"][0]["target"]) == len(panel["items"][0]["shares"]) == most


def test_what_is_asked_otherwise_stands_beside(run):
    before = run.read_json("metrics.json")["test"]
    entry = tfbig.evaluate(run, beams=3)
    assert entry["asked"] == {"beams": 3}
    assert entry["measured_by"]["bleu"].endswith("|beams:3|penalty:1")
    kept = run.read_json("metrics.json")
    assert kept["test"] == before and kept["test beams=3"] == entry
    shown = (run.path / "report.html").read_text("utf-8")
    assert "test beams=3" in shown and entry["measured_by"]["bleu"] in shown
    assert entry["metrics"]["loss"]["value"] == pytest.approx(before["metrics"]["loss"]["value"])
    with pytest.raises(UserError, match="beams: expected at least 1"):
        tfbig.evaluate(run, beams=0)


def test_greedy_is_a_beam_of_one_and_needs_no_cache(trained, sources):
    transducer = trained.task.transducer(trained.model)
    source, count = padded(sources)
    written, score, choices = transducer.write(source, count)
    inputs = {"source": tf.constant(source), "source_count": tf.constant(count)}
    kept = transducer.encode(inputs)
    parts = [{n: kept[n] for n in names} for names in (transducer.carried, transducer.fixed)]
    options = {"length": transducer.length, "first": trained.task.end, "end": trained.task.end}
    alone = greedy.search(transducer.go_on, *parts, **options)
    np.testing.assert_array_equal(written, alone)
    whole = transducer.write_uncached(trained.model, source, count).numpy()
    for row, size in enumerate(choices.numpy()):
        np.testing.assert_array_equal(whole[row, :size], written[row, :size])
    assert len(set(choices.numpy())) > 1 and (score < 0).numpy().all()


def test_the_recurrent_baseline_writes_as_its_whole_does(experiment):
    recurrent = dataclasses.replace(experiment, model=GRUAttention.smallest())
    setup = Setup(recurrent, training_facts(recurrent, Readable(recurrent.data)))
    task = setup.task
    source, count = padded(task.data.examples("test", np.arange(6))["source"], more=3)
    transducer = task.transducer(setup.model)
    written, _, choices = transducer.write(source, count)
    whole = transducer.write_uncached(setup.model, source, count).numpy()
    for row, size in enumerate(choices.numpy()):
        np.testing.assert_array_equal(whole[row, :size], written[row, :size])


def test_batch_mates_order_and_padding_change_nothing(trained, sources):
    transducer = trained.task.transducer(trained.model)
    for options in ({}, {"beams": 4}):
        together, score, _ = transducer.write(*padded(sources), **options)
        back, other, _ = transducer.write(*padded(sources[::-1], more=5), **options)
        np.testing.assert_array_equal(together, back[::-1])
        np.testing.assert_allclose(score, other[::-1], rtol=1e-4)
        for row in (0, len(sources) // 2):
            alone, own, _ = transducer.write(*padded(sources[row : row + 1]), **options)
            np.testing.assert_array_equal(alone[0], together[row])
            np.testing.assert_allclose(own[0], score[row], rtol=1e-4)


def test_a_beam_finds_more_probable_translations(trained, sources):
    transducer = trained.task.transducer(trained.model)
    written, score, _ = transducer.write(*padded(sources))
    best, other, choices = transducer.write(*padded(sources), beams=8, penalty=0.0)
    assert (other >= score - 1e-4).numpy().all()
    source, count = map(tf.constant, padded(sources))
    before = tf.pad(best[:, :-1], [(0, 0), (1, 0)], constant_values=trained.task.end)
    given = {"source": source, "source_count": count, "before": before}
    log_p = tf.nn.log_softmax(trained.model(given, training=False))
    own = tf.gather(log_p, best, batch_dims=2).numpy()
    for row, size in enumerate(choices.numpy()):
        assert float(other[row]) == pytest.approx(own[row, :size].sum(), rel=1e-3)


def test_predictions_are_texts(run):
    shown = []
    (answer,) = tfbig.predict(run, "three red ba", write=shown.append)
    assert set(answer) == {"input", "text", "score"} and shown == [answer["text"] + "\n"]
    assert answer["score"] < 0 and set(answer["text"]) <= set("abcdefghijklmnopqrstuvwxyz ")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "text 1: expected something to translate. Received: an empty text"),
        (" \n", "text 1: expected something to translate"),
        ("one red ba " * 100, r"text 1: expected at most 23 tokens. Received: \d+, of 300 words"),
        ("собака", "text 1: expected text like that of the training sources. Received: 'собака'"),
        ("\udc80", "text 1: expected text in Unicode"),
    ],
)
def test_what_cannot_be_translated_is_told(run, text, message):
    with pytest.raises(UserError, match=message):
        tfbig.predict(run, [text])


def test_tokens_that_no_target_has_are_one(experiment):
    """They are never written, and weigh as any other token."""
    data = experiment.data
    task = Setup(experiment, training_facts(experiment, Readable(data))).task
    last = task.facts["scored"] - 1
    raw = {
        "source": np.array([[1, task.end]], np.int32),
        "source_count": np.array([2], np.int32),
        "target": np.array([[last + 3, 2, task.end]], np.int32),
        "target_count": np.array([3], np.int32),
    }
    ready = task.preprocess(raw, False)
    assert ready["target"].numpy().tolist() == [[last, 2, task.end]]
    assert ready["before"].numpy().tolist() == [[task.end, last, 2]]


def test_byte_pairs_in_a_graph_are_those_of_the_library():
    random = np.random.default_rng(0)
    words = ["the", "house's", "we'll", "Größe", "naïve", "中文", "日本語", "don't", "😀", "3.14"]
    marks = [" ", "  ", "\n", "\t\n ", "\u3000", ", ", "-", "'", "\u0301", "", "½", "\u00a0"]
    texts = [
        "".join(random.choice(words) + random.choice(marks) for _ in range(size))
        for size in random.integers(0, 12, 500)
    ]
    tokenizer = BPE.train([*texts, "the there then house houses"], 320)
    encode = graph_bpe.encoder(tokenizer)
    texts += ["", " ", "\n\n a", "   ", "a" * 300]
    for text, tokens in zip(texts, encode(tf.constant(texts)).to_list(), strict=True):
        assert tokens == tokenizer.encode(text).tolist(), repr(text)
    assert encode(tf.constant([], tf.string)).to_list() == []
    with pytest.raises(tf.errors.InvalidArgumentError, match="words of at most 2048 bytes"):
        encode(tf.constant(["a" * 3000]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"without the character U\+0000"):
        encode(tf.constant(["a", "b\0c"]))


def test_export_takes_and_gives_text(run, trained, tmp_path):
    record = tfbig.export(run, tmp_path / "models" / "t", formats=("onnx",), beams=2)
    reports = record["verification"]
    assert set(reports) >= {"savedmodel", "savedmodel, steps", "onnx"}
    assert [trial["program"] for trial in record["trials"]] == ["serving_default", "align"]
    assert all(trial["rows"] > 10 for trial in record["trials"])
    signatures = tf.saved_model.load(record["path"]).signatures
    served = signatures["serving_default"]
    texts = ["three red ba", "one green ko"]
    answer = served(text=tf.constant(texts))
    own = tfbig.predict(run, texts, beams=2)
    assert [text.decode() for text in answer["text"].numpy()] == [entry["text"] for entry in own]
    np.testing.assert_allclose(answer["score"], [entry["score"] for entry in own], rtol=1e-3)
    for text, words in ((" ", "text 2: expected something"), ("ba " * 90, "text 2: expected at")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            served(text=tf.constant(["one ba", text]))
    assert record["media"]["takes"] == {"text": "text"}
    assert record["media"]["signature"] == "align"
    aligned = {
        name: value.numpy() for name, value in signatures["align"](tf.constant(texts)).items()
    }
    for row, text in enumerate(texts):
        read, made = (
            [piece.decode() for piece in aligned[name][row] if piece]
            for name in ("source_pieces", "pieces")
        )
        assert "".join(read).strip() == f"{text}∎" and made[-1] == "∎"
        assert "".join(made[:-1]).strip().encode() == answer["text"].numpy()[row]
        shares = aligned["attention"][row]
        np.testing.assert_allclose(shares[: len(made), : len(read)].sum(1), 1, atol=1e-5)
        assert not shares[len(made) :].any() and not shares[:, len(read) :].any()
    refuse_what_no_text_has(signatures, trained.task)


def refuse_what_no_text_has(signatures, task):
    """Counts, places and tokens that there are none of, in words that name them."""
    size, scored = task.tokenizer.size, task.facts["scored"]
    most = {side: task.spec[side].most for side in ("source", "target")}
    source = {
        "source": np.full((2, most["source"]), task.end, np.int32),
        "source_count": np.array([1, most["source"]], np.int32),
    }
    target = {
        "target": np.full((2, most["target"]), task.end, np.int32),
        "target_count": np.array([0, most["target"]], np.int32),
    }
    kept = {name: value.numpy() for name, value in signatures["encode"](**source).items()}
    step = {"token": np.full(2, task.end, np.int32), "place": np.zeros(2, np.int32), **kept}
    counts = {"source_count": (-7, 0, 999), "source": (-1, size)}
    no_target = {"target_count": (-7, 999), "target": (-1, size)}
    for name, given, changes in (
        ("tensors", {**source, **target}, {**counts, **no_target}),
        ("encode", source, counts),
        ("step", step, {"place": (-1, most["target"]), "token": (-1, max(size, scored))}),
    ):
        call = signatures[name]
        call(**{key: tf.constant(value) for key, value in given.items()})
        for key, numbers in changes.items():
            for number in numbers:
                changed = np.array(given[key])
                changed[(1, *[0] * (changed.ndim - 1))] = number
                words = f"{key}: expected .* to"
                with pytest.raises(tf.errors.InvalidArgumentError, match=words):
                    call(**{**given, key: tf.constant(changed)})


def test_characters_and_bytes(experiment, tmp_path):
    for tokenizer in ("characters", "bytes"):
        data = dataclasses.replace(
            experiment.data, tokenizer=tokenizer, max_source=32, max_target=32
        )
        train = dataclasses.replace(experiment.train, length="2")
        small = dataclasses.replace(experiment, data=data, train=train)
        run = tfbig.train(small, run=tmp_path / tokenizer)
        assert "bleu" in run.read_json("metrics.json")["test"]["metrics"]


def test_the_recipe_for_accelerators_steps_compiled(tmp_path, monkeypatch):
    """Of the base Transformer, in bfloat16 and micro-batches, at a small size."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sizes = ["model.width=16", "model.heads=2", "model.hidden=16", "device.jit=true"]
    depths = ["model.encoder_depth=1", "model.decoder_depth=1", "train.shapes=1"]
    experiment = tfbig.recipe(
        "wmt14_transformer", *sizes, *depths, "train.batch_size=8", "optim.warmup=1"
    )
    experiment = dataclasses.replace(experiment, data=TFDSTranslation.smallest(tmp_path))
    setup = Setup(experiment, training_facts(experiment, Readable(experiment.data)))
    losses = []
    for step in range(6):
        slab, first = setup.slabs.at(step)
        losses.append(float(setup.run_block(slab, tf.constant(first), tf.constant(1))["loss"][0]))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
