"""The server's page records, with a file in place of a microphone."""

import asyncio
import base64
import io
import wave

import chromium
import numpy as np
import pytest
import test_page

from tfbig.prep import recordings

pytestmark = pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium here")


def test_what_a_microphone_hears_is_sent(tmp_path):
    """The pitch stays, and stands in the spectrogram."""
    samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    (tmp_path / "it.wav").write_bytes(recordings.wav(samples, 48_000))
    options = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'it.wav'}",
    )

    async def look(page):
        await page.choose("samples")
        record = "[...document.querySelectorAll('#inputs button')][0]"
        await page.browser.evaluate(f"{record}.click()")
        await page.browser.wait_for(f"{record}.textContent === 'Stop'")
        await asyncio.sleep(0.8)
        await page.browser.evaluate(f"{record}.click()")
        sent = await page.answered()
        with wave.open(io.BytesIO(base64.b64decode(sent["x"]["b64"]))) as file:
            assert file.getframerate() == 8000
            levels = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert len(levels) > 1600 and np.abs(levels).max() > 3000
        spectrum = np.abs(np.fft.rfft(levels * np.hanning(len(levels))))
        assert abs(np.argmax(spectrum) * 8000 / len(levels) - 440) < 10
        brightest = "(() => { const view = document.querySelectorAll('#inputs canvas')[1];"
        brightest += "const data = view.getContext('2d').getImageData(320, 0, 1, 144).data;"
        brightest += "const sums = [...Array(144).keys()].map(y => data[4*y] + data[4*y + 1]);"
        brightest += "return 143 - sums.indexOf(Math.max(...sums)); })()"
        row = await page.browser.evaluate(brightest)
        assert abs(row - 144 * np.log1p(440 / 700) / np.log1p(4000 / 700)) < 3

    test_page.in_browser(tmp_path, look, options)
