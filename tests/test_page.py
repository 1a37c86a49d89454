"""The server's page: a widget for each medium, and something to show for each kind of answer.

In a browser, before a stub of the server; TFBIG_SCREENSHOTS names a folder for pictures of it.
"""

import asyncio
import base64
import io
import json
import os
import threading
import time
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import chromium
import numpy as np
import pytest
from PIL import Image

from tfbig.core.serving import KINDS, MEDIA
from tfbig.data.bricks import Bricks
from tfbig.data.keys_and_doors import KeysAndDoors
from tfbig.deploy.server import rest
from tfbig.prep import recordings

pytestmark = pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium here")

ROW = [-1]
BARS = {"labels": ["猫", "שלום", "<b>dog</b>"], "probabilities": [0.7, 0.2, 0.1]}
BAR_KINDS = {"label": "label", "labels": "label", "probabilities": "probabilities"}


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


def encoded(picture, form="PNG", **more):
    buffer = io.BytesIO()
    picture.save(buffer, form, **more)
    return buffer.getvalue()


def models():
    """name -> (its part of models.json, the answer to any row)."""
    tone = recordings.wav(np.sin(np.arange(4000) / 5), 8000)
    red = [[[200, 30, 30]] * 12] * 8

    def model(inputs, takes, gives, forms, answer, **more):
        media = {"takes": takes, "gives": gives, "forms": forms, "signature": "for_people"}
        given = {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in inputs.items()}
        return {"inputs": given, "media": media, "labels": [], **more}, answer

    text, words = {"x": ("string", ROW)}, {"label": BARS["labels"][0], **BARS}
    return {
        "picture": model(text, {"x": "picture"}, BAR_KINDS, {"x": {"shape": [32, 32, 3]}}, words),
        "boxes": model(
            text,
            {"x": "picture"},
            {"places": "boxes", "names": "label", "sure": "probabilities"},
            {"x": {"shape": [64, 96, 3]}},
            {
                "places": [[2, 3, 20, 30], [9, 20, 30, 45], [5, 5, 9, 9], [0, 0, 0, 0]],
                "names": ["cat", "dog", "cat", ""],
                "sure": [0.9, 0.6, 0.1, 0],
            },
        ),
        "text": model(text, {"x": "text"}, {"said": "text"}, {}, "مرحبا <i>بالعالم</i>"),
        "translation": model(
            text,
            {"x": "text"},
            {"said": "text", "to": "pieces", "from": "pieces", "attention": "alignment"},
            {},
            {
                "said": "two dogs",
                "to": ["two", " dogs", "∎", ""],
                "from": ["zwei", " Hunde", " ", "∎", "", ""],
                "attention": [
                    [0.9, 0.1, 0, 0, 0, 0],
                    [0.2, 0.7, 0, 0.1, 0, 0],
                    [0, 0, 0, 1, 0, 0],
                    [0] * 6,
                ],
            },
        ),
        "samples": model(
            text,
            {"x": "samples"},
            {"said": "text", "times": "words", "spoken": "audio", "score": "number"},
            {"x": {"rate_hz": 8000, "most": 8000}},
            {
                "said": "yes no",
                "times": "0.10 0.30 yes\n0.32 0.90 no",
                "spoken": b64(tone),
                "score": 0.12345678,
            },
        ),
        "video": model(
            {"x": ("string", [-1, 3])},
            {"x": "video"},
            {
                "names": "label",
                "chances": "probabilities",
                "still": "picture",
                "in_time": "timeline",
            },
            {"x": {"frames": 3, "shape": [8, 8, 3]}},
            {
                "names": ["moving", "at rest"],
                "chances": [0.75, 0.25],
                "still": red,
                "in_time": [[0.1, 0.9], [0.6, 0.4], [0.75, 0.25]],
            },
        ),
        "bricks": model(
            {"observation": ("uint8", [-1, 10, 10, 4])},
            {"observation": "state"},
            {"actions": "label", "chances": "probabilities", "value": "number"},
            {"observation": {"shape": [10, 10, 4], "game": Bricks(sticky=0.0).rules}},
            {
                "action": 1,
                "actions": ["left", "stay", "right"],
                "chances": [0.7, 0.2, 0.1],
                "value": 1.5,
            },
        ),
        "keys": model(
            {"legal": ("uint8", [-1, 4]), "observation": ("uint8", [-1, 7, 7, 6])},
            {"observation": "state", "legal": "state"},
            {"value": "number"},
            {
                "observation": {"shape": [7, 7, 6], "game": KeysAndDoors().rules},
                "legal": {"shape": [4], "legal_of": "observation"},
            },
            {"action": 0, "value": 0.25},
        ),
        "sequence": model(
            text,
            {"x": "sequence"},
            {"score": "number"},
            {"x": {"letters": "ACGTN", "most": 12}},
            -2.5,
        ),
        "dna": model(
            text,
            {"x": "sequence"},
            {**BAR_KINDS, "effect": "effects"},
            {"x": {"letters": "ACGTN", "most": 12}},
            {**BARS, "effect": [[0, -1, -2.25, -1], [-0.5, 0, 1.5, -0.25]]},
        ),
        "state": model(
            {"board": ("int8", [-1, 3, 3]), "turn": ("int32", ROW)},
            {"board": "state", "turn": "tokens"},
            {"board": "state", "move": "tokens"},
            {"board": {"shape": [3, 3], "low": -1, "high": 1}},
            {"board": [[0, 1, 0], [0, 0, 0], [0, 0, -1]], "move": [4]},
        ),
        "tokens": model(
            {"ids": ("int32", [-1, -1])}, {"ids": "tokens"}, {"ids": "tokens"}, {}, [3, 1, 2]
        ),
        "unknown": model({"a": ("float32", [-1, 2]), "b": ("string", ROW)}, {}, {}, {}, {"c": 1}),
    }


class Stub(ThreadingHTTPServer):
    """A server of these models that keeps what it is asked."""

    def __init__(self):
        self.models, self.asked = models(), []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        listed = [
            {
                "name": name,
                "version": 1,
                "state": "AVAILABLE",
                "metrics": {"accuracy": 0.98},
                **part,
            }
            for name, (part, _) in self.server.models.items()
        ]
        found = {"/": rest.page(), "/models.json": json.dumps({"models": listed}).encode()}
        self.answer(found.get(self.path, b""), "text/html" if self.path == "/" else rest.JSON)

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = self.path.split("/")[3]
        assert content["signature_name"] == "for_people"
        self.server.asked.append((name, content["instances"][0]))
        answer = {"predictions": [self.server.models[name][1]]}
        self.answer(json.dumps(answer).encode(), rest.JSON)

    def answer(self, content, kind):
        self.send_response(200)
        self.send_header("content-type", kind if isinstance(kind, str) else kind.decode())
        self.send_header("content-security-policy", rest.POLICY.decode())
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Page:
    """The page of a stub in a browser."""

    def __init__(self, browser, stub):
        self.browser, self.stub = browser, stub

    async def choose(self, name):
        place = list(self.stub.models).index(name)
        await self.browser.evaluate(
            f"at('model').selectedIndex = {place}; at('model').dispatchEvent(new Event('change'))"
        )

    async def files(self, *paths):
        root = (await self.browser.call("DOM.getDocument"))["root"]["nodeId"]
        node = await self.browser.call(
            "DOM.querySelector", nodeId=root, selector="#inputs input[type=file]"
        )
        await self.browser.call(
            "DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node["nodeId"]
        )

    async def type(self, selector, text):
        await self.browser.evaluate(f"document.querySelector('{selector}').select()")
        await self.browser.call("Input.insertText", text=text)

    async def answered(self):
        """What was sent, once the answer is shown."""
        await self.browser.wait_for("at('answer').childElementCount || at('wrong').textContent")
        assert await self.browser.evaluate("at('wrong').textContent") == ""
        return self.stub.asked[-1][1]

    async def answered_after(self, count):
        """Once more than so many rows were asked about and answered."""
        end = time.monotonic() + 30
        while len(self.stub.asked) <= count:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        return await self.answered()

    async def ask(self):
        await self.browser.evaluate("at('answer').replaceChildren(); at('ask').click()")
        return await self.answered()

    async def look(self, name):
        """No part leaves the window, phone or desktop; a picture of both, if they are wanted."""
        folder = os.environ.get("TFBIG_SCREENSHOTS")
        for width in (390, 1280):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            await self.browser.call("Emulation.setDeviceMetricsOverride", **size)
            assert await self.browser.evaluate(
                "document.documentElement.scrollWidth <= window.innerWidth"
            ), (name, width)
            if folder:
                await self.browser.screenshot(Path(folder) / f"{name}_{width}.png")

    def text(self):
        return self.browser.evaluate("at('answer').innerText")


def in_browser(tmp_path, look, options=()):
    async def start():
        stub = Stub()
        try:
            async with chromium.Browser(tmp_path / "profile", options) as browser:
                url = f"http://127.0.0.1:{stub.server_port}/"
                await browser.call("Page.navigate", url=url)
                await browser.wait_for("document.getElementById('model')?.options.length > 1")
                await look(Page(browser, stub))
                unnamed = (
                    "[...document.querySelectorAll('select, input, textarea')].filter(e =>"
                    " !e.ariaLabel && !document.querySelector(`label[for=${e.id}]`)).length"
                )
                assert await browser.evaluate(unnamed) == 0
        finally:
            stub.shutdown()

    asyncio.run(start())


def test_every_medium_has_a_widget_and_every_kind_an_answer(tmp_path):
    async def look(page):
        for medium in MEDIA:
            assert await page.browser.evaluate(f"typeof WIDGETS.{medium} === 'function'"), medium
        for kind in KINDS:
            assert await page.browser.evaluate(f"typeof ANSWERS.{kind} === 'function'"), kind

    in_browser(tmp_path, look)


def test_a_translation_shows_what_each_piece_looked_at(tmp_path):
    async def look(page):
        await page.choose("translation")
        await page.type("#given_x", "zwei Hunde")
        assert await page.ask() == {"x": "zwei Hunde"}
        rows = "JSON.stringify([...document.querySelectorAll('.alignment tr')].map(row =>"
        rows += " [row.cells[0].textContent, row.cells.length]))"
        found = json.loads(await page.browser.evaluate(rows))
        assert found == [["", 5], ["two", 5], [" dogs", 5], ["∎", 5]]
        titles = (
            "[...document.querySelectorAll('.alignment td[title]')].map(one => one.title).join()"
        )
        assert " dogs looks at  Hunde: 70 %" in await page.browser.evaluate(titles)
        await page.look("translation")

    in_browser(tmp_path, look)


def test_pictures_and_boxes(tmp_path):
    Image.fromarray(np.full((40, 90, 3), 90, np.uint8)).save(tmp_path / "it.png")

    async def look(page):
        await page.choose("picture")
        await page.browser.evaluate("at('ask').click()")
        await page.browser.wait_for("at('wrong').textContent.startsWith('Draw something')")
        await page.browser.evaluate("at('clear').click()")
        await page.files(tmp_path / "it.png")
        sent = await page.answered()
        assert sent == {"x": b64((tmp_path / "it.png").read_bytes())}
        shown = await page.text()
        assert shown.startswith("猫") and "שלום" in shown and "<b>dog</b>" in shown
        assert shown.count("%") == 3 and "70.0 %" in shown
        await page.look("picture")
        await page.choose("boxes")
        await page.files(tmp_path / "it.png")
        await page.answered()
        size = "JSON.stringify([document.querySelector('#answer canvas').ariaLabel,"
        size += "document.querySelector('#answer canvas').width / "
        size += "document.querySelector('#answer canvas').height])"
        label, ratio = json.loads(await page.browser.evaluate(size))
        assert label == "boxes: 1 cat, 1 dog, of a score of at least 30 %"
        assert abs(ratio - 90 / 40) < 0.02
        slider = "const least = document.querySelector('#answer input'); least.value = 0;"
        await page.browser.evaluate(slider + "least.dispatchEvent(new Event('input'))")
        assert json.loads(await page.browser.evaluate(size))[0].startswith("boxes: 2 cat, 1 dog")
        await page.look("boxes")

    in_browser(tmp_path, look)


def test_recordings(tmp_path):
    samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    (tmp_path / "it.wav").write_bytes(recordings.wav(samples, 16_000))

    async def look(page):
        await page.choose("samples")
        await page.files(tmp_path / "it.wav")
        sent = await page.answered()
        content = base64.b64decode(sent["x"]["b64"])
        with wave.open(io.BytesIO(content)) as file:
            form = file.getframerate(), file.getnchannels(), file.getsampwidth()
            levels = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert form == (8000, 1, 2) and len(levels) == 8000
        assert np.argmax(np.abs(np.fft.rfft(levels))) == 440
        assert abs(np.abs(levels).max() / 32768 - 0.5) < 0.03
        shown = await page.text()
        assert "yes no" in shown and "0.1235" in shown
        assert "yes 0.10–0.30 s, no 0.32–0.90 s" in shown
        playing = "document.querySelector('#answer audio').readyState > 0"
        await page.browser.wait_for(playing, 20)
        await page.look("samples")

    in_browser(tmp_path, look)


def test_videos(tmp_path):
    frames = [Image.fromarray(np.full((20, 30, 3), 40 * i, np.uint8)) for i in range(6)]
    (tmp_path / "it.gif").write_bytes(
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    )
    for i, frame in enumerate(frames):
        frame.save(tmp_path / f"{i}.png")

    async def look(page):
        await page.choose("video")
        for given in (["it.gif"], [f"{i}.png" for i in range(6)]):
            await page.browser.evaluate("at('clear').click()")
            await page.files(*(tmp_path / name for name in given))
            sent = (await page.answered())["x"]
            pictures = [Image.open(io.BytesIO(base64.b64decode(part["b64"]))) for part in sent]
            greys = [int(np.asarray(picture.convert("L")).mean()) for picture in pictures]
            assert greys == [40, 120, 200] and pictures[0].size == (30, 20)
        assert "moving" in await page.text() and "75.0 %" in await page.text()
        assert "— moving — at rest" in " ".join((await page.text()).split())
        await page.look("video")

    in_browser(tmp_path, look)


def test_letters_and_numbers(tmp_path):
    async def look(page):
        await page.choose("text")
        await page.type("#given_x", "ein Wort\nمرحبا")
        assert await page.ask() == {"x": "ein Wort\nمرحبا"}
        assert "<i>بالعالم</i>" in await page.text()
        await page.look("text")
        await page.choose("sequence")
        await page.type("#given_x", ">one\nac gt\nN")
        assert await page.ask() == {"x": "ACGTN"} and "-2.5" in await page.text()
        await page.look("sequence")
        await page.type("#given_x", "ACxT")
        await page.browser.evaluate("at('ask').click()")
        await page.browser.wait_for("at('wrong').textContent.includes('X, at letter 3')")
        await page.choose("dna")
        await page.type("#given_x", ">two\nac")
        assert await page.ask() == {"x": "AC"}
        assert "Strongest: A1G -2.25, C2G +1.50" in await page.text()
        await page.look("dna")
        await page.choose("state")
        await page.type("#given_board_4", "-1")
        await page.type("#given_turn", "7")
        assert await page.ask() == {"board": [[0, 0, 0], [0, -1, 0], [0, 0, 0]], "turn": 7}
        assert "[0,0,-1]" in await page.text()
        await page.look("state")
        await page.type("#given_board_4", "5")
        await page.browser.evaluate("at('ask').click()")
        await page.browser.wait_for("at('wrong').textContent.includes('row 2, column 2')")
        await page.choose("tokens")
        await page.type("#given_ids", "1, 2 3")
        assert await page.ask() == {"ids": [1, 2, 3]} and "3 1 2" in await page.text()
        await page.choose("unknown")
        await page.type("#given_a", "[1.5, 2]")
        assert await page.ask() == {"a": [1.5, 2], "b": ""} and (await page.text()).split() == [
            "c",
            "1",
        ]
        await page.look("unknown")

    in_browser(tmp_path, look)


def test_a_game_is_played_and_watched(tmp_path):
    """What is sent is what the package's own game shows after the same actions."""

    async def look(page):
        await page.choose("bricks")
        await page.browser.evaluate("at('game_observation').focus()")
        sent = []
        for key in ("ArrowLeft", "ArrowLeft", "ArrowRight"):
            before = len(page.stub.asked)
            await page.browser.key(key)
            await page.answered_after(before)
            sent.append(np.array(page.stub.asked[-1][1]["observation"]))
        own = Bricks(sticky=0.0).environments(np.array([0]))
        mirrored = sent[0][..., 1].argmax() % 10 > 5  # the ball came from the right
        own.column[:], own.right[:] = (9, -1) if mirrored else (0, 1)
        for action, seen in zip((1, 1, 2), sent, strict=True):
            own.step(np.array([action]))
            expected = own.observe()["observation"][0].copy()
            np.testing.assert_array_equal(seen[..., [0, 1, 3]], expected[..., [0, 1, 3]])
        assert "left" in await page.text() and "1.5" in await page.text()
        watch = "document.querySelector('#inputs .row button')"
        await page.browser.evaluate(watch + ".click()")
        over = "document.querySelector('#inputs .soft').textContent.includes('over')"
        await page.browser.wait_for(over)
        assert await page.browser.evaluate(watch + ".disabled")
        assert not await page.browser.evaluate("document.querySelector('.curve').hidden")
        await page.look("bricks")
        await page.choose("keys")
        enabled = "JSON.stringify([...document.querySelectorAll('#inputs .row + .row button')]"
        enabled = json.loads(await page.browser.evaluate(enabled + ".map(one => !one.disabled))"))
        sent = await page.ask()
        assert [bool(one) for one in sent["legal"]] == enabled
        legal = KeysAndDoors().legal(np.array([sent["observation"]], np.uint8))
        assert legal[0].tolist() == sent["legal"]
        await page.look("keys")

    in_browser(tmp_path, look)
