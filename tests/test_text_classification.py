"""Text classification: frames, metrics of the field, answers for labels, numbers and pairs."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sklearn import metrics as sk

import tfbig
from tfbig.core.errors import LeftOut, UserError
from tfbig.core.features import Feature
from tfbig.data.text_table import TextTable
from tfbig.deploy import saved_model
from tfbig.deploy.programs import Programs
from tfbig.engine import plan
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup, training_facts
from tfbig.models.bag_of_embeddings import BagOfEmbeddings
from tfbig.models.bert import BERT
from tfbig.models.text_lstm import TextLSTM
from tfbig.models.textcnn import TextCNN
from tfbig.prep import text_frames
from tfbig.prep.tokenizers import Characters
from tfbig.prep.wordpiece import SPECIAL, WordPiece
from tfbig.tasks._targets import Number, OneLabel, SeveralLabels
from tfbig.tasks.text_classification import TextClassification

RANDOM = np.random.RandomState(0)


# Frames


def test_frames_of_texts_and_pairs():
    tokenizer = WordPiece([*SPECIAL, "a"])
    pad, cls, sep = tokenizer.pad, tokenizer.begin, tokenizer.separator
    first = tf.constant([[7, 8, 9], [7, 0, 0], [0, 0, 0]])
    counts = tf.constant([3, 1, 0])
    frame = text_frames.framed(tokenizer, [first], [counts])
    assert frame["tokens"].numpy().tolist() == [
        [cls, 7, 8, 9, sep],
        [cls, 7, sep, pad, pad],
        [cls, sep, pad, pad, pad],
    ]
    assert frame["count"].numpy().tolist() == [5, 3, 2]
    second = tf.constant([[4, 5], [6, 0], [4, 5]])
    pair = text_frames.framed(tokenizer, [first, second], [counts, tf.constant([2, 1, 2])])
    assert pair["tokens"].numpy().tolist() == [
        [cls, 7, 8, 9, sep, 4, 5, sep],
        [cls, 7, sep, 6, sep, pad, pad, pad],
        [cls, sep, 4, 5, sep, pad, pad, pad],
    ]
    assert pair["segments"].numpy().tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0, 0],
    ]
    assert pair["count"].numpy().tolist() == [8, 5, 5]


def test_frames_without_special_tokens():
    frame = text_frames.framed(Characters("ab"), [tf.constant([[1, 0]])], [tf.constant([1])])
    assert frame["tokens"].numpy().tolist() == [[1, 0]] and frame["count"].numpy() == [1]


# Metrics


def said(target, records):
    return target.score({name: np.asarray(value) for name, value in records.items()})


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_of_one_label_are_the_librarys(classes):
    true = RANDOM.randint(0, classes, 300)
    probability = RANDOM.dirichlet(np.ones(classes), 300)
    label = np.where(RANDOM.rand(300) < 0.4, true, probability.argmax(1))
    target = OneLabel(tuple("abcde"[:classes]))
    found = said(target, {"true": true, "label": label, "last": probability[:, -1]})
    assert found["matthews"] == pytest.approx(sk.matthews_corrcoef(true, label))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(true, label, average="macro"))
    if classes == 2:
        assert found["auroc"] == pytest.approx(sk.roc_auc_score(true, probability[:, 1]))
        assert found["f1"] == pytest.approx(sk.f1_score(true, label))
    always = {"true": true, "label": np.zeros_like(true), "last": probability[:, -1]}
    assert said(target, always)["matthews"] == 0
    alone = {"true": np.ones(9, int), "label": np.ones(9, int), "last": np.ones(9)}
    assert said(OneLabel(("a", "b")), alone)["auroc"] is None


def test_scores_of_several_labels_are_the_librarys():
    true = RANDOM.randint(0, 2, (200, 4))
    probability = np.clip(0.5 * true + 0.6 * RANDOM.rand(200, 4), 0, 1)
    found = said(SeveralLabels(tuple("abcd")), {"true": true, "probability": probability})
    chosen = probability >= 0.5
    assert found["macro_f1"] == pytest.approx(sk.f1_score(true, chosen, average="macro"))
    assert found["micro_f1"] == pytest.approx(sk.f1_score(true, chosen, average="micro"))


def test_scores_of_numbers_are_the_librarys():
    true = RANDOM.randint(0, 9, 100).astype(np.float32)  # with ties
    value = (true + RANDOM.normal(size=100)).astype(np.float32)
    found = said(Number(0.0, 1.0), {"true": true, "value": value})
    assert found["pearson"] == pytest.approx(stats.pearsonr(true, value)[0], abs=1e-6)
    assert found["spearman"] == pytest.approx(stats.spearmanr(true, value)[0], abs=1e-6)
    assert said(Number(0.0, 1.0), {"true": true, "value": 0 * true})["pearson"] is None


# Models


@pytest.mark.parametrize(
    "model", [BagOfEmbeddings(), TextCNN(), TextLSTM(), TextLSTM(bidirectional=False,
              summary="average")], ids=["bag", "cnn", "lstm", "lstm_average"]
)  # fmt: skip
def test_padding_and_batch_mates_change_no_score(model):
    tf.keras.utils.set_random_seed(0)
    tokens = Feature(shape=(None,), dtype="int32", values=50, most=20)
    built = model.build({"tokens": tokens, "count": Feature(shape=(), dtype="int32")})
    rows = RANDOM.randint(0, 50, (4, 20)).astype("int32")
    count = np.array([20, 13, 4, 1], "int32")
    together = built({"tokens": rows, "count": count}).numpy()
    assert np.abs(together).max() > 1e-3
    for i, n in enumerate(count):
        alone = built({"tokens": rows[i : i + 1, :n], "count": count[i : i + 1]})
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)


# Answers


def small(folder, target, pair=False, tokenizer="wordpiece"):
    """A task with fresh weights on a small table."""
    labels = {"label": lambda i: "abc"[i % 3], "labels": lambda i: "x;y"[: i % 4], "number": float}
    metric = {"label": "accuracy", "labels": "macro_f1", "number": "spearman"}[target]
    columns = "text,label" + (",other" if pair else "")
    rows = (
        f"word {i} and more,{labels[target](i)}" + (f",{i} stands beside it" if pair else "")
        for i in range(60)
    )
    (folder / "t.csv").write_text("\n".join([columns, *rows]), "utf-8")
    data = TextTable(
        path=str(folder / "t.csv"),
        target=target,
        second="other" if pair else "",
        tokenizer=tokenizer,
        context=10,
        vocabulary=300,
    )
    task = TextClassification(metric=metric)
    experiment = dataclasses.replace(
        TextClassification.smallest(folder), task=task, data=data, model=BERT.smallest()
    )
    facts = training_facts(experiment, Readable(data))
    return Setup(experiment, facts)


@pytest.mark.parametrize(
    ("target", "pair", "tokenizer"),
    [
        ("label", True, "wordpiece"),
        ("labels", False, "characters"),
        ("number", True, "wordpiece"),
        ("label", True, "bpe"),
    ],
)
def test_served_it_answers_as_it_predicts(target, pair, tokenizer, tmp_path):
    setup = small(tmp_path, target, pair, tokenizer)
    evaluation = setup.evaluate("test")
    assert setup.task.primary[0] in evaluation.metrics
    panels = setup.task.panels("test", evaluation.measured, evaluation.records)
    assert any(panel["title"] == "Worst mistakes" for panel in panels)
    programs = Programs(setup.task, setup.model)
    saved_model.write(programs, tmp_path / "1", {})
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    data = setup.task.data
    positions = np.arange(data.size("test"))
    raw = {**data.examples("test", positions), **data.encoded("test", positions)}
    given = {name: tf.constant(value) for name, value in programs.serving.encode(raw).items()}
    answers = served(**given)
    batch = {"label": tf.constant(raw["label"]), "count": tf.zeros(len(positions), tf.int32)}
    graded = programs.serving.grade(answers, batch)
    for name, (total, count) in graded.items():
        measured = evaluation.metrics[name]["value"]
        assert float(tf.reduce_sum(total) / tf.reduce_sum(count)) == pytest.approx(measured, 1e-4)
    records = programs.serving.records(answers, batch)
    again = setup.task.score({name: value.numpy() for name, value in records.items()})
    for name, value in again.items():
        expected = evaluation.metrics[name]["value"]
        assert value == pytest.approx(expected, 1e-3) if value is not None else expected is None


class Trained:
    def __init__(self, setup):
        self.model = setup.model


def answered(setup, inputs, **request):
    shown = []
    options = setup.task.request(**request)
    return setup.task.respond(Trained(setup), inputs, options, shown.append), "".join(shown)


def test_answers_for_texts_and_pairs(tmp_path):
    setup = small(tmp_path, "label", pair=True)
    (one, other), text = answered(setup, ["a word\tand more", "b\tc"], top=3)
    assert one["input"] == "a word\tand more" and one["label"] == one["top"][0][0]
    assert len(one["top"]) == 3 and sum(share for _, share in other["top"]) == pytest.approx(1)
    assert text.count("\n") == 2
    (same,), _ = answered(setup, [("a word", "and more")])
    assert same["score"] == pytest.approx(one["score"], abs=1e-5)
    with pytest.raises(UserError, match="expected two texts with a tab between them"):
        answered(setup, ["alone"])
    with pytest.raises(UserError, match="lone surrogate"):
        answered(setup, [("\ud800", "b")])
    with pytest.raises(UserError, match="expected a text. Received: an empty one"):
        answered(setup, [("a", " \n")])
    with pytest.warns(LeftOut, match="1 texts are longer than the 10 tokens that are read"):
        answered(setup, [("word " * 30, "b")])


def test_metrics_are_those_of_the_labels(tmp_path):
    setup = small(tmp_path, "number")
    data = setup.task.data
    with pytest.raises(UserError, match="task.metric: expected one of loss, absolute_error"):
        TextClassification().measure(data)
    with pytest.raises(UserError, match="since each text has one label. Received: spearman"):
        TextClassification(metric="spearman").measure(small(tmp_path, "label").task.data)
    (answer,), text = answered(setup, ["word 3 and more"])
    assert set(answer) == {"input", "value"} and "word 3" in text


def test_dropped_words_are_never_special(tmp_path):
    setup = small(tmp_path, "label")
    task = dataclasses.replace(setup.task, word_dropout=0.5).bind(
        setup.task.model, setup.task.data, setup.task.facts
    )
    raw = {
        "text": tf.fill((64, 10), 20),
        "text_count": tf.fill((64,), 7),
        "key": tf.constant(RANDOM.randint(0, 2**31, (64, 2)), tf.uint32),
    }
    tokens = task.preprocess(raw, True)["tokens"].numpy()
    whole = task.preprocess(raw, False)["tokens"].numpy()
    changed = tokens != whole
    assert 0.4 < changed[:, 1:8].mean() < 0.6 and not changed[:, [0, *range(8, 12)]].any()
    assert set(tokens[changed]) == {task.tokenizer.unknown}


def test_a_run_is_used_without_its_data(tmp_path):
    experiment = TextClassification.smallest(tmp_path)
    run = tfbig.train(experiment, "train.length=20", run=tmp_path / "run")
    (tmp_path / "table.csv").unlink()
    (answer,) = tfbig.predict(tmp_path / "run", ["a cat and a dog"])
    assert answer["label"] in ("animals", "tools") and run


def test_what_it_takes_is_planned(tmp_path):
    """Of a text of the longest that is read, by a model that takes numbers beside it."""
    figures = plan.describe(small(tmp_path, "label"))
    length, width = 10, 16
    products = 2 * length * (3 * width**2 + width**2 + 2 * 4 * width**2)
    attention = 2 * 2 * length**2 * width  # of queries with keys, and of shares with values
    summary = 2 * (width**2 + 3 * width)
    assert figures["forward_flops_per_example"] == products + attention + summary
    assert figures["activations_mb"] > 4e-6 * 12 * length * 10 * width
