"""Checkpoints: written to a temporary folder, synced, checksummed and renamed.

They are read back only if every byte is as it was written.

    RUN/checkpoints/000009370/
        weights.safetensors     the model's variables, seeds of Dropout included
        adapter.safetensors     those that an adapter of the model keeps apart
        optimizer.safetensors   the optimiser's variables, moving averages, loss scale
        callbacks.safetensors   arrays that Keras callbacks remember, if there are any
        source.safetensors      the state of an agent that makes its own batches
        state.json              step, best so far, sizes and sha256 of the files, its own digest
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfbig.core import files
from tfbig.core.errors import DiskFull, NonFinite, RunFailure, UserError
from tfbig.core.lazy import np, tf

WEIGHTS = "weights.safetensors"
ADAPTER = "adapter.safetensors"
OPTIMIZER = "optimizer.safetensors"
CALLBACKS = "callbacks.safetensors"
SOURCE = "source.safetensors"
STATE = "state.json"


def named(variables: list) -> dict:
    """Variables by their paths, in order; paths that occur twice are numbered.

    Keras numbers seed generators over the whole process, so their own number says nothing and is
    left out.
    """
    result: dict = {}
    for variable in variables:
        stem = re.sub(r"\bseed_generator_\d+/", "seed_generator/", variable.path)
        path, number = stem, 1
        while path in result:
            number += 1
            path = f"{stem}:{number}"
        result[path] = variable
    return result


def folder_name(step: int) -> str:
    return f"{step:09d}"


def steps(checkpoints: Path) -> list[int]:
    """The steps with a checkpoint, ascending; only reading one shows whether it is intact."""
    if not checkpoints.is_dir():
        return []
    names = [
        entry.name
        for entry in checkpoints.iterdir()
        if entry.name.isascii() and entry.name.isdecimal() and entry.is_dir()
    ]
    return sorted(int(name) for name in names if name == folder_name(int(name)))


def identity(folder: Path) -> int | None:
    """A number that tells checkpoints of the same step apart; None: there is none."""
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def snapshot(step: int, variables: dict[str, list], extra: dict[str, dict] | None = None) -> dict:
    """Copies of all values: file name -> path of the variable -> array.

    `extra` has further files' arrays, which are not changed any more.

    Raises:
        NonFinite: a variable is NaN or infinite.
    """
    values = {name: _host(listed) for name, listed in variables.items()}
    for path, value in (item for tensors in values.values() for item in tensors.items()):
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise NonFinite(
                f"step {step}: {path} is no longer finite, so no checkpoint was written."
            )
    return {**values, **{name: arrays for name, arrays in (extra or {}).items() if arrays}}


def save(
    checkpoints: Path,
    step: int,
    variables: dict[str, list],
    state: dict,
    extra: dict[str, dict] | None = None,
) -> Path:
    """Writes the checkpoint of a step.

    The checkpoints that were there before stay whole, whatever happens meanwhile.

    Args:
        checkpoints: the run's folder of checkpoints.
        step: optimiser steps made.
        variables: what is in each file of variables, such as `Setup.files`.
        state: JSON values to go with them.
        extra: arrays of further files, such as what callbacks remember under the names by which
            `state` refers to it; not changed any more.

    Raises:
        NonFinite: a variable is NaN or infinite; nothing is written.
        RunFailure: the disk is full or the folder cannot be written; older checkpoints are intact.
    """
    return write(checkpoints, step, snapshot(step, variables, extra), state)


def write(checkpoints: Path, step: int, values: dict, state: dict) -> Path:
    """Writes what `snapshot` took; see `save`."""
    final = checkpoints / folder_name(step)
    beside = checkpoints / f".{folder_name(step)}.{os.getpid()}.tmp"
    needed = sum(value.nbytes for tensors in values.values() for value in tensors.values())
    try:
        # Without parents: a run directory that is gone is not made anew in part
        checkpoints.mkdir(exist_ok=True)
        for leftover in checkpoints.glob(".*.tmp"):  # of a process that was killed while writing
            shutil.rmtree(leftover, ignore_errors=True)
        beside.mkdir()
        sums = {name: _write(beside / name, tensors) for name, tensors in values.items()}
        body = {"step": step, **state, "files": sums}
        files.write_synced(
            beside / STATE, json.dumps({**body, "digest": _digest(body)}, indent=1).encode()
        )
        files.sync_folder(beside)
        _remove(checkpoints, [step])  # the same step again, after a resume from before it
        os.rename(beside, final)
        files.sync_folder(checkpoints)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise files.disk_failure(final, needed, error) from error
    return final


def make_room(checkpoints: Path, keep: int, step: int) -> bool:
    """Removes ahead of time what `prune` removes once the checkpoint of `step` is written.

    The newest intact checkpoint and the best one on the disk stay: training can resume from there
    whatever follows.

    Returns:
        Whether any was removed.
    """
    before = [earlier for earlier in steps(checkpoints) if earlier < step]
    for newest in reversed(before):
        with contextlib.suppress(ValueError):
            state = read_state(checkpoints / folder_name(newest))
            for name in state["files"]:
                read_file(checkpoints / folder_name(newest), name, state)
            kept = {newest, state["best"] and state["best"]["step"], *before[1 - keep :]}
            return _remove(checkpoints, [earlier for earlier in before if earlier not in kept])
    return False


class Writer:
    """Writes checkpoints while training goes on, one at a time.

    A failure is raised at the next save, or at the end.
    """

    def __init__(self, checkpoints: Path, keep: int):
        self.checkpoints, self.keep = checkpoints, keep
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._last = None
        self.durable = max(steps(checkpoints), default=None)  # the latest step that is on the disk

    def save(
        self, step: int, variables: dict[str, list], state: dict, extra: dict | None = None
    ) -> None:
        """As the function `save`, but returns once the values are copied.

        Also removes what need not be kept.
        """
        self.wait()
        values = snapshot(step, variables, extra)
        best = state["best"] and state["best"]["step"]
        state = json.loads(json.dumps(state))  # training changes it meanwhile

        def work() -> None:
            try:
                write(self.checkpoints, step, values, state)
            except DiskFull:
                if not make_room(self.checkpoints, self.keep, step):
                    raise
                write(self.checkpoints, step, values, state)
            self.durable = step
            prune(self.checkpoints, self.keep, best, step)

        self._last = self._thread.submit(work)

    def wait(self) -> None:
        """Waits until the last save is on the disk."""
        last = self._last
        self._last = None
        if last is not None:
            last.result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self.wait()
        except RunFailure as late:
            raise late if error is None else RunFailure(f"{error}\n{late}") from error
        finally:
            self._thread.shutdown()


def _host(variables: list) -> dict:
    # A copy: compiled steps update variables in place.
    return {
        path: np.array(variable.numpy(), order="C") for path, variable in named(variables).items()
    }


def _write(path: Path, tensors: dict) -> dict:
    from safetensors.numpy import save as encode

    payload = encode(tensors)
    files.write_synced(path, payload)
    return {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}


def _digest(body: dict) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def read_state(folder: Path) -> dict:
    """The state of a checkpoint.

    Raises:
        ValueError: a file is missing or not as it was written; the message says which.
    """
    try:
        body = json.loads((folder / STATE).read_bytes())
        digest = body.pop("digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / STATE}: missing or damaged") from error
    if digest != _digest(body):
        raise ValueError(f"{folder / STATE}: damaged, its content does not match its checksum")
    return body


def read_file(folder: Path, name: str, state: dict) -> dict:
    """The tensors of one of a checkpoint's files: path of the variable -> array.

    Raises:
        ValueError: it is missing, or not as it was written.
        UserError: the checkpoint never had it.
    """
    from safetensors.numpy import load as decode

    path = folder / name
    expected = state["files"].get(name)
    if expected is None:
        raise UserError(f"{folder}: has no {name}. Use the settings it was written with.")
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if len(payload) != expected["bytes"]:
        raise ValueError(f"{path}: torn, expected {expected['bytes']} bytes, found {len(payload)}")
    if hashlib.sha256(payload).hexdigest() != expected["sha256"]:
        raise ValueError(f"{path}: damaged, its content does not match its checksum")
    return decode(payload)


def load(folder: Path, variables: dict[str, list]) -> dict:
    """Puts the values of a checkpoint's files into their variables and returns its state.

    With the optimiser's file, the callbacks' arrays too, as "arrays", and an agent's state, as
    "source".

    Raises:
        ValueError: the checkpoint is damaged; no variable was changed.
        UserError: it is intact but belongs to another model.
    """
    state = read_state(folder)
    targets_of = {name: named(listed) for name, listed in variables.items()}
    values = {name: read_file(folder, name, state) for name in targets_of}
    extra = {"arrays": {}, "source": {}}
    for key, name in (("arrays", CALLBACKS), ("source", SOURCE)):
        if OPTIMIZER in targets_of and name in state["files"]:
            extra[key] = read_file(folder, name, state)
    for name, targets in targets_of.items():
        _check_fit(folder / name, targets, values[name])
    for name, targets in targets_of.items():
        for path, variable in targets.items():
            variable.assign(tf.constant(values[name][path], dtype=variable.dtype))
    return {**state, **extra}


def _check_fit(path: Path, variables: dict, values: dict) -> None:
    missing = [v for v in variables if v not in values]
    extra = [v for v in values if v not in variables]
    shapes = [v for v in variables if v in values and tuple(variables[v].shape) != values[v].shape]
    if not (missing or extra or shapes):
        return
    differences = [f"{len(missing)} missing (first: {missing[0]})"] if missing else []
    differences += [f"{len(extra)} not expected (first: {extra[0]})"] if extra else []
    differences += [
        f"{v} is {values[v].shape}, expected {tuple(variables[v].shape)}" for v in shapes[:1]
    ]
    raise UserError(
        f"{path}: belongs to another model or optimiser: {'; '.join(differences)}. Use the settings"
        " it was written with."
    )


def newest_intact(
    checkpoints: Path, variables: dict[str, list], warn=lambda text: None
) -> dict | None:
    """Loads the newest checkpoint that is whole; None: there is none at all.

    Each damaged one that it passes over is named.

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    present = steps(checkpoints)
    for step in reversed(present):
        try:
            return load(checkpoints / folder_name(step), variables)
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            warn(f"checkpoint of step {step} is passed over: {error}")
    if present:
        raise UserError(
            f"{checkpoints}: none of its {len(present)} checkpoints is intact, so there is nothing"
            " to load."
        )
    return None


def newest_state(checkpoints: Path) -> tuple[Path, dict] | None:
    """The folder and the state of the newest checkpoint whose state is whole; None: there is none.

    Its tensors are not read.
    """
    for step in reversed(steps(checkpoints)):
        with contextlib.suppress(ValueError):  # said when the checkpoint is passed over
            return checkpoints / folder_name(step), read_state(checkpoints / folder_name(step))
    return None


def prune(checkpoints: Path, keep: int, best: int | None, newest: int) -> None:
    """Removes all but the `keep` latest checkpoints and the best one.

    Those after `newest` are left alone: they were passed over as damaged.
    """
    older = [step for step in steps(checkpoints) if step <= newest][:-keep]
    _remove(checkpoints, [step for step in older if step != best])


def _remove(checkpoints: Path, doomed: list[int]) -> bool:
    """Removes the checkpoints of some steps; returns whether any is gone."""
    gone = False
    for step in doomed:
        # Renamed first, so that a kill halfway leaves a leftover and not a torn checkpoint.
        aside = checkpoints / f".{folder_name(step)}.{os.getpid()}.old.tmp"
        with contextlib.suppress(OSError):  # what cannot be removed stays
            os.rename(checkpoints / folder_name(step), aside)
            shutil.rmtree(aside, ignore_errors=True)
            gone = True
    return gone
