"""Recipes for text understanding."""

from __future__ import annotations

from tfbig.core.experiment import Device, Experiment, Optim, Train
from tfbig.data.text_mix import TextMix
from tfbig.data.tfds_text import TFDSText
from tfbig.data.vader import Vader
from tfbig.models.bert import BERT
from tfbig.models.textcnn import TextCNN
from tfbig.tasks.masked_language_model import MaskedLanguageModel
from tfbig.tasks.text_classification import TextClassification

SST2 = "tfds_text:builder=glue/sst2:validation=0.05"


def vader_textcnn() -> Experiment:
    """Sentences of film reviews, good or bad, by convolutions over words; needs no download.

    python -m tfbig.train vader_textcnn

    Measured: 77.67 % test accuracy (95 % interval 75.1 to 80.1; seed 0), a minute of one core. No
        reference is known: the sentences' scores by people were made for lexicons.
    """
    return Experiment(
        name="vader_textcnn",
        task=TextClassification(word_dropout=0.1),
        model=TextCNN(width=96, filters=64, dropout=0.5),
        data=Vader(context=48, vocabulary=8192),
        train=Train(length="8ep", batch_size=64, evaluate_every="1ep"),
        optim=Optim(optimizer="adamw", learning_rate=1e-3, weight_decay=0.01, schedule="cosine"),
    )


def sst2_textcnn() -> Experiment:
    """SST-2, phrases and sentences of film reviews, by convolutions over words.

    # TFDS_DATA_DIR names a prepared folder, if there is no network
    python -m tfbig.train sst2_textcnn

    Measured: 81.65 % test accuracy (GLUE's validation part; seed 0). The published TextCNN has 87.2
        with word vectors of another, larger corpus (Kim 2014).
    """
    return Experiment(
        name="sst2_textcnn",
        task=TextClassification(word_dropout=0.1),
        model=TextCNN(width=96, filters=64, dropout=0.5),
        data=TFDSText(builder="glue/sst2", context=64, vocabulary=8192, validation=0.05),
        train=Train(length="3ep", batch_size=64, evaluate_every="1ep"),
        optim=Optim(optimizer="adamw", learning_rate=1e-3, weight_decay=0.01, schedule="cosine"),
        device=Device(jit="true"),
    )


def _small_bert(**settings) -> BERT:
    """A BERT of 3 blocks of width 128, with what trains well from scratch."""
    choices = {"normalization": "before", "positions": "rope", "summary": "average"}
    return BERT(width=128, depth=3, heads=4, **{**choices, **settings})


def sst2_bert_mini() -> Experiment:
    """SST-2 by a small BERT from fresh weights: what sst2_bert_mini_pretrained is compared with.

    # TFDS_DATA_DIR names a prepared folder, if there is no network
    python -m tfbig.train sst2_bert_mini

    Measured, of one epoch (train.length=1ep): 80.16 % accuracy on GLUE's validation part (seed 0).
    """
    return Experiment(
        name="sst2_bert_mini",
        task=TextClassification(),
        model=_small_bert(),
        data=TFDSText(builder="glue/sst2", context=64, vocabulary=8192, validation=0.05),
        train=Train(length="3ep", batch_size=64, evaluate_every="1ep"),
        optim=Optim(
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup="10%",
            clip_norm=1.0,
        ),
        device=Device(jit="true"),
    )


def sotu_bert_mlm() -> Experiment:
    """Pre-training of a small BERT on presidents' speeches and the training phrases of SST-2.

    # TFDS_DATA_DIR names a prepared folder, if there is no network
    python -m tfbig.train sotu_bert_mlm

    Measured, of 1,000 of the 1,500 steps: 5.05 nats, accuracy 21.8 % at hidden tokens of validation
        (seed 0).
    """
    return Experiment(
        name="sotu_bert_mlm",
        task=MaskedLanguageModel(share=0.25),
        model=_small_bert(dropout=0.0),
        data=TextMix(
            sources=("sotu", SST2),
            context=61,
            tokenizer="wordpiece",
            vocabulary=8192,
            duplicates="drop_exact",
            validation=0.01,
            test=0.01,
        ),
        train=Train(length="1500", batch_size=64, evaluate_every="500"),
        optim=Optim(
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup="5%",
            beta_2=0.98,
            clip_norm=1.0,
        ),
    )


def sst2_bert_mini_pretrained() -> Experiment:
    """SST-2 by the network of sst2_bert_mini, from weights of sotu_bert_mlm and its vocabulary.

    # After sotu_bert_mlm; its run lends weights and vocabulary
    python -m tfbig.train sst2_bert_mini_pretrained init=runs/sotu_bert_mlm data.vocabulary_path=runs/sotu_bert_mlm

    Measured, of one epoch (train.length=1ep) behind 1,000 steps of pre-training: 80.28 % test
    accuracy (GLUE's validation part; seed 0), no more than without. Not measured as a whole.
    """  # noqa: E501
    data = TFDSText(builder="glue/sst2", context=64, tokenizer="ready", validation=0.05)
    return Experiment(
        **{**vars(sst2_bert_mini()), "name": "sst2_bert_mini_pretrained", "data": data}
    )


def cola_bert_mini() -> Experiment:
    """CoLA, acceptable sentences or not, by the small BERT from weights of sotu_bert_mlm.

    # After sotu_bert_mlm; its run lends weights and vocabulary
    python -m tfbig.train cola_bert_mini init=runs/sotu_bert_mlm data.vocabulary_path=runs/sotu_bert_mlm

    Not measured as a whole.
    """  # noqa: E501
    data = TFDSText(builder="glue/cola", context=64, tokenizer="ready", validation=0.1)
    return Experiment(
        name="cola_bert_mini",
        task=TextClassification(metric="matthews"),
        model=_small_bert(),
        data=data,
        train=Train(length="8ep", batch_size=32, evaluate_every="1ep"),
        optim=sst2_bert_mini().optim,
        device=Device(jit="true"),
    )


def glue_bert_base() -> Experiment:
    """A task of GLUE by BERT base from published weights, for accelerators.

    # FOLDER holds config.json, model.safetensors and vocab.txt of bert-base-uncased
    python -m tfbig.train glue_bert_base init=FOLDER data.vocabulary_path=FOLDER data.builder=glue/mrpc

    Not measured as a whole. The published accuracy on SST-2 is 93.5 (Devlin et al. 2019).
    """  # noqa: E501
    return Experiment(
        name="glue_bert_base",
        task=TextClassification(),
        model=BERT.of("base"),
        data=TFDSText(builder="glue/sst2", context=126, tokenizer="ready", validation=0.05),
        train=Train(length="3ep", batch_size=32, evaluate_every="0.5ep"),
        optim=Optim(
            optimizer="adamw",
            learning_rate=2e-5,
            weight_decay=0.01,
            warmup="10%",
            schedule="cosine",
            clip_norm=1.0,
        ),
        device=Device(precision="bfloat16"),
    )
