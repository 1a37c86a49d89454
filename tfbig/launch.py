"""Start several worker processes of one training on this machine, or print how a cluster starts them."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tfbig.core import cli, config, registry
from tfbig.core.errors import RunFailure, UserError
from tfbig.engine import manifests

EXAMPLES = """  python -m tfbig.launch --workers 4 -- train mnist_cnn run=runs/a
  python -m tfbig.launch --workers 2 -- train --resume runs/a
  python -m tfbig.launch --workers 8 --print kubernetes --image registry/tfbig:0.1 -- train mnist_cnn run=/runs/a > job.yaml
  python -m tfbig.launch --workers 8 --print slurm -- train mnist_cnn run=runs/a > job.sh

Each worker computes its share of every batch, and only the first one, the chief, writes the run directory, which all must
see under one path. With as many accelerators as workers, each worker gets one; without, they share the processor's cores.
The workers talk over TensorFlow's own protocol, which asks nobody for a password: keep it inside a private network."""

GRACE_S = 15.0  # the others have so long, after one has failed, to notice and say so


def tf_config(addresses: list[str], index: int) -> str:
    """TensorFlow's description of a cluster as worker `index` gets it."""
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def accelerators() -> list[str]:
    """The numbers of this machine's NVIDIA accelerators that may be used; found without TensorFlow."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [text for text in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if text.strip() not in ("", "-1")]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i, _ in enumerate(devices.iterdir())] if devices.is_dir() else []


def environments(count: int) -> list[dict[str, str]]:
    """What each worker's environment has besides ours."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, devices = str(max(1, cores // count)), accelerators()
    if 0 < len(devices) < count:
        raise UserError(f"--workers: expected at most one for each of {len(devices)} accelerators. Received: {count}.")
    made = []
    for i in range(count):
        own = {"TF_CONFIG": tf_config(addresses, i), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if devices:
            own["CUDA_VISIBLE_DEVICES"] = devices[i]
        else:
            own |= {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
        made.append(own)
    return made


def launch(workers: int, command: list[str]) -> int:
    """Runs a command in `workers` processes and returns one exit code; all are ended when one fails.

    The chief writes to this terminal as it would alone; lines of the others are prefixed with their number.

    Args:
        workers: how many processes.
        command: a command of this package and its arguments, such as ["train", "mnist_cnn", "run=runs/a"].
    """
    arguments = [sys.executable, "-m", f"tfbig.{command[0]}", *command[1:]]
    processes, threads = [], []
    for i, own in enumerate(environments(workers)):
        pipe = {} if i == 0 else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        # A session of its own, so that Ctrl-C reaches the workers through us alone, once.
        processes.append(subprocess.Popen(arguments, env={**os.environ, **own}, start_new_session=True, **pipe))
        if i:
            threads.append(threading.Thread(target=_relay, args=(i, processes[i].stdout), daemon=True))
            threads[-1].start()
    code = _watch(processes)
    for thread in threads:
        thread.join(timeout=2)
    return code


def _relay(index: int, lines) -> None:
    for line in lines:
        with contextlib.suppress(OSError, ValueError):
            print(f"[worker {index}] {line}", end="", file=sys.stderr, flush=True)


def _watch(processes: list[subprocess.Popen]) -> int:
    """Waits for all workers; passes signals on; after a failure gives the others time to say why they end."""

    def pass_on(signum, frame):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if signum == signal.SIGHUP else signum)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    deadline = None
    try:
        while any(process.poll() is None for process in processes):
            if deadline is None and any(process.returncode for process in processes):
                deadline = time.monotonic() + GRACE_S
            if deadline is not None and time.monotonic() > deadline:
                for process in processes:
                    process.kill()
            time.sleep(0.05)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in processes:
            process.kill()
    codes = [process.wait() for process in processes]
    gone = [f"worker {i} by signal {-code}" for i, code in enumerate(codes) if code < 0]
    if gone:
        print(f"ended: {', '.join(gone)}", file=sys.stderr)
    # A worker that says why it ended counts more than one that was ended.
    return next((code for code in codes if code > 0), next((128 - code for code in codes if code < 0), 0))


def _check(arguments: list[str]) -> None:
    """Finds a mistake in a recipe or setting once, rather than in every worker."""
    settings = [text for text in arguments[1:] if "=" in text and not text.startswith(("-", "run="))]
    run = next((Path(text[4:]) for text in arguments if text.startswith("run=")), None)
    if run is None:
        raise UserError("expected run=DIR after -- train, so that all workers mean the same run directory.")
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(f"run={run}: exists already. Continue it with -- train --resume {shlex.quote(str(run))}, or name another directory.")
    config.override(registry.recipe(arguments[0]), settings)


def door(arguments: list[str]) -> dict | None:
    ours, command = (arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]) if "--" in arguments else (arguments, [])
    parser = cli.Parser("launch", __doc__, EXAMPLES)
    parser.add_argument("--workers", type=int, required=True, help="how many processes train together")
    parser.add_argument("--print", choices=sorted(manifests.KINDS), help="print what a cluster needs to start them, and start nothing")
    parser.add_argument("--image", default="tfbig:latest", help="kubernetes: the container image, one that has tfbig and mounts the runs")
    parser.add_argument("--port", type=int, default=2222, help="clusters: the port that workers listen on")
    given = parser.parse_args(ours)
    if given.workers < 1:
        raise UserError(f"--workers: expected at least 1. Received: {given.workers}.")
    if not command or command[0] != "train":  # the other commands are one process's work
        received = repr(command[0]) if command else "nothing"
        raise UserError(f"expected -- train and what it trains, such as -- train mnist_cnn run=runs/a. Received: {received}.")
    if "--resume" not in command:
        _check(command[1:])
    if given.print:
        text = manifests.KINDS[given.print](given.workers, command, given.port, given.image)
        if not given.json:
            print(text, end="")
        return {"kind": given.print, "text": text}
    code = launch(given.workers, command)
    if code:
        failure = RunFailure(f"the workers ended with exit code {code}; what happened is said above.")
        failure.exit_code = code
        raise failure
    return {"workers": given.workers, "command": command}


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, launch)
