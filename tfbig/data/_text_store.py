"""From documents to token files.

Cleaning, splitting, tokenising, once, into a checksummed folder of the cache.

    CACHE/tfbig/tokens/KEY/train.bin validation.bin test.bin   tokens, uint16 or uint32
                           tokenizer.json                      the tokenizer
                           store.json   what was read, left out, written; sizes and sha256
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tfbig.core import files
from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.core.lazy import np
from tfbig.prep import bpe, tokenizers, vocabularies
from tfbig.prep import text as prep
from tfbig.prep.wordpiece import WordPiece

FORMAT = 7  # raised when the same settings would write other files, or are refused now
BLOCK = 64  # characters in a row whose reappearance in training text counts as a leak
BATCH_CHARACTERS = 4_000_000  # tokenised at once

Documents = Iterable[tuple[str | None, str, str]]
"""(split if the publisher fixed it, name, text) of each document."""


def cache() -> Path:
    """Where token files live; follows the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tfbig" / "tokens"


@dataclass(frozen=True)
class Rules:
    """How documents are cleaned and split, and by what tokenizer they are read.

    The settings of a text dataset.
    """

    normalize: str
    duplicates: str
    near: float
    min_characters: int
    max_characters: int | None
    max_odd: float
    script: str
    validation: float
    test: float
    split_seed: int
    tokenizer: str
    vocabulary: int
    vocabulary_path: str | None
    cased: bool
    min_count: int


def prepared(documents: Callable[[], Documents], fingerprint: str, rules: Rules) -> Path:
    """The folder with a source's token files, made if it is not there yet or no longer whole.

    Args:
        documents: gives them anew each time.
        fingerprint: changes when the documents or a ready vocabulary change.
        rules: what else decides the files.
    """
    key = json.dumps([FORMAT, fingerprint, {**vars(rules), "vocabulary_path": None}])
    return kept(key, lambda folder: _write(folder, documents, rules))


def kept(key: str, write: Callable[[Path], None]) -> Path:
    """The folder of the cache that belongs to a key, written if it is not there or not whole.

    Args:
        key: all that decides its files, as a text.
        write: writes them to a folder, and ends with `finish`.
    """
    final = cache() / hashlib.sha256(key.encode()).hexdigest()[:24]
    if (final / "store.json").is_file():
        if _whole(final):
            return final
        shutil.rmtree(final, ignore_errors=True)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".", dir=final.parent))
    except OSError as error:
        raise files.disk_failure(final, 0, error) from error
    try:
        write(beside)
        try:
            os.rename(beside, final)
        except OSError:
            # Else another process was first, with the same content
            if not (final / "store.json").is_file():
                raise
    except OSError as error:
        raise files.disk_failure(final, 0, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return final


def finish(folder: Path, tokenizer: tokenizers.Tokenizer, store: dict, names: list[str]) -> None:
    """Writes tokenizer.json and, with the digests of all files, store.json."""
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer.to_json(), ensure_ascii=False), "utf-8"
    )
    digests = {name: _sha256(folder / name) for name in [*names, "tokenizer.json"]}
    files.write_json(folder / "store.json", {**store, "files": digests})


def _whole(folder: Path) -> bool:
    """Whether every file is as it was written."""
    try:
        saved = json.loads((folder / "store.json").read_text("utf-8"))["files"]
        return all(_sha256(folder / name) == expected for name, expected in saved.items())
    except (OSError, ValueError, KeyError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Cleaner:
    """A filter of documents, which counts why it leaves documents out."""

    def __init__(self, rules: Rules):
        self.rules = rules
        self.near = prep.NearDuplicates(rules.near)
        self.seen = set()
        reasons = (
            "too short",
            "too long",
            "odd characters",
            "other script",
            "exact duplicates",
            "near duplicates",
        )
        self.counts = {"read": 0, **dict.fromkeys(reasons, 0), "kept": 0}

    def keeps(self, text: str) -> bool:
        """Whether a normalised document stays."""
        self.counts["read"] += 1
        reason = self._reason(text)
        self.counts[reason or "kept"] += 1
        return reason is None

    def _reason(self, text: str) -> str | None:
        rules = self.rules
        if len(text) < max(1, rules.min_characters) or not text.strip():
            return "too short"
        if rules.max_characters is not None and len(text) > rules.max_characters:
            return "too long"
        if rules.max_odd < 1 and prep.odd_share(text) > rules.max_odd:
            return "odd characters"
        if rules.script != "any" and prep.script_share(text, rules.script) < 0.5:
            return "other script"
        if rules.duplicates != "keep":
            mark = prep.digest(text)
            if mark in self.seen:
                return "exact duplicates"
            self.seen.add(mark)
        if rules.duplicates == "drop_near" and self.near.seen(prep.sketch(text)):
            return "near duplicates"
        return None


@dataclass(frozen=True)
class Piece:
    """A part of a document that goes to a split: characters start ... end."""

    split: str
    start: int = 0
    end: int | None = None


def plan(documents: Documents, rules: Rules) -> tuple[list[list[Piece]], dict]:
    """For each document its pieces (none: left out), and the counts of the cleaning."""
    cleaner = Cleaner(rules)
    fixed = []
    lengths = []
    marks = []
    for split, _, text in documents:
        text = prep.normalize(text, rules.normalize)
        kept = cleaner.keeps(text)
        fixed.append(split)
        lengths.append(len(text) if kept else 0)
        marks.append(prep.digest(text) if kept else b"")
    kept = [i for i, length in enumerate(lengths) if length]
    if not kept:
        raise UserError(
            f"data: no text is left after cleaning. Counts: {cleaner.counts}. Relax the filters or"
            " give other files."
        )
    pieces: list[list[Piece]] = [[] for _ in lengths]
    if any(fixed):
        division = "as published"
        split_of = {i: fixed[i] or "train" for i in kept}
    else:
        division = "by document"
        split_of = _by_document(kept, lengths, marks, rules)
    if not split_of:
        division = "by position in the text"
    for i in kept:
        pieces[i] = [Piece(split_of[i])] if split_of else _cut(lengths[i], rules)
    return pieces, {**cleaner.counts, "split": division}


def _cut(length: int, rules: Rules) -> list[Piece]:
    """A text's beginning, its middle and its end, but for those that would be empty."""
    first = round(length * (1 - rules.validation - rules.test))
    second = round(length * (1 - rules.test))
    bounds = {"train": (0, first), "validation": (first, second), "test": (second, length)}
    return [Piece(split, start, end) for split, (start, end) in bounds.items() if start < end]


def _by_document(kept, lengths, marks, rules) -> dict[int, str]:
    """Whole documents at random until each held-out split has its share of characters.

    Duplicates stay together.

    A document longer than usual that would take a held-out split far over its share is left for
    training. Empty where whole documents do not come near the shares: there are too few, or most of
    the text is in a few of them.
    """
    groups: dict[bytes, list[int]] = {}
    for i in kept:
        groups.setdefault(marks[i], []).append(i)
    if len(groups) < len(SPLITS):
        return {}
    order = [groups[mark] for mark in sorted(groups)]
    order = [
        order[i] for i in np.random.RandomState(rules.split_seed).permutation(len(order))[::-1]
    ]
    sizes = [sum(lengths[i] for i in group) for group in order]
    usual = 1.5 * np.median(sizes)
    total = sum(sizes)
    split_of = dict.fromkeys(kept, "train")
    remaining = total
    for split, share in (("test", rules.test), ("validation", rules.validation)):
        target = total * share
        taken = 0
        for group, size in zip(order, sizes, strict=True):
            fits = size <= usual or taken + size <= 1.5 * target
            if taken < target and fits and size < remaining and split_of[group[0]] == "train":
                split_of |= dict.fromkeys(group, split)
                taken += size
                remaining -= size
        if taken < target / 2:
            return {}
    # At most a quarter of the text taken beyond the shares
    return split_of if remaining >= total * (0.75 - rules.validation - rules.test) else {}


def _texts(documents: Documents, pieces, rules: Rules, split: str) -> Iterator[str]:
    for (_, _, text), document_pieces in zip(documents, pieces, strict=True):
        for piece in document_pieces:
            if piece.split == split:
                yield prep.normalize(text, rules.normalize)[piece.start : piece.end]


def _write(folder: Path, documents: Callable[[], Documents], rules: Rules) -> None:
    pieces, counts = plan(documents(), rules)

    def of(split):
        return _texts(documents(), pieces, rules, split)

    number = {
        split: sum(piece.split == split for document_pieces in pieces for piece in document_pieces)
        for split in SPLITS
    }
    tokenizer = _tokenizer(of("train"), rules, packed=max(number.values()) > 1)
    sizes = {
        split: _tokenize(folder / f"{split}.bin", of(split), tokenizer, packed=number[split] > 1)
        for split in SPLITS
    }
    store = {
        "cleaning": counts,
        "splits": {split: {"documents": number[split], **sizes[split]} for split in SPLITS},
        "overlap": overlap(of),
        "dtype": dtype_of(tokenizer),
    }
    finish(folder, tokenizer, store, [f"{split}.bin" for split in SPLITS])


def dtype_of(tokenizer: tokenizers.Tokenizer) -> str:
    """The type of token files: the smallest that holds the vocabulary."""
    return "uint16" if tokenizer.size <= 2**16 else "uint32"


def _tokenizer(texts: Iterable[str], rules: Rules, packed: bool):
    """The tokenizer, learnt from training text alone where it is learnt."""
    if rules.tokenizer == "characters":
        return tokenizers.Characters.of(texts, min_count=rules.min_count, separator=packed)
    if rules.tokenizer == "bytes":
        return tokenizers.Bytes()
    if rules.tokenizer == "ready":
        return vocabularies.ready(Path(rules.vocabulary_path or "").expanduser())
    if rules.tokenizer == "wordpiece":
        return WordPiece.train(texts, rules.vocabulary, lowercase=not rules.cased)
    return bpe.BPE.train(texts, rules.vocabulary)


def _tokenize(path: Path, texts: Iterable[str], tokenizer, packed: bool) -> dict:
    """Writes a split's tokens, documents behind each other; returns how many.

    A begin token stands before each document. The separator follows each, if there are several or
    there is a begin token.
    """
    begin = [] if tokenizer.begin is None else [tokenizer.begin]
    parted = tokenizer.separator is not None and (packed or bool(begin))
    end = [tokenizer.separator] if parted else []
    characters = tokens = 0
    with path.open("wb") as file:
        for batch in _batches(texts):
            try:
                encoded = tokenizer.encode_all(batch)
            except UserError as error:
                lacking = "the vocabulary" if path.stem == "train" else "training text"
                raise UserError(
                    f"data: the {path.stem} split holds what {lacking} does not. {error}"
                ) from error
            for document in encoded:
                opened = begin if begin != end or not tokens else []  # a token for both stands once
                framed = np.concatenate([opened, document, end]).astype(dtype_of(tokenizer))
                file.write(framed.tobytes())
                tokens += len(framed)
            characters += sum(map(len, batch))
        file.flush()
        os.fsync(file.fileno())
    return {"characters": characters, "tokens": tokens}


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, length = [], 0
    for text in texts:
        batch.append(text)
        length += len(text)
        if length >= BATCH_CHARACTERS:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def overlap(of: Callable[[str], Iterable[str]]) -> dict[str, float]:
    """The leak check: the share of a held-out split's text that is found in training text.

    It is counted in blocks of 64 characters, letter for letter.
    """
    blocks = {}
    for split in ("validation", "test"):
        parts = [prep.rolling_hash(text, BLOCK)[::BLOCK] for text in of(split)]
        blocks[split] = np.concatenate([np.empty(0, np.uint64), *parts])
    is_found = {split: np.zeros(len(value), bool) for split, value in blocks.items()}
    # Each batch is compared with all blocks, so it is no single document
    for texts in _batches(of("train")):
        hashes = np.sort(np.concatenate([prep.rolling_hash(text, BLOCK) for text in texts]))
        if len(hashes):
            for split, value in blocks.items():
                place = np.minimum(np.searchsorted(hashes, value), len(hashes) - 1)
                is_found[split] |= hashes[place] == value
    return {
        split: round(float(value.mean()), 6) if len(value) else 0.0
        for split, value in is_found.items()
    }
