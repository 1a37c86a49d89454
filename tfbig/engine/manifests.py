"""What a cluster's own scheduler needs to start the workers of one training: Kubernetes's JobSet, Slurm's srun.

Kubernetes starts all workers again after a failure, Slurm after a preemption, a node failure or the end of the job's time; they
go on from the newest checkpoint.
Sources: JobSet's API jobset.x-k8s.io/v1alpha2 (pods are named SET-JOB-INDEX-INDEX.SET in DNS), Slurm's sbatch and scontrol manuals.
"""

from __future__ import annotations

import json
import re
import shlex


def script(command: list[str], addresses: str, index: str) -> list[str]:
    """Shell lines that describe the cluster to TensorFlow and start, or go on with, a command.

    Args:
        command: a command of this package and its arguments.
        addresses: the workers as a JSON list, or shell code that gives it.
        index: shell code that gives this worker's number.
    """
    lines = [
        f"addresses={addresses}",
        'export TF_CONFIG="{\\"cluster\\": {\\"worker\\": $addresses}, \\"task\\": {\\"type\\": \\"worker\\", \\"index\\": ' + index + '}}"',
    ]
    start = f"exec python -m tfbig.{shlex.join(command)}"
    run = next((text[4:] for text in command if text.startswith("run=")), None)
    if command[0] != "train" or run is None:
        return [*lines, start]
    again = f"exec python -m tfbig.train --resume {shlex.quote(run)}"
    return [*lines, f"if [ -e {shlex.quote(run + '/config.json')} ]; then {again}; fi", start]


def job_name(command: list[str]) -> str:
    """A name that DNS allows, from the recipe or the run."""
    words = [text for text in command[1:] if not text.startswith("-")] or ["job"]
    return re.sub(r"[^a-z0-9]+", "-", f"tfbig-{words[0].removeprefix('run=')}".lower())[:40].strip("-")


def kubernetes(workers: int, command: list[str], port: int, image: str) -> str:
    """A JobSet of `workers` pods."""
    name = job_name(command)
    addresses = json.dumps([f"{name}-worker-0-{i}.{name}:{port}" for i in range(workers)])
    lines = script(command, shlex.quote(addresses), "$JOB_COMPLETION_INDEX")
    body = "\n".join(f"                  {line}" for line in lines)
    return f"""\
# Needs the JobSet controller. Mount the runs (and the data) into every pod at the same path: see volumes below.
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}
spec:
  failurePolicy:
    maxRestarts: 10 # all workers start again together, from the newest checkpoint
  replicatedJobs:
    - name: worker
      replicas: 1
      template:
        spec:
          parallelism: {workers}
          completions: {workers}
          completionMode: Indexed
          backoffLimit: 0
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: 120 # SIGTERM writes a checkpoint first
              containers:
                - name: worker
                  image: {json.dumps(image)}
                  ports:
                    - containerPort: {port}
                  command:
                    - bash
                    - -c
                    - |
{re.sub(r"^ {18}", " " * 22, body, flags=re.MULTILINE)}
                  volumeMounts:
                    - name: runs
                      mountPath: /runs
              volumes:
                - name: runs
                  persistentVolumeClaim:
                    claimName: runs # a claim that many pods may write to (ReadWriteMany)
"""


def slurm(workers: int, command: list[str], port: int, image: str) -> str:
    """A batch script of `workers` nodes, one worker each."""
    hosts = f"$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | sed 's/.*/\"&:{port}\"/' | paste -sd, | sed 's/.*/[&]/')"
    body = "\n".join(script(command, f'"{hosts}"', "$SLURM_PROCID"))
    return f"""\
#!/bin/bash
#SBATCH --job-name={job_name(command)}
#SBATCH --nodes={workers}
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=TERM@120
# One worker on each node; the run directory must be on a file system that all nodes see.
cat > "tfbig-$SLURM_JOB_ID.sh" <<'WORKER'
{body}
WORKER
srun --kill-on-bad-exit=1 bash "tfbig-$SLURM_JOB_ID.sh"
code=$?
if [ $code = 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi # stopped in time, with a checkpoint: goes on later
exit $code
"""


KINDS = {"kubernetes": kubernetes, "slurm": slurm}
