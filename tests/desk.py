"""What tests of streamed texts share: the server's application, asked without a network."""

import asyncio
import json

from tfbig.deploy.server.admission import Admission, Limits
from tfbig.deploy.server.catalogue import Catalogue
from tfbig.deploy.server.completions import Completions
from tfbig.deploy.server.monitoring import Monitor
from tfbig.deploy.server.rest import Rest
from tfbig.serve import _read_tokenizer


class Desk:
    """The application without a network: ask(body) -> (status, content) while `with` goes on."""

    def __init__(self, folder, engine="tensorflow", **limits):
        self.folder, self.engine, self.admission = folder, engine, Admission(Limits(**limits))

    async def __aenter__(self):
        self.catalogue = Catalogue(self.folder, self.engine, False, lambda event, values: None)
        await self.catalogue.refresh()
        self.texts, self.monitor = (
            Completions(self.catalogue, self.admission, _read_tokenizer),
            Monitor(),
        )
        self.application = Rest(
            self.catalogue, self.monitor, self.admission, self.texts, lambda event, values: None
        )
        return self

    async def __aexit__(self, *_):
        self.catalogue.close()
        assert self.admission.held == self.admission.running == self.texts.running == 0

    async def ask(self, body, gone=None, reads=None):
        pieces, status = [], []
        waiting = [{"type": "http.request", "body": json.dumps(body).encode()}]

        async def receive():
            if not waiting:
                await (gone or asyncio.Event()).wait()
                return {"type": "http.disconnect"}
            return waiting.pop()

        async def send(message):
            if len(pieces) == reads:  # a connection whose client does not read
                await asyncio.Event().wait()
            if "status" in message:
                status.append(message["status"])
            else:
                pieces.append(message["body"])

        await self.application(
            {"type": "http", "method": "POST", "raw_path": b"/v1/completions", "headers": []},
            receive,
            send,
        )
        return (status or [499])[0], b"".join(pieces)

    async def stream(self, **body):
        """(text, reason, pieces) of a streamed answer."""
        status, content = await self.ask({"model": "tiny", "stream": True, **body})
        assert status == 200 and content.endswith(b"data: [DONE]\n\n"), content
        events = [json.loads(part.removeprefix(b"data: ")) for part in content.split(b"\n\n")[:-2]]
        assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None] * (
            len(events) - 1
        )
        pieces = [event["choices"][0]["text"] for event in events]
        return "".join(pieces), events[-1]["choices"][0]["finish_reason"], pieces

    async def whole(self, **body):
        status, content = await self.ask({"model": "tiny", **body})
        assert status == 200, content
        return json.loads(content)


def on_desk(folder, look, **options):
    async def go():
        async with Desk(folder, **options) as desk:
            return await look(desk)

    return asyncio.run(go())
