"""Text data: cleaning, splits, token files, windows; tokenizers give every text back."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
from vocabularies import sentencepiece_model, write_gpt2
from writing import prose

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.data import _text, _text_store, text_files, tiny_shakespeare
from tfbig.data.sotu import SOTU
from tfbig.data.text_files import TextFiles
from tfbig.data.tiny_shakespeare import TinyShakespeare
from tfbig.prep import text as prep


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _text._opened.cache_clear()


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": prose(i)}) + "\n" for i in range(60)), "utf-8")
    return path


# Cleaning


def test_a_separator_may_name_ends_of_lines_of_another_system(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one two\r\n\r\nthree four\r\n\r\nfive six seven")
    for separator in (r"\r\n\r\n", r"\n\n"):
        data = TextFiles(path=str(tmp_path / "a.txt"), separator=separator)
        assert [text for _, _, text in data.documents()] == [
            "one two", "three four", "five six seven"
        ]  # fmt: skip


def test_rolling_hash_depends_on_its_window_alone():
    text = prose(3)
    hashes = prep.rolling_hash(text, 16)
    assert len(hashes) == len(text) - 15 and prep.rolling_hash("short", 16).size == 0
    assert prep.rolling_hash(text[40:56], 16)[0] == hashes[40]
    assert len(np.unique(hashes)) > 0.99 * len(hashes)


def test_cleaning_is_counted(tmp_path):
    copy = prose(5).replace(" ", "  ")
    near = prose(6, 400)
    lines = [
        *(prose(i, 400) for i in range(5, 15)),
        copy.replace("  ", " ") + " ",
        near.replace(near.split()[7], "changed"),
        "x",
        "\u0001" * 30,
        "Слово " * 30,
    ]
    lines[10] = lines[0].replace(" ", "\n")
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), "utf-8")
    data = TextFiles(path=str(path), min_characters=5, script="latin")
    card = data.card()
    assert (
        card["documents"]
        == "15 read, 1 too short, 1 odd characters, 1 other script, 1 exact duplicates, 1 near"
        " duplicates, 10 kept"
    )
    kept = TextFiles(path=str(path), min_characters=5, script="latin", duplicates="keep").card()[
        "documents"
    ]
    assert kept == "15 read, 1 too short, 1 odd characters, 1 other script, 12 kept"


def test_splits_are_whole_documents_and_disjoint(corpus):
    data = TextFiles(path=str(corpus), validation=0.2, test=0.1)
    tokenizer = data.read_tokenizer()
    documents = {}
    for split in SPLITS:
        tokens = np.asarray(data.tokens(split))
        ends = np.flatnonzero(tokens == tokenizer.separator)
        documents[split] = {
            tokenizer.decode(part) for part in np.split(tokens, ends + 1) if len(part)
        }
    assert sum(map(len, documents.values())) == 60 == len(set.union(*documents.values()))
    assert set.union(*documents.values()) == {prose(i) for i in range(60)}
    assert (
        10 <= len(documents["validation"]) <= 14
        and "0.00% of validation's" in data.card()["leak check"]
    )
    other = TextFiles(path=str(corpus), validation=0.2, test=0.1, split_seed=1)
    assert not np.array_equal(other.tokens("test")[:200], data.tokens("test")[:200])


def test_a_book_beside_notes_is_not_held_out_whole(tmp_path):
    """The notes are held out whole if they are enough.

    Else every document is cut, so that each split has its share.
    """
    (tmp_path / "book.txt").write_text(prose(0, 4000))
    for notes, how in ((9, "by position in the text"), (60, "by document")):
        for i in range(notes):
            (tmp_path / f"{i}.txt").write_text(prose(i + 1, 20))
        for seed in range(3):
            data = TextFiles(path=str(tmp_path), tokenizer="bytes", split_seed=seed)
            splits = data._opened[0]["splits"]
            total = sum(split["characters"] for split in splits.values())
            assert data.card()["split"] == how
            assert all(
                0.04 < splits[held]["characters"] / total < 0.06 for held in ("validation", "test")
            )


def test_documents_of_even_length_are_held_out_as_ever():
    """The split is part of what published figures were measured on."""

    def held(splits):
        return {
            split: sorted(i for i, found in splits.items() if found == split)
            for split in ("validation", "test")
        }

    def split(lengths, share):
        return _text_store._by_document(
            range(len(lengths)),
            lengths,
            [bytes([i]) for i in range(len(lengths))],
            SimpleNamespace(validation=share, test=share, split_seed=0),
        )

    assert held(split([100 + i for i in range(60)], 0.05)) == {
        "validation": [0, 3, 39, 55],
        "test": [44, 47, 53],
    }
    assert held(split([100] * 10, 0.05)) == {
        "validation": [0],
        "test": [5],
    }, "each more than its share, but whole"
    assert split([100] * 3, 0.05) == {}, (
        "a third of the text each would leave too little for training"
    )


def test_a_split_of_share_0_is_empty(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.txt").write_text(prose(i))
    assert len(TextFiles(path=str(tmp_path), tokenizer="bytes", test=0.0).tokens("test")) == 0


def test_leaks_are_seen():
    parts = {"train": [prose(1) + "x" * 3 + prose(2)], "validation": [prose(2)], "test": [prose(3)]}
    assert _text_store.overlap(lambda split: parts[split]) == {"validation": 1.0, "test": 0.0}


def test_the_leak_check_takes_linear_time(monkeypatch):
    texts = ["".join(map(chr, np.random.default_rng(i).integers(97, 123, 70))) for i in range(200)]
    parts = {"train": texts, "validation": texts[:100], "test": [text[::-1] for text in texts]}
    search, calls = np.searchsorted, []
    monkeypatch.setattr(
        _text_store.np, "searchsorted", lambda *given: calls.append(0) or search(*given)
    )
    assert _text_store.overlap(lambda split: parts[split]) == {"validation": 1.0, "test": 0.0}
    assert len(calls) == 2  # not one for each document


def test_leaks_are_said_before_training(tmp_path, monkeypatch):
    (tmp_path / "a.txt").touch()
    saved = {
        "cleaning": {"read": 4, "kept": 4, "split": "by documents"},
        "overlap": {"validation": 0.00004, "test": 0.25},
    }
    monkeypatch.setattr(TextFiles, "_opened", (saved, {}, None))
    expected = "blocks of 64 characters that stand in the training text too: 25.00% of test's"
    assert TextFiles(path=str(tmp_path / "a.txt")).notes() == [expected]


def test_separators_cut_plain_files(tmp_path):
    (tmp_path / "a.txt").write_text(
        "春眠不覺曉。\n\n處處聞啼鳥。\n\n夜來風雨聲。\n\n花落知多少。\n", "utf-8"
    )
    data = TextFiles(
        path=str(tmp_path / "a.txt"), separator=r"\n\n", min_count=2, validation=0.2, test=0.2
    )
    assert [text for _, _, text in data.documents()] == [
        "春眠不覺曉。",
        "處處聞啼鳥。",
        "夜來風雨聲。",
        "花落知多少。\n",
    ]
    assert data.card()["documents"] == "4 read, 4 kept"


def test_one_long_text_is_cut_by_position(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeff" + prose(0, 3000).strip(), "utf-8")
    data = TextFiles(path=str(tmp_path), normalize="none")
    tokenizer = data.read_tokenizer()
    assert (
        "".join(tokenizer.decode(data.tokens(split)) for split in SPLITS) == prose(0, 3000).strip()
    )
    assert data.card()["split"] == "by position in the text" and tokenizer.separator is None


def test_newlines_are_plain(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\rthree\n")
    (tmp_path / "b.jsonl").write_text(
        json.dumps({"text": "one\r\ntwo\rthree\n"}) + "\r\n", "utf-8", newline=""
    )
    assert [text for _, _, text in TextFiles(path=str(tmp_path)).documents()] == [
        "one\ntwo\nthree\n"
    ] * 2


def test_a_file_read_otherwise_is_other_data(tmp_path):
    content = gzip.compress(json.dumps({"text": "春眠"}).encode(), mtime=0)
    made = [TextFiles(path=str(tmp_path / name)) for name in ("a.txt.gz", "a.jsonl.gz")]
    for data in made:
        (tmp_path / data.path).write_bytes(content)
    assert made[0].fingerprint() != made[1].fingerprint()


def test_endings_in_capitals(tmp_path):
    lines = json.dumps({"text": "春眠"}).encode()
    for name, content in {
        "a.TXT": "犬".encode(),
        "b.Txt.GZ": gzip.compress(b"hello", mtime=0),
        "c.JSONL": lines,
        "d.jsonl.Gz": gzip.compress(lines),
    }.items():
        (tmp_path / name).write_bytes(content)
    assert [text for _, _, text in TextFiles(path=str(tmp_path)).documents()] == [
        "犬",
        "hello",
        "春眠",
        "春眠",
    ]


def test_hidden_files_are_not_read_from_folders(tmp_path):
    folder = tmp_path / ".texts"  # a folder's own name is its user's affair
    for name in (
        "a.txt",
        "sub/b.txt",
        "._a.txt",
        ".ipynb_checkpoints/a.txt",
        "sub/.git/deep/a.txt",
        "__MACOSX/a.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    assert [text for _, _, text in TextFiles(path=str(folder)).documents()] == [
        "a.txt",
        "sub/b.txt",
    ]
    assert [text for _, _, text in TextFiles(path=str(folder / "._a.txt")).documents()] == [
        "._a.txt"
    ]


def test_linked_folders_are_read_and_the_rest_is_said(tmp_path):
    """Each linked folder once, so that links in a circle end.

    What is no text by its name is counted, and so are documents.
    """
    folder, elsewhere = tmp_path / "texts", tmp_path / "elsewhere"
    for path in (folder / "sub", elsewhere):
        path.mkdir(parents=True)
    for name, text in (
        ("a.txt", "abc" * 40),
        ("sub/b.txt", "bcd" * 40),
        ("c.html", "<p>"),
        ("sub/d.HTML", "<p>"),
        ("notes", "x"),
        ("empty.jsonl", '{"text": ""}'),
    ):
        (folder / name).write_text(text)
    (elsewhere / "e.txt").write_text("cde" * 40)
    for link, target in (
        ("linked", elsewhere),
        ("again", elsewhere),
        ("sub/circle", folder),
        ("f.txt", elsewhere / "e.txt"),
        ("lost.txt", tmp_path / "no"),
    ):
        (folder / link).symlink_to(target)
    data = TextFiles(path=str(folder), validation=0.2, test=0.2)
    assert [name.removeprefix(f"{folder}/") for _, name, _ in data.documents()] == [
        "a.txt:0",
        "again/e.txt:0",
        "empty.jsonl, line 1",
        "f.txt:0",
        "sub/b.txt:0",
    ]
    files, documents = data.notes()
    assert (
        files
        == f"4 files of {folder} left out, since they are no text files by their names: 2 .html, 1"
        " links that lead nowhere, 1 without an ending; the first: c.html"
    )
    assert documents == "2 of 5 documents left out: 1 too short, 1 exact duplicates"
    (folder / "c.html").unlink()
    assert TextFiles(path=str(folder / "a.txt")).notes() == []
    missing = TextFiles(path=str(folder / "f.txt"), separator="---")
    assert missing.notes() == ["data.separator: '---' stands in no file, so each is one document"]
    (folder / "a.txt").rename(folder / "a.csv")
    (note,) = TextFiles(path=str(folder / "a.csv")).notes()
    assert note == (
        f"{folder / 'a.csv'} is read as plain text, whatever its name says; JSON lines end in"
        " .jsonl or .ndjson"
    )


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("text")
    usual = text_files.os.scandir

    def refuse(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return usual(path)

    monkeypatch.setattr(text_files.os, "scandir", refuse)
    with pytest.raises(UserError, match="sub: cannot be read: Permission denied"):
        TextFiles(path=str(tmp_path)).check()


@pytest.mark.parametrize("kind", ["gpt2", "sentencepiece"])
def test_another_vocabulary_is_other_data(tmp_path, kind):
    """And nothing else that lies beside it."""
    (tmp_path / "a.txt").write_text(prose(1), "utf-8")
    if kind == "gpt2":
        write_gpt2(tmp_path, "h e", "l l")
    else:
        pytest.importorskip("sentencepiece")
        (tmp_path / "a.model").write_bytes(
            sentencepiece_model("".join(prose(i) for i in range(20)))
        )
    data = TextFiles(path=str(tmp_path / "a.txt"), tokenizer="ready", vocabulary_path=str(tmp_path))
    before, plain = data.fingerprint(), TextFiles(path=str(tmp_path / "a.txt")).fingerprint()
    (tmp_path / "config.json").write_text("{}")
    assert data.fingerprint() == before != plain
    if kind == "gpt2":
        write_gpt2(tmp_path, "h e", "l o")
    else:
        (tmp_path / "a.model").write_bytes(
            sentencepiece_model("".join(prose(i) for i in range(30)))
        )
    assert (
        data.fingerprint() != before
        and TextFiles(path=str(tmp_path / "a.txt")).fingerprint() == plain
    )


# Windows


@pytest.mark.parametrize("stride", [None, 1, 5])
def test_windows(corpus, stride):
    data = TextFiles(path=str(corpus), context=16, stride=stride, tokenizer="bpe", vocabulary=300)
    for split in SPLITS:
        size, tokens = data.size(split), np.asarray(data.tokens(split)).astype(np.int32)
        got = data.examples(split, np.arange(size))
        assert (
            got["tokens"].shape == (size, 17)
            and got["tokens"].dtype == np.int32
            and got["length"].dtype == np.int32
        )
        step = (stride or 16) if split == "train" else 16
        np.testing.assert_array_equal(got["tokens"][2], tokens[2 * step : 2 * step + 17])
        if split == "train":
            assert (got["length"] == 16).all() and (size - 1) * step + 17 <= len(
                tokens
            ) < size * step + 17
        else:  # every token but the first is a target once
            targets = [row[1 : n + 1] for row, n in zip(got["tokens"], got["length"], strict=True)]
            np.testing.assert_array_equal(np.concatenate(targets), tokens[1:])
    assert data.examples("test", np.array([], np.int64))["tokens"].shape == (0, 17)
    assert set(data.spec) == {"tokens", "length"} and data.arrays("train") is None


def test_token_files_are_kept_and_checked(corpus, monkeypatch):
    def opened():
        return TextFiles(path=str(corpus))

    data = opened()
    tokens = np.array(data.tokens("train"))
    assert data.tokens("train").dtype == np.uint16 and isinstance(data.tokens("train"), np.memmap)
    written = sorted(_text_store.cache().glob("*/train.bin"))
    stamp = written[0].stat().st_mtime_ns
    _text._opened.cache_clear()
    opened().tokens("train")
    assert len(written) == 1 and written[0].stat().st_mtime_ns == stamp  # not written again
    written[0].write_bytes(written[0].read_bytes()[:-2] + b"xx")
    _text._opened.cache_clear()
    np.testing.assert_array_equal(opened().tokens("train"), tokens)  # damage is found and mended
    corpus.write_text(corpus.read_text() + json.dumps({"text": prose(99)}) + "\n")
    assert data.card()["documents"].startswith("60 read") and opened().card()[
        "documents"
    ].startswith("61 read")
    assert not list(_text_store.cache().glob(".*"))


def test_large_vocabularies_take_four_bytes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(chr(c) for c in range(0x20000, 0x20000 + 70_000)), "utf-8")
    data = TextFiles(path=str(path), validation=1e-6, test=1e-6, max_odd=1.0, normalize="none")
    assert data.tokens("train").dtype == np.uint32 and data.read_tokenizer().size == 70_000


def test_sotu():
    data = SOTU(context=32)
    assert sum(1 for _ in data.documents()) == 233 and data.size("train") > 250_000
    assert "233 kept" in data.card()["documents"] and "PDDL" in data.card()["licence"]


def test_tiny_shakespeare(monkeypatch):
    parts = {
        "train": "First Citizen:\nSpeak, speak.\n" * 20,
        "validation": "Speak:\nFirst",
        "test": "Citizen",
    }
    monkeypatch.setattr(
        tiny_shakespeare._tfds,
        "read_all",
        lambda name, split: {"text": np.array([parts[split].encode()], object)},
    )
    tiny_shakespeare._text.cache_clear()
    data = TinyShakespeare(context=8)
    tokenizer = data.read_tokenizer()
    assert {
        split: tokenizer.decode(data.tokens(split)) for split in SPLITS
    } == parts and data.card()["split"] == "as published"
    tiny_shakespeare._text.cache_clear()


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt: expected text. Received: an empty file"),
        (
            "a.txt",
            b"\x7fELF\x00\x01",
            "a.txt: expected text in UTF-8. Received: a binary file .a zero byte at position 4",
        ),
        (
            "a.txt",
            b"text\n" * 40_000 + b"\x00",
            (
                "a.txt: expected text in UTF-8. Received: a binary file .a zero byte at position"
                " 200,000"
            ),
        ),
        (
            "a.txt",
            b"good\nbad \xff\xfe",
            "a.txt: invalid UTF-8 at byte 9 .line 2.: 0xff.*data.errors=replace",
        ),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"txt": "b"}',
            "line 2: expected text under 'text' .data.field.. Received: an object with 'txt'",
        ),
        ("a.jsonl", b'{"text": null}', "under 'text' .data.field.. Received: null under it"),
        ("a.jsonl", b'{"text": 5, "a": 1}', "under 'text' .*Received: a number under it"),
        ("a.jsonl", b'{"text": true}', "under 'text' .*Received: true or false under it"),
        ("a.jsonl", b'["a"]', "under 'text' .*Received: a list, not an object"),
        ("a.jsonl", b"hello", "a.jsonl, line 1: expected a JSON object. Received: b'hello'"),
        ("a.txt.xz", b"hello", "a.txt.xz: cannot be read"),
        (
            "a.txt.gz",
            gzip.compress(b"hello " * 50, mtime=0)[:20],
            "a.txt.gz: cannot be read: Compressed file ended",
        ),
        (
            "a.txt.gz",
            gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20,
            "a.txt.gz: cannot be read: Error -3",
        ),
        (
            "a.jsonl",
            b'{"text": "fine"}\n{"text": "a\\ud800b"}',
            (
                "a.jsonl, line 2: expected text in Unicode. Received: the lone surrogate U.D800, at"
                " character 2"
            ),
        ),
        (
            "a.jsonl",
            b'{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
            "a.jsonl, line 1: expected a JSON object. Received: .*nested too deeply",
        ),
        (
            "a.TXT",
            "犬".encode("utf-16"),
            "a.TXT: expected text in UTF-8. Received: UTF-16.*iconv -f UTF-16 -t UTF-8 OLD > NEW",
        ),
        (
            "a.txt",
            "\ufeffhello".encode("utf-16-be"),
            "a.txt: expected text in UTF-8. Received: UTF-16",
        ),
        (
            "a.jsonl",
            '{"text": "hello"}\n'.encode("utf-16"),
            "a.jsonl, line 1: expected text in UTF-8. Received: UTF-16",
        ),
        ("a.txt", "hello".encode("utf-32"), "a.txt: expected text in UTF-8. Received: UTF-32"),
        (
            "a.png",
            b"hello",
            (
                "files ending in .txt, .md, .text, .jsonl, .ndjson, packed or not .*.xz, .gz.*"
                " holds none"
            ),
        ),
        ("._a.txt", b"hello", "holds none that is not hidden"),
        (
            "a.txt",
            b"hell" * 4,
            "data.context: expected fewer than the 14 tokens of the training split. Received: 64",
        ),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        TextFiles(path=str(folder)).size("train")


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
@pytest.mark.parametrize("separator", ["", r"\n\n"])
def test_long_files_are_read_in_parts(tmp_path, monkeypatch, suffix, separator):
    """The same text, whatever the parts: none of a line, a character or a separator is cut."""
    monkeypatch.setattr(text_files, "LARGE", 300)
    monkeypatch.setattr(text_files, "PART", 64)
    text = (
        "\ufeff"
        + "".join(prose(i, 9) + ("\n" if i % 3 == 0 else "") for i in range(20))
        + "犬" * 200
        + "\r\nend"
    )
    path = tmp_path / f"a{suffix}"
    path.write_bytes(
        gzip.compress(text.encode(), mtime=0) if suffix.endswith(".gz") else text.encode()
    )
    data = TextFiles(path=str(path), separator=separator)
    parts = [part for _, _, part in data.documents()]
    whole = text[1:].replace("\r", "")
    assert (
        (parts == whole.split("\n\n"))
        if separator
        else ("".join(parts) == whole and len(parts) > 5 and max(map(len, parts)) < 130)
    )
    assert data.size("train") > 0
    for bad, message in (
        (b"\xff", "invalid UTF-8 at byte 1,0.. .line 2[0-9].: 0xff"),
        (b"\0", "a zero byte at position 1,0"),
    ):
        path.with_name("b.txt").write_bytes(text.encode()[:1011] + bad + text.encode()[1011:])
        with pytest.raises(UserError, match=message):
            list(TextFiles(path=str(path.with_name("b.txt"))).documents())


def test_replaced_errors(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good \xff " * 40)
    data = TextFiles(path=str(tmp_path / "a.txt"), errors="replace", max_odd=0.5)
    assert "\ufffd" in data.read_tokenizer().alphabet


def test_empty_held_out_splits_are_found_before_training(tmp_path):
    (tmp_path / "a.txt").write_text("some text " * 10)

    def sized(**shares):
        return TextFiles(path=str(tmp_path / "a.txt"), context=8, **shares).size("train")

    with pytest.raises(
        UserError,
        match=(
            "data.validation: expected a share .* at least 2 tokens. Received: 0.01, which gives 1"
            " beside 89 for"
        ),
    ):
        sized(validation=0.01, test=0.1)
    with pytest.raises(
        UserError,
        match=(
            "data.test: expected a share .* Received: 0.001, which gives 0 beside 90 .* Raise"
            " data.test"
        ),
    ):
        sized(validation=0.1, test=0.001)
    assert sized(validation=0.1, test=0.1) == 9
    assert sized(validation=0.1, test=0.0) == 11


def test_wrong_settings(tmp_path):
    def problem(**knobs):
        return dict(TextFiles(**knobs).problems())

    assert problem()["path"].startswith("expected a file or folder with text")
    with pytest.raises(
        UserError,
        match="data.path: expected a file or folder. Received: .*no, which does not exist",
    ):
        TextFiles(path=str(tmp_path / "no")).size("train")
    assert (
        "data.tokenizer=ready alone. Received: x with characters"
        in problem(path=str(tmp_path), vocabulary_path="x")["vocabulary_path"]
    )
    assert problem(path=str(tmp_path), tokenizer="ready")["vocabulary_path"].endswith(
        "Received: nothing. Set data.vocabulary_path=PATH."
    )
    with pytest.raises(UserError, match="^data.path: .* Set data.path=PATH.$"):
        tfbig.recipe("tang_poems_gpt")
    with pytest.raises(
        UserError, match="Set data.vocabulary_path=PATH.\ndata.path: .* Set data.path=PATH.$"
    ):
        tfbig.recipe("gpt2_124m")
    (tmp_path / "a.txt").write_text("text")
    for path, message in (
        ("no", "no does not exist"),
        ("", "expected a folder with tokenizer.json"),
    ):
        data = TextFiles(
            path=str(tmp_path), tokenizer="ready", vocabulary_path=str(tmp_path / path)
        )
        with pytest.raises(UserError, match=f"data.vocabulary_path: .*{message}"):
            data.size("train")


def test_characters_that_training_text_lacks(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefgh" * 50 + "犬" * 20, "utf-8")
    with pytest.raises(
        UserError,
        match=(
            r"data: the test split holds what training text does not. characters: '犬' \(U\+72AC\)"
        ),
    ):
        TextFiles(path=str(tmp_path / "a.txt")).size("train")


def test_a_vocabulary_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    pytest.importorskip("sentencepiece")
    (tmp_path / "a.model").write_bytes(sentencepiece_model("".join(prose(i) for i in range(20))))
    (tmp_path / "a.txt").write_text(prose(1))
    assert (
        TextFiles(path="~/a.txt", tokenizer="ready", vocabulary_path="~/a.model")
        .read_tokenizer()
        .kind
        == "sentencepiece"
    )
