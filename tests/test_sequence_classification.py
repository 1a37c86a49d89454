"""DNA and RNA: letters, strands, splits without leaks, files, metrics, effects and scans."""

import dataclasses
import gzip
import json
import lzma

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sk

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.data import _splits
from tfbig.data.sequence_table import SequenceTable
from tfbig.data.splice_junctions import SpliceJunctions
from tfbig.decoding import motifs
from tfbig.deploy import allowlist, saved_model
from tfbig.deploy.programs import Programs
from tfbig.engine.readable import Readable
from tfbig.engine.setup import Setup, training_facts
from tfbig.media.sequence import Sequence
from tfbig.metrics import classification
from tfbig.models.danq import DanQ
from tfbig.models.dilated_cnn import DilatedCNN
from tfbig.models.motif_cnn import MotifCNN
from tfbig.prep import kmers, nucleotides
from tfbig.prep.nucleotides import NUCLEOTIDES
from tfbig.report import panels
from tfbig.tasks._targets import OneLabel
from tfbig.tasks.sequence_classification import SequenceClassification

RANDOM = np.random.RandomState(0)


def letters(text):
    return NUCLEOTIDES.numbers(text, "it")


def drawn(length):
    return "".join(RANDOM.choice(list("ACGT"), length))


# Letters


def test_letters_are_fractions_of_bases():
    read = nucleotides.read(letters("acguRyN-x.")[None])[0].numpy().tolist()
    assert read[:4] == np.eye(4).tolist()
    assert read[4:6] == [[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]]
    assert read[6:] == [[0.25] * 4, [0] * 4, [0.25] * 4, [0] * 4]
    assert nucleotides.spelled(np.array(read)) == "ACGTRYN-N-"
    with pytest.raises(UserError, match="it: expected letters of ACGTR.*'E', at letter 3"):
        letters("ACE")


def test_the_strand_across():
    from Bio.Seq import reverse_complement

    text = "".join(RANDOM.choice(list("ACGTRYSWKMBDHVN-"), 50))
    across = nucleotides.reverse_complement(letters(text))
    assert NUCLEOTIDES.text(across) == reverse_complement(text)
    padded = np.pad(letters("AACR")[None], ((0, 0), (0, 3)))
    turned = nucleotides.turned(padded, tf.constant([4])).numpy()
    assert NUCLEOTIDES.text(turned[0, :4]) == "YGTT"


def test_genbank_is_read(tmp_path):
    from Bio import SeqIO
    from Bio.Seq import Seq
    from Bio.SeqRecord import SeqRecord

    record = SeqRecord(Seq("ACGTNR"), id="X1.2", annotations={"molecule_type": "DNA"})
    SeqIO.write(record, tmp_path / "it.gb", "genbank")
    medium = Sequence(letters=NUCLEOTIDES.letters, most=9)
    taken = medium.take(tmp_path / "it.gb")
    assert medium.text(taken.values[0]) == "ACGTNR" and taken.names[0].endswith(": X1.2")
    (tmp_path / "it.gb").write_text("LOCUS       X1\n//\n")
    with pytest.raises(UserError, match="expected (GenBank with its|at least one) sequence"):
        medium.take(tmp_path / "it.gb")


# Models


def inputs(texts, most):
    numbers = np.zeros((len(texts), most), np.uint8)
    for row, text in zip(numbers, texts, strict=True):
        row[: len(text)] = letters(text)
    count = tf.constant([len(text) for text in texts])
    return {"sequence": nucleotides.read(numbers, count), "count": count}


def built(model, most=20):
    tf.keras.utils.set_random_seed(0)
    sequence = Feature(shape=(None, 4), dtype="float32", most=most)
    return model.build({"sequence": sequence, "count": Feature(shape=(), dtype="int32")})


MODELS = [
    MotifCNN(kernel=6),
    MotifCNN(summary="places", strands="both"),
    MotifCNN(summary="average", strands="both"),
    DanQ(kernel=6, pool=3),
    DanQ(summary="average"),
    DilatedCNN(depth=3),
    DilatedCNN(summary="average", reach=4, depth=2),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{type(m).__name__}-{m.summary}")
def test_padding_and_batch_mates_change_no_score(model):
    model = built(model)
    texts = [drawn(n) for n in (20, 13, 4, 1)]
    together = model(inputs(texts, 20)).numpy()
    assert np.abs(together).max() > 1e-3
    for row, text in zip(together, texts, strict=True):
        np.testing.assert_allclose(row, model(inputs([text], len(text)))[0], atol=1e-5)


@pytest.mark.parametrize("summary", ["largest", "average", "places"])
def test_both_strands_have_one_score(summary):
    model = MotifCNN(motifs=16, kernel=6, summary=summary, strands="both")
    text = [drawn(30), drawn(30)]
    across = [NUCLEOTIDES.text(nucleotides.reverse_complement(letters(row))) for row in text]
    tf.keras.utils.set_random_seed(0)
    spec = {"sequence": Feature(shape=(30, 4), dtype="float32")}
    both, one = (m.build(spec) for m in (model, dataclasses.replace(model, strands="one")))
    one.set_weights(both.get_weights())
    given = [{"sequence": inputs(texts, 30)["sequence"]} for texts in (text, across)]
    np.testing.assert_allclose(both(given[0]), both(given[1]), atol=1e-6)
    assert np.abs(one(given[0]) - one(given[1])).max() > 1e-3


# Splits


def test_shared_runs_tie_sequences_on_both_strands():
    core, other = drawn(12), drawn(40)
    across = NUCLEOTIDES.text(nucleotides.reverse_complement(letters(core)))
    rows = [drawn(9) + core, across + drawn(5), other, other[:20] + "N" + other[20:], "ACG", "RN"]
    unit = kmers.tied(6, kmers.sharing([letters(row) for row in rows], 12))
    assert unit[0] == unit[1] and unit[2] == unit[3] and len(set(unit)) == 4
    assert len(kmers.runs([letters("ACGTN")], 4)[0]) == 1
    either = kmers.either_strand([letters(core), letters(across), letters(other)])
    assert either[0] == either[1] != either[2]


def test_groups_are_held_out_by_size():
    groups = np.repeat(np.arange(40), [60, *[2] * 39])
    labels = np.arange(len(groups)) % 2
    held = _splits.balanced(labels, groups, 0.2, 0)
    assert np.bincount(labels[held]).tolist() == [14, 14]  # a fifth of 138 rows, in pairs
    assert not np.isin(groups[np.setdiff1d(np.arange(138), held)], groups[held]).any()
    assert held.tolist() != _splits.balanced(labels, groups, 0.2, 1).tolist()


def test_genes_stand_in_one_split():
    data = SpliceJunctions()
    card = data.card()
    assert card["odd rows"].startswith("185 exact copies, 1 sequences with two labels, 15 with")
    assert "test (637) beside train and validation: 0 exact copies, 0 copies of" in str(card)
    assert data.notes() == [] and sum(map(data.size, SPLITS)) == 3190
    genes = [set(data.groups(split)) for split in SPLITS]
    assert len(set().union(*genes)) == 1475 == sum(map(len, genes))
    shares = np.bincount(data.labels("test")) / [767, 768, 1655]
    np.testing.assert_allclose(shares, 0.2, atol=0.002)
    notes = SpliceJunctions(split_by="random").notes()
    assert any("are of the same groups as ones of train" in note for note in notes)


# Files


def table(folder, rows, **settings):
    (folder / "t.csv").write_text("\n".join(["sequence,label,gene,part", *rows]))
    return SequenceTable(path=str(folder / "t.csv"), **settings)


def test_tables_with_groups_and_splits(tmp_path):
    rows = [f"{drawn(20)},{'ab'[i % 2]},g{i // 4}-x," for i in range(80)]
    data = table(tmp_path, rows, group="gene", group_pattern="^[^-]+", validation=0.2, test=0.2)
    genes = [set(data.groups(split)) for split in SPLITS]
    assert sum(map(len, genes)) == 20 and "g3" in set().union(*genes)
    parts = [f"{row}{('train', 'dev', 'TEST')[i % 3]}" for i, row in enumerate(rows)]
    data = table(tmp_path, parts, split="part")
    assert [data.size(split) for split in SPLITS] == [27, 27, 26]
    objects = [{"dna": drawn(9), "kind": i % 2} for i in range(30)]
    (tmp_path / "t.jsonl.gz").write_bytes(
        gzip.compress("\n".join(map(json.dumps, objects)).encode())
    )
    data = SequenceTable(path=str(tmp_path / "t.jsonl.gz"), sequence="dna", label="kind")
    assert data.label_names == ("0", "1") and data.size("train") == 22


def test_fasta_of_each_class_and_tables_of_each_split(tmp_path):
    for split in ("train", "test"):
        for name in ("exon", "intron"):
            (tmp_path / "a" / split).mkdir(parents=True, exist_ok=True)
            text = "".join(f">{name}{i} x\n{drawn(8)}\n{drawn(4 + i)}\n" for i in range(10))
            (tmp_path / "a" / split / f"{name}.fa.gz").write_bytes(gzip.compress(text.encode()))
    data = SequenceTable(path=str(tmp_path / "a"), length=15)
    assert data.label_names == ("exon", "intron") and data.size("test") == 20
    assert data.titles("test", np.array([0])) == ["exon0"]
    assert data.spec["sequence"].most == 15 and "longer than 15 letters" in data.notes()[0]
    known = [f"{drawn(40)},{i % 2}" for i in range(40)]
    across = NUCLEOTIDES.text(nucleotides.reverse_complement(letters(known[0].split(",")[0])))
    test = [*known[2:5], f"{across},0", *(f"{drawn(40)},{i % 2}" for i in range(6))]
    (tmp_path / "b").mkdir()
    for name, rows in (("train", known), ("test", test)):
        content = "\n".join(["sequence,label", *rows]).encode()
        (tmp_path / "b" / f"{name}.csv.xz").write_bytes(lzma.compress(content))
    data = SequenceTable(path=str(tmp_path / "b"))
    assert any("3 of 10 sequences are copies of ones" in note for note in data.notes())
    assert any("1 of 10 sequences are the strand across of" in note for note in data.notes())
    clean = dataclasses.replace(data, leaks="drop_copies")
    assert clean.size("test") == 6 and "4 of test's 10 sequences are left out" in clean.notes()[0]


def fasta(path, count=8, first="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f">{first}{i}\n{drawn(30)}\n" for i in range(count)), "utf-8-sig")


def test_classes_of_fasta_are_whole_names(tmp_path):
    """With what stands between dots; titles are in any letters, behind a byte-order mark."""
    for name in ("H3K4.me1", "H3K4.me3", "none"):
        fasta(tmp_path / f"{name}.fa", first="caf\u00e9")
    assert SequenceTable(path=str(tmp_path)).label_names == ("H3K4.me1", "H3K4.me3", "none")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["train", "test"], "Rename them"),
        (["train_a", "train_b", "test_a", "test_b"], "Rename them"),
        (["train_set/a", "train_set/b", "test_set/a", "test_set/b"], "Rename them"),
        (["a/train", "a/test", "b/train", "b/test"], "expected splits outside of classes"),
    ],
)
def test_splits_of_fasta_are_no_classes(tmp_path, places, message):
    for place in places:
        fasta(tmp_path / f"{place}.fa")
    with pytest.raises(UserError, match=message):
        SequenceTable(path=str(tmp_path)).spec  # noqa: B018


def test_cells_without_a_sequence_are_no_bases(tmp_path):
    rows = [f"{('nan', 'NA')[i % 2] if i < 4 else drawn(20)},{'ab'[i % 2]},g," for i in range(40)]
    data = table(tmp_path, rows)
    assert sum(data.size(split) for split in SPLITS) == 36
    assert "4 rows are left out, whose sequence is empty or nan" in data.notes()


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (["ACQT,a,g,"], {}, "t.csv, line 2: expected letters of ACGT"),
        (["ACGT,a,g,"], {"label": "kind"}, "expected a column 'kind'"),
        (["ACGT,,g,"], {}, "expected a label under 'label'"),
        (["ACGT,a,g,"], {}, "expected at least 2 labels"),
        ([",a,g,", ",b,g,"], {}, "expected sequences. Received: none"),
        (["ACGT,a,g,x"], {"split": "part"}, "expected one of train, validation, test as split"),
        (["AC,a,g,", "GT,b,g,"], {"split_by": "groups"}, "since no groups are known"),
        (["AC,a,g,", "GT,b,g,"], {}, "expected a sequence for the train split"),
    ],
)
def test_wrong_tables_are_explained(tmp_path, rows, settings, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path, rows, **settings).spec  # noqa: B018


def test_wrong_files_are_explained(tmp_path):
    for name, content, message in (
        ("a.fa", b">x\nAC\n", "FASTA is read from a folder with a file for each class"),
        ("b.csv.gz", b"sequence", "cannot be unpacked"),
        ("c.csv", b"sequence,label\nACG\xff,a", "UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            SequenceTable(path=str(tmp_path / name)).spec  # noqa: B018
    with pytest.raises(UserError, match="which does not exist"):
        SequenceTable(path=str(tmp_path / "no")).check()


# Metrics


def scores(classes):
    true = RANDOM.randint(0, classes, 200)
    probability = RANDOM.dirichlet(np.ones(classes), 200).round(2)  # with ties
    label = probability.argmax(1)
    records = {"true": true, "label": label, "probability": probability}
    task = SequenceClassification().bind(None, None, {"labels": list("abcd"[:classes])})
    return true, label, probability, task.score({**records, "last": probability[:, -1]})


def test_scores_are_the_librarys():
    true, label, probability, found = scores(2)
    assert found["auprc"] == pytest.approx(sk.average_precision_score(true, probability[:, 1]))
    assert found["sensitivity"] == pytest.approx(sk.recall_score(true, label))
    assert found["specificity"] == pytest.approx(sk.recall_score(true, label, pos_label=0))
    true, label, probability, found = scores(4)
    one_hot = np.eye(4)[true]
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(one_hot, probability))
    assert found["auprc"] == pytest.approx(sk.average_precision_score(one_hot, probability))
    assert found["f1_c"] == pytest.approx(sk.f1_score(true, label, average=None)[2])
    assert classification.auprc(probability[:, 0], np.zeros(200, bool)) is None


def test_logos_show_what_is_planted():
    texts = [drawn(10) + "TATAAA" + drawn(14) for _ in range(100)]
    kernel = np.zeros((6, 4, 2), np.float32)
    for place, letter in enumerate("TATAAA"):
        kernel[place, "ACGT".index(letter), 0] = 1
    given = np.stack([nucleotides.fractions()[letters(text)] for text in texts])
    first, *_ = motifs.logos(kernel, np.array([-4.5, -1.0]), given, "ACGT", 2)
    best = [max(column, key=lambda pair: pair[1])[0] for column in first["columns"]]
    assert "".join(best) == "TATAAA" and first["caption"].startswith("filter 1: ")
    page = panels.render({"kind": "logos", "title": "<t>", "items": [first]})
    assert page.count("<text") >= 6 and "&lt;t&gt;" in page


# Answers


@pytest.fixture(scope="module", params=["free", "fixed"])
def setup(request, tmp_path_factory):
    """A task with fresh weights, on sequences of any length or of one."""
    folder = tmp_path_factory.mktemp("data")
    experiment = SequenceClassification.smallest(folder)
    if request.param == "fixed":
        rows = [f"{drawn(12)},{'abc'[i % 3]},," for i in range(60)]
        data = table(folder, rows, split_by="random")
        model = MotifCNN(motifs=8, kernel=5, summary="places", dropout=0.1)
        experiment = dataclasses.replace(experiment, data=data, model=model)
    facts = training_facts(experiment, Readable(experiment.data))
    return Setup(experiment, facts)


def test_effects_and_scans_are_what_single_predictions_say(setup):
    task, model = setup.task, setup.model
    size = task.letters
    text = drawn(size - 1) + "A"
    programs = Programs(task, model)
    answer = programs.signatures["mutate"](sequence=tf.constant([text]))
    number = task.answers.names.index(answer["label"].numpy()[0].decode())

    def odds(text):
        given = {"sequence": letters(text)[None]}
        if not task.facts["fixed"]:
            given["sequence_count"] = tf.constant([len(text)])
        probability = task.predict(model, task.preprocess(given, False))["probability"]
        return np.log(probability / (1 - probability))[0, number]

    effect = answer["effect"].numpy()[0]
    assert effect.shape == (size, 4) and effect[-1, 0] == 0
    for place in (0, size // 2, size - 1):
        for base, letter in enumerate("ACGT"):
            changed = text[:place] + letter + text[place + 1 :]
            assert effect[place, base] == pytest.approx(odds(changed) - odds(text), abs=1e-4)
    long = drawn(3 * size + 2)
    scanned = programs.signatures["scan"](
        sequence=tf.constant([long, long[:size]]), step=tf.constant(5)
    )
    windows = scanned["windows"].numpy().tolist()
    assert windows == [(2 * size + 2) // 5 + 1, 1]
    for i in (0, 1, windows[0] - 1):
        window = tf.constant([long[5 * i : 5 * i + size]])
        scores = programs.signatures["serving_default"](sequence=window)
        best = float(scanned["probability"][0, i].numpy().max())
        assert scores["score"].numpy()[0] == pytest.approx(best, abs=1e-5)
    assert not scanned["probability"][1, 1:].numpy().any()
    with pytest.raises(tf.errors.InvalidArgumentError, match="step: expected at least 1"):
        programs.signatures["scan"](sequence=tf.constant([long]), step=tf.constant(0))


def test_what_leaves_answers_alike(setup, tmp_path):
    programs = Programs(setup.task, setup.model)
    saved_model.write(programs, tmp_path / "1", {})
    allowlist.check_saved_model(tmp_path / "1")
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    for trial in programs.serving.trials("test"):
        given = {name: tf.constant(value) for name, value in trial.inputs.items()}
        answers = signatures[trial.program](**given)
        for name, expected in trial.expected.items():
            if expected.dtype == object:
                assert answers[name].numpy().tolist() == expected.tolist()
            else:
                np.testing.assert_allclose(answers[name], expected, atol=1e-4)
    evaluation = setup.evaluate("test")
    data = setup.task.data
    raw = data.examples("test", np.arange(data.size("test")))
    sent = {name: tf.constant(value) for name, value in programs.serving.encode(raw).items()}
    answers = signatures["serving_default"](**sent)
    batch = {"label": tf.constant(raw["label"])}
    records = programs.serving.records(answers, batch)
    again = setup.task.score({name: value.numpy() for name, value in records.items()})
    for name, value in again.items():
        assert value == pytest.approx(evaluation.metrics[name]["value"], abs=1e-3)
    titles = [panel["title"] for panel in setup.task.panels("test", evaluation.measured,
              evaluation.records)]  # fmt: skip
    assert {"Precision over recall", "Worst mistakes"} <= set(titles)
    (logos,) = setup.task.samples(setup.model, False)
    assert panels.render(logos)


def test_predictions(tmp_path):
    experiment = SequenceClassification.smallest(tmp_path)
    run = tfbig.train(experiment, "train.length=20", run=tmp_path / "run")
    (tmp_path / "sequences.csv").unlink()  # a run is used without its data
    (tmp_path / "it.fa").write_text(">one\nacgtataaau\n>two\nGGGCGG\n")
    shown = []
    one, two = tfbig.predict(run, tmp_path / "it.fa", mutate=True, top=2, write=shown.append)
    assert one["input"].endswith("it.fa: one") and len(one["effects"]) == 10
    assert two["label"] == two["top"][0][0] == two["effect_of"] and "log odds of" in shown[1]
    (track,) = tfbig.predict(run, [drawn(50)], scan=10, write=shown.append)
    assert [window["start"] for window in track["windows"]] == [0, 10, 20, 30]
    assert shown[-1].count("\t") == 4
    with pytest.raises(UserError, match="expected 1 to .* letters.*scanned: --scan STEP"):
        tfbig.predict(run, [drawn(50)])
    with pytest.raises(UserError, match="effect_of: expected one of gc, tata. Received: x"):
        tfbig.predict(run, ["ACGT"], mutate=True, effect_of="x")


def test_f1_is_of_two_classes():
    with pytest.raises(UserError, match="expected another than f1"):
        SequenceClassification(metric="f1").measure(SpliceJunctions())
    assert OneLabel(("a", "b")).width == 2
