"""The REST protocol of TensorFlow Serving as an ASGI application.

See its api_rest.md and http_rest_api_handler.cc.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from importlib import resources
from urllib.parse import unquote

from tfbig.core.lazy import np
from tfbig.deploy.server import (
    completions,
    examples,
    json_answers,
    json_format,
    messages,
    monitoring,
    writing,
)
from tfbig.deploy.server.admission import Admission
from tfbig.deploy.server.batching import is_one_row
from tfbig.deploy.server.catalogue import Catalogue
from tfbig.deploy.server.servable import DEFAULT
from tfbig.deploy.server.status import Failure, invalid

ASK = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d{1,18})|/labels/([^/:]+))?:(classify|regress|predict)",
    re.IGNORECASE,
)
LOOK = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d{1,18})|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE
)
JSON, HTML, PLAIN = b"application/json", b"text/html; charset=utf-8", b"text/plain; version=0.0.4"
POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self'"
    b" blob: data:; media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    b" frame-ancestors 'none'"
)


class Rest:
    """The application. `draining` makes /healthz say so while the last requests are answered."""

    def __init__(
        self,
        catalogue: Catalogue,
        monitor: monitoring.Monitor,
        admission: Admission,
        written: completions.Completions,
        say,
        log_requests: bool = False,
    ):
        self.catalogue = catalogue
        self.monitor = monitor
        self.admission = admission
        self.say = say
        self.log_requests = log_requests
        self.written = written
        self.limits = admission.limits
        self.draining = False
        self.page = page()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            return
        started = time.perf_counter()
        method = scope["method"]
        path = scope["raw_path"].decode("latin-1").partition("?")[0]
        model = name = ""
        code, status, kind, body = "OK", 200, JSON, None
        try:
            self.admission.check_names(scope["headers"])
            asked = ASK.fullmatch(path) if method == "POST" else None
            if asked:
                model = unquote(asked[1])
                name = asked[4].lower()
                body = await self._admitted(scope, receive, model, asked, name)
            elif method == "POST" and path in (completions.PATH, completions.CHAT):
                name = "completions"
                model = await self._write(scope, path, receive, send)
            else:
                status, kind, body = await self._get(scope, method, path, receive)
        except Failure as failure:
            code = failure.code
            status = failure.http
            body = self._refusal(failure, name, path)
        except TimeoutError:
            code = "DEADLINE_EXCEEDED"
            status = 504
            body = _error(f"No answer within {self.limits.seconds:g} s")
        except (asyncio.CancelledError, ConnectionError):
            code, status = "CANCELLED", 499
            raise
        except Exception as error:
            code = "INTERNAL"
            status = 500
            body = _error(f"{type(error).__name__}")
            self.say(
                "error", {"path": path[:200], "error": f"{type(error).__name__}: {error}"[:500]}
            )
        finally:
            seconds = time.perf_counter() - started
            if name:
                self.monitor.count(model, "REST", name.capitalize(), code, seconds)
            if self.log_requests:
                self.say(
                    "request",
                    {
                        "client": (scope.get("client") or [None])[0],
                        "method": method,
                        "path": path[:200],
                        "status": status,
                        "ms": round(seconds * 1e3, 3),
                    },
                )
        if body is not None and code != "CANCELLED":
            await _send(send, status, kind, body)

    def _refusal(self, failure: Failure, name: str, path: str) -> bytes | None:
        """What a client is answered instead; None where it knows already, which is logged."""
        if failure.told:
            reason = f"{failure.code}: {failure.__cause__ or failure}"
            self.say("error", {"path": path[:200], "error": reason[:500]})
            return None
        if name == "completions":
            return json_answers.dumps(completions.error(failure))
        return _error(failure.message)

    async def _write(self, scope, path: str, receive, send) -> str:
        """Answers a request for a completion.

        It takes a place among the texts being written, not a slot among quick requests.
        """
        self.admission.check_token(_header(scope, b"authorization"))
        content = await self.admission.read(scope["headers"], receive)
        try:
            if path == completions.CHAT:
                raise completions.no_chat()
            return await self.written.answer(content, receive, send)
        finally:
            self.admission.release(content)

    async def _admitted(self, scope, receive, model: str, asked, method: str) -> bytes:
        """The answer to a request for predictions.

        Its body is read once its token is right, and it takes a slot once its body has come.
        """
        self.admission.check_token(_header(scope, b"authorization"))
        self.admission.full()
        content = await self.admission.read(scope["headers"], receive)
        try:
            self.admission.enter()
            try:
                async with asyncio.timeout(self.limits.seconds):
                    return await self._ask(model, asked[2], asked[3], method, content, receive)
            finally:
                self.admission.leave()
        finally:
            self.admission.release(content)

    async def _get(self, scope, method: str, path: str, receive) -> tuple[int, bytes, bytes]:
        """Everything but predictions: health, page, metrics, status, metadata."""
        if method == "GET" and path == "/healthz":
            return self._health()
        if method == "GET" and path == "/":
            return 200, HTML, self.page
        self.admission.check_token(_header(scope, b"authorization"))
        if method == "GET" and path == monitoring.PATH:
            return 200, PLAIN, self.monitor.text().encode()
        if method == "GET" and path == "/models.json":
            return 200, JSON, self._overview()
        if method == "GET" and path.rstrip("/").lower() == completions.MODELS:
            return 200, JSON, json_answers.dumps(completions.models(self.catalogue))
        look = LOOK.fullmatch(path) if method == "GET" else None
        if look is None:
            self.admission.release(await self.admission.read(scope["headers"], receive))
            if not path.lower().startswith("/v1/"):
                raise Failure("NOT_FOUND", f"Not found: {method} {path}")
            raise invalid(f"Malformed request: {method} {path}")
        model = unquote(look[1])
        version = int(look[2]) if look[2] else None
        label = unquote(look[3]) if look[3] else None
        if look[4]:
            servable = self.catalogue.find(model, version, label).servable
            return 200, JSON, messages.metadata_json(servable)
        states = self.catalogue.states(model, version, label)
        shown = [
            {
                "version": str(n),
                "state": state,
                "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
            }
            for n, state, error in states
        ]
        document = json.dumps({"model_version_status": shown}, indent=1, ensure_ascii=False)
        return 200, JSON, document.encode()

    def _health(self) -> tuple[int, bytes, bytes]:
        state = "ok" if self.catalogue.serves() else "no model is loaded"
        if self.draining:
            state = "draining"
        return 200 if state == "ok" else 503, JSON, json_answers.dumps({"status": state})

    def _overview(self) -> bytes:
        """What the page shows: each model's versions, states, signature and labels."""
        shown = []
        for name, entry in sorted(self.catalogue.entries.items()):
            for number, version in sorted(entry.versions.items(), reverse=True):
                facts = {
                    "name": name,
                    "version": number,
                    "state": version.state,
                    "error": version.error,
                }
                if version.batcher:
                    loaded = version.batcher.servable
                    media = loaded.record.get("media", {})
                    asked = media.get("signature", DEFAULT)
                    facts["inputs"] = messages.shapes(loaded.signatures.get(asked))
                    facts["tensors"] = messages.shapes(loaded.signatures.get("tensors"))
                    facts["writes"] = writing.defaults(loaded)
                    facts["media"] = media
                    facts["labels"] = loaded.record.get("labels", [])
                    facts["purpose"] = loaded.record.get("purpose", "")
                    facts["metrics"] = {
                        key: m["value"]
                        for key, m in loaded.record.get("metrics", {}).get("metrics", {}).items()
                    }
                shown.append(facts)
        return json_answers.dumps({"models": shown})

    async def _ask(
        self, model: str, version: str | None, label: str | None, method: str, body: bytes, receive
    ) -> bytes:
        choice = (model, int(version) if version else None, unquote(label) if label else None)
        servable = self.catalogue.find(*choice).servable
        read = _read_predict if method == "predict" else _read_examples
        if len(body) > json_format.LARGE:  # others are answered meanwhile
            loop = asyncio.get_running_loop()
            request = await loop.run_in_executor(None, read, servable, method, body)
        else:
            request = read(servable, method, body)
        name, inputs, by_row, pixels = request
        batcher = self.catalogue.find(*choice)  # the version may have been replaced meanwhile
        if batcher.servable is not servable:
            batcher.servable.signature(name)
            pixels = batcher.servable.check(name, inputs)
        size = batcher.servable.answer_bytes(name, inputs)
        if method != "predict":  # a context stands in each example
            size += examples.size(inputs[examples.INPUTS])
        # Held: another version may take its place before it is asked.
        with self.admission.holding(size), batcher.held():
            answer = batcher.ask(name, inputs, self.admission.running == 1, pixels)
            outputs = await (answer if is_one_row(inputs) else _unless_gone(answer, receive))
            if method == "predict":
                write = json_answers.predictions
                if sum(value.nbytes for value in outputs.values()) <= json_format.LARGE:
                    return write(outputs, by_row)
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, write, outputs, by_row)
        rows = len(inputs[examples.INPUTS])
        results = examples.classifications if method == "classify" else examples.regressions
        return json_answers.dumps({"results": results(outputs, rows)})


def page() -> bytes:
    """The page on which models are tried, with all that it needs inside."""
    folder = resources.files("tfbig.deploy.server")

    def inserted(place: re.Match) -> str:
        return folder.joinpath(place[1]).read_text("utf-8").rstrip()

    html = folder.joinpath("page.html").read_text("utf-8")
    return re.sub(r"\{\{(.*)\}\}", inserted, html).encode()


async def _unless_gone(answer, receive):
    """What is awaited; it is cancelled if the client goes away before."""
    answering = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(completions.gone(receive))
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise Failure("CANCELLED", "The client went away")
        return answering.result()
    finally:
        gone.cancel()
        answering.cancel()


def _read_predict(servable, _: str, body: bytes) -> tuple[str, dict, bool, np.ndarray | None]:
    """A predict request's signature, inputs, whether they came by row, and their pixels.

    The document's many small lists end here.
    """
    if DEFAULT in servable.signatures:
        plain = json_format.plain_rows(body, servable.signatures[DEFAULT].inputs)
        if plain is not None:
            return DEFAULT, plain, True, servable.check(DEFAULT, plain)
    document = json_format.parse(body)
    name = json_format.signature_name(document)
    inputs, by_row = json_format.predict_inputs(document, servable.signature(name).inputs)
    return name or DEFAULT, inputs, by_row, servable.check(name or DEFAULT, inputs)


def _read_examples(servable, method: str, body: bytes) -> tuple[str, dict, bool, np.ndarray | None]:
    """A classify or regress request's signature, serialised examples, and their pixels."""
    document = json_format.parse(body)
    name, inputs = examples.prepare(
        servable, json_format.signature_name(document), method, examples.from_json(document)
    )
    return name, inputs, True, servable.check(name, inputs)


def _header(scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _error(message: str) -> bytes:
    return json.dumps({"error": message}, ensure_ascii=False).encode("utf-8", "replace")


async def _send(send, status: int, kind: bytes, body: bytes) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if kind == HTML:
        headers += [(b"content-security-policy", POLICY), (b"cache-control", b"no-cache")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 408:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
