"""POST /v1/completions.

Text from language models, whole or as server-sent events, in the form of OpenAI's completions API.

Its clients also list the models (GET /v1/models); chats (POST /v1/chat/completions) are refused in
the API's form.
Parameters: model (NAME or NAME/VERSION), prompt, max_tokens, temperature, top_p, top_k, seed, stop,
stream; what is left out is as the artefact says. `finish_reason` is "stop", "length", or "abort"
where the server ended the text.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from tfbig.deploy.server import json_answers, json_format, writing
from tfbig.deploy.server.admission import Admission
from tfbig.deploy.server.catalogue import Catalogue
from tfbig.deploy.server.loading import beside
from tfbig.deploy.server.status import Failure, invalid
from tfbig.deploy.server.writing import Choice, Writer

PATH, CHAT, MODELS = "/v1/completions", "/v1/chat/completions", "/v1/models"
NEUTRAL = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
READ = {
    "model",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "user",
}
MOST_STOPS, LONGEST_STOP = 4, 200
EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


class Completions:
    """The endpoint.

    Args:
        catalogue, admission: the models, and what protects the server.
        read: from the content of tokenizer.json and generation.json to (tokenizer, reader, plain)
            as `Writer` takes them; None: no texts are written.

    Attributes:
        running: texts being written.
        ends: the time of the event loop at which all of them end; set when the server drains.
    """

    def __init__(self, catalogue: Catalogue, admission: Admission, read: Callable | None):
        self.catalogue = catalogue
        self.admission = admission
        self.read = read
        self.limits = admission.limits
        self.running = 0
        self.ends = float("inf")
        self.writers: WeakKeyDictionary = WeakKeyDictionary()
        self.numbers = itertools.count(1)

    async def answer(self, content: bytes, receive, send) -> str:
        """Answers one request and returns the model's name.

        Failures are raised, also those that the client has been told of.
        """
        if len(content) > json_format.LARGE:  # others are answered meanwhile
            document = await asyncio.get_running_loop().run_in_executor(
                None, json_format.parse, content
            )
        else:
            document = json_format.parse(content)
        name, number = _model(document)
        batcher = self.catalogue.find(name, number)
        if self.running >= self.limits.streams:
            raise Failure(
                "RESOURCE_EXHAUSTED", f"More than {self.limits.streams} texts being written at once"
            )
        if self.ends < float("inf"):
            raise Failure("UNAVAILABLE", "The server is stopping")
        self.running += 1
        try:
            # From here on: another version may take its place before the first token is asked for
            with batcher.held():
                await self._answer(document, name, batcher, receive, send)
        finally:
            self.running -= 1
        return name

    async def _answer(self, document: dict, name: str, batcher, receive, send) -> None:
        writer = await self._writer(batcher.servable)
        prompt = _prompt(document)
        choice = _choice(document, writer.facts, begins=not prompt)
        tokens = await asyncio.get_running_loop().run_in_executor(None, writer.tokens, prompt)
        form = _Events if document.get("stream") else _Whole
        out = form(send, next(self.numbers), name, len(tokens))
        writing = asyncio.create_task(self._write(writer, batcher, tokens, choice, out))
        leaving = asyncio.create_task(gone(receive))
        try:
            # A text ends by itself after stream_seconds, but not while its client reads nothing of
            # it.
            longest = self.limits.stream_seconds + self.limits.seconds
            await asyncio.wait(
                {writing, leaving}, timeout=longest, return_when=asyncio.FIRST_COMPLETED
            )
            if not writing.done():
                if leaving.done():
                    raise Failure("CANCELLED", "The client went away")
                failure = Failure("DEADLINE_EXCEEDED", f"No whole text within {longest:g} s")
                failure.told = out.started
                raise failure
            await writing
        finally:
            for task in (writing, leaving):
                task.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)

    async def _write(self, writer: Writer, batcher, tokens: list[int], choice: Choice, out) -> None:
        """Sends a text; one that takes too long, or goes on while the server stops, is ended."""
        loop = asyncio.get_running_loop()
        reason = "length"
        end = loop.time() + self.limits.stream_seconds
        pieces = writer.write(batcher, tokens, choice)
        async with contextlib.aclosing(pieces):
            try:
                async for piece, done in self._in_time(pieces):
                    await out.add(piece)
                    if done:
                        reason = "stop"
                    elif loop.time() > min(end, self.ends):
                        reason = "abort"
                        break
            except Exception as error:
                if not out.started:
                    raise
                failure = error
                if not isinstance(error, Failure):
                    failure = Failure("INTERNAL", type(error).__name__)
                await out.fail(failure)
                failure.told = True
                raise failure from error
            await out.end(reason)

    async def _in_time(self, pieces):
        """The pieces of a text; raises Failure where one of them waits too long for its turn."""
        while True:
            try:
                async with asyncio.timeout(self.limits.seconds):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Failure(
                    "UNAVAILABLE",
                    f"No token within {self.limits.seconds:g} s: the model is busy. Ask again "
                    "later.",
                ) from None
            yield piece

    async def _writer(self, servable) -> Writer:
        writer = self.writers.get(servable)
        if writer is None:
            if not writing.is_language_model(servable) or self.read is None:
                raise invalid(
                    f"model: {servable.name} version {servable.version} is no language model"
                )
            facts = servable.assets["generation"]
            if wrong := writing.wrong_fact(facts):
                raise Failure(
                    "FAILED_PRECONDITION",
                    f"model: {servable.name}: generation.json: {wrong}: of an unexpected kind",
                )
            try:
                parts = await beside(self.read, servable.assets)
            except Exception as error:  # whatever libraries raise for files of others
                raise Failure(
                    "FAILED_PRECONDITION",
                    f"model: {servable.name}: its tokenizer cannot be read: {error}",
                ) from None
            writer = self.writers[servable] = Writer(facts, *parts)
        return writer


class _Whole:
    """One JSON answer at the end."""

    def __init__(self, send, number: int, model: str, prompt_tokens: int):
        self.send = send
        self.prompt_tokens = prompt_tokens
        self.written_tokens = 0
        self.pieces = []
        self.started = False
        self.frame = {
            "id": f"cmpl-{number}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    async def add(self, piece: str) -> None:
        self.written_tokens += 1
        self.pieces.append(piece)

    async def end(self, reason: str) -> None:
        body = json_answers.dumps(
            {
                **self.frame,
                "choices": [_choice_json("".join(self.pieces), reason)],
                "usage": self._usage(),
            }
        )
        self.started = True
        await self.send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                ],
            }
        )
        await self.send({"type": "http.response.body", "body": body})

    def _usage(self) -> dict:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.written_tokens,
            "total_tokens": self.prompt_tokens + self.written_tokens,
        }


class _Events(_Whole):
    """A server-sent event for each piece that is not empty, then [DONE]."""

    async def add(self, piece: str) -> None:
        self.written_tokens += 1
        if not self.started:
            self.started = True
            await self.send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        if piece:
            await self._event({**self.frame, "choices": [_choice_json(piece, None)]})

    async def end(self, reason: str) -> None:
        await self._event(
            {**self.frame, "choices": [_choice_json("", reason)], "usage": self._usage()}
        )
        await self.send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def fail(self, failure: Failure) -> None:
        await self._event(error(failure))
        await self.send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _event(self, value: dict) -> None:
        await self.send(
            {
                "type": "http.response.body",
                "body": b"data: " + json_answers.dumps(value) + b"\n\n",
                "more_body": True,
            }
        )


def _choice_json(text: str, reason: str | None) -> dict:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def error(failure: Failure) -> dict:
    """A failure in the form of this API."""
    kind = "invalid_request_error" if 400 <= failure.http < 500 else "server_error"
    return {
        "error": {"message": failure.message, "type": kind, "param": None, "code": failure.code}
    }


def no_chat() -> Failure:
    """The refusal of a chat.

    No template makes a model converse that was trained to continue texts.
    """
    return invalid(
        f"messages: no model here was trained to chat. POST {PATH} with model and prompt: "
        "the text goes on from there."
    )


def models(catalogue: Catalogue) -> dict:
    """The models that can be asked now, as clients of this API list them."""
    listed = []
    for name, entry in sorted(catalogue.entries.items()):
        loaded = [version.loaded for version in entry.versions.values() if version.batcher]
        if loaded:
            facts = {"object": "model", "owned_by": "tfbig"}
            listed.append({"id": name, "created": max(loaded), **facts})
    return {"object": "list", "data": listed}


async def gone(receive) -> None:
    """Returns when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _model(document: dict) -> tuple[str, int | None]:
    model = document.get("model")
    name, _, number = model.partition("/") if isinstance(model, str) else ("", "", "")
    if not name or (number and not (number.isascii() and number.isdigit() and len(number) < 19)):
        raise invalid("model: expected NAME or NAME/VERSION")
    return name, int(number) if number else None


def _prompt(document: dict) -> str:
    prompt = document.get("prompt", "")
    prompt = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if not isinstance(prompt, str):
        raise invalid("prompt: expected one text")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise invalid(
            f"prompt: holds half a character (a lone surrogate) at character {error.start + 1}"
        ) from None
    return prompt


def _choice(document: dict, facts: dict[str, Any], begins: bool) -> Choice:
    """The request's parameters, the artefact's where one is left out."""
    for name, value in document.items():
        if name not in READ and name not in NEUTRAL:
            raise invalid(f"{name[:50]}: no such parameter. Expected: {', '.join(sorted(READ))}")
        if name in NEUTRAL and value is not None and value not in NEUTRAL[name]:
            raise invalid(f"{name}: {json.dumps(value)[:50]} is not supported")
    if not isinstance(document.get("stream") or False, bool):
        raise invalid("stream: expected true or false")
    stop = document.get("stop") or []
    stops = (stop,) if isinstance(stop, str) else stop
    fits = isinstance(stops, (list, tuple)) and len(stops) <= MOST_STOPS
    if not fits or not all(
        isinstance(text, str) and 0 < len(text) <= LONGEST_STOP for text in stops
    ):
        raise invalid(
            f"stop: expected at most {MOST_STOPS} texts of 1 to {LONGEST_STOP} characters"
        )
    limit = facts["limit"]

    def number(name, default, low, high, kind):
        return _number(document, name, default, low, high, kind)

    return Choice(
        length=number("max_tokens", facts["length"], 1, limit, int),
        temperature=number("temperature", facts["temperature"], 0, 100, float),
        top_k=number("top_k", facts["top_k"], 0, 2**31, int) or None,
        top_p=number("top_p", facts["top_p"], 0, 1, float),
        seed=number("seed", None, 0, 2**63, int),
        stop=tuple(stops),
        begins=begins,
    )


def _number(document: dict, name: str, default, low: float, high: float, kind: type):
    value = document.get(name)
    if value is None:
        return default
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, kind))
        or not low <= value <= high
        or (name == "top_p" and value == 0)
    ):
        raise invalid(
            f"{name}: expected {'a whole number' if kind is int else 'a number'} from {low} to"
            f" {high}. Received: {json.dumps(value)[:50]}"
        )
    return value
