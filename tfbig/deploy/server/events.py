"""Events as lines of JSON on stderr, written beside the event loop."""

from __future__ import annotations

import datetime
import json
import logging
import os
import queue
import threading
import time

MOST_LINES = 4096  # that wait to be written
FLUSH_S = 1.0


class Log:
    """A log that keeps nobody waiting.

    Where its disk is full, or its pipe is not read, lines are lost; the next one says how many.

    Args:
        file: the number of an open file.
    """

    def __init__(self, file: int = 2):
        self._file = file
        self._lost = 0
        self._lines: queue.Queue[bytes] = queue.Queue(MOST_LINES)
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def __call__(self, event: str, values: dict) -> None:
        """Takes one event; returns at once."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        lost = {"lines_lost": self._lost} if self._lost else {}
        line = json.dumps({"time": now, "event": event, **values, **lost}, ensure_ascii=False)
        try:
            self._lines.put_nowait(line.encode("utf-8", "backslashreplace") + b"\n")
        except queue.Full:
            self._lost += 1

    def flush(self) -> None:
        """Waits until all is written, but not for long."""
        end = time.monotonic() + FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.001)

    def _write(self) -> None:
        # Past `sys.stderr`, whose lock would be held by who waits here when the process ends
        while True:
            line = self._lines.get()
            try:
                while line:
                    line = line[os.write(self._file, line) :]
            except OSError:
                self._lost += 1
            self._lines.task_done()


def quiet(library: str) -> None:
    """Leaves a library's warnings of what clients sent out of the log: answers say them."""
    logging.getLogger(library).setLevel(logging.ERROR)
