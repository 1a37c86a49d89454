"""Ctrl-C and SIGTERM, raised where that is safe.

Elsewhere they are remembered, and acted upon between two calls into native code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from tfbig.core.errors import Terminated

AGAIN_SECONDS = 0.05  # until a signal is sent again whose exception was dropped
STOPPING = b"stopping; a second signal ends it at once\n"


class Signals:
    """Which signal asked to stop; 0: none."""

    received: int = 0

    def act(self) -> None:
        """Raises what the signal would have raised by itself, if one came."""
        if self.received:
            raise Terminated if self.received == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def watch_signals() -> Iterator[Signals]:
    """Catches SIGINT and SIGTERM for a while; one that comes is confirmed on stderr.

    A second one ends the process at once, as it would without us.
    """
    seen = Signals()
    # Only the main thread may set handlers
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def remember(signum, frame):
        seen.received = signum
        for number, handler in before.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError):  # no print: it may have been interrupted itself
            os.write(terminal, STOPPING)

    with _own_stderr() as terminal:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, remember)
        try:
            yield seen
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back while code runs that may lose what they raise.

    Native code does, and libraries that swallow all exceptions. What the signals would have raised
    is raised at the end.
    """
    with watch_signals() as signals:
        yield
    signals.act()


@contextlib.contextmanager
def _own_stderr() -> Iterator[int]:
    """A descriptor of where stderr leads now.

    It may be pointed elsewhere for a while, see `lazy.quiet_start`.
    """
    try:
        descriptor = os.dup(2)
    except OSError:  # a daemon has none
        yield -1
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def raise_signals() -> Iterator[None]:
    """Signals as a command handles them, for as long as it runs.

    SIGTERM raises Terminated as soon as native code has returned; the next one ends the process.

    What it or Ctrl-C raises is not lost where Python drops exceptions: in a `__del__`, or in a
    callback of a weak reference or of the garbage collector. There, the signal is sent again a
    moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum, frame):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    def dropped(unraisable):
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)
            return
        number = signal.SIGINT
        if issubclass(unraisable.exc_type, Terminated):
            number = signal.SIGTERM
            signal.signal(number, stop)
        again.append(
            threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (threading.get_ident(), number))
        )
        again[-1].daemon = True
        again[-1].start()

    again = []
    hook = sys.unraisablehook
    sigterm = signal.getsignal(signal.SIGTERM)
    sys.unraisablehook = dropped
    if sigterm == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        for timer in again:
            timer.cancel()
        sys.unraisablehook = hook
        if sigterm == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, sigterm)
