"""A recogniser as it is served: any recording gets an answer, portions say what the whole says."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfbig.deploy.programs import Programs
from tfbig.models.crnn import CRNN
from tfbig.models.quartznet import QuartzNet
from tfbig.prep import recordings
from tfbig.tasks.speech_recognition import SpeechRecognition

RATE = 2000


def recogniser(folder, network, **knobs):
    """With random weights, so that no two layers do the same."""
    experiment = SpeechRecognition.smallest(folder)
    task = dataclasses.replace(experiment.task, normalize="training", **knobs)
    task = task.bind(network, experiment.data, task.measure(experiment.data))
    model = task.build()
    random = np.random.RandomState(0)
    for weight in model.weights:
        scale = 0.5 if len(weight.shape) > 1 else 0.2
        value = random.normal(size=weight.shape) * scale
        weight.assign(1 + np.abs(value) if "variance" in weight.path else value)
    return task, model


@pytest.mark.parametrize(
    ("network", "look_ahead_s"),
    [
        (CRNN(channels=8, blocks=2, kernel=5, units=(), normalization="batch"), 0.24),
        (CRNN(channels=8, blocks=1, kernel=4, units=(), normalization="layer"), 0.16),
        (QuartzNet(repeats=2, width=1 / 64), 7.0),
        (QuartzNet(repeats=1, width=1 / 64, stride=4), 8.72),
    ],
    ids=["crnn", "crnn, even kernel", "quartznet", "quartznet, stride 4"],
)
def test_portions_say_what_the_whole_says(network, look_ahead_s, tmp_path):
    task, model = recogniser(tmp_path, network)
    streamed = task.streamed(model, 0.32)
    random = np.random.RandomState(1)
    for count in (1, 55, 640, 1999, 6000):
        samples = (0.3 * random.normal(size=count)).astype(np.float32)
        whole = task.heard(model, samples)["logits"][0]
        parts = streamed.run(samples)
        assert parts.shape == whole.shape, count
        np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-3 * np.abs(whole).max())
    assert streamed.look_ahead_s == pytest.approx(look_ahead_s)


def test_a_place_waits_for_its_look_ahead_and_no_longer(tmp_path):
    network = CRNN(channels=8, blocks=2, kernel=5, units=(), normalization="batch")
    task, model = recogniser(tmp_path, network)
    streamed = task.streamed(model, 0.04)
    step = tf.function(streamed.step, autograph=False)
    carried = streamed.start(1)
    heard, first = 0, None
    while first is None:
        given = {"samples": np.zeros((1, streamed.samples), np.float32)}
        outputs = step(**given, samples_count=np.int32([streamed.samples]), **carried)
        carried = {name: outputs[name] for name in carried}
        heard += streamed.samples
        if outputs["is_real"].numpy().any():
            first = heard / RATE
    assert first == pytest.approx(streamed.look_ahead_s + 0.04)


def test_only_what_looks_at_no_whole_recording_is_streamed(tmp_path):
    experiment = SpeechRecognition.smallest(tmp_path)
    for network, normalize in ((CRNN(channels=4), "training"), (CRNN(units=()), "bands")):
        task = dataclasses.replace(experiment.task, normalize=normalize)
        task = task.bind(network, experiment.data, {})
        assert task.streamed(None) is None


def test_silence_clipping_a_tenth_of_a_second_and_ten_minutes_get_an_answer(tmp_path):
    network = CRNN(channels=8, blocks=1, kernel=3, units=(), normalization="layer")
    task, model = recogniser(tmp_path, network)
    programs = Programs(task, model)
    random = np.random.RandomState(0)
    tone = np.sin(np.arange(RATE) * 0.7)
    given = {
        "silence": np.zeros(RATE),
        "clipping": np.clip(9 * tone, -1, 1),
        "a tenth of a second": tone[: RATE // 10],
        "one sample": tone[1:2],
        "ten minutes": 0.3 * random.normal(size=600 * RATE),
    }
    alone = {}
    for name, samples in given.items():
        wav = recordings.wav(samples.astype(np.float32), RATE)
        answer = {
            key: value.numpy()[0]
            for key, value in programs.raw(wav_bytes=tf.constant([wav])).items()
        }
        assert isinstance(answer["text"], bytes) and 0 < answer["score"] <= 1, name
        times = answer["times"].decode().splitlines()
        assert len(times) == len(answer["text"].split()), name
        edges = [float(edge) for line in times for edge in line.split()[:2]]
        assert edges == sorted(edges) and all(0 <= edge <= 600.1 for edge in edges), name
        alone[name] = answer["text"]
    few = [name for name in given if name != "ten minutes"]
    wavs = [recordings.wav(given[name].astype(np.float32), RATE) for name in few]
    together = programs.raw(wav_bytes=tf.constant(wavs))["text"].numpy().tolist()
    assert together == [alone[name] for name in few]
    longer = recordings.wav(np.zeros(600 * RATE + 1, np.float32), RATE)
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 1200000 samples at 2000 Hz"):
        programs.raw(wav_bytes=tf.constant([longer]))
    captured = programs.signatures["stream"].traced.captured_inputs
    assert {tensor.dtype for tensor in captured} == {tf.resource}  # variables, no other code
    assert set(programs.portable["model"].traced.structured_input_signature[1]) == {
        "samples",
        "samples_count",
    }
