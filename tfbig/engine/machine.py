"""What a training is computed with, as far as the last bits of its result depend on it."""

from __future__ import annotations

import contextlib
import os

from tfbig.core.lazy import tf
from tfbig.core.workers import cores

VARIABLE = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's own


def threads() -> int:
    """Threads that compute one operation on the CPU; sums are made in as many parts."""
    return (
        tf.config.threading.get_intra_op_parallelism_threads()
        or int(os.environ.get(VARIABLE) or 0)
        or cores()
    )


def described(workers: int) -> dict[str, str | int]:
    """The kind of device, the threads of a CPU, and how many workers train together.

    Goes into each checkpoint.
    """
    for kind in ("TPU", "GPU"):
        if tf.config.list_physical_devices(kind):
            return {"device": kind, "workers": workers}
    return {"device": "CPU", "threads": threads(), "workers": workers}


def keep_threads(before: dict) -> list[str]:
    """Keeps a run's number of threads on more or fewer cores, unless another one was asked for.

    It works only before TensorFlow has computed anything in this process. Returns the lines that
    report it.
    """
    num_threads = before.get("threads")
    if num_threads is None or num_threads == threads() or os.environ.get(VARIABLE):
        return []
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        return [
            f"computed with {num_threads} threads on {cores()} cores, as many as until now, so that"
            f" the result is the same to the last bit; {VARIABLE}={cores()} takes as many as there"
            " are cores, equal but for rounding"
        ]
    return []


def changes(before: dict, now: dict) -> list[str]:
    """What differs from what a run was computed with until now, in words; see `described`."""
    different = [
        f"{key} {before[key]}, now {now[key]}"
        for key in before
        if key in now and before[key] != now[key]
    ]
    if not different:
        return []
    return [
        f"until now it was computed with {'; '.join(different)}: it goes on equal but for rounding,"
        " not to the last bit"
    ]
