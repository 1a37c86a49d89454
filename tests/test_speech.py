"""Speech recognition: what frames say, the search over words, error rates, people's recordings."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.core.errors import PartlyRefused, UserError
from tfbig.data._transcribed import normalized
from tfbig.decoding import ctc
from tfbig.decoding.ngrams import NGrams
from tfbig.metrics import word_errors
from tfbig.models.crnn import CRNN
from tfbig.prep import recordings
from tfbig.prep.tokenizers import Characters
from tfbig.tasks import _served_speech
from tfbig.tasks.speech_recognition import Search, SpeechRecognition


def logits_of(paths, values, sure=8.0):
    """Scores by which each frame says the value of a path."""
    logits = np.zeros((len(paths), max(map(len, paths)), values), np.float32)
    for row, path in enumerate(paths):
        logits[row, np.arange(len(path)), path] = sure
    return tf.constant(logits)


@pytest.mark.parametrize("jit", [False, True])
def test_greedy_takes_out_repeats_and_blanks(jit):
    paths = [[0, 1, 1, 0, 1, 2, 2], [3, 3, 0], [0, 0], [2]]
    count = tf.constant([len(path) for path in paths])
    said = tf.function(ctc.greedy, jit_compile=jit or None)(logits_of(paths, 4), count)
    assert said["tokens_count"].numpy().tolist() == [3, 1, 0, 1]
    assert said["tokens"].numpy()[0].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert said["token_starts"].numpy()[0, :3].tolist() == [1, 4, 5]
    assert said["token_ends"].numpy()[0, :3].tolist() == [3, 5, 7]
    assert said["tokens"].numpy()[1, 0] == 2 and said["tokens"].numpy()[3, 0] == 1
    sure = tf.nn.softmax(tf.constant([8.0, 0, 0, 0]))[0]
    np.testing.assert_allclose(said["score"][:2], [sure, sure], rtol=1e-5)


ALPHABET = Characters(" abc", unknown=True)


def log_p(text, noise, seed=0):
    """Frames that say a text, each letter in two frames with a blank behind, and noise."""
    path = [value for token in ALPHABET.encode(text) for value in (token + 1, token + 1, 0)]
    logits = logits_of([path], ALPHABET.size + 1, 3.0).numpy()[0]
    logits += noise * np.random.RandomState(seed).normal(size=logits.shape)
    return tf.nn.log_softmax(logits).numpy()


def of_words(*words):
    space = int(ALPHABET.encode(" ")[0])
    return ctc.Lexicon.of({word: ALPHABET.encode(word).tolist() for word in words}, space)


def test_a_search_sums_over_paths():
    """Two unsure frames: the same letter twice is likelier than the likeliest path, a blank."""
    log_p = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    tokens, score = ctc.search(log_p, 4)
    assert tokens == (0,) and score == pytest.approx(np.log(1 - 0.36))


def test_a_search_writes_words_of_its_lexicon():
    lexicon = of_words("ab", "cab", "abba")
    wrong = [seed for seed in range(30) if _read(log_p("ab cab abba", 1.5, seed)) != "ab cab abba"]
    assert len(wrong) > 5
    read = [_read(log_p("ab cab abba", 1.5, seed), lexicon) for seed in wrong]
    assert all(set(text.split()) <= {"ab", "cab", "abba"} for text in read)
    assert sum(text == "ab cab abba" for text in read) > len(wrong) // 2


def _read(log_p, lexicon=None, **options):
    if lexicon is None:
        said = ctc.greedy(tf.constant(log_p[None]), tf.constant([len(log_p)]))
        return ALPHABET.decode(said["tokens"].numpy()[0, : said["tokens_count"].numpy()[0]])
    return ALPHABET.decode(ctc.search(log_p, 12, lexicon, **options)[0])


def test_a_language_decides_between_words_that_sound_alike():
    lexicon = of_words("a", "b", "c")
    logits = np.zeros((5, 6), np.float32)
    logits[0, 2] = logits[2, 1] = logits[4, 3] = 5  # a, then b or
    logits[4, 4] = 5.2  # c, a little likelier
    own = tf.nn.log_softmax(logits).numpy()
    assert _read(own, lexicon) == "a c"
    grams = NGrams(["a b", "a b", "c c"], 2)
    assert _read(own, lexicon, language=grams.log_p) == "a b"


def test_n_grams_are_probabilities():
    grams = NGrams(["a b a", "b c", "a b"], 3, ["d"])
    for before in ((), ("a",), ("a", "b"), ("d", "d")):
        total = sum(np.exp(grams.log_p((*before, word))) for word in "abcd")
        assert total == pytest.approx(1)
    assert grams.log_p(("a", "b")) > grams.log_p(("a", "d"))


def test_error_rates_are_jiwers():
    jiwer = pytest.importorskip("jiwer")
    random = np.random.RandomState(0)
    words = np.array(["one", "two", "three", "four"])
    references, said = (
        [" ".join(random.choice(words, random.randint(1, 6))) for _ in range(40)] for _ in range(2)
    )
    counts = word_errors.word_counts(references, said)
    assert word_errors.rate(counts) == pytest.approx(jiwer.wer(references, said))
    whole = jiwer.process_words(references, said)
    assert counts.sum(0)[:3].tolist() == [whole.substitutions, whole.deletions, whole.insertions]
    characters = word_errors.character_counts(references, said)
    assert word_errors.rate(characters) == pytest.approx(jiwer.cer(references, said))
    empty = word_errors.word_counts(["", "one"], ["two three", ""])
    assert empty.tolist() == [[0, 0, 2, 0], [0, 1, 0, 1]]
    assert word_errors.rate(empty[:1]) is None


def test_transcripts_are_normalised():
    assert normalized("  Don’t -- STOP, now!\n", "letters") == "don't stop now"
    assert normalized("Ça va? Ｅ１ 7", "letters") == "ça va ｅ１ 7"
    assert normalized("As It IS.", "none") == "As It IS."


def test_words_have_times_in_the_graph_as_outside():
    tokens = ALPHABET.encode(" ab  c ba")
    count = np.array([len(tokens), 0], np.int32)
    rows = np.stack([tokens, np.zeros_like(tokens)])
    starts = np.arange(len(tokens), dtype=np.int32)[None] * np.array([[2], [0]], np.int32)
    outputs = {
        "tokens": tf.constant(rows),
        "tokens_count": tf.constant(count),
        "token_starts": tf.constant(starts),
        "token_ends": tf.constant(starts + 1),
    }
    spoken = _served_speech._spoken(ALPHABET, outputs, 0.5)
    assert spoken["text"].numpy().tolist() == [b"ab c ba", b""]
    assert spoken["times"].numpy().tolist() == [b"1.00 2.50 ab\n5.00 5.50 c\n7.00 8.50 ba", b""]
    again = _served_speech._tokens(ALPHABET, spoken["text"])
    assert ALPHABET.decode(again["tokens"].numpy()[0]) == "ab c ba"
    assert again["tokens_count"].numpy().tolist() == [7, 0]
    begins, ends = _served_speech.word_edges(ALPHABET, tokens)
    assert np.flatnonzero(begins).tolist() == [1, 5, 7] and np.flatnonzero(ends).tolist() == [
        2,
        5,
        8,
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    experiment = SpeechRecognition.smallest(folder)
    run = tfbig.train(experiment, "train.length=150", run=str(folder / "run"))
    return folder, tfbig.load(run)


def said(trained, inputs, **knobs):
    task = trained.task
    return task.respond(trained, inputs, Search(**knobs), lambda text: None)


def tones(letters):
    parts = [np.zeros(100)]
    for letter in letters:
        parts += [0.5 * np.sin(2 * np.pi * {"a": 200, "b": 700}[letter] * np.arange(250) / 2000)]
        parts += [np.zeros(100)]
    return np.concatenate(parts).astype(np.float32)


def test_recordings_are_understood(trained, tmp_path):
    folder, model = trained
    (tmp_path / "ab.wav").write_bytes(recordings.wav(tones("ab"), 2000))
    (answer,) = said(model, tmp_path / "ab.wav")
    assert answer["text"] == "ab" and 0 < answer["score"] <= 1
    (word,) = answer["words"]
    assert word["word"] == "ab" and 0 <= word["start_s"] < word["end_s"] <= 0.5
    (found,) = said(model, tmp_path / "ab.wav", beams=8)
    assert found["text"] == "ab"
    (chosen,) = said(model, tmp_path / "ab.wav", beams=8, lexicon="train")
    assert chosen["text"] in model.task.data.texts("train")
    with pytest.raises(UserError, match="language: expected with a lexicon"):
        said(model, tmp_path / "ab.wav", beams=8, language="train")
    with pytest.raises(UserError, match="lexicon: expected train or a text file"):
        said(model, tmp_path / "ab.wav", beams=8, lexicon=str(tmp_path / "none"))


def test_silence_clipping_and_lengths_get_an_answer(trained, tmp_path):
    _, model = trained
    for name, samples in {
        "silence": np.zeros(2000),
        "clipping": 4 * tones("a"),
        "short": np.zeros(200),
        "one sample": np.zeros(1),
        "long": np.tile(tones("ab"), 100),
    }.items():
        (tmp_path / f"{name}.wav").write_bytes(recordings.wav(samples, 2000))
        (answer,) = said(model, tmp_path / f"{name}.wav")
        assert isinstance(answer["text"], str), name
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(PartlyRefused, match="broken.wav: is no recording"):
        said(model, [tmp_path / "short.wav", tmp_path / "broken.wav"])


def test_a_search_is_evaluated(trained):
    _, model = trained
    setup = model.setup
    greedy = setup.evaluate("validation", asked=Search()).metrics
    found = setup.evaluate("validation", asked=Search(beams=8, lexicon="train")).metrics
    assert found["wer"]["value"] <= greedy["wer"]["value"] + 0.1
    assert greedy["loss"] == found["loss"]
    assert "lexicon train" in model.task.measured_by(Search(beams=8, lexicon="train"))["wer"]


def test_a_transcript_too_long_is_named_before_training(tmp_path):
    experiment = SpeechRecognition.smallest(tmp_path)
    manifest = tmp_path / "speech" / "manifest.json"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    name = rows[3]["audio_filepath"]
    rows[3]["text"] = "ab" * 30
    manifest.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        UserError, match=f"{name}: expected a transcript of at most .* Received: 60"
    ):
        tfbig.train(experiment, "data.most_tokens=80", run=str(tmp_path / "run"))


def test_panels_show_what_was_misunderstood(trained):
    _, model = trained
    task = model.task
    rows = {
        "tokens": np.array([[0, 0], [1, 0]]),
        "tokens_count": np.array([2, 1]),
        "text": np.array([[0, 1], [1, 0]]),
        "text_count": np.array([2, 1]),
        "frames": np.array([30, 60]),
    }
    panels = task.panels("test", np.array([0, 1]), rows)
    kinds = {panel["kind"] for panel in panels}
    assert kinds == {"bars", "recordings"}
    (worst,) = [panel for panel in panels if panel["kind"] == "recordings"]
    assert worst["items"][0]["caption"] == "= ab\n→ aa\n(1 of 1 words)"
    (alignment,) = task.samples(model.model, False)
    assert len(alignment["items"]) == 6


def test_a_smaller_model_says_what_it_needs():
    assert SpeechRecognition.wanted_model(CRNN()) == ""
    from tfbig.data.mnist import MNIST

    assert SpeechRecognition.wanted_data(MNIST()) == "data that gives samples and transcript"
