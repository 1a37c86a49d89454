"""Recipes for text understanding."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.tfds_text import TFDSText
from tfbig.data.vader import Vader
from tfbig.models.textcnn import TextCNN
from tfbig.tasks.text_classification import TextClassification


def vader_textcnn() -> Experiment:
    """Sentences of film reviews, good or bad, by convolutions over words; needs no download.

    python -m tfbig.train vader_textcnn
    """
    return Experiment(
        name="vader_textcnn",
        task=TextClassification(word_dropout=0.1),
        model=TextCNN(width=128, filters=100, dropout=0.5),
        data=Vader(context=48, vocabulary=8192),
        train=Train(length="10ep", batch_size=64, evaluate_every="1ep"),
        optim=Optim(optimizer="adamw", learning_rate=1e-3, weight_decay=0.01, schedule="cosine"),
    )


def sst2_textcnn() -> Experiment:
    """SST-2, phrases and sentences of film reviews, by convolutions over words.

    # TFDS_DATA_DIR names a prepared folder, if there is no network
    python -m tfbig.train sst2_textcnn
    """
    return Experiment(
        name="sst2_textcnn",
        task=TextClassification(word_dropout=0.1),
        model=TextCNN(width=128, filters=100, dropout=0.5),
        data=TFDSText(builder="glue/sst2", context=64, vocabulary=8192, validation=0.05),
        train=Train(length="4ep", batch_size=64, evaluate_every="1ep"),
        optim=Optim(optimizer="adamw", learning_rate=1e-3, weight_decay=0.01, schedule="cosine"),
    )
