"""An artefact on the disk.

NAME/VERSION/ with artefact.json, which lists every file with its size and sha256.

    saved_model.pb, variables/    signatures, as "signatures" of artefact.json lists them
    model.onnx, model.tflite      numbers -> outputs of `Task.predict`; int8: model.int8.*
    prefill.onnx, step.onnx       instead of model.onnx for a language model; int8: *.int8.onnx
    assets.extra/                 metadata.json; for a language model tokenizer.json,
                                  generation.json
    card.md                       the model card

Signatures of a language model (b rows, t tokens, c the context, n new tokens, v tokens of the
vocabulary):

    serving_default   prompt string [b] -> text string [b], tokens int32 [b] (how many were written)
    generate          the same with scalars: length, seed, top_k (0: all) int32, temperature
                      (0: greedy), top_p (1: all) float32
    score             text string [b] -> log_probability float32 [b] (nats), tokens, bytes int32 [b]
    tensors           tokens int32 [b, c + 1], length int32 [b] -> log_probability float32,
                      right bool [b, c]
    prefill           tokens int32 [b, t], count int32 [b] -> logits float32 [b, v], cache_0 ...
    step              token, position int32 [b], cache_0 ... -> logits float32 [b, v], cache_0 ...

Where the tokenizer cannot be a part of the graph (generation.json: "takes": "tokens"), the first
three take tokens int32 [b, t] and count int32 [b] instead of texts; generation also gives ids int32
[b, n], and text where tokens can be turned into text. In ONNX, where names are unique, the caches
that step.onnx gives are called new_cache_0 ...; prefill.onnx keeps cache_0 ...

A server of streams brings a prompt to the Unicode form of generation.json's "normalize", with plain
newlines, and reads its tokens behind "start" ("opening" if there are none at all), gives them to
prefill, then each chosen token with its position (count, count + 1, ...) to step. Behind
`separator` a text ends. Where position would be c, it starts again with prefill on the last c / 2
tokens.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath

from tfbig.core.errors import UserError
from tfbig.core.files import write_json

RECORD = "artefact.json"
EXPECTED = {
    "labels": "a list of texts",
    "purpose": "a text",
    "metrics": "metrics, each with its value",
    "media": "takes and gives, each a name's kind",
}
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
    record = {"schema": 1, "files": listed, **facts}
    write_json(folder / RECORD, record)
    return record


def read(folder: Path) -> dict:
    """The content of artefact.json, its form checked but not yet the files."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: has no {RECORD}, so nothing says what it should hold. Export it with python"
            " -m tfbig.export."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}.") from error
    files = record.get("files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or not all(
        isinstance(entry, dict) and {"size", "sha256"} <= set(entry) for entry in files.values()
    ):
        raise UserError(
            f"{path}: expected files with sizes and checksums. Export the artefact again."
        )
    wrong = _wrong(record)
    if wrong:
        raise UserError(f"{path}: {wrong}: expected {EXPECTED[wrong]}. Export the artefact again.")
    return record


def _wrong(record: dict) -> str | None:
    """The part that readers of the record could not use, if any."""
    labels, metrics = record.get("labels", []), record.get("metrics", {})
    values = metrics.get("metrics", {}) if isinstance(metrics, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return "labels"
    if not isinstance(record.get("purpose", ""), str):
        return "purpose"
    if not isinstance(values, dict) or not all(
        isinstance(one, dict) and isinstance(one.get("value"), int | float)
        for one in values.values()
    ):
        return "metrics"
    media = record.get("media", {})
    if not isinstance(media, dict) or not all(
        isinstance(side, dict) and all(isinstance(kind, str) for kind in side.values())
        for side in media.values()
    ):
        return "media"
    return None


def check(folder: Path) -> dict:
    """Raises UserError unless the directory holds exactly the files that artefact.json lists,
    unchanged. Returns its content.
    """
    check_paths(folder)
    record = read(folder)
    for name in record["files"]:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
            raise UserError(
                f"{folder / RECORD}: refused: the path {name!r} leads out of the artefact."
            )
    there = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    } - {RECORD}
    for name in sorted(there - set(record["files"])):
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
    """Raises UserError if anything in the directory is a link or otherwise no plain file or
    folder.
    """
    for path in [folder, *folder.rglob("*")]:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UserError(f"{path}: refused: expected plain files and folders only, no links.")
