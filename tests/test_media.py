"""What users give, as each medium takes it: by hand, and back; and what is refused, in words."""

import base64
import gzip
import io
import json
import sys
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfbig.core.errors import LeftOut, PartlyRefused, UserError
from tfbig.data import _sound_files as files
from tfbig.media.audio import Audio
from tfbig.media.picture import Picture
from tfbig.media.sequence import PROTEIN, Sequence
from tfbig.media.state import State
from tfbig.media.text import Text
from tfbig.media.video import Video, middles
from tfbig.prep import recordings
from tfbig.report import panels

RATE = 8000
RAMP = (np.arange(-400, 400) * 64 / 32768).astype(np.float32)  # samples that 16 bits hold
AUDIO = Audio(rate_hz=RATE, most=1600)
VIDEO = Video(frames=4, shape=(6, 8, 3))
DNA = Sequence(most=12)
BOARD = State(shape=(2, 3), dtype="int8", low=-1, high=1)
FRAMES = np.stack([np.full((6, 8, 3), 10 * i, np.uint8) for i in range(8)])


def served(medium, values):
    """What a graph makes of the encoded values."""
    spec = medium.served("x")
    function = tf.function(medium.decode, input_signature=[spec])
    return function(tf.constant(medium.encode(values)))


def recording(samples=RAMP, rate=RATE, subtype="PCM_16", form="WAV"):
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype=subtype, format=form)
    return buffer.getvalue()


def film(frames, form="mp4"):
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def gif(frames):
    buffer = io.BytesIO()
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=100)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_what_is_encoded_is_decoded_alike():
    pictures = np.random.RandomState(0).randint(0, 256, (3, 5, 4, 3), np.uint8)
    np.testing.assert_array_equal(served(Picture(shape=(5, 4, 3)), pictures), pictures)
    texts = ["", "a", "日本語 \U0001f98a", "line\nline"]
    assert [text.decode() for text in served(Text(), texts).numpy()] == texts
    videos = np.stack([FRAMES[:4], FRAMES[4:]])
    np.testing.assert_array_equal(served(VIDEO, videos), videos)
    states = np.array([[[0, 1, -1], [1, 0, 0]]], np.int8)
    np.testing.assert_array_equal(served(BOARD, states), states)
    numbers = [np.array([0, 1, 2, 3, 4], np.uint8), np.array([3], np.uint8)]
    values, counts = served(DNA, numbers)
    np.testing.assert_array_equal(values, [[0, 1, 2, 3, 4], [3, 0, 0, 0, 0]])
    assert counts.numpy().tolist() == [5, 1]
    assert DNA.encode(values.numpy(), counts.numpy()).tolist() == [b"ACGTN", b"T"]
    values, counts = served(AUDIO, [RAMP, RAMP[:3]])
    np.testing.assert_array_equal(values[0], RAMP)
    np.testing.assert_array_equal(values[1, :3], RAMP[:3])
    assert counts.numpy().tolist() == [800, 3] and not values[1, 3:].numpy().any()


def test_other_samples_are_rounded_by_half_a_level():
    samples = np.random.default_rng(0).uniform(-1, 0.9999, 1000).astype(np.float32)
    values, _ = served(AUDIO, [samples])
    assert 0 < np.abs(values[0] - samples).max() <= 1 / 65536 + 1e-7


@pytest.mark.parametrize(
    ("subtype", "form"),
    [("PCM_16", "WAV"), ("PCM_24", "WAV"), ("PCM_32", "WAV"), ("FLOAT", "WAV"), ("PCM_16", "FLAC")],
)
def test_recordings_are_read_as_they_were_written(subtype, form, tmp_path):
    (tmp_path / "it").write_bytes(recording(subtype=subtype, form=form))
    taken = AUDIO.take(tmp_path / "it")
    np.testing.assert_array_equal(taken.values[0], RAMP)
    assert taken.names == [str(tmp_path / "it")] and taken.values[0].dtype == np.float32


def test_what_is_predicted_is_what_is_learnt_and_served(tmp_path):
    """Of two channels with more than 16 bits, at another rate."""
    quiet = 1e-4 * np.random.default_rng(0).normal(size=(3000, 2))
    (tmp_path / "it.wav").write_bytes(recording(quiet.astype(np.float32), 2 * RATE, "PCM_24"))
    (predicted,) = AUDIO.take(tmp_path / "it.wav").values
    learnt = files.opened(files.Row(path=tmp_path / "it.wav", words=""), RATE).load()
    values, _ = served(AUDIO, [predicted])
    np.testing.assert_array_equal(predicted, learnt)
    np.testing.assert_array_equal(predicted, values[0])
    np.testing.assert_array_equal(predicted * 32768, np.rint(predicted * 32768))
    two = (1e-3 * np.random.default_rng(1).normal(size=(500, 2))).astype(np.float32)
    content = recording(two, subtype="PCM_16")
    (tmp_path / "two.wav").write_bytes(content)
    decoded, _ = AUDIO.decode(tf.constant([content]))
    np.testing.assert_array_equal(decoded[0], AUDIO.take(tmp_path / "two.wav").values[0])


def test_rates_are_brought_to_the_models_in_the_graph_as_in_files():
    """By scipy's filter, but for what rounding to 16 bits tips over."""
    audio = Audio(rate_hz=RATE, most=40_000)
    noise = 0.4 * np.random.default_rng(0).normal(size=(9001, 2)).astype(np.float32)
    noise[:2000] = 3.0  # louder than full scale: what the filter makes of it is cut off
    rates = (4000, RATE, 11_025, 16_000, 44_100, 7919)
    contents = [recording(noise, rate) for rate in rates]
    function = tf.function(audio.decode, input_signature=[audio.served("x")])
    values, counts = function(tf.constant(contents))
    for content, row, count, rate in zip(contents, values.numpy(), counts, rates, strict=True):
        expected = recordings.read(content, str(rate), RATE, 40_000)
        assert int(count) == len(expected) == recordings.resampled_length(9001, rate, RATE)
        assert np.abs(row[:count] - expected).max() <= 1 / 32768 and not row[count:].any(), rate
        assert np.mean(row[:count] != expected) < 0.01, rate


def test_samples_in_other_units_are_refused(tmp_path):
    (tmp_path / "it.wav").write_bytes(recording(RAMP * 32768, subtype="FLOAT"))
    with pytest.raises(UserError, match="expected samples from -1 to 1.*Divide them"):
        AUDIO.take(tmp_path / "it.wav")


def test_short_recordings_take_no_room_of_long_ones():
    long = Audio(rate_hz=RATE, most=1 << 30)
    values, counts = long.decode(tf.constant([recordings.wav(RAMP[:n], RATE) for n in (3, 7)]))
    assert values.shape == (2, 7) and counts.numpy().tolist() == [3, 7]
    assert not values[0, 3:].numpy().any()


def test_folders_of_frames_are_videos_in_the_order_of_their_numbers(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for i in range(11):
            frame = np.full((6, 8, 3), 10 * i, np.uint8)
            Image.fromarray(frame).save(tmp_path / name / f"frame{i}.png")
    taken = Video(frames=11, shape=(6, 8, 3)).take(tmp_path)
    assert taken.names == [str(tmp_path / name) for name in ("one", "two")]
    for video in taken.values:
        assert video[:, 0, 0, 0].tolist() == [10 * i for i in range(11)]


@pytest.mark.parametrize("form", ["OGG", "MP3"])
def test_recordings_that_lose_something_sound_alike(form, tmp_path):
    wave = 0.5 * np.sin(np.arange(1500) * 2 * np.pi * 440 / RATE).astype(np.float32)
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}[form]
    (tmp_path / "it").write_bytes(recording(wave, subtype=subtype, form=form))
    (samples,) = Audio(rate_hz=RATE, most=8000).take(tmp_path / "it").values
    spectrum = np.abs(np.fft.rfft(samples[:1400]))
    assert abs(np.argmax(spectrum) * RATE / 1400 - 440) < 6


def test_rates_and_channels_are_brought_to_the_models(tmp_path):
    """A tone stays the tone it is; what no rate of the model's holds is gone."""
    time = np.arange(8820) / 44_100
    left, right = np.sin(2 * np.pi * 1000 * time), np.sin(2 * np.pi * 9000 * time)
    (tmp_path / "it.wav").write_bytes(recording(np.stack([left, right], 1), 44_100, "FLOAT"))
    (samples,) = AUDIO.take(tmp_path / "it.wav").values
    assert samples.shape == (1600,)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(1600) / RATE)
    assert np.abs(samples - expected)[100:-100].max() < 0.01


def test_videos_are_the_middles_of_equal_parts(tmp_path):
    assert middles(8, 4).tolist() == [1, 3, 5, 7] and middles(2, 4).tolist() == [0, 0, 1, 1]
    assert middles(100, 1).tolist() == [50]
    (tmp_path / "a.gif").write_bytes(gif(FRAMES))
    (tmp_path / "b.npy").write_bytes(npy(FRAMES))
    taken = VIDEO.take([tmp_path / "a.gif", tmp_path / "b.npy"])
    for video in taken.values:
        np.testing.assert_array_equal(video, FRAMES[[1, 3, 5, 7]])
    assert VIDEO.take(FRAMES[:, 1:, :7, :1]).values.shape == (1, 4, 6, 8, 3)  # of any size
    (tmp_path / "frames").mkdir()
    for i, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{i}.png")
    np.testing.assert_array_equal(VIDEO.take(tmp_path / "frames").values[0], FRAMES[[1, 3, 5, 7]])
    with pytest.warns(LeftOut, match="8 of 10 files left out, being no videos"):
        assert len(VIDEO.find(tmp_path)[0]) == 2  # a folder that holds videos means them


def test_films_are_read(tmp_path):
    large = FRAMES.repeat(8, 1).repeat(8, 2)
    (tmp_path / "it.mp4").write_bytes(film(large))
    (video,) = VIDEO.take(tmp_path / "it.mp4").values
    assert np.abs(video.astype(int) - FRAMES[[1, 3, 5, 7]]).max() <= 4
    grey = Video(frames=2, shape=(3, 3, 1)).take(tmp_path / "it.mp4").values
    assert grey.shape == (1, 2, 3, 3, 1)


FASTA = ">one first of two\nACG\nTN\n\n>two\nacgt\n"
FASTQ = "@one x\nACGTN\n+\nIIIII\n@two\nacgt\n+\n!!!!\n"


@pytest.mark.parametrize("text", [FASTA, FASTQ, FASTA.replace("\n", "\r\n")])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_sequences_are_read(text, pack, tmp_path):
    (tmp_path / "it.fa").write_bytes(pack(text.encode()))
    taken = DNA.take(tmp_path / "it.fa")
    assert [name.partition(": ")[2] for name in taken.names] == ["one", "two"]
    assert [DNA.text(numbers) for numbers in taken.values] == ["ACGTN", "ACGT"]


def test_letters_need_no_file(monkeypatch):
    taken = DNA.take(["acgt", "N"])
    assert taken.names == ["acgt", "N"]
    assert [v.tolist() for v in taken.values] == [[0, 1, 2, 3], [4]]
    assert [v.tolist() for v in DNA.take(np.array(["AC", "T"])).values] == [[0, 1], [3]]
    stdin = SimpleNamespace(buffer=io.BytesIO(b"AC GT\nac\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert DNA.text(DNA.take("-").values[0]) == "ACGTAC"


def test_states_are_read(tmp_path, monkeypatch):
    board = [[0, 1, -1], [1, 0, 0]]
    (tmp_path / "it.json").write_text(json.dumps(board))
    (tmp_path / "its.npy").write_bytes(npy(np.array([board, board], np.int64)))
    taken = BOARD.take([tmp_path / "it.json", tmp_path / "its.npy"])
    assert taken.values.tolist() == [board] * 3 and taken.values.dtype == np.int8
    assert taken.names[2] == f"{tmp_path / 'its.npy'}[1]"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"[[1,1,1],[0,0,0]]")))
    assert BOARD.take("-").values.tolist() == [[[1, 1, 1], [0, 0, 0]]]


def test_texts_are_taken(tmp_path, monkeypatch):
    (tmp_path / "it.txt").write_bytes("\ufeffžluť\r\n".encode())
    stdin = SimpleNamespace(buffer=io.BytesIO(b"\xef\xbb\xbffrom stdin\r\n"))
    monkeypatch.setattr(sys, "stdin", stdin)  # with a byte order mark, as files may have one
    assert Text().take(["a", "-", tmp_path / "it.txt"]).values == ["a", "from stdin\n", "žluť\n"]
    assert Text().take(np.array(["b", "c"])).values == ["b", "c"]
    with pytest.warns(LeftOut, match="it.txt' is taken as a text; for what is in the file"):
        assert Text().take(["a", str(tmp_path / "it.txt")]).values[0] == "a"


WRONG = {
    "a torn recording": (AUDIO, lambda: recording()[:20], "is no recording that can be read"),
    "text as a recording": (AUDIO, lambda: b"hello " * 99, "is no recording that can be read"),
    "nothing as a recording": (AUDIO, lambda: b"", "is no recording that can be read"),
    "silence of no length": (AUDIO, lambda: recording(RAMP[:0]), "Received: no samples"),
    "a long recording": (AUDIO, lambda: recording(np.zeros(1602)), "expected at most 0.2 s"),
    "a recording of NaN": (
        AUDIO,
        lambda: recording(np.full(9, np.nan, np.float32), subtype="FLOAT"),
        "finite samples",
    ),
    "samples of another type": (AUDIO, lambda: npy(np.zeros(9)), "expected float32"),
    "text as a video": (VIDEO, lambda: b"hello " * 99, "is no video that can be read"),
    "nothing as a video": (VIDEO, lambda: b"", "is no video that can be read"),
    "a torn GIF": (VIDEO, lambda: gif(FRAMES)[:60], "is no video that can be read"),
    "a torn film": (VIDEO, lambda: film(FRAMES)[:200], "a file without pictures"),
    "a recording as a video": (VIDEO, lambda: recording(), "a file without pictures"),
    "frames of another type": (
        VIDEO,
        lambda: npy(FRAMES.astype(np.float32)),
        r"expected uint8 \[n, frames, height, width, 3\]",
    ),
    "another letter": (DNA, lambda: b">x\nACG\nTZA", "x: .*Received: 'Z', at letter 5"),
    "a protein as DNA": (DNA, lambda: b"MKV", "Received: 'M', at letter 1"),
    "a picture as a sequence": (DNA, lambda: gif(FRAMES), "Received: the byte 0x"),
    "no sequence": (DNA, lambda: b"\n", "expected at least one sequence"),
    "an empty sequence": (DNA, lambda: b">a\n>b\nAC\n", "expected 1 to 12 letters. Received: 0"),
    "a long sequence": (DNA, lambda: b"A" * 13, "expected 1 to 12 letters. Received: 13"),
    "torn gzip": (DNA, lambda: gzip.compress(b"ACGT" * 99)[:-9], "is no whole gzip file"),
    "torn FASTQ": (DNA, lambda: b"@a\nAC\n+\n", "Record 1 is torn"),
    "too few qualities": (DNA, lambda: b"@a\nAC\n+\nI\n", "as many qualities as letters, 2"),
    "no JSON": (BOARD, lambda: b"[1, 2", "expected a state as JSON"),
    "a torn .npy": (BOARD, lambda: npy(np.zeros((2, 3)))[:-8], "is no whole .npy file"),
    "ragged rows": (BOARD, lambda: b"[[1], [2, 3]]", "expected a state as JSON"),
    "another shape": (BOARD, lambda: b"[[1, 2]]", r"expected int8 \[2, 3\] or \[n, 2, 3\]"),
    "words as a state": (BOARD, lambda: b'[["a", "b", "c"], ["a", "b", "c"]]', "Received: <U1"),
    "half numbers": (BOARD, lambda: b"[[0.5, 0, 0], [0, 0, 0]]", "numbers that int8 holds"),
    "a number too large": (BOARD, lambda: b"[[300, 0, 0], [0, 0, 0]]", "numbers that int8 holds"),
    "a number beyond its bound": (BOARD, lambda: b"[[2, 0, 0], [0, 0, 0]]", "from -1 to 1"),
}


@pytest.mark.parametrize(("medium", "content", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_refused_in_words(medium, content, words, tmp_path):
    (tmp_path / "it").write_bytes(content())
    with pytest.raises(UserError, match=words) as refused:
        medium.take(tmp_path / "it")
    assert str(refused.value).startswith(str(tmp_path / "it"))


@pytest.mark.parametrize("medium", [AUDIO, VIDEO, DNA, BOARD])
def test_the_others_go_on(medium, tmp_path):
    good = {AUDIO: recording, VIDEO: lambda: gif(FRAMES), DNA: lambda: b"AC", BOARD: None}[medium]
    content = good() if good else b"[[0, 0, 0], [0, 0, 0]]"
    (tmp_path / "good").write_bytes(content)
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    taken = medium.take([tmp_path / "bad", tmp_path / "good", tmp_path / "1"])
    assert len(taken.values) == 1 and taken.names == [str(tmp_path / "good")]
    with pytest.raises(PartlyRefused, match="2 of the files cannot be used; of the others, 1"):
        taken.answered([{}])
    with pytest.raises(UserError, match="no such file"):
        medium.find(tmp_path / "1")
    with pytest.raises(UserError, match="inputs: expected paths of"):
        medium.find(5)


def test_a_file_that_claims_to_be_huge_is_not_read_whole(tmp_path):
    content = bytearray(recording())
    content[4:8] = content[40:44] = (2**32 - 100).to_bytes(4, "little")
    (tmp_path / "it.wav").write_bytes(content)
    np.testing.assert_array_equal(AUDIO.take(tmp_path / "it.wav").values[0], RAMP)
    bomb = gzip.compress(bytes(1000))
    (tmp_path / "it.gz").write_bytes(bomb)
    with pytest.raises(UserError, match=r"Received: '\\x00', at letter 1"):
        DNA.take(tmp_path / "it.gz")
    wide = bytearray(gif(FRAMES))
    wide[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "it.gif").write_bytes(wide)
    with pytest.raises(UserError, match="is no video that can be read.*Image size"):
        VIDEO.take(tmp_path / "it.gif")


def of_rate(rate, width=2):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(60))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("medium", "content", "words"),
    [
        (AUDIO, of_rate(3999), "expected a WAV of 4000 to 192000 Hz. Received: 3999"),
        (AUDIO, of_rate(2**31 - 1), "expected a WAV of 4000 to 192000 Hz. Received: 2147483647"),
        (AUDIO, recordings.wav(np.zeros(8827), 44_100), "samples at 8000 Hz. Received: 1602"),
        (AUDIO, of_rate(RATE, 3), "16-bit"),
        (AUDIO, b"RIFF", "WAV|RIFF|[Hh]eader|read"),
        (
            AUDIO,
            recordings.wav(np.zeros(1601), RATE),
            "1 to 1600 samples at 8000 Hz. Received: 1601",
        ),
        (DNA, b"ACxT", "expected letters of ACGTN. Received another one, at letter 3"),
        (DNA, b"", "expected at least 1 letters"),
        (DNA, b"A" * 13, "expected at most 12 letters"),
        (Text(), b"\xff", "UTF-8|unicode|[Ii]nvalid"),
    ],
)
def test_what_is_served_is_checked_in_the_graph(medium, content, words):
    function = tf.function(medium.decode, input_signature=[medium.served("x")])
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        function(tf.constant([content]))


def test_what_is_refused_harms_nothing_that_runs_at_once(monkeypatch):
    """Graphs run what comes behind a refusal beside it: letters stay numbers of the alphabet."""
    monkeypatch.setattr(tf.debugging, "Assert", lambda *_: None)
    numbers, count = DNA.decode(tf.constant(["AC-T", "Z", "ACGT" * 4]))
    assert int(tf.reduce_max(numbers)) < len(DNA.letters) and count.numpy().tolist() == [4, 1, 16]


def test_proteins_have_their_own_letters():
    protein = Sequence(letters=PROTEIN, most=5)
    assert protein.text(protein.take("mkvX").values[0]) == "MKVX"
    with pytest.raises(UserError, match="There is no file MKB either"):
        protein.take("MKB")


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    (tmp_path / "it").write_bytes(b"0" * 99)
    for medium, package, extra in ((AUDIO, "soundfile", "audio"), (VIDEO, "av", "video")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=rf"not installed. Run pip install 'tfbig\[{extra}\]'"):
            medium.take(tmp_path / "it")


def test_reports_show_every_medium():
    shown = {
        "audio": AUDIO.panel("t", [RAMP, RAMP[:1]], ["<one>", "two"], "c"),
        "video": VIDEO.panel("t", [FRAMES[:4]], ["<one>"]),
        "text": Text().panel("t", ["<one>"]),
        "sequence": DNA.panel("t", [np.array([0, 3])], ["<one>"]),
        "state": BOARD.panel("t", [np.eye(2, 3, dtype=np.int8)], ["<one>"]),
        "picture": Picture(shape=(6, 8, 3)).panel("t", FRAMES[:1], ["<one>"]),
    }
    pages = {name: panels.render(json.loads(json.dumps(panel))) for name, panel in shown.items()}
    assert all("&lt;one&gt;" in page and "<one>" not in page for page in pages.values())
    assert pages["audio"].count("<audio controls") == 2 and "0.10 s" in pages["audio"]
    assert "\nAT</pre>" in pages["sequence"] and "[1 0 0]" in pages["state"]
    content = base64.b64decode(shown["video"]["items"][0]["png"])
    moving = Image.open(io.BytesIO(content))
    assert moving.n_frames == 4
