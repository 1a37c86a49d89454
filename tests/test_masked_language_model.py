"""Masked language models: what is hidden, how masks are filled, and what is learnt from them."""

import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.run import Run
from tfbig.data.text_mix import TextMix
from tfbig.deploy import saved_model
from tfbig.deploy.programs import Programs
from tfbig.models.bert import BERT
from tfbig.prep import text_masks
from tfbig.prep.wordpiece import SPECIAL, WordPiece
from tfbig.tasks.masked_language_model import MaskedLanguageModel
from tfbig.tasks.text_classification import TextClassification

TOKENIZER = WordPiece([*SPECIAL, *"abcdefghij", *(f"##{letter}" for letter in "klmno")])
RANDOM = np.random.RandomState(0)


def frames(count=200, length=30):
    """Words of one to three pieces between special tokens, of several lengths."""
    tokens = RANDOM.randint(5, TOKENIZER.size, (count, length)).astype(np.int32)
    counts = RANDOM.randint(5, length + 1, count).astype(np.int32)
    tokens[:, 0], tokens[:, 1] = TOKENIZER.begin, 6
    tokens[np.arange(count), counts - 1] = TOKENIZER.separator
    tokens = np.where(np.arange(length)[None] < counts[:, None], tokens, TOKENIZER.pad)
    return {"tokens": tf.constant(tokens), "count": tf.constant(counts)}


def hidden(frame, share=0.15, seed=0, **options):
    key = text_masks.key_of(frame["tokens"], frame["count"], seed)
    options = {"whole_words": True, **options}
    return {
        name: value.numpy()
        for name, value in text_masks.masked(TOKENIZER, frame, key, share, **options).items()
    }


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_what_is_hidden(share):
    frame = frames()
    before = frame["tokens"].numpy()
    ready = hidden(frame, share)
    special = TOKENIZER.is_special[before]
    words = np.cumsum(~TOKENIZER.continues[before], 1)
    total = np.zeros(3)
    for i, count in enumerate(frame["count"].numpy()):
        places = ready["places"][i][ready["weight"][i] > 0]
        assert len(set(places)) == len(places) >= 1
        assert not special[i][places].any() and places.max() < count
        np.testing.assert_array_equal(ready["target"][i], before[i][ready["places"][i]])
        wanted = max(1, round(share * (~special[i]).sum()))
        assert wanted - 1 <= len(places)
        for word in set(words[i][places]):  # whole words
            pieces = np.flatnonzero((words[i] == word) & ~special[i])
            assert set(pieces) <= set(places)
        rest = np.setdiff1d(np.arange(before.shape[1]), places)
        np.testing.assert_array_equal(ready["tokens"][i][rest], before[i][rest])
        now = ready["tokens"][i][places]
        is_mask, is_same = now == TOKENIZER.mask, now == before[i][places]
        total += [is_mask.sum(), (~is_mask & ~is_same).sum(), is_same.sum()]
    shares = total / total.sum()
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.04)


def test_an_evaluation_hides_the_same_whatever_stands_beside():
    frame = frames(20)
    ready = hidden(frame)
    for i, count in enumerate(frame["count"].numpy()):
        alone = {"tokens": frame["tokens"][i : i + 1, :count], "count": frame["count"][i : i + 1]}
        one = hidden(alone)
        np.testing.assert_array_equal(one["tokens"][0], ready["tokens"][i][:count])
        places = ready["places"][i][ready["weight"][i] > 0]
        np.testing.assert_array_equal(one["places"][0][one["weight"][0] > 0], places)
    other = hidden(frame, seed=1)
    assert (other["places"][:, 0] != ready["places"][:, 0]).mean() > 0.5


def test_single_pieces_may_be_hidden():
    frame = frames(50)
    ready = hidden(frame, whole_words=False)
    free = (~TOKENIZER.is_special[frame["tokens"].numpy()]).sum(1)
    wanted = np.maximum(1, np.round(0.15 * free))
    np.testing.assert_array_equal(ready["weight"].sum(1), wanted)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A masked language model of verses and rows, trained for a moment."""
    folder = tmp_path_factory.mktemp("mlm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        experiment = MaskedLanguageModel.smallest(folder)
        tfbig.train(experiment, "train.length=150", run=folder / "run")
        yield Run.open(folder / "run")


def test_it_fills_masks(run):
    (answer,) = tfbig.predict(run, ["7 green [MASK] hanging on the [MASK]."], top=3)
    assert answer["text"].startswith("7 green ") and "[" not in answer["text"]
    assert len(answer["masks"]) == 2 and all(len(row) == 3 for row in answer["masks"])
    assert answer["masks"][0][0][0] in answer["text"]
    for text, received in (("no mask", "none"), ("[MASK] " * 40, "40 tokens")):
        with pytest.raises(UserError, match=rf"\[MASK\] at least once.*Received: {received}"):
            tfbig.predict(run, [text])


def test_the_served_program_fills_as_it_predicts(run, tmp_path):
    trained = tfbig.load(run)
    programs = Programs(trained.task, trained.model)
    saved_model.write(programs, tmp_path / "1", {})
    fill = tf.saved_model.load(str(tmp_path / "1")).signatures["fill"]
    texts = ["7 green [MASK] hanging on the wall.", "[MASK] of a [MASK], row"]
    answers = fill(text=tf.constant(texts))
    for i, text in enumerate(texts):
        (expected,) = tfbig.predict(run, [text])
        first = expected["masks"][0]
        labels = [label.decode() for label in answers["labels"][i].numpy()]
        assert labels == [token for token, _ in first]
        np.testing.assert_allclose(answers["scores"][i], [share for _, share in first], atol=1e-5)
        assert answers["text"][i].numpy().decode() == expected["text"]
    assert "Unicode's form NFC; bring texts to it" in programs.serving.remarks[1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least once in each"):
        fill(text=tf.constant(["nothing to fill"]))
    for trial in programs.serving.trials("test"):
        found = fill(**{name: tf.constant(value) for name, value in trial.inputs.items()})
        for name, expected in trial.expected.items():
            if expected.dtype == object:
                np.testing.assert_array_equal(found[name].numpy(), expected)
            else:
                np.testing.assert_allclose(found[name], expected, atol=1e-5)


def test_its_weights_and_vocabulary_start_a_classification(run, tmp_path):
    experiment = TextClassification.smallest(tmp_path)
    model = BERT.smallest()
    settings = ("data.tokenizer=ready", f"data.vocabulary_path={run.path}", f"init={run.path}")
    fine = tfbig.recipe(
        type(experiment)(**{**vars(experiment), "model": model}), *settings, "train.length=1",
        "optim.learning_rate=1e-9",
    )  # fmt: skip
    tfbig.train(fine, run=tmp_path / "run")
    before, after = tfbig.load(run), tfbig.load(tmp_path / "run")
    assert after.task.tokenizer.words == before.task.tokenizer.words
    for layer in ("embedding", "block_1_attention_qkv", "norm"):
        one, other = (np.array(each.model.get_layer(layer).weights[0]) for each in (before, after))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_labelled_texts_are_read_without_their_tests(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = TextMix.smallest(tmp_path)
    texts = [text for _, _, text in data.documents()]
    _, table = data._parts
    for split in ("validation", "test"):
        held = table.texts(split, np.arange(table.size(split)))["text"]
        assert held and not set(held) & set(texts)
    train = table.texts("train", np.arange(table.size("train")))["text"]
    assert set(train) <= set(texts)


def test_wrong_mixes_and_tokenizers_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for sources, message in (
        ((), "expected the datasets that are mixed"),
        (("mnist",), "Received: mnist"),
        (("sotu:contxt=3",), "a setting of sotu"),
        (("no_such",), "no_such"),
    ):
        assert message in dict(TextMix(sources=sources).problems())["sources"]
    data = TextMix(**{**vars(TextMix.smallest(tmp_path)), "tokenizer": "bytes"})
    with pytest.raises(UserError, match=r"expected one with the token \[MASK\]. Received: bytes"):
        MaskedLanguageModel().measure(data)
