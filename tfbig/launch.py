"""Start the workers of one training on this machine, or print how a cluster starts them."""

from __future__ import annotations

import posixpath
import shlex
import sys
from pathlib import Path

from tfbig import train
from tfbig.core import cli, config, registry
from tfbig.core.errors import UserError
from tfbig.core.run import Run
from tfbig.engine import manifests, processes

EXAMPLES = """  python -m tfbig.launch --workers 4 -- train mnist_cnn run=runs/a
  python -m tfbig.launch --workers 2 -- train --resume runs/a
  python -m tfbig.launch --workers 8 --print kubernetes --image registry/tfbig:0.1 -- \\
      train mnist_cnn run=/runs/a > job.yaml
  python -m tfbig.launch --workers 8 --print slurm -- train mnist_cnn run=runs/a > job.sh

Each worker computes its share of every batch, and only the first one, the chief, writes the run
directory, which all must see under one path. With as many accelerators as workers, each worker gets
one; without, they share the processor's cores. The workers talk over TensorFlow's own protocol,
which asks nobody for a password: keep it inside a private network."""


def _check(command: list[str], workers: int, prints: bool) -> None:
    """Refuses a wrong command once, before any worker starts."""
    parsed = train.parse(command[1:])
    strange = next(
        (word for word in command if any(ord(c) < 32 or ord(c) == 127 for c in word)), None
    )
    if prints and strange is not None:
        raise UserError(
            f"{strange!r}: holds a line break or another control character, which a script cannot"
            " carry. Expected none."
        )
    if parsed.dry_run or parsed.print:
        raise UserError(
            "expected a training after --. Received --dry-run or --print, which one process does:"
            " python -m tfbig.train."
        )
    if parsed.resume:
        if prints and not Path(parsed.resume).exists():
            return  # it is on the cluster
        run = Run.open(parsed.resume)
        experiment = train.changed(run, parsed.settings)
        if not prints:
            with run.lock():  # nobody trains it now
                pass
    else:
        _check_new(parsed.run, prints)
        experiment = config.override(registry.recipe(parsed.recipe), parsed.settings)
    if experiment.device.strategy == "mirrored" and not parsed.resume:
        raise UserError(
            "device.strategy=mirrored: starts workers of its own, python -m tfbig.train does."
            " Expected auto or multi_worker here."
        )
    if experiment.device.strategy == "single":
        raise UserError(
            "device.strategy=single: each worker would train alone, in the same run directory."
            " Expected auto or multi_worker here."
        )
    rows = experiment.train.batch_size // experiment.train.accumulate
    if rows < workers:
        raise UserError(
            f"--workers: expected at most train.batch_size / train.accumulate = {rows:,}, at least"
            f" one example for each. Received: {workers:,}."
        )


def _check_new(run: str | None, prints: bool) -> None:
    if not run:
        raise UserError(
            "expected run=DIR after -- train, so that all workers mean the same run directory."
        )
    path = Path(run)
    if not prints and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            f"run={run}: exists already. Continue it with -- train --resume {shlex.quote(run)}, or"
            " name another directory."
        )


def launch(workers: int, command: list[str]) -> dict:
    """Runs a command in `workers` processes of this machine, which end together.

    See `processes.run_workers`.

    Args:
        workers: how many processes.
        command: a command of this package and its arguments, such as ["train", "mnist_cnn",
            "run=runs/a"].
    """
    processes.run_workers(workers, command)
    return {"workers": workers, "command": command}


def door(arguments: list[str]) -> dict | None:
    ours, command = (
        (arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :])
        if "--" in arguments
        else (arguments, [])
    )
    parser = cli.Parser("launch", __doc__, EXAMPLES)
    parser.add_argument(
        "--workers", type=int, required=True, help="how many processes train together"
    )
    parser.add_argument(
        "--print",
        choices=sorted(manifests.KINDS),
        help="print what a cluster needs to start them, and start nothing",
    )
    parser.add_argument(
        "--image",
        default="tfbig:latest",
        help="kubernetes: the container image, one that has tfbig and mounts the runs",
    )
    parser.add_argument(
        "--port", type=int, default=2222, help="clusters: the port that workers listen on"
    )
    # Train's own arguments are no options of this command
    if "--" not in arguments and "train" in arguments:
        raise UserError(
            "expected -- before train, such as --workers 2 -- train mnist_cnn run=runs/a. Received"
            " none."
        )
    parsed = parser.parse_args(ours)
    if parsed.workers < 1:
        raise UserError(f"--workers: expected at least 1. Received: {parsed.workers}.")
    if not command or command[0] != "train":  # the other commands are one process's work
        received = repr(command[0]) if command else "nothing"
        raise UserError(
            "expected -- train and what it trains, such as -- train mnist_cnn run=runs/a."
            f" Received: {received}."
        )
    if not 0 < parsed.port < 65536:
        raise UserError(f"--port: expected 1 to 65535. Received: {parsed.port}.")
    if not parsed.image.strip():
        raise UserError("--image: expected the name of a container image. Received: nothing.")
    _check(command, parsed.workers, bool(parsed.print))
    if parsed.print == "kubernetes" and not posixpath.normpath(
        manifests.run_of(command)
    ).startswith(f"{manifests.RUNS}/"):
        expected = (
            f"a directory in {manifests.RUNS}, where the pods' shared volume is mounted: elsewhere"
            " each pod would have its own"
        )
        raise UserError(f"run: expected {expected}. Received: {manifests.run_of(command)}.")
    if parsed.print:
        text = manifests.KINDS[parsed.print](parsed.workers, command, parsed.port, parsed.image)
        if not parsed.json:
            print(text, end="")
        return {"kind": parsed.print, "text": text}
    return launch(parsed.workers, command)


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, launch)
