"""Videos: frames read at random by time, clips changed alike, splits by group, streams."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS, Feature
from tfbig.data import moving_digits, video_folder
from tfbig.data.moving_digits import MovingDigits
from tfbig.data.video_folder import VideoFolder
from tfbig.engine.readable import Readable
from tfbig.media.video import filmstrip
from tfbig.models.movinet import MoViNet
from tfbig.models.r2plus1d import R2Plus1D
from tfbig.prep import films
from tfbig.prep import video as prep
from tfbig.tasks.video_classification import VideoClassification

KEYS = tf.constant([[i, 7] for i in range(6)], tf.uint32)
EXACT_GREY = 12  # grey levels that a film's compression may change


def grey_film(path, count=60, distance=12, frames_between=2):
    """A film whose frame i is all of grey 4 i, with a key frame every so many."""
    import av

    with av.open(str(path), "w") as file:
        options = {"g": str(distance), "bf": str(frames_between), "sc_threshold": "1000000000"}
        stream = file.add_stream("mpeg4", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(count):
            frame = np.full((48, 64, 3), 4 * i, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


# Files


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("wanted", [1, 5, 60, 90])
def test_frames_of_films_are_found_by_their_times(ending, wanted, tmp_path):
    path = tmp_path / f"it{ending}"
    grey_film(path)
    found = films.load(path, wanted, (24, 32, 1))
    greys = found.reshape(wanted, -1).mean(1)
    np.testing.assert_allclose(greys, 4 * films.middles(60, wanted), atol=EXACT_GREY / 2)


def test_no_more_of_a_film_is_decoded_than_is_needed(tmp_path, monkeypatch):
    """Two frames of 60, of which the key frames stand 12 apart: at most 12 for each."""
    import av

    grey_film(tmp_path / "it.mp4", frames_between=0)
    decoded, opened = [], av.open
    monkeypatch.setattr(av, "open", lambda *given: Counting(opened(*given), decoded))
    found = films.load(tmp_path / "it.mp4", 2, (24, 32, 1))
    assert found.shape == (2, 24, 32, 1) and 8 <= len(decoded) <= 24


class Counting:
    """A film that counts what is decoded of it."""

    def __init__(self, film, decoded):
        self.film, self.decoded = film, decoded

    def __getattr__(self, name):
        return getattr(self.film, name)

    def __enter__(self):
        self.film.__enter__()
        return self

    def __exit__(self, *error):
        return self.film.__exit__(*error)

    def decode(self, *which, **named):
        for frame in self.film.decode(*which, **named):
            self.decoded.append(frame.pts)
            yield frame


def test_frames_are_turned_as_they_were_held():
    class Frame:
        rotation = -90

        def to_ndarray(self, format):
            return np.arange(6, dtype=np.uint8).reshape(1, 2, 3)

    assert films._upright(Frame()).tolist() == [[[0, 1, 2]], [[3, 4, 5]]]


def test_broken_clips_are_named(tmp_path):
    cases = {
        "empty.gif": (b"", "is no video that can be read"),
        "text.mp4": (b"hello " * 99, "is no video that can be read"),
        "torn.npy": (b"\x93NUMPY\x01\x00", "is no video that can be read"),
    }
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 4), np.float32))
    cases["other.npy"] = (buffer.getvalue(), "expected uint8")
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.*{message}"):
            films.load(tmp_path / name, 2, (8, 8, 3))


# Folders


def test_a_group_stands_in_one_split(tmp_path):
    data = VideoFolder.smallest(tmp_path)
    groups = [set(data.groups(split)) for split in SPLITS]
    assert all(groups) and not groups[0] & groups[1] and not (groups[0] | groups[1]) & groups[2]
    assert sum(data.size(split) for split in SPLITS) == 60
    alone = dataclasses.replace(data, group="")
    assert alone.groups("train") is None and alone.size("test") == 12
    (note,) = dataclasses.replace(data, group="(s00[0-9])_").notes()
    assert note == "files that data.group matches not, each a group of its own: 40"
    with pytest.raises(UserError, match=r"matches paths such as .*s\d+_\d.*matches none"):
        dataclasses.replace(data, group="person").check()
    with pytest.raises(UserError, match="leaves no video for the validation split"):
        dataclasses.replace(data, group=r"_([01])\.").check()
    assert dict(dataclasses.replace(data, group="(").problems())["group"].startswith("expected a")


def test_folders_are_read_alike_from_files_and_memory(tmp_path, monkeypatch):
    data = VideoFolder.smallest(tmp_path)
    rows = np.array([3, 0])
    arrays = data.arrays("train")
    monkeypatch.setattr(video_folder, "MEMORY_BYTES", 0)
    assert data.arrays("train") is None
    for name, value in data.examples("train", rows).items():
        np.testing.assert_array_equal(arrays[name][rows], value)
    means = arrays["video"].reshape(len(arrays["label"]), -1).mean(1)
    assert (means[arrays["label"] == data.label_names.index("dark")] < 120).all()


# Moving digits


def test_one_frame_says_nothing_of_the_motion():
    """Digits, places, angles and sizes of a first frame are drawn without regard to it, and each
    later frame's are these moved round, which leaves them uniform."""
    data = MovingDigits.smallest(None)
    clips = data.arrays("train")
    first = dataclasses.replace(data, frames=1).arrays("train")
    np.testing.assert_array_equal(clips["video"][:, :1], first["video"])
    image = np.zeros((1, 28, 28), np.uint8)
    image[:, 8:20, 12:16] = 255
    side, ratio = moving_digits.SIDE, np.log(moving_digits.LARGEST / moving_digits.SMALLEST)
    state = np.array([[[3.0, 5.0, 0.4, 0.1]]])
    drawn = moving_digits.draw(image, state)
    for period in ((side, 0, 0, 0), (0, side, 0, 0), (0, 0, 2 * np.pi, 0), (0, 0, 0, ratio)):
        again = moving_digits.draw(image, state + period)
        assert np.abs(again.astype(int) - drawn).max() <= 1
    moved = moving_digits.draw(image, state + [1, -2, 0, 0])
    np.testing.assert_allclose(moved[0, 0], np.roll(drawn[0, 0], (1, -2), (0, 1)), atol=1)


def test_digits_of_one_split_are_in_no_other():
    data = MovingDigits.smallest(None)
    train, held = (moving_digits._digits(data, split)[0] for split in ("train", "validation"))
    seen = {digit.tobytes() for digit in train}
    assert len(seen) == 64 and not seen & {digit.tobytes() for digit in held}


# Clips


@pytest.mark.parametrize(
    "change",
    [
        lambda clip: prep.random_shift(clip, KEYS, 3),
        lambda clip: prep.random_flip(clip, KEYS),
        lambda clip: prep.random_colours(clip, KEYS, 0.5),
    ],
    ids=["shift", "flip", "colours"],
)
def test_a_clip_is_changed_alike_in_all_frames(change):
    picture = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 10, 3)).astype(np.uint8)
    changed = change(tf.constant(np.repeat(picture, 4, 1))).numpy()
    assert changed.shape == (6, 4, 8, 10, 3)
    np.testing.assert_allclose(changed, np.repeat(changed[:, :1], 4, 1), atol=1e-3)
    assert any(np.abs(one - other).max() > 1 for one, other in zip(changed, picture, strict=True))


def test_clips_are_frames_in_a_row():
    video = np.arange(6 * 9).reshape(6, 9, 1, 1, 1).astype(np.uint8)
    clip = prep.random_clip(tf.constant(video), KEYS, 4).numpy()[..., 0, 0, 0]
    assert (np.diff(clip, axis=1) == 1).all() and len(set(clip[:, 0] - video[:, 0, 0, 0, 0])) > 2


def test_a_video_is_judged_by_its_views(tmp_path):
    """The mean of what is said of clips spread over it."""
    data = VideoFolder.smallest(tmp_path)
    task = VideoClassification(clip_frames=2, views=3)
    task = task.bind(R2Plus1D.smallest(), data, task.measure(Readable(data)))
    assert task.starts == [0, 1, 1] and dataclasses.replace(task, views=1).problems is not None
    model = task.build()
    raw = data.examples("train", np.arange(5))
    batch = task.preprocess({name: tf.constant(value) for name, value in raw.items()}, False)
    each = task.predict(model, batch)["probability"]
    assert each.shape == (5, 3, 2)
    alone = tf.nn.softmax(model(batch["video"][:, 1:3], training=False))
    np.testing.assert_allclose(each[:, 1], alone, atol=1e-6)
    metrics = task.metrics({"probability": each}, batch)
    said = each.numpy().mean(1).argmax(1)
    assert metrics["accuracy"][0].numpy().tolist() == (said == raw["label"]).tolist()
    right = each.numpy().argmax(2) == raw["label"][:, None]
    np.testing.assert_array_equal(metrics["clip_accuracy"][0], right.sum(1))
    answer = task.answer({"probability": each})
    assert answer["over_time"].shape == (5, 3, 2)
    np.testing.assert_allclose(tf.reduce_mean(answer["over_time"], 1), answer["scores"], atol=1e-6)
    assert task.measured_by(None)["accuracy"].startswith("by video: 3 x 1 views")


def test_settings_that_cannot_be_are_explained(tmp_path):
    data = VideoFolder.smallest(tmp_path)
    assert "views" in dict(VideoClassification(views=2).problems())
    cases = {
        "clip_frames: expected at most the 4 frames": VideoClassification(clip_frames=5),
        "shift: expected less than the side": VideoClassification(shift=8),
        "views: expected 1 with a causal model": VideoClassification(clip_frames=2, views=2),
    }
    for message, task in cases.items():
        bound = task.bind(MoViNet.smallest(), data, {"labels": ["a", "b"]})
        with pytest.raises(ValueError, match=message):
            bound.build()


def test_filmstrips_show_frames_side_by_side():
    video = np.repeat(np.arange(8, dtype=np.uint8)[:, None, None, None], 3, 1).repeat(2, 2)
    strip = filmstrip(video, 4)
    assert strip.shape == (3, 11, 1) and strip[0, ::3, 0].tolist() == [1, 3, 5, 7]


# Models


def test_as_large_as_published():
    """Torchvision's r2plus1d_18, with a head for 400 classes."""
    video = {"video": Feature(shape=(4, 32, 32, 3), dtype="float32")}
    body = R2Plus1D().build(video)
    trained = sum(int(np.prod(weight.shape)) for weight in body.trainable_weights)
    assert trained + (body.output.shape[-1] + 1) * 400 == 31_505_325


@pytest.mark.parametrize("normalization", ["batch", "group"])
def test_a_stream_gives_what_the_clip_gives(normalization):
    """At every frame, to 1e-5; and no frame knows those behind it."""
    config = MoViNet(blocks=(1, 2), width=8, normalization=normalization, dropout=0.1)
    model = config.build({"video": Feature(shape=(9, 13, 10, 3), dtype="float32")})
    random = np.random.default_rng(0)
    for weight in model.weights:  # moving statistics too
        drawn = random.uniform(0.5, 1.5, weight.shape) if "variance" in weight.path else None
        weight.assign(random.normal(0, 0.3, weight.shape) if drawn is None else drawn)
    clip = random.normal(size=(2, 9, 13, 10, 3)).astype(np.float32)
    whole = model(clip, training=False).numpy()
    later = clip.copy()
    later[:, 6:] = 0
    np.testing.assert_allclose(model(later, training=False)[:, :6], whole[:, :6], atol=1e-5)
    step = config.streamed(model)
    states = [tf.zeros((2, *tensor.shape[1:])) for tensor in step.inputs[1:]]
    for frame in range(9):
        said, *states = step([tf.constant(clip[:, frame]), *states], training=False)
        np.testing.assert_allclose(said, whole[:, frame], rtol=1e-5, atol=1e-5)
    assert np.abs(whole).max() > 0.1


def test_a_stream_is_exported_and_verified(tmp_path):
    """Frame by frame in SavedModel and ONNX, on the whole test split."""
    experiment = VideoClassification.smallest(tmp_path)
    run = tfbig.train(tfbig.recipe(experiment, "train.length=6"), run=tmp_path / "run")
    record = tfbig.export(run, tmp_path / "model", formats=("onnx",))
    reports = record["verification"]
    assert set(reports) == {"savedmodel", "savedmodel, tensors", "savedmodel, steps", "onnx"}
    assert all(report["largest_difference"] < 1e-5 for report in reports.values())
    assert reports["onnx"]["file"] == "stream.onnx" and reports["onnx"]["unit"] == "frame"
    frames = Image.fromarray(np.zeros((8, 9, 3), np.uint8))
    frames.save(tmp_path / "it.gif", save_all=True, append_images=[frames] * 5)
    (said,) = tfbig.predict(run, tmp_path / "it.gif")
    assert said["label"] in ("bright", "dark") and 0.5 <= said["score"] <= 1
