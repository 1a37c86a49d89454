"""BLEU and chrF of translations, by counts of each text that add up to a corpus's.

Computed as sacreBLEU 2.6 computes them (Post 2018), with one reference, so that figures can be
compared with published ones; `tests/test_bleu.py` compares them with that library where it is
installed. Texts are as people read them, never tokens of a model.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from tfbig.core.lazy import np

ORDER = 4  # words of the longest n-gram of BLEU (Papineni et al. 2002)
CHARACTERS = 6  # of the longest n-gram of chrF (Popovic 2015)
BETA = 2  # weight of recall in chrF
LIKE = "sacrebleu-2.6"
TOKENIZERS = ("13a", "zh", "char", "none")
BLEU_COLUMNS = 2 + 2 * ORDER
CHRF_COLUMNS = 3 * CHARACTERS

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# Marks that stand alone but for ' , - . and digits' own, as NIST's mteval-v13a.pl divides text
_ALONE = re.compile(r"([{-~\[-` -&(-+:-@/])")
_STOP_BEHIND_OTHER = re.compile(r"([^0-9])([.,])")
_STOP_BEFORE_OTHER = re.compile(r"([.,])([^0-9])")
_DASH_BEHIND_DIGIT = re.compile(r"([0-9])(-)")
# What sacreBLEU takes for Chinese: ideographs, radicals and marks of their width and, by the way it
# compares characters, the symbols U+2001 ... U+2A6D
_CHINESE = re.compile(
    "([\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31ef\u3200-\u4db5\u4e00-\u9fbb"
    "\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef])"
)


def words(text: str, tokenizer: str) -> list[str]:
    """The words that BLEU counts."""
    text = text.rstrip()
    if tokenizer == "none":
        return text.split()
    if tokenizer == "char":
        return list("".join(text.split()))
    if tokenizer == "zh":
        return _divided(_CHINESE.sub(r" \1 ", text.strip()))
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return _divided(f" {text} ")


def _divided(text: str) -> list[str]:
    text = _ALONE.sub(r" \1 ", text)
    text = _STOP_BEHIND_OTHER.sub(r"\1 \2 ", text)
    text = _STOP_BEFORE_OTHER.sub(r" \1 \2", text)
    return _DASH_BEHIND_DIGIT.sub(r"\1 \2 ", text).split()


def bleu_counts(text: str, reference: str, tokenizer: str) -> list[int]:
    """Of one text: its length, its reference's, n-grams that match, and all its n-grams."""
    own, other = (words(each, tokenizer) for each in (text, reference))
    matches, totals = [], []
    for n in range(1, ORDER + 1):
        grams, known = (
            Counter(zip(*(x[i:] for i in range(n)), strict=False)) for x in (own, other)
        )
        matches.append(sum((grams & known).values()))
        totals.append(max(0, len(own) - n + 1))
    return [len(own), len(other), *matches, *totals]


def chrf_counts(text: str, reference: str) -> list[int]:
    """Of one text: its n-grams of characters, its reference's, and those that match."""
    own, other = ("".join(each.split()) for each in (text, reference))
    counts = []
    for n in range(1, CHARACTERS + 1):
        grams, known = (Counter(x[i : i + n] for i in range(len(x) - n + 1)) for x in (own, other))
        matches = sum((grams & known).values())
        # An order that the reference is too short for does not count
        counts += [sum(grams.values()) if known else 0, sum(known.values()), matches]
    return counts


def bleu(counts: np.ndarray) -> float:
    """BLEU of a corpus, 0 ... 100, from the counts [n, 10] of its texts.

    An order without a match counts as half of one, the next one as a quarter, ... ("exp", Lin and
    Och 2004).
    """
    length, reference, *grams = np.asarray(counts, np.int64).sum(0).tolist()
    matches, totals = grams[:ORDER], grams[ORDER:]
    if not matches[0] or not length:
        return 0.0
    logs, halves = 0.0, 1.0
    for matching, total in zip(matches, totals, strict=True):
        if not total:
            return 0.0
        if not matching:
            halves *= 2
        logs += math.log(100 * matching / total if matching else 100 / (halves * total))
    brevity = 0.0 if length >= reference else 1 - reference / length
    return math.exp(brevity + logs / ORDER)


def chrf(counts: np.ndarray) -> float:
    """ChrF2 of a corpus, 0 ... 100, from the counts [n, 18] of its texts.

    The mean over the orders, of those that text and reference are long enough for, of the F-score.
    """
    totals = np.asarray(counts, np.int64).sum(0).reshape(CHARACTERS, 3)
    precision = recall = 0.0
    orders = 0
    for own, other, matches in totals.tolist():
        if own and other:
            precision += matches / own
            recall += matches / other
            orders += 1
    if not orders or not precision + recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    factor = BETA**2
    return 100 * (1 + factor) * precision * recall / (factor * precision + recall)


def bleu_signature(tokenizer: str) -> str:
    """How BLEU was computed, in sacreBLEU's words."""
    return f"nrefs:1|case:mixed|eff:no|tok:{tokenizer}|smooth:exp|as:{LIKE}"


def chrf_signature() -> str:
    """How chrF was computed, in sacreBLEU's words."""
    return f"nrefs:1|case:mixed|eff:yes|nc:{CHARACTERS}|nw:0|space:no|as:{LIKE}"
