"""Manifests with which a cluster's scheduler starts the workers of one training.

For Kubernetes's JobSet and Slurm's srun. Kubernetes starts all workers again after a failure, Slurm
after a preemption, a node failure or the end of the job's time; they resume from the newest
checkpoint.
Sources: JobSet's API jobset.x-k8s.io/v1alpha2 (pods are named SET-JOB-INDEX-INDEX.SET in DNS),
    Slurm's sbatch and scontrol manuals.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shlex

RUNS = "/runs"
"""Where Kubernetes mounts the directory of runs in every pod."""


def script(command: list[str], addresses: str, index: str) -> list[str]:
    """Shell lines that describe the cluster to TensorFlow and start or resume a command.

    Args:
        command: a command of this package and its arguments.
        addresses: the workers as a JSON list, or shell code that gives it.
        index: shell code that gives this worker's number.
    """
    lines = [
        f"addresses={addresses}",
        'export TF_CONFIG="{\\"cluster\\": {\\"worker\\": $addresses}, \\"task\\": {\\"type\\":'
        ' \\"worker\\", \\"index\\": ' + index + '}}"',
    ]
    start = f"exec python -m tfbig.{shlex.join(command)}"
    run = next((text[4:] for text in command if text.startswith("run=")), None)
    if command[0] != "train" or run is None:
        return [*lines, start]
    again = f"exec python -m tfbig.train --resume {shlex.quote(run)}"
    return [*lines, f"if [ -e {shlex.quote(run + '/config.json')} ]; then {again}; fi", start]


def job_name(command: list[str]) -> str:
    """A name that DNS allows, from the recipe and the run's path.

    Two runs of a recipe are two jobs.
    """
    run = posixpath.normpath(run_of(command) or "")
    recipe = next(
        (
            text
            for text in command[1:]
            if "=" not in text and not text.startswith("-") and text != run_of(command)
        ),
        "",
    )
    parts = [
        "tfbig",
        recipe[:20],
        run.rpartition("/")[2][-16:],
        hashlib.sha256(run.encode("utf-8", "surrogateescape")).hexdigest()[:6],
    ]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(filter(None, parts)).lower()).strip("-")


def run_of(command: list[str]) -> str | None:
    """The run directory that a training command names, by run=DIR or --resume."""
    for i, text in enumerate(command):
        if text.startswith(("run=", "--resume=")):
            return text.partition("=")[2]
        if text == "--resume" and i + 1 < len(command):
            return command[i + 1]
    return None


def kubernetes(workers: int, command: list[str], port: int, image: str) -> str:
    """A JobSet of `workers` pods."""
    name = job_name(command)
    addresses = json.dumps([f"{name}-worker-0-{i}.{name}:{port}" for i in range(workers)])
    lines = script(command, shlex.quote(addresses), "$JOB_COMPLETION_INDEX")
    values = {"port": port, "image": json.dumps(image), "runs": RUNS}
    return _filled("kubernetes.yaml", lines, name=name, workers=workers, **values)


def slurm(workers: int, command: list[str], port: int, image: str) -> str:
    """A batch script of `workers` nodes, one worker each."""
    hosts = (
        f'$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed \'s/.*/"&:{port}"/\' | paste -sd,'
        " | sed 's/.*/[&]/')"
    )
    lines = script(command, f'"{hosts}"', "$SLURM_PROCID")
    return _filled("slurm.sh", lines, name=job_name(command), workers=workers)


def _filled(template: str, lines: list[str], **values) -> str:
    """A file of clusters/ with a worker's shell lines and these values in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("tfbig.engine", "clusters")
    # Neither is HTML, and what is put in was quoted for the shell or for YAML
    environment = Environment(  # noqa: S701
        loader=loader, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(template).render(script="\n".join(lines), **values)


KINDS = {"kubernetes": kubernetes, "slurm": slurm}
