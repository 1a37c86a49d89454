"""Sound: log-mel against librosa's figures, resampling and CTC against libraries, padding."""

import io
import itertools
import json
import sys
import wave
import zlib

import numpy as np
import pytest
import tensorflow as tf

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.core.registry import component
from tfbig.data.audio_folder import AudioFolder
from tfbig.data.speech_folder import SpeechFolder
from tfbig.engine import facts
from tfbig.nn.ctc import ctc_loss, needed_frames
from tfbig.nn.relative import relative_attention
from tfbig.prep import recordings, sound_changes
from tfbig.prep.sound import LogMel, normalized

RATE = 8000
TIME = np.arange(1600) / RATE
CHIRP = (
    0.5 * np.sin(2 * np.pi * 440 * TIME)
    + 0.2 * np.sin(2 * np.pi * 2100 * TIME * (1 + TIME))
    + 0.01 * np.cos(np.arange(1600) ** 2 * 0.37)
).astype(np.float32)
# librosa 0.11.0: feature.melspectrogram(n_fft=256, win_length=200, hop_length=80, n_mels=40,
# center=True, pad_mode="constant", norm="slaney" or, with htk=True, None); bands 0, 10, 25, 39 of
# frames 0, 1, 10, 20
LIBROSA = {
    "slaney": [
        [-2.49596, -6.93969, -9.35368, -2.65015],
        [-2.76178, -6.93732, -7.78457, -2.62431],
        [-6.95400, -11.18404, -10.06694, -9.18035],
        [-7.60960, -8.86631, -9.11334, -5.89815],
    ],
    "htk": [
        [1.06573, -3.23672, -7.57572, 0.87134],
        [5.33830, 6.37767, 6.37769, 5.33899],
        [-2.35101, -6.33679, -5.13427, -4.38289],
        [-2.29676, -3.51497, -3.79905, -0.56498],
    ],
}


@pytest.mark.parametrize("scale", LIBROSA)
@pytest.mark.parametrize("jit", [False, True])
def test_log_mel_is_librosas(scale, jit):
    front = LogMel(rate_hz=RATE, bands=40, scale=scale)
    frames = tf.function(front, jit_compile=jit or None)(tf.constant(CHIRP[None]))[0].numpy()
    assert frames.shape == (front.frames(1600), 40)
    np.testing.assert_allclose(
        frames.T[[0, 10, 25, 39]][:, [0, 1, 10, 20]], LIBROSA[scale], atol=1e-4
    )


def test_padding_changes_no_frame():
    front = LogMel(rate_hz=RATE, bands=20)
    padded = np.pad(CHIRP, (0, 500))[None]
    count = tf.constant([front.frames(1600)])
    alone = normalized(front(CHIRP[None]), count)
    among = normalized(front(padded), count)
    np.testing.assert_allclose(among[:, : count[0]], alone, atol=1e-5)
    assert not np.any(among[:, count[0] :])
    assert abs(np.mean(alone)) < 1e-4 and abs(np.std(alone) - 1) < 0.05


@pytest.mark.parametrize(("rate", "wanted"), [(44_100, 8000), (8000, 16_000), (22_050, 16_000)])
def test_resampling_is_band_limited(rate, wanted):
    """What both rates hold stays as it is; what the lower one cannot hold is gone."""
    time = np.arange(rate) / rate
    low = np.sin(2 * np.pi * 1000 * time)
    samples = recordings.resampled(low.astype(np.float32), rate, wanted)
    assert len(samples) == recordings.resampled_length(rate, rate, wanted)
    exact = np.sin(2 * np.pi * 1000 * np.arange(len(samples)) / wanted)
    assert np.abs(samples - exact)[200:-200].max() < 2e-3
    if wanted < rate:
        high = np.sin(2 * np.pi * (wanted * 0.65) * time)
        assert np.std(recordings.resampled(high.astype(np.float32), rate, wanted)[200:-200]) < 0.02


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wavs_need_no_library(width, monkeypatch, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    kind = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}[width]
    soundfile.write(buffer, np.stack([CHIRP, -0.5 * CHIRP], 1), RATE, subtype=kind, format="WAV")
    (tmp_path / "it.wav").write_bytes(buffer.getvalue())
    known = recordings.read(buffer.getvalue(), "it", RATE, 2000)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    np.testing.assert_array_equal(recordings.read(buffer.getvalue(), "it", RATE, 2000), known)
    assert recordings.length(tmp_path / "it.wav", 2 * RATE) == 3200


def test_scores_of_distances_are_those_of_each_pair():
    random = np.random.RandomState(0)
    layer = relative_attention()()
    q, k, v = (random.normal(size=(2, 2, 6, 4)).astype(np.float32) for _ in range(3))
    real = np.arange(6)[None] < np.array([[6], [4]])
    layer([q, k, v, real])
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape))
    content, distance, matrix = (weight.numpy() for weight in layer.weights)
    angle = (np.arange(6)[:, None] - np.arange(6))[..., None] * 10_000.0 ** -(np.arange(4) / 4)
    told = np.concatenate([np.sin(angle), np.cos(angle)], -1)
    scores = np.einsum("bnth,bnsh->bnts", q + content, k)
    scores += np.einsum("bnth,nhd,tsd->bnts", q + distance, matrix, told)
    scores = np.where(real[:, None, None], scores / 2, -np.inf)
    share = tf.nn.softmax(scores).numpy()
    expected = np.einsum("bnts,bnsh->bnth", share, v)
    np.testing.assert_allclose(layer([q, k, v, real]), expected, rtol=1e-3, atol=1e-4)


def all_paths(log_p, labels):
    """The negative log-probability of labels, as a sum over all paths."""
    total = 0.0
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        kept = [v for v, _ in itertools.groupby(path) if v]
        if kept == list(labels):
            total += np.exp(sum(log_p[t, v] for t, v in enumerate(path)))
    return -np.log(total)


ROWS = ([1, 2], [1, 1], [2], [])
FRAMES = (4, 5, 3, 2)


def test_ctc_is_a_sum_over_all_paths():
    logits = np.random.RandomState(0).normal(size=(4, 5, 3)).astype(np.float32)
    labels = np.zeros((4, 2), np.int32)
    for row, own in zip(labels, ROWS, strict=True):
        row[: len(own)] = own
    count = np.array([len(own) for own in ROWS], np.int32)
    losses = ctc_loss(tf.constant(logits), np.array(FRAMES), labels, count)
    log_p = tf.nn.log_softmax(logits).numpy()
    expected = [all_paths(p[:n], own) for p, n, own in zip(log_p, FRAMES, ROWS, strict=True)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert needed_frames(tf.constant(labels), tf.constant(count)).numpy().tolist() == [2, 3, 1, 0]


@pytest.mark.parametrize("jit", [False, True])
def test_ctc_is_tensorflows_for_any_padding(jit):
    random = np.random.RandomState(1)
    logits = tf.constant(2 * random.normal(size=(5, 40, 9)), tf.float32)
    labels = random.randint(1, 9, (5, 12)).astype(np.int32)
    count = np.array([12, 1, 5, 0, 9], np.int32)
    frames = np.array([40, 12, 20, 7, 33], np.int32)

    @tf.function(jit_compile=jit or None)
    def ours(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = ctc_loss(logits, frames, labels, count)
        return losses, tape.gradient(losses, logits)

    with tf.GradientTape() as tape:
        tape.watch(logits)
        theirs = tf.nn.ctc_loss(labels, logits, count, frames, False, blank_index=0)
    losses, gradient = ours(logits)
    np.testing.assert_allclose(losses, theirs, rtol=1e-5)
    expected = tape.gradient(theirs, logits).numpy()
    for row in range(5):  # behind a row's frames TensorFlow's gradient is not zero
        expected[row, frames[row] :] = 0
    np.testing.assert_allclose(gradient, expected, atol=2e-5)
    for row in range(5):
        own = logits[row : row + 1, : frames[row]]
        alone = ctc_loss(own, frames[row : row + 1], labels[row : row + 1], count[row : row + 1])
        np.testing.assert_allclose(alone, losses[row : row + 1], rtol=1e-5)


def exact_ctc(logits, labels):
    """Loss and gradient of one row by the recursions of Graves et al. 2006, in float64."""
    log_p = logits.astype(np.float64)
    log_p -= np.logaddexp.reduce(log_p, 1, keepdims=True)
    states = np.array([0, *(value for label in labels for value in (label, 0))])

    def paths(emitted, states):
        skips = (states != 0) & (states != np.roll(states, 2))
        skips[:2] = False
        rows = [np.where(np.arange(len(states)) < 2, emitted[0], -np.inf)]
        for own in emitted[1:]:
            one, two = (np.append(np.full(n, -np.inf), rows[-1][:-n]) for n in (1, 2))
            arriving = [rows[-1], one, np.where(skips, two, -np.inf)]
            rows.append(np.logaddexp.reduce(arriving) + own)
        return np.stack(rows)

    emitted = log_p[:, states]
    forward = paths(emitted, states)
    backward = paths(emitted[::-1, ::-1], states[::-1])[::-1, ::-1]
    total = np.logaddexp(forward[-1, -1], forward[-1, -2])
    share = np.exp(forward + backward - emitted - total)
    gradient = np.exp(log_p)
    for state, value in enumerate(states):
        gradient[:, value] -= share[:, state]
    return -total, gradient


def test_ctc_of_long_recordings_is_that_of_float64():
    """Of 400 frames and 80 labels, where TensorFlow's kernel of sparse labels is 100 times off."""
    random = np.random.RandomState(400)
    logits = (2 * random.normal(size=(1, 400, 28))).astype(np.float32)
    labels = random.randint(1, 28, (1, 80)).astype(np.int32)
    frames, count = tf.constant([400]), tf.constant([80])
    expected, gradient = exact_ctc(logits[0], labels[0])
    errors = []
    for loss in (
        lambda x: ctc_loss(x, frames, labels, count),
        lambda x: tf.nn.ctc_loss(labels, x, count, frames, False, blank_index=0),
        lambda x: tf.nn.ctc_loss(
            tf.sparse.from_dense(labels), x, None, frames, False, blank_index=0
        ),
    ):
        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x)
        np.testing.assert_allclose(value[0], expected, rtol=1e-5)
        errors.append(np.abs(tape.gradient(value, x)[0] - gradient).max())
    ours, dense, sparse = errors
    assert max(ours, dense) < 5e-5 and sparse > 1e-4


@pytest.mark.parametrize(
    ("name", "knobs", "bands", "outputs", "published"),
    [
        ("matchboxnet", {"repeats": 1}, 64, 30, 77_214),
        ("matchboxnet", {"repeats": 2}, 64, 30, 92_766),
        ("quartznet", {"blocks": 5}, 64, 29, 6_713_181),
        ("quartznet", {"blocks": 15}, 64, 29, 18_924_381),
        ("conformer", {"size": "small"}, 80, 1025, 13_154_033),
    ],
)
def test_networks_of_frames_are_as_large_as_published(name, knobs, bands, outputs, published):
    """77 K, 93 K (Majumdar and Ginsburg 2020), 6.7 M, 18.9 M (Kriman et al. 2019), 13 M (NeMo)."""
    body = component("models", name)(**knobs).build(frames_spec(bands))
    trained = sum(int(np.prod(weight.shape)) for weight in body.trainable_weights)
    assert trained + (body.output["sequence"].shape[-1] + 1) * outputs == published


def frames_spec(bands):
    return {
        "frames": Feature(shape=(None, bands), dtype="float32", most=100),
        "frames_count": Feature(shape=(), dtype="int32"),
    }


@pytest.mark.parametrize("name", ["matchboxnet", "quartznet", "crnn", "conformer"])
def test_no_layer_sees_padding(name):
    """Neither what a row gives, nor what batch normalisation learns, depends on padding."""
    random = np.random.RandomState(0)
    frames = random.normal(size=(3, 30, 8)).astype(np.float32)
    count = np.array([30, 13, 22], np.int32)
    statistics = []
    for length in (30, 41):
        model = component("models", name).smallest().build(frames_spec(8))
        random = np.random.RandomState(1)
        for weight in model.trainable_weights:
            weight.assign(random.normal(size=weight.shape))
        noise = random.normal(size=(3, length, 8)).astype(np.float32)
        for row, own in enumerate(count):
            noise[row, :own] = frames[row, :own]
        given = {"frames": noise, "frames_count": count}
        outputs = model(given, training=False)
        for row, own in enumerate(count):
            alone = {"frames": frames[row : row + 1, :own], "frames_count": count[row : row + 1]}
            places = int(outputs["sequence_count"][row])
            among = outputs["sequence"][row, :places]
            np.testing.assert_allclose(
                model(alone, training=False)["sequence"][0], among, rtol=1e-3, atol=1e-4
            )
            assert not np.any(outputs["sequence"][row, places:])
        for layer in model.layers:
            if hasattr(layer, "rate"):
                layer.rate = 0.0
        model(given, training=True)
        statistics.append([weight.numpy() for weight in model.non_trainable_weights])
    for one, other in zip(*statistics, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_changes_depend_on_the_key_alone():
    changes = sound_changes.Changes(speed=0.1, shift_s=0.02, gain_db=6, noise=0.5)
    samples = np.tile(CHIRP, (6, 1))
    count = np.array([1600, 1200, 1600, 800, 1600, 400], np.int32)
    samples *= np.arange(1600)[None] < count[:, None]
    key = tf.constant(np.arange(12).reshape(6, 2), tf.uint32)
    changed, counts = changes(tf.constant(samples), tf.constant(count), key, RATE)
    assert changed.shape[1] == changes.longest(1600, RATE) and np.abs(changed).max() <= 1
    assert not np.array_equal(changed[0], changed[2])
    rows = [4, 1]
    again, again_counts = changes(
        tf.constant(samples[rows]), tf.constant(count[rows]), tf.gather(key, rows), RATE
    )
    np.testing.assert_allclose(again, tf.gather(changed, rows), atol=1e-6)
    np.testing.assert_array_equal(again_counts, tf.gather(counts, rows))
    slow = sound_changes.Changes(speed=0.2)
    least = tf.constant(count)  # none may become shorter
    _, counts = slow(tf.constant(samples), tf.constant(count), key, RATE, least)
    assert (counts.numpy() >= count).all() and (counts.numpy() > count).any()


def test_a_tone_played_slower_is_lower():
    tone = np.sin(2 * np.pi * 1000 * TIME).astype(np.float32)[None]
    speed = tf.constant([0.8])
    played = sound_changes._played(tone, speed, tf.constant([0]), 2000)[0].numpy()
    spectrum = np.abs(np.fft.rfft(played))
    assert np.argmax(spectrum) * RATE / 2000 == pytest.approx(800, abs=5)


def test_masks_are_narrow_and_inside():
    frames = tf.ones((50, 40, 16))
    count = tf.fill([50], 30)
    key = tf.constant(np.arange(100).reshape(50, 2), tf.uint32)
    masked = sound_changes.masked(frames, count, key, masks=1, bands=5, share=0.2).numpy()
    bands = (masked[:, 39] == 0).sum(1)
    times = ((masked == 0).sum(2) == 16).sum(1)
    assert bands.max() == 4 and times.max() == 5 and (masked[:, 30:, :].max((1, 2)) == 1).all()


def write_wav(path, seconds=0.2, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.5 * np.sin(np.arange(int(seconds * rate)) + zlib.crc32(path.name.encode()) / 1e9)
    path.write_bytes(recordings.wav(tone.astype(np.float32), rate))


def librispeech(root):
    for split, speaker in (("train-clean-100", 19), ("dev-other", 84), ("test-clean", 61)):
        folder = root / split / str(speaker) / "198"
        write_wav(folder / f"{speaker}-198-0000.wav", 0.2)
        text = f"{speaker}-198-0000 HELLO THERE\n"
        (folder / f"{speaker}-198.trans.txt").write_text(text)
    return root, {"19"}


def ljspeech(root):
    for number in range(10):
        write_wav(root / "wavs" / f"LJ{number}.wav")
    lines = [f"LJ{n}|Hello, {n}.|Hello, there." for n in range(10)]
    (root / "metadata.csv").write_text("\n".join(lines))
    return root, {""}


def kaldi(root):
    for split, speaker in (("train", "a"), ("dev", "b"), ("test", "c")):
        write_wav(root / "wav" / f"{speaker}.wav")
        (root / split).mkdir()
        (root / split / "wav.scp").write_text(f"{speaker}1 wav/{speaker}.wav\n")
        (root / split / "text").write_text(f"{speaker}1 Hello there\n")
        (root / split / "utt2spk").write_text(f"{speaker}1 {speaker}\n")
    return root, {"a"}


def table(root):
    lines = ["file,split,speaker,samples,text"]
    for split, speaker in (("train", "a"), ("dev", "b"), ("test", "c")):
        write_wav(root / "audio" / f"{speaker}.wav")
        lines.append(f"audio/{speaker}.wav,{split},{speaker},1600,HELLO THERE")
    (root / "transcripts.csv").write_text("\n".join(lines))
    return root / "transcripts.csv", {"a"}


def json_lines(root):
    rows = []
    for speaker in "abcdefghij":
        write_wav(root / f"{speaker}.wav")
        rows.append({"audio_filepath": f"{speaker}.wav", "text": "Hello there!", "duration": 0.2})
    (root / "manifest.json").write_text("\n".join(map(json.dumps, rows)))
    return root, {""}


def test_tables_of_windows_and_without_endings_are_read(tmp_path):
    path, _ = table(tmp_path)
    path.write_text(path.read_text().replace("audio/a.wav", "audio\\a").replace("b.wav", "b"))
    data = SpeechFolder(path=str(path), rate_hz=RATE)
    assert [data.recordings(split)[0].path.name for split in ("train", "validation")] == [
        "a.wav", "b.wav"
    ]  # fmt: skip


def test_transcripts_without_letters_teach_nothing(tmp_path):
    path, _ = table(tmp_path)
    path.write_text(path.read_text().replace("HELLO THERE", " ... "))
    data = SpeechFolder(path=str(path), rate_hz=RATE)
    with pytest.raises(UserError, match="expected transcripts with letters. Received: 1 to train"):
        data.read_tokenizer()


def test_only_ends_of_lines_divide_transcripts(tmp_path):
    path, _ = kaldi(tmp_path)
    text = path / "train" / "text"
    text.write_text("a1 Hello\u2028there\x0bmy\x85friend\n", "utf-8")
    assert SpeechFolder(path=str(path), rate_hz=RATE).texts("train") == ["hello there my friend"]
    text.write_text("a1 Hello\na1 Bye\n")
    with pytest.raises(UserError, match="line 2: expected each name once. Received: a1 again"):
        SpeechFolder(path=str(path), rate_hz=RATE).check()


@pytest.mark.parametrize(("third", "expected"), [("", "word 0"), ("zero {}", "zero 0")])
def test_the_last_text_of_ljspeech_is_learnt(third, expected, tmp_path):
    rows = []
    for number in range(20):
        write_wav(tmp_path / "wavs" / f"{number}.wav")
        rows.append(f"{number}|word {number}|{third.format(number)}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    data = SpeechFolder(path=str(tmp_path), rate_hz=RATE)
    assert expected in [text for split in SPLITS for text in data.texts(split)]
    (tmp_path / "metadata.csv").write_text("\n".join(f"{r.rpartition('|')[0]}|ann" for r in rows))
    with pytest.raises(UserError, match="Received: 1 different ones for 20 texts, such as 'ann'"):
        SpeechFolder(path=str(tmp_path), rate_hz=RATE).check()


def test_transcripts_without_a_recording_are_told(tmp_path):
    path, _ = kaldi(tmp_path)
    with (path / "dev" / "text").open("a") as text:
        text.write("b2 Nobody\nb3 heard this\n")
    with pytest.warns(LeftOut, match="dev/text: 2 lines left out, .* such as b2"):
        assert SpeechFolder(path=str(path), rate_hz=RATE).texts("validation") == ["hello there"]


@pytest.mark.parametrize("form", [librispeech, ljspeech, kaldi, table, json_lines])
def test_forms_of_transcribed_speech(form, tmp_path):
    path, speakers = form(tmp_path)
    data = SpeechFolder(path=str(path), rate_hz=4000)
    data.check()
    assert data.texts("train")[0] == "hello there"
    assert {one.speaker for one in data.recordings("train")} == speakers
    example = data.examples("train", np.array([0]))
    assert len(example["samples"][0]) == 800 == data.lengths("train")["samples"][0]
    assert data.read_tokenizer().decode(example["text"][0]) == "hello there"
    assert data.size("test") > 0 and data.size("validation") > 0


def broken(root, name):
    path, _ = table(root)
    lines = path.read_text().splitlines()
    if name == "missing":
        lines[1] = lines[1].replace("a.wav", "z.wav")
    elif name == "column":
        lines[0] = lines[0].replace("text", "words")
    elif name == "split":
        lines[1] = lines[1].replace("train", "trial")
    elif name == "torn":
        (root / "audio" / "a.wav").write_bytes(b"RIFF1234")
    elif name == "cut":
        content = (root / "audio" / "a.wav").read_bytes()
        (root / "audio" / "a.wav").write_bytes(content[: len(content) // 2])
    elif name == "rate":
        content = bytearray((root / "audio" / "a.wav").read_bytes())
        content[24:28] = (2**31 - 1).to_bytes(4, "little")
        (root / "audio" / "a.wav").write_bytes(content)
    elif name == "long":
        write_wav(root / "audio" / "a.wav", 30)
    elif name == "empty":
        write_wav(root / "audio" / "a.wav", 0)
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "line 2: there is no file .*z.wav"),
        ("column", "expected a column one of text, transcript.* data.text"),
        ("split", "expected one of train, validation, test as split. Received: 'trial'"),
        ("torn", "a.wav: is no recording that can be read. Expected WAV, FLAC, OGG or MP3"),
        ("cut", "a.wav: expected 3,200 bytes of samples, as its header says. Received: 1,578"),
        ("rate", "a.wav: expected 100 to 1,000,000 samples a second. Received: 2,147,483,647"),
        ("long", "data.most_s: expected at least 30.00, the seconds of .*a.wav"),
        ("empty", "a.wav: expected a recording. Received: no samples"),
    ],
)
def test_what_cannot_be_used_is_named(name, words, tmp_path):
    data = SpeechFolder(path=str(broken(tmp_path, name)), rate_hz=RATE)
    with pytest.raises(UserError, match=words):
        data.size("train")


def test_splits_are_made_by_speaker(tmp_path):
    lines = ["file,word,speaker"]
    for number in range(40):
        write_wav(tmp_path / f"{number}.wav")
        lines.append(f"{number}.wav,{('yes', 'no')[number % 2]},{number % 10}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = AudioFolder(path=str(tmp_path / "labels.csv"), rate_hz=RATE, test=0.2, validation=0.2)
    groups = [set(data.groups(split)) for split in ("train", "validation", "test")]
    assert all(groups) and not any(a & b for a, b in itertools.combinations(groups, 2))
    assert data.label_names == ("no", "yes")


def test_copies_are_told_and_stand_in_one_split(tmp_path):
    for number in range(24):
        path = tmp_path / "tones" / ("Low", "high", "low")[number % 3] / f"{number}.wav"
        write_wav(path)
        path.with_name(f"copy of {number}.wav").write_bytes(path.read_bytes())
    (tmp_path / "tones" / "high" / "0.wav").write_bytes(
        (tmp_path / "tones" / "low" / "2.wav").read_bytes()
    )
    (tmp_path / "tones" / "high" / "tone.m4a").write_bytes(b"1")
    data = AudioFolder(path=str(tmp_path / "tones"), rate_hz=RATE, test=0.2, validation=0.2)
    splits = ("train", "validation", "test")
    rows = [(split, data.samples(split, i)) for split in splits for i in range(data.size(split))]
    places = [{split for split, other in rows if (other == own).all()} for _, own in rows]
    assert all(map(len, places)) and max(map(len, places)) == 1
    assert facts.notes(data) == [
        "recordings that stand under another label too, byte for byte: 3, of high, low; not all can"
        " be right",
        f"recordings in {tmp_path / 'tones'} that are left out: 1 .m4a",
        "classes that are spelt alike, and yet are several: 'Low' and 'low'",
    ]


def test_copies_in_given_splits_are_told(tmp_path):
    path, _ = table(tmp_path)
    audio = tmp_path / "audio"
    (audio / "c.wav").write_bytes((audio / "a.wav").read_bytes())
    notes = SpeechFolder(path=str(path), rate_hz=RATE).notes()
    assert notes == [
        "recordings that stand in the training split too, byte for byte: 1 of test; metrics of"
        " these splits are too good"
    ]


def test_splits_by_other_names_are_no_classes(tmp_path):
    for split in ("Training", "validation", "testing"):
        for name in ("no", "yes"):
            write_wav(tmp_path / split / name / f"{split}.wav")
    data = AudioFolder(path=str(tmp_path), rate_hz=RATE)
    assert data.label_names == ("no", "yes") and data.size("test") == 2
    (tmp_path / "Training").rename(tmp_path / "train_set")
    with pytest.raises(UserError, match="expected train and perhaps test.*test.*Rename them"):
        AudioFolder(path=str(tmp_path), rate_hz=RATE).label_names  # noqa: B018
    for name in ("train", "tram"):  # what runs on rails
        write_wav(tmp_path / "rails" / name / "1.wav")
    assert AudioFolder(path=str(tmp_path / "rails")).label_names == ("train", "tram")


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"offset": 3.5}, "line 1: expected a whole file. Received: an offset of 3.5 s"),
        ({"duration": 0.4}, "a duration of 0.4 s for a file of 1.00 s"),
        ({"text": ["a", "b"]}, "line 1: expected text as 'text'. Received: list"),
    ],
)
def test_rows_that_mean_something_else_are_refused(cells, words, tmp_path):
    write_wav(tmp_path / "a.wav", 1.0)
    row = {"audio_filepath": "a.wav", "text": "a", "duration": 1.02, "offset": 0, **cells}
    (tmp_path / "manifest.json").write_text(json.dumps(row))
    with pytest.raises(UserError, match=words):
        SpeechFolder(path=str(tmp_path / "manifest.json"), rate_hz=RATE).check()


def test_one_speaker_cannot_stand_in_three_splits(tmp_path):
    lines = ["path,sentence,client_id"]
    for number in range(10):
        write_wav(tmp_path / "clips" / f"{number}.wav")  # as in Common Voice
        lines.append(f"{number}.wav,a,ann")
    (tmp_path / "validated.csv").write_text("\n".join(lines))
    path = str(tmp_path / "validated.csv")
    with pytest.raises(UserError, match="10 recordings, 1 of these in all.*data.speaker"):
        SpeechFolder(path=path, rate_hz=RATE).size("train")
    assert SpeechFolder(path=path, rate_hz=RATE, speaker="path").size("train") == 8


def test_digits_are_as_published():
    """All 2,500 recordings, sample by sample, by a digest of the published files."""
    digits = component("data", "spoken_digits")()
    assert [digits.size(split) for split in ("train", "validation", "test")] == [2000, 250, 250]
    one = digits.recordings("test")[0]
    assert one.name == "0_george_0" and one.count == len(digits.samples("test", 0))
    with wave.open(io.BytesIO(recordings.wav(digits.samples("test", 0), 8000))) as file:
        assert np.array_equal(np.frombuffer(file.readframes(one.count), "<i2"), one.levels)
    out = component("data", "spoken_digits")(held_out="theo")
    assert out.size("test") == 500 and "theo" not in set(out.groups("train"))
