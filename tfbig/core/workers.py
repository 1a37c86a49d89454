"""A process's place among several workers, from TF_CONFIG, and its share of each batch."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from tfbig.core.errors import UserError

FORM = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Place:
    """A process's place among the workers of one training.

    Attributes:
        index: its number; worker 0 is the chief, which alone writes the run directory.
        addresses: "host:port" of all workers; empty for a process on its own.
    """

    index: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return max(1, len(self.addresses))

    @property
    def neighbours(self) -> int:
        """How many workers before this one are on its machine."""

        def host(address):
            return address.rpartition(":")[0]

        return sum(
            host(address) == host(self.addresses[self.index])
            for address in self.addresses[: self.index]
        )

    @property
    def is_chief(self) -> bool:
        return self.index == 0


def place(strategy: str = "auto") -> Place:
    """This process's place by TensorFlow's own variable TF_CONFIG.

    Raises:
        UserError: TF_CONFIG is not as TensorFlow wants it, or `strategy` is "multi_worker" and it
            is not set.
    """
    text = os.environ.get("TF_CONFIG", "")
    if strategy == "single" or not text:
        if strategy == "multi_worker":
            raise UserError(
                f"device.strategy=multi_worker: expected TF_CONFIG={FORM}. It is not set; python -m"
                " tfbig.launch sets it."
            )
        return Place()
    try:
        cluster_spec = json.loads(text)
        listed = cluster_spec["cluster"]["worker"]
        task = cluster_spec["task"]
        addresses, index = tuple(listed), task["index"]
        if not (
            isinstance(listed, list)
            and isinstance(index, int)
            and len(set(addresses)) == len(addresses)
        ):
            raise ValueError("worker: expected a list of different addresses")
        if not all(isinstance(text, str) and re.fullmatch(r".+:\d+", text) for text in addresses):
            raise ValueError("worker: expected host:port")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG: expected {FORM}. Received: {text!r}.") from error
    others = sorted(set(cluster_spec["cluster"]) - {"worker"})
    if others or task.get("type") != "worker" or not 0 <= index < len(addresses):
        raise UserError(
            f"TF_CONFIG: expected workers only, the first of them the chief, as in {FORM}."
            f" Received: {text!r}."
        )
    return Place(index, addresses) if len(addresses) > 1 else Place()


@dataclass(frozen=True)
class Share:
    """The rows of a (micro-)batch that one worker computes.

    First ... first + size - 1 of `whole`.
    """

    first: int
    size: int
    whole: int

    @classmethod
    def of(cls, whole: int, index: int, count: int, together: int = 1) -> Share:
        """Shares as equal as they can be, of whole groups of `together` neighbours.

        The first workers have one group more where there is no equal division.
        """
        small, more = divmod(whole // together, count)
        first, size = index * small + min(index, more), small + (index < more)
        return cls(together * first, together * size, whole)


_current: ContextVar[Share | None] = ContextVar("share", default=None)


@contextlib.contextmanager
def computing(share: Share) -> Iterator[None]:
    """A context in which graph code is traced for this share of a batch."""
    token = _current.set(share if share.size < share.whole else None)
    try:
        yield
    finally:
        _current.reset(token)


def current_share() -> Share | None:
    """The share of the batch that is being traced; None where it is the whole batch."""
    return _current.get()
