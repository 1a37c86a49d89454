"""Sentences of film reviews with people's ratings, 10,605 of them; travels with the package."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.lazy import np
from tfbig.data import _embedded
from tfbig.data._labelled_texts import LabelledTexts, Rows

FILE = Path(__file__).parent / "_vader" / "movie_reviews.tsv.xz"
# Of the uncompressed file
SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
NAMES = ("negative", "positive")


@dataclass(frozen=True, kw_only=True)
class Vader(LabelledTexts):
    """Sentences of film reviews, rated from -4 to 4 by 20 people each.

    Hutto and Gilbert 2014; travels with the package. The reviews are those that SST-2 was made of,
    so neither tells anything about what was trained on the other.
    """

    target: str = knob(
        "label",
        "what is learnt: the sign of the mean rating, or the mean rating itself",
        choices=("label", "number"),
    )

    @classmethod
    def smallest(cls, folder):
        return cls(context=16, vocabulary=300)

    def rows(self):
        texts, ratings = _content()
        if self.target == "number":
            return Rows(texts=texts, labels=ratings)
        told = np.flatnonzero(ratings)
        note = f"{len(ratings) - len(told):,} sentences are left out, whose mean rating is 0"
        return Rows(
            texts=[texts[i] for i in told],
            labels=(ratings[told] > 0).astype(np.int32),
            names=NAMES,
            notes=(note,),
        )

    def content(self):
        return SHA256

    def source_card(self):
        return {
            "title": "Sentences of film reviews, rated by people",
            "source": "source distribution of vaderSentiment 3.3.2; reviews of Pang and Lee 2004",
            "licence": "MIT",
            "citation": (
                "Hutto, C.J. and Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for"
                " Sentiment Analysis of Social Media Text. ICWSM-14."
            ),
        }


@functools.lru_cache(maxsize=1)
def _content() -> tuple[list[str], np.ndarray]:
    """The sentences and their mean ratings, float32 [n]."""
    text = _embedded.content(FILE, SHA256).decode("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line]
    return [text for _, _, text in rows], np.array([row[1] for row in rows], np.float32)
