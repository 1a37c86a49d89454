"""Dynamic batching: requests that wait while a model computes are answered together by its next call.

No request is held back to fill a batch, so a lone request pays nothing for it (compare Crankshaw et al. 2017, Clipper).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from dataclasses import dataclass

from tfbig.core.lazy import np
from tfbig.deploy.server.servable import Servable
from tfbig.deploy.server.status import Failure

MOST_ROWS = 64  # of a call made of several requests
MOST_WAITING = 1024  # requests in a queue
QUICK_S = 0.5e-3  # a call that takes no longer is cheaper to make at once than to hand to another thread


@dataclass
class Job:
    """A request in the queue; requests of equal `key` can be answered together."""

    signature: str
    inputs: dict[str, np.ndarray]
    rows: int
    key: tuple
    future: asyncio.Future


class Batcher:
    """The queue of one servable and the thread that empties it."""

    def __init__(self, servable: Servable, loop: asyncio.AbstractEventLoop, most_rows: int = MOST_ROWS, most_waiting: int = MOST_WAITING):
        self.servable, self.loop, self.most_rows, self.most_waiting = servable, loop, most_rows, most_waiting
        self.queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.usual_s: dict[str, float] = {}  # of a call with one row of numbers, by signature
        self.waiting, self.calls, self.users, self.closed = 0, 0, 0, False
        self.thread = threading.Thread(target=self._work, name=f"{servable.name}-{servable.version}", daemon=True)
        self.thread.start()

    def submit(self, signature: str, inputs: dict[str, np.ndarray]) -> asyncio.Future:
        """Queues checked inputs; the future gives the outputs. To be called in the event loop's thread."""
        if self.closed and not self.users:
            raise Failure("UNAVAILABLE", f"{self.servable.name} version {self.servable.version} is no longer served")
        if self.waiting >= self.most_waiting:
            raise Failure("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full")
        shapes = [(name, value.shape[1:] if value.ndim else None) for name, value in sorted(inputs.items())]
        sizes = {len(value) if value.ndim else -1 for value in inputs.values()}
        rows = sizes.pop() if len(sizes) == 1 else -1
        future = self.loop.create_future()
        # Scalars, unequal or empty batches are answered alone, and what the others' rows would change.
        key = (signature, tuple(shapes)) if rows > 0 and signature not in self.servable.by_place else (id(future),)
        self.waiting += 1
        self.queue.put(Job(signature, inputs, rows, key, future))
        return future

    async def ask(self, signature: str, inputs: dict[str, np.ndarray], alone: bool) -> dict[str, np.ndarray]:
        """The outputs for checked inputs; if the request is `alone` in the server and quick to answer, without the queue."""
        if alone and not self.waiting and self.usual_s.get(signature, 1.0) < QUICK_S and _one_row(inputs):
            return self._timed(signature, inputs)
        return await self.submit(signature, inputs)

    def close(self) -> None:
        """Lets the thread end once everything queued so far is answered, and all that is asked by those who hold it."""
        self.closed = True
        if not self.users:
            self.queue.put(None)

    @contextlib.contextmanager
    def held(self):
        """For who asks several times: the queue is answered until the end, even if another version takes its place."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
            if self.closed and not self.users:
                self.queue.put(None)

    def _work(self) -> None:
        held: Job | None = None
        while True:
            first = held or self.queue.get()
            held = None
            if first is None:
                return
            batch, rows, closing = [first], first.rows, False
            while first.rows > 0 and rows < self.most_rows:
                try:
                    job = self.queue.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    closing = True
                    break
                if job.key != first.key or rows + job.rows > self.most_rows:
                    held = job
                    break
                batch.append(job)
                rows += job.rows
            self._answer(batch)
            if closing:
                return

    def _answer(self, batch: list[Job]) -> None:
        batch_alive = [job for job in batch if not job.future.cancelled()]
        results = self._run(batch_alive) if batch_alive else []
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._deliver, len(batch), batch_alive, results)

    def _run(self, batch: list[Job]) -> list:
        """Outputs or an error for each request. If a call of several fails, each is asked alone: only the bad one fails."""
        self.calls += 1
        try:
            if len(batch) == 1:
                return [self._timed(batch[0].signature, batch[0].inputs)]
            together = {name: np.concatenate([job.inputs[name] for job in batch]) for name in batch[0].inputs}
            outputs = self.servable.run(batch[0].signature, together)
            total = sum(job.rows for job in batch)
            if any(value.ndim == 0 or len(value) != total for value in outputs.values()):
                return [self._alone(job) for job in batch]  # not one output row for each input row
            ends = np.cumsum([job.rows for job in batch])
            return [{name: value[end - job.rows : end] for name, value in outputs.items()} for job, end in zip(batch, ends, strict=True)]
        except Exception as error:
            return [self._alone(job) for job in batch] if len(batch) > 1 else [_failure(error)]

    def _timed(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        outputs = self.servable.run(signature, inputs)
        if _one_row(inputs):
            took = time.perf_counter() - started
            self.usual_s[signature] = 0.9 * self.usual_s.get(signature, took) + 0.1 * took
        return outputs

    def _alone(self, job: Job):
        try:
            return self.servable.run(job.signature, job.inputs)
        except Exception as error:
            return _failure(error)

    def _deliver(self, count: int, batch: list[Job], results: list) -> None:
        self.waiting -= count
        for job, result in zip(batch, results, strict=True):
            if not job.future.done():
                if isinstance(result, Exception):
                    job.future.set_exception(result)
                else:
                    job.future.set_result(result)


def _one_row(inputs: dict[str, np.ndarray]) -> bool:
    """Whether these are a row of numbers, which takes as long as any other; what texts and pictures take depends on them."""
    return all(value.dtype != object and value.ndim and len(value) == 1 for value in inputs.values())


def _failure(error: Exception) -> Failure:
    return error if isinstance(error, Failure) else Failure("INTERNAL", f"{type(error).__name__}: {error}")
