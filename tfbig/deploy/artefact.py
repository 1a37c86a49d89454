"""An artefact on the disk.

NAME/VERSION/ with artefact.json, which lists every file with its size and sha256.

    saved_model.pb, variables/    signatures, as "signatures" of artefact.json lists them
    model.onnx, model.tflite      numbers -> outputs of `Task.predict`; int8: model.int8.*
    NAME.onnx                     instead of model.onnx, the stepwise programs; int8: NAME.int8.onnx
    assets.extra/                 metadata.json, and the task's assets; a task says what they hold
    card.md                       the model card

artefact.json also says how it is asked: "media", what people give and are answered; "by_place",
signatures whose answer to a row depends on its place, so that requests are answered one by one; and
"stepwise", the programs that make one step after another (`Stepwise` in tfbig/core/serving.py says
what its parts mean). In ONNX, where names are unique, what a step renews is called new_NAME.

Schema 2; artefacts of schema 1, which said none of these, are read as what they were: those with
programs `prefill` and `step` are asked by them, and their other signatures one request by one.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath

from tfbig.core import saved
from tfbig.core.errors import UserError
from tfbig.core.files import write_json

RECORD = "artefact.json"
SCHEMA = 2
FORM = {
    "schema?": int,
    "files": {...: {"size": int, "sha256": str}},
    "labels?": [str],
    "purpose?": str,
    "metrics?": {"metrics?": {...: {"value": saved.NUMBER}}},
    "signatures?": {...: {"inputs?": {...: {"dtype": str}}, "outputs?": {...: {"dtype": str}}}},
    "media?": {
        "takes?": {...: str},
        "gives?": {...: str},
        "forms?": {...: dict},
        "signature?": str,
    },
    "by_place?": [str],
    "stepwise?": {
        "step": str,
        "start": str,
        "carried": [str],
        "fixed": [str],
        "scores": str,
        "chosen": str,
        "first": int,
        "end?": int,
        "position": str,
        "count": str,
        "unit": str,
    },
}
MOST_NESTED = 32
VERSION = re.compile(r"[1-9][0-9]{0,17}")


def versions(folder: Path) -> list[int]:
    """The version numbers in a model's directory, ascending."""
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in folder.iterdir()
        if VERSION.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink()
    )


def next_version(folder: Path) -> int:
    """The next free version number."""
    return max(versions(folder), default=0) + 1


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, facts: dict) -> dict:
    """Writes artefact.json: the files that are there now, and `facts`. Returns it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    listed = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in paths
    }
    record = {"schema": SCHEMA, "files": listed, **facts}
    write_json(folder / RECORD, record)
    return record


def read(folder: Path) -> dict:
    """The content of artefact.json, its form checked but not yet the files."""
    path = folder / RECORD
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path}: refused: expected a plain file.")
    try:
        record = _passed_on(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: has no {RECORD}, so nothing says what it should hold. Export it with python"
            " -m tfbig.export."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}.") from error
    if wrong := saved.misfit(record, FORM):
        raise UserError(f"{path}: {wrong} Export the artefact again.")
    if record.get("schema", 1) > SCHEMA:
        raise UserError(
            f"{path}: schema: expected at most {SCHEMA}. Received: {record['schema']}, of a later"
            " version of this package. Install that one."
        )
    return _upgraded(record)


def _passed_on(text: str) -> dict:
    """A JSON value that a server can pass on: finite numbers, whole characters, little nesting."""
    record = json.loads(text)
    json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    if _nested(record) > MOST_NESTED:
        raise ValueError(f"expected at most {MOST_NESTED} objects or lists inside of each other")
    return record


def _nested(value) -> int:
    """How many objects and lists are inside of each other."""
    if not isinstance(value, dict | list):
        return 0
    values = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_nested, values), default=0)


def _upgraded(record: dict) -> dict:
    """A record of schema 1 as one of today."""
    signatures = record.get("signatures", {})
    if record.get("schema", 1) > 1:
        return record
    if "media" not in record:
        record = {**record, "media": _media_of(signatures)}
    if not {"prefill", "step"} <= set(signatures):
        return record
    try:
        stepwise = _steps_of(signatures["prefill"], signatures["step"])
        sampled = {name for name, entry in signatures.items() if "seed" in entry["inputs"]}
    except (KeyError, ValueError):  # other programs of these names
        return record
    by_place = sorted({"serving_default", *sampled})
    return {**record, "by_place": by_place, "stepwise": stepwise}


def _media_of(signatures: dict) -> dict:
    """What schema 1 meant by a signature of pictures, answered by names and probabilities."""
    asked, ready = (signatures.get(name, {}) for name in ("serving_default", "tensors"))
    answers = {"label": "label", "probability": "number"}
    answers |= {"labels": "label", "probabilities": "probabilities"}
    if list(asked.get("inputs", {})) != ["image_bytes"]:
        return {}
    if set(asked.get("outputs", {})) != set(answers):
        return {}
    shape = ready.get("inputs", {}).get("image", {}).get("shape", [])[1:]
    forms = {"image_bytes": {"shape": shape}} if shape else {}
    return {"takes": {"image_bytes": "picture"}, "gives": answers, "forms": forms}


def _steps_of(start: dict, step: dict) -> dict:
    """What schema 1 meant by a start and a step with these signatures."""
    carried = sorted(set(step["inputs"]) & set(step["outputs"]))
    (chosen,) = set(step["inputs"]) - {"position", *carried}
    (count,) = (name for name, info in start["inputs"].items() if len(info["shape"]) == 1)
    steps = {"step": "step", "start": "prefill", "carried": carried, "fixed": [], "first": 0}
    places = {"position": "position", "count": count, "end": -1}
    return {**steps, **places, "scores": "logits", "chosen": chosen, "unit": chosen}


def check(folder: Path) -> dict:
    """The content of artefact.json, whose files are checked.

    Raises UserError unless the directory holds exactly the files that it lists, unchanged.
    """
    check_paths(folder)
    record = read(folder)
    for name in record["files"]:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
            raise UserError(
                f"{folder / RECORD}: refused: the path {name!r} leads out of the artefact."
            )
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    } - {RECORD}
    for name in sorted(present - set(record["files"])):
        raise UserError(f"{folder / name}: refused: {RECORD} does not list this file.")
    for name, entry in record["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: refused: the file is missing, {RECORD} lists it.")
        if path.stat().st_size != entry["size"] or sha256(path) != entry["sha256"]:
            raise UserError(
                f"{path}: refused: its content is not what {RECORD} says (sha256). Copy or export"
                " the artefact again."
            )
    return record


def check_paths(folder: Path) -> None:
    """Raises UserError if the directory holds anything but plain files and folders."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UserError(f"{path}: refused: expected plain files and folders only, no links.")
