"""Drives Debian's headless Chromium through its DevTools protocol, for the test of the server's
page.
"""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from pathlib import Path

from tornado.websocket import websocket_connect

BINARY = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


class Browser:
    """A page in a headless browser; use as an async context manager."""

    def __init__(self, profile: Path, options: tuple[str, ...] = ()):
        self.profile, self.options, self.number = profile, options, 0

    async def __aenter__(self):
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--window-size=900,700",
        ]
        command = [
            BINARY,
            *options,
            *self.options,
            "--remote-debugging-port=0",
            f"--user-data-dir={self.profile}",
            "about:blank",
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port = self.profile / "DevToolsActivePort"
        await self.until(lambda: port.exists() and len(port.read_text().split()) == 2, 60)
        number, path = port.read_text().split()
        self.socket = await websocket_connect(
            f"ws://127.0.0.1:{number}{path}", max_message_size=64 << 20
        )
        self.session = None
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self.session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))[
            "sessionId"
        ]
        return self

    async def __aexit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)

    async def call(self, method: str, **parameters):
        self.number += 1
        message = {
            "id": self.number,
            "method": method,
            "params": parameters,
            **({"sessionId": self.session} if self.session else {}),
        }
        await self.socket.write_message(json.dumps(message))
        while True:
            answer = json.loads(await asyncio.wait_for(self.socket.read_message(), 60))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    async def evaluate(self, expression: str):
        result = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_for(self, expression: str, seconds: float = 60):
        """Waits until an expression is true, and returns its value."""
        end = time.monotonic() + seconds
        while not (value := await self.evaluate(expression)):
            assert time.monotonic() < end, (
                f"never true: {expression}\n{await self.evaluate('document.body.innerText')}"
            )
            await asyncio.sleep(0.05)
        return value

    async def draw(self, points):
        """One stroke of the mouse through these points of the window."""
        (x, y), *others = points
        await self.call(
            "Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1
        )
        for x, y in others:
            await self.call(
                "Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1
            )
        await self.call(
            "Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1
        )

    async def key(self, key: str, shift: bool = False, control: bool = False):
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                modifiers=8 * shift + 2 * control,
            )

    async def screenshot(self, path: Path):
        path.write_bytes(
            base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
        )

    @staticmethod
    async def until(condition, seconds: float):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the browser did not start"
            await asyncio.sleep(0.05)
