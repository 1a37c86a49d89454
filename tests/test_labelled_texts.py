"""Labelled texts: tables, folders, prepared sets; splits without leaks; tokens and what is cut."""

import gzip
import json

import numpy as np
import pytest

from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.core.spelling import doubtful
from tfbig.data import _splits, _tfds, vader
from tfbig.data.text_table import TextTable
from tfbig.data.tfds_text import TFDSText
from tfbig.data.vader import Vader

SMALL = {"context": 8, "vocabulary": 260}


def table(path, content, **settings):
    path.write_text(content, "utf-8")
    return TextTable(path=str(path), **{**SMALL, **settings})


def all_texts(data):
    return [text for split in SPLITS for text in of(data, split)["text"]]


def of(data, split):
    return data.texts(split, np.arange(data.size(split)))


def lines(count=40, label=lambda i: "yes" if i % 2 else "no"):
    return [(f"text number {i} of {count}", label(i)) for i in range(count)]


def test_csv_with_quotes_lines_and_marks(tmp_path):
    rows = "".join(f'"{text}, said\n""he""",{label}\r\n' for text, label in lines())
    data = table(tmp_path / "t.csv", f"\ufefftext,label\r\n{rows}")
    assert data.label_names == ("no", "yes")
    assert sorted(all_texts(data)) == sorted(f'{text}, said\n"he"' for text, _ in lines())
    for split in SPLITS:
        ends = [text.split()[2] for text in of(data, split)["text"]]
        assert data.labels(split).tolist() == [int(number) % 2 for number in ends]


def test_tsv_and_json_lines_with_named_columns(tmp_path):
    rows = [{"a": text, "b": f"{text}?", "n": i / 7} for i, (text, _) in enumerate(lines())]
    settings = {"text": "a", "second": "b", "label": "n", "target": "number"}
    content = "a\tb\tn\n" + "".join(f"{row['a']}\t{row['b']}\t{row['n']}\n" for row in rows)
    for path, text in (("t.tsv", content), ("t.jsonl", "\n".join(map(json.dumps, rows)))):
        data = table(tmp_path / path, text, **settings)
        assert data.is_pair and data.label_names == () and data.labels("train") is None
        got = data.examples("test", np.arange(data.size("test")))
        texts = of(data, "test")
        assert got["label"].dtype == np.float32
        for first, second, number in zip(
            texts["text"], texts["text_pair"], got["label"], strict=True
        ):
            assert second == f"{first}?"
            assert number == np.float32(int(first.split()[2]) / 7)


def test_several_labels(tmp_path):
    rows = [{"text": text, "label": ["x", "y"] if i % 4 else []} for i, (text, _) in
            enumerate(lines())]  # fmt: skip
    data = table(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)), target="labels")
    assert data.spec["label"].shape == (2,) and data.label_names == ("x", "y")
    joined = "text,label\n" + "".join(f"{row['text']},{'; '.join(row['label'])}\n" for row in rows)
    same = table(tmp_path / "t.csv", joined, target="labels")
    for split in SPLITS:
        positions = np.arange(data.size(split))
        one, other = (each.examples(split, positions)["label"] for each in (data, same))
        np.testing.assert_array_equal(one, other)


def test_labels_that_are_numbers_are_in_their_order(tmp_path):
    rows = "".join(f"text {i},{i % 12 + 1}\n" for i in range(60))
    data = table(tmp_path / "t.csv", f"text,label\n{rows}")
    assert data.label_names == tuple(str(i) for i in range(1, 13))


def test_splits_are_those_of_a_column(tmp_path):
    names = ("train", "dev", "Test")
    rows = "".join(f"{text},{label},{names[i % 3]}\n" for i, (text, label) in enumerate(lines()))
    data = table(tmp_path / "t.csv", f"text,label,part\n{rows}", split="part")
    assert [data.size(split) for split in SPLITS] == [14, 13, 13]
    assert {int(text.split()[2]) % 3 for text in of(data, "test")["text"]} == {2}


def test_folders_of_classes_and_splits(tmp_path):
    for split, count in (("train", 20), ("test", 6)):
        for name in ("good", "bad"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.txt").write_text(f"{name} {split} {i}", "utf-8")
    (tmp_path / "set" / "train" / "good" / "empty.txt").write_text(" \n", "utf-8")
    data = TextTable(path=str(tmp_path / "set"), **SMALL)
    assert data.label_names == ("bad", "good") and data.size("test") == 12
    assert all(text.split()[1] == "test" for text in of(data, "test")["text"])
    assert any("1 files are left out, which are empty" in note for note in data.notes())
    alone = TextTable(path=str(tmp_path / "set" / "train"), **SMALL)
    assert alone.size("train") + alone.size("validation") + alone.size("test") == 40


def test_files_and_classes_that_are_left_out_of_a_folder_are_told(tmp_path):
    for i, (text, label) in enumerate(lines()):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{i}.txt").write_text(text, "utf-8")
    (tmp_path / "maybe").mkdir()
    for name in ("maybe/a.html", "maybe/b.html", "yes/notes.rtf"):
        (tmp_path / name).write_text("x", "utf-8")
    (note,) = TextTable(path=str(tmp_path), tokenizer="bytes").notes()
    assert note.endswith(".text: 2 .html, 1 .rtf; so nothing is read of maybe")


def test_equal_texts_stand_in_one_split(tmp_path):
    rows = "".join(f"Text  {i // 4},{'ab'[i % 2]}\nTEXT {i // 4},a\n" for i in range(200))
    data = table(tmp_path / "t.csv", f"text,label\n{rows}", validation=0.2, test=0.2)
    parts = [{text.lower().split()[1] for text in of(data, split)["text"]} for split in SPLITS]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert 60 <= data.size("test") <= 100
    assert data.card()["leak check"] == "no text stands in two splits"
    assert any("50 texts stand there several times, with different" in n for n in data.notes())


def test_leaks_of_published_splits_are_counted(tmp_path):
    rows = "".join(f"{text},{label},train\n" for text, label in lines())
    rows += "TEXT number  3 of 40,yes,test\nnew,no,test\n"
    data = table(tmp_path / "t.csv", f"text,label,part\n{rows}", split="part")
    leak = "1 of test's 2 texts stand in the training split too"
    assert data.card()["leak check"] == leak and any(leak in note for note in data.notes())


def test_splits_are_stratified_and_seeded(tmp_path):
    content = "text,label\n" + "".join(f"text {i},{'rare' if i < 20 else 'usual'}\n"
                                       for i in range(200))  # fmt: skip
    data = table(tmp_path / "t.csv", content)
    for split, rare in (("train", 16), ("validation", 2), ("test", 2)):
        assert np.bincount(data.labels(split)).tolist() == [rare, 9 * rare]
    again = TextTable(path=data.path, **SMALL)
    other = TextTable(path=data.path, split_seed=1, **SMALL)
    assert of(again, "test") == of(data, "test") != of(other, "test")
    numbers = table(tmp_path / "n.csv", "text,label\n" + "".join(f"t {i},{i}\n" for i in
                    range(100)), target="number")  # fmt: skip
    held = numbers.examples("test", np.arange(numbers.size("test")))["label"]
    assert sorted(held // 10) == list(range(10))


def test_groups_without_copies_are_stratified_as_they_were():
    labels = np.arange(50) % 3
    held = _splits.grouped(labels, np.arange(50), 9, 4)
    np.testing.assert_array_equal(held, _splits.stratified(labels, 9, 4)[1])


def test_what_is_cut_is_said(tmp_path):
    content = "text,label\n" + "".join(f"{'word ' * (i % 12 + 1)}{i},{i % 2}\n" for i in range(60))
    data = table(tmp_path / "t.csv", content, context=5)
    assert data.lengths("train")["text"].max() == 5
    assert any("of train's" in note and "cut at 5 tokens" in note for note in data.notes())
    wide = table(tmp_path / "t.csv", content, context=50)
    assert not any("cut" in note for note in wide.notes())
    tokens = wide.read_tokenizer().encode(of(wide, "test")["text"][0])
    np.testing.assert_array_equal(wide.examples("test", np.array([0]))["text"][0], tokens)


@pytest.mark.parametrize("tokenizer", ["bpe", "characters", "bytes"])
def test_other_tokenizers(tmp_path, tokenizer):
    content = "text,label\n" + "".join(f"{text},{label}\n" for text, label in lines(80))
    data = table(tmp_path / "t.csv", content, tokenizer=tokenizer, context=40, vocabulary=300)
    (tokens,) = data.examples("test", np.array([1]))["text"]
    assert data.read_tokenizer().decode(tokens) == of(data, "test")["text"][1]


WRONG = [
    ("text,label\na,b,c\n", {}, "line 2: expected 2 cells, as the header has. Received: 3"),
    ("text,label\na\n", {}, "line 2: expected 2 cells, as the header has. Received: 1"),
    ('text,label\n"a,b\n', {}, "unexpected end of data"),
    ("words,label\na,b\n", {}, "expected a column 'text'. Received: 'words', 'label'"),
    ("text,text,label\na,a,b\n", {}, "expected each column once. Twice: 'text'"),
    ("text,label\na,\n", {}, "expected a label under 'label'. Received: none"),
    ("text,label\na,b\nc,b\n", {}, r"expected at least 2 labels. Received: 1 \(b\)"),
    ("text,label\n ,b\n", {}, "expected rows with texts. Received: none"),
    ("text,label\na,b\n", {"target": "number"}, "expected a number under 'label'. Received: 'b'"),
    ("text,label\na,nan\n", {"target": "number"}, "expected a number"),
    ("text,label\na,1_000\n", {"target": "number"}, "expected a number"),
    ("text,label\na,3\nb,3.0\n", {"target": "number"}, "3 in all 2 rows, so there is nothing"),
    ("text;label\na;b\n", {}, "expected columns with ',' between them. Received: 'text;label'"),
    ("text\tlabel\na\tb\n", {}, "or call it .tsv"),
    ('text,label\n"a" b,c\n', {}, "line 2: .*each quote inside of it doubled"),
    ("text,label,s\na,b,later\n", {"split": "s"}, "as split. Received: 'later'"),
    (
        "text,label\n" + "".join(f"a,{i / 300}\n" for i in range(300)),
        {},
        "expected labels that come several times",
    ),
]


# What a JSON line may hold as label, what is learnt, and what is said or learnt of it
JSON_LABELS = [
    ("label", None, "expected a label under 'label'. Received: null"),
    ("label", ["a"], r"Received: \["),
    ("label", "\ud800", "lone surrogate"),
    ("labels", None, r"\[\] means none. Received: null"),
    ("labels", ["no", None], "Received: null"),
    ("labels", {"no": 1}, "Received: {"),
    ("number", 10**400, r"Received: '1000.* 1e\+18 at most"),
    ("number", 1e39, r"Received: '1e\+39'"),
]


@pytest.mark.parametrize(("target", "label", "message"), JSON_LABELS)
def test_labels_that_are_none_are_explained(tmp_path, target, label, message):
    rows = [{"text": text, "label": 1} for text, _ in lines()] + [{"text": "x", "label": label}]
    with pytest.raises(UserError, match=f"line 41: .*{message}"):
        table(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)), target=target).size("train")


def test_equal_numbers_are_one_label(tmp_path):
    names = (1, 1.0, 2, "1", "--5", True)
    rows = [{"text": text, "label": names[i % 6]} for i, (text, _) in enumerate(lines())]
    data = table(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    assert data.label_names == ("1", "2", "--5", "True")


def test_a_quote_does_not_swallow_rows(tmp_path):
    rows = [f"{text}\t{label}\n" for text, label in lines()]
    rows[3], rows[9] = '"Open\tyes\n', 'closed"\tno\n'
    with pytest.raises(UserError, match="opened in line 5 and closed in line 11, with tabs"):
        table(tmp_path / "t.tsv", "".join(["text\tlabel\n", *rows])).size("train")


@pytest.mark.parametrize("label_first", [False, True])
@pytest.mark.parametrize("last", [4, 9])
def test_a_quote_does_not_swallow_rows_of_commas(tmp_path, label_first, last):
    """Told by labels in the lines of a text; texts of several lines stay what they are."""
    cells = [[text, label] for text, label in lines()]
    cells[3][0], cells[last][0] = '"Open', 'closed"'
    cells[20][0] = '"one, two\nthree, four"'
    rows = [",".join(reversed(row) if label_first else row) + "\n" for row in cells]
    head = "label,text\n" if label_first else "text,label\n"
    with pytest.raises(UserError, match=f"opened in line 5 and closed in line {last + 2}, with"):
        table(tmp_path / "t.csv", "".join([head, *rows])).size("train")
    for i in (3, last):
        del rows[i - (i > 3)]
    kept = all_texts(table(tmp_path / "t.csv", "".join([head, *rows])))
    assert len(kept) == 38 and "one, two\nthree, four" in kept


def test_names_of_labels_are_composed_and_doubtful_ones_told(tmp_path):
    names = ("caf\u00e9", "cafe\u0301", "1", "01", "Cat", "cat", "nan", "a b", "a\u00a0b ")
    data = table(
        tmp_path / "t.csv",
        "text,label\n"
        + "".join(f"{text},{label}\n" for text, label in lines(90, lambda i: names[i % 9])),
    )
    assert data.label_names.count("caf\u00e9") == 1 and len(data.label_names) == 8
    assert doubtful(data.label_names) == [
        "classes that are spelt alike, and yet are several: '01' and '1', 'Cat' and 'cat', 'a b'"
        " and 'a\\xa0b'",
        "classes that are called as programs write cells that hold nothing: nan",
    ]
    assert not doubtful(["1", "10", "1.5", "yes", "no", "none"])


def test_cells_without_text_and_labels_never_divided_are_told(tmp_path):
    rows = [("nan" if i == 7 else text, ("x", "y", "x|y")[i % 3]) for i, (text, _) in
            enumerate(lines())]  # fmt: skip
    data = table(
        tmp_path / "t.csv",
        "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows),
        target="labels",
    )
    assert data.notes()[:2] == [
        "1 texts are nan, as programs write cells that hold nothing; they are read as texts",
        "no row has several labels: ';' (data.label_separator) stands in none of them, such as 'x'",
    ]


def test_packed_tables_are_read(tmp_path):
    content = "text, label \n" + "".join(f"{text},{label}\n" for text, label in lines())
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content.encode()))
    assert TextTable(path=str(tmp_path / "t.csv.gz"), **SMALL).label_names == ("no", "yes")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["train_data/a", "train_data/b", "test_data/a", "test_data/b"], "Rename them"),
        (["a/train", "a/test", "b/train", "b/test"], "expected splits outside of classes"),
        (["a", "\udcff"], "names are text in UTF-8"),
        (["train/a", "train/b", "others/a"], "expected the splits train.* Received: others"),
    ],
)
def test_splits_and_names_that_are_no_classes(tmp_path, places, message):
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.txt").write_text(f"of {place!a}", "utf-8")
    with pytest.raises(UserError, match=message):
        TextTable(path=str(tmp_path), **SMALL).size("train")


def test_training_and_testing_are_splits(tmp_path):
    for split in ("training", "testing"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(10):
                (tmp_path / split / name / f"{i}.txt").write_text(f"{split} {name} {i}", "utf-8")
    data = TextTable(path=str(tmp_path), **SMALL)
    assert data.label_names == ("a", "b") and data.size("test") == 20
    assert all(text.startswith("testing") for text in of(data, "test")["text"])


def test_texts_that_are_all_the_same_cannot_be_divided(tmp_path):
    with pytest.raises(UserError, match="those of the same text stay together"):
        table(tmp_path / "t.csv", "text,label\n" + "same,a\nsame,b\n" * 20).size("train")


@pytest.mark.parametrize(("content", "settings", "message"), WRONG)
def test_wrong_tables_are_explained(tmp_path, content, settings, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path / "t.csv", content, **settings).size("train")


def test_wrong_lines_and_paths_are_explained(tmp_path):
    for content, message in (
        ("{", "line 1: expected a JSON object"),
        ("[1]", "Received: list. Write an object in each line"),
        ('{"text": "a", "label": "b", "label": "c"}', "each key once. Twice: 'label'"),
        ('{"text": 3, "label": "a"}', "expected text under 'text'. Received: int"),
        ('{"text": "\\ud800", "label": "a"}', "lone surrogate"),
    ):
        with pytest.raises(UserError, match=message):
            table(tmp_path / "t.jsonl", content).size("train")
    (tmp_path / "t.csv").write_bytes(b"text,label\n\xff,a\n")
    with pytest.raises(UserError, match="invalid UTF-8 .*iconv -f WINDOWS-1252"):
        TextTable(path=str(tmp_path / "t.csv")).size("train")
    with pytest.raises(UserError, match="expected a file ending in .csv"):
        table(tmp_path / "t.xls", "").check()
    with pytest.raises(UserError, match="does not exist"):
        TextTable(path=str(tmp_path / "none")).check()
    assert dict(TextTable().problems())["path"]
    settings = {"tokenizer": "ready", "on_error": "skip", "path": "x"}
    assert {*dict(TextTable(**settings).problems())} == {"vocabulary_path", "on_error"}


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A function that writes a set of this name, with the features' values by their kinds."""
    from tensorflow_datasets import features

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def write(name, texts, parts, classes=("a", "b")):
        kinds = {text: features.Text() for text in texts}
        kinds["label"] = features.ClassLabel(names=list(classes)) if classes else np.float32

        def rows(part, count):
            labels = range(count) if part != "hidden" else [-1] * count
            return [
                {**{text: f"{text} {part} {i}" for text in texts}, "label": max(-1, label % 2)
                 if label >= 0 else -1} for i, label in enumerate(labels)
            ]  # fmt: skip

        made = {published: rows(kind, count) for published, (kind, count) in parts.items()}
        _tfds.prepare_made_up(name, tmp_path, kinds, made)
        return TFDSText(builder=name, **SMALL)

    return write


def test_published_parts_are_splits(prepared):
    parts = {"train": ("train", 60), "validation": ("dev", 10), "test": ("hidden", 5)}
    data = prepared("like_glue", ["sentence"], parts)
    assert [data.size(split) for split in SPLITS] == [54, 6, 10]
    assert of(data, "test")["text"][0].startswith("sentence dev")
    assert "train, validation" in data.notes()[0]
    data = prepared("like_imdb", ["text"], {"train": ("train", 60), "test": ("test", 20)})
    assert [data.size(split) for split in SPLITS] == [54, 6, 20] and not data.is_pair


def test_features_are_found_by_their_names(prepared):
    parts = {"train": ("train", 40), "test": ("test", 10)}
    data = prepared("like_mnli", ["hypothesis", "premise"], parts)
    texts = of(data, "test")
    assert texts["text"][0].startswith("premise") and texts["text_pair"][0].startswith("hypothesis")
    news = prepared("like_news", ["title", "description"], parts)
    assert not news.is_pair and of(news, "test")["text"][0].startswith("description")
    both = TFDSText(builder="like_news", text="title", second="description", **SMALL)
    assert both.is_pair and of(both, "test")["text"][0].startswith("title")
    numbers = prepared("like_stsb", ["sentence1", "sentence2"], parts, classes=())
    assert numbers.is_pair and numbers.spec["label"].dtype == "float32"


def test_wrong_names_of_a_prepared_set(prepared):
    prepared("odd", ["one", "other"], {"train": ("train", 30), "test": ("test", 9)})
    for settings, message in (
        ({}, "expected the feature that holds the text, one of one, other"),
        ({"text": "none"}, "data.text: expected one of one, other"),
        ({"text": "one", "label": "none"}, "data.label: expected one of"),
        ({"text": "one", "test_part": "none"}, "data.test_part: expected one of"),
        ({"text": "one", "test_part": "train"}, "data.test_part: expected another part"),
        ({"text": "one", "label": "other"}, "data.label: expected a feature of classes or of num"),
    ):
        with pytest.raises(UserError, match=message):
            TFDSText(builder="odd", **SMALL, **settings).size("train")
    prepared("hidden", ["text"], {"train": ("hidden", 30), "test": ("test", 9)})
    with pytest.raises(UserError, match="expected parts with labels"):
        TFDSText(builder="hidden", **SMALL).size("train")
    assert "second" in dict(TFDSText(second="other").problems())


def test_a_prepared_set_is_read_by_the_names_it_has_now(prepared, tmp_path):
    data = prepared("named", ["text"], {"train": ("train", 30), "test": ("test", 9)})
    (names,) = tmp_path.rglob("label.labels.txt")
    names.write_text("a\n", "utf-8")
    with pytest.raises(UserError, match="named: expected labels 0 ... 0, as 1 classes are named"):
        data.size("train")
    before = data.fingerprint()
    (shard,) = tmp_path.rglob("*-test.tfrecord-*")
    shard.write_bytes(shard.read_bytes()[::-1])  # as large as before
    assert data.fingerprint() != before


def test_numbers_below_zero_are_labels(tmp_path, monkeypatch):
    from tensorflow_datasets import features

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    kinds = {"text": features.Text(), "label": np.float32}
    rows = [{"text": f"number {i}", "label": i / 2 - 5} for i in range(20)]
    _tfds.prepare_made_up("signed", tmp_path, kinds, {"train": rows, "test": rows[:8]})
    assert TFDSText(builder="signed", **SMALL).size("test") == 8


def test_rated_reviews_are_complete():
    texts, ratings = vader._content()
    assert len(texts) == len(ratings) == 10_605 and -4 <= ratings.min() < ratings.max() <= 4
    data = Vader(vocabulary=300)
    assert sum(data.size(split) for split in SPLITS) == 10_568
    assert np.bincount(np.concatenate([data.labels(s) for s in SPLITS])).tolist() == [5326, 5242]
    assert any("37 sentences are left out" in note for note in data.notes())
    numbers = Vader(vocabulary=300, target="number")
    assert sum(numbers.size(split) for split in SPLITS) == 10_605
