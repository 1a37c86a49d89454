"""Frozen parts of a task: other runs that it uses, copied into the run that uses them.

A teacher, a tokenizer of pictures, a judge: whatever `Task.uses` names stands in RUN/parts/NAME, so
that the run is complete and does not change when the other one does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from tfbig.core.contracts import Task
from tfbig.core.run import Run
from tfbig.engine import checkpoint
from tfbig.engine.trained import PARTS, choose_step, open_part

KEPT = ("config.json", "env.json", "data.json", "metrics.json", "skipped.json")


def copy(run: Run, task: Task, note: Callable[[str], None]) -> None:
    """Copies the runs that a task uses into `run`, each with its best checkpoint, if not there."""
    for name, source in task.uses().items():
        target = run.path / PARTS / name
        if target.is_dir():
            continue
        used = open_part(name, source)
        step = choose_step(used)
        beside = target.with_name(f".{name}.{os.getpid()}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for file in KEPT:
            if (used.path / file).is_file():
                shutil.copy2(used.path / file, beside)
        folder = checkpoint.folder_name(step)
        shutil.copytree(used.checkpoints / folder, beside / "checkpoints" / folder)
        if (used.path / PARTS).is_dir():  # it may use others itself
            shutil.copytree(used.path / PARTS, beside / PARTS)
        os.rename(beside, target)
        note(f"{name}: {used.path}, step {step:,}")
