"""WordPiece: library and graph agree token for token; vocabularies are read and learnt."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfbig.core.errors import UserError
from tfbig.data import vader
from tfbig.data.text_files import TextFiles
from tfbig.deploy import allowlist
from tfbig.prep import graph_text, graph_wordpiece, vocabularies
from tfbig.prep.wordpiece import LONGEST, SPECIAL, WordPiece
from tfbig.tasks.text_generation import TextGeneration

WORDS = [*SPECIAL, "the", "un", "##aff", "##able", "cafe", "##s", "!", "中", "ß", "ι", "##ι", "É"]
ODD = [
    "",
    "   ",
    "Unaffable CAFÉS!!",
    "unaffablex",
    "[MASK] is [CLS], ##able",
    "中文 and 한국어, カタカナ",
    "don't\u200bwait\ufffd \x00z\u00ad\t\n\u00a0\u2028x",
    "ǅ İstanbul ΣΑΣ ẞ ﬁ \uf900 A\u030aé e\u0301",
    "😀👍🏽 ok \U0001f468\u200d\U0001f469",
    "|pipes||and_underscores_|",
    "a" * LONGEST + " " + "a" * (LONGEST + 1),
    "é" * LONGEST + " " + "e\u0301" * (LONGEST + 1),
    "\U000f0000\U0010fffd\U000e0001 \u0378",
]


def pieces(tokenizer, texts):
    """What the graph makes of them, a list of tokens each."""
    given = [tf.TensorSpec([None], tf.string)]
    encode = tf.function(graph_text.encoder(tokenizer), input_signature=given, autograph=False)
    rows = []
    for first in range(0, len(texts), 512):
        given = tf.constant([text.encode() for text in texts[first : first + 512]])
        rows += encode(given).to_list()
    return rows


def assert_same(tokenizer, texts):
    library = [row.tolist() for row in tokenizer.encode_all(texts)]
    for text, ours, theirs in zip(texts, pieces(tokenizer, texts), library, strict=True):
        assert ours == theirs, ascii(text)


@pytest.fixture(scope="module")
def sentences():
    """Ten thousand real ones, every other with accents, emoji, other scripts or long words."""
    texts, _ = vader._content()
    draw = random.Random(0)
    strange = (
        "éèñüßøçÅΣλЖщאبक中國한글ひナ\U0001f600\U0001f44d\U0001f3fd\u200d\ufe0f\u0301\u00a0\u2014"
    )

    def changed(text):
        letters = [draw.choice(strange) if draw.random() < 0.1 else letter for letter in text]
        long = draw.choice("xé中") * draw.choice((99, 100, 101, 250))
        return "".join(letters) + draw.choice(("", f" {long}", f"{long}!"))

    return [changed(text) if i % 2 else text for i, text in enumerate(texts[:10_000])]


@pytest.fixture(scope="module")
def learnt():
    texts, _ = vader._content()
    return WordPiece.train([*texts, *ODD], 4000)


def test_ten_thousand_sentences_in_the_graph(learnt, sentences):
    assert_same(learnt, sentences)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False},
        {"lowercase": True, "strip_accents": False},
        {"lowercase": False, "strip_accents": True, "split_chinese": False},
    ],
    ids=["uncased", "cased", "with_accents", "without_chinese"],
)
def test_odd_texts_in_the_graph(options):
    draw = random.Random(1)
    codes = [code for codes in graph_wordpiece.LOOKED_AT for code in codes]
    noise = ["".join(chr(draw.choice(codes)) for _ in range(40)) for _ in range(300)]
    assert_same(WordPiece(WORDS, **options), [*ODD, *noise])


@pytest.mark.slow
def test_every_character_in_the_graph():
    """Also those that are not looked at one by one."""
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    known = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    texts = ["a".join(letters[i : i + 64]) for i in range(0, len(letters), 64)]
    assert_same(WordPiece(known), texts)


def test_the_graph_is_allowed_wherever_models_are_served(learnt, tmp_path):
    module = tf.Module()
    encode = graph_text.encoder(learnt)
    module.encode = tf.function(
        lambda text: {"tokens": encode(text).to_tensor()},
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.encode})
    allowlist.check_saved_model(tmp_path)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    text = "An unbelievably café-like film!"
    (tokens,) = served(text=tf.constant([text]))["tokens"].numpy()
    assert tokens.tolist() == learnt.encode(text).tolist()
    assert served(text=tf.constant([""]))["tokens"].shape == (1, 0)
    assert served(text=tf.zeros([0], tf.string))["tokens"].shape[0] == 0


def test_words_and_what_is_lost():
    tokenizer = WordPiece(WORDS)
    tokens = tokenizer.encode("Unaffable CAFÉS !")
    assert [WORDS[token] for token in tokens] == ["un", "##aff", "##able", "cafe", "##s", "!"]
    assert tokenizer.decode([tokenizer.begin, *tokens, tokenizer.separator]) == "unaffable cafes !"
    assert tokenizer.encode("[SEP]").tolist() != [tokenizer.separator]
    odd = tokenizer.encode("the zzz the")
    assert tokenizer.unknown in odd
    for text in ODD:  # a text can be made of tokens that are cut from it again
        tokens = tokenizer.encode(text)[:5]
        assert tokenizer.encode(tokenizer.respelled(tokens)).tolist() == tokens.tolist()
    assert not tokenizer.lossless
    assert tokenizer.continues.sum() == 4 and tokenizer.is_special.sum() == len(SPECIAL)


def test_it_is_kept_with_a_run(learnt):
    again = vocabularies.from_json(json.loads(json.dumps(learnt.to_json())))
    assert again.words == learnt.words and again.to_json() == learnt.to_json()
    cased = WordPiece(WORDS, lowercase=False)
    assert vocabularies.from_json(cased.to_json()).encode("É").tolist() == [WORDS.index("É")]


def test_the_same_texts_give_the_same_vocabulary():
    """In another process, too, where hashes are others."""
    code = (
        "from tfbig.prep.wordpiece import WordPiece;"
        "print(WordPiece.train(['the cat sat on a mat', 'cats and mats'] * 9, 80).words)"
    )
    runs = {subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(3)}
    assert len(runs) == 1


def test_vocabularies_are_read(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS[:-1]) + "\n", "utf-8")
    for given in (tmp_path, path):
        assert vocabularies.ready(given).words == WORDS[:-1] and vocabularies.ready(given).lowercase
    path.write_text("\n".join(WORDS) + "\n", "utf-8")  # with a large letter
    assert not vocabularies.ready(tmp_path).lowercase
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}', "utf-8")
    assert vocabularies.ready(tmp_path).lowercase
    whole = tmp_path / "whole"
    whole.mkdir()
    source = WordPiece(WORDS, lowercase=False, strip_accents=True)
    source._whole.save(str(whole / "tokenizer.json"))
    assert vocabularies.ready(whole).to_json() == source.to_json()


def test_wrong_vocabularies_are_explained(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("a\nb\n", "utf-8")
    with pytest.raises(UserError, match=r"Missing: \[PAD\], \[UNK\]"):
        vocabularies.ready(path)
    path.write_text("\n".join([*WORDS, "the"]), "utf-8")
    with pytest.raises(UserError, match="Received: 'the' twice"):
        vocabularies.ready(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="expected text in UTF-8"):
        vocabularies.ready(path)
    whole = tmp_path / "tokenizer.json"
    definition = json.loads(WordPiece(WORDS)._whole.to_str())
    definition["normalizer"]["clean_text"] = False
    whole.write_text(json.dumps(definition), "utf-8")
    with pytest.raises(UserError, match="expected WordPiece with BertNormalizer"):
        vocabularies.ready(whole)


def test_text_is_not_written_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a.txt").write_text("the cat sat on the mat. " * 200, "utf-8")
    data = TextFiles(path=str(tmp_path / "a.txt"), context=8, tokenizer="wordpiece", vocabulary=258)
    assert data.read_tokenizer().kind == "wordpiece" and data.size("train") > 0
    assert np.all(data.tokens("train") < 258)
    with pytest.raises(UserError, match="expected one that gives every text back"):
        TextGeneration().measure(data)
