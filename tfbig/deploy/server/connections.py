"""HTTP connections within limits.

Bytes and seconds of a request's head, and how many connections at once.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0
CONNECTIONS = 2048
AHEAD = 64  # requests that a connection may send before those in front are answered
IDLE_SECONDS = 75  # that a connection may do nothing between requests
WRITE_SECONDS = 20.0  # between looks at whether an answer is read
WRITE_PACE = 16 << 10  # bytes per second at which it must be


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, closing connections whose heads are too long or do not end.

    A head is the request line and the headers.

    The head's time counts from the connection's start, then from each request's first byte; between
    requests uvicorn's own keep-alive limit holds. What comes in place of a body's next bytes, such
    as lines behind one that is sent in chunks, may be as long as a head. A body that was refused
    before its end may go on for as long as a head. An answer must be read. Where there are too many
    connections, those on which nothing happens make room for others.
    """

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._head = True
        self._body = False
        self._size = 0
        self._timer = None
        self._unread = None
        self._since = self.loop.time()
        if len(self.connections) > CONNECTIONS and not self._make_room():
            transport.abort()
        else:
            self._wait()

    def _make_room(self) -> bool:
        """Closes the connection that has asked for nothing for longest, if there is one."""
        idle = [other for other in self.connections if other is not self and other.is_idle()]
        if idle:
            min(idle, key=_idle_since).transport.close()
        return bool(idle)

    def is_idle(self) -> bool:
        """Whether it is open, nothing is being answered on it, and no body is coming."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self._body and not self.transport.is_closing()

    def connection_lost(self, exc) -> None:
        self._rest()
        self._read_again()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        # A head that begins within these bytes, after another request's end, counts from the next
        self._size += len(data)
        super().data_received(data)
        if self._size > HEAD_BYTES and not self.transport.is_closing():
            if self._head:
                self.send_400_response("The request's head is too long.")
            else:  # an answer may have begun
                self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head:  # lines behind a body in chunks say nothing that is asked for
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._size = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= AHEAD:
            raise ValueError("requests ahead of their answers")  # ends the connection with 400
        super().on_message_begin()
        self._head = True
        self._size = 0
        self._wait()

    def on_headers_complete(self) -> None:
        self._head = False
        self._body = True
        self._size = 0
        self._rest()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._body = False
        self._rest()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._since = self.loop.time()
        if self._body and not self.transport.is_closing():
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_again()
        self._look_again()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_again()

    def _look_again(self) -> None:
        size = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(WRITE_SECONDS, self._still_unread, size)

    def _still_unread(self, before: int) -> None:
        """Cuts the connection whose client does not read on: what waits for it takes memory."""
        if before - self.transport.get_write_buffer_size() < WRITE_SECONDS * WRITE_PACE:
            if self.cycle is not None:
                self.cycle.disconnected = True  # what still writes is told so at once
            self.transport.abort()
        else:
            self._look_again()

    def _read_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _wait(self) -> None:
        self._rest()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def _late(self) -> None:
        # An earlier request on it is still being answered
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait()
        else:
            self.transport.close()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _idle_since(connection: BoundedProtocol) -> float:
    return connection._since
