"""Calls that may never end, such as reading a model's files and running what it holds."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

BESIDE = "beside-"  # what the threads' names begin with


def beside(function: Callable, *arguments) -> asyncio.Future:
    """What a call in a thread of its own gives or raises.

    Unlike those of an executor, a thread that hangs keeps no other call waiting, nor the process's
    end.
    """
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def deliver(result, error: BaseException | None) -> None:
        if future.done():  # given up
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        try:
            outcome = function(*arguments), None
        except Exception as error:
            outcome = None, error
        except BaseException as error:
            outcome = None, RuntimeError(f"{type(error).__name__}: {error}")
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(deliver, *outcome)

    threading.Thread(target=work, name=f"{BESIDE}{function.__name__}", daemon=True).start()
    return future
