"""Recipes for translation."""

from __future__ import annotations

from tfbig.core.experiment import Device, Experiment, Optim, Train
from tfbig.data.parallel_text import ParallelText
from tfbig.data.tatoeba_en_zh import TatoebaEnZh
from tfbig.data.tfds_translation import TFDSTranslation
from tfbig.models.encoder_decoder import EncoderDecoder
from tfbig.models.gru_attention import GRUAttention
from tfbig.tasks.translation import Translation

SMALL = EncoderDecoder(width=192, encoder_depth=3, decoder_depth=2, heads=3, hidden=512)
# Small batches: many steps count more than large ones at equal tokens
SCHEDULE = Optim(
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="cosine",
    final_fraction=0.02,
    warmup="200",
    weight_decay=0.01,
    beta_2=0.98,
    clip_norm=1.0,
)


def tatoeba_transformer() -> Experiment:
    """Everyday sentences from Chinese to English by a small Transformer; needs no download.

    python -m tfbig.train tatoeba_transformer
    # the other way
    python -m tfbig.train tatoeba_transformer data.direction=en-zh task.bleu_words=zh

    Not measured yet.
    """
    return Experiment(
        name="tatoeba_transformer",
        task=Translation(),
        model=SMALL,
        data=TatoebaEnZh(vocabulary=8000, max_source=64, max_target=64),
        train=Train(length="5ep", batch_size=48, ema=0.995),
        optim=SCHEDULE,
        device=Device(jit="true", block=8),
    )


def tatoeba_gru() -> Experiment:
    """Everyday sentences from Chinese to English by GRUs with attention, the baseline.

    python -m tfbig.train tatoeba_gru

    Not measured yet.
    """
    return Experiment(
        name="tatoeba_gru",
        task=Translation(),
        model=GRUAttention(),
        data=TatoebaEnZh(vocabulary=8000, max_source=64, max_target=64),
        train=Train(length="5ep", batch_size=48, ema=0.995),
        optim=SCHEDULE,
        device=Device(block=8),
    )


def multi30k_transformer() -> Experiment:
    """Descriptions of pictures from German to English by a small Transformer; files of your own.

    # FOLDER holds train.de, train.en, val.de, val.en, test_2016_flickr.de, test_2016_flickr.en
    python -m tfbig.train multi30k_transformer data.path=FOLDER

    Measured: BLEU 36.3 greedy, 37.8 by evaluate --beams 4 (seed 0; 13a, cased), 22 minutes of one
    core, 76 min on 2 cores that much else was sharing. Published, of other code and without a
    signature: 33.5 by a recurrent network with attention.
    """
    return Experiment(
        name="multi30k_transformer",
        task=Translation(),
        model=SMALL,
        data=ParallelText(
            source="de",
            target="en",
            test_file="test_2016_flickr",
            vocabulary=6000,
            max_source=64,
            max_target=64,
        ),
        train=Train(length="6ep", batch_size=32, ema=0.995),
        optim=SCHEDULE,
        device=Device(jit="true", block=8),
    )


def wmt14_transformer() -> Experiment:
    """News from English to German by the base Transformer (Vaswani et al. 2017), for accelerators.

    # TFDS_DATA_DIR names a folder with wmt14_translate/de-en, if there is no network
    python -m tfbig.train wmt14_transformer

    Some 25,000 target tokens a step in micro-batches, as published; 60 million parameters.

    Not measured as a whole: only compiled and stepped at a small size. Published, of other code:
    27.3 (tokenised BLEU, Vaswani et al. 2017); 24.4 (13a, cased, JoeyNMT's 60 million parameters).
    """
    return Experiment(
        name="wmt14_transformer",
        task=Translation(),
        model=EncoderDecoder(width=512, encoder_depth=6, decoder_depth=6, heads=8, hidden=2048),
        data=TFDSTranslation(source="en", target="de", vocabulary=32_000),
        train=Train(
            length="100_000",
            batch_size=896,
            accumulate=4,
            shapes=6,
            ema=0.9995,
            evaluate_every="5_000",
            save_every="5_000",
        ),
        optim=Optim(
            optimizer="adamw",
            learning_rate=7e-4,
            schedule="cosine",
            final_fraction=0.02,
            warmup="4_000",
            weight_decay=0.01,
            beta_2=0.98,
            clip_norm=1.0,
        ),
        device=Device(precision="bfloat16"),
    )
