"""Tokenizers: lossless round trips, what a vocabulary lacks, text that goes on."""

import base64
import json

import numpy as np
import pytest
from vocabularies import sentencepiece_model, write_gpt2
from writing import any_text, prose

from tfbig.core.errors import UserError
from tfbig.data import _text
from tfbig.data.text_files import TextFiles
from tfbig.prep import tokenizers
from tfbig.tasks._text_stream import TextStream


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _text._opened.cache_clear()


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe", "sentencepiece"])
def test_round_trip_is_lossless(kind):
    texts = [any_text(1), "", " two  spaces\tand\n\nlines ", "<|endoftext|>", "春眠不覺曉，處處聞啼鳥。", "e\u0301 é 👩‍👩‍👧"]
    if kind == "sentencepiece":  # its format has no place for the space mark it uses itself
        pytest.importorskip("sentencepiece")
        texts = [text.replace("\u2581", "").replace("\0", "") for text in texts]
    made = {
        "characters": lambda: tokenizers.Characters.of(texts, separator=True),
        "bytes": tokenizers.Bytes,
        "bpe": lambda: tokenizers.BPE.train([prose(i) for i in range(9)], 300),
        "sentencepiece": lambda: tokenizers.SentencePiece(sentencepiece_model("".join(prose(i) for i in range(20)))),
    }[kind]()
    again = tokenizers.from_json(json.loads(json.dumps(made.to_json())))
    assert again.size == made.size
    for text in texts:
        tokens = again.encode(text)
        assert again.decode(tokens) == text
        assert again.byte_lengths()[tokens].sum() == len(text.encode()) and again.separator not in tokens
    np.testing.assert_array_equal(again.encode_all(texts)[0], made.encode(texts[0]))
    assert again.byte_lengths()[again.separator] == 0 and again.decode([again.separator]) == ""


def test_gpt2_files(tmp_path):
    words = write_gpt2(tmp_path, "h e", "l l", "he ll", "hell o")
    found = tokenizers.ready(tmp_path)
    assert [words[token] for token in found.encode("hello he")] == ["hello", "Ġ", "he"]
    assert found.separator == 260 and found.size == 261
    with pytest.raises(UserError, match="expected a folder with vocab.json and merges.txt"):
        tokenizers.ready(tmp_path / "nothing")
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(word for word in words if word not in "xz")}))
    with pytest.raises(UserError, match=r"vocab.json: expected a token for each of the 256 bytes.*Received: none for 2 of them \(x, z\)"):
        tokenizers.ready(tmp_path)


def test_unknown_characters_are_named():
    known = tokenizers.Characters.of(["abc"])
    with pytest.raises(UserError, match=r"'é' \(U\+00E9\) not in the alphabet of 3 characters.*first at character 2"):
        known.encode("aéb")
    rare = tokenizers.Characters.of(["aab"], min_count=2)
    assert rare.decode(rare.encode("ab")) == "a\ufffd"


@pytest.mark.parametrize("dummy", [True, False])
def test_what_a_sentencepiece_vocabulary_lacks(dummy, tmp_path):
    """Without byte fallback one token stands for all of it: it could not be written again, nor its bytes be counted."""
    pytest.importorskip("sentencepiece")
    made = tokenizers.SentencePiece(sentencepiece_model("".join(prose(i) for i in range(20)), dummy, byte_fallback=False))
    assert made.decode(made.encode("abc def")) == "abc def"
    with pytest.raises(UserError, match=r"characters: '\\n' \(U\+000A\), '犬' \(U\+72AC\) not in this SentencePiece vocabulary, .*first at character 5"):
        made.encode("abc 犬犬\n")
    (tmp_path / "a.model").write_bytes(base64.b64decode(made.to_json()["model"]))
    (tmp_path / "a.txt").write_text("春眠 " * 50, "utf-8")
    with pytest.raises(UserError, match=r"data: the train split holds what the vocabulary does not. characters: '春' "):
        TextFiles(path=str(tmp_path / "a.txt"), tokenizer="ready", vocabulary_path=str(tmp_path)).size("train")


@pytest.mark.parametrize("dummy", [True, False])
def test_a_continuation_keeps_its_space(dummy):
    """Most SentencePiece models put a space before a text and leave it out again when they decode."""
    pytest.importorskip("sentencepiece")
    made = tokenizers.SentencePiece(sentencepiece_model("".join(prose(i) for i in range(20)), add_dummy_prefix=dummy))
    tokens = made.encode("abc def 犬 gh").tolist()
    for cut in range(1, len(tokens)):
        begun = made.decode(tokens[:cut])
        if "\ufffd" not in begun:
            assert begun + made.continuation(tokens[cut:]) == "abc def 犬 gh"
    stream = TextStream(made)
    assert stream.add(made.encode("abc def").tolist()[len(made.encode("abc")) :]) + stream.end() == " def"
    first = TextStream(made, begins=True)
    assert "".join(first.add([token]) for token in tokens) + first.end() == "abc def 犬 gh", "a text that begins has no space before it"
