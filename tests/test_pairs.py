"""Pairs of texts: how they are read, cleaned, split and numbered; bad ones are told."""

import csv
import dataclasses
import gzip
import json
import lzma

import numpy as np
import pytest

from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.data.parallel_text import ParallelText
from tfbig.data.tatoeba_en_zh import TatoebaEnZh
from tfbig.data.tfds_text import TFDSText
from tfbig.data.tfds_translation import TFDSTranslation

WORDS = ["ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen"]
PAIRS = [
    (f"{a} sees {b} {i}", f"{b} is seen by {a} {i}") for i, a in enumerate(WORDS) for b in WORDS
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(folder, name, lines):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")


def two_files(folder, pairs=PAIRS, name="train"):
    for side, ending in enumerate(("de", "en")):
        write(folder, f"{name}.{ending}", [pair[side] for pair in pairs])
    settings = {"source": "de", "target": "en", "tokenizer": "bytes", "max_ratio": None}
    return ParallelText(path=str(folder), **settings)


def texts(data, split):
    examples = data.examples(split, np.arange(data.size(split)))
    decode = data.read_tokenizer().decode
    return list(zip(*([decode(t) for t in examples[side]] for side in examples), strict=True))


def test_two_files_a_split_in_their_order(tmp_path):
    data = two_files(tmp_path / "a")
    two_files(tmp_path / "a", PAIRS[:3], "val")
    two_files(tmp_path / "a", PAIRS[3:5], "test_2016")
    assert texts(data, "train") == PAIRS
    assert texts(data, "validation") == PAIRS[:3] and texts(data, "test") == PAIRS[3:5]
    ends = [tokens[-1] for tokens in data.examples("test", np.arange(2))["source"]]
    assert ends == [data.read_tokenizer().separator] * 2
    # Published splits stay whole, and what training knows of them is said
    assert data.notes() == [
        "validation pairs that training knows: 3 sources, 3 targets, 3 whole pairs",
        "test pairs that training knows: 2 sources, 2 targets, 2 whole pairs",
    ]
    assert data.card()["leak check, test"] == "of 2 pairs: 2 sources, 2 targets, 2 whole pairs"


def test_packed_files_and_tables_hold_the_same(tmp_path):
    plain = two_files(tmp_path / "a")
    (tmp_path / "packed").mkdir()
    for name, opener in (("train.de", gzip.open), ("train.en", lzma.open)):
        ending = {gzip.open: ".gz", lzma.open: ".xz"}[opener]
        with opener(tmp_path / "packed" / f"{name}{ending}", "wb") as file:
            file.write((tmp_path / "a" / name).read_bytes())
    rows = [{"de": a, "en": b} for a, b in PAIRS]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    inside = [{"id": str(i), "translation": row} for i, row in enumerate(rows)]
    (tmp_path / "inside.jsonl").write_text("\n".join(map(json.dumps, inside)), "utf-8")
    write(tmp_path, "a.tsv", ["de\ten", *(f"{a}\t{b}" for a, b in PAIRS)])
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("en", "de"), *((b, a) for a, b in PAIRS)])
    for name in ("packed", "a.jsonl", "inside.jsonl", "a.tsv", "a.csv"):
        other = dataclasses.replace(plain, path=str(tmp_path / name))
        for split in SPLITS:
            assert texts(other, split) == texts(plain, split)


def test_a_column_says_the_split(tmp_path):
    lines = [f"{'Training' if i < 50 else 'dev'}\t{a}\t{b}" for i, (a, b) in enumerate(PAIRS)]
    write(tmp_path, "a.tsv", ["split\tde\ten", *lines])
    data = ParallelText(
        path=str(tmp_path / "a.tsv"), source="de", target="en", tokenizer="bytes", test=0.2
    )
    assert data.size("validation") == len(PAIRS) - 50 and data.size("test") == 10
    assert data.card()["split"].startswith("test at random")


def test_files_that_are_not_read_are_told(tmp_path):
    data = two_files(tmp_path / "a")
    for name in ("newstest.de", "newstest.en", "dev.de"):
        write(tmp_path / "a", name, ["x"])
    assert data.notes()[-1] == (
        "3 files of the folder are not read: dev.de, newstest.de, newstest.en; data.validation_file"
        " and data.test_file name others"
    )
    assert dataclasses.replace(data, test_file="newstest").size("test") == 1


def test_splits_made_here_share_no_text(tmp_path):
    pairs = [(f"a {i // 2}", f"b {i // 3}") for i in range(600)]
    data = two_files(tmp_path / "a", pairs)
    data = dataclasses.replace(data, validation=0.1, test=0.2)
    found = {split: texts(data, split) for split in SPLITS}
    assert sorted(sum(found.values(), [])) == sorted(set(pairs))
    assert 75 < len(found["test"]) < 130 and 35 < len(found["validation"]) < 70
    for side in (0, 1):
        own = [{pair[side] for pair in found[split]} for split in SPLITS]
        assert not (own[0] & own[1] or own[0] & own[2] or own[1] & own[2])
    other = dataclasses.replace(data, split_seed=1)
    assert texts(other, "test") != found["test"]


def test_cleaning_is_counted(tmp_path):
    odd = [
        ("", "nothing"),
        ("same", "same"),
        PAIRS[0],
        ("a b c", "NaN"),
        ("a b", "an endless translation of next to nothing, on and on and on and on and on"),
        ("собака видит кошку", "a dog sees a cat"),
    ]
    data = two_files(tmp_path / "a", PAIRS + odd)
    data = dataclasses.replace(data, max_ratio=3.0, source_script="latin")
    said = (
        "6 of 70 pairs left out: 1 empty, 1 length ratio, 1 copies, 1 with nan or the like as one"
        " text, 1 other script, 1 duplicates"
    )
    assert data.notes() == [said] and sum(data.size(split) for split in SPLITS) == 64
    short = dataclasses.replace(two_files(tmp_path / "b"), max_source=12)
    kept = sum(data.size("train") for data in [short])
    (note,) = [line for line in short.notes() if "train pairs left out" in line]
    assert kept < 64 and "longer than data.max_source=12 or max_target=128 tokens" in note


def test_tokens_of_targets_come_first(tmp_path):
    data = dataclasses.replace(two_files(tmp_path / "a"), tokenizer="bpe", vocabulary=300)
    tokenizer, scored = data.read_tokenizer(), data.num_scored
    size = data.size("train")
    used = np.unique(np.concatenate(data.examples("train", np.arange(size))["target"]))
    assert used.tolist() == list(range(scored - 1)) and scored < tokenizer.size
    assert tokenizer.separator == scored - 2
    assert tokenizer.decode([scored - 1]) == ""  # what stands for all other tokens
    for text in ("bee sees cow 3", "ü 漢字 \U0001f600 \n", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def _without_target(folder):
    (folder / "train.en").unlink()


def _with_few_lines(folder):
    write(folder, "train.en", ["a"])


def _with_other_bytes(folder):
    (folder / "train.de").write_bytes(b"a\n\xff\n")


def _with_two_tests(folder):
    for name in ("test1.de", "test1.en", "test2.de", "test2.en"):
        write(folder, name, [])


def _with_two_validations(folder):
    for name in ("valid.de", "valid.en", "dev.de", "dev.en"):
        write(folder, name, ["a"])


def _packed_as_well(folder):
    with gzip.open(folder / "train.en.gz", "wt") as file:
        file.write("a\n")


@pytest.mark.parametrize(
    "change, message",
    [
        (_with_two_validations, "data.validation_file: expected the name of one of dev, valid"),
        (_packed_as_well, "expected one file train.en, .* Received: train.en and train.en.gz"),
        (_without_target, "data.path: expected a folder with train.de and train.en"),
        (_with_few_lines, "train.en: expected as many lines as train.de"),
        (_with_other_bytes, "train.de: invalid UTF-8 at byte 2"),
        (_with_two_tests, "data.test_file: expected the name of one of test1, test2"),
    ],
)
def test_bad_folders_are_told(tmp_path, change, message):
    data = two_files(tmp_path / "a")
    change(tmp_path / "a")
    with pytest.raises(UserError, match=message):
        data.size("train")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.tsv", "de\ten\nx\n", r"a.tsv, line 2: expected 2 cells.* Received: 1"),
        ("a.tsv", "de\tfr\nx\ty\n", r"under 'de' .data.source. and 'en'.* Received: de, fr"),
        ("a.jsonl", '{"de": 1, "en": "x"}', r"line 1: expected texts under 'de'"),
        ("a.jsonl", "[1]", r"line 1: expected a JSON object. Received: list"),
        ("a.jsonl", '{"de": "\\ud800", "en": "x"}', r"lone surrogate U\+D800"),
        (
            "a.tsv",
            "split\tde\ten\nx\ta\tb\n",
            r"line 2: expected one of train, .* as split. Received: 'x'",
        ),
        ("a.csv", 'de,en\na,b\nc,"d\ne,f\n', r"a.csv, line 4: unexpected end of data"),
        ("a.csv", "de,en,en\na,b,c\n", r"expected each column once. Twice: 'en'"),
        ("a.csv", f"de,en\na,b\n{'a' * 200_000},b,c\n", r"line 3: expected 2 cells"),
        ("a.doc", "", r"data.path: expected a folder, or a file that ends in .tsv"),
    ],
)
def test_bad_files_are_told(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(UserError, match=message):
        ParallelText(path=str(tmp_path / name), source="de", target="en").size("train")


def test_tatoeba_is_whole():
    data = TatoebaEnZh(tokenizer="characters", max_source=300, max_target=300)
    assert [data.size(split) for split in ("validation", "test")] == [1000, 1000]
    (note,) = data.notes()
    assert note.endswith("duplicates") and data.size("train") > 27_000
    assert data.card()["leak check, test"] == "of 1,000 pairs: none"
    back = dataclasses.replace(data, direction="en-zh")
    (source, target), (other, first) = texts(data, "test")[0], texts(back, "test")[0]
    assert (source, target) == (first, other) and target.isascii()


def test_unknown_parts_of_a_published_set_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = TFDSTranslation.smallest(tmp_path)
    expected = [(f"Nummer {i}", f"number {i}") for i in range(80, 100)]
    assert sorted(texts(data, "test")) == expected
    with pytest.raises(UserError, match="data.source: expected one of de, en. Received: 'fr'"):
        dataclasses.replace(data, source="fr").size("train")
    with pytest.raises(UserError, match="data.test_part: expected one of .* Received: 'exam'"):
        dataclasses.replace(data, test_part="exam").size("train")
    with pytest.raises(UserError, match="data.validation_part: expected another part than"):
        dataclasses.replace(data, validation_part="train").size("train")
    held_out = dataclasses.replace(data, test_part="", test=0.1)
    assert held_out.size("test") == 6 and held_out.size("train") == 54


def test_a_published_set_is_read_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = dataclasses.replace(TFDSTranslation.smallest(tmp_path), max_target=33)  # opened anew
    before = data.fingerprint()
    assert data.size("train") == 60
    (shard,) = tmp_path.rglob("*-train.tfrecord-*")
    whole = shard.read_bytes()
    for content, message in (
        (None, "No such file"),
        (whole[:-40], "truncated record"),
        (whole[:900] + bytes([whole[900] ^ 1]) + whole[901:], "corrupted record"),
    ):
        shard.unlink(missing_ok=True)
        if content is not None:
            shard.write_bytes(content)
        assert data.fingerprint() != before
        with pytest.raises(UserError, match=f"1.0.0 cannot be read: .*{message}"):
            dataclasses.replace(data).size("train")
    shard.write_bytes(whole)
    assert data.fingerprint() == before


def test_features_that_are_no_texts_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    TFDSText.smallest(tmp_path)
    data = TFDSTranslation(builder="made_up_pairs", source="sentence1", target="idx")
    with pytest.raises(UserError, match="data.target: expected a feature of texts. Received: 'id"):
        data.size("train")
