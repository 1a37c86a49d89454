"""From pairs of texts to token files.

Cleaning, splitting, tokenising, once, into a checksummed folder of the cache, as `_text_store.py`
does it for documents.

    CACHE/tfbig/tokens/KEY/SPLIT_SIDE.bin    tokens of all texts of a side behind each other, each
                                             with the separator behind it; uint16 or uint32
                           SPLIT_SIDE.npy    where each text ends in them, int64 [n]
                           tokenizer.json    the tokenizer of both sides
                           store.json        what was read, left out, written; sizes and sha256
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.core.lazy import np
from tfbig.core.spelling import MISSING
from tfbig.data import _text_store as store
from tfbig.prep import bpe, tokenizers, vocabularies
from tfbig.prep import text as prep
from tfbig.prep.reordered import first_tokens

FORMAT = 3  # raised when the same settings would write other files
SIDES = ("source", "target")
NOTHING = "with nan or the like as one text"
SLACK = 10  # characters added to both lengths: short texts have any ratio
BATCH = 10_000  # texts tokenised at once

Pairs = Iterable[tuple[str | None, str, str, str]]
"""(split if the publisher fixed it, place, source, target) of each pair."""


@dataclass(frozen=True)
class Rules:
    """How pairs are cleaned and split, and by what tokenizer they are read."""

    normalize: str
    duplicates: str
    max_ratio: float | None
    source_script: str
    target_script: str
    max_source: int
    max_target: int
    validation: float
    test: float
    split_seed: int
    tokenizer: str
    vocabulary: int
    vocabulary_path: str | None
    min_count: int


@dataclass
class Pair:
    """Two texts that say the same, and the split they belong to; None: not decided yet."""

    split: str | None
    source: str
    target: str


def prepared(pairs: Callable[[], Pairs], fingerprint: str, rules: Rules) -> Path:
    """The folder with a source's token files, made if it is not there yet or no longer whole."""
    key = json.dumps(["pairs", FORMAT, fingerprint, {**vars(rules), "vocabulary_path": None}])
    return store.kept(key, lambda folder: _write(folder, pairs(), rules))


def _write(folder: Path, pairs: Pairs, rules: Rules) -> None:
    kept, counts = cleaned(pairs, rules)
    division = divide(kept, rules)
    by_split = {split: [pair for pair in kept if pair.split == split] for split in SPLITS}
    tokenizer, scored = _tokenizer(by_split["train"], rules)
    sizes, names = {}, []
    for split in SPLITS:
        encoded, too_long = _encoded(by_split[split], tokenizer, rules, split)
        by_split[split] = [pair for pair, _ in encoded]
        sizes[split] = {"pairs": len(encoded), "too_long": too_long}
        for number, side in enumerate(SIDES):
            texts = [tokens[number] for _, tokens in encoded]
            sizes[split][f"{side}_tokens"] = _save(folder / f"{split}_{side}", texts, tokenizer)
            names += [f"{split}_{side}.bin", f"{split}_{side}.npy"]
    content = {
        "cleaning": {**counts, "split": division},
        "splits": sizes,
        "leaks": leaks(by_split),
        "dtype": store.dtype_of(tokenizer),
        "scored": scored,
    }
    store.finish(folder, tokenizer, content, names)


def cleaned(pairs: Pairs, rules: Rules) -> tuple[list[Pair], dict[str, int]]:
    """The pairs that stay, normalised, and why others do not.

    Of published validation and test splits only empty pairs are left out, so that figures can be
    compared with others'.
    """
    reasons = ("empty", "length ratio", "copies", NOTHING, "other script", "duplicates")
    counts = Counter({"read": 0, **dict.fromkeys(reasons, 0)})
    read = []
    for split, _, *texts in pairs:
        counts["read"] += 1
        read.append(Pair(split, *(prep.normalize(text.strip(), rules.normalize) for text in texts)))
    ratios = [len(pair.target) / len(pair.source) for pair in read if pair.source]
    usual = float(np.median(ratios)) if ratios else 1.0
    seen, kept = set(), []
    for pair in read:
        reason = _reason(pair, rules, usual, seen)
        counts[reason or "kept"] += 1
        if reason is None:
            kept.append(pair)
    if not kept:
        raise UserError(
            f"data: no pair is left after cleaning. Counts: {dict(counts)}. Relax the filters or"
            " give other files."
        )
    return kept, dict(counts)


def _reason(pair: Pair, rules: Rules, usual: float, seen: set) -> str | None:
    """Why a pair is left out; `usual` is the median of target over source characters."""
    if not pair.source or not pair.target:
        return "empty"
    if pair.split in ("validation", "test"):
        return None
    if rules.max_ratio is not None:
        ratio = (len(pair.target) + SLACK) / (len(pair.source) * usual + SLACK)
        if max(ratio, 1 / ratio) > rules.max_ratio:
            return "length ratio"
    if pair.source == pair.target:
        return "copies"
    if pair.source in MISSING or pair.target in MISSING:
        return NOTHING
    scripts = ((pair.source, rules.source_script), (pair.target, rules.target_script))
    for text, script in scripts:
        if script != "any" and prep.script_share(text, script) < 0.5:
            return "other script"
    if rules.duplicates == "drop":
        mark = prep.digest(pair.source) + prep.digest(pair.target)
        if mark in seen:
            return "duplicates"
        seen.add(mark)
    return None


def divide(pairs: list[Pair], rules: Rules) -> str:
    """Gives each pair its split; returns how it was done.

    Held-out splits that are not published are chosen at random among the training pairs, in groups
    that share a source or a target.
    """
    published = {pair.split for pair in pairs} - {None}
    missing = [split for split in ("test", "validation") if split not in published]
    open_pairs = [pair for pair in pairs if pair.split in (None, "train")]
    for pair in open_pairs:
        pair.split = "train"
    if not missing:
        return "as given"
    groups = _groups(open_pairs)
    order = np.random.RandomState(rules.split_seed).permutation(len(groups))
    shares = {"test": rules.test, "validation": rules.validation}
    largest = max(1, len(open_pairs) // 100)  # a group of more stays in training
    remaining = iter(groups[i] for i in order if len(groups[i]) <= largest)
    for split in missing:
        wanted = round(shares[split] * len(open_pairs))
        taken = 0
        while taken < wanted and (group := next(remaining, None)) is not None:
            for pair in group:
                pair.split = split
            taken += len(group)
    made = " and ".join(sorted(missing))
    return f"{made} at random, pairs with a common source or target together"


def _groups(pairs: list[Pair]) -> list[list[Pair]]:
    """Pairs that are linked by equal sources or targets, each group a list."""
    parent = list(range(len(pairs)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    holder: dict[tuple[str, bytes], int] = {}
    for place, pair in enumerate(pairs):
        for side in SIDES:
            mark = side, prep.digest(getattr(pair, side))
            parent[root(place)] = root(holder.setdefault(mark, place))
    members: dict[int, list[Pair]] = {}
    for place, pair in enumerate(pairs):
        members.setdefault(root(place), []).append(pair)
    return list(members.values())


def leaks(by_split: dict[str, list[Pair]]) -> dict[str, dict[str, int]]:
    """How many held-out pairs have a source, a target or both that stand in training."""
    known = {side: {prep.digest(getattr(p, side)) for p in by_split["train"]} for side in SIDES}
    both = {prep.digest(p.source) + prep.digest(p.target) for p in by_split["train"]}
    found = {}
    for split in ("validation", "test"):
        counts = dict.fromkeys((*SIDES, "pair"), 0)
        for pair in by_split[split]:
            marks = {side: prep.digest(getattr(pair, side)) for side in SIDES}
            for side in SIDES:
                counts[side] += marks[side] in known[side]
            counts["pair"] += marks["source"] + marks["target"] in both
        found[split] = counts
    return found


def _tokenizer(pairs: list[Pair], rules: Rules) -> tuple[tokenizers.Tokenizer, int]:
    """The tokenizer, learnt from training texts of both sides, and how many numbers are scored.

    Of a learnt vocabulary those tokens that stand in training targets come first.
    """
    texts = [text for pair in pairs for text in (pair.source, pair.target)]
    if rules.tokenizer == "bpe":
        learnt = bpe.BPE.train(texts, rules.vocabulary)
        used = np.zeros(learnt.size, bool)
        for batch in _batches([pair.target for pair in pairs]):
            used[np.concatenate(learnt.encode_all(batch))] = True
        return first_tokens(learnt, np.flatnonzero(used))
    if rules.tokenizer == "characters":
        chosen = tokenizers.Characters.of(texts, min_count=rules.min_count, separator=True)
    elif rules.tokenizer == "bytes":
        chosen = tokenizers.Bytes()
    else:
        chosen = vocabularies.ready(Path(rules.vocabulary_path or "").expanduser())
    if not chosen.lossless:
        raise UserError(
            "data.vocabulary_path: expected a vocabulary that gives every text back, since"
            f" translations are texts. Received: {rules.vocabulary_path}, {chosen.kind}. Give a"
            " byte-pair or SentencePiece vocabulary."
        )
    if chosen.separator is None:
        raise UserError(
            "data.vocabulary_path: expected a vocabulary with a token behind a text, such as </s>."
            f" Received: {rules.vocabulary_path}, which has none. Give another one."
        )
    return chosen, chosen.size


def _batches(texts: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(texts), BATCH):
        yield texts[first : first + BATCH]


def _encoded(pairs: list[Pair], tokenizer, rules: Rules, split: str):
    """(pair, its tokens) of those that are not too long, and how many are."""
    sides = []
    for side in SIDES:
        tokens = []
        for batch in _batches([getattr(pair, side) for pair in pairs]):
            try:
                tokens += tokenizer.encode_all(batch)
            except UserError as error:
                lacking = "the vocabulary" if split == "train" else "training text"
                raise UserError(
                    f"data: the {split} split holds what {lacking} does not. {error}"
                ) from error
        sides.append(tokens)
    most = rules.max_source, rules.max_target
    encoded = [
        (pair, tokens)
        for pair, *tokens in zip(pairs, *sides, strict=True)
        if all(len(own) < limit for own, limit in zip(tokens, most, strict=True))
    ]
    return encoded, len(pairs) - len(encoded)


def _save(path: Path, texts: list[np.ndarray], tokenizer) -> int:
    """Writes the tokens of texts and where each ends; returns how many there are."""
    end = np.array([tokenizer.separator])
    ends = np.cumsum([len(tokens) + 1 for tokens in texts], dtype=np.int64)
    np.save(path.with_suffix(".npy"), ends)
    with path.with_suffix(".bin").open("wb") as file:
        for tokens in texts:
            file.write(np.concatenate([tokens, end]).astype(store.dtype_of(tokenizer)).tobytes())
    return int(ends[-1]) if len(ends) else 0
