"""Texts written token by token.

The same as the artefact writes by itself, whole characters, limits, and the page.
"""

import asyncio
import json
import os
import random
import shutil
import threading
import time
import unicodedata
from pathlib import Path

import chromium
import numpy as np
import pytest
import tensorflow as tf
from desk import Desk, on_desk
from serving import Server

from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.data import _text
from tfbig.data.text_files import TextFiles
from tfbig.decoding.sampling import choose
from tfbig.deploy import artefact, onnx_format, saved_model
from tfbig.deploy.programs import Programs
from tfbig.deploy.server import servable
from tfbig.deploy.server.admission import Limits
from tfbig.deploy.server.batching import Batcher
from tfbig.deploy.server.status import Failure
from tfbig.engine.setup import Setup
from tfbig.models.gpt import GPT
from tfbig.prep import text as prep
from tfbig.serve import _read_tokenizer
from tfbig.tasks._served_text import Service
from tfbig.tasks.text_generation import TextGeneration

PROMPTS = ("", "the cat", "s\u00e4t", "\u72ac", "on a mat the dog", "x" * 16)
LENGTH = 40  # longer than the context of 16: texts go on from their last half


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained model of bytes, which writes torn characters too."""
    home = tmp_path_factory.mktemp("text")
    words = random.Random(0)
    (home / "corpus.txt").write_text(
        " ".join(
            words.choice(["the", "cat", "s\u00e4t", "on", "\u72ac", "mat"]) for _ in range(3000)
        ),
        "utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        _text._opened.cache_clear()
        model, data = (
            GPT(width=16, depth=2, heads=2, deviation=0.3),
            TextFiles(path=str(home / "corpus.txt"), context=16, tokenizer="bytes"),
        )
        wanted = Experiment(name="tiny", task=TextGeneration(), model=model, data=data)
        setup = Setup(wanted, TextGeneration().measure(data))
        for variable in setup.model.variables:
            # The end of a text is never the likeliest token
            if variable.shape[0] == setup.task.tokenizer.size:
                variable.assign(variable * (np.arange(variable.shape[0]) < 256)[:, None])
        programs = Programs(setup.task, setup.model, Service(length=LENGTH, limit=100_000))
    version = home / "models" / "tiny" / "1"
    version.mkdir(parents=True)
    saved_model.write(programs, version, {})
    for name, function in programs.portable.items():
        onnx_format.write(function, version / f"{name}.onnx", {})
    artefact.seal(version, programs.serving.to_json())
    return home / "models"


def greedy(folder, prompts=PROMPTS):
    found = tf.saved_model.load(str(folder / "tiny" / "1")).signatures["serving_default"](
        prompt=tf.constant([prompt.encode() for prompt in prompts])
    )
    return [text.decode() for text in found["text"].numpy()]


@pytest.mark.parametrize("engine", ["tensorflow", "onnx"])
def test_streams_are_what_the_artefact_writes(folder, engine):
    """Alone, and all at once with their steps answered together."""
    expected = greedy(folder)

    async def look(desk):
        for prompt, text in zip(PROMPTS, expected, strict=True):
            assert (await desk.stream(prompt=prompt))[:2] == (text, "length")
        together = await asyncio.gather(
            *(desk.stream(prompt=prompt, max_tokens=LENGTH) for prompt in PROMPTS)
        )
        assert [text for text, _, _ in together] == expected
        assert all(len(pieces) > 5 for _, _, pieces in together)
        whole = await desk.whole(prompt="the cat")
        assert whole["choices"][0]["text"] == expected[1] and whole["usage"] == {
            "prompt_tokens": 7,
            "completion_tokens": LENGTH,
            "total_tokens": LENGTH + 7,
        }

    on_desk(folder, look, engine=engine)


def test_texts_from_outside_are_read_as_the_data_was(folder):
    """Prompts and stop texts are normalised.

    A SentencePiece vocabulary must also know whether a text begins.
    """
    seen = []

    def read(saved):
        tokenizer, reader, plain = _read_tokenizer(saved)
        return (
            tokenizer,
            lambda _, *stop, begins: (
                seen.append((stop, begins)) or reader(tokenizer, *stop, begins=begins)
            ),
            plain,
        )

    async def look(desk):
        desk.texts.read = read
        found = [
            await desk.whole(prompt=prompt, max_tokens=9, stop="a\u0308\r\n")
            for prompt in ("", "s\u00e4t\n", "sa\u0308t\r\n")
        ]
        assert [one["usage"]["prompt_tokens"] for one in found[1:]] == [5, 5] and found[1][
            "choices"
        ] == found[2]["choices"]

    on_desk(folder, look)
    assert seen == [(("\u00e4\n",), True), (("\u00e4\n",), False), (("\u00e4\n",), False)]


def test_normalisation_that_an_artefact_names():
    def named(**said):
        return _read_tokenizer({"tokenizer": {"kind": "bytes"}, "generation": said})[2](
            "e\u0301\r\n"
        )

    assert [named(), named(normalize="none"), named(normalize="nfc")] == [
        "e\u0301\n",
        "e\u0301\n",
        "\u00e9\n",
    ]
    with pytest.raises(
        UserError,
        match=r"generation.json: normalize: expected one of none, nfc, nfkc. Received: \[\]",
    ):
        named(normalize=[])


def test_runs_of_marks_are_normalised_as_unicodedata_does_but_in_linear_time():
    draw = random.Random(0)
    letters = ("a", "\u00e9", "\u1f82", "\uac00", "\uff76", "\r", " ", "\ud800", "\U0001f600")
    marks = (
        "\u0301",
        "\u0316",
        "\u0345",
        "\u0344",
        "\u0f73",
        "\u0f71",
        "\uff9e",
        "\u3099",
        "\u0308",
        "\u200d",
    )
    for _ in range(50):
        text = "".join(
            draw.choice(letters) + "".join(draw.choices(marks, k=draw.choice((0, 1, 33, 70))))
            for _ in range(8)
        )
        for form in ("nfc", "nfkc"):
            assert prep.normalize(text, form) == unicodedata.normalize(form.upper(), text)
    for hostile in ("a" + "\u0301\u0316" * 100_000, "\u0f73" * 100_000):
        began = time.process_time()
        assert len(prep.normalize(hostile, "nfc")) >= 200_000
        assert time.process_time() - began < 5  # one after the other they take minutes


def test_a_prompt_is_measured_before_anything_is_made_of_it(folder):
    def read(saved):
        tokenizer, reader, plain = _read_tokenizer(saved)
        return (
            tokenizer,
            reader,
            lambda text: pytest.fail("it was normalised") if len(text) > 64 else plain(text),
        )

    async def look(desk):
        desk.texts.read = read
        for marks in ("\u0301\u0316" * 50, "\u0301\u0316" * 100_000):
            status, content = await desk.ask({"model": "tiny", "prompt": "a" + marks})
            message = json.loads(content)["error"]["message"]
            assert (
                status == 400
                and f"context of 16 tokens. Received: {len(marks) + 1:,} characters" in message
            )
        assert (await desk.whole(prompt="a\u0301" * 8, max_tokens=1))["usage"][
            "prompt_tokens"
        ] == 16

    on_desk(folder, look)


def test_choices_and_stops(folder):
    async def look(desk):
        def ask(**more):
            return desk.stream(prompt="the", **more)

        plain = await ask()
        warm = [await ask(temperature=1.5, seed=seed) for seed in (1, 1, 2)]
        assert (
            warm[0] == warm[1] != warm[2]
            and (await ask(temperature=1.5, top_k=1, seed=5))[0] == plain[0]
        )
        assert (await ask(temperature=1.5, top_p=1e-9))[0] == plain[0] and (
            await ask(temperature=1.5)
        ) != (await ask(temperature=1.5))
        middle = plain[0][8:11]
        for stop in (middle, ["never there", middle]):
            text, reason, pieces = await ask(stop=stop)
            assert (
                text == plain[0][: plain[0].index(middle)]
                and reason == "stop"
                and not any(middle in piece for piece in pieces)
            )

    on_desk(folder, look)


@pytest.mark.parametrize("engine", ["tensorflow", "onnx"])
def test_a_seed_writes_the_same_text_as_in_the_artefact(folder, engine):
    """Of all tokens, of few, and past the context; the artefact's text is that of `predict`."""
    generate = tf.saved_model.load(str(folder / "tiny" / "1")).signatures["generate"]

    async def look(desk):
        for options in ({}, {"top_k": 20}, {"top_p": 0.9}, {"top_k": 30, "top_p": 0.8}):
            asked = {"temperature": 1.2, "seed": 2**31 - 1, **options}
            given = {"length": LENGTH, "top_k": 0, "top_p": 1.0, **asked}
            prompt = tf.constant([b"the cat"])
            expected = generate(prompt=prompt, **{k: tf.constant(v) for k, v in given.items()})
            text, _, _ = await desk.stream(prompt="the cat", max_tokens=LENGTH, **asked)
            assert text == expected["text"].numpy()[0].decode()

    on_desk(folder, look, engine=engine)


def test_choose_against_a_slow_reference():
    logits = np.array([2.0, 1.0, 0.5, -1.0, -3.0], np.float32)
    share = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    for options, kept in (({}, 5), ({"top_k": 2}, 2), ({"top_p": 0.9}, 2), ({"top_k": 9}, 5)):
        chosen = choose(np.tile(logits, (4000, 1)), 1, 5, temperature=0.7, **options)
        expected = np.where(np.arange(5) < kept, share, 0)
        np.testing.assert_allclose(
            np.bincount(chosen, minlength=5) / 4000, expected / expected.sum(), atol=0.03
        )


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"top_p": 0.9}])
def test_tiny_temperatures_take_the_likeliest(options):
    logits = np.array([[1.0, 5.0, 3.0, -40.0]], np.float32)
    for temperature in (1e-309, 1e-40, 1e-5):
        assert choose(logits, 1, 2, temperature=temperature, **options).tolist() == [1]
        tensors = {
            name: tf.constant(value)
            for name, value in {"top_k": 0, "top_p": 1.0, **options}.items()
        }
        for more in (
            {"temperature": temperature, **options},
            {"temperature": tf.constant(temperature), **tensors},
        ):
            for jit in (False, True):
                program = tf.function(
                    lambda values, more=more: choose(values, 1, 2, **more), jit_compile=jit
                )
                assert program(tf.constant(logits)).numpy().tolist() == [1]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "none"}, 404, "Servable not found for request: Latest(none)"),
        ({"model": "tiny/7"}, 404, "Specific(tiny, 7)"),
        ({"model": "tiny/x"}, 400, "model: expected NAME or NAME/VERSION"),
        ({"model": 5}, 400, "model: expected NAME"),
        ({"prompt": ["a", "b"]}, 400, "prompt: expected one text"),
        ({"prompt": "x" * 17}, 400, "at most the model's context of 16 tokens. Received: 17"),
        ({"model": "\ud800", "user": float("nan")}, 404, "Latest(?)"),
        ({"prompt": "a\ud800"}, 400, "JSON Parse error"),
        (
            {"prompt": "a\ud800", "user": float("nan")},
            400,
            "prompt: holds half a character (a lone surrogate) at character 2",
        ),
        (
            {"max_tokens": 0},
            400,
            "max_tokens: expected a whole number from 1 to 100000. Received: 0",
        ),
        ({"max_tokens": 2.5}, 400, "max_tokens: expected a whole number"),
        ({"temperature": -1}, 400, "temperature: expected a number from 0 to 100"),
        ({"temperature": True}, 400, "temperature: "),
        ({"top_p": 0}, 400, "top_p: "),
        ({"stop": ["a"] * 5}, 400, "stop: expected at most 4 texts"),
        ({"stop": [1]}, 400, "stop: "),
        ({"n": 2}, 400, "n: 2 is not supported"),
        ({"stream": 1}, 400, "stream: expected true or false"),
        ({"lenght": 3}, 400, "lenght: no such parameter"),
        ({"beams": 3, "temperature": 1}, 400, "beams: no such parameter"),
    ],
)
def test_mistakes(desk_loop, body, status, words):
    found, content = desk_loop({"model": "tiny", **body})
    error = json.loads(content)["error"]
    assert (
        found == status and words in error["message"] and error["type"] == "invalid_request_error"
    )


@pytest.fixture(scope="module")
def desk_loop(folder):
    """Asks one desk again and again."""
    with asyncio.Runner() as runner:
        desk = Desk(folder)
        runner.run(desk.__aenter__())
        yield lambda body: runner.run(desk.ask(body))
        runner.run(desk.__aexit__())


def test_who_goes_away_is_not_written_for(folder):
    async def look(desk):
        gone = asyncio.Event()
        asked = asyncio.create_task(
            desk.ask({"model": "tiny", "stream": True, "max_tokens": 100_000}, gone)
        )
        while not desk.texts.running:
            await asyncio.sleep(0.01)
        while desk.catalogue.find("tiny").calls < 4:
            await asyncio.sleep(0.01)
        gone.set()
        await asyncio.wait_for(asked, 20)
        assert desk.monitor.requests[("", "REST", "Completions", "CANCELLED")] == 1
        await asyncio.sleep(0.05)
        calls = desk.catalogue.find("tiny").calls
        await asyncio.sleep(0.1)
        assert desk.catalogue.find("tiny").calls == calls  # no step is computed any more

    on_desk(folder, look)


def test_texts_are_bounded_in_number_and_time(folder):
    async def look(desk):
        endless = [
            asyncio.create_task(desk.stream(prompt=prompt, max_tokens=100_000))
            for prompt in PROMPTS[:2]
        ]
        while desk.texts.running < 2:
            await asyncio.sleep(0.01)
        status, content = await desk.ask({"model": "tiny"})
        assert status == 429 and b"More than 2 texts being written at once" in content
        assert {reason for _, reason, _ in await asyncio.gather(*endless)} == {"abort"}
        last = asyncio.create_task(desk.stream(max_tokens=100_000))
        while not desk.texts.running:
            await asyncio.sleep(0.01)
        desk.texts.ends = asyncio.get_running_loop().time() + 0.1  # as when the server drains
        assert (await last)[1] == "abort"
        status, content = await desk.ask({"model": "tiny"})
        assert status == 503 and b"The server is stopping" in content

    on_desk(folder, look, streams=2, stream_seconds=1.0)


def test_a_text_that_waits_too_long_for_its_turn_is_given_up(folder):
    async def look(desk):
        await desk.whole(max_tokens=2)
        batcher, go_on = desk.catalogue.find("tiny"), threading.Event()
        run = batcher.servable.run

        def busy(signature, inputs):
            go_on.wait(20)
            return run(signature, inputs)

        batcher.servable.run = busy
        desk.texts.limits = Limits(seconds=0.5)
        for streams in (False, True):
            status, content = await asyncio.wait_for(
                desk.ask({"model": "tiny", "stream": streams}), 10
            )
            assert status == 503 and b"No token within 0.5 s: the model is busy" in content
        go_on.set()
        batcher.servable.run = run
        desk.texts.limits = Limits()
        assert desk.texts.running == 0 and (await desk.whole(max_tokens=2))

    on_desk(folder, look)


def test_who_reads_nothing_keeps_no_place(folder):
    async def look(desk):
        await desk.whole(max_tokens=2)  # the programs' first calls are slow
        desk.texts.limits = Limits(stream_seconds=0.5, seconds=0.5)
        asked = asyncio.create_task(
            desk.ask({"model": "tiny", "stream": True, "max_tokens": 100_000}, reads=3)
        )
        assert (await asyncio.wait_for(asked, 20))[0] == 200 and desk.texts.running == 0
        assert desk.monitor.requests[("", "REST", "Completions", "DEADLINE_EXCEEDED")] == 1

    on_desk(folder, look)


def test_a_stream_that_fails_midway_is_counted_and_logged(folder):
    async def look(desk):
        batcher, said = desk.catalogue.find("tiny"), []
        run, desk.application.say = (
            batcher.servable.run,
            lambda event, values: said.append((event, values)),
        )

        def fail(signature, inputs):
            if signature == "step" and inputs["position"][0] > 6:
                raise ValueError("broken")
            return run(signature, inputs)

        batcher.servable.run = fail
        status, content = await desk.ask({"model": "tiny", "stream": True})
        assert (
            status == 200
            and content.endswith(b"data: [DONE]\n\n")
            and b"ValueError: broken" in content
        )
        assert desk.monitor.requests[("", "REST", "Completions", "INTERNAL")] == 1
        assert [event for event, _ in said] == ["error"] and "broken" in said[0][1]["error"]

    on_desk(folder, look)


def test_a_version_that_goes_is_written_with_to_the_end(folder):
    expected = greedy(folder, ("the",))[0]

    async def look(desk):
        batcher = desk.catalogue.find("tiny")
        asked = asyncio.create_task(desk.stream(prompt="the"))
        while not batcher.users:
            await asyncio.sleep(0.001)
        batcher.close()
        assert (await asked)[0] == expected
        batcher.thread.join(20)
        assert not batcher.thread.is_alive()

    on_desk(folder, look)


def test_a_version_that_goes_while_a_prompt_is_read(folder):
    expected, read = greedy(folder, ("the",))[0], threading.Event()

    def slow(saved):
        assert read.wait(20)
        return _read_tokenizer(saved)

    async def look(desk):
        batcher, desk.texts.read = desk.catalogue.find("tiny"), slow
        asked = asyncio.create_task(desk.stream(prompt="the"))
        while not desk.texts.running:
            await asyncio.sleep(0.001)
        # The number of texts counts before a prompt is looked at
        status, content = await desk.ask({"model": "tiny", "prompt": 5})
        assert status == 429, content
        batcher.close()
        await asyncio.sleep(0.05)
        read.set()
        assert (await asyncio.wait_for(asked, 20))[0] == expected
        batcher.thread.join(20)
        assert not batcher.thread.is_alive()
        with pytest.raises(Failure, match="tiny version 1 is no longer served"):
            batcher.submit("prefill", {})

    on_desk(folder, look, streams=1)


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_a_sampled_answer_does_not_depend_on_others(temperature):
    """Requests for what is chosen by a fixed seed and a row's place are not answered together."""
    started, go_on, sizes = threading.Event(), threading.Event(), []

    def call(signature, inputs):
        sizes.append(len(inputs["prompt"]))
        started.set()
        assert go_on.wait(20)
        return {"place": np.arange(len(inputs["prompt"]))}

    async def look():
        by_place = ["serving_default"] if temperature else []
        made = servable.Servable("m", 1, {}, call, {"by_place": by_place})
        batcher = Batcher(made, asyncio.get_running_loop())
        futures = [batcher.submit("serving_default", {"prompt": np.array(["x"])})]
        assert await asyncio.to_thread(started.wait, 20)
        futures += [
            batcher.submit("serving_default", {"prompt": np.array(["x"])}) for _ in range(3)
        ]
        go_on.set()
        places = [found["place"].tolist() for found in await asyncio.gather(*futures)]
        batcher.close()
        return places

    places = asyncio.run(look())
    assert (places, sizes) == (
        ([[0]] * 4, [1] * 4) if temperature else ([[0], [0], [1], [2]], [1, 3])
    )


def test_facts_of_an_artefact_are_checked(folder, tmp_path):
    copy = shutil.copytree(folder / "tiny" / "1", tmp_path / "tiny" / "1")
    path, record = copy / "assets.extra" / "generation.json", artefact.read(copy)
    facts = json.loads(path.read_text())
    steps = {"stepwise": record["stepwise"]}
    for name, value in (
        ("context", "x"),
        ("context", 0),
        ("temperature", float("nan")),
        ("start", ["x"]),
        ("opening", [10**6]),
    ):
        path.write_text(json.dumps({**facts, name: value}))
        artefact.seal(copy, steps)

        async def look(desk, name=name):
            status, content = await desk.ask({"model": "tiny"})
            assert status == 400 and f"generation.json: {name}: of an".encode() in content

        on_desk(tmp_path, look)
    path.write_text(json.dumps(facts))
    for wrong in ({"step": "nope"}, {"carried": ["nope"]}, {"position": "nope"}):
        artefact.seal(copy, {"stepwise": {**record["stepwise"], **wrong}})
        with pytest.raises(UserError, match="stepwise: expected nope among what the model's"):
            servable.load("tiny", 1, copy, "tensorflow", False)
    path.write_text("{")
    artefact.seal(copy, {})
    with pytest.raises(UserError, match="cannot be read"):
        servable.load("tiny", 1, copy, "tensorflow", False)


def test_artefacts_of_schema_1_are_written_with_as_before(folder, tmp_path):
    """They said neither how they are asked step by step nor what depends on a row's place."""
    copy = shutil.copytree(folder / "tiny" / "1", tmp_path / "tiny" / "1")
    record, loaded = artefact.read(copy), tf.saved_model.load(str(copy))
    signatures = {
        name: {
            side: {
                key: {"dtype": spec.dtype.name, "shape": [None] * spec.shape.rank}
                for key, spec in sorted(parts.items())
            }
            for side, parts in (
                ("inputs", function.structured_input_signature[1]),
                ("outputs", function.structured_outputs),
            )
        }
        for name, function in loaded.signatures.items()
    }
    (copy / "artefact.json").write_text(
        json.dumps({"schema": 1, "files": record["files"], "signatures": signatures})
    )
    before = artefact.check(copy)
    assert before["stepwise"] == record["stepwise"]
    assert before["by_place"] == ["generate", "serving_default"]
    expected = greedy(folder, ("the cat",))[0]

    async def look(desk):
        assert (await desk.stream(prompt="the cat"))[:2] == (expected, "length")

    on_desk(tmp_path, look)


@pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium here")
def test_page_writes_in_a_browser(folder, tmp_path):
    expected = greedy(folder, ("the cat",))[0]

    async def look(port):
        async with chromium.Browser(tmp_path / "profile") as browser:
            await browser.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
            await browser.wait_for(
                "document.getElementById('writer')?.hidden === false &&"
                " document.querySelectorAll('#model option').length === 1"
            )
            assert await browser.evaluate("at('asker').hidden && at('max_tokens').value === '40'")
            await browser.evaluate("at('prompt').focus()")
            await browser.call("Input.insertText", text="the cat")
            await browser.key("Enter", control=True)
            await browser.wait_for("at('time').textContent.includes('as long as asked for')")
            assert await browser.evaluate("at('written').textContent") == expected
            assert "40 tokens in" in await browser.evaluate(
                "at('time').textContent"
            ) and "tokens/s" in await browser.evaluate("at('time').textContent")
            if os.environ.get("TFBIG_SCREENSHOT"):
                await browser.screenshot(Path(os.environ["TFBIG_SCREENSHOT"]))
            await browser.evaluate("at('max_tokens').value = 90000; at('prompt').focus()")
            await browser.key("Enter", control=True)
            await browser.wait_for("at('written').textContent.length > 20 && !at('halt').disabled")
            await browser.key("Escape")
            await browser.wait_for(
                "at('halt').disabled && at('time').textContent.includes('stopped')"
            )
            unnamed = await browser.evaluate(
                "[...document.querySelectorAll('select, input, textarea')].filter(e =>"
                " !document.querySelector(`label[for=${e.id}]`)).length"
            )
            assert unnamed == 0
            await browser.evaluate("at('max_tokens').value = 999999999; write()")
            await browser.wait_for(
                "at('wrong').textContent.includes('max_tokens: expected a whole number')"
            )

    with Server(folder) as server:
        asyncio.run(look(server.port))
        cancelled = (
            'request_count{model_name="",API="REST",entrypoint="Completions",status="CANCELLED"} 1'
        )
        end = time.monotonic() + 20
        while cancelled not in server.ask("GET", "/monitoring/prometheus/metrics")[1]:
            assert time.monotonic() < end
            time.sleep(0.1)
        code, _ = server.stop()
        assert code == 0


def test_what_a_model_refuses_is_told_in_its_own_words():
    message = "assertion failed: [text: expected [MASK] at least once in each]\n\t [[{{node x}}]]"
    assert servable._reason(message) == "text: expected [MASK] at least once in each"
