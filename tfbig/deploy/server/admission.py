"""What may come in, and how much of it at once: tokens, host names, bytes of bodies and the pace they come at, requests."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tfbig.deploy.server.status import Failure


@dataclass(frozen=True)
class Limits:
    """What protects the server.

    Attributes:
        body: bytes of one request's body.
        bodies: bytes of all bodies that are held together, and of the arrays that gRPC messages become.
        seconds: for one request, and for its body to come.
        patience_s, pace: a body may pause so many seconds, and must come at so many bytes per second.
        at_once: requests being answered; those whose body is still coming are not counted.
        texts, text_seconds: texts being written at once, and for one text.
        token: what clients must send; None asks for none.
        local: only requests that name this machine are answered. Without a token, a page from elsewhere whose name is made
            to point here (DNS rebinding) could ask through a browser otherwise.
    """

    body: int = 8 << 20
    bodies: int = 512 << 20
    seconds: float = 30.0
    patience_s: float = 5.0
    pace: int = 16 << 10
    at_once: int = 512
    texts: int = 32
    text_seconds: float = 300.0
    token: str | None = None
    local: bool = False


class Admission:
    """Counts what is there, over both protocols; for the event loop's thread alone.

    Attributes:
        running: requests being answered.
        held: bytes of the bodies of requests that came or are coming, and of gRPC messages' arrays.
    """

    def __init__(self, limits: Limits):
        self.limits, self.running, self.held = limits, 0, 0
        self._token = None if limits.token is None else f"Bearer {limits.token}".encode()

    def check_names(self, headers) -> None:
        """Raises Failure for a host or an origin from elsewhere. Headers are (name, value) pairs of bytes."""
        if self.limits.local:
            _check_names(headers)

    def check_token(self, given: bytes) -> None:
        """Raises Failure unless an Authorization header's value is the right one."""
        if self._token is not None and not hmac.compare_digest(given, self._token):
            raise Failure("UNAUTHENTICATED", "Expected Authorization: Bearer TOKEN")

    def enter(self) -> None:
        """Takes a slot; `leave` gives it back."""
        self.full()
        self.running += 1

    def leave(self) -> None:
        self.running -= 1

    def full(self) -> None:
        """Raises Failure if no request more can be answered now."""
        if self.running >= self.limits.at_once:
            raise Failure("RESOURCE_EXHAUSTED", f"More than {self.limits.at_once} requests at once")

    @contextlib.contextmanager
    def holding(self, size: int):
        """Counts bytes as held meanwhile; raises Failure if that is too much together."""
        if self.held + size > self.limits.bodies:
            raise _too_much(self.limits.bodies)
        self.held += size
        try:
            yield
        finally:
            self.held -= size

    async def read(self, headers, receive) -> bytes:
        """A request's body. Its bytes count as held until `release`; not if this raises.

        A body must come at the pace of the limits; what came faster buys no more than their patience (a leaky bucket).
        """
        limits, loop = self.limits, asyncio.get_running_loop()
        for key, value in headers:
            if key == b"content-length" and (not value.isdigit() or int(value) > limits.body):
                raise _too_large(limits.body)
        parts, size, start = [], 0, loop.time()
        due = start + limits.patience_s
        try:
            async with asyncio.timeout_at(min(due, start + limits.seconds)) as timer:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Failure("CANCELLED", "The client went away")
                    piece = message.get("body", b"")
                    parts.append(piece)
                    size += len(piece)
                    self.held += len(piece)
                    if size > limits.body:
                        raise _too_large(limits.body)
                    if not message.get("more_body"):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
                    if self.held > limits.bodies:
                        raise _too_much(limits.bodies)
                    due = min(loop.time() + limits.patience_s, due + len(piece) / limits.pace)
                    timer.reschedule(min(due, start + limits.seconds))
        except TimeoutError:
            self.held -= size
            raise Failure("DEADLINE_EXCEEDED", f"The body did not come: {size} bytes in {loop.time() - start:.1f} s", 408) from None
        except BaseException:
            self.held -= size
            raise

    def release(self, body: bytes) -> None:
        self.held -= len(body)


def _too_large(most: int) -> Failure:
    return Failure("INVALID_ARGUMENT", f"The body is larger than {most} bytes", 413)


def _too_much(most: int) -> Failure:
    return Failure("RESOURCE_EXHAUSTED", f"More than {most} bytes of requests at once")


def is_loopback(host: str | None) -> bool:
    """Whether a host's name or address means this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _check_names(headers) -> None:
    host = origin = None
    for key, value in headers:
        if key == b"host":
            host = value
            if not _means_here(value):
                raise _refused("Host", value, "the name of this machine, such as localhost or 127.0.0.1")
        elif key == b"origin":
            origin = value
    if origin is not None and origin.partition(b"://")[2] != host:
        raise _refused("Origin", origin, "a page of this server")


def _means_here(host: bytes) -> bool:
    try:
        return is_loopback(urlsplit("//" + host.decode("ascii")).hostname)
    except ValueError:
        return False


def _refused(header: str, value: bytes, expected: str) -> Failure:
    shown = value[:100].decode("latin-1")
    return Failure("PERMISSION_DENIED", f"{header}: expected {expected}, because this server asks for no token. Received: {shown}. Serve with --token-file to be reached by other names.")
