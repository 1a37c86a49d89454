"""Dynamic batching: requests that wait during a call are answered together by the next one.

No request is held back to fill a batch, so a lone request pays nothing for it (compare Crankshaw et
al. 2017, Clipper). Nor does one block the others: large ones are answered in parts, and while a
call takes long another thread answers the rest.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import queue
import threading
import time
from dataclasses import dataclass

from tfbig.core.lazy import np
from tfbig.core.pictures import MOST_PIXELS
from tfbig.deploy.server.admission import Budget
from tfbig.deploy.server.servable import MOST_ROWS, Servable
from tfbig.deploy.server.status import Failure

PART_PIXELS = 1 << 22  # of the pictures of a call, unless one alone has more
PIXELS_AT_ONCE = 4 * MOST_PIXELS  # of pictures that wait or are decoded
SLOW_S = 0.25  # a call that goes on for longer while others wait gets another thread beside it
MOST_THREADS = 4  # of a servable
# Threads that large requests and programs with loops, which nothing can stop, may take together
MOST_LONG = MOST_THREADS - 1
ANSWERING = "answering-"  # what their names begin with
MOST_WAITING = 1024  # requests in a queue
# A call that takes no longer is cheaper to make at once than to hand to another thread
QUICK_S = 0.5e-3
AGAIN = object()  # in a queue: a thread has become free for requests that take long


@dataclass
class Job:
    """A request in the queue; requests of equal `key` can be answered together.

    `pixels` are those of each row's pictures, if the signature decodes any.
    """

    signature: str
    inputs: dict[str, np.ndarray]
    rows: int
    key: tuple
    future: asyncio.Future
    pixels: np.ndarray | None = None

    def parts(self, most_rows: int) -> list[slice]:
        """Its rows in calls of bounded size."""
        starts = [0]
        pixels = 0
        for row in range(self.rows):
            weight = 0 if self.pixels is None else int(self.pixels[row])
            if row > starts[-1] and (
                row - starts[-1] >= most_rows or pixels + weight > PART_PIXELS
            ):
                starts.append(row)
                pixels = 0
            pixels += weight
        return [slice(start, end) for start, end in itertools.pairwise([*starts, self.rows])]


class Batcher:
    """The queue of one servable and its threads: one, unless a call goes on for long.

    Args:
        servable, loop: what answers, and whose futures are given.
        most_rows, most_waiting: rows of a call, requests in the queue.
        pixels: of pictures that may wait or be decoded at once; shared by all models of a server.
    """

    def __init__(
        self,
        servable: Servable,
        loop: asyncio.AbstractEventLoop,
        most_rows: int = MOST_ROWS,
        most_waiting: int = MOST_WAITING,
        pixels: Budget | None = None,
    ):
        self.servable = servable
        self.loop = loop
        self.most_rows = most_rows
        self.most_waiting = most_waiting
        self.pixels = pixels or Budget("pixels of pictures", PIXELS_AT_ONCE)
        self.queue: queue.SimpleQueue[Job | None | object] = queue.SimpleQueue()
        # Those that take long, taken from the queue while too many of their kind were running
        self.later: collections.deque[Job] = collections.deque()
        self.usual_s: dict[str, float] = {}  # of a call with one row of numbers, by signature
        self.waiting, self.calls, self.users, self.closed, self.watched = 0, 0, 0, False, False
        self.lock = threading.Lock()  # of `threads`, `long` and `since`
        self.threads = self.long = 0
        self.is_last = False  # whether the queue has come to its end
        self.since: float | None = None  # when the last thread began its call
        # Taken from the queue, but not answered with what was before
        self.next_job: Job | None = None
        self._start()

    def _start(self) -> None:
        """Begins a thread that takes from the queue from now on.

        The one before ends with its call.
        """
        self.threads = self.threads + 1
        self.since = None
        name = f"{ANSWERING}{self.servable.name}-{self.servable.version}"
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def submit(
        self, signature: str, inputs: dict[str, np.ndarray], pixels: np.ndarray | None = None
    ) -> asyncio.Future:
        """Queues checked inputs; the future gives the outputs. For the event loop's thread.

        Args:
            pixels: what `Servable.check` gave.
        """
        if self.closed and not self.users:
            raise Failure(
                "UNAVAILABLE",
                f"{self.servable.name} version {self.servable.version} is no longer served",
            )
        if self.waiting >= self.most_waiting:
            raise Failure(
                "UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full"
            )
        shapes = [
            (name, value.shape[1:] if value.ndim else None)
            for name, value in sorted(inputs.items())
        ]
        sizes = {len(value) if value.ndim else -1 for value in inputs.values()}
        rows = sizes.pop() if len(sizes) == 1 else -1
        future = self.loop.create_future()
        total = 0 if pixels is None else int(pixels.sum())
        # Answered alone: scalars, unequal or empty batches, what the others' rows would change, and
        # what would keep the others.
        alone = rows <= 0 or signature in self.servable.by_place or total > PART_PIXELS
        key = (id(future),) if alone else (signature, tuple(shapes))
        self.pixels.take(total)
        self.waiting += 1
        self.queue.put(Job(signature, inputs, rows, key, future, pixels))
        if not self.watched:
            self.watched = True
            self.loop.call_later(SLOW_S, self._watch)
        return future

    def _watch(self) -> None:
        """While a call goes on for long and others wait, another thread answers them."""
        self.watched = self.waiting > 0
        if not self.watched:
            return
        with self.lock:
            slow = self.since is not None and time.monotonic() - self.since > SLOW_S
            if slow and self.threads < MOST_THREADS and (self.next_job or not self.queue.empty()):
                self._start()
        self.loop.call_later(SLOW_S, self._watch)

    async def ask(
        self,
        signature: str,
        inputs: dict[str, np.ndarray],
        alone: bool,
        pixels: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """The outputs for checked inputs.

        If the request is `alone` in the server and quick to answer, without the queue.
        """
        quick = self.usual_s.get(signature, 1.0) < QUICK_S
        if alone and not self.waiting and quick and self._is_usual(signature, inputs):
            return self._timed(signature, inputs)
        return await self.submit(signature, inputs, pixels)

    def close(self) -> None:
        """Lets the thread end once everything queued so far is answered.

        It goes on for those who hold it (`held`), until they let it go.
        """
        self.closed = True
        if not self.users:
            self.queue.put(None)

    @contextlib.contextmanager
    def held(self):
        """Keeps the queue open meanwhile, for a caller that asks several times.

        It is answered until the end, even if another version takes its place.
        """
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
            if self.closed and not self.users:
                self.queue.put(None)

    def _work(self) -> None:
        while True:
            batch, closing = self._take()
            if batch:
                long = self._is_long(batch[0])
                with self.lock:
                    self.since = time.monotonic()
                    self.long += long
                self._answer(batch)
                with self.lock:
                    self.long -= long
                if long and self.later:
                    self.queue.put(AGAIN)
            with self.lock:
                replaced = self.thread is not threading.current_thread()
                if not replaced:
                    self.since = None
                if replaced or closing:
                    self.threads -= 1
                    break
        if replaced and closing:
            self.queue.put(None)  # for the one in its place

    def _is_long(self, job: Job) -> bool:
        """Whether it is answered in parts, or by a loop whose end nobody knows.

        Loops over pictures end: their pixels are counted.
        """
        if job.pixels is not None and job.pixels.sum() > PART_PIXELS:
            return True
        loops = job.pixels is None and self.servable.has_loops(job.signature)
        return loops or job.rows > self.most_rows

    def _next(self) -> Job | None:
        """Waits for the next request that may be answered; None: there will be none."""
        while True:
            if self.later and self.long < MOST_LONG:
                return self.later.popleft()
            if self.is_last and not self.later:
                return None
            job = self.next_job or self.queue.get()
            self.next_job = None
            if job is None:
                self.is_last = True
            elif job is not AGAIN:
                if self.long < MOST_LONG or not self._is_long(job):
                    return job
                self.later.append(job)

    def _take(self) -> tuple[list[Job], bool]:
        """Waits for what is answered together next, and says whether that is all."""
        first = self._next()
        if first is None:
            return [], True
        batch = [first]
        rows = first.rows
        while len(first.key) > 1 and rows < self.most_rows:
            try:
                job = self.queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self.is_last = True
                return batch, not self.later
            if job is AGAIN:
                continue
            if job.key != first.key or rows + job.rows > self.most_rows:
                self.next_job = job
                break
            batch.append(job)
            rows += job.rows
        return batch, False

    def _answer(self, batch: list[Job]) -> None:
        batch_alive = [job for job in batch if not job.future.cancelled()]
        results = self._run(batch_alive) if batch_alive else []
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._deliver, batch, batch_alive, results)

    def _run(self, batch: list[Job]) -> list:
        """Outputs or an error for each request.

        If a call of several fails, each is asked alone: only the bad one fails.
        """
        self.calls += 1
        try:
            if len(batch) == 1:
                return [self._in_parts(batch[0])]
            together = {
                name: np.concatenate([job.inputs[name] for job in batch])
                for name in batch[0].inputs
            }
            outputs = self.servable.run(batch[0].signature, together)
            total = sum(job.rows for job in batch)
            if any(value.ndim == 0 or len(value) != total for value in outputs.values()):
                return [self._alone(job) for job in batch]  # not one output row for each input row
            ends = np.cumsum([job.rows for job in batch])
            return [
                {name: value[end - job.rows : end] for name, value in outputs.items()}
                for job, end in zip(batch, ends, strict=True)
            ]
        except Exception as error:
            return [self._alone(job) for job in batch] if len(batch) > 1 else [_failure(error)]

    def _in_parts(self, job: Job) -> dict[str, np.ndarray]:
        """The outputs for one request.

        A large one stops between its parts if its client has gone.
        """
        parts = [slice(None)]
        if job.rows > 0 and self.servable.is_by_row(job.signature):
            parts = job.parts(self.most_rows)
        if len(parts) == 1:
            return self._timed(job.signature, job.inputs)
        outputs = []
        for part in parts:
            if job.future.cancelled():
                raise Failure("CANCELLED", "The client went away")
            outputs.append(
                self.servable.run(
                    job.signature, {name: value[part] for name, value in job.inputs.items()}
                )
            )
            if any(
                value.ndim == 0 or len(value) != part.stop - part.start
                for value in outputs[-1].values()
            ):
                return self.servable.run(
                    job.signature, job.inputs
                )  # not one output row for each input row
        return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}

    def _is_usual(self, signature: str, inputs: dict[str, np.ndarray]) -> bool:
        """Whether a call takes as long as others.

        How long texts, pictures and loops take depends on their content.
        """
        return is_one_row(inputs) and self.servable.is_steady(signature)

    def _timed(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        outputs = self.servable.run(signature, inputs)
        if is_one_row(inputs):
            seconds = time.perf_counter() - started
            self.usual_s[signature] = 0.9 * self.usual_s.get(signature, seconds) + 0.1 * seconds
        return outputs

    def _alone(self, job: Job):
        try:
            return self.servable.run(job.signature, job.inputs)
        except Exception as error:
            return _failure(error)

    def _deliver(self, taken: list[Job], batch: list[Job], results: list) -> None:
        self.waiting -= len(taken)
        self.pixels.give(sum(int(job.pixels.sum()) for job in taken if job.pixels is not None))
        for job, result in zip(batch, results, strict=True):
            if not job.future.done():
                if isinstance(result, Exception):
                    job.future.set_exception(result)
                else:
                    job.future.set_result(result)


def is_one_row(inputs: dict[str, np.ndarray]) -> bool:
    """Whether these are a row of numbers."""
    return all(
        value.dtype != object and value.ndim and len(value) == 1 for value in inputs.values()
    )


def _failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    return Failure("INTERNAL", f"{type(error).__name__}: {error}")
