"""Splice junctions of primates, 3,190 windows of 60 bases; travels with the package."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.lazy import np
from tfbig.data import _embedded
from tfbig.data._labelled_sequences import LabelledSequences, Rows
from tfbig.prep.nucleotides import NUCLEOTIDES

FILE = Path(__file__).parent / "_splice_junctions" / "splice.csv.xz"
# Of the uncompressed file
SHA256 = "60ad353ed24a7d7ee22e986df2e5f0860b1319b3282175bf2877ca53c92c70c7"
NAMES = ("EI", "IE", "N")


@dataclass(frozen=True, kw_only=True)
class SpliceJunctions(LabelledSequences):
    """Windows around splice junctions: EI (exon to intron, donors), IE (acceptors), N (neither).

    Noordewier, Towell and Shavlik 1991; travels with the package. The junction stands in the
    middle. By default whole genes are held out: windows of one gene overlap and are alike.
    """

    test: float = knob(0.2, "share of each class held out for the test", above=0, high=0.45)

    def fingerprint(self):
        return SHA256

    def rows(self):
        text = _embedded.content(FILE, SHA256).decode("ascii")
        rows = list(csv.DictReader(io.StringIO(text)))
        return Rows(
            sequences=[NUCLEOTIDES.numbers(row["sequence"], row["id"]) for row in rows],
            labels=np.array([NAMES.index(row["label"]) for row in rows], np.int32),
            names=NAMES,
            titles=[row["id"] for row in rows],
            groups=[row["id"].partition("-")[0] for row in rows],
        )

    def source_card(self):
        return {
            "title": "Splice junctions in genes of primates",
            "source": "UCI Machine Learning Repository, https://doi.org/10.24432/C5M888",
            "licence": "CC BY 4.0",
            "citation": (
                "Noordewier, M.O., Towell, G.G. and Shavlik, J.W. (1991). Training Knowledge-Based"
                " Neural Networks to Recognize Genes in DNA Sequences. NIPS 3."
            ),
        }
