"""The workers of one training as processes of this machine.

Their environments, their output, their end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tfbig.core import workers
from tfbig.core.errors import Interrupted, RunFailure, UserError
from tfbig.core.experiment import Experiment

GRACE_S = 15.0  # for the other workers to notice and say so, after one has failed
MISTAKE_GRACE_S = 3.0  # the same, after one has refused to start
ORPHAN_GRACE_S = 30.0  # for a worker to write a checkpoint, after the process that started it ended


def tf_config(addresses: list[str], index: int) -> str:
    """TensorFlow's description of a cluster as worker `index` gets it."""
    return json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    )


def free_ports(count: int) -> list[int]:
    """Ports of this machine that are free."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def accelerators() -> list[str]:
    """The numbers of this machine's NVIDIA accelerators that may be used.

    Found without TensorFlow.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [
            text
            for text in os.environ["CUDA_VISIBLE_DEVICES"].split(",")
            if text.strip() not in ("", "-1")
        ]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i, _ in enumerate(devices.iterdir())] if devices.is_dir() else []


def wanted(experiment: Experiment) -> int:
    """How many processes a training started here takes.

    1 unless device.strategy is mirrored, or auto chooses that.
    """
    device = experiment.device
    rows = experiment.train.batch_size // experiment.train.accumulate
    devices = len(accelerators())
    if device.strategy not in ("auto", "mirrored") or workers.place(device.strategy).count > 1:
        return 1
    if device.strategy == "auto":
        return max(1, min(devices, rows))
    count = device.count or devices
    if count == 0:
        raise UserError(
            "device.count: expected a number of processes, as this machine has no accelerator."
            " Received: none. Set device.count=N, or device.strategy=single."
        )
    if 0 < devices < count:
        raise UserError(
            f"device.count: expected at most the {devices} accelerators of this machine. Received:"
            f" {count}."
        )
    if rows < count:
        raise UserError(
            f"device.count: expected at most train.batch_size / train.accumulate = {rows}, at least"
            f" one example for each. Received: {count}."
        )
    return count


def environments(count: int) -> list[dict[str, str]]:
    """The variables that each worker's environment has besides ours.

    One accelerator each, or a share of the processor's cores.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    cores = workers.cores()
    threads = str(max(1, cores // count))
    devices = accelerators()
    if 0 < len(devices) < count:
        raise UserError(
            f"workers: expected at most one for each of {len(devices)} accelerators. Received:"
            f" {count}."
        )
    result = []
    for i in range(count):
        own = {"TF_CONFIG": tf_config(addresses, i), "TF_CPP_MIN_LOG_LEVEL": "3"}
        own |= {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
        result.append(own | ({"CUDA_VISIBLE_DEVICES": devices[i]} if devices else {}))
    return result


def run_workers(count: int, command: list[str]) -> None:
    """Runs a command in `count` processes; all are ended when one fails.

    The chief writes to this terminal as it would alone; lines of the others are prefixed with their
    number.

    Args:
        count: how many processes.
        command: a command of this package and its arguments, such as ["train", "mnist_cnn",
            "run=runs/a"].

    Raises:
        UserError, Interrupted, RunFailure: the error of the worker that failed first, which has
            written it to stderr already.
    """
    options = ["--json", f"--supervisor={os.getpid()}"]
    arguments = [
        sys.executable,
        "-m",
        f"tfbig.{command[0]}",
        *(word for word in command[1:] if word != "--json"),
        *options,
    ]
    processes = []
    threads = []
    results = [[] for _ in range(count)]

    def gather(pipe, take) -> None:
        threads.append(threading.Thread(target=lambda: [take(line) for line in pipe], daemon=True))
        threads[-1].start()

    with _signals_passed_on(processes):
        for i, own in enumerate(environments(count)):
            processes.append(_start(arguments, own, stderr=subprocess.PIPE if i else None))
            gather(processes[i].stdout, results[i].append)
            if i:
                gather(processes[i].stderr, lambda line, i=i: _relay(i, line))
        codes, late = _watch(processes)
    for thread in threads:
        thread.join(timeout=2)
    gone = [
        f"worker {i} {'with the others' if i in late else f'by signal {-code}'}"
        for i, code in enumerate(codes)
        if code < 0
    ]
    if gone:
        print(f"ended: {', '.join(gone)}", file=sys.stderr)
    # A worker that says why it ended counts more than one that was ended, and a user's mistake more
    # than the loss of the worker that reported it.
    failed = sorted((code != 2, code < 0, i in late, i) for i, code in enumerate(codes) if code)
    if failed:
        raise _failure(codes[failed[0][-1]], results[failed[0][-1]])


def _start(arguments: list[str], own: dict[str, str], stderr: int | None) -> subprocess.Popen:
    """One worker's process, with its own variables in the environment."""
    return subprocess.Popen(
        arguments,
        env={**os.environ, **own},
        # A session of its own, so that Ctrl-C reaches the workers through us alone, once
        start_new_session=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def _failure(code: int, lines: list[str]) -> Exception:
    """The error that a worker ended with, as it would have been raised here."""
    code = 128 - code if code < 0 else code
    message = None
    with contextlib.suppress(ValueError, TypeError, KeyError):
        message = str(json.loads("".join(lines))["error"])
    if message is None:
        message = f"the workers ended with exit code {code}."
    kind = UserError if code == UserError.exit_code else RunFailure
    failure = Interrupted(code - 128, 0, message) if code > 128 else kind(message)
    failure.exit_code, failure.said = code, True
    return failure


def _relay(index: int, line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"[worker {index}] {line}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _signals_passed_on(processes: list[subprocess.Popen]):
    """A context in which signals to us go to all processes; at its end none of them is left."""

    def pass_on(signum, frame):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if signum == signal.SIGHUP else signum)

    before = {}
    # Only the main thread may set handlers
    if threading.current_thread() is threading.main_thread():
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # As nohup does
        ignored = {number for number in numbers if signal.getsignal(number) == signal.SIG_IGN}
        before = {
            number: signal.signal(number, pass_on) for number in numbers if number not in ignored
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in processes:
            process.kill()
            process.wait()


def _watch(processes: list[subprocess.Popen]) -> tuple[list[int], set[int]]:
    """Waits for all workers; after a failure gives the others time to say why they end.

    Returns:
        Their exit codes, and which of them did not end by themselves.
    """
    deadline, late = None, set()
    while None in (codes := [process.poll() for process in processes]):
        if deadline is None and any(codes):
            # The others have nothing to add to a user's mistake
            mistake = UserError.exit_code in codes
            deadline = time.monotonic() + (MISTAKE_GRACE_S if mistake else GRACE_S)
        if deadline is not None and time.monotonic() > deadline:
            late |= {i for i, code in enumerate(codes) if code is None}
            for process in processes:
                process.kill()
        time.sleep(0.05)
    return [process.wait() for process in processes], late


def end_with(supervisor: int) -> None:
    """Ends this process, after a checkpoint, when its supervisor has gone, even by SIGKILL."""

    def watch() -> None:
        while os.getppid() == supervisor:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
