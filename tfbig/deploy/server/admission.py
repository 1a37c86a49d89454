"""What may come in, and how much of it at once.

Tokens, host names, bytes of bodies and the pace they come at, requests.
"""

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
        bodies: bytes of all bodies that are held together, and of the arrays that gRPC messages
            become.
        seconds: for one request, and for its body to come.
        patience_s, pace: a body may pause so many seconds, and must come at so many bytes per
            second.
        at_once: requests being answered; those whose body is still coming are not counted.
        streams, stream_seconds: answers being made step by step at once, and for one of them.
        token: what clients must send; None asks for none.
        local: only requests that name this machine are answered. Without a token, a page from
            elsewhere whose name is made to point here (DNS rebinding) could ask through a browser
            otherwise.
    """

    body: int = 8 << 20
    bodies: int = 512 << 20
    seconds: float = 30.0
    patience_s: float = 5.0
    pace: int = 16 << 10
    at_once: int = 512
    streams: int = 32
    stream_seconds: float = 300.0
    token: str | None = None
    local: bool = False


class Budget:
    """What may be in use at once; for the event loop's thread alone.

    Args:
        unit: what is counted, in words.
        most: how many of it.
    """

    def __init__(self, unit: str, most: int):
        self.unit, self.most, self.taken = unit, most, 0

    def take(self, count: int) -> None:
        """Raises Failure if there are not so many left; `give` gives them back."""
        if count and self.taken + count > self.most:
            raise Failure(
                "RESOURCE_EXHAUSTED",
                f"More than {self.most:,} {self.unit} at once. Ask again later.",
            )
        self.taken += count

    def give(self, count: int) -> None:
        self.taken -= count


class Arrivals:
    """Messages that are coming, of which nothing is seen before their end.

    Each counts as one of the largest until then. While others wait for a place, messages that take
    longer than `patience_s` lose theirs, the oldest first, and who came last is let in first: many
    that never end cannot keep out those that are sent at once.

    Args:
        most: places.
        seconds: for one message, the wait for its place included.
        patience_s: as above.
    """

    def __init__(self, most: int, seconds: float, patience_s: float):
        self.most, self.seconds, self.patience_s = most, seconds, patience_s
        self.coming: dict[asyncio.Timeout, float] = {}  # since when, the oldest first
        self.waiting: list[tuple[asyncio.Timeout, asyncio.Future]] = []
        self.again: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def place(self):
        """Waits for a place and keeps it meanwhile; raises Failure when the time is over."""
        try:
            async with asyncio.timeout(self.seconds) as timer:
                entered = asyncio.get_running_loop().create_future()
                self.waiting.append((timer, entered))
                self._let_in()
                try:
                    await entered
                    yield
                finally:
                    self.coming.pop(timer, None)
                    self.waiting = [pair for pair in self.waiting if pair[0] is not timer]
                    self._let_in()
        except TimeoutError:
            raise Failure(
                "DEADLINE_EXCEEDED",
                f"The message did not come within {self.seconds:g} s, "
                f"or {self.patience_s:g} s while others wait",
            ) from None

    def _let_in(self) -> None:
        loop = asyncio.get_running_loop()
        if self.again:
            self.again.cancel()
            self.again = None
        while self.waiting:
            if len(self.coming) >= self.most:
                oldest, since = next(iter(self.coming.items()))
                if since + self.patience_s > loop.time():
                    self.again = loop.call_at(since + self.patience_s, self._let_in)
                    return
                del self.coming[oldest]
                oldest.reschedule(loop.time())
            timer, entered = self.waiting.pop()
            self.coming[timer] = loop.time()
            if not entered.done():
                entered.set_result(None)


class Admission:
    """Counts requests and bytes over both protocols; for the event loop's thread alone.

    Attributes:
        running: requests being answered.
        held: bytes of the bodies of requests that came or are coming, and of gRPC messages' arrays.
    """

    def __init__(self, limits: Limits):
        self.limits, self.running, self.held = limits, 0, 0
        self._token = None if limits.token is None else f"Bearer {limits.token}".encode()

    def check_names(self, headers) -> None:
        """Raises Failure for a host or an origin from elsewhere.

        Headers are (name, value) pairs of bytes.
        """
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
        """Raises Failure if no further request can be answered now."""
        if self.running >= self.limits.at_once:
            raise Failure("RESOURCE_EXHAUSTED", f"More than {self.limits.at_once} requests at once")

    @contextlib.contextmanager
    def holding(self, size: int):
        """Counts bytes as held meanwhile; raises Failure if that is too much, alone or together."""
        if size > self.limits.bodies:
            raise Failure(
                "INVALID_ARGUMENT",
                f"The request and its answer would take {size:,} bytes, more than "
                f"{self.limits.bodies:,}. Send fewer rows at a time.",
            )
        if self.held + size > self.limits.bodies:
            raise _too_much(self.limits.bodies)
        self.held += size
        try:
            yield
        finally:
            self.held -= size

    async def read(self, headers, receive) -> bytes:
        """A request's body. Its bytes count as held until `release`; not if this raises.

        A body must come at the pace of the limits; what came faster buys no more than their
        patience (a leaky bucket).
        """
        limits = self.limits
        loop = asyncio.get_running_loop()
        for key, value in headers:
            if key == b"content-length" and (not value.isdigit() or int(value) > limits.body):
                raise _too_large(limits.body)
        pieces = []
        size = 0
        start = loop.time()
        due = start + limits.patience_s
        try:
            async with asyncio.timeout_at(min(due, start + limits.seconds)) as timer:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Failure("CANCELLED", "The client went away")
                    piece = message.get("body", b"")
                    pieces.append(piece)
                    size += len(piece)
                    self.held += len(piece)
                    if size > limits.body:
                        raise _too_large(limits.body)
                    if not message.get("more_body"):
                        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    if self.held > limits.bodies:
                        raise _too_much(limits.bodies)
                    due = min(loop.time() + limits.patience_s, due + len(piece) / limits.pace)
                    timer.reschedule(min(due, start + limits.seconds))
        except TimeoutError:
            self.held -= size
            raise Failure(
                "DEADLINE_EXCEEDED",
                f"The body did not come: {size} bytes in {loop.time() - start:.1f} s",
                408,
            ) from None
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
                raise _refused(
                    "Host", value, "the name of this machine, such as localhost or 127.0.0.1"
                )
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
    return Failure(
        "PERMISSION_DENIED",
        f"{header}: expected {expected}, because this server asks for no token. Received: {shown}."
        " Serve with --token-file to be reached by other names.",
    )
