"""Ctrl-C and SIGTERM where they must not strike at any moment: remembered, and acted upon between two calls into native code."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from tfbig.core.errors import Terminated


class Signals:
    """Which signal asked to stop; 0: none."""

    received: int = 0

    def act(self) -> None:
        """Raises what the signal would have raised by itself, if one came."""
        if self.received:
            raise Terminated if self.received == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def watch_signals() -> Iterator[Signals]:
    """Catches SIGINT and SIGTERM for a while; a second one ends the process at once, as it would without us."""
    seen = Signals()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield seen
        return

    def remember(signum, frame):
        seen.received = signum
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, remember)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
