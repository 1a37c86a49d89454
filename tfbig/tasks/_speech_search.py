"""The search of a recogniser: its words, its language model, and what it finds."""

from __future__ import annotations

import functools
from pathlib import Path

from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.data._transcribed import normalized
from tfbig.decoding import ctc
from tfbig.decoding.ngrams import NGrams

TRAIN = "train"
ARPA = "\\data\\"  # what a file of n-grams begins with


def found(task: Task, options, log_p: np.ndarray, counts: np.ndarray) -> tuple:
    """What a search finds in each row.

    Args:
        task: the bound recogniser.
        options: an instance of its `evaluation`.
        log_p: float32 [b, t, values].
        counts: real places of each row, [b].

    Returns:
        Tokens int32 [b, t], zeros behind their count, and the count int32 [b].
    """
    lexicon, language = _words(task, options)
    tokens = np.zeros(log_p.shape[:2], np.int32)
    number = np.zeros(len(log_p), np.int32)
    for row, count in enumerate(counts):
        own, _ = ctc.search(
            log_p[row, :count], options.beams, lexicon, language, bonus=options.bonus
        )
        tokens[row, : len(own)] = own
        number[row] = len(own)
    return tokens, number


def _words(task: Task, options) -> tuple:
    """The lexicon and the language model of a search, made once."""
    known = task.__dict__.setdefault("_searched", {})
    if options not in known:
        known[options] = _made(task, options)
    return known[options]


def _made(task: Task, options) -> tuple:
    if not options.lexicon:
        if options.language:
            raise UserError(
                "language: expected with a lexicon, which says what words are. Set"
                " --lexicon train or a text file."
            )
        return None, None
    tokenizer = task.tokenizer
    if tokenizer.kind != "characters":
        raise UserError(
            "lexicon: expected a recogniser of letters. Received: one of"
            f" {tokenizer.kind} (data.tokenizer)."
        )
    texts = _texts(task, options.lexicon, "lexicon")
    words = sorted({word for text in texts for word in text.split()})
    spelled = {}
    for word in words:
        tokens = tokenizer.encode(word).tolist()
        if tokenizer.unknown not in tokens:  # a letter that training lacks is never said
            spelled[word] = tokens
    if not spelled:
        raise UserError(
            f"lexicon: expected words of known letters. Received: none of {len(words)}."
        )
    space = int(tokenizer.encode(" ")[0])
    lexicon = ctc.Lexicon.of(spelled, space)
    if not options.language:
        return lexicon, None
    spoken = _texts(task, options.language, "language")
    grams = NGrams(spoken, options.order, words)
    return lexicon, functools.partial(_weighted, grams, options.weight)


def _weighted(grams: NGrams, weight: float, words: tuple[str, ...]) -> float:
    return weight * grams.log_p(words)


def _texts(task: Task, source: str, setting: str) -> list[str]:
    """The training transcripts, or the lines of a text file, as transcripts are learnt."""
    if source == TRAIN:
        return task.data.texts(TRAIN)
    path = Path(source).expanduser()
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{setting}: expected train or a text file in UTF-8. Received: {source}: {error}."
        ) from error
    if content.lstrip().startswith(ARPA):
        raise UserError(
            f"{setting}: expected a text, of which n-grams are counted. Received: {source}, n-grams"
            " in ARPA's form, which is not read. Give the text that they were counted in."
        )
    return [normalized(line, task.data.normalize) for line in content.splitlines()]
