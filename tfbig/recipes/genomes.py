"""Recipes for genomes."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.sequence_table import SequenceTable
from tfbig.data.splice_junctions import SpliceJunctions
from tfbig.models.motif_cnn import MotifCNN
from tfbig.tasks.sequence_classification import SequenceClassification


def splice_motif_cnn() -> Experiment:
    """Splice junctions of primates, donors, acceptors or neither; needs no download.

    python -m tfbig.train splice_motif_cnn

    Measured: 96.70, 94.51, 96.70 % test accuracy (seeds 0, 1, 2; the first evaluated every 2
    epochs, the others every 5), whole genes held out; 97.02 % divided at random (seed 0). 20 s.
    """
    return Experiment(
        name="splice_motif_cnn",
        task=SequenceClassification(),
        model=MotifCNN(motifs=32, kernel=9, blocks=2, summary="places", units=64, dropout=0.5),
        data=SpliceJunctions(),
        train=Train(length="20ep", batch_size=64, evaluate_every="2ep"),
        optim=Optim(optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, schedule="cosine"),
    )


def own_sequences() -> Experiment:
    """DNA or RNA of your own, from a table or from FASTA of each class.

    python -m tfbig.train own_sequences data.path=sequences.csv

    Not measured: it depends on your data.
    """
    return Experiment(
        name="own_sequences",
        task=SequenceClassification(),
        model=MotifCNN(),
        data=SequenceTable(),
        train=Train(length="20ep", batch_size=64, evaluate_every="2ep"),
        optim=Optim(optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, schedule="cosine"),
    )


def ecoli_promoters() -> Experiment:
    """Promoters of E. coli from a table of your own, 81 bases around the start of transcription.

    # Sequences and labels of CNNProm (Umarov and Solovyev 2017); data.split_by=kmers leaks nothing
    python -m tfbig.train ecoli_promoters data.path=ecoli.csv

    Measured, evaluated every 5 epochs: Matthews 0.709, 0.653, 0.712 on the random split (seeds 0,
    1, 2), below the 0.84 published of another random split; 0.817, 0.806, 0.816 with
    data.split_by=kmers. About 30 s.
    """
    return Experiment(
        name="ecoli_promoters",
        task=SequenceClassification(metric="matthews"),
        model=MotifCNN(motifs=64, kernel=11, blocks=2, summary="places", units=64, dropout=0.5),
        data=SequenceTable(split_by="random"),
        train=Train(length="20ep", batch_size=64, evaluate_every="2ep"),
        optim=Optim(optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, schedule="cosine"),
    )


def human_enhancers() -> Experiment:
    """Enhancers of human cells from tables of your own, 200 bases; copies leave the test.

    # FOLDER holds train.csv and test.csv of iEnhancer-2L (Liu et al. 2016)
    python -m tfbig.train human_enhancers data.path=FOLDER

    Measured, evaluated every 5 epochs: 69.33, 73.00, 69.00 % accuracy on the 300 test sequences
    that do not stand in training (seeds 0, 1, 2). About 90 s.
    """
    return Experiment(
        name="human_enhancers",
        task=SequenceClassification(),
        model=MotifCNN(motifs=64, kernel=11, blocks=2, strands="both", units=64, dropout=0.5),
        data=SequenceTable(leaks="drop_copies"),
        train=Train(length="20ep", batch_size=64, evaluate_every="2ep"),
        optim=Optim(optimizer="adamw", learning_rate=1e-3, weight_decay=0.05, schedule="cosine"),
    )
