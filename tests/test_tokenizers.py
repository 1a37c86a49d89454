"""Tokenizers: lossless round trips, what a vocabulary lacks, text that goes on."""

import base64
import json
import random
import time

import numpy as np
import pytest
import tensorflow as tf
from vocabularies import llama_json, sentencepiece_model, tokenizer_json, write_gpt2
from writing import any_text, prose

from tfbig.core.errors import UserError
from tfbig.data import _text
from tfbig.data.text_files import TextFiles
from tfbig.decoding.text_stream import TextStream
from tfbig.models.gpt import GPT
from tfbig.prep import bpe, graph_text, sentence_piece, tokenizers, vocabularies, wordpiece
from tfbig.tasks.text_generation import TextGeneration


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _text._opened.cache_clear()


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe", "sentencepiece"])
def test_round_trip_is_lossless(kind):
    texts = [
        any_text(1),
        "",
        " two  spaces\tand\n\nlines ",
        "<|endoftext|>",
        "春眠不覺曉，處處聞啼鳥。",
        "e\u0301 é 👩‍👩‍👧",
    ]
    if kind == "sentencepiece":  # its format has no place for the space mark it uses itself
        pytest.importorskip("sentencepiece")
        texts = [text.replace("\u2581", "").replace("\0", "") for text in texts]
    made = {
        "characters": lambda: tokenizers.Characters.of(texts, separator=True),
        "bytes": tokenizers.Bytes,
        "bpe": lambda: bpe.BPE.train([prose(i) for i in range(9)], 300),
        "sentencepiece": lambda: sentence_piece.SentencePiece(
            sentencepiece_model("".join(prose(i) for i in range(20)))
        ),
    }[kind]()
    again = vocabularies.from_json(json.loads(json.dumps(made.to_json())))
    assert again.size == made.size
    for text in texts:
        tokens = again.encode(text)
        assert again.decode(tokens) == text
        assert (
            again.byte_lengths()[tokens].sum() == len(text.encode())
            and again.separator not in tokens
        )
    np.testing.assert_array_equal(again.encode_all(texts)[0], made.encode(texts[0]))
    assert again.byte_lengths()[again.separator] == 0 and again.decode([again.separator]) == ""


def test_gpt2_files(tmp_path):
    words = write_gpt2(tmp_path, "h e", "l l", "he ll", "hell o")
    found = vocabularies.ready(tmp_path)
    assert [words[token] for token in found.encode("hello he")] == ["hello", "Ġ", "he"]
    assert found.separator == 260 and found.size == 261
    with pytest.raises(
        UserError, match="expected a folder with tokenizer.json, or with vocab.json and merges.txt"
    ):
        vocabularies.ready(tmp_path / "vocab.json")
    with pytest.raises(UserError, match="nothing does not exist. .* --resume RUN data.vocabulary"):
        vocabularies.ready(tmp_path / "nothing")
    (tmp_path / "vocab.json").write_text(
        json.dumps({word: i for i, word in enumerate(word for word in words if word not in "xz")})
    )
    with pytest.raises(
        UserError,
        match=(
            r"vocab.json: expected a token for each of the 256 bytes.*Received: none for 2 of them"
            r" \(x, z\)"
        ),
    ):
        vocabularies.ready(tmp_path)


def test_unknown_characters_are_named():
    known = tokenizers.Characters.of(["abc"])
    with pytest.raises(
        UserError,
        match=r"'é' \(U\+00E9\) not in the alphabet of 3 characters.*first at character 2",
    ):
        known.encode("aéb")
    rare = tokenizers.Characters.of(["aab"], min_count=2)
    assert rare.decode(rare.encode("ab")) == "a\ufffd"


@pytest.mark.parametrize("dummy", [True, False])
def test_what_a_sentencepiece_vocabulary_lacks(dummy, tmp_path):
    """Without byte fallback one token stands for all of it.

    It could not be written again, nor its bytes be counted.
    """
    pytest.importorskip("sentencepiece")
    made = sentence_piece.SentencePiece(
        sentencepiece_model("".join(prose(i) for i in range(20)), dummy, byte_fallback=False)
    )
    assert made.decode(made.encode("abc def")) == "abc def"
    with pytest.raises(
        UserError,
        match=(
            r"characters: '\\n' \(U\+000A\), '犬' \(U\+72AC\) not in this SentencePiece vocabulary,"
            r" .*first at character 5"
        ),
    ):
        made.encode("abc 犬犬\n")
    (tmp_path / "a.model").write_bytes(base64.b64decode(made.to_json()["model"]))
    (tmp_path / "a.txt").write_text("春眠 " * 50, "utf-8")
    with pytest.raises(
        UserError,
        match=r"data: the train split holds what the vocabulary does not. characters: '春' ",
    ):
        TextFiles(
            path=str(tmp_path / "a.txt"), tokenizer="ready", vocabulary_path=str(tmp_path)
        ).size("train")


@pytest.mark.parametrize("dummy", [True, False])
def test_a_continuation_keeps_its_space(dummy):
    """Most SentencePiece models put a space before a text and leave it out again when they
    decode.
    """
    pytest.importorskip("sentencepiece")
    made = sentence_piece.SentencePiece(
        sentencepiece_model("".join(prose(i) for i in range(20)), add_dummy_prefix=dummy)
    )
    tokens = made.encode("abc def 犬 gh").tolist()
    for cut in range(1, len(tokens)):
        begun = made.decode(tokens[:cut])
        if "\ufffd" not in begun:
            assert begun + made.continuation(tokens[cut:]) == "abc def 犬 gh"
    stream = TextStream(made)
    assert (
        stream.add(made.encode("abc def").tolist()[len(made.encode("abc")) :]) + stream.end()
        == " def"
    )
    first = TextStream(made, begins=True)
    assert "".join(first.add([token]) for token in tokens) + first.end() == "abc def 犬 gh", (
        "a text that begins has no space before it"
    )


class Slow:
    """What a `TextStream` is to show, by decoding all tokens anew at each step."""

    def __init__(self, tokenizer, *stop, begins):
        self.stop, self.tokens, self.shown, self.text, self.done = stop, [], 0, "", False
        self.separator = tokenizer.separator
        self.decode = tokenizer.decode if begins else tokenizer.continuation

    def add(self, tokens):
        if self.done:
            return ""
        if self.separator in tokens:
            tokens, self.done = tokens[: tokens.index(self.separator)], True
        self.tokens += tokens
        self.text = self.decode(self.tokens)
        places = [self.text.index(stop) for stop in self.stop if stop in self.text]
        if places:
            self.text, self.done = self.text[: min(places)], True
        certain = len(self.text)
        if not self.done:
            certain -= min(3, certain - len(self.text.rstrip("\ufffd")))
            begun = [
                length
                for stop in self.stop
                for length in range(1, min(len(stop), certain + 1))
                if self.text[:certain].endswith(stop[:length])
            ]
            certain -= max(begun, default=0)
        piece = self.text[self.shown : certain]
        self.shown = max(self.shown, certain)
        return piece

    def end(self):
        self.done = True
        return self.text[self.shown :]


def _tokenizer_of_streams(kind):
    corpus = "".join(prose(i) for i in range(20)) + "\ufffd 犬 猫 " * 30
    if kind == "bytes":
        return tokenizers.Bytes()
    if kind == "characters":
        return tokenizers.Characters("ab \ufffd犬", unknown=True, separator=True)
    if kind.startswith("bpe"):
        library = pytest.importorskip("tokenizers")
        pipeline = bpe.byte_level(library.models.BPE(), add_prefix_space="space" in kind)
        trainer = library.trainers.BpeTrainer(
            vocab_size=350,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|endoftext|>", "<pad>"],
            show_progress=False,
        )
        pipeline.train_from_iterator([corpus] * 3, trainer)
        return bpe.BPE(pipeline.to_str())
    pytest.importorskip("sentencepiece")
    return sentence_piece.SentencePiece(
        sentencepiece_model(corpus, "space" in kind, remove_extra_whitespaces="strip" in kind)
    )


STREAMED = ["bytes", "characters", "bpe", "bpe space", "sentencepiece"]
STREAMED += ["sentencepiece space", "sentencepiece space strip", "sentencepiece strip"]


@pytest.mark.parametrize("kind", STREAMED)
def test_streams_show_what_decoding_all_tokens_anew_shows(kind):
    """Torn and whole characters, control tokens, spaces at the start, stop texts."""
    made, draw = _tokenizer_of_streams(kind), random.Random(0)
    words = [made.continuation([token]) for token in range(made.size)]
    odd = [token for token, word in enumerate(words) if word in ("", " ", "\ufffd")]
    if kind == "bytes":
        odd = [*b"\x80\x80\xe2\xf0\xff\xc3\xed\xa0  ", 256]
    mixed = [""] if kind == "characters" else ["é犬 \U0001f600\ufffd", " a", "\U0001f600", "END"]
    for _ in range(400):
        tokens = []
        for _ in range(draw.randrange(12)):
            whole = made.encode(draw.choice(mixed)).tolist()
            tokens += whole[draw.randrange(2) : draw.randrange(1, 9)]
            tokens += [draw.choice(odd), draw.randrange(made.size)][: draw.randrange(3)]
        stop = draw.choice(
            [(), ("END", "a"), ("\ufffd\ufffd\ufffd\ufffd", "ab"), ("\ufffd",), ("  ",)]
        )
        begins = draw.random() < 0.5
        slow, stream = Slow(made, *stop, begins=begins), TextStream(made, *stop, begins=begins)
        while tokens:
            count = draw.choice([1, 1, 1, 2, 5])
            fresh, tokens = tokens[:count], tokens[count:]
            assert stream.add(fresh) == slow.add(fresh)
            assert (stream.done, stream.text) == (slow.done, slow.text)
        assert (stream.end(), stream.text) == (slow.end(), slow.text)


@pytest.mark.parametrize("kind", ["bytes", "bpe", "sentencepiece"])
def test_long_streams_take_linear_time(kind):
    """Whole characters, and bytes that never become one."""
    made = _tokenizer_of_streams(kind)
    torn = made.encode("\U0001f600").tolist()[-1:]
    for tokens in (made.encode("犬 the \U0001f600 ").tolist() * 2000, torn * 20_000):
        stream, began = TextStream(made, "END"), time.process_time()
        shown = "".join(stream.add([token]) for token in tokens) + stream.end()
        assert shown == stream.text == made.continuation(tokens)
        assert time.process_time() - began < 3  # decoded anew for each token they take a minute


@pytest.mark.parametrize("learn", [bpe.BPE.train, wordpiece.WordPiece.train])
def test_a_word_as_long_as_a_file_is_learnt_from(learn):
    """In linear time: by the square of its letters it takes minutes."""
    began = time.process_time()
    made = learn(["abcdef" * 40_000, "hello there"], 300)
    assert time.process_time() - began < 10
    assert made.decode(made.encode("hello there")) == "hello there"


# A tokenizer.json


def write(folder, content, **config):
    """A folder with a tokenizer.json and, if there is anything to say, a tokenizer_config.json."""
    (folder / "tokenizer.json").write_text(json.dumps(content))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return vocabularies.ready(folder)


def spelled(tokenizer, text):
    """The pieces that a text is cut into, as the vocabulary names them."""
    saved = json.loads(tokenizer.to_json()["definition"])
    words = {i: word for word, i in saved["model"]["vocab"].items()} | {
        word["id"]: word["content"] for word in saved["added_tokens"]
    }
    return [words[token] for token in tokenizer.encode(text)]


def test_a_tokenizer_json_wins_over_the_files_beside_it(tmp_path):
    """Its digits stand apart, its added words are whole, and the words of control tokens are text
    like any other.
    """
    write_gpt2(tmp_path, "1 2", "h e")
    assert len(vocabularies.ready(tmp_path).encode("12he")) == 2
    level = tokenizer_json([])["pre_tokenizer"]
    steps = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, level],
    }
    limits = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    added = [("<|endoftext|>", True), ("<tool>", False)]
    content = tokenizer_json([], ["1 2", "h e"], added, pre_tokenizer=steps, truncation=limits)
    found = write(tmp_path, content)
    assert spelled(found, "12he<tool>he") == ["1", "2", "he", "<tool>", "he"]
    end = content["model"]["vocab"]["<|endoftext|>"]
    assert (found.begin, found.separator) == (None, end) and found.size == len(
        content["model"]["vocab"]
    )
    text = "<|endoftext|> 12"
    assert end not in found.encode(text) and found.decode(found.encode(text)) == text
    assert (
        found.byte_lengths()[found.encode("<tool>")].tolist() == [6]
        and found.byte_lengths()[end] == 0
    )
    assert vocabularies.ready(tmp_path / "tokenizer.json").to_json() == found.to_json()


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.json"])
def test_a_space_put_before_a_text_is_none_of_its_bytes(kind, tmp_path):
    if kind == "vocab.json":
        write_gpt2(tmp_path, "h e", "\u0120 he")
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"add_prefix_space": True, "eos_token": {"content": "<|endoftext|>"}})
        )
        found = vocabularies.ready(tmp_path)
    else:
        content = tokenizer_json([], ["h e", "\u0120 he"], [("<|endoftext|>", True)])
        content["pre_tokenizer"]["add_prefix_space"] = True
        found = write(tmp_path, content)
    again = vocabularies.from_json(json.loads(json.dumps(found.to_json())))
    tokens = again.encode("he he")
    assert spelled(found, "he he") == ["\u0120he", "\u0120he"]
    assert again.decode(tokens) == "he he" and again.continuation(tokens) == " he he"
    before = np.array([again.separator, tokens[0]])
    assert again.byte_counts(before, tokens).tolist() == [2, 3]
    assert graph_text.byte_counts(again, before, tokens).numpy().tolist() == [2, 3]


def test_llama_begins_with_its_begin_token(tmp_path):
    found = write(tmp_path, llama_json(), eos_token="</s>")
    assert (found.begin, found.separator, found.opener) == (1, 2, 1)
    assert spelled(found, "ab a\u72ac") == ["\u2581ab", "\u2581a", "<0xE7>", "<0x8A>", "<0xAC>"]
    tokens = found.encode("ab a\u72ac")
    assert found.decode(tokens) == "ab a\u72ac" and found.decode([1, *tokens, 2]) == "ab a\u72ac"
    assert found.byte_counts(np.array([1, *tokens[:-1]]), tokens).tolist() == [2, 2, 1, 1, 1]
    assert found.decode(found.encode("<s>")) == "<s>" and 1 not in found.encode("<s>")
    assert write(tmp_path, llama_json(), add_bos_token=False).begin is None
    assert (
        write(tmp_path, llama_json(post_processor=None), add_bos_token=True, bos_token="<s>").begin
        == 1
    )
    assert write(tmp_path, llama_json(post_processor=None), add_bos_token=None).begin is None


def test_a_sentencepiece_model_begins_with_its_begin_token(tmp_path):
    pytest.importorskip("sentencepiece")
    (tmp_path / "a.model").write_bytes(
        sentencepiece_model("".join(prose(i) for i in range(20)), add_dummy_prefix=True)
    )
    found = vocabularies.ready(tmp_path)
    assert (found.begin, found.separator) == (1, 2)
    again = vocabularies.from_json(json.loads(json.dumps(found.to_json())))
    tokens = again.encode("abc def\n \u72ac")
    assert again.begin == 1 and again.byte_lengths()[tokens].sum() == 13
    assert (
        again.byte_counts(np.array([1, *tokens[:-1]]), tokens).sum()
        == 12
        == len("abc def\n \u72ac".encode())
    )
    # As a run of before has it
    before = {"kind": "sentencepiece", "model": found.to_json()["model"]}
    assert vocabularies.from_json(before).begin is None
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    assert vocabularies.ready(tmp_path).begin is None


def test_the_tokens_around_documents(tmp_path):
    """<s> before each and </s> behind; neither they nor the space before a text are bytes of it."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(llama_json()))
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": "ab" * i}) + "\n" for i in range(1, 40))
    )
    data = TextFiles(
        path=str(tmp_path / "a.jsonl"),
        tokenizer="ready",
        vocabulary_path=str(tmp_path),
        context=7,
        duplicates="keep",
        validation=0.2,
    )
    tokens = np.asarray(data.tokens("validation"))
    begins, ends = np.flatnonzero(tokens == 1), np.flatnonzero(tokens == 2)
    np.testing.assert_array_equal([0, *ends[:-1] + 1], begins)
    task = TextGeneration()
    task = task.bind(GPT(), data, task.measure(data))
    assert task.start == [1] and task.opened([5]) == [1, 5]
    batch = task.preprocess(
        {
            name: tf.constant(value)
            for name, value in data.examples(
                "validation", np.arange(data.size("validation"))
            ).items()
        },
        False,
    )
    zeros = {
        "log_probability": tf.fill(batch["target"].shape, -1.0),
        "right": tf.zeros(batch["target"].shape, bool),
    }
    bits, size = (
        tf.reduce_sum(value).numpy() for value in task.metrics(zeros, batch)["bits_per_byte"]
    )
    characters = data._opened[0]["splits"]["validation"]["characters"]
    assert size == characters and bits == pytest.approx(
        (len(tokens) - 2 * len(ends)) / np.log(2), rel=1e-6
    )


def test_a_single_document_begins_as_well(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(llama_json()))
    (tmp_path / "a.txt").write_text("abcde" * 50)
    data = TextFiles(path=str(tmp_path / "a.txt"), tokenizer="ready", vocabulary_path=str(tmp_path))
    assert data.separated and data.tokens("train")[0] == 1 and data.tokens("train")[-1] == 2


def changed(content, *place, value):
    """A copy of a tokenizer.json with another value at a place."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


BYTEWISE, LLAMA = tokenizer_json([], ["h e"]), llama_json()
REMOVED = {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}
WORDS = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            changed(BYTEWISE, "normalizer", value={"type": "Lowercase"}),
            'a normalizer that keeps every text: .*Received: {"type": "Lowercase"}',
        ),
        (
            changed(
                BYTEWISE,
                "pre_tokenizer",
                value={"type": "Sequence", "pretokenizers": [REMOVED, BYTEWISE["pre_tokenizer"]]},
            ),
            "a pre_tokenizer that keeps every text: .*Removed",
        ),
        (
            changed(BYTEWISE, "pre_tokenizer", value={"type": "WhitespaceSplit"}),
            "a pre_tokenizer that keeps every text: .*WhitespaceSplit",
        ),
        (
            changed(LLAMA, "normalizer", "normalizers", 1, "content", value="_"),
            'a normalizer that keeps every text: .*"_"',
        ),
        (
            changed(BYTEWISE, "pre_tokenizer", value=None),
            "tokens of bytes .ByteLevel or byte_fallback.*Received: neither",
        ),
        (
            changed(
                LLAMA,
                "model",
                "vocab",
                value={
                    "<unk>": 0,
                    "<s>": 1,
                    "</s>": 2,
                    "a": 3,
                    "b": 4,
                    "ab": 5,
                    "\u2581": 6,
                    "\u2581a": 7,
                    "\u2581ab": 8,
                },
            ),
            "a token for each of the 256 bytes.*none for 256 of them .<0x00>",
        ),
        (
            changed(BYTEWISE, "model", value=WORDS),
            "of the kind BPE or WordPiece. Received: WordLevel",
        ),
        (
            changed(BYTEWISE, "model", "dropout", value=0.1),
            "a model without dropout. Received: 0.1",
        ),
        (
            changed(
                tokenizer_json([], added=[("<tool>", False)]),
                "added_tokens",
                0,
                "rstrip",
                value=True,
            ),
            "gives every text back. Received: one that makes 'a <tool>b' of 'a <tool> b'",
        ),
        (
            changed(BYTEWISE, "model", "vocab", "he", value=2**31),
            "expected numbers of 257 tokens, with few left out; received 2147483648",
        ),
        (
            changed(BYTEWISE, "model", "merges", value=[["h", "犬"]]),
            "is no tokenizer that can be read: .*out of vocabulary",
        ),
        (
            changed(LLAMA, "post_processor", "special_tokens", "<s>", "ids", value=[2**31]),
            "expected numbers of its .* Received: 2147483648 before a text",
        ),
        (
            changed(
                LLAMA,
                "post_processor",
                "single",
                value=[LLAMA["post_processor"]["single"][0]] * 2
                + [LLAMA["post_processor"]["single"][1]],
            ),
            "puts 2 tokens before a text",
        ),
        ([], "is no tokenizer that can be read: TypeError"),
        ({"model": {}}, "is no tokenizer that can be read: KeyError"),
    ],
)
def test_tokenizers_that_cannot_be_obeyed(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, content)


def test_damaged_vocabularies(tmp_path):
    """One message each, whatever the libraries raise."""
    (tmp_path / "tokenizer.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="tokenizer.json: is no tokenizer that can be read"):
        vocabularies.ready(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("5")
    with pytest.raises(
        UserError, match="tokenizer_config.json: expected a JSON object. Received: int"
    ):
        vocabularies.ready(tmp_path)
    pytest.importorskip("sentencepiece")
    path, content = tmp_path / "a.model", sentencepiece_model("".join(prose(i) for i in range(20)))
    (tmp_path / "tokenizer_config.json").unlink()
    place = content.index(b"<0x00>")
    for damaged in (
        b"",
        b"x",
        content[: len(content) // 2],
        content[:place] + b"\xff\xfe" + content[place + 2 :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="tokenizer: is no SentencePiece model"):
            vocabularies.ready(path)
    for numbers, message in (
        ({"a": -1}, "received -1"),
        ({"a": 2**31}, "received 2147483648"),
        ([], "received list"),
        ("/etc/passwd", "received str"),
        ({"a": True}, "received True"),
        ({"a": 1, "b": 1}, "1 is twice"),
    ):
        folder = tmp_path / "pair"
        folder.mkdir(exist_ok=True)
        (folder / "vocab.json").write_text(json.dumps(numbers))
        (folder / "merges.txt").write_text("")
        with pytest.raises(
            UserError, match=f"pair: holds no GPT-2 vocabulary that can be read: .*{message}"
        ):
            vocabularies.ready(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization_rule_name": "nmt_nfkc"}, r"normalises it \(nmt_nfkc: set normalization"),
        ({"remove_extra_whitespaces": True}, "drops spaces"),
        ({"treat_whitespace_as_suffix": True}, "takes spaces for the ends of words"),
    ],
)
def test_a_sentencepiece_model_that_changes_texts_is_refused(tmp_path, options, message):
    """Its trainer's defaults write ﬁ as fi and two spaces as one; bits per byte would be wrong."""
    (tmp_path / "own.model").write_bytes(sentencepiece_model(prose(400), **options))
    with pytest.raises(UserError, match=f"gives every text back. Received: one that {message}"):
        vocabularies.ready(tmp_path / "own.model")


def test_a_sentencepiece_model_that_marks_no_spaces_is_refused(tmp_path):
    """It puts a space before each text that its own decoder leaves there."""
    pytest.importorskip("sentencepiece")
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    model = ModelProto.FromString(sentencepiece_model(prose(400)))
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.escape_whitespaces = False
    (tmp_path / "own.model").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="gives every text back. Received: one that makes .  ?The"):
        vocabularies.ready(tmp_path / "own.model")


@pytest.mark.parametrize("name", ["add_bos_token", "do_lower_case"])
def test_switches_in_words_are_refused(tmp_path, name):
    (tmp_path / "vocab.txt").write_text("\n".join([*wordpiece.SPECIAL, "a"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({name: "False"}))
    with pytest.raises(UserError, match=f'{name} to be true or false, .* Received: "False"'):
        vocabularies.ready(tmp_path)


def test_a_damaged_run_lends_nothing(tmp_path):
    for saved in ({"kind": "bpe", "definition": "{}"}, {"kind": "bpe", "definition": None}, [1]):
        (tmp_path / "data.json").write_text(json.dumps({"facts": {"tokenizer": saved}}))
        with pytest.raises(UserError, match="expected a run of text, with its tokenizer"):
            vocabularies.ready(tmp_path)


def test_a_run_lends_its_vocabulary(tmp_path):
    own = tokenizers.Characters("\n deilnorstw")
    (tmp_path / "data.json").write_text(json.dumps({"facts": {"tokenizer": own.to_json()}}))
    lent = vocabularies.ready(tmp_path)
    assert lent.encode("lowest newer").tolist() == own.encode("lowest newer").tolist()
    (tmp_path / "data.json").write_text(json.dumps({"facts": {"labels": ["a", "b"]}}))
    with pytest.raises(UserError, match="expected a run of text, with its tokenizer in data.json"):
        vocabularies.ready(tmp_path)
